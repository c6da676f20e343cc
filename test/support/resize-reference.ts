/**
 * The written definition of native/decode/resize.cc: one picture through one transform, pixel by pixel, unrounded.
 * Slow, and what the tests believe.
 */

import type { Transform } from "../../src/data/pictures/augment.js";
import type { Pixels } from "../../src/data/pictures/render.js";

/** [size, size, 3], in 0..255; the addon rounds these to 8 bits, halves up. */
export function resizeReference(pixels: Pixels, transform: Transform): Float64Array {
  const { box, resized, window, size, filter, flip, shift, grayscale } = transform;
  const weights = filter === "tensorflow" ? lerp : triangle;
  const columns = weights(box.width, resized.width);
  const rows = weights(box.height, resized.height);
  const out = new Float64Array(size * size * 3);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const rgb = [0, 0, 0];
      for (const [dy, wy] of rows(window.y + y)) {
        for (const [dx, wx] of columns(window.x + x)) {
          const column = box.x + (flip ? box.width - 1 - dx : dx);
          const at = ((box.y + dy) * pixels.width + column) * pixels.channels;
          for (let c = 0; c < 3; c++) {
            rgb[c] =
              (rgb[c] as number) + wy * wx * (pixels.data[at + (pixels.channels === 3 ? c : 0)] as number);
          }
        }
      }
      const shifted = shift.some((s) => s !== 0)
        ? rgb.map((value, c) => Math.min(Math.max(value + 255 * (shift[c] as number), 0), 255))
        : rgb;
      const [r, g, b] = shifted as [number, number, number];
      // TensorFlow's rgb_to_grayscale.
      const gray = 0.2989 * r + 0.587 * g + 0.114 * b;
      out.set(grayscale ? [gray, gray, gray] : [r, g, b], (y * size + x) * 3);
    }
  }
  return out;
}

/** Source positions and their weights for an output position. */
type Weights = (position: number) => readonly (readonly [source: number, weight: number])[];

/** TensorFlow 1: the position is found in f32, and the top left pixel's centre stays where it is. */
function lerp(length: number, resized: number): Weights {
  const scale = Math.fround(length / resized);
  return (position) => {
    const at = Math.fround(position * scale);
    const lower = Math.min(Math.floor(at), length - 1);
    const share = Math.fround(at - lower);
    return [
      [lower, 1 - share],
      [Math.min(lower + 1, length - 1), share],
    ];
  };
}

/** Pillow: a triangle over as many source pixels as one output pixel covers on either side, cut at the box. */
function triangle(length: number, resized: number): Weights {
  const scale = length / resized;
  const support = Math.max(scale, 1);
  return (position) => {
    const centre = (position + 0.5) * scale;
    const under: [number, number][] = [];
    for (let source = 0; source < length; source++) {
      const weight = 1 - Math.abs(source + 0.5 - centre) / support;
      if (weight > 0) under.push([source, weight]);
    }
    const total = under.reduce((sum, [, weight]) => sum + weight, 0);
    return under.map(([source, weight]) => [source, weight / total]);
  };
}
