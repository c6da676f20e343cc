/** Held-out pictures and what the network takes them for, as it learns; and where it looks in them. */

import { fileOf, thumbOf } from "./classes.js";
import { attempt, element, make } from "./dom.js";
import { drawHeat } from "./looking.js";
import { openRun } from "./riffle.js";

/** @typedef {import("riffle-vision/browser").Example} Example */

const looks = element("looks", "input");

/** What is shown, by the picture's name. @type {Map<string, { canvas: HTMLCanvasElement, text: HTMLElement, guess: string }>} */
const shown = new Map();
let runName = "";

export function clearExamples() {
  shown.clear();
  element("examples").replaceChildren();
  element("examples-part").hidden = true;
}

/**
 * @param {string} run its name
 * @param {readonly Example[]} examples the same ones every time
 */
export function showExamples(run, examples) {
  if (run !== runName) clearExamples();
  runName = run;
  element("examples-part").hidden = examples.length === 0;
  for (const { name, label, guess, probability } of examples) {
    const { text } = Object.assign(shown.get(name) ?? addCard(name), { guess });
    const isRight = guess === label;
    const mark = isRight ? "✓" : "✗";
    const said = `${mark} ${guess} ${Math.round(100 * probability)} %`;
    text.replaceChildren(make("div", isRight ? "right" : "wrong", said));
    if (!isRight) text.append(make("div", "quiet", `is ${label}`));
  }
  void attempt("train-problem", showLooks);
}

/** @param {string} name */
function addCard(name) {
  const card = make("article");
  const made = { canvas: make("canvas"), text: make("div"), guess: "" };
  card.title = name;
  card.append(made.canvas, made.text);
  element("examples").append(card);
  shown.set(name, made);
  drawThumb(name, made.canvas);
  return made;
}

/**
 * @param {string} name
 * @param {HTMLCanvasElement} canvas
 */
function drawThumb(name, canvas) {
  const thumb = thumbOf(name);
  canvas.width = canvas.height = thumb?.width ?? 1;
  if (thumb !== undefined) canvas.getContext("2d")?.drawImage(thumb, 0, 0);
}

let isLooking = false;

/** Of the weights that are kept, so a little behind those that learn. */
async function showLooks() {
  if (!looks.checked || isLooking || shown.size === 0) return;
  isLooking = true;
  const run = await openRun(runName);
  try {
    for (const [name, { canvas, guess }] of shown) {
      const file = fileOf(name);
      if (file === undefined) continue;
      const look = await run.explain(file, { class: guess });
      // The box was unticked meanwhile.
      if (!looks.checked) break;
      drawHeat(canvas, look);
    }
  } finally {
    run.close();
    isLooking = false;
  }
}

export function startExamples() {
  looks.addEventListener("change", () => {
    if (looks.checked) void attempt("train-problem", showLooks);
    else for (const [name, { canvas }] of shown) drawThumb(name, canvas);
  });
}
