// <lienzo-words>: all that can be said to a model of few words, to look through and to press. In Spanish each word has
// its meaning beside it.
import * as api from "./api.js";
import { $, el } from "./dom.js";
import { put } from "./draft.js";
import { missed } from "./live.js";
import { model, state, watch } from "./store.js";
import { lang, t } from "./speak.js";

customElements.define(
  "lienzo-words",
  class extends HTMLElement {
    connectedCallback() {
      this.dialog = $("dialog", this);
      $("[data-close]", this).addEventListener("click", () => this.dialog.close());
      this.dialog.addEventListener("click", event => {
        if (event.target === this.dialog) this.dialog.close();
      });
      $("#words-button").addEventListener("click", () => this.open());
      watch(["lang"], () => this.draw());
    }

    async open() {
      const { id } = model();
      try {
        if (this.known !== id) this.words = await api.words(id);
      } catch (e) {
        return missed(e);
      }
      this.known = id;
      this.draw();
      this.dialog.showModal();
    }

    draw() {
      if (!this.words) return;
      $(".lexicon", this).replaceChildren(
        ...this.words.groups.map(({ kind, words }) =>
          el(
            "section",
            {},
            el("h3", { class: "grp" }, t(`words_${kind}`)),
            el("div", { class: "lex" }, ...words.map(word => this.word(kind, word))),
          ),
        ),
      );
    }

    word(kind, { name, spanish }) {
      const beside = lang === "es" && spanish ? el("small", { lang: "es" }, spanish) : null;
      return el(
        "button",
        { type: "button", class: "btn near", click: () => this.say(kind, name) },
        el("span", { lang: "en" }, name),
        beside,
      );
    }

    /** Puts a word where it belongs: a background behind, a colour or a size before, another thing after. */
    say(kind, name) {
      const before = state.draft.prompt.trim();
      const article = /^[aeiou]/.test(name) ? "an" : "a";
      let after;
      if (!before)
        after =
          kind === "objects"
            ? `${article} ${name}`
            : kind === "backgrounds"
              ? `on ${article} ${name} background`
              : name;
      else if (kind === "backgrounds")
        after = `${before.replace(/ on an? .* background$/, "")} on ${article} ${name} background`;
      else if (kind === "objects")
        after = /\b(an?|the|\d+|two|three|four|five|big|small|little)$|colou?r(ed)?$/.test(before)
          ? `${before} ${name}`
          : insert(before, ` and ${article} ${name}`);
      else if (kind === "places") after = insert(before, ` ${name}`);
      else after = before.replace(/^(an? |the )?/, () => (kind === "counts" ? `${name} ` : `${article} ${name} `));
      put("prompt", after);
    }
  },
);

/** Before the background, which comes last. */
function insert(prompt, words) {
  const at = prompt.search(/ on an? .* background$/);
  return at < 0 ? prompt + words : prompt.slice(0, at) + words + prompt.slice(at);
}
