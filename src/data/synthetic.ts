/**
 * A data set without data: pictures of noise, for measuring speed and for trying a command line.
 *
 * Sample s is picture s mod 64 of a pool drawn from the seed, with label s mod classes, so nothing can be learned from
 * it but by heart.
 */

import { createHash } from "node:crypto";

import { Draws, streams } from "../core/random.js";
import type { Dataset } from "./dataset.js";

interface SyntheticOptions {
  readonly classes: number;
  readonly size: number;
  /** Height and width of the pictures. */
  readonly imageSize: number;
  readonly seed: number;
}

const POOL = 64;

export function syntheticSet({ classes, size, imageSize, seed }: SyntheticOptions): Dataset {
  const pool = new Map<number, Uint8Array>();
  const picture = (place: number): Uint8Array => {
    let pixels = pool.get(place);
    if (pixels === undefined) {
      const draws = new Draws(seed, streams.draw, 0, place);
      const words = Uint32Array.from({ length: Math.ceil((imageSize ** 2 * 3) / 4) }, () => draws.word());
      pixels = new Uint8Array(words.buffer, 0, imageSize ** 2 * 3);
      pool.set(place, pixels);
    }
    return pixels;
  };
  return {
    classes: Array.from({ length: classes }, (_, label) => String(label)),
    size,
    label: (sample) => sample % classes,
    name: (sample) => `synthetic#${sample}`,
    read: (sample) =>
      Promise.resolve({
        kind: "pixels",
        data: picture(sample % POOL),
        width: imageSize,
        height: imageSize,
        channels: 3,
      }),
    fingerprint: createHash("sha256")
      .update(`synthetic ${classes} ${size} ${imageSize} ${seed}`)
      .digest("hex"),
  };
}
