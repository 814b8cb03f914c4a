// <lienzo-queue>: what runs and what waits, as tiles of bare linen with their place in it. Cancel sits on the tile that
// it cancels.
import { $, attr, el, icon, keyed, rove, text } from "./dom.js";
import { cancel } from "./acts.js";
import { scene, show } from "./scene.js";
import { active, state, watch } from "./store.js";
import { name, t } from "./speak.js";

customElements.define(
  "lienzo-queue",
  class extends HTMLElement {
    connectedCallback() {
      this.list = $(".tiles", this);
      this.settle = rove(this.list, ".tile");
      watch(["jobs", "previews", "shown", "lang"], () => this.draw());
    }

    draw() {
      const jobs = active();
      this.hidden = !jobs.length;
      text($("#queue-n"), jobs.length ? String(jobs.length) : "");
      const lost = this.list.contains(document.activeElement);
      keyed(
        this.list,
        jobs,
        job => job.id,
        job => this.make(job),
        (tile, job, i) => this.update(tile, job, i, jobs),
      );
      // Whoever cancels one after another stays at it.
      if (lost && !this.list.contains(document.activeElement)) ($(".job-x", this.list) ?? $("#go")).focus();
      this.settle();
    }

    make({ id }) {
      const job = () => state.jobs.get(id);
      const tile = el(
        "button",
        { type: "button", class: "tile linen", click: () => show(job(), null, false) },
        el("img", { alt: "", hidden: true }),
        el("span", { class: "pos" }),
        el("span", { class: "done", "aria-hidden": "true" }),
      );
      return el(
        "li",
        { class: "job" },
        tile,
        el("button", { type: "button", class: "job-x", click: () => cancel(job()) }, icon("close")),
      );
    }

    update(li, job, index, jobs) {
      const [tile, stop] = li.children;
      const [image, place, bar] = tile.children;
      const runs = job.state === "running";
      const preview = state.previews.get(job.id);
      if (preview && image.src !== preview.image) image.src = preview.image;
      image.hidden = !preview;
      const number = index + 1 - jobs.filter(other => other.state === "running").length;
      text(place, runs ? "" : String(number));
      bar.style.setProperty("--share", job.progress?.share ?? 0);
      attr(tile, "aria-current", scene().job?.id === job.id ? "true" : null);
      attr(tile, "aria-label", `${runs ? t("queue_run") : t("queue_wait", { n: number })}: ${job.order.prompt}`);
      name(stop, t("cancel_job", { p: job.order.prompt }));
    }
  },
);
