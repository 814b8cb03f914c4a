// Editing a picture: begins on one, ends with an order for the part that was bared or the margins that were added.
import * as api from "./api.js";
import { announce } from "./dom.js";
import { model, set, state } from "./store.js";
import { fill, toOrder } from "./draft.js";
import { strokesOf } from "./strokes.js";
import { t } from "./speak.js";

/** Begins to edit a picture {sha256, url, width, height, job, prompt}. */
export function beginEdit(kind, source) {
  if (source.sha256 !== state.edit?.source.sha256) fill({ extend: { left: 0, right: 0, up: 0, down: 0 } });
  set({ edit: { kind, source }, error: null });
}

export const endEdit = () => set({ edit: null });

/** Changes between repainting and extending. */
export const switchEdit = kind => set({ edit: { ...state.edit, kind } });

/** The order of an edit, its mask already brought; null, after saying so, while there is nothing to paint. */
export async function editOrder() {
  const { kind, source } = state.edit;
  const order = toOrder();
  // The picture's own size holds; a guide, a grid or a count belongs to the draft and stays.
  for (const field of ["width", "height", "resize_mode", "mask", "outpaint"]) delete order[field];
  order.init_image = source.sha256;
  const done = kind === "mask" ? await masked(order, source) : extended(order);
  if (done) set({ edit: null });
  return done;
}

async function masked(order, source) {
  const strokes = strokesOf(source);
  if (strokes.empty()) {
    announce(t("mask_empty"));
    return null;
  }
  const { strength, mask_blur, inpaint_fill, only_masked } = state.draft.repaint;
  const mask = await api.upload(await strokes.png());
  Object.assign(order, { mask: mask.sha256, strength, mask_blur, inpaint_fill });
  if (only_masked) {
    const { width, height } = state.draft;
    Object.assign(order, { only_masked, width: width ?? model().size.width, height: height ?? model().size.height });
  }
  return order;
}

function extended(order) {
  const sides = Object.entries(state.draft.extend).filter(([, pixels]) => pixels > 0);
  if (!sides.length) {
    announce(t("extend_none"));
    return null;
  }
  delete order.strength;
  return Object.assign(order, { outpaint: sides.map(([side, pixels]) => `${side}=${pixels}`).join(",") });
}
