// What the page knows. The server is the truth: everything but `draft` and what is looked at comes from it, by
// `reduce`.
// Elements `watch` the keys that they show and draw themselves when one of them changes, once for all changes of a
// moment.
import { plain } from "./speak.js";

export const state = {
  lang: 0, // counts changes of language
  options: null,
  models: [],
  vaes: [],
  defaultModel: null,
  samplers: [],
  schedules: [],
  workers: [],
  jobs: new Map(),
  loaded: false,
  more: null,
  pictures: 0,
  previews: new Map(), // by job: {picture, step, width, height, image}
  hidden: new Set(), // pictures whose deletion can still be undone
  draft: null,
  reading: null,
  plan: null,
  sending: false,
  shown: null,
  follow: true, // {job, picture: {sha256, index} or null}; whether the canvas goes on to what is drawn next
  edit: null,
  tool: { name: "brush", share: 0.15 },
  mask: { undo: false, redo: false, zoom: 1 },
  pixels: false,
  gallery: false,
  find: "",
  selected: null, // null, or a set of keys while selecting
  link: { gone: false, until: 0, tries: 0 },
  error: null, // {error, order}: what the server refused
};

const watchers = [];
let changed = null;

/** Calls `draw` now, and after each change of one of the keys. */
export function watch(keys, draw) {
  watchers.push({ keys, draw });
  draw();
}

/** Changes some keys. A value that was changed inside, a map or the draft, is named by itself. */
export function set(patch) {
  Object.assign(state, patch);
  touch(...Object.keys(patch));
}

export function touch(...keys) {
  if (!changed) {
    changed = new Set();
    queueMicrotask(flush);
  }
  for (const key of keys) changed.add(key);
}

function flush() {
  const keys = changed;
  changed = null;
  for (const { keys: mine, draw } of watchers) if (mine.some(key => keys.has(key))) draw();
}

/** An event of the server's stream goes in; what it changes is changed. */
export function reduce(type, data) {
  const job = state.jobs.get(data?.id);
  switch (type) {
    case "job":
      upsert(data);
      break;
    case "progress":
      // One that comes after the end of its job says nothing new.
      if (job?.state === "running") job.progress = data.progress;
      break;
    case "preview":
      if (job?.state === "running") state.previews.set(data.id, data);
      touch("previews");
      break;
    case "deleted":
      if (!job) return;
      job.pictures = job.pictures.filter(p => data.sha256 && p.sha256 !== data.sha256);
      if (!data.sha256 || !job.pictures.length) state.jobs.delete(data.id);
      break;
    default:
      return;
  }
  touch("jobs");
}

const ENDED = ["done", "failed", "cancelled"];
export const ended = job => ENDED.includes(job.state);

function upsert(job) {
  const old = state.jobs.get(job.id);
  // An answer and an event may cross on the way.
  if (old && old.revision > job.revision) return;
  if (old?.progress && job.state === "running") job.progress ??= old.progress;
  state.jobs.set(job.id, job);
  if (ended(job)) state.previews.delete(job.id);
}

/** A list of jobs. The first page also tells which of the newer ones are gone. */
export function merge(list, first) {
  if (first) {
    const there = new Set(list.jobs.map(job => job.id));
    const oldest = list.jobs.at(-1)?.id ?? "";
    for (const id of [...state.jobs.keys()]) if ((id >= oldest || !list.more) && !there.has(id)) state.jobs.delete(id);
  }
  list.jobs.forEach(upsert);
  // A page that was read further keeps its place.
  const more = first && state.loaded && state.more !== null && state.more < (list.more ?? "") ? state.more : list.more;
  set({ loaded: true, more, pictures: list.pictures });
  touch("jobs");
}

/** What runs, then what waits, in its order. */
export function active() {
  const jobs = [...state.jobs.values()].filter(job => !ended(job));
  const place = job => (job.state === "running" ? -1 : (job.position ?? 0));
  return jobs.sort((a, b) => place(a) - place(b) || (a.id < b.id ? -1 : 1));
}

export const keyOf = (job, picture) => `${job.id}/${picture.index}/${picture.sha256.slice(0, 16)}`;

/** Pictures that hang on the wall, newest first: {key, job, picture}. `find` looks in prompts. */
export function history(find = "") {
  const wanted = plain(find.trim());
  const jobs = [...state.jobs.values()].filter(job => job.pictures.length && plain(job.order.prompt).includes(wanted));
  jobs.sort((a, b) => (a.id < b.id ? 1 : -1));
  return jobs
    .flatMap(job => [...job.pictures].reverse().map(picture => ({ key: keyOf(job, picture), job, picture })))
    .filter(entry => !state.hidden.has(entry.key));
}

/** The model that the draft names, else the server's own. */
export const model = (id = state.draft?.model) =>
  state.models.find(m => m.id === id) ?? state.models.find(m => m.id === state.defaultModel);
