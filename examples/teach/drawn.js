/**
 * Drawn pictures, for who wants to try the page and has none: shapes of any colour on any ground, a little turned and
 * moved, so that nothing but the shape tells the classes apart. The same ones every time.
 */

import { breath, Refusal } from "./dom.js";

const SIDE = 96;

/** Two kinds told by their outline, two by their pattern; of radius 1 around (0, 0), y down. @type {Readonly<Record<string, (path: Path2D) => void>>} */
const SHAPES = {
  dots: (path) => {
    for (let x = -0.8; x < 1; x += 0.4) {
      for (let y = -0.8; y < 1; y += 0.4) {
        path.moveTo(x + 0.13, y);
        path.arc(x, y, 0.13, 0, 2 * Math.PI);
      }
    }
  },
  ring: (path) => {
    path.arc(0, 0, 1, 0, 2 * Math.PI);
    path.moveTo(0.55, 0);
    path.arc(0, 0, 0.55, 0, 2 * Math.PI, true);
  },
  star: (path) => {
    for (let i = 0; i < 10; i++) {
      const [angle, radius] = [(Math.PI * i) / 5, i % 2 === 0 ? 1 : 0.42];
      path.lineTo(radius * Math.sin(angle), -radius * Math.cos(angle));
    }
    path.closePath();
  },
  stripes: (path) => {
    for (let y = -1; y < 1; y += 0.4) path.rect(-1, y, 2, 0.2);
  },
};

export const shapes = Object.keys(SHAPES);

/**
 * @param {string} shape one of {@link shapes}
 * @param {number} number of the picture, from 0
 * @returns {Promise<File>}
 */
export async function drawShape(shape, number) {
  await breath();
  const uniform = draws(7919 * number + shapes.indexOf(shape));
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const isDark = uniform(0, 1) < 0.5;
  context.fillStyle = colour(uniform, isDark ? uniform(8, 35) : uniform(65, 92));
  context.fillRect(0, 0, SIDE, SIDE);
  context.fillStyle = colour(uniform, isDark ? uniform(62, 92) : uniform(8, 38));
  const radius = SIDE * uniform(0.36, 0.46);
  context.translate(SIDE * uniform(0.42, 0.58), SIDE * uniform(0.42, 0.58));
  context.rotate(uniform(-0.5, 0.5));
  context.scale(radius, radius);
  const path = new Path2D();
  SHAPES[shape]?.(path);
  context.fill(path);
  const blob = await new Promise((/** @type {(blob: Blob | null) => void} */ resolve) =>
    canvas.toBlob(resolve, "image/png"),
  );
  if (blob === null) throw new Refusal("the browser made no picture of what was drawn. Try again");
  return new File([blob], `${shape} ${number + 1}.png`, { type: "image/png" });
}

/**
 * @param {(low: number, high: number) => number} uniform
 * @param {number} lightness
 */
function colour(uniform, lightness) {
  return `hsl(${uniform(0, 360)} ${uniform(15, 85)}% ${lightness}%)`;
}

/**
 * Numbers that depend on the seed alone: a linear congruential generator modulo 2^32, whose high bits are used.
 *
 * @param {number} seed
 * @returns {(low: number, high: number) => number}
 */
function draws(seed) {
  let state = (seed * 2654435761) >>> 0;
  return (low, high) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return low + ((high - low) * (state >>> 8)) / 2 ** 24;
  };
}
