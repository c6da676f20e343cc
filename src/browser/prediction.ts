/** What a network sees in pictures, as a page is told it. Probabilities and accuracies are fractions. */

import type { Problem } from "../core/error.js";

export interface Guess {
  /** The network's output. */
  readonly index: number;
  readonly name: string;
  /** 0 to 1; all classes add up to 1. */
  readonly probability: number;
}

export interface Prediction {
  /** A `File`'s name, else "#2" for the third picture of the call. */
  readonly name: string;
  /** Most probable first. */
  readonly top: readonly Guess[];
  /** [classes], when asked for. */
  readonly logits?: Float32Array | undefined;
  /** What to know of the picture: that it is animated, and the first frame was looked at. */
  readonly note?: string | undefined;
}

/** A picture that could not be used. */
export interface PictureRefusal {
  readonly name: string;
  /** Its place in the call, from 0. */
  readonly index: number;
  readonly problem: Problem;
}

export interface PredictOptions {
  /** Guesses for each picture: 5, or as many as there are classes. */
  readonly top?: number | undefined;
  readonly logits?: boolean | undefined;
}

export interface Evaluation {
  readonly images: number;
  /** Mean cross-entropy. */
  readonly loss: number;
  readonly top1: number;
  readonly top5: number;
  /** [truth][guess]: how many pictures, in the order of the classes. */
  readonly confusion: readonly (readonly number[])[];
  /** Pictures that were not used. */
  readonly leftOut: readonly PictureRefusal[];
}

/** Where the network looks in a picture. */
export interface Heat {
  /** The class asked about. */
  readonly class: Guess;
  /** The square of the picture that the network saw, RGBA of [size, size, 4]; `new ImageData(pixels, size)` takes it. */
  readonly pixels: Uint8ClampedArray<ArrayBuffer>;
  /** [size, size], 0 to 1: how much each place speaks for the class, as a share of the place that speaks most. */
  readonly heat: Float32Array;
  readonly size: number;
}
