// <lienzo-seed>: empty is random; a die empties it, and "again" takes the seed of the picture that is shown.
import { announce, attr, el, icon, text } from "./dom.js";
import { number, put } from "./draft.js";
import { scene } from "./scene.js";
import { history, state, watch } from "./store.js";
import { name, t } from "./speak.js";
import { toast } from "./toast.js";

customElements.define(
  "lienzo-seed",
  class extends HTMLElement {
    connectedCallback() {
      this.label = el("label", { for: "seed" });
      this.box = el("input", { class: "num", id: "seed", type: "text", inputmode: "numeric", autocomplete: "off" });
      this.dice = el(
        "button",
        { type: "button", class: "btn quiet square", click: () => this.put("", "seed_random") },
        icon("dice"),
      );
      this.again = el(
        "button",
        { type: "button", class: "btn quiet square", click: () => this.put(String(this.last()), "seed_again") },
        icon("again"),
      );
      this.box.addEventListener("input", () => {
        if (!this.box.value || number(this.box.value) !== null) put("seed", this.box.value);
      });
      this.box.addEventListener("change", () => {
        if (this.box.value && number(this.box.value) === null) toast(t("seed_bad"));
        this.draw();
      });
      this.append(this.label, el("div", { class: "seed" }, this.box, this.dice, this.again));
      watch(["draft", "jobs", "shown", "lang"], () => this.draw());
    }

    /** The seed of what is shown, else of the newest picture. */
    last() {
      return scene().picture?.seed ?? history().find(entry => entry.picture.seed != null)?.picture.seed ?? null;
    }

    put(value, key) {
      put("seed", value);
      this.box.value = value;
      announce(t(key, { s: value }));
    }

    draw() {
      const last = this.last();
      text(this.label, t("seed"));
      attr(this.box, "placeholder", t("seed_ph"));
      if (document.activeElement !== this.box && this.box.value !== state.draft.seed) this.box.value = state.draft.seed;
      name(this.dice, t("seed_random"));
      name(this.again, t("seed_again", { s: last ?? "–" }));
      this.again.disabled = last === null;
    }
  },
);
