// <lienzo-toast>: one sentence that goes by itself, with one thing that can be done about it. Waits while somebody
// reads or aims.
import { $, announce, el, icon } from "./dom.js";
import { t } from "./speak.js";

let timer = null;

/** Says something for so many milliseconds; `action` is {label, act}. */
export function toast(sentence, milliseconds = 6000, action = null) {
  $("lienzo-toast").say(sentence, milliseconds, action);
}

customElements.define(
  "lienzo-toast",
  class extends HTMLElement {
    connectedCallback() {
      for (const type of ["pointerenter", "focusin"]) this.addEventListener(type, () => clearTimeout(timer));
      for (const type of ["pointerleave", "focusout"]) this.addEventListener(type, () => this.wait(2000));
    }

    say(sentence, milliseconds, action) {
      const act =
        action &&
        el(
          "button",
          {
            type: "button",
            class: "btn",
            click: () => {
              this.hidden = true;
              action.act();
            },
          },
          action.label,
        );
      const close = el(
        "button",
        {
          type: "button",
          class: "btn quiet square",
          "aria-label": t("dismiss"),
          click: () => {
            this.hidden = true;
          },
        },
        icon("close"),
      );
      this.replaceChildren(...[el("span", {}, sentence), act, close].filter(Boolean));
      this.hidden = false;
      announce(sentence);
      this.wait(milliseconds);
    }

    wait(milliseconds) {
      clearTimeout(timer);
      timer = setTimeout(() => {
        this.hidden = true;
      }, milliseconds);
    }
  },
);
