// <lienzo-extend>: a grip on each side of the picture. Pulled outwards, linen grows live; by keys in steps of 8, with
// Shift of 64.
import { $, announce, attr, el, quiet, text } from "./dom.js";
import { put } from "./draft.js";
import { state, watch } from "./store.js";
import { name, t } from "./speak.js";

// Which way is outwards.
const SIDES = { left: [-1, 0], right: [1, 0], up: [0, -1], down: [0, 1] };
const STEP = 8;

customElements.define(
  "lienzo-extend",
  class extends HTMLElement {
    connectedCallback() {
      const say = quiet(400, () => announce(this.size()));
      for (const side of Object.keys(SIDES)) {
        const vertical = side === "up" || side === "down";
        const grip = el("button", {
          type: "button",
          class: `grip g-${side[0]}`,
          role: "slider",
          "data-side": side,
          "aria-valuemin": 0,
          "aria-orientation": vertical ? "vertical" : "horizontal",
        });
        grip.addEventListener("pointerdown", event => this.drag(grip, event));
        grip.addEventListener("keydown", event => this.key(grip, event));
        this.append(grip);
      }
      watch(["edit", "draft", "options", "lang"], () => {
        this.hidden = state.edit?.kind !== "extend";
        if (this.hidden) return;
        this.draw();
        say();
      });
    }

    draw() {
      for (const grip of this.children) {
        const { side } = grip.dataset;
        const value = state.draft.extend[side];
        name(grip, t(`extend_${side}`));
        attr(grip, "aria-valuemax", this.most(side));
        attr(grip, "aria-valuenow", value);
        attr(grip, "aria-valuetext", `${value} px`);
      }
      text($("#new-size"), this.size());
    }

    size() {
      if (!state.edit) return "";
      const {
        source: { width, height },
      } = state.edit;
      const { left, right, up, down } = state.draft.extend;
      return t("new_size", { w: width + left + right, h: height + up + down });
    }

    /** The server's largest side less what the picture and the other margin take. */
    most(side) {
      const { source } = state.edit;
      const { extend } = state.draft;
      const [length, other] =
        side === "left" || side === "right"
          ? [source.width, extend.left + extend.right]
          : [source.height, extend.up + extend.down];
      return Math.max(
        0,
        Math.floor(((state.options?.limits.side.max ?? 2048) - length - other + extend[side]) / STEP) * STEP,
      );
    }

    put(side, pixels) {
      const value = Math.min(this.most(side), Math.max(0, Math.round(pixels / STEP) * STEP));
      if (value !== state.draft.extend[side]) put(`extend.${side}`, value);
    }

    drag(grip, event) {
      event.preventDefault();
      grip.focus({ preventScroll: true });
      grip.setPointerCapture(event.pointerId);
      const { side } = grip.dataset;
      const [dx, dy] = SIDES[side];
      const before = state.draft.extend[side];
      // The canvas shrinks while it grows; the pull is measured by what a pixel was when it began.
      const figure = $("#canvas").getBoundingClientRect();
      const { left, right } = state.draft.extend;
      const scale = (state.edit.source.width + left + right) / figure.width;
      const move = now =>
        this.put(side, before + ((now.clientX - event.clientX) * dx + (now.clientY - event.clientY) * dy) * scale);
      grip.addEventListener("pointermove", move);
      for (const end of ["pointerup", "pointercancel"])
        grip.addEventListener(end, () => grip.removeEventListener("pointermove", move), { once: true });
    }

    key(grip, event) {
      const { side } = grip.dataset;
      const step = event.shiftKey ? 8 * STEP : STEP;
      const now = state.draft.extend[side];
      const [dx, dy] = SIDES[side];
      const move = { ArrowRight: dx, ArrowLeft: -dx, ArrowDown: dy, ArrowUp: -dy }[event.key];
      const value =
        { Home: 0, End: this.most(side), PageUp: now + 8 * STEP, PageDown: now - 8 * STEP }[event.key] ??
        (move === undefined ? null : now + move * step);
      if (value === null) return;
      event.preventDefault();
      this.put(side, value);
    }
  },
);
