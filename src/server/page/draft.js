// The order that is being written: fields of the contract's Order, null where the model's own value holds. The only
// thing that the
// browser keeps; it survives reloads and a server that is away.
import { model, set, state, touch } from "./store.js";
import { quiet } from "./dom.js";
import { t } from "./speak.js";

const KEPT = "lienzo.draft";
/** What an order may say without the help of the page's own fields. */
const PLAIN = [
  "model",
  "vae",
  "width",
  "height",
  "steps",
  "guidance",
  "sampler",
  "schedule",
  "eta",
  "timesteps",
  "prediction",
  "clip_skip",
  "rng",
];
/** What an order says about a start that the page cannot change, only repeat. */
const CARRIED = [
  "mask",
  "mask_invert",
  "mask_blur",
  "inpaint_fill",
  "only_masked",
  "only_masked_padding",
  "soft_mask",
  "outpaint",
];

const blank = () => ({
  prompt: "",
  negative_prompt: "",
  seed: "",
  count: 1,
  ...Object.fromEntries(PLAIN.map(field => [field, null])),
  variation_strength: 0,
  variation_seed: "",
  start: null,
  strength: 0.75,
  resize_mode: "crop", // start: {sha256, thumb, name, width, height, carried}
  repaint: { strength: 1, mask_blur: 4, inpaint_fill: "original", only_masked: false },
  extend: { left: 0, right: 0, up: 0, down: 0 },
  axes: [
    { parameter: "", values: "" },
    { parameter: "", values: "" },
  ],
});

/** Takes up what was written last time. */
export function restore() {
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem(KEPT)) ?? {};
  } catch {
    /* an older page wrote something else */
  }
  const fresh = blank();
  for (const key of Object.keys(fresh)) if (key in kept) fresh[key] = kept[key];
  state.draft = { ...fresh, extend: blank().extend };
  addEventListener("pagehide", keep);
}

const keep = () => localStorage.setItem(KEPT, JSON.stringify(state.draft));
const keepSoon = quiet(200, keep);

/** What a field shows: what was written, else the model's own value. */
export function get(field) {
  const [head, tail] = field.split(".");
  const written = tail ? state.draft[head][tail] : state.draft[field];
  return written ?? own(field);
}

/** The model's own value of a field; null where it has none. */
export function own(field) {
  const m = model();
  if (field === "model") return m?.id ?? null;
  if (field === "width" || field === "height") return m?.size[field] ?? null;
  return { rng: "nv", timesteps: "auto", prediction: "auto", ...m?.defaults }[field] ?? null;
}

/** Writes a field. */
export function put(field, value) {
  const [head, tail] = field.split(".");
  if (tail) state.draft[head][tail] = value;
  else state.draft[field] = value;
  // Values that were chosen for one model seldom suit another; what was only shown follows by itself.
  if (field === "model") for (const f of ["vae", "width", "height", "schedule"]) state.draft[f] = null;
  touch("draft");
  keepSoon();
}

/** Writes several fields. */
export function fill(fields) {
  Object.assign(state.draft, fields);
  touch("draft");
  keepSoon();
}

/** What Draw draws when nothing is written: what stands there in grey. */
export const idea = () => model()?.ideas[0] ?? t("prompt_ph");

export const number = value =>
  value === "" || value == null || !/^\d{1,20}$/.test(value)
    ? null
    : Number.isSafeInteger(Number(value))
      ? Number(value)
      : String(value);

/** The order as the server wants it. */
export function toOrder() {
  const d = state.draft;
  const order = { prompt: d.prompt.trim() || idea() };
  if (d.negative_prompt.trim()) order.negative_prompt = d.negative_prompt.trim();
  for (const field of PLAIN) if (d[field] !== null && d[field] !== "") order[field] = d[field];
  // The one that is shown is meant, even if the server's own changes before the order arrives.
  if (model()) order.model = model().id;
  if (number(d.seed) !== null) order.seed = number(d.seed);
  if (d.variation_strength > 0) {
    order.variation_strength = d.variation_strength;
    if (number(d.variation_seed) !== null) order.variation_seed = number(d.variation_seed);
  }
  if (d.start)
    Object.assign(
      order,
      { init_image: d.start.sha256, strength: d.strength, resize_mode: d.resize_mode },
      d.start.carried,
    );
  const grid = axes();
  if (grid.axes.length) order.grid = gridOf(grid.axes);
  else if (d.count > 1) order.count = d.count;
  if (order.outpaint) for (const field of ["width", "height", "resize_mode", "strength"]) delete order[field];
  return order;
}

/** Takes an order over: every field that it has, the model's own for the others. */
export function fromOrder(order, start = null) {
  const fresh = blank();
  const known = state.models.some(m => m.id === order.model) ? order.model : null;
  for (const field of PLAIN) fresh[field] = order[field] ?? null;
  fresh.model = known;
  const carried = Object.fromEntries(CARRIED.filter(f => order[f] != null).map(f => [f, order[f]]));
  const from =
    order.init_image &&
    (start ?? { sha256: order.init_image, thumb: `thumbs/${order.init_image}.png`, name: t("a_picture") });
  const rows = axesOf(order.grid ?? "");
  fill({
    ...fresh,
    prompt: order.prompt ?? "",
    negative_prompt: order.negative_prompt ?? "",
    seed: String(order.seed ?? ""),
    count: order.count ?? 1,
    variation_strength: order.variation_strength ?? 0,
    variation_seed: String(order.variation_seed ?? ""),
    start: from ? { ...from, carried: Object.keys(carried).length ? carried : null } : null,
    strength: order.strength ?? fresh.strength,
    resize_mode: order.resize_mode ?? fresh.resize_mode,
    repaint: state.draft.repaint,
    axes: [rows[0] ?? fresh.axes[0], rows[1] ?? fresh.axes[1]],
  });
  set({ error: null });
}

/** The order that makes one picture of a job alone: its seed, and what its cell of a grid has of its own. */
export function orderOf(job, picture) {
  if (picture.kind === "sheet") return { ...job.order };
  const order = { ...job.order, ...picture.cell, grid: null, count: 1 };
  if (picture.seed != null) order.seed = picture.seed;
  return order;
}

/** What can be compared, by the grid's words: what a value looks like, and the word for it here. */
export const AXES = {
  steps: { like: /^\d{1,4}$/, word: "steps" },
  cfg: { like: /^\d{1,2}(\.\d+)?$/, word: "guidance" },
  sampler: { like: /\S/, word: "sampler" },
  scheduler: { like: /\S/, word: "schedule" },
  seed: { like: /^\d{1,20}$/, word: "seed" },
  size: { like: /^\d{2,4}(x\d{2,4})?$/, word: "size" },
  "clip-skip": { like: /^\d{1,2}$/, word: "clip_skip" },
  prompt: { like: /\S/, word: "axis_prompt" },
};

/** The axes that were written: {axes, cells, problem}; a problem is {axis, key, fill} of a sentence. */
export function axes() {
  const out = { axes: [], cells: 1, problem: null };
  state.draft.axes.forEach(({ parameter, values: typed }, axis) => {
    if (!parameter) return;
    const values = (parameter === "prompt" ? typed.split("|") : typed.replaceAll("×", "x").split(/[,;]/))
      .map(v => v.trim())
      .filter(Boolean);
    const bad = values.find(v => !AXES[parameter].like.test(v));
    if (out.axes.some(a => a.parameter === parameter)) out.problem ??= { axis, key: "axis_same", fill: {} };
    else if (!values.length) out.problem ??= { axis, key: "axis_empty", fill: {} };
    else if (bad) out.problem ??= { axis, key: "axis_bad", fill: { v: bad, f: t(AXES[parameter].word) } };
    out.axes.push({ parameter, values });
    out.cells *= Math.max(1, values.length);
  });
  const most = state.options?.limits.cells ?? 256;
  if (out.cells > most) out.problem ??= { axis: 0, key: "axis_many", fill: { n: out.cells, m: most } };
  return out;
}

/** steps=10,20 x cfg=3,5 */
const gridOf = rows =>
  rows.map(({ parameter, values }) => `${parameter}=${values.join(parameter === "prompt" ? "|" : ",")}`).join(" x ");

/** The first two axes of a grid that was written so. */
function axesOf(grid = "") {
  const parts = grid
    .split(/(?:^| x )(?=[a-z-]+=)/)
    .map(part => part.match(/^([a-z-]+)=(.*)$/s))
    .filter(m => m && m[1] in AXES);
  return parts
    .slice(0, 2)
    .map(([, parameter, values]) => ({
      parameter,
      values: parameter === "prompt" ? values.replaceAll("|", " | ") : values.replaceAll(/,\s*/g, ", "),
    }));
}
