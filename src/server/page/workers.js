// <lienzo-workers>: which machines draw, and how fast. A server alone has nothing to tell and shows no button.
import { $, el, text } from "./dom.js";
import { state, watch } from "./store.js";
import { duration, t } from "./speak.js";

customElements.define(
  "lienzo-workers",
  class extends HTMLElement {
    connectedCallback() {
      this.dialog = $("dialog", this);
      $("#workers-button").addEventListener("click", () => this.dialog.showModal());
      $("[data-close]", this).addEventListener("click", () => this.dialog.close());
      this.dialog.addEventListener("click", event => {
        if (event.target === this.dialog) this.dialog.close();
      });
      watch(["workers", "lang"], () => this.draw());
    }

    draw() {
      const { workers } = state;
      $("#workers-button").hidden = workers.length < 2;
      text($("#workers-count"), t("workers_short", { n: workers.length }));
      $(".wlist", this).replaceChildren(
        ...workers.map(worker =>
          el(
            "li",
            { class: `w_${worker.state}` },
            el("strong", {}, worker.name),
            el("span", {}, worker.device),
            el(
              "span",
              { class: "st" },
              t(`w_${worker.state}`, { t: duration((Date.now() - Date.parse(worker.seen)) / 1000) }),
            ),
            el(
              "span",
              { class: "num" },
              worker.seconds_per_step == null ? "" : t("w_speed", { s: duration(worker.seconds_per_step) }),
            ),
          ),
        ),
      );
    }
  },
);
