// <lienzo-history>: every picture that the server keeps, newest first: a strip on a phone, a column on a desk, a whole
// wall as the gallery.
// Pictures load as they come into sight, pages of the list likewise. It is one stop of the tab key; arrows move inside.
import { $, attr, el, keyed, rove, text } from "./dom.js";
import { remove } from "./acts.js";
import { older } from "./live.js";
import { shownKey, show } from "./scene.js";
import { history, set, state, watch } from "./store.js";
import { t } from "./speak.js";

customElements.define(
  "lienzo-history",
  class extends HTMLElement {
    connectedCallback() {
      this.list = $(".tiles", this);
      this.entries = new Map();
      this.settle = rove(this.list, ".tile");
      this.list.addEventListener("click", event => this.choose(event.target.closest(".tile")));
      this.list.addEventListener("keydown", event => this.key(event));
      this.end = el("li", { class: "end", role: "presentation" });
      new IntersectionObserver(seen => seen.some(e => e.isIntersecting) && older(), { rootMargin: "600px" }).observe(
        this.end,
      );
      watch(["jobs", "hidden", "shown", "edit", "error", "find", "gallery", "selected", "loaded", "lang"], () =>
        this.draw(),
      );
    }

    draw() {
      const found = history(state.find);
      this.entries = new Map(found.map(entry => [entry.key, entry]));
      const current = shownKey();
      this.end.remove();
      const rows = state.gallery ? withDays(found) : found;
      keyed(
        this.list,
        rows,
        row => row.key,
        row => (row.day ? el("li", { class: "day" }) : make(row)),
        (li, row) => (row.day ? text(li, t(row.day)) : update(li, row, current)),
      );
      if (state.more) this.list.append(this.end);
      this.settle();
      // The total is the server's; what was just deleted is not yet.
      const total = state.find ? found.length : Math.max(found.length, state.pictures - state.hidden.size);
      text($("#history-n"), total ? String(total) : "");
      this.classList.toggle("is-empty", !found.length);
      text(
        $("#history-empty"),
        !state.loaded ? t("history_load") : state.find ? t("history_none", { q: state.find }) : t("history_empty"),
      );
      this.reveal(current);
    }

    /** Brings the picture that is shown into sight, once, when another one is shown. */
    reveal(current) {
      if (current === this.revealed) return;
      this.revealed = current;
      $(`.tile[aria-current]`, this.list)?.scrollIntoView({ block: "nearest", inline: "nearest" });
    }

    choose(tile) {
      const entry = this.entries.get(tile?.parentElement.dataset.key);
      if (!entry) return;
      if (!state.selected) {
        set({ gallery: false });
        show(entry.job, entry.picture, false);
        return;
      }
      if (!state.selected.delete(entry.key)) state.selected.add(entry.key);
      set({ selected: state.selected });
    }

    key(event) {
      const tile = event.target.closest(".tile");
      const entry = this.entries.get(tile?.parentElement.dataset.key);
      if (event.key !== "Delete" || !entry) return;
      const next = tile.parentElement.nextElementSibling ?? tile.parentElement.previousElementSibling;
      remove([entry]);
      $(".tile", next ?? this.list)?.focus();
    }
  },
);

/** Headings before the first picture of today, of yesterday and of what is older. */
function withDays(entries) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  const dayOf = job =>
    Date.parse(job.created) >= midnight ? "today" : Date.parse(job.created) >= midnight - 864e5 ? "yesterday" : "older";
  let last = null;
  return entries.flatMap(entry => {
    const day = dayOf(entry.job);
    const heading = day === last ? [] : [{ key: day, day }];
    last = day;
    return [...heading, entry];
  });
}

function make({ picture }) {
  const image = el("img", {
    src: picture.thumb,
    alt: "",
    loading: "lazy",
    decoding: "async",
    width: picture.width,
    height: picture.height,
  });
  const tile = el(
    "button",
    { type: "button", class: "tile linen", tabindex: "-1" },
    image,
    el("span", { class: "cap-t" }),
  );
  if (picture.width > 1.5 * picture.height) tile.classList.add("is-wide");
  return el("li", {}, tile);
}

function update(li, { key, job, picture }, current) {
  const tile = li.firstElementChild;
  const prompt = picture.cell?.prompt ?? job.order.prompt;
  text(tile.lastElementChild, prompt);
  attr(tile, "aria-label", t(picture.kind === "sheet" ? "sheet_alt" : "picture_alt", { p: prompt }));
  attr(tile, "aria-current", key === current ? "true" : null);
  attr(tile, "aria-pressed", state.selected ? String(state.selected.has(key)) : null);
}
