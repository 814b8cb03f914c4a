// <lienzo-hint>: what the small model does not know, and words that it does, to press instead. The server finds them;
// this words them.
import { attr, el } from "./dom.js";
import { put } from "./draft.js";
import { state, watch } from "./store.js";
import { plain, t } from "./speak.js";

const MOST = 2; // more would push the canvas away

customElements.define(
  "lienzo-hint",
  class extends HTMLElement {
    connectedCallback() {
      watch(["reading", "lang"], () => this.draw());
    }

    draw() {
      const hints = state.reading?.hints ?? [];
      this.hidden = !hints.length;
      const mark = JSON.stringify([hints, document.documentElement.lang]);
      if (mark === this.mark) return;
      this.mark = mark;
      this.replaceChildren(
        ...hints.slice(0, MOST).map(hint => el("span", { class: "one" }, sentence(hint), ...buttons(hint))),
      );
      attr(this, "data-count", hints.length || null);
    }
  },
);

function sentence({ kind, word, near, count, message }) {
  switch (kind) {
    case "unknown_word":
      return t(near?.length ? "unknown" : "unknown_alone", { w: word });
    case "more_unknown_words":
      return t("unknown_more", { n: count });
    case "other_language":
      return t("reads_english");
    case "untrained_color":
      return t("untrained_color", { w: word });
    case "too_many_things":
      return t("too_many", { n: count });
    case "several_big_things":
      return t("several_big");
    default:
      return message;
  }
}

function buttons({ word, near = [], prompt }) {
  const press = text => () => {
    put("prompt", text);
    document.querySelector("#prompt").focus();
  };
  if (prompt)
    return [
      el(
        "button",
        {
          type: "button",
          class: "btn near",
          "aria-label": t("use_english", { e: prompt }),
          lang: "en",
          click: press(prompt),
        },
        prompt,
      ),
    ];
  return near.map(other =>
    el(
      "button",
      {
        type: "button",
        class: "btn near",
        "aria-label": t("replace_by", { w: other }),
        lang: "en",
        click: press(replaced(state.draft.prompt, word, other)),
      },
      other,
    ),
  );
}

/** The prompt with a word put in the place of another, whatever case and accents it is written in. */
export function replaced(prompt, word, other) {
  return prompt.replace(/[\p{L}\p{M}\p{N}'-]+/gu, found => (plain(found) === plain(word) ? other : found));
}
