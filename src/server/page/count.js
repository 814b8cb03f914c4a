// <lienzo-count>: how many pictures, each with the next seed. While values are compared their number rules.
import { attr, el, icon, text } from "./dom.js";
import { axes, put } from "./draft.js";
import { state, watch } from "./store.js";
import { name, t } from "./speak.js";

customElements.define(
  "lienzo-count",
  class extends HTMLElement {
    connectedCallback() {
      this.label = el("label", { for: "count" });
      this.box = el("input", { class: "num", id: "count", type: "number", inputmode: "numeric", min: 1, step: 1 });
      this.fewer = el(
        "button",
        { type: "button", class: "btn quiet square", click: () => this.put(state.draft.count - 1) },
        icon("minus"),
      );
      this.more = el(
        "button",
        { type: "button", class: "btn quiet square", click: () => this.put(state.draft.count + 1) },
        icon("plus"),
      );
      this.box.addEventListener("input", () => {
        if (this.box.validity.valid && this.box.value) put("count", this.box.valueAsNumber);
      });
      this.box.addEventListener("change", () => this.put(this.box.valueAsNumber || 1));
      this.append(this.label, el("div", { class: "step" }, this.fewer, this.box, this.more));
      watch(["draft", "options", "lang"], () => this.draw());
    }

    get most() {
      return state.options?.limits.count ?? 64;
    }

    put(value) {
      const count = Math.min(this.most, Math.max(1, Math.round(value)));
      this.box.value = count;
      put("count", count);
    }

    draw() {
      const { axes: rows, cells } = axes();
      const grid = rows.length > 0;
      text(this.label, t("count"));
      attr(this.box, "max", this.most);
      if (document.activeElement !== this.box || grid) this.box.value = grid ? cells : state.draft.count;
      this.box.disabled = grid;
      this.fewer.disabled = grid || state.draft.count <= 1;
      this.more.disabled = grid || state.draft.count >= this.most;
      name(this.fewer, t("fewer"));
      name(this.more, t("more_pics"));
    }
  },
);
