/** The curves of a training, drawn anew a few times a second at most: loss and score by epoch. */

import { element, make, percent } from "./dom.js";

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [360, 180, 44, 8, 8, 24];
/** Beyond it every second point goes. */
const MOST_POINTS = 600;
/** Of the last loss's weight in the smoothed one: steps differ by their pictures. */
const SMOOTHING = 0.15;

/** @typedef {{ x: number, y: number }} Point x: epochs */

export class Curves {
  #loss = new Curve("loss", "Loss", "of the pictures it learns from", (y) => y.toFixed(2));
  #score = new Curve("score", "Score", "of the pictures held out", (y) => `${Math.round(100 * y)} %`);
  #smooth = NaN;
  #highest = 0;

  /** @param {number} epochs in all */
  begin(epochs) {
    [this.#smooth, this.#highest] = [NaN, 0.1];
    this.#loss.begin(epochs);
    this.#score.begin(epochs);
    element("curves").replaceChildren(this.#loss.figure, this.#score.figure);
  }

  /** @param {import("riffle-vision/browser").StepEvent} event */
  step({ epoch, loss, decayLoss }) {
    // What the weights' size adds says nothing of the pictures.
    const own = loss - decayLoss;
    this.#smooth = Number.isNaN(this.#smooth) ? own : this.#smooth + SMOOTHING * (own - this.#smooth);
    this.#highest = Math.max(this.#highest, this.#smooth);
    this.#loss.add({ x: epoch, y: this.#smooth });
  }

  /** @param {import("riffle-vision/browser").EvaluationEvent} event */
  evaluation({ epoch, top1 }) {
    this.#score.add({ x: epoch, y: top1 });
  }

  show() {
    this.#loss.show(this.#highest);
    this.#score.show(1);
  }
}

/** One of them; what is drawn once stays, so that showing it again costs little. */
class Curve {
  figure = make("figure");
  #drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  #path;
  #dot;
  #end = text(WIDTH - RIGHT, HEIGHT - 6, "end");
  /** @type {{ share: number, label: SVGElement }[]} */
  #grid = [];
  /** @type {Point[]} */
  #points = [];
  #epochs = 1;
  #seen = 0;
  #every = 1;

  /**
   * @param {"loss" | "score"} kind
   * @param {string} title
   * @param {string} more
   * @param {(y: number) => string} written
   */
  constructor(kind, title, more, written) {
    this.kind = kind;
    this.written = written;
    const caption = make("figcaption", "", `${title} `);
    caption.append(make("small", "quiet", more));
    this.#path = svg("path", { class: `curve ${kind}` });
    this.#dot = svg("circle", { class: `dot ${kind}`, r: 3.5 });
    for (const share of [0, 0.5, 1]) {
      const y = HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share;
      const label = text(LEFT - 6, y + 4, "end");
      this.#grid.push({ share, label });
      this.#drawing.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y }), label);
    }
    const start = text(LEFT, HEIGHT - 6, "middle");
    start.textContent = "0";
    this.#drawing.append(start, this.#end, this.#path, this.#dot);
    this.figure.append(caption, this.#drawing);
  }

  /** @param {number} epochs */
  begin(epochs) {
    [this.#points, this.#seen, this.#every, this.#epochs] = [[], 0, 1, epochs];
    this.#end.textContent = `${epochs} times through`;
    this.show(1);
  }

  /** @param {Point} point */
  add(point) {
    if (this.#seen++ % this.#every > 0) return;
    this.#points.push(point);
    if (this.#points.length <= MOST_POINTS) return;
    this.#points = this.#points.filter((_, i) => i % 2 === 0);
    this.#every *= 2;
  }

  /** @param {number} highest of the axis */
  show(highest) {
    const places = this.#points.map(({ x, y }) => [
      LEFT + ((WIDTH - LEFT - RIGHT) * x) / this.#epochs,
      HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * y) / highest,
    ]);
    const line = places.map(([x = 0, y = 0], i) => `${i === 0 ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`);
    this.#path.setAttribute("d", line.join(""));
    const [x, y] = places.at(-1) ?? [-9, -9];
    this.#dot.setAttribute("cx", String(x));
    this.#dot.setAttribute("cy", String(y));
    for (const { share, label } of this.#grid) label.textContent = this.written(share * highest);
    const last = this.#points.at(-1);
    const said =
      last === undefined ? "nothing yet" : this.kind === "loss" ? last.y.toFixed(3) : percent(last.y);
    this.#drawing.setAttribute("aria-label", `${this.kind}, now ${said}`);
  }
}

/**
 * @param {number} x
 * @param {number} y
 * @param {"middle" | "end"} anchor
 */
function text(x, y, anchor) {
  return svg("text", { x, y, "text-anchor": anchor });
}

/**
 * @param {string} tag
 * @param {Readonly<Record<string, string | number>>} attributes
 */
function svg(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  return made;
}
