// <lienzo-parameters>: all that is known about the picture on the canvas, to read, to copy, to take over.
import { $, el, text } from "./dom.js";
import { takeOver } from "./acts.js";
import { orderOf } from "./draft.js";
import { scene } from "./scene.js";
import { model, state, watch } from "./store.js";
import { duration, num, size, t } from "./speak.js";
import { toast } from "./toast.js";

// Fields of an order by the page's words for them; those that say what every picture says are left out.
const ROWS = [
  ["steps", "steps"],
  ["guidance", "guidance"],
  ["sampler", "sampler"],
  ["schedule", "schedule"],
  ["strength", "strength"],
  ["mask_blur", "mask_blur"],
  ["outpaint", "extend"],
  ["clip_skip", "clip_skip"],
  ["eta", "eta"],
  ["timesteps", "timesteps"],
  ["prediction", "prediction"],
  ["variation_strength", "variation"],
  ["variation_seed", "variation_seed"],
  ["rng", "noise"],
  ["vae", "vae"],
  ["grid", "compare"],
];
const USUAL = { clip_skip: 1, timesteps: "auto", prediction: "auto", variation_strength: 0 };

customElements.define(
  "lienzo-parameters",
  class extends HTMLElement {
    connectedCallback() {
      $("#take-over").addEventListener("click", () => {
        const { job, picture } = scene();
        takeOver(job, picture);
      });
      $("#copy-parameters").addEventListener("click", () => copy(scene().picture.parameters ?? ""));
      watch(["jobs", "shown", "edit", "error", "models", "lang"], () => this.draw());
    }

    draw() {
      const { job, picture } = scene();
      const none = !picture;
      $("#no-picture").hidden = !none;
      for (const e of [$(".params", this), $(".col", this)]) e.hidden = none;
      const mark = none
        ? null
        : `${job.id} ${picture.sha256} ${job.state} ${document.documentElement.lang} ${state.models.length}`;
      if (mark === this.mark) return;
      this.mark = mark;
      if (none) return;
      $("#copy-parameters").disabled = !picture.parameters;
      const rows = [...facts(job, picture)].filter(([, value]) => value != null && value !== "");
      $(".params", this).replaceChildren(...rows.flatMap(([key, value]) => [el("dt", {}, key), el("dd", {}, value)]));
    }
  },
);

function* facts(job, picture) {
  const order = orderOf(job, picture);
  yield [t("prompt"), el("span", { class: "serif" }, order.prompt)];
  yield [t("negative"), order.negative_prompt ? el("span", { class: "serif" }, order.negative_prompt) : null];
  yield [t("model"), model(job.model.id)?.embedded ? t("model_embedded") : job.model.name];
  yield [t("size"), size(picture.width, picture.height)];
  yield [t("seed"), picture.seed ?? order.seed];
  for (const [field, word] of ROWS) {
    const value = order[field];
    if (value != null && value !== USUAL[field])
      yield [
        t(word),
        typeof value === "number" ? num(value) : value.toLowerCase?.() === "automatic" ? t("automatic") : String(value),
      ];
  }
  if (order.init_image)
    yield [
      t("source"),
      el("img", { class: "source", src: `thumbs/${order.init_image}.png`, alt: t("a_picture"), loading: "lazy" }),
    ];
  if (job.started && job.ended) yield [t("took"), duration((Date.parse(job.ended) - Date.parse(job.started)) / 1000)];
  if (job.model.sha256) yield [t("model_hash"), short(job.model.sha256)];
  yield ["SHA-256", short(picture.sha256)];
  for (const note of job.notes) yield [t("note"), note];
}

const short = hash => el("span", { class: "mono", title: hash }, `${hash.slice(0, 10)}…`);

/** To the clipboard. Over plain HTTP from another machine a browser only knows the old way. */
export async function copy(sentence) {
  try {
    await navigator.clipboard.writeText(sentence);
  } catch {
    const box = el("textarea", { class: "vh", "aria-hidden": "true" });
    box.value = sentence;
    document.body.append(box);
    box.select();
    const done = document.execCommand("copy");
    box.remove();
    if (!done) return toast(t("copy_failed"));
  }
  toast(t("copied"), 2500);
}
