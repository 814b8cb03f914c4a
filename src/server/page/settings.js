// <lienzo-settings>: the panel. Beside the easel on a desk; on a phone a sheet that rises behind the composer, so that
// Draw stays in reach.
// Its two tabs are the settings and what is known about the picture that is shown.
import * as api from "./api.js";
import { $, attr, quiet, text } from "./dom.js";
import { axes, fill, number, put, toOrder } from "./draft.js";
import { set, state, watch } from "./store.js";
import { bytes, duration, t } from "./speak.js";

const OWN = [
  "width",
  "height",
  "steps",
  "guidance",
  "sampler",
  "schedule",
  "eta",
  "timesteps",
  "prediction",
  "clip_skip",
  "rng",
  "vae",
];

customElements.define(
  "lienzo-settings",
  class extends HTMLElement {
    connectedCallback() {
      $("#open-settings").addEventListener("click", () => this.open(!document.body.hasAttribute("data-sheet")));
      $("#close-settings").addEventListener("click", () => {
        this.open(false);
        $("#open-settings").focus();
      });
      this.tabs();
      $("#own-values").addEventListener("click", () =>
        fill({ ...Object.fromEntries(OWN.map(f => [f, null])), variation_strength: 0, variation_seed: "" }),
      );
      const second = $("#variation-seed");
      second.addEventListener("input", () => {
        if (!second.value || number(second.value) !== null) put("variation_seed", second.value);
      });
      watch(["draft"], () => {
        $(".variation-seed", this).hidden = !(state.draft.variation_strength > 0);
        if (document.activeElement !== second) second.value = state.draft.variation_seed;
      });
      const plan = quiet(400, () => this.plan());
      watch(["draft", "models", "edit", "link"], plan);
      watch(["plan", "lang"], () => this.cost());
      // Whoever edits wants the tab with the mask's settings.
      watch(["edit"], () => {
        if (state.edit) this.choose("set");
      });
    }

    open(on) {
      document.body.toggleAttribute("data-sheet", on);
      attr($("#open-settings"), "aria-expanded", String(on));
      if (on) $("#p-set").scrollTop = 0;
    }

    tabs() {
      const [first, second] = [$("#tab-set"), $("#tab-pic")];
      for (const [tab, other] of [
        [first, second],
        [second, first],
      ]) {
        tab.addEventListener("click", () => this.choose(tab === first ? "set" : "pic"));
        tab.addEventListener("keydown", event => {
          if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
          other.click();
          other.focus();
        });
      }
    }

    choose(which) {
      for (const [key, tab, panel] of [
        ["set", $("#tab-set"), $("#p-set")],
        ["pic", $("#tab-pic"), $("#p-pic")],
      ]) {
        attr(tab, "aria-selected", String(key === which));
        tab.tabIndex = key === which ? 0 : -1;
        panel.hidden = key !== which;
      }
    }

    /** What the order would cost. A wrong one is not told here: Draw tells it. */
    async plan() {
      if (!state.models.length || state.link.gone || state.edit || axes().problem) return set({ plan: null });
      const order = toOrder();
      const mark = JSON.stringify({ ...order, seed: null });
      if (mark === this.planned) return;
      this.planned = mark;
      const plan = await api.plan(order).catch(() => null);
      if (mark === this.planned) set({ plan });
    }

    cost() {
      const { plan } = state;
      const parts = plan
        ? [
            plan.seconds != null && t("cost", { t: duration(plan.seconds), d: plan.device }),
            t("cost_memory", { m: bytes(plan.memory.need) }),
          ]
        : [];
      text($("#cost"), parts.filter(Boolean).join(" · "));
    }
  },
);
