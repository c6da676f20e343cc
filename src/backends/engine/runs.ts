/**
 * Programs run by the engine in C++, f32 or bf16: what all backends have in common that are built on it, the addon's (native/)
 * and WebAssembly's (wasm/).
 *
 * Every step gives what the reference backend gives, to rounding, and the same bits for any number of threads.
 */

import { keptPlanes, type Plane, type PlaneId, type Program, type Storage } from "../../program/program.js";
import {
  type Backend,
  type BackendOptions,
  type Batch,
  type Doing,
  type InferenceRun,
  type Loop,
  type LossSettings,
  type Peak,
  type PlaneView,
  type RunProfile,
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
import { type LossScale, lossScalings } from "../loss-scale.js";
import { encodeProgram } from "./encode.js";
import {
  doings,
  type Engine,
  type EngineAccess,
  type EngineBatch,
  type Run,
  stateArrays,
  type StepNumbers,
  views,
} from "./engine.js";
import { inPortions, portionOf } from "./portions.js";
import { fits, tune } from "./tune.js";

export function engineBackend(access: EngineAccess): Backend {
  const backend: Backend = {
    name: access.name,
    train: (program, options) => new EngineTraining(access, program, options),
    infer: (program, options) => new EngineInference(access, program, options),
    plan,
    machine: (isa) => access.machine(isa),
    peak: (options, storage) => peak(access, options, storage),
    tune: (program, options, progress) => tune(access, backend, program, options, progress),
    fits: (program, options, tuning) => fits(access, program, options, tuning),
  };
  return backend;
}

/** Scratch space of the kernels, some megabytes, is not counted. */
export function plan({ memory, mode, parameterCount, planes }: Program): number {
  return memory.size + 4 * ((mode === "train" ? 4 : 1) * parameterCount + 2 * planes.length);
}

/** What native/runtime/peak.cc copies between. */
const COPIED_BYTES = 2 ** 28;

/** The machine's two roofs, per second; takes about a second. */
async function peak(access: EngineAccess, options: BackendOptions, storage: Storage): Promise<Peak> {
  const { threads, isa } = access.machine(options.isa);
  try {
    const used = options.threads || threads;
    const [gflops, copyGigabytes] = await access.engine().measurePeak(used, isa, storage === "bf16");
    return { gflops, copyGigabytes };
  } catch (error) {
    throw access.inWords(error, COPIED_BYTES);
  }
}

/** A program loaded into the engine; what tests look into. */
export class EngineRun {
  readonly handle: Run;

  /** @throws ResourceError where memory or threads are missing. */
  constructor(
    readonly access: EngineAccess,
    readonly program: Program,
    options: BackendOptions,
    team = false,
  ) {
    const machine = access.machine(options.isa);
    const threads = options.threads || machine.threads;
    access.admit?.(program, team ? threads : 1);
    try {
      this.handle = access
        .engine()
        .createRun(
          encodeProgram(program, options.tuning?.cuts),
          threads,
          machine.isa,
          team,
          program.mode === "train" ? (options.exchange ?? "none") : "none",
          options.synchronised ?? false,
          options.products ?? access.products() ?? options.tuning?.products ?? "",
        );
    } catch (error) {
      throw access.inWords(error, plan(program));
    }
  }

  get engine(): Engine {
    return this.access.engine();
  }

  async ask<T>(work: (engine: Engine) => T | Promise<T>): Promise<T> {
    try {
      return await work(this.engine);
    } catch (error) {
      throw this.access.inWords(error, plan(this.program));
    }
  }

  write(arrays: Partial<TrainingArrays>): Promise<void> {
    const given = stateArrays.map((name) => arrays[name] ?? null);
    return this.ask((engine) => engine.writeState(this.handle, ...given));
  }

  kept(layer: string, images: number): Float32Array {
    const planes = keptPlanes(this.program, layer);
    const { height, width } = this.program.planes[planes[0] as number] as Plane;
    const map = new Float32Array(images * planes.length * height * width);
    this.engine.map(this.handle, Int32Array.from(planes), images, views.indexOf("normalised"), map);
    return map;
  }

  stepSeconds(): StepSeconds {
    const seconds = (backward: boolean): Float64Array => {
      const out = new Float64Array(this.program.steps.length);
      this.engine.seconds(this.handle, backward, out);
      return out;
    };
    const none = new Float64Array(this.program.steps.length);
    return { forward: seconds(false), backward: this.program.mode === "train" ? seconds(true) : none };
  }

  close(): void {
    this.engine.closeRun(this.handle);
  }
}

/** What both kinds of run have. */
class Running {
  constructor(readonly run: EngineRun) {}

  stepSeconds(): StepSeconds {
    return this.run.stepSeconds();
  }

  close(): void {
    this.run.close();
  }
}

/** Of a thread in a profile, 128 MB; those beyond are counted as lost. */
const MOST_SPANS = 4_000_000;

/** A step of one batch, as it was before there were shards. */
const ONLY_SHARD: Shard = { index: 0, count: 1 };

export class EngineTraining extends Running implements TrainingRun {
  constructor(access: EngineAccess, program: Program, options: BackendOptions) {
    super(new EngineRun(access, program, options));
  }

  async readState(): Promise<TrainingArrays> {
    const arrays = await this.run.ask((engine) => engine.stateOf(this.run.handle));
    return Object.fromEntries(stateArrays.map((name, i) => [name, arrays[i]])) as unknown as TrainingArrays;
  }

  writeState(from: Partial<TrainingArrays>): Promise<void> {
    return this.run.write(from);
  }

  step(
    batch: Batch,
    loss: LossSettings,
    update: UpdateSettings,
    shard: Shard = ONLY_SHARD,
  ): Promise<StepResult> {
    return this.#step(batch, loss, shard.index === shard.count - 1 ? [update] : [], shard);
  }

  async steps({ batches, first, loss, dropoutMasks, updates }: Loop): Promise<StepResult[]> {
    const rows = await this.run.ask((engine) =>
      engine.trainSteps(
        this.run.handle,
        batches.map((batch, i) => encodeBatch(batch, dropoutMasks?.[i])),
        encodeLoss({ ...loss, scale: 1 }),
        encodeUpdates(updates),
        first.index,
        first.count,
      ),
    );
    return rows.map(decodeResult);
  }

  scaleLoss({ kind, scale, good, bad, consecutive }: LossScale): void {
    const words = Float64Array.of(lossScalings.indexOf(kind), scale, good, bad, consecutive);
    this.run.engine.setLossScale(this.run.handle, words);
  }

  abandonStep(): Promise<void> {
    return this.run.ask((engine) => engine.abandonStep(this.run.handle));
  }

  requestStop(): void {
    this.run.engine.requestStop(this.run.handle);
  }

  computeGradients(batch: Batch, loss: LossSettings): Promise<StepResult> {
    return this.#step(batch, loss, null, ONLY_SHARD);
  }

  applyUpdate(update: UpdateSettings): Promise<void> {
    return this.run.ask((engine) => engine.applyUpdate(this.run.handle, encodeUpdates([update])));
  }

  logits(): Float32Array {
    const { program, handle } = this.run;
    const logits = new Float32Array(program.batch * program.classes);
    this.run.engine.logits(handle, logits);
    return logits;
  }

  kept(layer: string): Float32Array {
    return this.run.kept(layer, this.run.program.batch);
  }

  async walk(batch: Batch, loss: LossSettings, scale: number, visit: WalkVisitor): Promise<void> {
    const { program, handle } = this.run;
    const settings = encodeLoss({ ...loss, scale });
    const encoded = encodeBatch(batch, loss.dropoutMask);
    for (const time of walkTimes(program)) {
      const at = time.direction === "forward" ? time.step : 2 * program.steps.length - 1 - time.step;
      const losses = await this.run.ask((engine) => engine.runTime(handle, at, encoded, settings));
      const [crossEntropy, decayLoss] = losses;
      await visit(time, { crossEntropy, decayLoss });
    }
  }

  planes(planes: readonly PlaneId[], view: PlaneView): Float32Array {
    const { program, handle } = this.run;
    const { height, width } = program.planes[planes[0] as number] as Plane;
    const map = new Float32Array(program.batch * planes.length * height * width);
    this.run.engine.map(handle, Int32Array.from(planes), program.batch, views.indexOf(view), map);
    return map;
  }

  startProfile(steps: number): void {
    // A layer is a few jobs of the pool, each of them two spans where the caller's thread waits for others.
    const room = steps * (16 * this.run.program.steps.length + 256);
    this.run.engine.startProfile(this.run.handle, Math.min(room, MOST_SPANS));
  }

  takeProfile(): RunProfile {
    const { threads, jobs, lost, now, wall } = this.run.engine.takeProfile(this.run.handle);
    // From the engine's clock, in nanoseconds, to that of `performance.now()`.
    const ahead = performance.now() - now / 1e6;
    const at = (time: number): number => time / 1e6 + ahead;
    return {
      threads: threads.map((spans) =>
        inRows(spans, 5).map(([begin = 0, end = 0, layer = -1, doing = 0, waits = 0]) => ({
          begin: at(begin),
          end: at(end),
          layer: layer < 0 ? undefined : layer,
          doing: doings[doing] as Doing,
          waits: waits === 1,
        })),
      ),
      jobs: inRows(jobs, 4).map(([begin = 0, end = 0, thread = 0, decodes = 0]) => ({
        begin: at(begin),
        end: at(end),
        thread,
        what: decodes === 1 ? "decoding" : "reading",
      })),
      lost,
      epoch: wall / 1000 - (now / 1e6 + ahead),
    };
  }

  /** Without updates one shard is computed only. */
  async #step(
    batch: Batch,
    loss: LossSettings,
    updates: readonly UpdateSettings[] | null,
    { index, count }: Shard,
  ): Promise<StepResult> {
    const settings = encodeLoss({ ...loss, scale: 1 });
    const encoded = updates === null ? null : encodeUpdates(updates);
    const batches = [encodeBatch(batch, loss.dropoutMask)];
    const [row] = await this.run.ask((engine) =>
      engine.trainSteps(this.run.handle, batches, settings, encoded, index, count),
    );
    return decodeResult(row as StepNumbers);
  }
}

export class EngineInference extends Running implements InferenceRun {
  readonly #program: Program;
  readonly callsAtOnce: number;
  /** A short batch is filled up here: what stands in the other images does not matter, each is computed for itself. Lent to one call. */
  #padded: Uint8Array | undefined;
  readonly #paddedBytes: number;
  readonly #imageBytes: number;
  /** Pictures that are computed at a time, wanted or not: a portion for every thread, or the batch. */
  readonly #atOnce: number;
  /** All threads on one picture, for few. */
  readonly #single: EngineRun | undefined;
  /** Of the last call. */
  #images = 0;

  constructor(access: EngineAccess, program: Program, options: BackendOptions) {
    const threads = options.threads || access.machine(options.isa).threads;
    const portion = portionOf(program, threads, options.tuning);
    const executed = portion === 0 ? program : inPortions(program, portion);
    super(new EngineRun(access, executed, options, portion !== 0));
    this.#program = program;
    this.#imageBytes = program.imageSize * program.imageSize * 3;
    const portions = Math.ceil(program.batch / executed.batch);
    this.#paddedBytes = portions * executed.batch * this.#imageBytes;
    this.callsAtOnce = access.callsAtOnce;
    this.#atOnce = portion === 0 ? program.batch : portion * threads;
    if (options.few !== true || program.batch === 1 || program.kept.length > 0) return;
    try {
      this.#single = new EngineRun(access, inPortions(program, 1), { ...options, tuning: undefined });
    } catch (error) {
      this.run.close();
      throw error;
    }
  }

  async load({ parameters, statistics }: Weights): Promise<void> {
    await this.run.write({ parameters, statistics });
    await this.#single?.write({ parameters, statistics });
  }

  override close(): void {
    super.close();
    this.#single?.close();
  }

  async infer(images: Uint8Array, count: number): Promise<Float32Array> {
    const { classes } = this.#program;
    const logits = new Float32Array(count * classes);
    this.#images = count;
    const alone = this.#alone(count);
    const together = count - alone;
    if (together > 0) {
      const some = alone === 0 ? images : images.subarray(0, together * this.#imageBytes);
      await this.#inferTogether(some, together, logits.subarray(0, together * classes));
    }
    for (let i = together; i < count; i++) {
      const image = images.subarray(i * this.#imageBytes, (i + 1) * this.#imageBytes);
      const single = this.#single as EngineRun;
      await single.ask((engine) =>
        engine.infer(single.handle, image, 1, logits.subarray(i * classes, (i + 1) * classes)),
      );
    }
    return logits;
  }

  /**
   * How many of them, the last ones, are faster one by one: up to half of what is computed at a time. One by one a picture takes
   * 1.3 times its share of a full batch (two threads of a Zen 3), so half is little for two threads; more share one picture worse.
   */
  #alone(count: number): number {
    const left = count % this.#atOnce;
    return this.#single !== undefined && 2 * left <= this.#atOnce ? left : 0;
  }

  async #inferTogether(images: Uint8Array, count: number, logits: Float32Array): Promise<void> {
    const isWhole = images.length > 0 && images.length % (this.run.program.batch * this.#imageBytes) === 0;
    const batch = isWhole ? images : (this.#padded ?? new Uint8Array(this.#paddedBytes));
    if (!isWhole) {
      this.#padded = undefined;
      batch.set(images.subarray(0, count * this.#imageBytes));
    }
    await this.run.ask((engine) => engine.infer(this.run.handle, batch, count, logits));
    if (!isWhole) this.#padded = batch;
  }

  kept(layer: string): Float32Array {
    return this.run.kept(layer, this.#images);
  }
}

function inRows(numbers: Float64Array, length: number): Float64Array[] {
  return Array.from({ length: numbers.length / length }, (_, i) =>
    numbers.subarray(i * length, (i + 1) * length),
  );
}

function encodeBatch({ images, labels, weights, mixed }: Batch, dropoutMask?: Float32Array): EngineBatch {
  return [images, labels, dropoutMask ?? null, weights ?? null, mixed?.labels ?? null, mixed?.shares ?? null];
}

/** `scale` counts where a walk is made; a step has its own. */
function encodeLoss(loss: LossSettings & { readonly scale: number }): Float64Array {
  return Float64Array.of(
    loss.labelSmoothing,
    loss.weightDecay,
    loss.scale,
    Number(loss.gradientOf === "logit"),
  );
}

function encodeUpdates(updates: readonly UpdateSettings[]): Float64Array {
  return Float64Array.from(
    updates.flatMap((u) => [u.learningRate, u.momentum, u.weightDecay, u.averageDecay, Number(u.nesterov)]),
  );
}

function decodeResult(row: StepNumbers): StepResult {
  const [crossEntropy, decayLoss, correct1, correct5, finite, stops, failures, exchangeSeconds] = row;
  const [scale, good, bad, consecutive] = row.slice(8) as [number, number, number, number];
  return {
    ...{
      crossEntropy,
      decayLoss,
      correct1,
      correct5,
      finite: finite === 1,
      stops,
      failures,
      exchangeSeconds,
    },
    lossScale: { scale, good, bad, consecutive },
  };
}
