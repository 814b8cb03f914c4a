// <lienzo-composer>: the words, and Draw. Draw is never disabled: what runs already makes the next one wait.
import { $, attr, quiet, text } from "./dom.js";
import * as api from "./api.js";
import { draw } from "./acts.js";
import { axes, get, idea, put } from "./draft.js";
import { model, set, state, watch } from "./store.js";
import { num, t } from "./speak.js";

customElements.define(
  "lienzo-composer",
  class extends HTMLElement {
    connectedCallback() {
      this.form = $("form", this);
      this.prompt = $("#prompt");
      this.negative = $("#negative");
      this.form.addEventListener("submit", event => {
        event.preventDefault();
        draw();
      });
      this.prompt.addEventListener("input", () => put("prompt", this.prompt.value));
      this.negative.addEventListener("input", () => put("negative_prompt", this.negative.value));
      $("#neg-button").addEventListener("click", () => this.fold($("#neg-field").hidden));
      this.ask = quiet(250, () => this.read());
      new ResizeObserver(() => document.body.style.setProperty("--composer", `${this.form.offsetHeight}px`)).observe(
        this.form,
      );
      if (state.draft.negative_prompt) this.fold(true, false);
      watch(["draft", "models", "edit", "options", "sending", "lang"], () => this.draw());
      watch(["draft", "models", "link"], () => this.ask());
      watch(["reading", "lang"], () => this.tokens());
    }

    fold(open, focus = true) {
      $("#neg-field").hidden = !open;
      attr($("#neg-button"), "aria-expanded", String(open));
      if (open && focus) this.negative.focus();
    }

    draw() {
      const { draft, edit, sending } = state;
      for (const [box, value] of [
        [this.prompt, draft.prompt],
        [this.negative, draft.negative_prompt],
      ]) {
        if (box.value !== value) box.value = value;
      }
      if (draft.negative_prompt && $("#neg-field").hidden) this.fold(true, false);
      $("#neg-idle").hidden = !(draft.negative_prompt && get("guidance") === 1);
      attr(this.prompt, "placeholder", idea());
      text($("#prompt-label"), t(edit ? "prompt_there" : "prompt"));
      const { cells, axes: rows } = axes();
      const n = rows.length ? cells : draft.count;
      text($("#go-text"), edit ? t("draw_there") : n > 1 ? t("draw_n", { n }) : t("draw"));
      attr($("#go"), "aria-busy", sending ? "true" : null);
      $("#words-button").hidden = !model()?.vocabulary;
    }

    /** Asks the server how it reads what is written: tokens and hints are the model's, not the page's guess. */
    async read() {
      const { prompt, negative_prompt } = state.draft;
      const mark = JSON.stringify([prompt, negative_prompt, model()?.id]);
      if (!model() || state.link.gone || mark === this.asked) return;
      this.asked = mark;
      if (!prompt.trim() && !negative_prompt.trim()) return set({ reading: null });
      try {
        const reading = await api.read(prompt, negative_prompt, model().id);
        if (this.asked === mark) set({ reading });
      } catch {
        // Counting is a help, no more: Draw will say what is wrong.
        this.asked = null;
        set({ reading: null });
      }
    }

    tokens() {
      const { reading } = state;
      const say = () =>
        reading.chunks > 1
          ? t("tokens_over", { n: num(reading.tokens), c: reading.chunks })
          : t("tokens", { n: num(reading.tokens), m: reading.chunk });
      text($("#tokens"), reading?.tokens ? say() : "");
    }
  },
);
