/**
 * What the engine offers, typed: the addon as it is (native/binding/engine.cc), and WebAssembly behind backends/wasm.
 */

import type { Program } from "../../program/program.js";
import type { Doing, ExchangeKind, Machine, PlaneView, TrainingArrays } from "../backend.js";

/** A loaded program inside the engine. */
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
export interface EngineProfile {
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

/** What `Batch` and a dropout mask are to the engine: arrays in this order, or null. */
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
  /** The arrays of a training run in the order above: its own memory where that can be, so right until the next call only. */
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
  takeProfile(run: Run): EngineProfile;
  seconds(run: Run, backward: boolean, out: Float64Array): void;
  /** How this machine makes products of bf16: "unpack", "dot"; the fastest last. */
  products(isa: string): string[];
  machine(): { available: string[]; compiler: string };
  measurePeak(threads: number, isa: string, bf16: boolean): Promise<[number, number]>;
}

/** What a backend on an engine knows besides: the machine, and what its errors mean. */
export interface EngineAccess {
  /** The backend's name. */
  readonly name: string;
  /** @throws ResourceError where there is none. */
  engine(): Engine;
  /** See `Backend.machine`. */
  machine(isa?: string): Machine;
  /** How products of bf16 are to be made where no option says it. */
  products(): string | undefined;
  /** Calls of `infer` that a run takes before the first has ended. */
  readonly callsAtOnce: number;
  /** @throws RiffleError for a program that this engine cannot take, before memory is asked for; `threads` work on it. */
  admit?(program: Program, threads: number): void;
  /** An error that the engine threw, in our words where the machine had too little for the `bytes` of a run; any other is returned as it is. */
  inWords(error: unknown, bytes: number): unknown;
}
