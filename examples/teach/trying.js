/** Trying a network: pictures that are dropped, chosen or pasted, and what the camera shows, live. */

import { cameraIsOn, frame, onCamera, startCamera } from "./camera.js";
import { takesDrops } from "./classes.js";
import { attempt, bars, count, element, inWords, make, Refusal, say } from "./dom.js";
import { drawHeat } from "./looking.js";
import { onRun, openedRun } from "./open-run.js";

const MOST_SHOWN = 40;
/** Milliseconds between two looks through the camera. */
const LOOK_EVERY = 150;

const live = element("live", "input");
const heat = element("heat", "input");

/** Whole names of the file. @param {File | Blob} file */
const nameOf = (file) => (file instanceof File ? file.name : "a picture");

/** @param {Iterable<File>} files */
async function tryFiles(files) {
  const run = openedRun();
  if (run === undefined) throw new Refusal("there is no network yet. Train one, or open a run below");
  for (const file of files) {
    const card = make("article");
    const text = make("div");
    const title = make("p", "name", nameOf(file));
    title.title = nameOf(file);
    const state = make("p", "quiet", "Looking");
    text.append(title, state);
    card.append(text);
    const results = element("results");
    results.prepend(card);
    for (const old of [...results.children].slice(MOST_SHOWN)) old.remove();
    try {
      const canvas = make("canvas");
      state.replaceWith(await seenIn(run, file, canvas));
      card.prepend(canvas);
    } catch (error) {
      state.replaceWith(make("p", "problem", inWords(error)));
    }
  }
}

/**
 * What the run sees, as bars; the picture, or where it looks in it, is drawn.
 *
 * @param {import("riffle-vision/browser").Run} run
 * @param {Blob | ImageBitmap} picture
 * @param {HTMLCanvasElement} canvas
 */
async function seenIn(run, picture, canvas) {
  const [seen] = await run.predict([picture]);
  if (seen === undefined || "problem" in seen)
    throw seen ?? new Refusal("the network gave no answer. Try again");
  const shown = make("div");
  shown.append(bars(seen.top));
  if (seen.note !== undefined) shown.prepend(make("p", "quiet", seen.note));
  if (heat.checked) {
    drawHeat(canvas, await run.explain(picture));
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Where it looks for ${seen.top[0]?.name}`);
    return shown;
  }
  const bitmap = picture instanceof Blob ? await createImageBitmap(picture) : picture;
  const scale = Math.min(1, 640 / bitmap.width);
  canvas.width = Math.max(1, Math.round(scale * bitmap.width));
  canvas.height = Math.max(1, Math.round(scale * bitmap.height));
  canvas.getContext("2d")?.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  if (picture instanceof Blob) bitmap.close();
  return shown;
}

let isLooking = false;

async function look() {
  await startCamera();
  if (isLooking) return;
  isLooking = true;
  const place = element("seen");
  place.hidden = false;
  try {
    while (live.checked && cameraIsOn()) {
      const run = openedRun();
      if (run === undefined) break;
      const bitmap = await createImageBitmap(frame());
      const canvas = make("canvas");
      const list = await seenIn(run, bitmap, canvas).finally(() => bitmap.close());
      list.className = "bars";
      place.replaceChildren(canvas, list);
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY));
    }
  } finally {
    isLooking = false;
    live.checked = false;
    place.hidden = true;
    place.replaceChildren();
  }
}

export function startTrying() {
  onRun((run) => {
    element("try").hidden = run === undefined;
    element("results").replaceChildren();
    say("try-problem");
    if (run === undefined) live.checked = false;
    const { name = "", classes = [] } = run ?? {};
    const names =
      classes.slice(0, 8).join(", ") + (classes.length > 8 ? ` and ${classes.length - 8} more` : "");
    element("try-run").textContent =
      run === undefined
        ? "Train a network first, or open one below."
        : `${name} tells ${count(classes.length, "class")} apart: ${names}.`;
  });
  const input = element("try-files", "input");
  input.addEventListener("change", () => {
    const files = [...(input.files ?? [])];
    input.value = "";
    void attempt("try-problem", () => tryFiles(files));
  });
  takesDrops(element("try-drop"), (transfer) => tryFiles([...transfer.files]));
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length > 0) void attempt("try-problem", () => tryFiles(files));
  });
  live.addEventListener("change", () => {
    if (!live.checked) return;
    void attempt("try-problem", look).then(() => {
      if (!isLooking) live.checked = false;
    });
  });
  onCamera((isOn) => {
    if (!isOn) live.checked = false;
  });
}
