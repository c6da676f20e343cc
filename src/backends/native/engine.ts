/**
 * What the addon offers the engine's side, typed (native/binding/addon.cc has the other side).
 */

import { loadAddon } from "../../core/addon.js";

/** A loaded program inside the addon. */
export interface Run {
  readonly brand: "run";
}

export interface NativeState {
  readonly parameters: Float32Array;
  readonly statistics: Float32Array;
  readonly gradients?: Float32Array;
  readonly momentum?: Float32Array;
  readonly averages?: Float32Array;
}

export interface Engine {
  /** As a team, each thread runs the (inference) program alone, on portions of its batch. */
  createRun(words: Float64Array, threads: number, isa: string, team: boolean): Run;
  closeRun(run: Run): void;
  /** loss = [labelSmoothing, weightDecay]; resolves to [crossEntropy, decayLoss, correct1, correct5, finite]. */
  trainStep(
    run: Run,
    images: Uint8Array,
    labels: Int32Array,
    loss: Float64Array,
    dropoutMask: Float32Array | null,
    state: NativeState,
    update: Float64Array | null,
  ): Promise<[number, number, number, number, number]>;
  /** update = [learningRate, momentum, weightDecay, averageDecay, nesterov]. */
  applyUpdate(run: Run, state: NativeState, update: Float64Array): Promise<void>;
  loadWeights(run: Run, weights: NativeState): void;
  infer(run: Run, images: Uint8Array, count: number, logits: Float32Array): Promise<void>;
  runStep(run: Run, index: number, backward: boolean, state: NativeState): Promise<void>;
  logits(run: Run, out: Float32Array): void;
  plane(run: Run, id: number, gradient: boolean, write: boolean, values: Float64Array): void;
  table(run: Run, which: number, write: boolean, values: Float64Array): void;
  seconds(run: Run, backward: boolean, out: Float64Array): void;
  machine(): { available: string[]; compiler: string; libjpeg: boolean; threads: number };
  measurePeak(threads: number, isa: string): Promise<[number, number]>;
}

export function engine(): Engine {
  return loadAddon() as Engine;
}
