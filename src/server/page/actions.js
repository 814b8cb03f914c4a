// <lienzo-actions>: what can be done with the picture on the canvas.
import { $, attr, el, icon, rove } from "./dom.js";
import { removeShown, repeat, startFrom, takeOver } from "./acts.js";
import { beginEdit } from "./edit.js";
import { scene } from "./scene.js";
import { set, state, watch } from "./store.js";
import { name, plain, t } from "./speak.js";
import { toast } from "./toast.js";

const source = ({ job, picture }) => ({
  sha256: picture.sha256,
  url: picture.url,
  thumb: picture.thumb,
  width: picture.width,
  height: picture.height,
  job: job.id,
  prompt: job.order.prompt,
  name: job.order.prompt,
});

const ACTIONS = [
  ["edit", "brush", seen => beginEdit("mask", source(seen))],
  ["use_input", "input", seen => startFrom(source(seen))],
  ["repeat", "again", ({ job, picture }) => repeat(job, picture)],
  ["download", "down", download],
];
const MORE = [
  ["use_settings", "sliders", ({ job, picture }) => takeOver(job, picture)],
  ["pixels", "pixels", () => set({ pixels: !state.pixels })],
  ["copy_picture", "copy", copyPicture],
  ["delete", "bin", ({ job, picture }) => removeShown(job, picture)],
];

customElements.define(
  "lienzo-actions",
  class extends HTMLElement {
    connectedCallback() {
      const press = act => () => {
        this.open(false);
        act(scene());
      };
      const button = ([key, image, act]) =>
        el(
          "button",
          { type: "button", class: "btn quiet act", "data-key": key, click: press(act) },
          icon(image),
          el("span"),
        );
      this.more = el(
        "button",
        {
          type: "button",
          class: "btn quiet act",
          "data-key": "more",
          "aria-haspopup": "menu",
          "aria-expanded": "false",
          click: () => this.open(this.menu.hidden),
        },
        icon("more"),
        el("span"),
      );
      const item = ([key, image, act]) =>
        el(
          "button",
          { type: "button", class: "btn quiet", role: "menuitem", tabindex: "-1", "data-key": key, click: press(act) },
          icon(image),
          el("span"),
        );
      this.menu = el("div", { class: "menu", role: "menu", hidden: true }, ...MORE.map(item));
      this.append(...ACTIONS.map(button), el("div", { class: "more" }, this.more, this.menu));
      this.settle = rove(this, ".act");
      rove(this.menu, "[role=menuitem]");
      this.menu.addEventListener("keydown", event => {
        if (event.key !== "Escape" && event.key !== "Tab") return;
        event.stopPropagation();
        this.open(false);
        this.more.focus();
      });
      document.addEventListener("pointerdown", event => {
        if (!this.contains(event.target)) this.open(false);
      });
      watch(["lang", "pixels"], () => this.words());
      watch(["shown", "jobs"], () => this.settle());
    }

    words() {
      for (const button of this.querySelectorAll("[data-key]")) {
        const key = button.dataset.key === "pixels" && state.pixels ? "smooth" : button.dataset.key;
        button.lastElementChild.textContent = t(key);
        if (button.matches(".act")) button.title = t(key);
      }
      name(this.menu, t("more_actions"));
    }

    open(on) {
      if (this.menu.hidden === !on) return;
      this.menu.hidden = !on;
      attr(this.more, "aria-expanded", String(on));
      if (on) $("[role=menuitem]", this.menu).focus();
    }
  },
);

/** A name that says what it shows: lienzo, the prompt's first words, the seed. */
function download({ job, picture }) {
  const words = plain(job.order.prompt)
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "")
    .slice(0, 40)
    .replace(/-$/, "");
  const file = ["lienzo", words, picture.seed ?? picture.kind].filter(v => v !== "").join("-");
  const link = el("a", { href: `${picture.url}?download=${encodeURIComponent(file)}`, download: `${file}.png` });
  document.body.append(link);
  link.click();
  link.remove();
}

/** To the clipboard, where the browser lets a page do so: not over plain HTTP from another machine. */
async function copyPicture({ picture }) {
  try {
    const blob = fetch(picture.url).then(answer => answer.blob());
    await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
    toast(t("copied"));
  } catch {
    toast(t("copy_failed"));
  }
}
