// Requests to the server that the page came from. An answer comes back as data, a refusal as Refusal, silence as Gone.

/** The server said no: the fields of the contract's Error, and the status. */
export class Refusal extends Error {
  constructor(error, status) {
    super(error.message);
    Object.assign(this, { kind: "internal", place: [], remedy: [] }, error, { status });
  }
}

/** The server said nothing. */
export class Gone extends Error {}

const PATIENCE = 20; // seconds; a picture over a slow line has more

// Addresses are relative, so that a prefix of a proxy does no harm.
async function ask(method, path, { json, body, type, headers = {}, seconds = PATIENCE } = {}) {
  if (json !== undefined) [body, type] = [JSON.stringify(json), "application/json"];
  if (type) headers["Content-Type"] = type;
  let answer, text;
  try {
    answer = await fetch(path, {
      method,
      body,
      headers,
      signal: AbortSignal.timeout(seconds * 1000),
      cache: "no-store",
    });
    text = await answer.text();
  } catch (e) {
    throw new Gone(e.message);
  }
  let data = null;
  try {
    data = text ? JSON.parse(text) : null;
  } catch {
    /* a proxy's page */
  }
  if (answer.ok) return { data, status: answer.status };
  // A proxy whose server is away says so in its own words.
  if (!data && [502, 503, 504].includes(answer.status)) throw new Gone(`status ${answer.status}`);
  throw new Refusal(data?.error ?? { message: `status ${answer.status}` }, answer.status);
}

const get = async path => (await ask("GET", path)).data;

export const options = () => get("api/options");
export const models = () => get("api/models");
export const samplers = () => get("api/samplers");
export const workers = () => get("api/workers");
export const words = model => get(`api/models/${encodeURIComponent(model)}/words`);

/** A page of jobs: those before an id, those whose prompts say something. */
export function jobs({ before, find, limit = 60 } = {}) {
  const query = new URLSearchParams({ limit, ...(before && { before }), ...(find && { find }) });
  return get(`api/jobs?${query}`);
}

/** Draws. With the same key it draws once, however often it is asked. */
export async function submit(order, key) {
  const { data, status } = await ask("POST", "api/jobs", { json: order, headers: { "Idempotency-Key": key } });
  return { job: data, known: status === 200 };
}

export const cancel = async id => (await ask("POST", `api/jobs/${id}/cancel`)).data;
export const plan = async order => (await ask("POST", "api/plan", { json: order })).data;
export const read = async (prompt, negative_prompt, model) =>
  (await ask("POST", "api/prompt", { json: { prompt, negative_prompt, model } })).data;

/** Forgets a picture; goes out even when the page is being closed. */
export function forget(job, sha256) {
  return fetch(`api/jobs/${job}/pictures/${sha256}`, { method: "DELETE", keepalive: true });
}

/** Brings a picture: a PNG or JPEG file. */
export const upload = async file =>
  (await ask("POST", "api/uploads", { body: file, type: file.type, seconds: 300 })).data;

/** What a picture says about itself. */
export const pngInfo = async file =>
  (await ask("POST", "api/png-info", { body: file, type: file.type, seconds: 300 })).data;
