// Keeps the store at what the server says: lists first, then its stream of events. The page is a view: whatever
// happens, a reload, a
// sleep, a lost line, the lists are fetched again, and nothing is missing.
import * as api from "./api.js";
import { active, merge, reduce, set, state, touch } from "./store.js";

const WAITS = [1, 2, 4, 8, 15, 30]; // seconds between tries
const EVENTS = ["job", "progress", "preview", "deleted"];
let stream = null;
let timer = null;
let failures = 0; // of the stream, one after another

/** Fetches everything and listens. */
export async function begin() {
  document.addEventListener("visibilitychange", () => (document.hidden ? rest() : wake()));
  addEventListener("online", () => wake());
  await wake();
}

/** A hidden page holds no line: a browser has six for a server, and a phone sleeps anyway. */
function rest() {
  stream?.close();
  stream = null;
  clearTimeout(timer);
}

/** Asks for all lists and listens to what comes after them. */
export async function wake() {
  clearTimeout(timer);
  try {
    const [options, models, samplers, workers, list] = await Promise.all([
      api.options(),
      api.models(),
      api.samplers(),
      api.workers(),
      api.jobs(),
    ]);
    set({
      options,
      models: models.models,
      vaes: models.vaes ?? [],
      defaultModel: models.default,
      ...samplers,
      workers: workers.workers,
    });
    merge(list, true);
    set({ link: { gone: false, until: 0, tries: 0 } });
    if (!document.hidden) listen(list.event);
  } catch (e) {
    missed(e);
  }
}

/** Somebody's request found nobody: says so, and tries again later and later. */
export function missed(e) {
  if (e instanceof api.Refusal) {
    set({ error: { error: e, order: null }, loaded: true });
    return;
  }
  rest();
  const tries = state.link.tries + 1;
  const wait = WAITS[Math.min(tries, WAITS.length) - 1];
  set({ link: { gone: true, until: Date.now() + wait * 1000, tries } });
  timer = setTimeout(wake, wait * 1000);
}

function listen(after) {
  stream?.close();
  const mine = (stream = new EventSource(`api/events?after=${after}`));
  mine.onopen = () => {
    failures = 0;
  };
  for (const type of EVENTS) mine.addEventListener(type, event => reduce(type, JSON.parse(event.data)));
  mine.addEventListener("models", async () => {
    const models = await api.models().catch(() => null);
    if (models) set({ models: models.models, vaes: models.vaes ?? [], defaultModel: models.default });
  });
  mine.addEventListener("workers", async () => {
    const answer = await api.workers().catch(() => null);
    if (answer) set({ workers: answer.workers });
  });
  mine.addEventListener("resync", wake);
  mine.onerror = () => {
    if (mine !== stream) return;
    mine.close();
    failures += 1;
    // Where lists come and events do not (some proxies hold them back), lists are asked for again and again.
    if (failures > 2) poll();
    else timer = setTimeout(wake, 500 * failures);
  };
}

async function poll() {
  try {
    merge(await api.jobs(), true);
    touch("jobs");
    if (!document.hidden) timer = setTimeout(poll, active().length ? 1000 : 5000);
  } catch (e) {
    failures = 0;
    missed(e);
  }
}

let fetching = false;

/** The next page of the history, if there is one. */
export async function older() {
  if (fetching || !state.more || state.link.gone) return;
  fetching = true;
  try {
    merge(await api.jobs({ before: state.more }), false);
  } catch (e) {
    missed(e);
  } finally {
    fetching = false;
  }
}

/** Jobs of the whole history whose prompts say `find`: those that are not here yet come. */
export async function search(find) {
  const list = await api.jobs({ find, limit: 200 }).catch(() => null);
  if (!list) return;
  for (const job of list.jobs) if (!state.jobs.has(job.id)) state.jobs.set(job.id, job);
  touch("jobs");
}
