// A window on a picture: how much it is magnified and where it lies, by wheel, fingers, keys. The picture always fills
// the window.

const MOST = 32;

export class View {
  /** `changed` is called after each change. */
  constructor(element, changed) {
    Object.assign(this, { element, changed, zoom: 1, x: 0, y: 0 });
    element.addEventListener(
      "wheel",
      event => {
        event.preventDefault();
        const box = element.getBoundingClientRect();
        // A touchpad's pinch comes as a wheel with Ctrl, in smaller portions.
        const speed = (event.deltaMode ? 0.05 : 0.0016) * (event.ctrlKey ? 6 : 1);
        this.by(Math.exp(-event.deltaY * speed), event.clientX - box.left, event.clientY - box.top);
      },
      { passive: false },
    );
  }

  reset() {
    [this.zoom, this.x, this.y] = [1, 0, 0];
    this.changed();
  }

  /** Magnifies by a factor; what is at (x, y) stays there. */
  by(factor, x, y) {
    const zoom = Math.min(MOST, Math.max(1, this.zoom * factor));
    const real = zoom / this.zoom;
    this.zoom = zoom;
    this.move(x - (x - this.x) * real, y - (y - this.y) * real);
  }

  pan(dx, dy) {
    this.move(this.x + dx, this.y + dy);
  }

  /** Two fingers, before and now: their middle moves the picture, their distance magnifies it. */
  pinch(before, now) {
    const box = this.element.getBoundingClientRect();
    const middle = ([a, b]) => [(a.clientX + b.clientX) / 2 - box.left, (a.clientY + b.clientY) / 2 - box.top];
    const distance = ([a, b]) => Math.max(1, Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY));
    const [from, to] = [middle(before), middle(now)];
    [this.x, this.y] = [this.x + to[0] - from[0], this.y + to[1] - from[1]];
    this.by(distance(now) / distance(before), ...to);
  }

  /** Brings a point of the magnified picture into sight. */
  reveal([x, y]) {
    const [w, h] = [this.element.clientWidth, this.element.clientHeight];
    const inside = (offset, at, side) => (at + offset < 0 ? -at : at + offset > side ? side - at : offset);
    if (this.zoom > 1) this.move(inside(this.x, x, w), inside(this.y, y, h));
  }

  move(x, y) {
    const [w, h] = [this.element.clientWidth, this.element.clientHeight];
    this.x = Math.min(0, Math.max(w * (1 - this.zoom), x));
    this.y = Math.min(0, Math.max(h * (1 - this.zoom), y));
    this.changed();
  }
}
