/** The runs that the browser keeps: opened, resumed, downloaded, taken in, removed. */

import { hasUnsaved, showPictures } from "./classes.js";
import { attempt, button, count, element, make, percent, size } from "./dom.js";
import { openedRun, useRun } from "./open-run.js";
import { importRun, listRuns, openRun } from "./riffle.js";
import { goOn, isTraining } from "./training.js";

/** @typedef {import("riffle-vision/browser").RunSummary} RunSummary */

const PROBLEMS = "runs-problem";
/** Milliseconds within which removing has to be pressed again. */
const SURE_WITHIN = 4000;

export async function showRuns() {
  const runs = await listRuns();
  const none = make("p", "quiet", "None yet.");
  element("runs").replaceChildren(...(runs.length === 0 ? [none] : runs.map(card)));
}

/** @param {RunSummary} run */
function card(run) {
  const { name, created, classes, network, imageSize, step, steps, best, bytes } = run;
  const isOpen = openedRun()?.name === name;
  const made = make("div", `run${isOpen ? " open" : ""}`);
  made.setAttribute("role", "group");
  made.setAttribute("aria-label", name);
  const score = best === null ? "no score yet" : `${percent(best.top1)} right`;
  const stands = step < steps ? `${step} of ${count(steps, "step")}` : count(step, "step");
  made.append(
    make("h3", "", isOpen ? `${name} (open)` : name),
    make("p", "", `${score}, ${stands}, ${classes.join(", ")}`),
    make(
      "p",
      "quiet",
      `${network}, ${imageSize} pixels, ${size(bytes)}, ${new Date(created).toLocaleString()}`,
    ),
  );
  const row = make("div", "row");
  if (!isOpen)
    row.append(
      named(
        button("Open", () => open(name), PROBLEMS),
        "Open",
        name,
      ),
    );
  if (run.resumable) {
    const again = button("Go on", () => resume(name), PROBLEMS);
    again.disabled = isTraining();
    row.append(named(again, "Go on with", name));
  }
  row.append(make("span", "quiet", "Download"));
  for (const [title, format, ending] of DOWNLOADS) {
    const press = button(title, () => download(name, format, ending), PROBLEMS);
    row.append(named(press, `Download ${title} of`, name));
  }
  row.append(remover(name));
  made.append(row);
  return made;
}

const DOWNLOADS = /** @type {const} */ ([
  ["Run", "run", "zip"],
  ["safetensors", "safetensors", "safetensors"],
  ["ONNX", "onnx", "onnx"],
]);

/**
 * For a screen reader, which does not see whose button it is.
 *
 * @param {HTMLButtonElement} made
 * @param {string} does
 * @param {string} name
 */
function named(made, does, name) {
  made.setAttribute("aria-label", `${does} ${name}`);
  return made;
}

/** @param {string} name */
async function open(name) {
  const run = await openRun(name);
  useRun(run);
  await showRuns();
  // What was not trained on yet is nowhere else.
  if (!hasUnsaved() && !isTraining()) await showPictures(run.classes, await run.pictures());
  return run;
}

/** @param {string} name */
async function resume(name) {
  const opened = openedRun();
  const run = opened?.name === name ? opened : await open(name);
  element("train-title").scrollIntoView({ behavior: "smooth" });
  await attempt("train-problem", () => goOn(run));
}

/**
 * @param {string} name
 * @param {import("riffle-vision/browser").ExportFormat} format
 * @param {string} ending
 */
async function download(name, format, ending) {
  const opened = openedRun();
  const run = opened?.name === name ? opened : await openRun(name);
  try {
    const link = make("a");
    link.href = URL.createObjectURL(await run.exportAs(format));
    link.download = `${name.replace(/[^\p{L}\p{N} _-]/gu, "_")}.${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  } finally {
    if (run !== opened) run.close();
  }
}

/** A button that asks once more. @param {string} name */
function remover(name) {
  const made = button("Remove", remove, PROBLEMS, "plain");
  named(made, "Remove", name);
  let isSure = false;
  async function remove() {
    if (!isSure) {
      isSure = true;
      made.classList.add("sure");
      made.textContent = "Press again to remove";
      named(made, "Press again to remove", name);
      setTimeout(() => {
        isSure = false;
        made.classList.remove("sure");
        made.textContent = "Remove";
        named(made, "Remove", name);
      }, SURE_WITHIN);
      return;
    }
    const opened = openedRun();
    const run = opened?.name === name ? opened : await openRun(name);
    await run.remove();
    if (run === opened) useRun(undefined);
    await showRuns();
  }
  return made;
}

export function startRuns() {
  const input = element("import", "input");
  input.addEventListener("change", () => {
    const [file] = input.files ?? [];
    input.value = "";
    if (file === undefined) return;
    void attempt(PROBLEMS, async () => {
      const { name } = await importRun(file);
      await open(name);
    });
  });
}
