/**
 * Which part of a picture the network sees, and how it is varied: recipes as data, and the draws they make.
 *
 * A recipe turns a picture's size and a stream of random numbers into one {@link Transform}, which native code
 * carries out. All draws of a sample come from (seed, epoch, sample), so they do not depend on timing, order
 * or what other samples did.
 *
 * Lengths are in pixels, areas are shares of the picture.
 */

import { DataError, UsageError } from "../../core/error.js";
import type { Draws } from "../../core/random.js";

/**
 * `tensorflow`: TensorFlow 1's resize_bilinear (no half-pixel centres, no antialiasing). `pillow`: Pillow's
 * BILINEAR, antialiased, as torchvision's transforms use, single values a level off; `pillow-bytes`: the same to the byte,
 * slower. native/decode/resize.h has the rules.
 */
type Filter = "tensorflow" | "pillow" | "pillow-bytes";

/** How a picture becomes size x size x 3 bytes. */
export interface Transform {
  /** The rectangle of the picture that is resized, in whole pixels. */
  readonly box: Box;
  /** What it is resized to... */
  readonly resized: Size;
  /** ...and where in that the size x size result begins. */
  readonly window: { readonly x: number; readonly y: number };
  readonly size: number;
  readonly filter: Filter;
  readonly flip: boolean;
  /** Added to red, green and blue, as a share of full scale, then clipped. */
  readonly shift: readonly [red: number, green: number, blue: number];
  readonly grayscale: boolean;
  readonly decoding: Decoding;
}

export interface Size {
  readonly width: number;
  readonly height: number;
}

export interface Box extends Size {
  readonly x: number;
  readonly y: number;
}

/** What is known of a picture before it is decoded. */
export interface Picture extends Size {
  /** Where its objects are; none when absent or empty. */
  readonly boxes?: readonly ObjectBox[] | undefined;
}

/** A rectangle around an object, as shares of the picture's width and height, 0 to 1. */
export interface ObjectBox {
  readonly xmin: number;
  readonly ymin: number;
  readonly xmax: number;
  readonly ymax: number;
}

/** How JPEGs are decoded; PNG and WebP have one way. */
export interface Decoding {
  /** libjpeg's IFAST, as TensorFlow decodes; ISLOW otherwise. They differ by up to 18 levels. */
  readonly fastDct: boolean;
  /**
   * Let the decoder drop detail that the resize would drop: 1/2, 1/4 or 1/8 of the size, as long as the box is
   * still at least as large as it is resized to (the rule of Pillow's `draft`).
   */
  readonly scaled: boolean;
}

/** How training pictures are varied. */
export interface Augmentation {
  readonly filter: Filter;
  readonly decoding: Decoding;
  /** "centre" crops as evaluation does. */
  readonly crop: "centre" | RandomCrop;
  /** Of a centred crop: the shorter side it is cut from, in pixels; {@link evaluationSide} by default. */
  readonly shorterSide?: number | undefined;
  /** Probability of exchanging left and right. */
  readonly flip: number;
  /** A colour shift with this probability; brightness and the two chroma factors are drawn from +-these. */
  readonly colour: { readonly probability: number; readonly brightness: number; readonly chroma: number };
  /** Probability of losing colour altogether. */
  readonly grayscale: number;
}

/** A crop of random area, aspect (width / height) and place; after `attempts` misses the `rule`'s fallback. */
interface RandomCrop {
  readonly rule: "tensorflow" | "torchvision";
  readonly area: readonly [minimum: number, maximum: number];
  readonly aspect: readonly [minimum: number, maximum: number];
  readonly attempts: number;
  /**
   * Share of some object that the crop must hold; without boxes the object is the whole picture. Only `tensorflow`
   * has it.
   */
  readonly minimumCovered: number;
}

/** How evaluation and prediction look at a picture: shorter side to `shorterSide`, then the centre. */
export interface EvaluationResize {
  readonly filter: Filter;
  readonly decoding: Decoding;
  /** Pixels; {@link evaluationSide} gives the usual one. */
  readonly shorterSide: number;
}

const noColour = { probability: 0, brightness: 0, chroma: 0 } as const;

export const augmentations = {
  /** Source: TropComplique/shufflenet-v2-tensorflow @ 22e5615, input_pipeline.py. */
  tensorflow: {
    filter: "tensorflow",
    decoding: { fastDct: true, scaled: false },
    crop: { rule: "tensorflow", area: [0.08, 1], aspect: [0.75, 1.33], attempts: 100, minimumCovered: 0.25 },
    flip: 0.5,
    colour: { probability: 0.25, brightness: 32 / 255, chroma: 0.1 },
    grayscale: 0.05,
  },
  /** Source: torchvision.transforms RandomResizedCrop and RandomHorizontalFlip, defaults. */
  torchvision: {
    filter: "pillow",
    decoding: { fastDct: false, scaled: true },
    crop: { rule: "torchvision", area: [0.08, 1], aspect: [3 / 4, 4 / 3], attempts: 10, minimumCovered: 0 },
    flip: 0.5,
    colour: noColour,
    grayscale: 0,
  },
  /** Every picture as evaluation would show it. */
  none: {
    filter: "pillow-bytes",
    decoding: { fastDct: false, scaled: false },
    crop: "centre",
    flip: 0,
    colour: noColour,
    grayscale: 0,
  },
} as const satisfies { readonly [name: string]: Augmentation };

export const evaluationDecodings = {
  tensorflow: { filter: "tensorflow", decoding: { fastDct: true, scaled: false } },
  torchvision: { filter: "pillow-bytes", decoding: { fastDct: false, scaled: false } },
} as const satisfies { readonly [name: string]: Omit<EvaluationResize, "shorterSide"> };

/** Share of the shorter side that the central crop covers as everybody has it: 224 of 256. */
export const usualEvaluationCrop = 224 / 256;

/** Shorter side of a picture whose central `imageSize` covers that share of it: 110 for 96. */
export function evaluationSide(imageSize: number, crop: number = usualEvaluationCrop): number {
  return Math.round(imageSize / crop);
}

/**
 * Draws the transform of one training picture. The order of the draws is: crop, flip, colour, grayscale.
 *
 * @throws DataError when an object's box leaves the picture.
 */
export function trainingTransform(
  augmentation: Augmentation,
  picture: Picture,
  size: number,
  draws: Draws,
): Transform {
  const { filter, decoding, crop, colour } = augmentation;
  const placed =
    crop === "centre"
      ? centreCrop(picture, size, {
          filter,
          decoding,
          shorterSide: augmentation.shorterSide ?? evaluationSide(size),
        })
      : {
          box: (crop.rule === "tensorflow" ? tensorflowCrop : torchvisionCrop)(crop, picture, draws),
          resized: { width: size, height: size },
          window: { x: 0, y: 0 },
        };
  const flip = draws.uniform() < augmentation.flip;
  const shift =
    draws.uniform() < colour.probability
      ? channelShift(
          draws.uniform(-colour.brightness, colour.brightness),
          draws.uniform(-colour.chroma, colour.chroma),
          draws.uniform(-colour.chroma, colour.chroma),
        )
      : ([0, 0, 0] as const);
  const grayscale = draws.uniform() < augmentation.grayscale;
  return { ...placed, size, filter, flip, shift, grayscale, decoding };
}

/** The transform of a picture in evaluation and prediction. */
export function evaluationTransform(resize: EvaluationResize, picture: Size, size: number): Transform {
  const { filter, decoding } = resize;
  return { ...centreCrop(picture, size, resize), ...unvaried, size, filter, decoding };
}

const unvaried = { flip: false, shift: [0, 0, 0], grayscale: false } as const;

/** A whole picture, shrunk or stretched to `size`. */
export function wholePicture(
  { width, height }: Size,
  size: number,
  filter: Filter,
  decoding: Decoding,
): Transform {
  return {
    ...unvaried,
    box: { x: 0, y: 0, width, height },
    resized: { width: size, height: size },
    window: { x: 0, y: 0 },
    size,
    filter,
    decoding,
  };
}

/** The transform that changes nothing, for pixels of the network's own size. */
export function asItIs(size: number): Transform {
  const decoding = { fastDct: false, scaled: false };
  return wholePicture({ width: size, height: size }, size, "tensorflow", decoding);
}

/** Brightness and chroma moved in YCbCr, which is one constant per channel (ITU-R BT.601). */
export function channelShift(brightness: number, cb: number, cr: number): [number, number, number] {
  return [brightness + 1.402 * cr, brightness - 0.344136 * cb - 0.714136 * cr, brightness + 1.772 * cb];
}

type Placed = Pick<Transform, "box" | "resized" | "window">;

/**
 * Shorter side to `shorterSide`, then the central window.
 *
 * TensorFlow rounds the longer side half to even in f32 and the window's place down; torchvision cuts the longer
 * side off and rounds the place half to even (Resize, CenterCrop).
 */
function centreCrop(
  { width, height }: Size,
  size: number,
  { filter, shorterSide }: EvaluationResize,
): Placed {
  const shorter = Math.min(width, height);
  if (shorterSide < size) {
    throw new UsageError({
      what: "--eval_resize is smaller than the picture that is cut from it",
      expected: `at least ${size}`,
      found: `${shorterSide}`,
    });
  }
  const side = (length: number): number => {
    if (length === shorter) return shorterSide;
    return filter === "tensorflow"
      ? halfToEven(Math.fround((length * shorterSide) / shorter))
      : Math.floor((length * shorterSide) / shorter);
  };
  const resized = { width: side(width), height: side(height) };
  const start = (length: number): number =>
    filter === "tensorflow" ? Math.floor((length - size) / 2) : halfToEven((length - size) / 2);
  return {
    box: { x: 0, y: 0, width, height },
    resized,
    window: { x: start(resized.width), y: start(resized.height) },
  };
}

/**
 * TensorFlow's sample_distorted_bounding_box: aspect uniform, then height uniform among those whose area is allowed,
 * then the place; drawn again until some object is covered enough. The whole picture when every attempt failed.
 *
 * The kernel counts in f32, and so does this where it decides: lengths round half to even after an f32 product. Its
 * places leave out the last possible row and column.
 *
 * Source: tensorflow/core/kernels/image/sample_distorted_bounding_box_op.cc, GenerateRandomCrop.
 */
function tensorflowCrop(crop: RandomCrop, picture: Picture, draws: Draws): Box {
  const { width, height } = picture;
  const objects = objectsOf(picture);
  const minimumArea = f32(f32(f32(crop.area[0]) * width) * height);
  const maximumArea = f32(f32(f32(crop.area[1]) * width) * height);
  for (let attempt = 0; attempt < crop.attempts; attempt++) {
    const aspect = f32(draws.uniform(crop.aspect[0], crop.aspect[1]));
    const widthOf = (h: number): number => halfToEven(f32(h * aspect));
    let tallest = halfToEven(f32(Math.sqrt(f32(maximumArea / aspect))));
    if (widthOf(tallest) > width) {
      tallest = Math.floor((width + 0.5 - 1e-7) / aspect);
      if (widthOf(tallest) > width) tallest--;
    }
    tallest = Math.min(tallest, height);
    const shortest = Math.min(halfToEven(f32(Math.sqrt(f32(minimumArea / aspect)))), tallest);
    let h = shortest + draws.below(tallest - shortest + 1);
    // Rounding may have left the allowed areas by one row.
    if (h * widthOf(h) < minimumArea) h++;
    if (h * widthOf(h) > maximumArea) h--;
    const w = widthOf(h);
    const area = w * h;
    if (area < minimumArea || area > maximumArea || w > width || h > height || w <= 0 || h <= 0) continue;
    const y = h < height ? draws.below(height - h) : 0;
    const x = w < width ? draws.below(width - w) : 0;
    const box = { x, y, width: w, height: h };
    if (objects.some((object) => f32(overlap(box, object) / areaOf(object)) >= f32(crop.minimumCovered)))
      return box;
  }
  return { x: 0, y: 0, width, height };
}

/**
 * The objects in whole pixels, corners rounded towards the top left as the kernel does; those that vanish by it are
 * left out, so a picture whose every object is smaller than a pixel is always shown whole.
 */
function objectsOf({ width, height, boxes = [] }: Picture): readonly Box[] {
  if (boxes.length === 0) return [{ x: 0, y: 0, width, height }];
  return boxes
    .map((box) => {
      const { xmin, ymin, xmax, ymax } = box;
      if (![xmin, ymin, xmax, ymax].every((share) => share >= 0 && share <= 1)) {
        throw new DataError({
          what: `an object's box leaves the picture: xmin ${xmin}, ymin ${ymin}, xmax ${xmax}, ymax ${ymax}`,
          expected: "shares of its width and height, 0 to 1",
        });
      }
      const x = Math.trunc(f32(f32(xmin) * width));
      const y = Math.trunc(f32(f32(ymin) * height));
      return {
        x,
        y,
        width: Math.trunc(f32(f32(xmax) * width)) - x,
        height: Math.trunc(f32(f32(ymax) * height)) - y,
      };
    })
    .filter((object) => areaOf(object) >= 1);
}

/** torchvision's RandomResizedCrop.get_params: area uniform, log of the aspect uniform, then the place. */
function torchvisionCrop(crop: RandomCrop, { width, height }: Size, draws: Draws): Box {
  const [low, high] = crop.aspect;
  for (let attempt = 0; attempt < crop.attempts; attempt++) {
    const area = width * height * draws.uniform(crop.area[0], crop.area[1]);
    const aspect = Math.exp(draws.uniform(Math.log(low), Math.log(high)));
    const w = halfToEven(Math.sqrt(area * aspect));
    const h = halfToEven(Math.sqrt(area / aspect));
    if (w < 1 || w > width || h < 1 || h > height) continue;
    const y = draws.below(height - h + 1);
    const x = draws.below(width - w + 1);
    return { x, y, width: w, height: h };
  }
  // The centre, as much of it as an allowed aspect holds.
  const w = width / height > high ? halfToEven(height * high) : width;
  const h = width / height < low ? halfToEven(width / low) : height;
  return { x: Math.floor((width - w) / 2), y: Math.floor((height - h) / 2), width: w, height: h };
}

function areaOf({ width, height }: Box): number {
  return width * height;
}

/** Pixels that two boxes share. */
function overlap(a: Box, b: Box): number {
  const width = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const height = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
  return Math.max(width, 0) * Math.max(height, 0);
}

const f32 = Math.fround;

/** Rounds as C's lrint and Python's round do. */
function halfToEven(value: number): number {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}
