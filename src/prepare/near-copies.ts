/**
 * Finds pictures of sets that look the same: copies, and the same picture saved again, larger or smaller, lighter or darker.
 * A part cut out of another picture, or its mirror image, is not found.
 *
 * Of every picture a gist is kept: 16 x 16 gray values, and 64 bits that say of neighbouring places which is lighter. Bits that differ
 * in at most {@link MOST_BITS} places make a pair that is looked at; it is one where the gists' correlation is at least
 * {@link LEAST_CORRELATION} and the shapes agree. What is nearly of one colour is like everything, and is in no pair.
 *
 * Source of the bits: Krawetz 2013, "Kind of Like That" (dHash).
 */

import { setImmediate } from "node:timers/promises";

import type { Dataset } from "../data/dataset.js";
import { everyPicture } from "../data/loader.js";
import { wholePicture } from "../data/pictures/augment.js";

/** Of 64. The same picture at JPEG quality 40 and half its size is within 6. */
const MOST_BITS = 10;
const LEAST_CORRELATION = 0.98;
/** Width by height, of one as a multiple of the other's. */
const SHAPE = 1.05;
/** Standard deviation of the gray values, 0 to 255. */
const FLAT = 4;
/** Mean of the gray values. */
const DARK = 16;

/** A side of what is kept of a picture. */
const SIDE = 16;
const PLACES = SIDE * SIDE;
const BATCH = 64;
/** Pictures that are compared with all behind them in one go. */
const ROWS = 256;

/** What a set's pictures look like, in the order in which they were read; those that do not decode are left out. */
export class Gists {
  readonly samples: number[] = [];
  readonly widths: number[] = [];
  readonly heights: number[] = [];
  /** 0 to 255 each. */
  readonly means: number[] = [];
  readonly deviations: number[] = [];
  /** Two words a picture. */
  readonly bits: number[] = [];
  /** [pictures, places], each of mean 0 and length 1. */
  readonly places: Float32Array;

  constructor(pictures: number) {
    this.places = new Float32Array(pictures * PLACES);
  }

  get count(): number {
    return this.samples.length;
  }

  /** @param gray [SIDE, SIDE] */
  add(sample: number, size: { readonly width: number; readonly height: number }, gray: Float32Array): void {
    const mean = gray.reduce((sum, value) => sum + value, 0) / PLACES;
    const length = Math.sqrt(gray.reduce((sum, value) => sum + (value - mean) ** 2, 0));
    const own = this.places.subarray(this.count * PLACES, (this.count + 1) * PLACES);
    gray.forEach((value, i) => (own[i] = length > 0 ? (value - mean) / length : 0));
    this.bits.push(...differences(gray));
    this.means.push(mean);
    this.deviations.push(length / SIDE);
    this.widths.push(size.width);
    this.heights.push(size.height);
    this.samples.push(sample);
  }

  /** Nearly of one colour: like every other such picture. */
  isFlat(picture: number): boolean {
    return (this.deviations[picture] as number) < FLAT;
  }

  /** Nearly black. */
  isDark(picture: number): boolean {
    return (this.means[picture] as number) < DARK;
  }
}

/** @throws the signal's reason. `progress` hears of pictures done. */
export async function gistsOf(
  set: Dataset,
  {
    signal,
    progress,
  }: { readonly signal?: AbortSignal | undefined; readonly progress?: (done: number) => void } = {},
): Promise<Gists> {
  const gists = new Gists(set.size);
  const sizes = new Map<number, { readonly width: number; readonly height: number }>();
  const source = everyPicture(set, {
    batch: BATCH,
    imageSize: SIDE,
    maxBadImages: Infinity,
    samples: Array.from({ length: set.size }, (_, sample) => sample),
    transform: (sample, { width, height }) => {
      sizes.set(sample, { width, height });
      return wholePicture({ width, height }, SIDE, "pillow", { fastDct: true, scaled: true });
    },
  });
  try {
    for await (const batch of source) {
      const { images, count, samples } = batch;
      signal?.throwIfAborted();
      for (let i = 0; i < count; i++) {
        const sample = samples[i] as number;
        gists.add(sample, sizes.get(sample) ?? { width: 0, height: 0 }, grayOf(images, i));
        sizes.delete(sample);
      }
      batch.release();
      progress?.((samples[count - 1] ?? 0) + 1);
    }
  } finally {
    await source.close();
  }
  return gists;
}

/** A picture of one of the sets. */
export interface Found {
  /** Which of the sets, and which of its gists. */
  readonly set: number;
  readonly picture: number;
}

/** Groups of pictures of which each looks like another one, in the order of sets and pictures. @throws the signal's reason */
export async function lookalikes(sets: readonly Gists[], signal?: AbortSignal): Promise<Found[][]> {
  const all = sets.flatMap((gists, set) =>
    Array.from({ length: gists.count }, (_, picture) => ({ set, picture })).filter(
      ({ picture }) => !gists.isFlat(picture),
    ),
  );
  const of = ({ set }: Found): Gists => sets[set] as Gists;
  const words = (word: 0 | 1): Int32Array =>
    Int32Array.from(all, (found) => of(found).bits[2 * found.picture + word] as number);
  const [first, second] = [words(0), words(1)];
  const groups = new Groups(all.length);
  for (let a = 0; a < all.length; a++) {
    if (a % ROWS === 0) {
      await setImmediate(); // so that Ctrl-C is heard
      signal?.throwIfAborted();
    }
    const [bits0, bits1] = [first[a] as number, second[a] as number];
    for (let b = a + 1; b < all.length; b++) {
      if (ones(bits0 ^ (first[b] as number)) + ones(bits1 ^ (second[b] as number)) > MOST_BITS) continue;
      const pair = [all[a] as Found, all[b] as Found] as const;
      if (isAlike(pair, of)) groups.join(a, b);
    }
  }
  return groups.all().map((members) => members.map((member) => all[member] as Found));
}

function isAlike([a, b]: readonly [Found, Found], of: (found: Found) => Gists): boolean {
  const shape = (found: Found): number =>
    (of(found).widths[found.picture] as number) / (of(found).heights[found.picture] as number);
  const ratio = shape(a) / shape(b);
  if (!(ratio <= SHAPE && ratio >= 1 / SHAPE)) return false;
  let correlation = 0;
  for (let i = 0; i < PLACES; i++) {
    correlation +=
      (of(a).places[a.picture * PLACES + i] as number) * (of(b).places[b.picture * PLACES + i] as number);
  }
  return correlation >= LEAST_CORRELATION;
}

/** ITU-R BT.601's luma. */
function grayOf(images: Uint8Array, image: number): Float32Array {
  const at = image * PLACES * 3;
  const value = (i: number): number => images[at + i] as number;
  return Float32Array.from(
    { length: PLACES },
    (_, i) => 0.299 * value(3 * i) + 0.587 * value(3 * i + 1) + 0.114 * value(3 * i + 2),
  );
}

/** Of 8 rows of 9 places each, whether a place is lighter than the one before it: 64 bits in two words. */
function differences(gray: Float32Array): [number, number] {
  const words: [number, number] = [0, 0];
  for (let row = 0; row < 8; row++) {
    const at = (column: number): number => mean(gray, row / 8, (row + 1) / 8, column / 9, (column + 1) / 9);
    for (let column = 0; column < 8; column++) {
      if (at(column + 1) > at(column)) words[row < 4 ? 0 : 1] |= 1 << ((row % 4) * 8 + column);
    }
  }
  return words;
}

/** Of a rectangle whose borders are shares of the sides; places that it cuts count in part. */
function mean(gray: Float32Array, top: number, bottom: number, left: number, right: number): number {
  let [sum, area] = [0, 0];
  const inside = (place: number, from: number, to: number): number =>
    Math.max(0, Math.min(place + 1, to * SIDE) - Math.max(place, from * SIDE));
  for (let y = Math.floor(top * SIDE); y < bottom * SIDE; y++) {
    for (let x = Math.floor(left * SIDE); x < right * SIDE; x++) {
      const share = inside(y, top, bottom) * inside(x, left, right);
      sum += share * (gray[y * SIDE + x] as number);
      area += share;
    }
  }
  return sum / area;
}

/** How many bits of a word are set. */
function ones(word: number): number {
  let x = word - ((word >>> 1) & 0x55555555);
  x = (x & 0x33333333) + ((x >>> 2) & 0x33333333);
  return Math.imul((x + (x >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** Which of some things belong together, told pair by pair. */
class Groups {
  readonly #parent: Int32Array;

  constructor(things: number) {
    this.#parent = Int32Array.from({ length: things }, (_, i) => i);
  }

  join(a: number, b: number): void {
    const [x, y] = [this.#first(a), this.#first(b)];
    this.#parent[Math.max(x, y)] = Math.min(x, y);
  }

  /** Those of more than one, by their first. */
  all(): number[][] {
    const groups = new Map<number, number[]>();
    this.#parent.forEach((_, i) => {
      const first = this.#first(i);
      const group = groups.get(first);
      if (group === undefined) groups.set(first, [i]);
      else group.push(i);
    });
    return [...groups.values()].filter((group) => group.length > 1);
  }

  #first(of: number): number {
    let i = of;
    while (this.#parent[i] !== i) {
      this.#parent[i] = this.#parent[this.#parent[i] as number] as number;
      i = this.#parent[i] as number;
    }
    return i;
  }
}
