// <lienzo-canvas>: the picture, its preview, or bare linen in the shape that the next one will have; and the frame
// around it that fills
// while one is drawn.
import { $, attr } from "./dom.js";
import { scene, settle, neighbour } from "./scene.js";
import { state, watch } from "./store.js";
import { t } from "./speak.js";

const LARGE = 300_000; // pixels

customElements.define(
  "lienzo-canvas",
  class extends HTMLElement {
    connectedCallback() {
      this.figure = $("#canvas");
      this.image = $(".picture", this);
      this.blank = $(".blank", this);
      this.frame = $(".frame", this.figure);
      this.swipes();
      watch(["jobs", "hidden", "loaded"], settle);
      watch(["jobs", "previews", "shown", "edit", "error", "draft", "models", "loaded", "lang", "pixels"], () =>
        this.draw(),
      );
    }

    draw() {
      const seen = scene();
      const { kind, job, picture, preview, source } = seen;
      document.body.dataset.state = kind;
      attr(document.body, "data-edit", state.edit?.kind);
      const { left = 0, right = 0, up = 0, down = 0 } = state.edit?.kind === "extend" ? state.draft.extend : {};
      const [width, height] = [seen.width + left + right, seen.height + up + down];
      this.put("--w", width);
      this.put("--h", height);
      // Where the picture lies on a canvas that grows beyond it.
      this.put("--x", left / width);
      this.put("--y", up / height);
      this.put("--pw", seen.width / width);
      this.put("--ph", seen.height / height);
      const src = source?.url ?? picture?.url ?? preview?.image ?? null;
      this.image.hidden = !src;
      if (src && this.wanted !== src) this.show(src, picture);
      this.image.alt = alt(seen);
      this.image.classList.toggle("draft", Boolean(preview) && !picture);
      this.image.classList.toggle("pixels", Boolean(state.pixels));
      this.blank.hidden = Boolean(src);
      this.blank.classList.toggle("bare", kind !== "first");
      const share = kind === "working" ? (job.progress?.share ?? 0) : null;
      attr(this.frame, "hidden", share === null);
      if (share !== null) attr($(".f1", this.frame), "stroke-dasharray", `${(100 * share).toFixed(1)} 100`);
    }

    /** A large picture comes over a slow line: its thumbnail holds the place. */
    show(src, picture) {
      this.wanted = src;
      if (!picture || picture.width * picture.height < LARGE) {
        this.image.src = src;
        return;
      }
      this.image.src = picture.thumb;
      const full = new Image();
      full.src = src;
      full
        .decode()
        .then(() => {
          if (this.wanted === src) this.image.src = src;
        })
        .catch(() => {});
    }

    put(name, value) {
      if (this.figure.style.getPropertyValue(name) !== String(value)) this.figure.style.setProperty(name, value);
    }

    /** A finger pushes the picture aside to see its neighbour. */
    swipes() {
      let from = null;
      this.addEventListener("pointerdown", event => {
        from = event.pointerType === "touch" ? [event.clientX, event.clientY] : null;
      });
      this.addEventListener("pointerup", event => {
        if (!from || state.edit) return;
        const [dx, dy] = [event.clientX - from[0], event.clientY - from[1]];
        if (Math.abs(dx) > 60 && Math.abs(dx) > 2 * Math.abs(dy)) neighbour(dx < 0 ? 1 : -1);
      });
    }
  },
);

function alt({ kind, job, picture, source }) {
  if (source) return t("picture_alt", { p: source.prompt ?? source.name ?? "" });
  const p = picture?.cell?.prompt ?? job?.order.prompt ?? "";
  if (kind === "working") return t("preview_alt", { i: job.progress?.step ?? 0, n: job.progress?.steps ?? "?", p });
  return t(picture?.kind === "sheet" ? "sheet_alt" : "picture_alt", { p });
}
