// Starts the page: the draft, the language, the scheme, the elements, the keys; then the server is asked.
import { restore } from "./draft.js";
import { $, announce, attr } from "./dom.js";
import { set, state, touch, watch } from "./store.js";
import * as speak from "./speak.js";
import { begin } from "./live.js";
import { listen } from "./files.js";
import { cancelShown, draw, removeShown } from "./acts.js";
import { dismiss, neighbour, scene } from "./scene.js";

restore();
words();

// The elements take up the markup that is there, in this order.
const ELEMENTS = [
  "toast",
  "now",
  "gone",
  "queue",
  "history",
  "gallery",
  "canvas",
  "mask",
  "extend",
  "ledge",
  "actions",
  "tools",
  "fault",
  "composer",
  "hint",
  "start",
  "lexicon",
  "number",
  "choice",
  "size",
  "seed",
  "count",
  "compare",
  "settings",
  "parameters",
  "workers",
];
await Promise.all(ELEMENTS.map(name => import(`./${name}.js`)));

function words() {
  document.documentElement.lang = speak.lang;
  speak.translate();
  const button = $("#lang");
  // The switch is in the language that it leads to.
  button.lang = speak.otherLang();
  button.textContent = button.getAttribute("aria-label");
  button.title = "";
}

$("#lang").addEventListener("click", () => {
  speak.choose(speak.otherLang());
  words();
  set({ lang: state.lang + 1 });
});

const SCHEME = "lienzo.scheme";
const dark = matchMedia("(prefers-color-scheme: dark)");

function scheme(name) {
  attr(document.documentElement, "data-scheme", name);
  touch("scheme");
}
scheme(localStorage.getItem(SCHEME));
$("#scheme").addEventListener("click", () => {
  const now = document.documentElement.dataset.scheme ?? (dark.matches ? "dark" : "light");
  const next = now === "dark" ? "light" : "dark";
  // Back at what the system has, the page follows the system again.
  const own = (next === "dark") === dark.matches ? null : next;
  own ? localStorage.setItem(SCHEME, own) : localStorage.removeItem(SCHEME);
  scheme(own);
});

document.addEventListener("keydown", event => {
  const typing = event.target.matches("input, textarea, select");
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    draw();
  } else if (event.key === "Escape" && !state.edit && !event.defaultPrevented && !$("dialog[open]")) {
    if (document.body.hasAttribute("data-sheet")) $("#close-settings").click();
    else if (scene().kind === "error") dismiss();
    else if (!state.gallery) cancelShown();
  } else if (!typing && !state.edit && !event.defaultPrevented && event.target === document.body) {
    const { job, picture } = scene();
    if (event.key === "ArrowLeft") neighbour(-1);
    else if (event.key === "ArrowRight") neighbour(1);
    else if (event.key === "Delete" && picture) removeShown(job, picture);
  }
});

watch(["link"], () => attr(document.body, "data-gone", state.link.gone ? "" : null));
listen();
await begin();
if (!state.link.gone) announce(speak.t("now_idle"));
