// <lienzo-choice field label options>: a row of a label and a list. <lienzo-check field label>: a box to tick.
import { attr, el, text } from "./dom.js";
import { get, own, put } from "./draft.js";
import { state, watch } from "./store.js";
import { t } from "./speak.js";

function modelName(m) {
  const name = m.embedded ? t("model_embedded") : m.name;
  const key = { loading: "model_loading", broken: "model_broken" }[m.state];
  return key ? t(key, { m: name }) : name;
}

const fixed =
  (...pairs) =>
  () =>
    pairs.map(([value, key]) => ({ value, text: t(key) }));

/** What each list offers: {value, text, disabled}. */
const LISTS = {
  models: () => state.models.map(m => ({ value: m.id, text: modelName(m), disabled: m.state === "broken" })),
  samplers: () =>
    state.samplers.map(s => ({ value: s.name, text: s.calls === "two" ? t("two_per_step", { s: s.name }) : s.name })),
  schedules: () =>
    state.schedules.map(s => ({ value: s.name, text: s.name.toLowerCase() === "automatic" ? t("automatic") : s.name })),
  vaes: () => [{ value: "", text: t("of_model") }, ...state.vaes.map(v => ({ value: v.id, text: v.name }))],
  fills: fixed(
    ["original", "fill_original"],
    ["fill", "fill_around"],
    ["latent-noise", "fill_noise"],
    ["latent-nothing", "fill_nothing"],
  ),
  resizes: fixed(["crop", "resize_crop"], ["just", "resize_just"], ["fill", "resize_fill"]),
  rngs: fixed(["nv", "rng_nv"], ["cpu", "rng_cpu"]),
  timesteps: () =>
    ["auto", "leading", "linspace", "trailing", "webui"].map(value => ({
      value,
      text: value === "auto" ? t("automatic") : value,
    })),
  predictions: fixed(["auto", "automatic"], ["eps", "prediction_eps"], ["v", "prediction_v"]),
};

customElements.define(
  "lienzo-choice",
  class extends HTMLElement {
    connectedCallback() {
      this.field = this.getAttribute("field");
      const id = `c-${this.field.replace(".", "-")}`;
      this.label = el("label", { for: id });
      this.box = el("select", { id });
      // The model's own choice is kept as none, so that it follows the model.
      this.box.addEventListener("change", () =>
        put(
          this.field,
          !this.field.includes(".") && (this.box.value === own(this.field) || !this.box.value) ? null : this.box.value,
        ),
      );
      this.append(this.label, this.box);
      watch(["draft", "models", "vaes", "samplers", "schedules", "lang"], () => this.draw());
    }

    draw() {
      text(this.label, t(this.getAttribute("label")));
      const options = LISTS[this.getAttribute("options")]();
      const value = get(this.field) ?? "";
      // What an order brought and no list has is shown all the same.
      if (value && !options.some(o => o.value === value)) options.push({ value, text: value });
      const mark = JSON.stringify(options);
      if (mark !== this.mark) {
        this.mark = mark;
        this.box.replaceChildren(
          ...options.map(o => el("option", { value: o.value, disabled: Boolean(o.disabled) }, o.text)),
        );
      }
      if (this.box.value !== value) this.box.value = value;
      const sampler = state.samplers.find(s => s.name === get("sampler"));
      if (this.field === "schedule") this.box.disabled = sampler?.schedules === false;
      if (this.field === "vae") attr(this, "hidden", !state.vaes.length);
    }
  },
);

customElements.define(
  "lienzo-check",
  class extends HTMLElement {
    connectedCallback() {
      const field = this.getAttribute("field");
      const box = el("input", { type: "checkbox" });
      const words = el("span");
      box.addEventListener("change", () => put(field, box.checked));
      this.append(el("label", { class: "check" }, box, words));
      watch(["draft", "lang"], () => {
        text(words, t(this.getAttribute("label")));
        box.checked = Boolean(get(field));
      });
    }
  },
);
