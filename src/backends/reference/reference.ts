/**
 * The reference backend: every step as its formula says, in f64, one plane at a time.
 *
 * It is what fast backends are tested against, and is itself tested against TensorFlow's numbers and
 * central differences. Weights and gradients are f32 arrays, unless a test writes others; all between is f64.
 */

import { setImmediate } from "node:timers/promises";

import { UsageError } from "../../core/error.js";
import {
  firstTraining,
  keptPlanes,
  outputsOf,
  type Plane,
  type PlaneId,
  type Program,
} from "../../program/program.js";
import {
  type Backend,
  type Batch,
  type InferenceRun,
  type Loop,
  type LossSettings,
  type PlaneView,
  type Shard,
  type StepResult,
  type StepSeconds,
  type TrainingArrays,
  type TrainingRun,
  type UpdateSettings,
  walkTimes,
  type WalkVisitor,
  type Weights,
} from "../backend.js";
import { batchNormGradients, normaliseByMoving } from "./batch-norm.js";
import type { HeadMemory, LossAndGradient, Targets } from "./head-passes.js";
import { passesOf, type Passing } from "./passes.js";
import { createMachine, type Machine, readMap } from "./planes.js";
import {
  initialLossScale,
  isStuck,
  type LossScale,
  type LossScaleCounts,
  nextLossScale,
} from "../loss-scale.js";
import { ShardSums } from "../../distributed/shard-sums.js";
import type { StemMemory } from "./stem-passes.js";
import { batchStatistics, decayLoss, updateParameters, updateStatistics } from "./update.js";

export const referenceBackend: Backend = {
  name: "reference",
  train: (program) => new ReferenceTraining(program),
  infer: (program) => new ReferenceInference(program),
  plan: ({ planes, batch, parameterCount, mode }) =>
    planes.reduce((sum, { height, width }) => sum + height * width, 0) *
      batch *
      8 *
      (mode === "train" ? 2 : 1) +
    parameterCount * 4 * (mode === "train" ? 4 : 1),
  machine: () => ({ isa: "f64", forced: false, available: ["f64"], threads: 1, compiler: "TypeScript" }),
  peak: () => Promise.resolve({ gflops: NaN, copyGigabytes: NaN }),
};

/** Loss of a run that only infers: never read. */
const NO_LOSS: LossSettings = { labelSmoothing: 0, weightDecay: 0 };

/** One program and all that its steps hand to each other. */
export class Execution implements Passing {
  readonly machine: Machine;
  images: Uint8Array = new Uint8Array(0);
  targets: Targets = { labels: new Int32Array(0) };
  loss: LossSettings = NO_LOSS;
  lossScale = 1;
  stem: StemMemory | undefined;
  head: HeadMemory | undefined;
  outcome: LossAndGradient | undefined;
  readonly seconds: StepSeconds;
  /** Gradients, momentum and averages are empty where nothing is trained. */
  readonly arrays: { -readonly [K in keyof TrainingArrays]: TrainingArrays[K] };

  constructor(program: Program) {
    this.machine = createMachine(program);
    const trained = (): Float32Array =>
      new Float32Array(program.mode === "train" ? program.parameterCount : 0);
    this.arrays = {
      parameters: new Float32Array(program.parameterCount),
      statistics: new Float32Array(2 * program.planes.length),
      momentum: trained(),
      averages: trained(),
      gradients: trained(),
    };
    const count = program.steps.length;
    this.seconds = { forward: new Float64Array(count), backward: new Float64Array(count) };
  }

  readonly weights = (): Weights => this.arrays;

  get gradients(): Float32Array {
    return this.arrays.gradients;
  }

  /** Copies; an array of f64, which tests write, stays one. */
  write(from: Partial<TrainingArrays>): void {
    for (const name of arrayNames(from)) {
      const values = from[name] as Float32Array;
      fits(this.arrays[name], values, name);
      if (values !== this.arrays[name]) this.arrays[name] = values.slice();
    }
  }

  forward(): void {
    this.machine.program.steps.forEach((_, index) => this.runStep(index, "forward"));
  }

  backward(): void {
    const { program } = this.machine;
    for (let index = program.steps.length - 1; index >= firstTraining(program); index--)
      this.runStep(index, "backward");
  }

  runStep(index: number, direction: "forward" | "backward"): void {
    const step = this.machine.program.steps[index];
    if (step === undefined) throw new RangeError(`the program has no step ${index}`);
    const start = performance.now();
    const { machine, gradients } = this;
    if (direction === "backward") {
      for (const plane of outputsOf(step)) {
        const { gamma, beta } = machine.program.planes[plane] as Plane;
        const { dgamma, dbeta } = batchNormGradients(machine, plane);
        gradients[gamma] = dgamma;
        gradients[beta] = dbeta;
      }
    } else if (step.statistics === "moving") {
      for (const plane of outputsOf(step)) normaliseByMoving(machine, plane, this.weights());
    }
    passesOf(step)[direction](this, step);
    this.seconds[direction][index] = (performance.now() - start) / 1000;
  }
}

/** What both kinds of run have; memory is the garbage collector's. */
class ReferenceRun {
  readonly execution: Execution;

  constructor(program: Program) {
    this.execution = new Execution(program);
  }

  kept(layer: string): Float32Array {
    return readMap(this.execution.machine, keptPlanes(this.execution.machine.program, layer));
  }

  stepSeconds(): StepSeconds {
    return this.execution.seconds;
  }

  close(): void {}
}

/** A shard that is all of its step. */
const WHOLE: Shard = { index: 0, count: 1 };

export class ReferenceTraining extends ReferenceRun implements TrainingRun {
  /** Those of the step in progress that were put aside. */
  #shards = new StepOfShards();
  #stops = false;
  #scale: LossScale = initialLossScale("none");

  readState(): Promise<TrainingArrays> {
    return Promise.resolve({ ...this.execution.arrays });
  }

  writeState(from: Partial<TrainingArrays>): Promise<void> {
    return promise(() => this.execution.write(from));
  }

  step(batch: Batch, loss: LossSettings, update: UpdateSettings, shard: Shard = WHOLE): Promise<StepResult> {
    return promise(() => {
      const own = this.#computeGradients(batch, loss);
      if (shard.count === 1) {
        this.#unscale();
        return this.#end(own, update, batchStatistics(this.execution.machine));
      }
      if (shard.index === 0) this.#shards = new StepOfShards();
      const { gradients } = this.execution.arrays;
      this.#shards.add(shard, own, gradients, batchStatistics(this.execution.machine));
      if (shard.index < shard.count - 1) return own;
      const { mean, result, statistics } = this.#shards.end();
      gradients.set(mean);
      const finite = this.#isFinite(result, statistics);
      this.#unscale();
      return this.#end({ ...own, ...result, finite }, update, statistics);
    });
  }

  async steps({ batches, first, loss, dropoutMasks, updates }: Loop): Promise<StepResult[]> {
    const results: StepResult[] = [];
    let applied = 0;
    for (const [i, batch] of batches.entries()) {
      const shard = { index: (first.index + i) % first.count, count: first.count };
      const isWhole = shard.index === shard.count - 1;
      const dropoutMask = dropoutMasks?.[i];
      const own = { ...loss, ...(dropoutMask === undefined ? {} : { dropoutMask }) };
      const result = await this.step(batch, own, updates[applied] as UpdateSettings, shard);
      if (isWhole || i === batches.length - 1) results.push(result);
      if (!isWhole) continue;
      if (result.finite) applied++;
      await setImmediate(); // so that a request to stop is heard
      if (this.#stops || this.#isHopeless(result)) break;
    }
    return results;
  }

  scaleLoss(scale: LossScale): void {
    this.#scale = scale;
  }

  abandonStep(): Promise<void> {
    return Promise.resolve(); // there are no other processes
  }

  requestStop(): void {
    this.#stops = true;
  }

  computeGradients(batch: Batch, loss: LossSettings): Promise<StepResult> {
    return promise(() => {
      const result = this.#computeGradients(batch, loss);
      this.#unscale();
      return result;
    });
  }

  applyUpdate(update: UpdateSettings): Promise<void> {
    return promise(() => this.#applyUpdate(update, batchStatistics(this.execution.machine)));
  }

  logits(): Float32Array {
    return Float32Array.from((this.execution.head as HeadMemory).logits);
  }

  async walk(batch: Batch, loss: LossSettings, scale: number, visit: WalkVisitor): Promise<void> {
    const { execution } = this;
    const { program } = execution.machine;
    this.#take(batch, loss, scale);
    for (const time of walkTimes(program)) {
      execution.runStep(time.step, time.direction);
      const isLoss = time.direction === "forward" && time.step === program.steps.length - 1;
      const crossEntropy = isLoss ? (execution.outcome as LossAndGradient).crossEntropy : 0;
      const decay = isLoss ? decayLoss(program, execution.arrays.parameters, loss.weightDecay) : 0;
      await visit(time, { crossEntropy, decayLoss: decay });
    }
  }

  planes(planes: readonly PlaneId[], view: PlaneView): Float32Array {
    return readMap(this.execution.machine, planes, view);
  }

  #take(batch: Batch, loss: LossSettings, scale: number): void {
    const { execution } = this;
    checkBatch(execution.machine.program, batch);
    execution.images = batch.images;
    execution.targets = batch;
    execution.loss = loss;
    execution.lossScale = scale;
  }

  /** Scaled. */
  #computeGradients(batch: Batch, loss: LossSettings): StepResult {
    const { execution } = this;
    const { machine, arrays } = execution;
    const { program } = machine;
    this.#take(batch, loss, this.#scale.scale);
    execution.forward();
    execution.backward();
    const { crossEntropy, correct1, correct5 } = execution.outcome as LossAndGradient;
    const decay = decayLoss(program, arrays.parameters, loss.weightDecay);
    const result = { crossEntropy, decayLoss: decay, correct1, correct5 };
    return {
      ...result,
      finite: this.#isFinite(result, batchStatistics(machine)),
      stops: Number(this.#stops),
      failures: 0,
      exchangeSeconds: 0,
      lossScale: countsOf(this.#scale),
    };
  }

  /** Of the scaled gradients; where a step can be skipped, what it would leave in the statistics counts as well. */
  #isFinite({ crossEntropy, decayLoss: decay }: Outcome, statistics: Float64Array): boolean {
    return (
      Number.isFinite(crossEntropy + decay) &&
      this.execution.arrays.gradients.every(Number.isFinite) &&
      (this.#scale.kind === "none" || statistics.every((value) => Number.isFinite(Math.fround(value))))
    );
  }

  #unscale(): void {
    const { scale } = this.#scale;
    if (scale === 1) return;
    const { gradients } = this.execution.arrays;
    for (let i = 0; i < gradients.length; i++) gradients[i] = (gradients[i] as number) / scale;
  }

  /** A whole step: its update, and what becomes of the loss scale. */
  #end(result: StepResult, update: UpdateSettings, statistics: Float64Array): StepResult {
    if (result.finite) this.#applyUpdate(update, statistics);
    this.#scale = nextLossScale(this.#scale, result.finite);
    return { ...result, lossScale: countsOf(this.#scale) };
  }

  /** Not finite, and no loss scale mends that: weights that are not finite, or too large, stay so. */
  #isHopeless({ finite, decayLoss: decay }: StepResult): boolean {
    return !finite && (this.#scale.kind === "none" || isStuck(this.#scale) || !Number.isFinite(decay));
  }

  #applyUpdate(update: UpdateSettings, statistics: Float64Array): void {
    const { machine, arrays } = this.execution;
    updateParameters(machine.program, arrays, update);
    updateStatistics(machine, arrays.statistics, statistics);
  }
}

type Outcome = Pick<StepResult, "crossEntropy" | "decayLoss" | "correct1" | "correct5">;

function countsOf({ scale, good, bad, consecutive }: LossScale): LossScaleCounts {
  return { scale, good, bad, consecutive };
}

/** Shards of one step, until the last of them is there. */
class StepOfShards {
  readonly #gradients = new ShardSums<Float32Array>();
  /** The cross-entropy, then the statistics. */
  readonly #numbers = new ShardSums<Float64Array>();
  #shards = 0;
  #correct1 = 0;
  #correct5 = 0;
  #decayLoss = 0;

  add({ index, count }: Shard, own: Outcome, gradients: Float32Array, statistics: Float64Array): void {
    if (index !== this.#shards || index >= count)
      throw new RangeError(`shard ${index} of ${count} follows ${this.#shards} shards of its step`);
    this.#gradients.add(gradients);
    this.#numbers.add(Float64Array.of(own.crossEntropy, ...statistics));
    this.#shards++;
    this.#correct1 += own.correct1;
    this.#correct5 += own.correct5;
    this.#decayLoss = own.decayLoss; // of the weights, which the shards have in common
  }

  end(): { readonly mean: Float32Array; readonly result: Outcome; readonly statistics: Float64Array } {
    const [crossEntropy = NaN, ...statistics] = this.#numbers.mean();
    return {
      mean: this.#gradients.mean(),
      result: {
        crossEntropy,
        decayLoss: this.#decayLoss,
        correct1: this.#correct1,
        correct5: this.#correct5,
      },
      statistics: Float64Array.from(statistics),
    };
  }
}

export class ReferenceInference extends ReferenceRun implements InferenceRun {
  readonly callsAtOnce = 1;
  #loaded = false;

  load({ parameters, statistics }: Weights): Promise<void> {
    return promise(() => {
      this.execution.write({ parameters, statistics });
      this.#loaded = true;
    });
  }

  infer(images: Uint8Array, count: number): Promise<Float32Array> {
    return promise(() => {
      const { execution } = this;
      const { machine } = execution;
      const { program } = machine;
      const bytes = count * program.imageSize ** 2 * 3;
      if (!Number.isInteger(count) || count < 1 || count > program.batch || images.length !== bytes) {
        throw new UsageError({
          what: "the images do not fit the program",
          expected: `1 to ${program.batch} images of ${program.imageSize}x${program.imageSize}x3 bytes`,
          found: `${count} images in ${images.length} bytes`,
        });
      }
      if (!this.#loaded) throw new Error("infer before load: there are no weights yet");
      machine.images = count;
      execution.images = images;
      execution.forward();
      return Float32Array.from((execution.head as HeadMemory).logits);
    });
  }
}

function checkBatch({ batch, imageSize, classes }: Program, { images, labels, weights, mixed }: Batch): void {
  const bytes = batch * imageSize ** 2 * 3;
  const others = [weights, mixed?.labels, mixed?.shares].filter((array) => array !== undefined);
  if (others.some(({ length }) => length !== batch)) {
    throw new UsageError({
      what: "weights or mixed labels do not fit the program",
      expected: `${batch} of each`,
      found: others.map(({ length }) => length).join(", "),
    });
  }
  if (images.length !== bytes || labels.length !== batch) {
    throw new UsageError({
      what: "the batch does not fit the program",
      expected: `${bytes} bytes and ${batch} labels`,
      found: `${images.length} bytes and ${labels.length} labels`,
    });
  }
  const wrong = [...labels, ...(mixed?.labels ?? [])].find((label) => label < 0 || label >= classes);
  if (wrong !== undefined) {
    throw new UsageError({ what: "label out of range", expected: `0 .. ${classes - 1}`, found: `${wrong}` });
  }
}

/** Those given. */
function arrayNames(arrays: Partial<TrainingArrays>): (keyof TrainingArrays)[] {
  const names = ["parameters", "statistics", "momentum", "averages", "gradients"] as const;
  return names.filter((name) => arrays[name] !== undefined);
}

function fits(own: Float32Array, given: Float32Array, name: string): void {
  if (own.length === given.length) return;
  throw new RangeError(`the ${name} have ${own.length} values, ${given.length} were given`);
}

/** Runs at once; what it throws rejects the promise, as a backend on another thread would do. */
function promise<T>(run: () => T): Promise<T> {
  return new Promise((resolve) => resolve(run()));
}
