/**
 * A training in the worker, from where it stands to its last step.
 *
 * Every number of a step is a function of the settings and the step, as it is in Node, so a run that was stopped, or whose page
 * was closed, goes on to the same bits from what was saved. How often that is depends on the clock, and nothing else does.
 */

import type { InferenceRun, TrainingRun, TrainingState } from "../backends/backend.js";
import { DivergedError, ResourceError } from "../core/error.js";
import { Sampler } from "../data/sampler.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import type { Network } from "../models/layers.js";
import { compile } from "../program/compile.js";
import type { Program } from "../program/program.js";
import { encodeTensors, type Saved } from "../run/checkpoint-tensors.js";
import {
  averageDecay,
  learningRate,
  type RunLength,
  type Schedule,
  scheduleOf,
} from "../settings/schedule.js";
import { augmentationOf } from "../settings/augmentation.js";
import type { Settings } from "../settings/settings.js";
import { softmax } from "../inference/metrics.js";
import { isBetter } from "../train/best.js";
import { dropoutMask } from "../train/dropout.js";
import type { PageEngine } from "./engine.js";
import type { Example, NoteEvent, SavedEvent, StepEvent, EvaluationEvent } from "./events.js";
import type { KeptSet } from "./kept-pictures.js";
import { inferenceRun, scored } from "./network.js";
import type { FileEntry, RunRecord, Standing } from "./run-record.js";
import type { RunFolder } from "./run-store.js";
import { evaluationInto, trainingInto } from "./seen-picture.js";

/** Milliseconds between two saves. */
const SAVE_EVERY = 15_000;

/** Saves that fail in a row end the run. */
const FAILURES = 3;

/** Pictures that an evaluation tells with their guess. */
const EXAMPLES = 12;

export interface Beginning {
  readonly engine: PageEngine;
  readonly folder: RunFolder;
  /** As it was committed last. */
  readonly record: RunRecord;
  readonly set: KeptSet;
  readonly state: TrainingState;
  readonly report: (event: StepEvent | EvaluationEvent | SavedEvent | NoteEvent) => void;
  readonly signal: AbortSignal;
  /** Steps to stop after. */
  readonly most?: number | undefined;
}

/** The network of a run, with its rule of what decays or the simpler one. */
export function trainedNetwork({ model, settings }: Pick<RunRecord, "model" | "settings">): Network {
  const network = shuffleNetV2({ variant: model.variant, width: model.width, classes: model.classes });
  return settings.weight_decay_on === "variant"
    ? network
    : { ...network, decays: ["convolution", "depthwise", "linear"] };
}

export function trainingProgram(of: Pick<RunRecord, "model" | "settings">): Program {
  const { model, settings } = of;
  return compile(trainedNetwork(of), {
    batch: settings.batch_size,
    imageSize: model.image_size,
    mode: "train",
    classifierRate: settings.classifier_rate,
    statistics: settings.batch_norm,
    freeze: settings.freeze ? { through: "conv5" } : undefined,
  });
}

export class PageTraining {
  readonly #given: Beginning;
  readonly #program: Program;
  readonly #run: TrainingRun;
  readonly #evaluation: InferenceRun | undefined;
  readonly #length: RunLength;
  readonly #schedule: Schedule;
  readonly #sampler: Sampler;
  /** Of the pictures that are trained on; they are the first. */
  readonly #trained: number;
  #record: RunRecord;
  #standing: Standing;
  #bestFile: FileEntry | null;
  #savedStep: number;
  #lastSave = performance.now();
  #failures = 0;
  readonly #laps: number[] = [];
  #seconds = 0;
  #made = 0;

  private constructor(
    given: Beginning,
    program: Program,
    run: TrainingRun,
    evaluation: InferenceRun | undefined,
  ) {
    const { record, set } = given;
    const { settings, steps, steps_per_epoch: stepsPerEpoch } = record;
    this.#given = given;
    this.#program = program;
    this.#run = run;
    this.#evaluation = evaluation;
    this.#trained = set.entries.filter(({ heldOut }) => !heldOut).length;
    this.#length = { stepsPerEpoch, steps, scheduled: scheduledOf(settings, stepsPerEpoch) };
    this.#schedule = scheduleOf(settings, this.#length);
    this.#sampler = new Sampler({ size: this.#trained, seed: settings.seed, shuffle: settings.shuffle });
    this.#record = record;
    this.#standing = record;
    this.#bestFile = record.files.best;
    this.#savedStep = record.step;
  }

  /** @throws ResourceError when it does not fit into memory */
  static async open(given: Beginning): Promise<PageTraining> {
    const { engine, record, set, state } = given;
    const program = trainingProgram(record);
    const run = engine.backend.train(program, { threads: engine.threads });
    try {
      await run.writeState(state);
      const isScored = set.entries.some(({ heldOut }) => heldOut);
      return new PageTraining(
        given,
        program,
        run,
        isScored ? inferenceRun(engine, record.model, EVALUATED) : undefined,
      );
    } catch (error) {
      run.close();
      throw error;
    }
  }

  /** @returns the run as it was committed last, and whether it was stopped */
  async train(): Promise<{
    readonly record: RunRecord;
    readonly stopped: boolean;
    readonly imagesPerSecond: number;
  }> {
    const { signal, most = Infinity, engine } = this.#given;
    const end = Math.min(this.#record.steps, this.#standing.step + most);
    try {
      // A run that was stopped between a step and its evaluation makes up for it; a solved classifier is scored as it is.
      if (this.#standing.step > 0 || this.#record.solved !== undefined) await this.#evaluateIfDue();
      while (this.#standing.step < end && !signal.aborted) {
        await this.#step();
        await this.#evaluateIfDue();
        if (performance.now() - this.#lastSave > SAVE_EVERY) await this.#save("between");
        await engine.breathe();
      }
    } catch (error) {
      // What was trained till here is whole, unless it is the numbers that are not.
      if (!(error instanceof DivergedError)) await this.#save("last").catch(() => undefined);
      throw error;
    }
    await this.#save("last");
    const imagesPerSecond = this.#seconds > 0 ? (this.#made * this.#program.batch) / this.#seconds : 0;
    return { record: this.#record, stopped: this.#standing.step < this.#record.steps, imagesPerSecond };
  }

  close(): void {
    this.#run.close();
    this.#evaluation?.close();
  }

  async #step(): Promise<void> {
    const begun = performance.now();
    const { settings, steps } = this.#record;
    const { step } = this.#standing;
    const rate = learningRate(this.#schedule, step);
    const mask = dropoutMask(this.#program, { seed: settings.seed, step, shard: 0 });
    const result = await this.#run.step(
      this.#batch(step),
      {
        labelSmoothing: settings.label_smoothing,
        weightDecay: settings.weight_decay,
        ...(mask === undefined ? {} : { dropoutMask: mask }),
      },
      {
        learningRate: rate,
        momentum: settings.momentum,
        nesterov: settings.nesterov,
        weightDecay: settings.weight_decay,
        averageDecay: settings.average_decay === 0 ? 0 : averageDecay(settings.average_decay, step + 1),
      },
    );
    const loss = result.crossEntropy + result.decayLoss;
    if (!result.finite) throw this.#diverged(`loss ${loss} at learning rate ${rate}`);
    this.#standing = { ...this.#standing, step: step + 1 };
    const seconds = (performance.now() - begun) / 1000;
    this.#seconds += seconds;
    this.#made++;
    this.#laps.push(seconds);
    if (this.#laps.length > 20) this.#laps.shift();
    const each = this.#laps.reduce((sum, lap) => sum + lap, 0) / this.#laps.length;
    this.#given.report({
      event: "step",
      step: step + 1,
      steps,
      epoch: this.#epoch,
      loss,
      decayLoss: result.decayLoss,
      top1: result.correct1 / this.#program.batch,
      learningRate: rate,
      imagesPerSecond: this.#program.batch / each,
      secondsLeft: each * (steps - step - 1),
    });
  }

  #batch(step: number) {
    const { batch, imageSize } = this.#program;
    const { settings, model } = this.#record;
    const { pixels, entries } = this.#given.set;
    const { stepsPerEpoch } = this.#length;
    const epoch = Math.floor(step / stepsPerEpoch);
    const first = (step % stepsPerEpoch) * batch;
    const images = new Uint8Array(batch * imageSize * imageSize * 3);
    const labels = new Int32Array(batch);
    const augmentation = augmentationOf({ ...settings, eval_resize: model.eval_resize });
    for (let i = 0; i < batch; i++) {
      const sample = this.#sampler.sample(epoch, first + i);
      const { width, height, label } = entries[sample] as KeptSet["entries"][number];
      const out = images.subarray(i * imageSize * imageSize * 3, (i + 1) * imageSize * imageSize * 3);
      const picture = { width, height, data: pixels[sample] as Uint8Array };
      trainingInto(
        this.#given.engine.pictures,
        picture,
        augmentation,
        { size: imageSize, seed: settings.seed, epoch, sample },
        out,
      );
      labels[i] = label;
    }
    return { images, labels };
  }

  /** Of the pictures held out, where the step ends so many epochs or the run, and was not scored yet. */
  async #evaluateIfDue(): Promise<void> {
    const { settings, steps } = this.#record;
    const { step, evaluated_step, best } = this.#standing;
    const interval = settings.epochs_between_evals * this.#length.stepsPerEpoch;
    if (this.#evaluation === undefined || evaluated_step >= step || (step % interval !== 0 && step !== steps))
      return;
    const { parameters, averages, statistics } = await this.#readState();
    const weights = { parameters: settings.average_decay > 0 ? averages : parameters, statistics };
    await this.#evaluation.load(weights);
    const logits = await this.#logits(this.#evaluation);
    const { set, report } = this.#given;
    const held = set.entries.slice(this.#trained);
    const scores = scored(
      logits,
      held.map(({ label }) => label),
      this.#program.classes,
    );
    const met = { step, top1: scores.top1, loss: scores.loss };
    const improves = isBetter(met, best);
    this.#standing = {
      ...this.#standing,
      evaluated_step: step,
      scores,
      unimproved: improves ? 0 : this.#standing.unimproved + 1,
    };
    let isBest = false;
    if (improves) {
      const file = await this.#try("between", () =>
        this.#write(`best-${step}`, { kind: "weights", weights }),
      );
      if (file !== undefined) {
        isBest = true;
        this.#bestFile = file;
        this.#standing = { ...this.#standing, best: met };
      }
    }
    report({
      event: "evaluation",
      step,
      epoch: this.#epoch,
      images: scores.images,
      loss: scores.loss,
      top1: scores.top1,
      best: isBest,
      examples: this.#examples(logits),
    });
    if (isBest) await this.#save("between");
  }

  async #logits(run: InferenceRun): Promise<Float32Array[]> {
    const { set, engine } = this.#given;
    const { model } = this.#record;
    const { classes } = this.#program;
    const bytes = model.image_size ** 2 * 3;
    const logits: Float32Array[] = [];
    for (let first = this.#trained; first < set.entries.length; first += EVALUATED) {
      const count = Math.min(EVALUATED, set.entries.length - first);
      const images = new Uint8Array(count * bytes);
      for (let i = 0; i < count; i++) {
        const { width, height } = set.entries[first + i] as KeptSet["entries"][number];
        const picture = { width, height, data: set.pixels[first + i] as Uint8Array };
        evaluationInto(engine.pictures, picture, model, images.subarray(i * bytes, (i + 1) * bytes));
      }
      const all = await run.infer(images, count);
      for (let i = 0; i < count; i++) logits.push(all.slice(i * classes, (i + 1) * classes));
      await engine.breathe();
    }
    return logits;
  }

  #examples(logits: readonly Float32Array[]): Example[] {
    const { entries, classes } = this.#given.set;
    const count = Math.min(EXAMPLES, logits.length);
    return Array.from({ length: count }, (_, i) => {
      const place = Math.floor(((i + 0.5) * logits.length) / count);
      const { name, label } = entries[this.#trained + place] as KeptSet["entries"][number];
      const probabilities = softmax(logits[place] as Float32Array);
      const probability = Math.max(...probabilities);
      const guess = probabilities.indexOf(probability);
      return {
        index: this.#trained + place,
        name,
        label: classes[label] ?? "",
        guess: classes[guess] ?? "",
        probability,
      };
    });
  }

  /** All of training, then the record that names it. */
  async #save(when: "between" | "last"): Promise<void> {
    const { step } = this.#standing;
    this.#lastSave = performance.now();
    const isSaved =
      this.#savedStep === step &&
      this.#record.files.best === this.#bestFile &&
      this.#record.evaluated_step === this.#standing.evaluated_step;
    if (isSaved) return;
    const { folder, report } = this.#given;
    const saved = await this.#try(when, async () => {
      const state = await this.#readState();
      const last = await this.#write(`last-${step}`, { kind: "training", state });
      const record: RunRecord = {
        ...this.#record,
        ...this.#standing,
        files: { ...this.#record.files, last, best: this.#bestFile },
      };
      await folder.commit(record);
      return record;
    });
    if (saved === undefined) return;
    this.#record = saved;
    this.#savedStep = step;
    report({ event: "saved", step, best: saved.best?.step ?? null });
    await folder.prune(saved);
  }

  /** A save that fails between others is tried again later; the last one, and one of several in a row, ends the run. */
  async #try<T>(when: "between" | "last", save: () => Promise<T>): Promise<T | undefined> {
    try {
      const made = await save();
      this.#failures = 0;
      return made;
    } catch (error) {
      this.#failures++;
      if (!(error instanceof ResourceError)) throw error;
      const safe = `The run stands as it was saved at step ${this.#record.step}`;
      if (when === "last" || this.#failures >= FAILURES)
        throw new ResourceError({ ...error.problem, safe }, error);
      this.#given.report({
        event: "note",
        what: `not saved at step ${this.#standing.step}: ${error.message}. ${safe}`,
      });
      return undefined;
    }
  }

  /** A name that no file of the run has: one that is there may be read by another page. */
  #write(name: string, saved: Saved): Promise<FileEntry> {
    const { folder } = this.#given;
    const unique = `${name}-${Date.now().toString(36)}.safetensors`;
    return folder.write(unique, encodeTensors(this.#program, saved, this.#record.model));
  }

  async #readState(): Promise<TrainingState> {
    const { parameters, statistics, momentum, averages } = await this.#run.readState();
    const state = { parameters, statistics, momentum, averages };
    for (const [name, values] of Object.entries(state)) {
      const index = values.findIndex((value) => !Number.isFinite(value));
      if (index >= 0) throw this.#diverged(`${values[index]} in the ${name}`);
    }
    return state;
  }

  #diverged(found: string): DivergedError {
    const { settings, step: saved } = this.#record;
    return new DivergedError({
      what: "the loss or a gradient is not finite",
      where: `step ${this.#standing.step + 1}, epoch ${this.#epoch.toFixed(2)}`,
      expected: "finite numbers",
      found,
      safe: `The run stands as it was saved at step ${saved}`,
      hint: `Train anew with a learningRate below ${settings.lr}`,
    });
  }

  get #epoch(): number {
    return this.#standing.step / this.#length.stepsPerEpoch;
  }
}

/** Pictures that are scored at a time. */
const EVALUATED = 16;

function scheduledOf(settings: Settings, stepsPerEpoch: number): number {
  return Math.max(1, Math.floor(settings.max_epochs * stepsPerEpoch));
}
