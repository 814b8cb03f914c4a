// <lienzo-number field label min max step [hard] [low]>: a row of a label, a slider and a number. The slider is for the
// pointer alone, so that
// a screen reader meets one control; `max` is where it ends, `hard` (and `low`) what the server takes.
import { attr, el, text } from "./dom.js";
import { get, put } from "./draft.js";
import { watch } from "./store.js";
import { t } from "./speak.js";
import { toast } from "./toast.js";

const EMPTY = ["strength", "variation_strength"]; // fields of the page, for which no model has a value

customElements.define(
  "lienzo-number",
  class extends HTMLElement {
    connectedCallback() {
      const {
        field,
        label,
        min,
        max,
        step,
        hard = max,
        low = min,
      } = Object.fromEntries([...this.attributes].map(a => [a.name, a.value]));
      this.field = field;
      this.range = [Number(low), Number(hard)];
      this.step = Number(step);
      const id = `n-${field.replace(".", "-")}`;
      this.label = el("label", { for: id });
      this.slider = el("input", {
        class: "slide",
        type: "range",
        tabindex: "-1",
        "aria-hidden": "true",
        min,
        max,
        step,
      });
      this.box = el("input", {
        class: "num",
        id,
        type: "number",
        min: low,
        max: hard,
        step: this.step < 1 ? "any" : step,
        inputmode: "decimal",
      });
      this.slider.addEventListener("input", () => put(field, Number(this.slider.value)));
      this.box.addEventListener("input", () => this.typed());
      this.box.addEventListener("change", () => this.left());
      this.append(this.label, this.slider, this.box);
      watch(["draft", "models", "lang"], () => this.draw(label));
    }

    draw(label) {
      text(this.label, t(label));
      const value = get(this.field);
      if (value !== null) this.slider.value = value;
      // What somebody types is not corrected under his fingers.
      if (document.activeElement !== this.box || Number(this.box.value) !== value) this.box.value = value ?? "";
      attr(this.box, "placeholder", value === null ? t("automatic").toLowerCase().slice(0, 4) + "." : null);
    }

    /** While one types, only what will do is taken. */
    typed() {
      const value = this.box.valueAsNumber;
      if (value >= this.range[0] && value <= this.range[1] && (this.step < 1 || value % this.step === 0))
        put(this.field, value);
    }

    /** When one has typed: into the range, onto the step, and said so. Empty is the model's own. */
    left() {
      const typed = this.box.valueAsNumber;
      if (Number.isNaN(typed)) {
        put(this.field, this.field.includes(".") || EMPTY.includes(this.field) ? this.range[0] : null);
        return;
      }
      const [a, b] = this.range;
      const stepped = this.step < 1 ? typed : Math.round(typed / this.step) * this.step;
      const value = Math.min(b, Math.max(a, stepped));
      if (value !== typed) toast(t("out_of_range", { v: typed, w: value, a, b }));
      this.box.value = value;
      put(this.field, value);
    }
  },
);
