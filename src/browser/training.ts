/** What a training in a page is given, and what comes of it. */

import type { Width } from "../models/variants.js";
import type { Reporter } from "./events.js";
import type { LabelledPicture } from "./picture.js";
import type { Run } from "./run.js";

/** How a training is carried out; nothing here changes a bit of what comes of it. */
export interface Conduct {
  /** Of the engine: as many as the machine has cores, of more than two all but one; always 1 where the page is not cross-origin isolated. */
  readonly threads?: number | undefined;
  /** When it aborts, the step in progress ends, all is saved, and `stopped` is true. */
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: Reporter | undefined;
}

export interface TrainOptions extends Conduct {
  /** Of the run, under which it is kept: 1 to 80 characters. */
  readonly name: string;
  /** Takes the place of a run of this name; without it that is refused. */
  readonly replace?: boolean | undefined;
  readonly pictures: readonly LabelledPicture[];
  /** Pictures to score on; absent, a fifth of each class's pictures is held out. An empty list: none. */
  readonly validation?: readonly LabelledPicture[] | undefined;
  /** In the order of the network's outputs; absent, the labels that there are, sorted. */
  readonly classes?: readonly string[] | undefined;
  /**
   * Weights to begin with, a file: safetensors, PyTorch's checkpoint, or a run of ours. Their classifier is replaced by one that
   * is solved for the classes here, then all layers learn at a low rate.
   */
  readonly from?: Blob | undefined;
  /** 0.5, or that of `from`. */
  readonly width?: Width | undefined;
  /** Pixels: 64, or that of `from`. A multiple of nothing, from 32. */
  readonly imageSize?: number | undefined;
  /** 32, or fewer where there are fewer pictures. */
  readonly batchSize?: number | undefined;
  /** More the fewer pictures there are; with `from`, 5. With 0 epochs and `from` the classifier alone is made. */
  readonly epochs?: number | undefined;
  /** At its highest; it follows the batch unless told. */
  readonly learningRate?: number | undefined;
  /** Of all random draws: 0. */
  readonly seed?: number | undefined;
}

export interface ResumeOptions extends Conduct {
  /** Steps to stop after, counted from here; absent, to the end. */
  readonly steps?: number | undefined;
}

export interface TrainResult {
  readonly run: Run;
  /** Updates made. */
  readonly step: number;
  /** True when the signal, or `steps`, ended it before its last step. */
  readonly stopped: boolean;
  /** Of the best weights on the pictures held out; null where there are none, or it was stopped before. */
  readonly best: { readonly step: number; readonly top1: number; readonly loss: number } | null;
  readonly imagesPerSecond: number;
}
