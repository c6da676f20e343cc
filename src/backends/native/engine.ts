/**
 * What the addon offers the engine's side, typed (native/binding/engine.cc has the other side).
 */

import { addonError, loadAddon } from "../../core/addon.js";
import type { Doing, ExchangeKind, PlaneView, TrainingArrays } from "../backend.js";

/** A loaded program inside the addon. */
export interface Run {
  readonly brand: "run";
}

/** A run's arrays in the order of `enum StateArray` (native/runtime/state.h). */
export const stateArrays = [
  "parameters",
  "statistics",
  "momentum",
  "averages",
  "gradients",
] as const satisfies (keyof TrainingArrays)[];

/** What layers are looked at as, in the order of `enum class MapView` (native/runtime/executor.h). */
export const views = ["normalised", "value", "gradient"] as const satisfies PlaneView[];

/** In the order of `enum class Doing` (native/runtime/profile.h). */
export const doings = [
  "forward",
  "backward",
  "packing",
  "loss",
  "summing",
  "exchanging",
  "checking",
  "updating",
] as const satisfies Doing[];

/** Times in nanoseconds of the engine's clock. */
interface NativeProfile {
  /** Of each thread its spans: [begin, end, layer or -1, index in `doings`, waits]. */
  readonly threads: readonly Float64Array[];
  /** [begin, end, thread, decodes] */
  readonly jobs: Float64Array;
  readonly lost: number;
  readonly now: number;
  /** The same moment in microseconds since 1970. */
  readonly wall: number;
}

export type StepNumbers = readonly [
  ...[number, number, number, number, number, number, number, number],
  ...[number, number, number, number],
];

/** What `Batch` and a dropout mask are to the addon: arrays in this order, or null. */
export type EngineBatch = readonly [
  images: Uint8Array,
  labels: Int32Array,
  dropoutMask: Float32Array | null,
  weights: Float32Array | null,
  mixedLabels: Int32Array | null,
  shares: Float32Array | null,
];

export interface Engine {
  /** As a team, each thread runs the (inference) program alone, on portions of its batch. */
  createRun(
    words: Float64Array,
    threads: number,
    isa: string,
    team: boolean,
    exchange: ExchangeKind,
    synchronised: boolean,
    products: string,
  ): Run;
  closeRun(run: Run): void;
  /** The arrays of a training run themselves, in the order above; to be asked for once. */
  stateOf(run: Run): Float32Array[];
  /** Copies into the run what is given; an inference run takes it into use. */
  writeState(run: Run, ...arrays: (Float32Array | null)[]): Promise<void>;
  /**
   * loss = [labelSmoothing, weightDecay, scale, gradientOf "logit"], updates = those of applyUpdate, one after the other; resolves to rows
   * [crossEntropy, decayLoss, correct1, correct5, finite, stops, failures, exchangeSeconds, scale, good, bad, consecutive].
   */
  trainSteps(
    run: Run,
    batches: readonly EngineBatch[],
    loss: Float64Array,
    updates: Float64Array | null,
    index: number,
    count: number,
  ): Promise<StepNumbers[]>;
  /** scale = [kind, scale, good, bad, consecutive], the kind's place in `lossScalings`. */
  setLossScale(run: Run, scale: Float64Array): void;
  /** In place of the shards that are left of a step. */
  abandonStep(run: Run): Promise<void>;
  /** Asks all ranks to stop after the step in progress. */
  requestStop(run: Run): void;
  /** update = [learningRate, momentum, weightDecay, averageDecay, nesterov]. */
  applyUpdate(run: Run, update: Float64Array): Promise<void>;
  infer(run: Run, images: Uint8Array, count: number, logits: Float32Array): Promise<void>;
  logits(run: Run, out: Float32Array): void;
  /** The planes as the view (of `views`) says: [images, planes, height, width]. */
  map(run: Run, planes: Int32Array, images: number, view: number, out: Float32Array): void;
  /** One layer of a step in one direction: see `WalkTime`. Resolves to [crossEntropy, decayLoss], zeros but after the last forward. */
  runTime(run: Run, time: number, batch: EngineBatch, loss: Float64Array): Promise<[number, number]>;
  /** Room for so many spans a thread, and for so many jobs. */
  startProfile(run: Run, room: number): void;
  takeProfile(run: Run): NativeProfile;
  seconds(run: Run, backward: boolean, out: Float64Array): void;
  /** How this machine makes products of bf16: "unpack", "dot"; the fastest last. */
  products(isa: string): string[];
  machine(): { available: string[]; compiler: string };
  measurePeak(threads: number, isa: string, bf16: boolean): Promise<[number, number]>;
}

export function engine(): Engine {
  return loadAddon() as Engine;
}

/** Asks the engine for work on a program whose run takes `bytes`. @throws ResourceError where the machine has too little. */
export async function ask<T>(bytes: number, work: (engine: Engine) => T | Promise<T>): Promise<T> {
  try {
    return await work(engine());
  } catch (error) {
    throw engineError(error, bytes);
  }
}

/** The addon's own words for want of memory or threads become ours. */
export function engineError(error: unknown, bytes: number): unknown {
  return addonError(error, {
    expected: `${Math.ceil(bytes / 2 ** 20).toLocaleString("en")} MB for the engine's buffers`,
    hint: "Use a smaller --image_size, or a smaller --batch_size and in training an --lr smaller in proportion",
  });
}
