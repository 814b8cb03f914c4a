// <lienzo-mask>: a brush that takes the paint off. Pointers, pen and keys go in, strokes come out; what is bared shows
// linen. Two fingers,
// the wheel and Space with a drag move the view; the strokes know only the picture's pixels.
import { announce, attr, el } from "./dom.js";
import { set, state, watch } from "./store.js";
import { percent, t } from "./speak.js";
import { strokesOf } from "./strokes.js";
import { View } from "./view.js";
import { weave } from "./weave.js";

customElements.define(
  "lienzo-mask",
  class extends HTMLElement {
    connectedCallback() {
      this.canvas = el("canvas", { "aria-hidden": "true" });
      this.base = document.createElement("canvas");
      this.ring = el("i", { class: "ring", "aria-hidden": "true", hidden: true });
      this.append(this.canvas, this.ring);
      this.view = new View(this, () => this.refresh());
      this.fingers = new Map();
      for (const type of ["pointerdown", "pointermove", "pointerup", "pointercancel"])
        this.addEventListener(type, event => this[type](event));
      this.addEventListener("pointerleave", () => {
        this.ring.hidden = true;
      });
      this.addEventListener("contextmenu", event => event.preventDefault());
      this.addEventListener("keydown", event => this.keydown(event));
      this.addEventListener("keyup", event => this.keyup(event));
      this.addEventListener("blur", () => {
        this.ring.hidden = true;
      });
      addEventListener("keydown", event => {
        if (event.key === " ") this.space = true;
        this.classList.toggle("through", event.altKey);
      });
      addEventListener("keyup", event => {
        if (event.key === " ") this.space = false;
        this.classList.toggle("through", event.altKey);
      });
      new ResizeObserver(() => this.refresh()).observe(this);
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.refresh());
      watch(["edit"], () => this.begin());
      watch(["lang", "scheme"], () => this.refresh());
      watch(["tool"], () => this.cursor());
    }

    begin() {
      const on = state.edit?.kind === "mask";
      this.hidden = !on;
      if (!on || this.source === state.edit.source) return;
      this.source = state.edit.source;
      this.strokes = strokesOf(this.source);
      this.at = [this.source.width / 2, this.source.height / 2];
      this.view.reset();
      this.refresh();
    }

    /** The brush's width in pixels of the picture. */
    get size() {
      return Math.max(1, state.tool.share * Math.min(this.source.width, this.source.height));
    }

    /** Of the picture's pixels on the element. */
    get scale() {
      return (this.clientWidth / this.source.width) * this.view.zoom;
    }

    place(event) {
      const box = this.getBoundingClientRect();
      return [
        (event.clientX - box.left - this.view.x) / this.scale,
        (event.clientY - box.top - this.view.y) / this.scale,
      ];
    }

    // ---------------------------------------------------------------- pointers

    pointerdown(event) {
      this.setPointerCapture(event.pointerId);
      this.focus({ preventScroll: true });
      event.preventDefault();
      this.dab = false;
      this.fingers.set(event.pointerId, event);
      // The second finger means the view: what the first began was no stroke.
      if (this.fingers.size === 2) return this.drop();
      if (this.space || event.button === 1) {
        this.panning = true;
        return;
      }
      if (event.button !== 0 && event.button !== 5) return;
      const erases = state.tool.name === "eraser" || event.button === 5;
      this.stroke = { kind: erases ? "erase" : "paint", size: this.size, points: this.place(event) };
      this.strokes.add(this.stroke);
      this.paint();
    }

    pointermove(event) {
      if (this.fingers.has(event.pointerId)) {
        const before = [...this.fingers.values()];
        this.fingers.set(event.pointerId, event);
        if (this.fingers.size === 2) return this.view.pinch(before, [...this.fingers.values()]);
        if (this.panning) return this.view.pan(event.clientX - before[0].clientX, event.clientY - before[0].clientY);
      }
      this.at = this.place(event);
      this.cursor(event.pointerType !== "touch" || Boolean(this.stroke));
      if (!this.stroke) return;
      const all = event.getCoalescedEvents?.() ?? [];
      for (const one of all.length ? all : [event]) this.stroke.points.push(...this.place(one));
      this.paint();
    }

    pointerup(event) {
      this.fingers.delete(event.pointerId);
      this.panning = false;
      if (!this.stroke) return;
      this.stroke = null;
      this.ring.hidden = event.pointerType === "touch";
      this.changed();
    }

    pointercancel(event) {
      this.fingers.delete(event.pointerId);
      this.panning = false;
      this.drop();
    }

    drop() {
      if (this.stroke) this.strokes.undo(false);
      this.stroke = null;
      this.ring.hidden = true;
      this.refresh();
    }

    // ---------------------------------------------------------------- keys

    keydown(event) {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (way) {
        const step = event.shiftKey ? 1 : Math.max(1, this.size / 2);
        const [w, h] = [this.source.width, this.source.height];
        this.at = [
          Math.min(w, Math.max(0, this.at[0] + way[0] * step)),
          Math.min(h, Math.max(0, this.at[1] + way[1] * step)),
        ];
        this.view.reveal(this.at.map(v => v * this.scale));
        this.cursor(true);
      } else if (event.key === " ") {
        // It paints when it is let go: held, with a drag, it moves the view.
        this.dab = true;
      } else return;
      event.preventDefault();
    }

    keyup(event) {
      if (event.key !== " " || !this.dab) return;
      this.dab = false;
      this.strokes.add({
        kind: state.tool.name === "eraser" ? "erase" : "paint",
        size: this.size,
        points: [...this.at],
      });
      this.cursor(true);
      this.changed();
    }

    /** What the tools do: undo, redo, invert, clear, in, out, fit. */
    tool(action) {
      if (action === "undo" || action === "redo") this.strokes[action]();
      else if (action === "invert" || action === "clear") this.strokes.add({ kind: action });
      else if (action === "fit") this.view.reset();
      else this.view.by(action === "in" ? 1.5 : 1 / 1.5, this.clientWidth / 2, this.clientHeight / 2);
      this.changed();
    }

    // ---------------------------------------------------------------- drawing

    changed() {
      this.refresh();
      announce(this.getAttribute("aria-label").split(".")[0]);
    }

    /** Everything anew: another view, another list of strokes. */
    refresh() {
      if (this.hidden || !this.source || !this.clientWidth) return;
      const sharp = devicePixelRatio;
      for (const c of [this.canvas, this.base])
        [c.width, c.height] = [Math.round(this.clientWidth * sharp), Math.round(this.clientHeight * sharp)];
      const context = this.fitted(this.base);
      for (const stroke of this.strokes.done) if (stroke !== this.stroke) this.strokes.one(context, stroke);
      const figure = this.parentElement.style;
      figure.setProperty("--zoom", this.view.zoom);
      figure.setProperty("--zx", `${this.view.x}px`);
      figure.setProperty("--zy", `${this.view.y}px`);
      this.paint();
      attr(this, "aria-label", t("mask_area", { p: percent(this.strokes.share()) }));
      set({ mask: { undo: this.strokes.done.length > 0, redo: this.strokes.undone.length > 0, zoom: this.view.zoom } });
    }

    fitted(canvas) {
      const context = canvas.getContext("2d");
      const sharp = devicePixelRatio;
      context.setTransform(this.scale * sharp, 0, 0, this.scale * sharp, this.view.x * sharp, this.view.y * sharp);
      return context;
    }

    /** The strokes before, the one that is being drawn, and linen where they bared it. */
    paint() {
      const context = this.canvas.getContext("2d");
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.globalCompositeOperation = "copy";
      context.drawImage(this.base, 0, 0);
      context.globalCompositeOperation = "source-over";
      if (this.stroke) this.strokes.one(this.fitted(this.canvas), this.stroke);
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.globalCompositeOperation = "source-in";
      context.fillStyle = weave(context);
      context.fillRect(0, 0, this.canvas.width, this.canvas.height);
      context.globalCompositeOperation = "source-over";
    }

    cursor(show = !this.ring.hidden) {
      this.ring.hidden = !show;
      if (!show || !this.source) return;
      const side = this.size * this.scale;
      const [x, y] = [this.at[0] * this.scale + this.view.x, this.at[1] * this.scale + this.view.y];
      this.ring.style.width = this.ring.style.height = `${side}px`;
      this.ring.style.transform = `translate(${x - side / 2}px, ${y - side / 2}px)`;
    }
  },
);
