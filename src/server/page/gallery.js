// <lienzo-gallery>: the head of the history: opens the wall, finds by words, selects and deletes.
import { $, attr, quiet } from "./dom.js";
import { remove } from "./acts.js";
import { search } from "./live.js";
import { history, set, state, watch } from "./store.js";
import { t } from "./speak.js";

customElements.define(
  "lienzo-gallery",
  class extends HTMLElement {
    connectedCallback() {
      $("#open-gallery").addEventListener("click", () => this.open(true));
      $("#close-gallery").addEventListener("click", () => this.open(false));
      $("#select").addEventListener("click", () => set({ selected: state.selected ? null : new Set() }));
      $("#delete-selected").addEventListener("click", () => {
        remove(history().filter(entry => state.selected.has(entry.key)));
        set({ selected: null });
      });
      const ask = quiet(300, find => find && search(find));
      $("#find").addEventListener("input", event => {
        set({ find: event.target.value.trim() });
        ask(state.find);
      });
      this.addEventListener("keydown", event => {
        if (event.key !== "Escape" || !state.gallery) return;
        event.stopPropagation();
        if (state.selected) set({ selected: null });
        else this.open(false);
      });
      watch(["gallery", "selected", "lang"], () => this.draw());
    }

    open(on) {
      if (!on) $("#find").value = "";
      set({ gallery: on, selected: null, ...(on ? {} : { find: "" }) });
      $(on ? "#find" : "#open-gallery").focus({ preventScroll: true });
      $("#wall").scrollTop = 0;
    }

    draw() {
      document.body.toggleAttribute("data-gallery", state.gallery);
      document.body.toggleAttribute("data-selecting", Boolean(state.selected));
      const n = state.selected?.size ?? 0;
      attr($("#select"), "aria-pressed", String(Boolean(state.selected)));
      $("#select").textContent = n ? t("selected", { n }) : t("select");
      $("#delete-selected").hidden = !n;
      $("#delete-selected").textContent = t("delete_n", { n });
    }
  },
);
