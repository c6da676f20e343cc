/** Training as one sees it: what is asked for, how far it is, what it takes pictures for, stop and go on. */

import { labelledPictures, picturesAreKept, takesDrops } from "./classes.js";
import { Curves } from "./curve.js";
import { attempt, count, duration, element, inWords, make, percent, Refusal, say } from "./dom.js";
import { clearExamples, showExamples, startExamples } from "./examples.js";
import { onRun, openedRun, useRun } from "./open-run.js";
import { listRuns, train } from "./riffle.js";

/** @typedef {import("riffle-vision/browser").BrowserEvent} BrowserEvent */

/** Milliseconds between two drawings. */
const SHOW_EVERY = 300;
const MOST_NOTES = 100;

const curves = new Curves();
/** @type {AbortController | undefined} */
let control;
/** Of the run whose curves are shown. */
let shownRun = "";
/** @type {Partial<{ step: import("riffle-vision/browser").StepEvent, evaluation: import("riffle-vision/browser").EvaluationEvent, saved: number, epochs: number }>} */
let now = {};
/** @type {File | undefined} */
let weights;
/** @type {() => unknown} */
let ended;

export const isTraining = () => control !== undefined;

/** Begins with the first name that no run has. */
export async function proposeName() {
  const taken = new Set((await listRuns()).map(({ name }) => name));
  let i = 1;
  while (taken.has(`run ${i}`)) i++;
  const input = element("run-name", "input");
  if (input.value === "" || taken.has(input.value)) input.value = `run ${i}`;
}

async function begin() {
  if (element("begin", "select").value === "file" && weights === undefined) {
    throw new Refusal(
      "no weights were given to begin with. Drop a file of them, or begin with nothing learned",
    );
  }
  const pictures = labelledPictures();
  const name = element("run-name", "input").value.trim();
  const [imageSize, epochs] = [element("image-size", "select").value, element("epochs", "input").value];
  const isGiven = weights !== undefined && element("begin", "select").value === "file";
  const usual = isGiven ? {} : { epochs: usualEpochs(pictures.length), learningRate: RATE };
  await conduct((signal) =>
    train({
      name,
      pictures,
      signal,
      onEvent: hear,
      ...usual,
      ...(isGiven ? { from: weights } : {}),
      ...(imageSize === "" ? {} : { imageSize: Number(imageSize) }),
      ...(epochs === "" ? {} : { epochs: Number(epochs) }),
    }),
  );
}

/**
 * From nothing learned: so many times through, at this rate, that the drawn shapes are learned in half a minute (96.3, 96.3 and 98.8 %
 * of 80 held out at three seeds). Riffle's own choice takes twice as long at twice the rate, which pays with pictures that are harder.
 */
const RATE = 0.1;
const usualEpochs = (/** @type {number} */ pictures) =>
  Math.max(10, Math.min(100, Math.round(12_000 / pictures)));

/** Goes on with a run where it was stopped. @param {import("riffle-vision/browser").Run} run */
export async function goOn(run) {
  await conduct((signal) => run.resume({ signal, onEvent: hear }));
}

/**
 * One training from its start to its end, whichever that is.
 *
 * @param {(signal: AbortSignal) => Promise<import("riffle-vision/browser").TrainResult>} start
 */
async function conduct(start) {
  if (control !== undefined) throw new Refusal("something is being trained. Stop it first");
  control = new AbortController();
  element("notes").replaceChildren();
  element("notes").hidden = true;
  now = {};
  showButtons();
  stands("Starting");
  try {
    const { run, stopped, best, step } = await start(control.signal);
    picturesAreKept();
    useRun(run);
    const score = best === null ? "" : `, ${percent(best.top1)} of the held-out pictures right at its best`;
    stands(stopped ? `Stopped after ${count(step, "step")}; all is saved${score}` : `Done${score}`);
  } catch (error) {
    stands("");
    throw error;
  } finally {
    control = undefined;
    show();
    showButtons();
    void ended();
  }
}

/** @param {BrowserEvent} event */
function hear(event) {
  switch (event.event) {
    case "preparing":
      stands(PREPARING[event.what] + (event.total > 0 ? ` ${event.done} of ${event.total}` : ""));
      break;
    case "left out":
      note(`Left out: ${inWords(event)}`);
      break;
    case "note":
      note(event.what);
      break;
    case "plan":
      plan(event);
      break;
    case "step":
      if (now.step === undefined) stands("Learning");
      now.step = event;
      curves.step(event);
      break;
    case "evaluation":
      now.evaluation = event;
      curves.evaluation(event);
      showExamples(shownRun, event.examples);
      break;
    case "saved":
      now.saved = event.step;
      picturesAreKept();
      break;
  }
  showSoon();
}

/** @type {Readonly<Record<string, string>>} */
const PREPARING = {
  pictures: "Reading pictures",
  features: "Looking at pictures",
  solving: "Making the classifier",
};

/** @param {string} text */
function note(text) {
  const list = element("notes");
  if (list.children.length < MOST_NOTES) list.append(make("li", "", text));
  list.hidden = false;
}

/** @param {import("riffle-vision/browser").PlanEvent} event */
function plan(event) {
  const { run, classes, network, imageSize, batchSize, steps, stepsDone, epochs, threads, isolated } = event;
  if (event.begins !== "resumed" || run !== shownRun) {
    curves.begin(epochs);
    clearExamples();
  }
  shownRun = run;
  now.epochs = epochs;
  const [learned, held] = [
    classes.reduce((sum, { train }) => sum + train, 0),
    classes.reduce((sum, { heldOut }) => sum + heldOut, 0),
  ];
  const machine = isolated ? count(threads, "thread") : "1 thread, for the page is not isolated";
  element("plan").textContent =
    `${network}, ${imageSize} pixels. ${count(learned, "picture")} to learn from, ${held} held out. ` +
    `${count(steps, "step")} of ${count(batchSize, "picture")}` +
    `${stepsDone > 0 ? `, ${stepsDone} of them done` : ""}. ${machine}.`;
  element("progress").hidden = false;
}

/** Where each is written, by its title. @type {Map<string, HTMLElement>} */
const figures = new Map();

/** @param {string} title */
function addFigure(title) {
  const figure = make("div");
  const text = make("dd");
  figure.append(make("dt", "", title), text);
  element("figures").append(figure);
  figures.set(title, text);
  return text;
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let showing;

function showSoon() {
  showing ??= setTimeout(show, SHOW_EVERY);
}

function show() {
  clearTimeout(showing);
  showing = undefined;
  const { step, evaluation, saved, epochs } = now;
  const bar = element("bar", "progress");
  if (step === undefined) return;
  [bar.max, bar.value] = [step.steps, step.step];
  const shown = {
    "times through": `${step.epoch.toFixed(1)} of ${epochs}`,
    "time left": control === undefined ? "-" : duration(step.secondsLeft),
    "pictures a second": step.imagesPerSecond.toFixed(step.imagesPerSecond < 100 ? 1 : 0),
    loss: (step.loss - step.decayLoss).toFixed(3),
    "score, held out": evaluation === undefined ? "-" : percent(evaluation.top1),
    "saved up to step": saved === undefined ? "-" : String(saved),
  };
  for (const [title, text] of Object.entries(shown)) {
    const there = figures.get(title) ?? addFigure(title);
    if (there.textContent !== text) there.textContent = text;
  }
  curves.show();
}

/** @param {string} text */
function stands(text) {
  const place = element("stands");
  if (place.textContent !== text) place.textContent = text;
}

function showButtons() {
  const run = openedRun();
  element("train", "button").disabled = isTraining();
  element("stop").hidden = !isTraining();
  element("stop", "button").disabled = control?.signal.aborted === true;
  const goes = !isTraining() && run?.resumable === true;
  element("go-on").hidden = !goes;
  element("go-on").textContent = goes ? `Go on with ${run?.name}` : "Go on";
}

/** @param {File | undefined} file */
function takeWeights(file) {
  weights = file;
  element("weights-name").textContent = file === undefined ? "Drop a file of weights here" : file.name;
}

/** @param {() => unknown} onEnd hears of the end of each training, whatever came of it */
export function startTraining(onEnd) {
  ended = onEnd;
  element("train-form", "form").addEventListener("submit", (event) => {
    event.preventDefault();
    void attempt("train-problem", begin);
  });
  element("stop").addEventListener("click", () => {
    control?.abort();
    stands("Stopping after this step, and saving");
    showButtons();
  });
  element("go-on").addEventListener("click", () => {
    const run = openedRun();
    if (run !== undefined) void attempt("train-problem", () => goOn(run));
  });
  element("begin", "select").addEventListener("change", (event) => {
    const { value } = /** @type {HTMLSelectElement} */ (event.target);
    element("weights").hidden = value !== "file";
    say("train-problem");
  });
  element("weights-file", "input").addEventListener("change", (event) => {
    takeWeights(/** @type {HTMLInputElement} */ (event.target).files?.[0]);
  });
  takesDrops(element("weights"), async (transfer) => takeWeights(transfer.files[0]));
  startExamples();
  onRun(showButtons);
  addEventListener("beforeunload", (event) => {
    if (isTraining()) event.preventDefault();
  });
}
