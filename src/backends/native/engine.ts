/**
 * What the addon offers the engine's side, typed (native/binding/engine.cc has the other side).
 */

import { addonError, loadAddon } from "../../core/addon.js";
import type { ExchangeKind, TrainingArrays } from "../backend.js";

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

export type StepNumbers = readonly [
  ...[number, number, number, number, number, number, number, number],
  ...[number, number, number, number],
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
  ): Run;
  closeRun(run: Run): void;
  /** The arrays of a training run themselves, in the order above; to be asked for once. */
  stateOf(run: Run): Float32Array[];
  /** Copies into the run what is given; an inference run takes it into use. */
  writeState(run: Run, ...arrays: (Float32Array | null)[]): Promise<void>;
  /**
   * loss = [labelSmoothing, weightDecay], updates = those of applyUpdate, one after the other; resolves to rows
   * [crossEntropy, decayLoss, correct1, correct5, finite, stops, failures, exchangeSeconds, scale, good, bad, consecutive].
   */
  trainSteps(
    run: Run,
    images: readonly Uint8Array[],
    labels: readonly Int32Array[],
    loss: Float64Array,
    dropoutMasks: readonly Float32Array[] | null,
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
  /** The planes as their readers see them: [images, planes, height, width]. */
  map(run: Run, planes: Int32Array, images: number, out: Float32Array): void;
  seconds(run: Run, backward: boolean, out: Float64Array): void;
  machine(): { available: string[]; compiler: string };
  measurePeak(threads: number, isa: string): Promise<[number, number]>;
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
