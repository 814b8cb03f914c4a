// A key goes in, a sentence in the reader's language comes out; numbers, sizes and times as that language writes them.
import { WORDS } from "./words.js";
import { $$ } from "./dom.js";

const LANGUAGES = ["en", "es"];
const LOCALES = { en: "en-GB", es: "es-ES" };
const KEPT = "lienzo.lang";

/** The language of the page: the one that was chosen, else the first of the browser's that there is. */
export let lang = kept() ?? navigator.languages.map(l => l.slice(0, 2)).find(l => LANGUAGES.includes(l)) ?? "en";

function kept() {
  const value = localStorage.getItem(KEPT);
  return LANGUAGES.includes(value) ? value : null;
}

/** The language that the switch leads to. */
export const otherLang = () => LANGUAGES.find(l => l !== lang);

/** Remembers a choice. Whoever shows words draws itself again on the store's key `lang`. */
export function choose(language) {
  lang = language;
  localStorage.setItem(KEPT, language);
}

/** The sentence of a key, its {x} filled in. A key that is missing shows itself, so that it is found. */
export function t(key, fill = {}) {
  const text = WORDS[key]?.[LANGUAGES.indexOf(lang)] ?? key;
  return text.replace(/\{(\w+)\}/g, (all, name) => fill[name] ?? all);
}

export const has = key => key in WORDS;

/** Words of everything below `root` that says by data-t, data-l or data-ph which it wants. */
export function translate(root = document) {
  for (const e of $$("[data-t]", root)) e.textContent = t(e.dataset.t);
  for (const e of $$("[data-ph]", root)) e.placeholder = t(e.dataset.ph);
  for (const e of $$("[data-l]", root)) name(e, t(e.dataset.l), e.dataset.k);
}

/** Names an element for those who hear it, and, where it is a button, for those who point at it. */
export function name(e, text, key) {
  e.setAttribute("aria-label", text);
  if (e.matches("button")) e.title = key ? `${text} (${key})` : text;
}

export const num = (value, digits = 2) =>
  Number(value).toLocaleString(LOCALES[lang], { maximumFractionDigits: digits, useGrouping: false });
export const percent = share =>
  Number(share).toLocaleString(LOCALES[lang], { style: "percent", maximumFractionDigits: 0 });

/** 0.3 s, 41 s, 2 min 5 s, 1 h 10 min; no break between a number and its unit. */
export function duration(seconds) {
  const s = Math.max(0, seconds);
  if (s < 10) return `${num(Math.max(s, 0.1), s < 1 ? 1 : 0)} s`;
  if (s < 60) return `${Math.round(s)} s`;
  const minutes = Math.floor(Math.round(s) / 60);
  if (minutes < 60) return `${minutes} min${s < 600 ? ` ${Math.round(s) % 60} s` : ""}`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** 6.1 GB, as the disk's maker counts. */
export function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(n, 1)) / 3)));
  return `${num(n / 1000 ** power, power > 2 ? 1 : 0)} ${units[power]}`;
}

/** 64 × 64 */
export const size = (w, h) => `${w} × ${h}`;

/** Without case and accents: how prompts are compared with what is looked for. */
export const plain = text => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
