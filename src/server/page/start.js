// <lienzo-start>: the picture that the next one starts from, as a chip above Draw.
import { el, icon } from "./dom.js";
import { put } from "./draft.js";
import { state, watch } from "./store.js";
import { t } from "./speak.js";

customElements.define(
  "lienzo-start",
  class extends HTMLElement {
    connectedCallback() {
      watch(["draft", "edit", "lang"], () => this.draw());
    }

    draw() {
      const { start } = state.draft;
      // While a picture is edited, that one is the start.
      this.hidden = !start || Boolean(state.edit);
      document.body.toggleAttribute("data-start", !this.hidden);
      const mark = this.hidden ? null : JSON.stringify([start, document.documentElement.lang]);
      if (mark === this.mark) return;
      this.mark = mark;
      if (!mark) return this.replaceChildren();
      const said = t(start.carried ? "start_again" : "start_name", { f: start.name });
      this.replaceChildren(
        el("img", { src: start.thumb, alt: "", width: 40, height: 40 }),
        el("span", {}, said),
        el(
          "button",
          {
            type: "button",
            class: "btn quiet square",
            "aria-label": t("remove_start"),
            title: t("remove_start"),
            click: () => {
              put("start", null);
              document.querySelector("#pick").focus();
            },
          },
          icon("close"),
        ),
      );
    }
  },
);
