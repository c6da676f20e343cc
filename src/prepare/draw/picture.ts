/**
 * One drawn picture: an object of one class over a background with clutter, as SVG, and its box.
 *
 * The picture is a function of (seed, index) alone, so a set can be drawn in any order, on any number
 * of threads, and come out the same.
 *
 * Lengths are in pixels; boxes run from the first pixel the object touches to the last, from 1, as in
 * PASCAL VOC and ImageNet.
 */

import { Draws, streams } from "../../core/random.js";
import type { ObjectBox } from "../../data/pictures/augment.js";
import { type ObjectClass, objectClasses, type Point, rotate } from "./classes.js";

export interface Picture {
  /** Row of `objectClasses`. */
  readonly label: number;
  readonly svg: string;
  readonly box: ObjectBox;
  /** Of the JPEG it is to become. */
  readonly quality: number;
}

/** The picture numbered `index`; labels go round the classes. */
export function drawPicture(seed: number, index: number, size: number): Picture {
  const draws = new Draws(seed, streams.draw, 0, index);
  const label = index % objectClasses.length;
  const object = objectClasses[label] as ObjectClass;

  const { ground, figure, ink } = palette(draws);
  const outlines = place(object.outlines(draws), size, draws);
  const points = outlines.flat();
  const tile = 2 * Math.round((size / 2) * draws.uniform(0.14, 0.22));
  const turn = Math.round(draws.uniform(0, 360));
  const path = outlines
    .map((line) => `M${line.map((p) => `${fixed(p.x)} ${fixed(p.y)}`).join("L")}Z`)
    .join("");

  const svg =
    `<svg xmlns="http://www.w3.org/2000/svg" width="${size}" height="${size}"><defs>` +
    gradient("ground", ground, draws) +
    gradient("figure", figure, draws) +
    (object.tile
      ? `<pattern id="tile" width="${tile}" height="${tile}" patternUnits="userSpaceOnUse" ` +
        `patternTransform="rotate(${turn})">${object.tile(tile, ink)}</pattern>`
      : "") +
    `</defs><rect width="${size}" height="${size}" fill="url(#ground)"/>` +
    clutter(2 + draws.below(5), size, draws) +
    `<path fill-rule="evenodd" fill="url(#figure)" d="${path}"/>` +
    (object.tile ? `<path fill="url(#tile)" d="${path}"/>` : "") +
    clutter(draws.below(3), size, draws) +
    `</svg>`;
  return { label, svg, box: boxAround(points, size), quality: 70 + draws.below(23) };
}

/** Turns, stretches and moves outlines of radius 1 to lie within the picture. */
function place(outlines: Point[][], size: number, draws: Draws): Point[][] {
  const radius = size * draws.uniform(0.34, 0.48);
  const stretch = Math.sqrt(draws.uniform(0.8, 1 / 0.8));
  const [before, after] = [draws.uniform(0, 2 * Math.PI), draws.uniform(0, 2 * Math.PI)];
  const turned = outlines.map((line) =>
    line.map((p) => {
      const q = rotate(p, before);
      return rotate({ x: q.x * radius * stretch, y: (q.y * radius) / stretch }, after);
    }),
  );
  const box = extent(turned.flat());
  const dx = draws.uniform(Math.min(-box.left, size - box.right), Math.max(-box.left, size - box.right));
  const dy = draws.uniform(Math.min(-box.top, size - box.bottom), Math.max(-box.top, size - box.bottom));
  return turned.map((line) => line.map((p) => ({ x: p.x + dx, y: p.y + dy })));
}

/** Any hues, but the figure is at least 25 points of lightness off the ground, and the ink off the figure. */
function palette(draws: Draws): { ground: readonly string[]; figure: readonly string[]; ink: string } {
  const dark = draws.uniform() < 0.5;
  const groundLight = dark ? draws.uniform(10, 35) : draws.uniform(65, 90);
  const figureLight = dark ? draws.uniform(groundLight + 25, 88) : draws.uniform(12, groundLight - 25);
  const inkLight =
    figureLight > 50 ? draws.uniform(5, figureLight - 30) : draws.uniform(figureLight + 30, 95);
  return {
    ground: [colour(groundLight - 6, draws), colour(groundLight + 6, draws)],
    figure: [colour(figureLight - 4, draws), colour(figureLight + 4, draws)],
    ink: colour(inkLight, draws),
  };
}

/** Short strokes and small discs in any colour, at most a tenth of the picture long. */
function clutter(count: number, size: number, draws: Draws): string {
  let svg = "";
  for (let i = 0; i < count; i++) {
    const [x, y] = [draws.uniform(0, size), draws.uniform(0, size)];
    const paint = colour(draws.uniform(10, 90), draws);
    const reach = size * draws.uniform(0.02, 0.1);
    if (draws.uniform() < 0.5) {
      svg += `<circle cx="${fixed(x)}" cy="${fixed(y)}" r="${fixed(reach / 2)}" fill="${paint}"/>`;
    } else {
      const end = rotate({ x: reach, y: 0 }, draws.uniform(0, 2 * Math.PI));
      svg +=
        `<path stroke="${paint}" stroke-width="${fixed(size * 0.02)}" ` +
        `d="M${fixed(x)} ${fixed(y)}l${fixed(end.x)} ${fixed(end.y)}"/>`;
    }
  }
  return svg;
}

function gradient(id: string, [from, to]: readonly string[], draws: Draws): string {
  return (
    `<linearGradient id="${id}" gradientTransform="rotate(${Math.round(draws.uniform(0, 90))})">` +
    `<stop stop-color="${from}"/><stop offset="1" stop-color="${to}"/></linearGradient>`
  );
}

function colour(lightness: number, draws: Draws): string {
  const [hue, saturation] = [draws.uniform(0, 360), draws.uniform(15, 85)];
  return `hsl(${Math.round(hue)},${Math.round(saturation)}%,${Math.round(lightness)}%)`;
}

function boxAround(points: readonly Point[], size: number): ObjectBox {
  const { left, top, right, bottom } = extent(points);
  const first = (v: number): number => Math.max(1, Math.floor(v) + 1);
  const last = (v: number): number => Math.min(size, Math.ceil(v));
  return { xmin: first(left), ymin: first(top), xmax: last(right), ymax: last(bottom) };
}

function extent(points: readonly Point[]): { left: number; top: number; right: number; bottom: number } {
  const [xs, ys] = [points.map((p) => p.x), points.map((p) => p.y)];
  return { left: Math.min(...xs), top: Math.min(...ys), right: Math.max(...xs), bottom: Math.max(...ys) };
}

/** Two decimals: the same text, so the same pixels, whatever the last bits of a sine. */
function fixed(value: number): string {
  return value.toFixed(2);
}
