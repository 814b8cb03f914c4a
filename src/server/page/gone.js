// <lienzo-gone>: the bar that says that the server does not answer, what is safe, and when it is tried again.
import { announce, el, icon } from "./dom.js";
import { wake } from "./live.js";
import { state, watch } from "./store.js";
import { duration, t } from "./speak.js";

customElements.define(
  "lienzo-gone",
  class extends HTMLElement {
    connectedCallback() {
      this.head = el("strong");
      this.say = el("span");
      this.count = el("span", { "aria-hidden": "true" });
      this.retry = el("button", { type: "button", class: "btn", click: () => wake() });
      this.append(icon("warn"), el("span", {}, this.head, " ", this.say, " ", this.count), this.retry);
      watch(["link", "lang"], () => this.draw());
    }

    draw() {
      const { gone, until } = state.link;
      if (!gone && !this.hidden) announce(t("back_again"));
      this.hidden = !gone;
      clearInterval(this.timer);
      if (!gone) return;
      this.retry.textContent = t("gone_retry");
      const put = (e, text) => {
        if (e.textContent !== text) e.textContent = text;
      };
      put(this.head, t("gone_title"));
      // The seconds stand apart and are not read out: an alert that counts would never be silent.
      put(this.say, t("gone_text"));
      const tick = () => put(this.count, t("gone_again", { t: duration(Math.max(1, (until - Date.now()) / 1000)) }));
      tick();
      this.timer = setInterval(tick, 1000);
    }
  },
);
