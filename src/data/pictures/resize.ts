/**
 * Crop, resize, flip and colour of one picture where there is no addon: what native/decode/resize.cc computes on x86, bit for
 * bit. Its header, resize.h, has the rules of the filters; test/support/resize-reference.ts is the plain definition of both.
 *
 * Every operation on floats is rounded to f32 as the addon's are, by `fround` or by storing into a Float32Array. On arm64 the
 * addon's compiler may fuse a product and a sum, and a value may then differ by one rounding.
 */

import type { Transform } from "./augment.js";
import type { Pixels } from "./render.js";

const { fround } = Math;

/**
 * Writes size x size x 3 values from `offset`: 0..255 into bytes, 0..1 into floats.
 *
 * @throws TypeError before anything is written where box, window, pixels and output do not fit together, as the addon does.
 */
export function resizeInto(
  pixels: Pixels,
  transform: Transform,
  out: Uint8Array | Float32Array,
  offset: number,
): void {
  refuseMisfits(pixels, transform, out, offset);
  resizers[transform.filter](inColour(pixels), transform, rowWriter(transform, out, offset));
}

/** Three bytes a pixel, rows without padding. */
interface Source {
  readonly data: Uint8Array;
  /** Bytes of a row. */
  readonly stride: number;
}

/** Takes row y of the result, in 0..255; the row is changed. */
type WriteRow = (y: number, row: Float32Array) => void;

const resizers: Readonly<Record<Transform["filter"], (s: Source, t: Transform, write: WriteRow) => void>> = {
  tensorflow: resizeTensorflow,
  pillow: resizePillow,
  "pillow-bytes": resizePillowBytes,
};

function resizeTensorflow({ data, stride }: Source, t: Transform, write: WriteRow): void {
  const { box, resized, window, size } = t;
  const xs = lerps(box.width, resized.width, window.x, size);
  const ys = lerps(box.height, resized.height, window.y, size);
  const place = (x: number): number => 3 * (box.x + (t.flip ? box.width - 1 - x : x));
  const left = xs.lower.map(place);
  const right = xs.upper.map(place);
  const width = 3 * size;

  // Two source rows, blended across; row y lies at y % 2, and two neighbours are all that an output row needs.
  const kept = [new Float32Array(width), new Float32Array(width)] as const;
  const held = [-1, -1];
  const across = (y: number): Float32Array => {
    const blended = kept[(y % 2) as 0 | 1];
    if (held[y % 2] === y) return blended;
    held[y % 2] = y;
    const row = (box.y + y) * stride;
    for (let i = 0; i < size; i++) {
      const lerp = xs.share[i] as number;
      const a = row + (left[i] as number);
      const b = row + (right[i] as number);
      for (let c = 0; c < 3; c++) {
        const value = data[a + c] as number;
        blended[3 * i + c] = value + fround(((data[b + c] as number) - value) * lerp);
      }
    }
    return blended;
  };
  const row = new Float32Array(width);
  for (let y = 0; y < size; y++) {
    const top = across(ys.lower[y] as number);
    const bottom = across(ys.upper[y] as number);
    const lerp = ys.share[y] as number;
    for (let i = 0; i < width; i++) {
      const value = top[i] as number;
      row[i] = value + fround(fround((bottom[i] as number) - value) * lerp);
    }
    write(y, row);
  }
}

/** Output position i lies between source positions lower and upper: lower + share * (upper - lower). */
function lerps(length: number, resized: number, window: number, count: number) {
  const scale = fround(length / resized);
  const lower = new Int32Array(count);
  const upper = new Int32Array(count);
  const share = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const at = fround(fround(window + i) * scale);
    const below = Math.min(Math.floor(at), length - 1);
    lower[i] = below;
    upper[i] = Math.min(below + 1, length - 1);
    share[i] = at - below;
  }
  return { lower, upper, share };
}

function resizePillow({ data, stride }: Source, t: Transform, write: WriteRow): void {
  const { box, resized, size } = t;
  const xs = triangleTaps(box.x, box.width, resized.width, windowX(t), size);
  const ys = triangleTaps(box.y, box.height, resized.height, t.window.y, size);
  // Only the columns under some window are summed.
  const begin = xs.first[0] as number;
  const columns = 3 * ((xs.first[size - 1] as number) + (xs.count[size - 1] as number) - begin);
  const down = new Float32Array(columns);
  const row = new Float32Array(3 * size);
  for (let y = 0; y < size; y++) {
    const first = (ys.first[y] as number) * stride + 3 * begin;
    const count = ys.count[y] as number;
    const weights = ys.weights.subarray(y * ys.stride);
    // Two at a time, so that the sums are loaded and stored half as often; a missing one weighs nothing.
    for (let k = 0; k < count; k += 2) {
      const wa = weights[k] as number;
      const wb = k + 1 < count ? (weights[k + 1] as number) : 0;
      const a = first + k * stride;
      const b = k + 1 < count ? a + stride : a;
      for (let i = 0; i < columns; i++) {
        const sum = k > 0 ? (down[i] as number) : 0;
        const one = fround(sum + fround(wa * (data[a + i] as number)));
        down[i] = one + fround(wb * (data[b + i] as number));
      }
    }
    for (let i = 0; i < size; i++) {
      const from = t.flip ? size - 1 - i : i;
      const span = xs.count[from] as number;
      let at = 3 * ((xs.first[from] as number) - begin);
      let red = 0;
      let green = 0;
      let blue = 0;
      for (let k = from * xs.stride; k < from * xs.stride + span; k++, at += 3) {
        const weight = xs.weights[k] as number;
        red = fround(red + fround(weight * (down[at] as number)));
        green = fround(green + fround(weight * (down[at + 1] as number)));
        blue = fround(blue + fround(weight * (down[at + 2] as number)));
      }
      row[3 * i] = red;
      row[3 * i + 1] = green;
      row[3 * i + 2] = blue;
    }
    write(y, row);
  }
}

/** Pillow's weights are multiples of 2^-22; sums are rounded halves up and clipped to a byte. */
const WEIGHT_BITS = 32 - 8 - 2;

function resizePillowBytes({ data, stride }: Source, t: Transform, write: WriteRow): void {
  const { box, resized, size } = t;
  // Places count from the box, as if it had been cut out first: Pillow's rounding sees those.
  const xs = triangleTaps(0, box.width, resized.width, windowX(t), size);
  const ys = triangleTaps(0, box.height, resized.height, t.window.y, size);
  const across = fixedPoint(xs.exact);
  const down = fixedPoint(ys.exact);
  const width = 3 * size;

  // The last `kept` rows, resampled across; row k lies at k % kept.
  const kept = ys.stride;
  const resampled = new Uint8Array(kept * width);
  const sums = new Int32Array(width);
  const row = new Float32Array(width);
  let next = ys.first[0] as number;
  for (let y = 0; y < size; y++) {
    const first = ys.first[y] as number;
    const end = first + (ys.count[y] as number);
    for (; next < end; next++) {
      const from = (box.y + next) * stride + 3 * box.x;
      const to = (next % kept) * width;
      for (let i = 0; i < size; i++) {
        let at = from + 3 * (xs.first[i] as number);
        let red = 0;
        let green = 0;
        let blue = 0;
        const begin = i * xs.stride;
        for (let k = begin; k < begin + (xs.count[i] as number); k++, at += 3) {
          const weight = across[k] as number;
          red = (red + weight * (data[at] as number)) | 0;
          green = (green + weight * (data[at + 1] as number)) | 0;
          blue = (blue + weight * (data[at + 2] as number)) | 0;
        }
        resampled[to + 3 * i] = toByte(red);
        resampled[to + 3 * i + 1] = toByte(green);
        resampled[to + 3 * i + 2] = toByte(blue);
      }
    }
    sums.fill(0);
    for (let k = first; k < end; k++) {
      const weight = down[y * ys.stride + k - first] as number;
      const from = (k % kept) * width;
      for (let i = 0; i < width; i++)
        sums[i] = (sums[i] as number) + weight * (resampled[from + i] as number);
    }
    for (let i = 0; i < size; i++) {
      const from = 3 * (t.flip ? size - 1 - i : i);
      for (let c = 0; c < 3; c++) row[3 * i + c] = toByte(sums[from + c] as number);
    }
    write(y, row);
  }
}

function fixedPoint(exact: Float64Array): Int32Array {
  return Int32Array.from(exact, (weight) => Math.trunc(0.5 + weight * 2 ** WEIGHT_BITS));
}

function toByte(sum: number): number {
  const value = (sum + (1 << (WEIGHT_BITS - 1))) >> WEIGHT_BITS;
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

/** The filter is symmetric: resizing the flipped picture is flipping the resized one. */
function windowX({ flip, resized, window, size }: Transform): number {
  return flip ? resized.width - window.x - size : window.x;
}

/** Output position i is the sum of weights[i * stride + k] * source[first[i] + k], k below count[i]. */
interface Taps {
  readonly first: Int32Array;
  readonly count: Int32Array;
  readonly stride: number;
  readonly weights: Float32Array;
  /** The same before rounding. */
  readonly exact: Float64Array;
}

/** Pillow's precompute_coeffs for a triangle: nothing outside the box is used. */
function triangleTaps(box: number, length: number, resized: number, window: number, size: number): Taps {
  const scale = length / resized;
  const support = Math.max(scale, 1);
  const perPixel = 1 / support;
  const stride = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(size);
  const count = new Int32Array(size);
  const exact = new Float64Array(size * stride);
  for (let i = 0; i < size; i++) {
    const centre = box + (window + i + 0.5) * scale;
    const begin = Math.trunc(Math.max(centre - support + 0.5, Math.floor(box)));
    const end = Math.trunc(Math.min(centre + support + 0.5, Math.ceil(box + length)));
    const taps = exact.subarray(i * stride, i * stride + end - begin);
    let total = 0;
    for (let k = begin; k < end; k++)
      total += taps[k - begin] = Math.max(0, 1 - Math.abs((k - centre + 0.5) * perPixel));
    for (let k = 0; k < taps.length; k++) taps[k] = (taps[k] as number) / total;
    first[i] = begin;
    count[i] = taps.length;
  }
  return { first, count, stride, weights: Float32Array.from(exact), exact };
}

/** Colour shift, grayscale, output. */
function rowWriter(t: Transform, out: Uint8Array | Float32Array, offset: number): WriteRow {
  const shift = t.shift.map((share) => fround(255 * fround(share)));
  const isShifted = shift.some((value) => value !== 0);
  return (y, row) => {
    if (isShifted) {
      for (let i = 0; i < row.length; i++) {
        const value = fround((row[i] as number) + (shift[i % 3] as number));
        row[i] = value < 0 ? 0 : value > 255 ? 255 : value;
      }
    }
    if (t.grayscale) {
      for (let i = 0; i < row.length; i += 3) {
        const red = fround(fround(0.2989) * (row[i] as number));
        const green = fround(fround(0.587) * (row[i + 1] as number));
        const blue = fround(fround(0.114) * (row[i + 2] as number));
        row.fill(fround(fround(red + green) + blue), i, i + 3);
      }
    }
    const to = offset + y * row.length;
    if (out instanceof Uint8Array) {
      for (let i = 0; i < row.length; i++) out[to + i] = fround((row[i] as number) + 0.5);
    } else {
      const scale = fround(1 / 255);
      for (let i = 0; i < row.length; i++) out[to + i] = (row[i] as number) * scale;
    }
  };
}

function inColour({ data, width, channels }: Pixels): Source {
  const stride = 3 * width;
  if (channels === 3) return { data, stride };
  const rgb = new Uint8Array(3 * data.length);
  for (let i = 0; i < data.length; i++) rgb.fill(data[i] as number, 3 * i, 3 * i + 3);
  return { data: rgb, stride };
}

function refuseMisfits(pixels: Pixels, t: Transform, out: Uint8Array | Float32Array, offset: number): void {
  const { box, resized, window, size } = t;
  const refuse = (what: string): never => {
    throw new TypeError(`transform: ${what}`);
  };
  if (!(out instanceof Uint8Array || out instanceof Float32Array))
    refuse("the output is neither a Uint8Array nor a Float32Array");
  const wholes = [resized.width, resized.height, window.x, window.y, size, offset];
  if (!wholes.every((value) => Number.isSafeInteger(value) && value >= 0) || size < 1)
    refuse("a size or place is no whole number");
  if (window.x + size > resized.width || window.y + size > resized.height)
    refuse("the window leaves the resized picture");
  if (out.length - offset < 3 * size * size) refuse("the output buffer is too short");
  if (pixels.data.length !== pixels.width * pixels.height * pixels.channels)
    refuse("the pixels are not width * height * channels bytes");
  const sides = [box.x, box.y, box.width, box.height];
  if (t.filter !== "pillow" && !sides.every(Number.isInteger)) refuse("this filter takes boxes in whole pixels"); // prettier-ignore
  const isInside = box.x >= 0 && box.y >= 0 && box.width > 0 && box.height > 0;
  if (!isInside || box.x + box.width > pixels.width || box.y + box.height > pixels.height)
    refuse("the box leaves the picture");
}
