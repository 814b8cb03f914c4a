// Linen as a pattern for a canvas: the same threads as in tokens.css, in the colours of the scheme that holds.

const SIDE = 6;

/** The pattern for a context, at the screen's own sharpness. */
export function weave(context) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = SIDE * devicePixelRatio;
  const c = tile.getContext("2d");
  c.scale(devicePixelRatio, devicePixelRatio);
  // light-dark() is no colour that a canvas reads: the element that wears it tells.
  const probe = document.querySelector("#canvas");
  const colour = name => {
    probe.style.setProperty("border-top-color", `var(${name})`);
    return getComputedStyle(probe).borderTopColor;
  };
  c.fillStyle = colour("--linen");
  c.fillRect(0, 0, SIDE, SIDE);
  c.fillStyle = colour("--linen-thread");
  for (const [x, y, w, h] of [
    [0, 1, 4, 1],
    [3, 4, 3, 1],
    [0, 4, 1, 1],
  ])
    c.fillRect(x, y, w, h);
  c.fillStyle = colour("--linen-weft");
  for (const [x, y, w, h] of [
    [5, 0, 1, 3],
    [5, 5, 1, 1],
    [2, 2, 1, 4],
  ])
    c.fillRect(x, y, w, h);
  probe.style.removeProperty("border-top-color");
  return context.createPattern(tile, "repeat");
}
