/**
 * The ten classes of drawn pictures: seven shapes told apart by outline, three textures told apart by fill.
 *
 * No class is given away by colour, size, place or angle: those are drawn alike for all ten, so a
 * network has to look at form. Flipping and cropping a picture does not change its class.
 *
 * Outlines are in units of the object's radius, centred on (0, 0), y down.
 */

import type { Draws } from "../../core/random.js";

export interface Point {
  readonly x: number;
  readonly y: number;
}

export interface ObjectClass {
  readonly name: string;
  /** One closed line or, for the ring, two: what lies between them is the object. */
  outlines(draws: Draws): Point[][];
  /**
   * A tile to fill the outline with, as SVG over a square `side` pixels wide with `ink` on a ground
   * already painted; absent where the fill is plain.
   */
  readonly tile?: (side: number, ink: string) => string;
}

/** Sorted by name, as an image folder sorts them. */
export const objectClasses: readonly ObjectClass[] = [
  {
    name: "checks",
    outlines: blob,
    tile: (s, ink) =>
      `<path fill="${ink}" d="M0 0h${s / 2}v${s / 2}h${-s / 2}z M${s / 2} ${s / 2}h${s / 2}v${s / 2}h${-s / 2}z"/>`,
  },
  { name: "crescent", outlines: (draws) => [crescent(draws.uniform(0.35, 0.5), draws.uniform(0.75, 0.85))] },
  { name: "cross", outlines: (draws) => [plus(draws.uniform(0.24, 0.36))] },
  {
    name: "dots",
    outlines: blob,
    tile: (s, ink) => `<circle cx="${s / 2}" cy="${s / 2}" r="${s * 0.3}" fill="${ink}"/>`,
  },
  { name: "flower", outlines: (draws) => [petals(6 + draws.below(3), draws.uniform(0.14, 0.2))] },
  { name: "ring", outlines: (draws) => [circle(1), circle(draws.uniform(0.45, 0.65))] },
  { name: "square", outlines: () => [regular(4)] },
  { name: "star", outlines: (draws) => [star(5, draws.uniform(0.36, 0.46))] },
  {
    name: "stripes",
    outlines: blob,
    tile: (s, ink) => `<rect width="${s}" height="${s / 2}" fill="${ink}"/>`,
  },
  { name: "triangle", outlines: () => [regular(3)] },
];

/** A lumpy disc, the outline of every texture. */
function blob(draws: Draws): Point[][] {
  const lumps = [2, 3, 5].map((waves) => ({
    waves,
    height: draws.uniform(0, 0.1),
    phase: draws.uniform(0, 2 * Math.PI),
  }));
  return [
    polar(
      48,
      (angle) => 0.85 + lumps.reduce((r, l) => r + l.height * Math.sin(l.waves * angle + l.phase), 0),
    ),
  ];
}

function circle(radius: number): Point[] {
  return polar(48, () => radius);
}

function petals(count: number, depth: number): Point[] {
  return polar(96, (angle) => 1 - depth + depth * Math.cos(count * angle));
}

function regular(corners: number): Point[] {
  return polar(corners, () => 1);
}

function star(points: number, inner: number): Point[] {
  return polar(2 * points, (_, i) => (i % 2 === 0 ? 1 : inner));
}

/** A disc of radius 1 less a disc of `radius` whose centre lies `offset` to the right. */
function crescent(offset: number, radius: number): Point[] {
  // Where the two circles meet.
  const x = (1 + offset ** 2 - radius ** 2) / (2 * offset);
  const y = Math.sqrt(1 - x ** 2);
  const outer = arc({ x: 0, y: 0 }, 1, Math.atan2(y, x));
  const inner = arc({ x: offset, y: 0 }, radius, Math.atan2(y, x - offset));
  return [...outer, ...inner.reverse()];
}

/** From `angle` the long way round to -angle. */
function arc(centre: Point, radius: number, angle: number): Point[] {
  const steps = 32;
  return Array.from({ length: steps + 1 }, (_, i) => {
    const at = angle + ((2 * Math.PI - 2 * angle) * i) / steps;
    return { x: centre.x + radius * Math.cos(at), y: centre.y + radius * Math.sin(at) };
  });
}

/** An upright cross whose arms are 2 * `half` wide and reach to radius 1. */
function plus(half: number): Point[] {
  const quarter = [
    { x: half, y: -half },
    { x: half, y: -1 },
    { x: -half, y: -1 },
  ];
  return [0, 1, 2, 3].flatMap((turn) => quarter.map((p) => rotate(p, (-turn * Math.PI) / 2)));
}

function polar(count: number, radius: (angle: number, i: number) => number): Point[] {
  return Array.from({ length: count }, (_, i) => {
    const angle = (2 * Math.PI * i) / count;
    const r = radius(angle, i);
    return { x: r * Math.cos(angle), y: r * Math.sin(angle) };
  });
}

export function rotate(p: Point, angle: number): Point {
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  return { x: p.x * cos - p.y * sin, y: p.x * sin + p.y * cos };
}
