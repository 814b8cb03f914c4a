// Strokes of a brush go in, a mask at the picture's own size comes out. They are kept as strokes, not as pixels: so a
// mask can be undone
// without memory, is drawn sharply at any zoom, and never has other edges than the picture.

const kept = new Map(); // by the picture's sha256: whoever comes back to a picture finds its mask
const KEPT = 8;

/** The strokes of a picture. */
export function strokesOf({ sha256, width, height }) {
  if (!kept.has(sha256)) kept.set(sha256, new Strokes(width, height));
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
  return kept.get(sha256);
}

export class Strokes {
  constructor(width, height) {
    [this.width, this.height] = [width, height];
    this.done = []; // {kind: paint | erase | invert | clear, size, points: [x, y, x, y, ...]} in pixels of the picture
    this.undone = [];
  }

  /** Begins a stroke, or does something whole. */
  add(stroke) {
    this.done.push(stroke);
    this.undone = [];
  }

  /** Takes back the last one; one that was only begun is not kept for redo. */
  undo(keep = true) {
    const last = this.done.pop();
    if (last && keep) this.undone.push(last);
  }

  redo() {
    const last = this.undone.pop();
    if (last) this.done.push(last);
  }

  /** Paints everything; what is bared becomes opaque. The context's transform maps the picture's pixels. */
  paint(context) {
    for (const stroke of this.done) this.one(context, stroke);
  }

  one(context, { kind, size, points }) {
    context.save();
    if (kind === "invert" || kind === "clear") {
      context.globalCompositeOperation = kind === "invert" ? "xor" : "destination-out";
      context.fillRect(0, 0, this.width, this.height);
      context.restore();
      return;
    }
    context.globalCompositeOperation = kind === "erase" ? "destination-out" : "source-over";
    // Nothing beyond the picture, or an inverted stroke would bare the surroundings.
    context.beginPath();
    context.rect(0, 0, this.width, this.height);
    context.clip();
    context.lineWidth = size;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(points[0], points[1]);
    if (points.length === 2) context.lineTo(points[0], points[1] + 0.001);
    // Through the middles between points: a hand draws curves, its mouse corners.
    for (let i = 2; i < points.length; i += 2) {
      const [x, y] = [points[i], points[i + 1]];
      if (i + 2 >= points.length) context.lineTo(x, y);
      else context.quadraticCurveTo(x, y, (x + points[i + 2]) / 2, (y + points[i + 3]) / 2);
    }
    context.stroke();
    context.restore();
  }

  /** The mask as a canvas of this width, the picture's own if none is given. */
  canvas(width = this.width) {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = Math.max(1, Math.round((width * this.height) / this.width));
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.scale(canvas.width / this.width, canvas.height / this.height);
    this.paint(context);
    return canvas;
  }

  /** How much is bared, 0 to 1, from a small copy. */
  share() {
    if (!this.done.length) return 0;
    const canvas = this.canvas(Math.min(this.width, 128));
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let sum = 0;
    for (let i = 3; i < data.length; i += 4) sum += data[i];
    return sum / 255 / (data.length / 4);
  }

  empty() {
    return this.share() < 1e-4;
  }

  /** The file for the server: white where the picture is painted anew, black where it stays. */
  png() {
    const canvas = this.canvas();
    const context = canvas.getContext("2d");
    const image = context.getImageData(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < image.data.length; i += 4) {
      image.data.fill(image.data[i + 3] > 127 ? 255 : 0, i, i + 3);
      image.data[i + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    return new Promise(resolve => canvas.toBlob(resolve, "image/png"));
  }
}
