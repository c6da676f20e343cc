/**
 * What a page hears of a training. Accuracies and shares are fractions, times in seconds.
 */

import type { PictureRefusal } from "./prediction.js";

/** While pictures are decoded, features are computed or a classifier is solved, before the first step. */
export interface PreparingEvent {
  readonly event: "preparing";
  readonly what: "pictures" | "features" | "solving";
  readonly done: number;
  /** 0 while solving: how long that takes is not known. */
  readonly total: number;
}

/** A picture that is not used, with the reason; training goes on with the others. */
export interface LeftOutEvent extends PictureRefusal {
  readonly event: "left out";
  readonly label: string;
}

/** Something to know of a picture or of the machine that stops nothing: "animated: its first frame is used". */
export interface NoteEvent {
  readonly event: "note";
  readonly what: string;
}

/** Once, before the first step: what will be done. */
export interface PlanEvent {
  readonly event: "plan";
  readonly run: string;
  /** "shufflenet-v2 0.5x (torchvision)" */
  readonly network: string;
  /** In the order of the network's outputs; pictures that are trained on and held out. */
  readonly classes: readonly { readonly name: string; readonly train: number; readonly heldOut: number }[];
  readonly imageSize: number;
  readonly batchSize: number;
  /** Updates in all; and made already, where a run goes on. */
  readonly steps: number;
  readonly stepsDone: number;
  readonly epochs: number;
  /** Of the engine. */
  readonly threads: number;
  /** Whether the page is cross-origin isolated: without that there is one thread. */
  readonly isolated: boolean;
  /** How the weights begin: drawn, the given ones with a new classifier, or those of the run itself. */
  readonly begins: "drawn" | "given" | "resumed";
  /** What will be kept of the run, in bytes, about; and what the browser says is left, where it says so. */
  readonly bytes: number;
  readonly bytesLeft?: number | undefined;
}

/** After every step. */
export interface StepEvent {
  readonly event: "step";
  /** Updates made, this one counted. */
  readonly step: number;
  readonly steps: number;
  /** Epochs done, with its fraction. */
  readonly epoch: number;
  /** Of this step's pictures, the weight decay's term counted. */
  readonly loss: number;
  /** The weight decay's term alone, which is most of it when little is wrong. */
  readonly decayLoss: number;
  readonly top1: number;
  readonly learningRate: number;
  /** Over the last few seconds. */
  readonly imagesPerSecond: number;
  readonly secondsLeft: number;
}

/** A held-out picture and what the network takes it for. */
export interface Example {
  /** Its place in `Run.pictures()`. */
  readonly index: number;
  readonly name: string;
  readonly label: string;
  readonly guess: string;
  /** Of the guess, 0 to 1. */
  readonly probability: number;
}

/** The pictures that were held out, scored; absent from a training that holds out none. */
export interface EvaluationEvent {
  readonly event: "evaluation";
  readonly step: number;
  readonly epoch: number;
  readonly images: number;
  /** Mean cross-entropy. */
  readonly loss: number;
  readonly top1: number;
  /** Whether these weights are the best so far. */
  readonly best: boolean;
  /** A dozen at most, spread over the held-out pictures, the same ones every time. */
  readonly examples: readonly Example[];
}

/** All up to this step is on the disk now, whatever happens to the page. */
export interface SavedEvent {
  readonly event: "saved";
  readonly step: number;
  /** Step of the best weights; null before the first evaluation. */
  readonly best: number | null;
}

export type BrowserEvent =
  PreparingEvent | LeftOutEvent | NoteEvent | PlanEvent | StepEvent | EvaluationEvent | SavedEvent;

/** Is called with every event, in order. */
export type Reporter = (event: BrowserEvent) => void;
