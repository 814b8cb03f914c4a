// <lienzo-ledge>: under the canvas, what is seen and what can be done: ideas, progress and Cancel, the picture's label,
// tools, or what went
// wrong. Its parts are in index.html; the body's data-state shows one of them.
import { $, attr, el, keyed, text } from "./dom.js";
import { cancelShown, draw } from "./acts.js";
import { fill } from "./draft.js";
import { scene } from "./scene.js";
import { model, watch } from "./store.js";
import { duration, size, t } from "./speak.js";

customElements.define(
  "lienzo-ledge",
  class extends HTMLElement {
    connectedCallback() {
      this.bar = $("progress", this);
      $(".stop", this).addEventListener("click", cancelShown);
      watch(["jobs", "previews", "shown", "edit", "error", "models", "draft", "loaded", "lang"], () => this.draw());
    }

    draw() {
      const seen = scene();
      this.ideas();
      const work = seen.kind === "working" || seen.kind === "waiting";
      this.bar.hidden = seen.kind !== "working";
      if (work) this.work(seen);
      if (seen.kind === "picture" && seen.picture) this.picture(seen);
    }

    ideas() {
      const list = $(".examples", this);
      keyed(
        list,
        model()?.ideas ?? [],
        idea => idea,
        idea => {
          // One press is a picture.
          const press = () => {
            fill({ prompt: idea });
            draw();
          };
          return el("button", { type: "button", class: "btn idea", lang: "en", click: press }, idea);
        },
        () => {},
      );
    }

    work({ job }) {
      const box = $(".l-work", this);
      text($(".words", box), job.order.prompt);
      text($(".keys", box), job.state === "queued" ? waiting(job) : working(job));
      const share = Math.round(1000 * (job.progress?.share ?? 0)) / 10;
      if (this.bar.value !== share) this.bar.value = share;
      attr(this.bar, "aria-valuetext", working(job));
    }

    picture({ job, picture }) {
      const box = $(".l-pic", this);
      const { order } = job;
      text($(".words", box), picture.cell?.prompt ?? order.prompt);
      const cell = picture.cell ?? {};
      const parts = [
        size(picture.width, picture.height),
        cell.sampler ?? order.sampler,
        `${cell.steps ?? order.steps} ${t("steps").toLowerCase()}`,
      ];
      if (picture.seed != null) parts.push(`${t("seed").toLowerCase()} ${picture.seed}`);
      text($(".keys", box), parts.filter(Boolean).join(" · "));
    }
  },
);

const waiting = job => (job.position ? t("now_queued", { n: job.position }) : t("now_next"));

function working({ progress, total }) {
  if (!progress) return t("stage_wait");
  const { stage, step, steps, left, picture } = progress;
  const parts = [t(`stage_${stage}`)];
  if (total > 1) parts.push(t("picture_of", { i: Math.min(picture + 1, total), n: total }));
  if (stage === "draw" && steps) parts.push(t("step_of", { i: step, n: steps }));
  if (left != null) parts.push(t("time_left", { t: duration(left) }).replaceAll(" ", "\u00a0"));
  return parts.join(" · ");
}
