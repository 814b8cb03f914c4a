// What the buttons do. Nothing is shown as done that the server did not say.
import * as api from "./api.js";
import { announce } from "./dom.js";
import { editOrder } from "./edit.js";
import { fill, fromOrder, orderOf, toOrder } from "./draft.js";
import { missed } from "./live.js";
import { scene, settle, show } from "./scene.js";
import { active, ended, history, keyOf, reduce, set, state, touch } from "./store.js";
import { t } from "./speak.js";
import { toast } from "./toast.js";

let pending = null; // {json, key} of an order whose answer did not come: asked again it is drawn once

// A page of plain HTTP in the local network has no crypto.randomUUID.
const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map(b => b.toString(16).padStart(2, "0")).join("");

/** Draws an order, or what is written. */
export async function draw(given = null) {
  if (state.sending) return;
  set({ sending: true, error: null });
  let order = given;
  try {
    order ??= state.edit ? await editOrder() : toOrder();
    if (!order) return;
    const json = JSON.stringify(order);
    if (pending?.json !== json) pending = { json, key: newKey() };
    const { job, known } = await api.submit(order, pending.key);
    pending = null;
    reduce("job", job);
    if (known && ended(job)) announce(t("now_again"));
    const watching = scene();
    // A picture of ours that is being drawn stays on the canvas until it is done.
    if (watching.kind !== "working" || watching.job.client !== "api") show(job);
    settle();
  } catch (e) {
    if (e instanceof api.Refusal) set({ error: { error: e, order }, edit: null });
    else if (e instanceof api.Gone) missed(e);
    else throw e;
  } finally {
    set({ sending: false });
  }
}

/** Cancels this job and no other. */
export async function cancel(job) {
  try {
    reduce("job", await api.cancel(job.id));
    announce(t("now_cancelled"));
  } catch (e) {
    if (e instanceof api.Gone) missed(e);
    else if (e.status !== 404) set({ error: { error: e, order: job.order } });
  }
}

/** Cancels what is on the canvas, else what runs. */
export function cancelShown() {
  const { job } = scene();
  const target = job && !ended(job) ? job : active()[0];
  if (target) cancel(target);
  return Boolean(target);
}

/** The same order with another seed. */
export function repeat(job, picture) {
  const order = { ...orderOf(job, picture), seed: null };
  if (order.variation_strength > 0) order.variation_seed = null;
  draw(Object.fromEntries(Object.entries(order).filter(([, value]) => value !== null)));
}

/** Prompt and values of a picture become the draft's. */
export function takeOver(job, picture) {
  fromOrder(orderOf(job, picture));
  announce(t("use_settings"));
}

/** A picture becomes the one to start from, and the draft takes its shape. */
export function startFrom({ sha256, thumb, width, height, name }) {
  const { min, max, multiple } = state.options.limits.side;
  const side = v => Math.min(max, Math.max(min, Math.round(v / multiple) * multiple));
  fill({ start: { sha256, thumb, width, height, name, carried: null }, width: side(width), height: side(height) });
  announce(t("start_name", { f: name }));
}

const UNDO = 8000; // milliseconds
const doomed = new Map(); // by key: {entry, timer}

/** Takes pictures off the wall. The server hears of it when nobody has changed his mind. */
export function remove(entries) {
  for (const entry of entries) {
    state.hidden.add(entry.key);
    doomed.set(entry.key, { entry, timer: setTimeout(() => forget(entry), UNDO) });
  }
  touch("hidden", "jobs");
  settle();
  toast(t("deleted_undo", { n: entries.length }), UNDO, {
    label: t("undo"),
    act() {
      for (const { key } of entries) {
        clearTimeout(doomed.get(key)?.timer);
        doomed.delete(key);
        state.hidden.delete(key);
      }
      touch("hidden", "jobs");
    },
  });
}

async function forget({ key, job, picture }) {
  doomed.delete(key);
  const answer = await api.forget(job.id, picture.sha256).catch(() => null);
  if (answer?.ok || answer?.status === 404) reduce("deleted", { id: job.id, sha256: picture.sha256 });
  state.hidden.delete(key);
  touch("hidden", "jobs");
}

// What was deleted and then left is deleted.
addEventListener("pagehide", () => {
  for (const { entry, timer } of doomed.values()) {
    clearTimeout(timer);
    api.forget(entry.job.id, entry.picture.sha256).catch(() => {});
  }
  doomed.clear();
});

/** The picture on the canvas goes; its older neighbour takes its place. */
export function removeShown(job, picture) {
  const entries = history(state.find);
  const key = keyOf(job, picture);
  const at = entries.findIndex(entry => entry.key === key);
  const next = entries[at + 1] ?? entries[at - 1];
  if (next) show(next.job, next.picture, false);
  remove([{ key, job, picture }]);
}
