// <lienzo-error>: what happened, in the reader's language and with its numbers; what helps, as buttons; the server's
// own words to copy.
import { el, icon } from "./dom.js";
import { draw } from "./acts.js";
import { fromOrder } from "./draft.js";
import { dismiss, scene } from "./scene.js";
import { model, watch } from "./store.js";
import { bytes, duration, has, num, t } from "./speak.js";
import { copy } from "./parameters.js";

customElements.define(
  "lienzo-error",
  class extends HTMLElement {
    connectedCallback() {
      watch(["error", "jobs", "shown", "edit", "lang"], () => this.draw());
    }

    draw() {
      const { kind, error, order } = scene();
      this.hidden = kind !== "error";
      const mark = this.hidden ? null : JSON.stringify([error.kind, error.message, document.documentElement.lang]);
      // An alert that is written again is read again.
      if (mark === this.mark) return;
      this.mark = mark;
      if (!mark) return this.replaceChildren();
      const copied = el(
        "button",
        {
          type: "button",
          class: "btn quiet square",
          "aria-label": t("copy_details"),
          title: t("copy_details"),
          click: () => copy(detail(error)),
        },
        icon("copy"),
      );
      const details = el("div", { class: "details", hidden: true }, el("pre", {}, detail(error)), copied);
      const more = el(
        "button",
        {
          type: "button",
          class: "btn quiet",
          "aria-expanded": "false",
          click: () => {
            details.hidden = !details.hidden;
            more.setAttribute("aria-expanded", String(!details.hidden));
          },
        },
        t("details"),
      );
      const again =
        order && el("button", { type: "button", class: "btn", click: () => draw(clean(order)) }, t("again"));
      const close = el(
        "button",
        { type: "button", class: "btn quiet square", "aria-label": t("dismiss"), click: dismiss },
        icon("close"),
      );
      this.replaceChildren(
        icon("warn"),
        el(
          "div",
          { class: "said" },
          el("p", { class: "err-t" }, title(error, order)),
          el("p", { class: "err-s" }, explain(error)),
          el("div", { class: "fixes" }, ...[...fixes(error, order), again, more].filter(Boolean)),
          details,
        ),
        close,
      );
    }
  },
);

const clean = order => Object.fromEntries(Object.entries(order).filter(([, value]) => value !== null));

/** Numbers for the sentences: bytes where they are bytes. */
const facts = (error, order) => ({
  need: error.need == null ? "?" : bytes(error.need),
  have: error.have == null ? "?" : error.kind === "queue_full" ? num(error.have) : bytes(error.have),
  t: duration(error.retry_after ?? 10),
  f: field(error.place),
  w: order?.width ?? "?",
  h: order?.height ?? "?",
});

function title(error, order) {
  const key = `err_${error.kind}`;
  return has(key) && (error.kind !== "too_big" || order?.width) ? t(key, facts(error, order)) : t("err_internal");
}

function explain(error) {
  const key = `err_${error.kind}_text`;
  const sentence = has(key) ? t(key, facts(error)) : error.message;
  return error.allowed?.length
    ? `${sentence} ${t("err_allowed", { a: error.allowed.slice(0, 12).join(", ") })}`
    : sentence;
}

/** The name that the page gives to a field of an order, or to a file. */
function field(place) {
  const word = place.at(-1) ?? "";
  const key =
    { negative_prompt: "negative", rng: "noise", outpaint: "extend", grid: "compare", variation_strength: "variation" }[
      word
    ] ?? word;
  return has(key) ? t(key) : word;
}

/** Each remedy that can be set as a button; the first stands out. */
function fixes(error, order) {
  const usable = error.remedy.filter(remedy => remedy.set && order);
  return usable.slice(0, 3).map(({ set: fields }, i) => {
    const press = () => {
      const fixed = { ...order, ...fields };
      fromOrder(fixed);
      draw(clean(fixed));
    };
    return el("button", { type: "button", class: i ? "btn" : "btn strong", click: press }, label(fields));
  });
}

function label(fields) {
  if ("width" in fields && "height" in fields) return t("fix_size", { w: fields.width, h: fields.height });
  return Object.entries(fields)
    .map(([f, v]) => t("fix_field", { f: field([f]), v: v === null ? t("automatic") : f === "model" ? nameOf(v) : v }))
    .join(", ");
}

const nameOf = id => (model(id)?.embedded ? t("model_embedded") : id);

const detail = error =>
  [error.message, error.place.join(" / "), ...error.remedy.map(r => r.message)].filter(Boolean).join("\n");
