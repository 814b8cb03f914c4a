// The store goes in, what the canvas and its ledge show comes out. Nothing here touches the document.
import { ended, history, keyOf, model, set, state } from "./store.js";
import { get } from "./draft.js";

/**
 * What is to be seen: {kind, width, height, job, picture, error, order}. Kinds: loading, first (nothing was ever
 * drawn), blank, waiting,
 * working, picture, error.
 */
export function scene() {
  const { shown, error, edit, jobs } = state;
  if (edit)
    return {
      kind: "picture",
      width: edit.source.width,
      height: edit.source.height,
      job: jobs.get(edit.source.job),
      source: edit.source,
    };
  if (error) return { ...sizeOf(error.order ?? {}), kind: "error", error: error.error, order: error.order };
  const job = shown && jobs.get(shown.job);
  const picture =
    job &&
    shown.picture &&
    job.pictures.find(p => p.sha256 === shown.picture.sha256 && p.index === shown.picture.index);
  if (picture) return { kind: "picture", width: picture.width, height: picture.height, job, picture };
  if (job && !ended(job)) {
    const preview = state.previews.get(job.id);
    const size = preview ?? sizeOf(job.order);
    return {
      kind: job.state === "running" ? "working" : "waiting",
      width: size.width,
      height: size.height,
      job,
      preview,
    };
  }
  if (job?.state === "failed") return { ...sizeOf(job.order), kind: "error", error: job.error, order: job.order, job };
  if (!state.loaded) return { ...sizeOf({}), kind: "loading" };
  return { ...sizeOf({}), kind: history().length ? "blank" : "first" };
}

function sizeOf(order) {
  const own = model(order.model)?.size ?? { width: 1, height: 1 };
  return { width: order.width ?? get("width") ?? own.width, height: order.height ?? get("height") ?? own.height };
}

/** The picture of a job that stands for it: a grid's sheet, else the last one. */
const best = job => job.pictures.find(p => p.kind === "sheet") ?? job.pictures.at(-1);

export const shownKey = () => {
  const { job, picture } = scene();
  return job && picture ? keyOf(job, picture) : null;
};

/** Shows a job, or one of its pictures. */
export function show(job, picture = null, follow = !picture) {
  set({
    shown: { job: job.id, picture: picture && { sha256: picture.sha256, index: picture.index } },
    follow,
    error: null,
    edit: null,
  });
}

/**
 * After jobs have changed: what was watched and has ended becomes its picture, what was deleted its neighbour, and the
 * canvas goes on to
 * what the page's users draw, unless somebody looks at something of his own choice. What programs draw hangs up without
 * being shown.
 */
export function settle() {
  const { shown, jobs, error, edit } = state;
  if (!state.loaded || error || edit) return;
  const job = shown && jobs.get(shown.job);
  const running = [...jobs.values()].find(j => j.state === "running" && j.client === "api");
  const there =
    job &&
    (!shown.picture ||
      (job.pictures.some(p => p.sha256 === shown.picture.sha256) && !state.hidden.has(keyOf(job, shown.picture))));
  if (!there) {
    if (running) return show(running, null, true);
    return newest();
  }
  if (shown.picture) {
    if (state.follow && running && running.id !== job.id && (running.progress?.step ?? 0) > 0)
      show(running, null, true);
    return;
  }
  if (job.state === "queued" && state.follow && running) return show(running, null, true);
  if (!ended(job) || job.state === "failed") return;
  if (job.pictures.length) show(job, best(job), state.follow);
  else newest();
}

/** Puts an error away: a failed job stays in the server's records, the canvas goes on. */
export function dismiss() {
  set({ error: null, shown: null, follow: true });
  settle();
}

function newest() {
  const entry = history()[0];
  if (entry) show(entry.job, entry.picture, true);
  else if (state.shown) set({ shown: null, follow: true });
}

/** The neighbour of the picture that is shown, towards the older ones (1) or the newer ones (-1). */
export function neighbour(direction) {
  const entries = history(state.find);
  const at = entries.findIndex(entry => entry.key === shownKey());
  const next = entries[at + direction];
  if (next) show(next.job, next.picture, false);
  return next;
}
