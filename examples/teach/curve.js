/** The curves of a training, drawn anew a few times a second at most: loss and score by epoch. */

import { element, make, percent } from "./dom.js";

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [360, 180, 44, 8, 8, 24];
/** Beyond it every second point goes. */
const MOST_POINTS = 600;
/** Of the last loss's weight in the smoothed one: steps differ by their pictures. */
const SMOOTHING = 0.15;

/** @typedef {{ x: number, y: number }} Point x: epochs */

export class Curves {
  /** @type {Point[]} */ #loss = [];
  /** @type {Point[]} */ #score = [];
  #epochs = 1;
  #smooth = NaN;
  #seen = 0;
  #every = 1;

  /** @param {number} epochs in all */
  begin(epochs) {
    [this.#loss, this.#score, this.#smooth, this.#seen, this.#every] = [[], [], NaN, 0, 1];
    this.#epochs = epochs;
  }

  /** @param {import("riffle-vision/browser").StepEvent} event */
  step({ epoch, loss }) {
    this.#smooth = Number.isNaN(this.#smooth) ? loss : this.#smooth + SMOOTHING * (loss - this.#smooth);
    if (this.#seen++ % this.#every > 0) return;
    this.#loss.push({ x: epoch, y: this.#smooth });
    if (this.#loss.length <= MOST_POINTS) return;
    this.#loss = this.#loss.filter((_, i) => i % 2 === 0);
    this.#every *= 2;
  }

  /** @param {import("riffle-vision/browser").EvaluationEvent} event */
  evaluation({ epoch, top1 }) {
    this.#score.push({ x: epoch, y: top1 });
  }

  show() {
    const highest = Math.max(...this.#loss.map(({ y }) => y), 0.1);
    element("curves").replaceChildren(
      figure(
        "Loss",
        "of the pictures it learns from",
        this.#draw("loss", this.#loss, highest, (y) => y.toFixed(2)),
      ),
      figure(
        "Score",
        "of the pictures held out",
        this.#draw("score", this.#score, 1, (y) => `${100 * y} %`),
      ),
    );
  }

  /**
   * @param {"loss" | "score"} kind
   * @param {Point[]} points
   * @param {number} highest
   * @param {(y: number) => string} written
   */
  #draw(kind, points, highest, written) {
    const last = points.at(-1);
    const said = last === undefined ? "nothing yet" : kind === "loss" ? last.y.toFixed(3) : percent(last.y);
    const drawing = svg("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      role: "img",
      "aria-label": `${kind}, now ${said}`,
    });
    const x = (/** @type {number} */ epoch) => LEFT + ((WIDTH - LEFT - RIGHT) * epoch) / this.#epochs;
    const y = (/** @type {number} */ value) => HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * value) / highest;
    for (const share of [0, 0.5, 1]) {
      const at = y(share * highest);
      drawing.append(
        svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: at, y2: at }),
        label(LEFT - 6, at + 4, "end", written(share * highest)),
      );
    }
    drawing.append(
      label(LEFT, HEIGHT - 6, "middle", "0"),
      label(WIDTH - RIGHT, HEIGHT - 6, "end", `${this.#epochs} times through`),
      svg("path", { class: `curve ${kind}`, d: path(points.map((point) => [x(point.x), y(point.y)])) }),
    );
    if (last !== undefined) {
      const dot = {
        cx: x(last.x),
        cy: y(last.y),
        r: 3.5,
        fill: `var(--${kind === "loss" ? "bar" : "score"})`,
      };
      drawing.append(svg("circle", dot));
    }
    return drawing;
  }
}

/**
 * @param {string} title
 * @param {string} more
 * @param {SVGElement} drawing
 */
function figure(title, more, drawing) {
  const made = make("figure");
  const caption = make("figcaption", "", `${title} `);
  const small = make("small", "quiet", more);
  small.style.fontWeight = "400";
  caption.append(small);
  made.append(caption, drawing);
  return made;
}

/** @param {number[][]} places */
function path(places) {
  return places.map(([x = 0, y = 0], i) => `${i === 0 ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

/**
 * @param {number} x
 * @param {number} y
 * @param {"middle" | "end"} anchor
 * @param {string} text
 */
function label(x, y, anchor, text) {
  const made = svg("text", { x, y, "text-anchor": anchor });
  made.textContent = text;
  return made;
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
