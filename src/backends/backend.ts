/**
 * What a backend does: load a program, run steps of training or inference on it.
 *
 * Weights live in arrays that the caller owns, so a checkpoint is a copy of them and two programs can
 * share one set. Backends: `reference` (TypeScript, f64, slow and plain) and `native` (C++).
 */

import type { PlaneId, Program } from "../program/program.js";

/** The trained numbers, f32, laid out as the program's parameter table says. */
export interface Weights {
  /** [parameterCount] */
  readonly parameters: Float32Array;
  /** [2 * planes]: moving means, then moving variances. */
  readonly statistics: Float32Array;
}

/** All that training carries from step to step. */
export interface TrainingState extends Weights {
  /** [parameterCount] */
  readonly momentum: Float32Array;
  /** [parameterCount]: exponential averages of the parameters. */
  readonly averages: Float32Array;
  /** [parameterCount]: gradients of the mean cross-entropy, without weight decay; overwritten each step. */
  readonly gradients: Float32Array;
}

export interface Batch {
  /** [batch, imageSize, imageSize, 3] RGB bytes. */
  readonly images: Uint8Array;
  /** [batch], 0 .. classes-1. */
  readonly labels: Int32Array;
}

export interface LossSettings {
  /** 0 for none: target = (1 - s) * onehot + s / classes. */
  readonly labelSmoothing: number;
  readonly weightDecay: number;
  /** [batch, features]: what each feature is multiplied by (0 or 1 / (1 - rate)); absent without dropout. */
  readonly dropoutMask?: Float32Array;
}

/**
 * Momentum SGD: g += weightDecay * w where the parameter decays; a = momentum * a + g;
 * w -= rate * (nesterov ? g + momentum * a : a); average = decay * average + (1 - decay) * w.
 */
export interface UpdateSettings {
  readonly learningRate: number;
  readonly momentum: number;
  readonly nesterov: boolean;
  readonly weightDecay: number;
  /** Decay of the averages for this step, 0 to make them equal the weights. */
  readonly averageDecay: number;
}

export interface StepResult {
  /** Mean softmax cross-entropy of the batch. */
  readonly crossEntropy: number;
  /** weightDecay * sum of squares / 2 over the decaying parameters. */
  readonly decayLoss: number;
  /** Samples whose label is the largest logit, and among the five largest (a tie at the boundary counts). */
  readonly correct1: number;
  readonly correct5: number;
  /** False when the loss or any gradient is not finite; then nothing was updated. */
  readonly finite: boolean;
}

/** A loaded training program. Calls must not overlap. */
export interface TrainingRun {
  /** Forward, backward, then the update of weights, momentum, averages and moving statistics if all is finite. */
  step(batch: Batch, loss: LossSettings, update: UpdateSettings): Promise<StepResult>;
  /** Forward and backward only: fills `gradients`; the batch's statistics are kept for `update`. */
  computeGradients(batch: Batch, loss: LossSettings): Promise<StepResult>;
  /** Applies `gradients` and the last batch's statistics. */
  applyUpdate(update: UpdateSettings): Promise<void>;
  /** [batch, classes] of the last step. */
  readonly logits: Float32Array;
  readonly inspect: Inspection;
  close(): void;
}

/** A loaded inference program. Calls must not overlap. */
export interface InferenceRun {
  /** Takes a copy of the weights for the calls of `infer` that follow. */
  load(weights: Weights): void;
  /** Logits [count, classes] for images [count, size, size, 3], count <= batch, with moving statistics. */
  infer(images: Uint8Array, count: number): Promise<Float32Array>;
  readonly inspect: Inspection;
  close(): void;
}

/**
 * A look inside, for tests and profiles. Planes are copied in and out as [batch, height, width].
 * `table` names a per-plane number; it reads and writes one value per plane.
 */
export interface Inspection {
  readPlane(plane: PlaneId, what: "value" | "gradient"): Float64Array;
  writePlane(plane: PlaneId, what: "value" | "gradient", values: Float64Array): void;
  readTable(table: Table): Float64Array;
  writeTable(table: Table, values: Float64Array): void;
  /** Runs one step in one direction on what stands in the planes and tables. */
  runStep(index: number, direction: "forward" | "backward"): Promise<void>;
  /** Seconds that each step took in the last run, forward and backward; zeros when not measured. */
  readonly seconds: { readonly forward: Float64Array; readonly backward: Float64Array };
}

/**
 * mean and variance (biased) of the batch, scale and shift for readers, gradientSum = sum of g and
 * gradientDot = sum of g * z over a plane, as the last writer of g left them.
 */
export type Table = "mean" | "variance" | "scale" | "shift" | "gradientSum" | "gradientDot";

export interface BackendOptions {
  /** Threads of the engine; 0 for one per available core. */
  readonly threads: number;
  /** Instruction set of the native engine; absent for the one that RIFFLE_ISA names, or the widest. */
  readonly isa?: string | undefined;
}

export interface Backend {
  readonly name: string;
  train(program: Program, state: TrainingState, options: BackendOptions): TrainingRun;
  infer(program: Program, options: BackendOptions): InferenceRun;
}
