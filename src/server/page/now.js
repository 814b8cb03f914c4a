// <lienzo-now>: one line in the header that says what the server does; and the voice of the page: a job's start,
// quarters and end are said
// to those who do not see the canvas, and the window's title counts along.
import { announce } from "./dom.js";
import { scene } from "./scene.js";
import { active, ended, state, watch } from "./store.js";
import { duration, percent, t } from "./speak.js";

customElements.define(
  "lienzo-now",
  class extends HTMLElement {
    connectedCallback() {
      this.said = new Map(); // by job: the last quarter that was said
      this.setAttribute("aria-hidden", "true");
      watch(["jobs", "link", "sending", "lang", "loaded"], () => this.draw());
    }

    draw() {
      const jobs = active();
      const running = jobs.find(job => job.state === "running");
      const sentence =
        state.link.gone || !state.loaded
          ? ""
          : state.sending
            ? t("now_sending")
            : running
              ? sentenceOf(running, jobs.length - 1)
              : t("now_idle");
      this.textContent = sentence;
      const share = running?.progress?.share;
      document.title = share == null ? "Lienzo" : `${percent(share)} · Lienzo`;
      this.speak();
    }

    /** Only what this page's users draw is said: a program may draw a thousand. */
    speak() {
      for (const job of state.jobs.values()) {
        if (job.client !== "api") continue;
        const before = this.said.get(job.id);
        const quarter =
          job.state === "queued" ? "queued" : ended(job) ? "end" : Math.floor((job.progress?.share ?? 0) * 4);
        if (before === quarter) continue;
        this.said.set(job.id, quarter);
        // What had ended before the page was opened is no news.
        if (before === undefined && quarter === "end") continue;
        if (quarter === "queued") announce(job.position ? t("now_queued", { n: job.position }) : t("now_next"));
        else if (quarter === "end")
          announce(
            job.state === "done"
              ? t("now_done", { p: job.order.prompt })
              : job.state === "failed"
                ? job.error.message
                : t("now_cancelled"),
          );
        else if (quarter === 0) announce(`${t("stage_draw")}: ${job.order.prompt}`);
        else if (job.progress.left !== null && scene().job?.id === job.id)
          announce(t("now_quarter", { p: percent(quarter / 4), t: duration(job.progress.left) }));
      }
    }
  },
);

function sentenceOf(job, waiting) {
  const { stage, step, steps, left } = job.progress ?? {};
  if (stage === "draw" && steps && left != null) return t("now_work", { i: step, n: steps, t: duration(left) });
  return waiting ? t("now_many", { n: waiting }) : t(`stage_${stage ?? "wait"}`);
}
