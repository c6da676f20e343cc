/**
 * What a backend does: load a program, run steps of training or inference on it.
 *
 * A run owns its weights and all that training carries, wherever the backend keeps them. Backends: `reference` (TypeScript, f64, slow and plain) and `native` (C++).
 */

import { firstTraining, type PlaneId, type Program, type Storage } from "../program/program.js";
import type { LossScale, LossScaleCounts } from "./loss-scale.js";

/** The trained numbers, f32, laid out as the program's parameter table says. */
export interface Weights {
  /** [parameterCount] */
  readonly parameters: Float32Array;
  /** [2 * planes]: moving means, then moving variances. */
  readonly statistics: Float32Array;
}

/** All that training carries from step to step, and so what a checkpoint holds. */
export interface TrainingState extends Weights {
  /** [parameterCount] */
  readonly momentum: Float32Array;
  /** [parameterCount]: exponential averages of the parameters. */
  readonly averages: Float32Array;
}

/** All arrays of a training run. */
export interface TrainingArrays extends TrainingState {
  /** [parameterCount]: gradients of the mean cross-entropy, or what the loss says, without weight decay; overwritten each step. */
  readonly gradients: Float32Array;
}

export interface Batch {
  /** [batch, imageSize, imageSize, 3] RGB bytes. */
  readonly images: Uint8Array;
  /** [batch], 0 .. classes-1. */
  readonly labels: Int32Array;
  /** [batch]: what each picture's loss and gradient are multiplied by; absent for 1. */
  readonly weights?: Float32Array | undefined;
  /** Where pictures are mixed of two: what else they show. */
  readonly mixed?: Mixed | undefined;
}

/** Of pictures mixed of two, [batch] each: target = share * (that of the label) + (1 - share) * (that of the other label). */
export interface Mixed {
  /** 0 .. classes-1. */
  readonly labels: Int32Array;
  /** 0 .. 1, of the batch's own `labels`. */
  readonly shares: Float32Array;
}

export interface LossSettings {
  /** 0 for none: target = (1 - s) * onehot + s / classes. */
  readonly labelSmoothing: number;
  readonly weightDecay: number;
  /** [batch, features]: what each feature is multiplied by (0 or 1 / (1 - rate)); absent without dropout. */
  readonly dropoutMask?: Float32Array;
  /**
   * What gradients are of: the mean cross-entropy unless told, or the mean of the labels' logits, for who asks what speaks for a
   * class (inference/explain.ts). The results say the cross-entropy either way.
   */
  readonly gradientOf?: "cross-entropy" | "logit";
}

/**
 * Momentum SGD: g += weightDecay * w where the parameter decays; a = momentum * a + g;
 * w -= rate * (nesterov ? g + momentum * a : a), rate being the learning rate times the parameter's `rate`; average = decay * average + (1 - decay) * w.
 */
export interface UpdateSettings {
  readonly learningRate: number;
  readonly momentum: number;
  readonly nesterov: boolean;
  readonly weightDecay: number;
  /** Decay of the averages for this step, 0 to make them equal the weights. */
  readonly averageDecay: number;
}

/**
 * Which of a process' shards of a step a batch is. Each has its own batch norm and gradient; gradients (f32), batch
 * statistics and cross-entropies (f64) are added in a binary tree over the shards' numbers (distributed/shard-sums.ts) and divided by how many there are.
 */
export interface Shard {
  /** From 0, in order. */
  readonly index: number;
  /** Shards that this process runs in a step. */
  readonly count: number;
}

export interface StepResult {
  /** Mean softmax cross-entropy of the batch, each picture's times its weight. */
  readonly crossEntropy: number;
  /** weightDecay * sum of squares / 2 over the decaying parameters. */
  readonly decayLoss: number;
  /** Samples whose label is the largest logit, and among the five largest (a tie at the boundary counts). */
  readonly correct1: number;
  readonly correct5: number;
  /** False when the loss or any gradient is not finite; then nothing was updated. */
  readonly finite: boolean;
  /** How many processes had asked to stop (`requestStop`): the same number in all. */
  readonly stops: number;
  /** How many processes had abandoned the step: the same number in all; then nothing was updated. */
  readonly failures: number;
  /** Seconds that went into waiting for other processes and adding up what they sent. */
  readonly exchangeSeconds: number;
  /** After the step. */
  readonly lossScale: LossScaleCounts;
}

/** Steps of training that are made in one call. */
export interface Loop {
  /** Of consecutive shards, `first` that of the first; a step has one for each shard of this process. */
  readonly batches: readonly Batch[];
  readonly first: Shard;
  readonly loss: Omit<LossSettings, "dropoutMask">;
  /** As many as batches; absent without dropout. */
  readonly dropoutMasks?: readonly Float32Array[] | undefined;
  /** As many as whole steps: the n-th belongs to the n-th step that is finite. */
  readonly updates: readonly UpdateSettings[];
}

/** A loaded training program; all of its arrays are zero until they are written. Calls must not overlap. */
export interface TrainingRun {
  /** What the run holds: its own memory where that can be, so it is right until the next call only. */
  readState(): Promise<TrainingArrays>;
  /** Takes over what the arrays given hold; those that `readState` gave, filled anew, cost no copy. */
  writeState(from: Partial<TrainingArrays>): Promise<void>;
  /**
   * Forward, backward, then the update of weights, momentum, averages and moving statistics if all is finite.
   *
   * Of several shards all but the last are put aside: nothing is updated, the result is the shard's own. With the last
   * the sum is made, and the result is that of the whole step; `gradients` then are the mean of all shards'. The first
   * shard begins a step, whatever another has left.
   */
  step(batch: Batch, loss: LossSettings, update: UpdateSettings, shard?: Shard): Promise<StepResult>;
  /**
   * Steps one after the other, each as `step` makes it; a result for each, and the own one of a shard whose step goes on.
   *
   * Ends early after a step that a process asked to stop at or abandoned, and after one that is not finite where no loss
   * scale can mend that.
   */
  steps(loop: Loop): Promise<StepResult[]>;
  /**
   * What the loss of the steps that follow is multiplied by; 1 before. Gradients are divided by it again when they have been
   * added and are known to be finite; statistics count among what has to be.
   */
  scaleLoss(scale: LossScale): void;
  /** In place of the shards that are left of a step, so that the other processes learn of a failure with its result. */
  abandonStep(): Promise<void>;
  /** Asks all processes of the run to stop: the next result of a whole step tells them. May come while a step runs. */
  requestStop(): void;
  /** Forward and backward of a step of one shard: fills `gradients`; the batch's statistics are kept for `update`. */
  computeGradients(batch: Batch, loss: LossSettings): Promise<StepResult>;
  /** Applies `gradients` and the last batch's statistics. */
  applyUpdate(update: UpdateSettings): Promise<void>;
  /** [batch, classes] of the last step, a copy. */
  logits(): Float32Array;
  /** What readers of a kept layer saw in the last step, normalised and clipped: [batch, channels, height, width]. */
  kept(layer: string): Float32Array;
  /**
   * Forward and backward of a shard, one layer at a time: for who looks at each before the places of its planes are used
   * again (program/plan-memory.ts). Fills `gradients`, `scale` times as large; nothing is exchanged or updated, and the next
   * `step` begins anew.
   */
  walk(batch: Batch, loss: LossSettings, scale: number, visit: WalkVisitor): Promise<void>;
  /** Planes of one size, all of whose values stand at this time of a walk: [batch, planes, height, width]. */
  planes(planes: readonly PlaneId[], view: PlaneView): Float32Array;
  /** Writes down what threads do in the next steps, so many of them at most; absent where the backend cannot. */
  startProfile?(steps: number): void;
  /** What was written down since, and no more is. */
  takeProfile?(): RunProfile;
  stepSeconds(): StepSeconds;
  close(): void;
}

/** The moment right after a step of the program has run, as the memory plan counts: forward in order, then backward. */
export interface WalkTime {
  readonly step: number;
  readonly direction: "forward" | "backward";
}

/** With the loss once the last layer has run forward; zeros before and after. */
export type WalkVisitor = (
  time: WalkTime,
  loss: Pick<StepResult, "crossEntropy" | "decayLoss">,
) => void | Promise<void>;

/** All times of a walk; backward ends at the first step that trains. */
export function walkTimes(program: Program): WalkTime[] {
  const steps = program.steps.map((_, step) => step);
  const backward = steps.slice(firstTraining(program)).reverse();
  return [
    ...steps.map((step) => ({ step, direction: "forward" as const })),
    ...backward.map((step) => ({ step, direction: "backward" as const })),
  ];
}

/** A plane as its readers see it, its z, or its g. */
export type PlaneView = "normalised" | "value" | "gradient";

/** What a thread of the engine does: a layer in a direction, or what lies between layers. */
export type Doing =
  "forward" | "backward" | "packing" | "loss" | "summing" | "exchanging" | "checking" | "updating";

/** A stretch of time in milliseconds of `performance.now()`. */
export interface Stretch {
  readonly begin: number;
  readonly end: number;
}

export interface EngineSpan extends Stretch {
  /** Index of the program's step; absent for what belongs to none. */
  readonly layer: number | undefined;
  readonly doing: Doing;
  /** For the other threads' part in it. */
  readonly waits: boolean;
}

export interface RunProfile {
  /** Of each thread, in order of time; the first is in a span all through a step, another in its part of each job. */
  readonly threads: readonly (readonly EngineSpan[])[];
  /** Reading and decoding of a few pictures each, in the whole process; threads are numbered as they come. */
  readonly jobs: readonly (Stretch & { readonly thread: number; readonly what: "reading" | "decoding" })[];
  /** Spans that there was no room for. */
  readonly lost: number;
  /** Milliseconds since 1970 at 0 of `performance.now()`, by the clock of now. */
  readonly epoch: number;
}

/** A loaded inference program. Calls must not overlap. */
export interface InferenceRun {
  /** Takes a copy of the weights for the calls of `infer` that follow. */
  load(weights: Weights): Promise<void>;
  /** Calls of `infer` that may be under way: with a second one the engine need not wait for JavaScript between two. */
  readonly callsAtOnce: number;
  /** Logits [count, classes] for images [count, size, size, 3], count <= batch, with moving statistics. */
  infer(images: Uint8Array, count: number): Promise<Float32Array>;
  /** What readers of a kept layer saw in the last call of `infer`: [count, channels, height, width]. */
  kept(layer: string): Float32Array;
  stepSeconds(): StepSeconds;
  close(): void;
}

/** Seconds that each step of the program took in the last run; zeros before, and backward where there is none. */
export interface StepSeconds {
  readonly forward: Float64Array;
  readonly backward: Float64Array;
}

/**
 * How the processes of a run add their gradients: not at all, in memory that all of a machine see, by messages after
 * backward or while it goes on.
 */
export type ExchangeKind = "none" | "window" | "messages" | "overlapped";

export interface BackendOptions {
  /** Threads of the engine; 0 for one per available core. */
  readonly threads: number;
  /** Instruction set of the native engine; absent for the one that RIFFLE_ISA names, or the widest. */
  readonly isa?: string | undefined;
  /**
   * How the native engine makes products of bf16: by the instruction for two of them, or unpacked to f32. The bits are the
   * same. Absent for the one that RIFFLE_PRODUCTS names, or the faster on this machine.
   */
  readonly products?: "dot" | "unpack" | undefined;
  /** Of a training run; "none" when absent. */
  readonly exchange?: ExchangeKind | undefined;
  /** One batch norm over the batches of all processes, each of which then runs one shard. */
  readonly synchronised?: boolean | undefined;
  readonly tuning?: Tuning | undefined;
  /** Inference: calls may bring far fewer pictures than the batch, and are not to take as long; costs the memory of one more. */
  readonly few?: boolean | undefined;
}

/** How a step's forward pass is cut into tasks; 0 where the engine is to choose (native/runtime/program.h). */
export interface Cut {
  /** Columns of a block of a pointwise step that does not train, a multiple of 32. */
  readonly blockColumns: number;
  /** Tasks that share the rows of such a block. */
  readonly rowParts: number;
  /** Tasks of neighbouring blocks of a pointwise step, or planes of a depthwise one. */
  readonly runs: number;
}

/** Choices of the native engine that decide how long a program takes, and no bit of what it computes. */
export interface Tuning {
  /** Of each of the program's steps. */
  readonly cuts: readonly Cut[];
  /** Of inference: pictures that a thread takes at a time, 0 where all threads work on the same; absent as usual. */
  readonly portion?: number | undefined;
  /** Absent as usual; `products` of the options goes before it. */
  readonly products?: "dot" | "unpack" | undefined;
}

export interface Tuned {
  readonly tuning: Tuning;
  /** How many times as fast the program is as without it, measured; 1 where nothing was faster. */
  readonly speedup: number;
}

/** What a backend found on this machine. */
export interface Machine {
  /** The instruction set that kernels run on: the widest found, or the one that was asked for. */
  readonly isa: string;
  /** Whether RIFFLE_ISA, or the caller, asked for it. */
  readonly forced: boolean;
  /** All that this build has and this machine runs, plainest first. */
  readonly available: readonly string[];
  /** Threads that `threads: 0` means. */
  readonly threads: number;
  /** What built the backend: "GCC 12.2.0". */
  readonly compiler: string;
}

/** What the machine can do at best, per second. */
export interface Peak {
  readonly gflops: number;
  readonly copyGigabytes: number;
}

export interface Backend {
  readonly name: string;
  train(program: Program, options: BackendOptions): TrainingRun;
  infer(program: Program, options: BackendOptions): InferenceRun;
  /** Bytes that a run of this program takes: its planes and its state. */
  plan(program: Program): number;
  /** @throws UsageError when the instruction set asked for is not here. */
  machine(isa?: string): Machine;
  /** Measures it, for the products of planes stored so; takes about a second. */
  peak(options: BackendOptions, storage: Storage): Promise<Peak>;
  /**
   * Finds what is faster for this program on this machine, by running it for some seconds on made-up pictures; absent where
   * there is nothing to choose. `progress` hears of every run, and ends it by throwing.
   */
  tune?(
    program: Program,
    options: BackendOptions,
    progress?: (done: number, total: number) => void,
  ): Promise<Tuned>;
  /** Whether the engine would take it, for a tuning that was kept in a file. */
  fits?(program: Program, options: BackendOptions, tuning: Tuning): boolean;
}
