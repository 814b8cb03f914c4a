// Pictures that are dropped, pasted or chosen. One that says how it was drawn brings prompt and values back; another is
// the one to start from.
import * as api from "./api.js";
import { $, announce } from "./dom.js";
import { startFrom } from "./acts.js";
import { fromOrder } from "./draft.js";
import { missed } from "./live.js";
import { set } from "./store.js";
import { t } from "./speak.js";
import { toast } from "./toast.js";

const SENT = ["image/png", "image/jpeg"]; // what the server reads; the browser makes a PNG of the others

/** Listens on the whole page. */
export function listen() {
  let depth = 0; // dragenter and dragleave come for every element on the way
  const over = on => {
    depth = on ? depth : 0;
    $("#dropping").hidden = !on;
  };
  addEventListener("dragenter", event => {
    if (carries(event)) {
      depth += 1;
      over(true);
    }
  });
  addEventListener("dragleave", event => {
    if (carries(event) && (depth -= 1) <= 0) over(false);
  });
  addEventListener("dragover", event => {
    if (carries(event)) event.preventDefault();
  });
  addEventListener("drop", event => {
    over(false);
    if (!carries(event)) return;
    event.preventDefault();
    take(event.dataTransfer.files[0], true);
  });
  addEventListener("paste", event => {
    const file = [...event.clipboardData.files].find(f => f.type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    take(file, true);
  });
  $("#pick").addEventListener("click", () => $("#file").click());
  $("#file").addEventListener("change", event => {
    take(event.target.files[0], false);
    event.target.value = "";
  });
}

const carries = event => [...(event.dataTransfer?.types ?? [])].includes("Files");

/** Takes a file; `restore` says whether what it tells about itself is wanted. */
async function take(file, restore) {
  if (!file) return;
  const name = file.name || t("a_picture");
  try {
    const info = restore && SENT.includes(file.type) ? await api.pngInfo(file) : null;
    if (!info?.order) return await start(file, name);
    fromOrder(info.order);
    const problems = info.problems.map(p => p.message).join(" ");
    toast(
      [t("dropped_params", { f: name }), problems && t("dropped_problem", { w: problems })].filter(Boolean).join(". "),
      9000,
      { label: t("dropped_start"), act: () => start(file, name).catch(failed) },
    );
  } catch (e) {
    failed(e, name);
  }
}

async function start(file, name) {
  const readable = SENT.includes(file.type) ? file : await asPng(file);
  startFrom({ ...(await api.upload(readable)), name });
  announce(t("dropped_plain", { f: name }));
}

function failed(e, name = t("a_picture")) {
  if (e instanceof api.Gone) missed(e);
  else if (e instanceof api.Refusal && e.status !== 415 && e.kind !== "bad_file")
    set({ error: { error: e, order: null } });
  else toast(t("drop_bad", { f: name }));
}

/** Any picture that this browser can show, as a PNG. */
async function asPng(file) {
  const bitmap = await createImageBitmap(file);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  return new Promise(resolve => canvas.toBlob(resolve, "image/png"));
}
