// <lienzo-size>: presets drawn as their shapes, width and height, and a button that swaps them. The blank canvas takes
// the shape at once.
import { attr, el, icon, text } from "./dom.js";
import { fill, get, own, put } from "./draft.js";
import { state, watch } from "./store.js";
import { name, size, t } from "./speak.js";
import { toast } from "./toast.js";

// Shares of the model's own sides: about the area that it knows.
const SHAPES = [
  ["square", 1, 1],
  ["portrait", 0.75, 1],
  ["landscape", 1, 0.75],
  ["wide", 1.5, 0.75],
];

const limits = () => state.options?.limits.side ?? { min: 64, max: 2048, multiple: 8 };

/** The nearest side that the server takes. */
export function nearest(side) {
  const { min, max, multiple } = limits();
  return Math.min(max, Math.max(min, Math.round(side / multiple) * multiple));
}

customElements.define(
  "lienzo-size",
  class extends HTMLElement {
    connectedCallback() {
      this.head = el("span", { id: "size-l" });
      this.shapes = el("div", { class: "shapes", role: "radiogroup", "aria-labelledby": "size-l" });
      this.shapes.append(
        ...SHAPES.map(([shape], i) =>
          el(
            "label",
            {},
            el("input", { type: "radio", name: "shape", value: i, change: () => this.choose(i) }),
            el("i", { class: `shape ${shape}` }),
            el("span", { class: "vh" }),
          ),
        ),
      );
      this.swap = el(
        "button",
        {
          type: "button",
          class: "btn quiet square",
          click: () => fill({ width: get("height"), height: get("width") }),
        },
        icon("swap"),
      );
      this.boxes = ["width", "height"].map(side => this.side(side));
      const [w, h] = this.boxes;
      this.hint = el("p", { class: "help", hidden: true });
      this.append(
        el("div", { class: "row" }, this.head, this.shapes),
        el(
          "div",
          { class: "row r-wh" },
          el("span"),
          el("div", { class: "wh" }, w.label, w.box, this.swap, h.label, h.box),
        ),
        this.hint,
      );
      watch(["draft", "models", "options", "lang"], () => this.draw());
    }

    side(side) {
      const label = el("label", { class: "vh", for: `size-${side}` });
      const box = el("input", { class: "num", id: `size-${side}`, type: "number", inputmode: "numeric" });
      box.addEventListener("input", () => {
        if (nearest(box.valueAsNumber) === box.valueAsNumber) put(side, box.valueAsNumber);
      });
      box.addEventListener("change", () => this.left(side, box));
      return { side, label, box };
    }

    /** When one has typed: onto the nearest that will do, and said so. Empty is the model's own. */
    left(side, box) {
      const typed = box.valueAsNumber;
      if (Number.isNaN(typed)) return put(side, null);
      const value = nearest(typed);
      const { min, max, multiple } = limits();
      if (value !== typed) toast(t("fixed_size", { v: typed, w: value, m: multiple, a: min, b: max }));
      box.value = value;
      put(side, value);
    }

    sides(i) {
      const [w, h] = [(own("width") ?? 512) * SHAPES[i][1], (own("height") ?? 512) * SHAPES[i][2]];
      // A small model's shape keeps its proportions where its shorter side would be too short.
      const grow = Math.max(1, limits().min / Math.min(w, h));
      return [nearest(w * grow), nearest(h * grow)];
    }

    choose(i) {
      const [width, height] = this.sides(i);
      fill({ width, height });
    }

    draw() {
      const [width, height] = [get("width"), get("height")];
      text(this.head, t("size"));
      name(this.swap, t("swap"));
      [...this.shapes.children].forEach((label, i) => {
        const [w, h] = this.sides(i);
        label.firstElementChild.checked = w === width && h === height;
        label.lastElementChild.textContent = t(`shape_${i + 1}`);
        label.title = `${t(`shape_${i + 1}`)}, ${size(w, h)}`;
      });
      const { min, max, multiple } = limits();
      for (const { side, label, box } of this.boxes) {
        text(label, t(side));
        for (const [key, value] of [
          ["min", min],
          ["max", max],
          ["step", multiple],
        ])
          attr(box, key, value);
        if (document.activeElement !== box) box.value = get(side) ?? "";
      }
      // Far from what it was trained on, a model draws things twice.
      const area = (width * height) / ((own("width") ?? width) * (own("height") ?? height));
      this.hint.hidden = !(area > 4 || area < 0.25);
      text(this.hint, t("size_hint", { w: own("width"), h: own("height") }));
    }
  },
);
