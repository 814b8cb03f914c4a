// <lienzo-compare>: two axes of values; a small linen grid shows how many pictures that makes before anything is drawn.
import { attr, el, text } from "./dom.js";
import { AXES, axes, get, put } from "./draft.js";
import { state, watch } from "./store.js";
import { t } from "./speak.js";

// What stands there in grey, in the words of each.
const EXAMPLES = {
  cfg: "1, 3, 7",
  sampler: "Euler a, DDIM",
  scheduler: "Automatic, Karras",
  seed: "1, 2, 3",
  size: "64, 96x64",
  "clip-skip": "1, 2",
};
const MOST = 12; // cells of the preview in a row

customElements.define(
  "lienzo-compare",
  class extends HTMLElement {
    connectedCallback() {
      this.help = el("p", { class: "help" });
      this.rows = [
        ["ax", "across"],
        ["ay", "down"],
      ].map(([id, key], i) => this.axis(id, key, i));
      this.preview = el("div", { class: "axis-pre", "aria-hidden": "true" });
      this.sum = el("p", { class: "help" });
      this.append(this.help, ...this.rows.flatMap(r => [r.row, r.problem]), this.preview, this.sum);
      if (state.draft.axes.some(a => a.parameter)) this.closest("details").open = true;
      watch(["draft", "options", "lang"], () => this.draw());
    }

    axis(id, key, i) {
      const labels = [el("label", { class: "vh", for: id }), el("label", { class: "vh", for: `${id}-values` })];
      const choice = el("select", { id });
      const values = el("input", {
        id: `${id}-values`,
        type: "text",
        autocomplete: "off",
        "aria-describedby": `${id}-problem`,
      });
      const problem = el("p", { class: "problem", id: `${id}-problem`, role: "status" });
      choice.addEventListener("change", () => this.put(i, { parameter: choice.value, values: "" }));
      values.addEventListener("input", () => this.put(i, { parameter: choice.value, values: values.value }));
      return {
        key,
        labels,
        choice,
        values,
        problem,
        row: el("div", { class: "axis" }, labels[0], choice, labels[1], values),
      };
    }

    put(i, axis) {
      put(
        "axes",
        state.draft.axes.map((old, k) => (k === i ? axis : old)),
      );
    }

    draw() {
      const { axes: written, cells, problem } = axes();
      text(this.help, t("compare_help"));
      this.rows.forEach(({ key, labels, choice, values, problem: line }, i) => {
        const { parameter, values: typed } = state.draft.axes[i];
        text(labels[0], t(key));
        text(labels[1], t(`${key}_values`));
        choice.replaceChildren(
          el("option", { value: "" }, t("axis_none")),
          ...Object.entries(AXES).map(([name, { word }]) => el("option", { value: name }, t(word))),
        );
        choice.value = parameter;
        if (values.value !== typed) values.value = typed;
        attr(
          values,
          "placeholder",
          parameter === "prompt" ? t("axis_ph_prompt") : (EXAMPLES[parameter] ?? t("axis_ph")),
        );
        values.disabled = !parameter;
        const wrong = problem?.axis === i ? t(problem.key, problem.fill) : "";
        text(line, wrong);
        attr(values, "aria-invalid", wrong ? "true" : null);
      });
      this.grid(written, cells, problem);
    }

    grid(written, cells, problem) {
      const [across = 1, down = 1] = written.map(a => a.values.length);
      const shown = written.length && !problem;
      this.preview.hidden = this.sum.hidden = !shown;
      if (!shown) return;
      const columns = Math.min(across, MOST);
      this.preview.style.setProperty("--columns", columns);
      this.preview.style.setProperty("--shape", get("width") / get("height"));
      this.preview.replaceChildren(...Array.from({ length: columns * Math.min(down, MOST) }, () => el("i")));
      text(this.sum, t("axis_count", { n: cells }));
    }
  },
);
