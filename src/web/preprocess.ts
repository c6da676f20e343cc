/**
 * From a picture's pixels to what the network takes, for JavaScript anywhere: the page of `riffle export --format web` has this
 * file, and so may a program of yours. It imports nothing.
 *
 * The same arithmetic as in native/decode/resize.cc, so the same pixels give the same bytes as `riffle predict` sees; what is
 * left between the two is how a picture was decoded. Sizes are in pixels.
 */

/** What is written as preprocessing.json beside an exported network, and as metadata into an ONNX file. */
export interface Preprocessing {
  /** The shorter side after resizing. */
  readonly resize_shorter_side: number;
  /** How it is resized; {@link interpolations} are the two there are. */
  readonly interpolation: string;
  /** Side of the central square that is taken. */
  readonly crop: number;
  /** Channel by channel, each row by row. */
  readonly layout: "NCHW";
  /** "RGB" or "BGR". */
  readonly channel_order: string;
  /** In that order: the input is (byte / 255 - mean) / std. */
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

export const interpolations = {
  /** Pillow's BILINEAR to the byte, as torchvision evaluates. */
  pillow: "bilinear, antialiased",
  /** TensorFlow 1's resize_bilinear. */
  tensorflow: "bilinear, not antialiased, corners at 0",
} as const;

/** Decoded pixels, row by row from the top, of 8 bits: 3 channels are RGB, 4 RGBA, of which alpha is left out. */
export interface DecodedPicture {
  readonly data: Uint8Array | Uint8ClampedArray;
  readonly width: number;
  readonly height: number;
  readonly channels: 3 | 4;
}

/**
 * The network's input for one picture: [1, 3, crop, crop].
 *
 * @throws Error for preprocessing that is not done here.
 */
export function networkInput(picture: DecodedPicture, preprocessing: Preprocessing): Float32Array {
  const { crop, channel_order: order, mean, std } = preprocessing;
  const bytes = croppedBytes(picture, preprocessing);
  const pixels = crop * crop;
  const input = new Float32Array(3 * pixels);
  for (let plane = 0; plane < 3; plane++) {
    const channel = "RGB".indexOf(order[plane] as string);
    const levels = Float32Array.from(
      { length: 256 },
      (_, byte) => (byte / 255 - (mean[plane] as number)) / (std[plane] as number),
    );
    for (let i = 0; i < pixels; i++) {
      input[plane * pixels + i] = levels[bytes[3 * i + channel] as number] as number;
    }
  }
  return input;
}

/** The part of the picture that the network sees, [crop, crop, 3] of RGB: the bytes that `riffle predict` sees. */
export function croppedBytes(
  picture: DecodedPicture,
  { resize_shorter_side: side, interpolation, crop }: Preprocessing,
): Uint8Array {
  if (interpolation === interpolations.pillow) return resizePillow(picture, side, crop);
  if (interpolation === interpolations.tensorflow) return resizeTensorflow(picture, side, crop);
  throw new Error(`pictures are resized in no such way: ${interpolation}`);
}

/** Which length an axis is resized to, and where in that the crop begins. */
interface Axis {
  readonly length: number;
  readonly resized: number;
  readonly start: number;
  readonly count: number;
}

/** torchvision's Resize cuts the longer side off; its CenterCrop rounds the place half to even. */
function pillowAxis(length: number, shorter: number, side: number, count: number): Axis {
  const resized = length === shorter ? side : Math.floor((length * side) / shorter);
  return { length, resized, start: halfToEven((resized - count) / 2), count };
}

/** TensorFlow rounds the longer side half to even in f32, and the place down. */
function tensorflowAxis(length: number, shorter: number, side: number, count: number): Axis {
  const resized = length === shorter ? side : halfToEven(f32((length * side) / shorter));
  return { length, resized, start: Math.floor((resized - count) / 2), count };
}

function axesOf(
  { width, height }: DecodedPicture,
  side: number,
  crop: number,
  axis: typeof pillowAxis,
): [Axis, Axis] {
  const shorter = Math.min(width, height);
  return [axis(width, shorter, side, crop), axis(height, shorter, side, crop)];
}

/** Weights of the source pixels under each output pixel, as multiples of 2^-22. */
interface Taps {
  readonly first: Int32Array;
  readonly count: Int32Array;
  /** Of output pixel i from i * stride. */
  readonly weights: Int32Array;
  readonly stride: number;
}

/** Pillow's resampling in 8 bits (src/libImaging/Resample.c): across, rounded to bytes, then down. */
function resizePillow(picture: DecodedPicture, side: number, crop: number): Uint8Array {
  const [x, y] = axesOf(picture, side, crop, pillowAxis);
  const across = triangleTaps(x);
  const down = triangleTaps(y);
  const width = 3 * crop;
  const begin = down.first[0] as number;
  const end = (down.first[crop - 1] as number) + (down.count[crop - 1] as number);
  const rows = new Uint8Array((end - begin) * width);
  for (let row = begin; row < end; row++) {
    acrossRow(picture, row, across, rows.subarray((row - begin) * width, (row - begin + 1) * width));
  }
  const out = new Uint8Array(crop * width);
  for (let i = 0; i < crop; i++) {
    const from = (down.first[i] as number) - begin;
    for (let j = 0; j < width; j++) {
      let sum = 0;
      for (let k = 0; k < (down.count[i] as number); k++) {
        sum += (down.weights[i * down.stride + k] as number) * (rows[(from + k) * width + j] as number);
      }
      out[i * width + j] = roundToByte(sum);
    }
  }
  return out;
}

function acrossRow(
  { data, width, channels }: DecodedPicture,
  row: number,
  taps: Taps,
  out: Uint8Array,
): void {
  for (let i = 0; i < taps.count.length; i++) {
    let [r, g, b] = [0, 0, 0];
    let at = (row * width + (taps.first[i] as number)) * channels;
    for (let k = 0; k < (taps.count[i] as number); k++, at += channels) {
      const weight = taps.weights[i * taps.stride + k] as number;
      r += weight * (data[at] as number);
      g += weight * (data[at + 1] as number);
      b += weight * (data[at + 2] as number);
    }
    out[3 * i] = roundToByte(r);
    out[3 * i + 1] = roundToByte(g);
    out[3 * i + 2] = roundToByte(b);
  }
}

/** Pillow's precompute_coeffs: a triangle as wide as the reduction, at least one source pixel to either side. */
function triangleTaps({ length, resized, start, count }: Axis): Taps {
  const scale = length / resized;
  const support = Math.max(scale, 1);
  const stride = Math.ceil(support) * 2 + 1;
  const taps = {
    first: new Int32Array(count),
    count: new Int32Array(count),
    weights: new Int32Array(count * stride),
    stride,
  };
  for (let i = 0; i < count; i++) {
    const centre = (start + i + 0.5) * scale;
    const first = Math.trunc(Math.max(centre - support + 0.5, 0));
    const end = Math.trunc(Math.min(centre + support + 0.5, length));
    const exact = Array.from({ length: end - first }, (_, k) =>
      Math.max(0, 1 - Math.abs((first + k - centre + 0.5) * (1 / support))),
    );
    const total = exact.reduce((sum, weight) => sum + weight, 0);
    taps.first[i] = first;
    taps.count[i] = end - first;
    exact.forEach(
      (weight, k) => (taps.weights[i * stride + k] = Math.trunc(0.5 + (weight / total) * WEIGHT_ONE)),
    );
  }
  return taps;
}

const WEIGHT_BITS = 22;
const WEIGHT_ONE = 2 ** WEIGHT_BITS;

function roundToByte(sum: number): number {
  return Math.min(Math.max((sum + WEIGHT_ONE / 2) >> WEIGHT_BITS, 0), 255);
}

/** An output pixel between two source pixels: lower + share * (upper - lower). */
interface Between {
  readonly lower: number;
  readonly upper: number;
  readonly share: number;
}

/** No half-pixel centres, no antialiasing: source = destination * f32(in / out); across, then down, in f32. */
function resizeTensorflow(picture: DecodedPicture, side: number, crop: number): Uint8Array {
  const { data, width, channels } = picture;
  const [x, y] = axesOf(picture, side, crop, tensorflowAxis);
  const columns = betweens(x);
  const out = new Uint8Array(3 * crop * crop);
  const blended = (row: number, { lower, upper, share }: Between, channel: number): number => {
    const a = data[(row * width + lower) * channels + channel] as number;
    const b = data[(row * width + upper) * channels + channel] as number;
    return f32(a + f32((b - a) * share));
  };
  betweens(y).forEach((row, i) => {
    columns.forEach((column, j) => {
      for (let channel = 0; channel < 3; channel++) {
        const top = blended(row.lower, column, channel);
        const bottom = blended(row.upper, column, channel);
        const value = f32(top + f32(f32(bottom - top) * row.share));
        out[3 * (i * crop + j) + channel] = Math.trunc(f32(value + 0.5));
      }
    });
  });
  return out;
}

function betweens({ length, resized, start, count }: Axis): Between[] {
  const scale = f32(length / resized);
  return Array.from({ length: count }, (_, i) => {
    const at = f32((start + i) * scale);
    const lower = Math.min(Math.trunc(at), length - 1);
    return { lower, upper: Math.min(lower + 1, length - 1), share: f32(at - lower) };
  });
}

const f32 = Math.fround;

/** Rounds as C's lrint and Python's round do. */
function halfToEven(value: number): number {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}
