// <lienzo-tools>: the tools under a picture that is edited, and their keys.
import { $, $$, attr, rove } from "./dom.js";
import { endEdit, switchEdit } from "./edit.js";
import { state, touch, watch } from "./store.js";
import { percent } from "./speak.js";

const KEYS = { b: "brush", e: "eraser", i: "invert", "+": "in", "=": "in", "-": "out", 0: "fit" };

customElements.define(
  "lienzo-tools",
  class extends HTMLElement {
    connectedCallback() {
      this.slider = $(".bsize input", this);
      this.mask = $("lienzo-mask");
      this.addEventListener("click", event => this.act(event.target.closest("[data-do]")?.dataset.do));
      this.addEventListener("change", event => {
        if (event.target.name === "edit") switchEdit(event.target.value);
      });
      this.slider.addEventListener("input", () => this.size(this.slider.value / 100));
      document.addEventListener("keydown", event => this.key(event));
      this.settles = $$("[role=toolbar]", this).map(bar => rove(bar, "button"));
      watch(["edit", "tool", "mask", "lang"], () => this.draw());
    }

    draw() {
      if (!state.edit) return;
      const { source, kind } = state.edit;
      const { tool, mask } = state;
      for (const radio of $$("[name=edit]", this)) radio.checked = radio.value === kind;
      for (const button of $$("[aria-pressed]", this))
        attr(button, "aria-pressed", String(button.dataset.do === tool.name));
      $("[data-do=undo]", this).disabled = !mask.undo;
      $("[data-do=redo]", this).disabled = !mask.redo;
      $("[data-do=fit]", this).textContent = percent(mask.zoom);
      const short = Math.min(source.width, source.height);
      // A brush is felt by ratios: the slider goes from one pixel to the whole side in even ones.
      this.slider.value = 100 * (1 + Math.log(Math.max(tool.share, 1 / short)) / Math.log(short));
      const pixels = Math.max(1, Math.round(tool.share * short));
      $("output", this).textContent = pixels;
      attr(this.slider, "aria-valuetext", `${pixels} px`);
      this.settles.forEach(settle => settle());
    }

    size(at) {
      const short = Math.min(state.edit.source.width, state.edit.source.height);
      state.tool.share = Math.min(1, Math.max(1 / short, short ** (at - 1)));
      touch("tool");
    }

    act(what) {
      if (what === "done") endEdit();
      else if (what === "brush" || what === "eraser") {
        state.tool.name = what;
        touch("tool");
      } else if (what) this.mask.tool(what);
    }

    key(event) {
      if (!state.edit || event.target.matches("input:not([type=range]), textarea, select")) return;
      const key = event.key.toLowerCase();
      if (key === "escape") endEdit();
      else if (state.edit.kind !== "mask") return;
      else if ((event.ctrlKey || event.metaKey) && key === "z") this.act(event.shiftKey ? "redo" : "undo");
      else if ((event.ctrlKey || event.metaKey) && key === "y") this.act("redo");
      else if (event.ctrlKey || event.metaKey || event.altKey) return;
      else if (key === "[" || key === "]") this.size(this.slider.value / 100 + (key === "]" ? 0.05 : -0.05));
      else if (KEYS[key]) this.act(KEYS[key]);
      else return;
      event.preventDefault();
    }
  },
);
