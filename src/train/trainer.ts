/**
 * Training: from settings to a trained network in a run folder.
 *
 * Every number of step s (its batch, its draws, its rate) is a function of the settings and s, so a run
 * that was stopped or killed continues to the same bits. Nothing is reported, saved or changed by a step
 * whose loss is not finite.
 *
 *     RUN/recipe.json     every setting and who decided it
 *     RUN/events.jsonl    what happened, a line each
 *     RUN/step-N/         checkpoints; RUN/best/ the best weights so far
 *     RUN/events.out.*    summaries for TensorBoard (summaries.ts)
 *     RUN/model.ckpt-N.*  the same for TensorFlow, with --checkpoint_format tf
 *     RUN/<log_name>      a plain log, where it is asked for
 */

import { join, resolve } from "node:path";

import type {
  Backend,
  Batch,
  InferenceRun,
  StepResult,
  TrainingRun,
  TrainingState,
} from "../backends/backend.js";
import { DivergedError, ResourceError, UsageError } from "../core/error.js";
import { Draws, streams } from "../core/random.js";
import { type BatchSource, type LoadedBatch, trainingBatches } from "../data/loader.js";
import { initialise, initialStatistics } from "../models/initialise.js";
import type { Network } from "../models/layers.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { compile } from "../program/compile.js";
import type { HeadStep, Program } from "../program/program.js";
import { augmentationOf } from "../settings/augmentation.js";
import { chooseBackend } from "../backends/registry.js";
import {
  loadTraining,
  type ModelDescription,
  pruneCheckpoints,
  recoverRun,
  runFolderOf,
  saveCheckpoint,
  type Scores,
  stepFolder,
} from "../run/checkpoint.js";
import { probeFolder, writeFlushed } from "../core/durable.js";
import { score } from "../inference/evaluate.js";
import {
  type EvaluationEvent,
  EventLog,
  type Reporter,
  type StepEvent,
  type TrainEvent,
} from "../run/events.js";
import { estimateMemory, refuseTooLargeBatch } from "./memory.js";
import { passes, PlainLog } from "../run/plain-log.js";
import { type Plan, planRun } from "./plan.js";
import { initialiseFrom } from "../weights/initialise-from.js";
import { lockRun } from "../run/run-lock.js";
import { badImageLimit, recordsEvent } from "../run/run-data.js";
import { averageDecay, learningRate, type Schedule } from "./schedule.js";
import { type GivenSettings, settings as table } from "../settings/settings.js";
import { StepClock } from "./step-clock.js";
import { Summaries } from "../run/summaries.js";
import { writeTfCheckpoint } from "../weights/tf-checkpoint.js";

export interface TrainResult {
  readonly run: string;
  /** Path of the last checkpoint; null where none was to be written. */
  readonly checkpoint: string | null;
  readonly step: number;
  /** Epochs done, with its fraction. */
  readonly epoch: number;
  /** True when the signal ended the run before its last step. */
  readonly stopped: boolean;
  /** Of the last evaluation, on the averages where they are kept; null without a validation set. */
  readonly scores: Scores | null;
  readonly best: { readonly step: number; readonly top1: number } | null;
  readonly images_per_second: number;
}

/**
 * Trains a network, or resumes training (`given.resume`).
 *
 * @param signal when it aborts, the step in progress ends, a checkpoint is saved and `stopped` is true; before the
 * first step, while a cache is made, its reason is thrown instead.
 * @throws RiffleError; the class says what kind of problem, and its exit code.
 */
export async function train(
  given: GivenSettings,
  report: Reporter = () => undefined,
  signal?: AbortSignal,
): Promise<TrainResult> {
  const runDir =
    given.resume === undefined
      ? resolve(given.log_dir ?? table.log_dir.default)
      : await runFolderOf(resolve(given.resume));
  await probeFolder(runDir);
  const lock = await lockRun(runDir);
  try {
    await recoverRun(runDir);
    const plan = await planRun(given, runDir, report, signal);
    try {
      const backend = await chooseBackend();
      const training = await Training.prepare(plan, backend, report);
      try {
        return await training.run(signal);
      } finally {
        await training.close();
      }
    } finally {
      await plan.data.close();
    }
  } finally {
    await lock.release();
  }
}

/** A run in progress. */
class Training {
  readonly #plan: Plan;
  readonly #backend: Backend;
  readonly #report: Reporter;
  readonly #log: EventLog;
  readonly #summaries: Summaries;
  readonly #plainLog: PlainLog | undefined;
  readonly #network: Network;
  readonly #program: Program;
  readonly #state: TrainingState;
  readonly #run: TrainingRun;
  readonly #evaluation: { readonly program: Program; readonly run: InferenceRun } | undefined;
  readonly #schedule: Schedule;
  readonly #stepsPerEpoch: number;
  readonly #steps: number;
  readonly #memory: number;
  #clock = new StepClock(0);
  #step: number;
  #evaluatedStep: number;
  #scores: Scores | null;
  #best: TrainResult["best"];
  /** What the last checkpoint holds; -1 before the first. */
  #saved = { step: -1, evaluatedStep: -1 };
  #failedSaves = 0;
  #lastStep: StepResult | undefined;
  /** The step that was reported last. */
  #reported: number;
  #badImages = 0;

  /** Compiles and allocates; refuses what does not fit into memory. */
  static async prepare(plan: Plan, backend: Backend, report: Reporter): Promise<Training> {
    const { settings, model, data } = plan;
    const stepsPerEpoch = Math.floor(data.train.size / settings.batch_size);
    if (stepsPerEpoch === 0) {
      throw new UsageError({
        what: "the batch is larger than the training set",
        where: `--batch_size ${settings.batch_size}`,
        expected: `at most ${data.train.size} images`,
        found: `${settings.batch_size}`,
        safe: "Nothing was trained",
        hint: `--batch_size ${Math.max(1, Math.floor(data.train.size / 4))}`,
      });
    }
    const network = trainedNetwork(model, settings.weight_decay_on);
    const programOf = (batch: number): Program =>
      compile(network, { batch, imageSize: model.image_size, mode: "train" });
    const evaluation =
      data.validation === undefined || settings.mode === "train"
        ? undefined
        : compile(network, { batch: settings.eval_batch_size, imageSize: model.image_size, mode: "infer" });
    refuseTooLargeBatch(settings.batch_size, (batch) => estimateMemory(programOf(batch), evaluation));
    const program = programOf(settings.batch_size);
    const { state, warnings } = await startingState(plan, program);
    const training = new Training(plan, backend, report, {
      network,
      program,
      evaluation,
      state,
      stepsPerEpoch,
    });
    for (const what of [...plan.warnings, ...warnings]) training.#emit({ event: "warning", what });
    return training;
  }

  private constructor(
    plan: Plan,
    backend: Backend,
    report: Reporter,
    prepared: {
      readonly network: Network;
      readonly program: Program;
      readonly evaluation: Program | undefined;
      readonly state: TrainingState;
      readonly stepsPerEpoch: number;
    },
  ) {
    const { settings, checkpoint } = plan;
    const { program, evaluation, stepsPerEpoch } = prepared;
    this.#plan = plan;
    this.#backend = backend;
    this.#report = report;
    this.#log = new EventLog(plan.runDir);
    this.#plainLog =
      settings.log_name === undefined ? undefined : new PlainLog(join(plan.runDir, settings.log_name));
    this.#network = prepared.network;
    this.#program = program;
    this.#state = prepared.state;
    const options = { threads: settings.threads ?? 0 };
    this.#run = backend.train(program, prepared.state, options);
    this.#evaluation =
      evaluation === undefined ? undefined : { program: evaluation, run: backend.infer(evaluation, options) };
    this.#stepsPerEpoch = stepsPerEpoch;
    const allSteps = Math.max(1, Math.floor(settings.max_epochs * stepsPerEpoch));
    this.#steps = Math.min(allSteps, settings.max_train_steps ?? Infinity);
    this.#schedule = {
      kind: settings.schedule,
      peak: settings.lr,
      end: settings.end_learning_rate,
      warmupSteps: Math.round(settings.warmup_epochs * stepsPerEpoch),
      decaySteps: allSteps,
    };
    this.#memory = estimateMemory(program, evaluation);
    this.#step = checkpoint?.state.step ?? 0;
    this.#reported = this.#step;
    this.#evaluatedStep = checkpoint?.state.evaluated_step ?? -1;
    this.#scores = checkpoint?.state.scores ?? null;
    this.#best = checkpoint?.state.best ?? null;
    if (checkpoint !== undefined) this.#saved = { step: this.#step, evaluatedStep: this.#evaluatedStep };
    this.#summaries = new Summaries(plan.runDir, {
      program,
      ...prepared.state,
      weightDecay: settings.weight_decay,
      scheme: plan.model.variant === "tensorflow" ? "tensorflow" : "canonical",
      interval: settings.save_summary_steps,
      loop: settings.iterations_per_loop,
      lastStep: this.#steps,
      step: this.#step,
      evaluatedStep: this.#evaluatedStep,
      warn: (what) => this.#emit({ event: "warning", what }),
    });
  }

  async run(signal: AbortSignal | undefined): Promise<TrainResult> {
    // Saved before anything is trained, so that a run killed at any time from now on can be resumed.
    if (this.#plan.checkpoint === undefined) await this.#save("last");
    await this.#writeRecipe();
    this.#emit(this.#startEvent());
    // A run stopped between a step and its evaluation makes up for it.
    if (this.#step > 0 && this.#isEvaluated(this.#step)) await this.#evaluate(signal);
    const source = this.#openSource();
    try {
      await this.#loop(source, signal);
    } finally {
      await source.close();
    }
    const stopped = this.#step < this.#steps;
    const { step, evaluatedStep } = this.#saved;
    if (step !== this.#step || evaluatedStep !== this.#evaluatedStep) await this.#save("last");
    const { runDir, settings } = this.#plan;
    const checkpoint = settings.do_checkpoint ? join(runDir, stepFolder(this.#step)) : null;
    const result: TrainResult = {
      run: runDir,
      checkpoint,
      step: this.#step,
      epoch: this.#epoch(),
      stopped,
      scores: this.#scores,
      best: this.#best,
      images_per_second: this.#clock.overall(),
    };
    this.#emit(
      stopped
        ? { event: "stopped", step: result.step, epoch: result.epoch, checkpoint }
        : {
            event: "end",
            step: result.step,
            epoch: result.epoch,
            ...this.#finalScores(),
            images_per_second: result.images_per_second,
            checkpoint,
          },
    );
    await this.#flush();
    return result;
  }

  async close(): Promise<void> {
    this.#run.close();
    this.#evaluation?.run.close();
    await this.#summaries.close();
    await this.#flush();
  }

  async #loop(source: BatchSource, signal: AbortSignal | undefined): Promise<void> {
    const { settings } = this.#plan;
    this.#clock = new StepClock(settings.batch_size);
    if (this.#step >= this.#steps || signal?.aborted) return;
    for await (const batch of source) {
      try {
        await this.#trainOn(batch, source);
      } finally {
        batch.release();
      }
      this.#reportBadImages(source);
      if (this.#isEvaluated(this.#step)) await this.#evaluate(signal);
      const last = this.#step >= this.#steps || signal?.aborted === true;
      if (last || this.#step % settings.save_checkpoints_steps === 0)
        await this.#save(last ? "last" : "between");
      await this.#flush();
      this.#clock.resume(source.waited);
      if (last) return;
    }
  }

  /** One update, and its report. */
  async #trainOn(batch: LoadedBatch, source: BatchSource): Promise<void> {
    const { settings } = this.#plan;
    const rate = learningRate(this.#schedule, this.#step);
    const mask = this.#dropoutMask();
    const loss = {
      labelSmoothing: settings.label_smoothing,
      weightDecay: settings.weight_decay,
      ...(mask === undefined ? {} : { dropoutMask: mask }),
    };
    const input: Batch = { images: batch.images, labels: batch.labels };
    this.#summaries.before(this.#step + 1);
    const result = await this.#run.step(input, loss, {
      learningRate: rate,
      momentum: settings.momentum,
      nesterov: settings.nesterov,
      weightDecay: settings.weight_decay,
      averageDecay: settings.average_decay === 0 ? 0 : averageDecay(settings.average_decay, this.#step + 1),
    });
    if (!result.finite) {
      throw this.#diverged(
        "the loss or a gradient is not finite",
        this.#step + 1,
        `loss ${result.crossEntropy + result.decayLoss} at learning rate ${rate}`,
      );
    }
    this.#step++;
    this.#lastStep = result;
    this.#clock.step(source.waited);
    if (this.#step % settings.iterations_per_loop !== 0 && this.#step !== this.#steps) return;
    const event: StepEvent = {
      event: "step",
      step: this.#step,
      epoch: this.#epoch(),
      loss: result.crossEntropy + result.decayLoss,
      cross_entropy: result.crossEntropy,
      top1: result.correct1 / settings.batch_size,
      top5: result.correct5 / settings.batch_size,
      learning_rate: rate,
      ...this.#clock.recent(this.#steps - this.#step),
    };
    this.#summaries.step(event, batch.images);
    this.#report(event);
    this.#plainLog?.add(event);
    if (passes(this.#reported, this.#step, settings.log_steps)) this.#log.add(event);
    this.#reported = this.#step;
  }

  /** On the whole validation set, with the averages and with the weights as they are; keeps the best. */
  async #evaluate(signal: AbortSignal | undefined): Promise<void> {
    const { data, settings, model, runDir } = this.#plan;
    if (this.#evaluation === undefined || data.validation === undefined) return;
    this.#refuseNonFinite();
    const { parameters, averages, statistics } = this.#state;
    const candidates = [
      ...(settings.average_decay > 0
        ? [{ name: "averages" as const, weights: { parameters: averages, statistics } }]
        : []),
      { name: "parameters" as const, weights: { parameters, statistics } },
    ];
    const scored = await score(
      this.#evaluation,
      data.validation,
      candidates.map(({ weights }) => weights),
      { model, maxBadImages: badImageLimit(settings), ...(signal === undefined ? {} : { signal }) },
      (event) => this.#report(event),
    );
    if (scored === undefined) return; // stopped; made up for when the run resumes
    this.#evaluatedStep = this.#step;
    const [chosen] = scored;
    const kept = candidates[0];
    if (chosen === undefined || kept === undefined) return;
    this.#scores = chosen;
    const best = this.#best === null || chosen.top1 > this.#best.top1;
    if (best) this.#best = { step: this.#step, top1: chosen.top1 };
    candidates.forEach(({ name }, i) => {
      const event: EvaluationEvent = {
        event: "evaluation",
        step: this.#step,
        epoch: this.#epoch(),
        weights: name,
        ...(scored[i] as Scores),
        best: best && i === 0,
      };
      this.#emit(event);
      this.#summaries.evaluation(event, i === 0);
    });
    if (!best || !settings.do_checkpoint) return;
    await this.#trySave("between", () =>
      saveCheckpoint(
        runDir,
        "best",
        this.#program,
        { kind: "weights", weights: kept.weights },
        this.#record(),
      ),
    );
  }

  /** Saves all of training; `last` failures end the run, others are tried again at the next interval. */
  async #save(when: "between" | "last"): Promise<void> {
    const { runDir, settings } = this.#plan;
    this.#refuseNonFinite();
    if (!settings.do_checkpoint) return;
    const path = await this.#trySave(when, () =>
      saveCheckpoint(
        runDir,
        stepFolder(this.#step),
        this.#program,
        { kind: "training", state: this.#state },
        this.#record(),
      ),
    );
    if (path === undefined) return;
    this.#saved = { step: this.#step, evaluatedStep: this.#evaluatedStep };
    if (settings.checkpoint_format === "tf") {
      // A resumed run may come by a step that it has saved before.
      const options = { keep: settings.keep_checkpoint_max, replace: true };
      await this.#trySave(when, () =>
        writeTfCheckpoint(runDir, this.#program, this.#step, this.#state, options),
      );
    }
    if (this.#step === 0) return; // the start is reported, not that it was saved
    this.#emit({ event: "save", step: this.#step, checkpoint: path });
    for (const name of await pruneCheckpoints(runDir, this.#step, settings.keep_checkpoint_max)) {
      this.#emit({ event: "warning", what: `${join(runDir, name)} holds files of someone else; it is kept` });
    }
  }

  /** A full disk in the middle of a run is no reason to lose the run; three failures in a row are. */
  async #trySave(when: "between" | "last", save: () => Promise<string>): Promise<string | undefined> {
    try {
      const path = await save();
      this.#failedSaves = 0;
      return path;
    } catch (error) {
      this.#failedSaves++;
      if (!(error instanceof ResourceError) || when === "last" || this.#failedSaves >= 3) throw error;
      this.#emit({ event: "warning", what: `not saved at step ${this.#step}: ${error.message}` });
      return undefined;
    }
  }

  #isEvaluated(step: number): boolean {
    if (this.#plan.settings.mode === "train") return false;
    const interval = this.#plan.settings.epochs_between_evals * this.#stepsPerEpoch;
    return this.#evaluatedStep < step && (step % interval === 0 || step === this.#steps);
  }

  #openSource(): BatchSource {
    const { data, settings, model } = this.#plan;
    return trainingBatches(data.train, {
      batch: settings.batch_size,
      imageSize: model.image_size,
      seed: settings.seed,
      firstStep: this.#step,
      augmentation: augmentationOf(settings),
      shuffle: settings.shuffle,
      maxBadImages: badImageLimit(settings),
      resume: `riffle train --resume ${this.#plan.runDir}`,
    });
  }

  /** [batch, features] of 0 or 1 / (1 - rate), a function of (seed, step); undefined without dropout. */
  #dropoutMask(): Float32Array | undefined {
    const head = this.#program.steps.at(-1) as HeadStep;
    if (head.dropout === 0) return undefined;
    const draws = new Draws(this.#plan.settings.seed, streams.dropout, 0, this.#step);
    const kept = 1 / (1 - head.dropout);
    const threshold = head.dropout * 2 ** 32;
    return Float32Array.from({ length: this.#program.batch * head.inputs.length }, () =>
      draws.word() < threshold ? 0 : kept,
    );
  }

  #record(): Parameters<typeof saveCheckpoint>[4] {
    const { model, data, origins } = this.#plan;
    return {
      step: this.#step,
      steps_per_epoch: this.#stepsPerEpoch,
      evaluated_step: this.#evaluatedStep,
      scores: this.#scores,
      best: this.#best,
      model,
      settings: this.#givenValues(),
      origins,
      data: { fingerprint: data.train.fingerprint, train_images: data.train.size },
    };
  }

  /** Settings that have a value. */
  #givenValues(): Record<string, string | number | boolean> {
    return Object.fromEntries(
      Object.entries(this.#plan.settings).flatMap(([name, value]) =>
        value === undefined ? [] : [[name, value]],
      ),
    );
  }

  async #writeRecipe(): Promise<void> {
    const { runDir, origins } = this.#plan;
    const settings = this.#givenValues();
    const text = `${JSON.stringify({ settings, origins, model: this.#plan.model }, null, 2)}\n`;
    await writeFlushed(join(runDir, "recipe.json"), [Buffer.from(text)]);
  }

  #startEvent(): TrainEvent {
    const { runDir, model, data, settings, origins, checkpoint } = this.#plan;
    return {
      event: "start",
      run: runDir,
      network: this.#network.name,
      classes: model.classes,
      image_size: model.image_size,
      parameters: this.#program.parameterCount,
      train_images: data.train.size,
      validation_images: data.validation?.size ?? 0,
      records: recordsEvent(data.train),
      cache_folder: data.cacheFolder ?? null,
      steps: this.#steps,
      steps_per_epoch: this.#stepsPerEpoch,
      epochs: settings.max_epochs,
      backend: this.#backend.name,
      memory: this.#memory,
      recipe: settings.recipe,
      settings: this.#givenValues(),
      origins: origins,
      resumed: checkpoint === undefined ? null : { checkpoint: checkpoint.path, step: checkpoint.state.step },
    };
  }

  #finalScores(): Pick<Scores, "loss" | "top1" | "top5"> {
    if (this.#scores !== null) {
      const { loss, top1, top5 } = this.#scores;
      return { loss, top1, top5 };
    }
    const { batch_size } = this.#plan.settings;
    const { crossEntropy = NaN, correct1 = NaN, correct5 = NaN } = this.#lastStep ?? {};
    return { loss: crossEntropy, top1: correct1 / batch_size, top5: correct5 / batch_size };
  }

  #epoch(): number {
    return this.#step / this.#stepsPerEpoch;
  }

  #reportBadImages(source: BatchSource): void {
    for (const { file, reason } of source.badImages.slice(this.#badImages)) {
      this.#emit({ event: "bad_image", file, reason });
    }
    this.#badImages = source.badImages.length;
  }

  #emit(event: TrainEvent): void {
    this.#report(event);
    this.#log.add(event);
    this.#plainLog?.add(event);
  }

  async #flush(): Promise<void> {
    await this.#log.flush();
    await this.#plainLog?.flush();
  }

  /** An update may overflow although the gradient was finite; such weights are neither scored nor saved. */
  #refuseNonFinite(): void {
    const { parameters, statistics, momentum, averages } = this.#state;
    for (const [name, values] of Object.entries({ parameters, statistics, momentum, averages })) {
      const index = values.findIndex((value) => !Number.isFinite(value));
      if (index < 0) continue;
      throw this.#diverged(
        "the update left a number that is not finite",
        this.#step,
        `${values[index]} in the ${name}`,
      );
    }
  }

  #diverged(what: string, step: number, found: string): DivergedError {
    const { runDir, settings } = this.#plan;
    const saved = this.#saved.step < 0 ? undefined : join(runDir, stepFolder(this.#saved.step));
    return new DivergedError({
      what,
      where: `step ${step}, epoch ${(step / this.#stepsPerEpoch).toFixed(2)}`,
      expected: "finite numbers",
      found,
      safe: `Nothing of it was saved${saved === undefined ? "" : `; the last good checkpoint is ${saved}`}`,
      hint:
        `Start a new run with a lower --lr than ${settings.lr}` +
        (saved === undefined ? "" : `, from these weights if you like: --init_from ${saved} --log_dir NEW`),
    });
  }
}

/** Weights drawn, read from elsewhere, or as the checkpoint holds them. */
async function startingState(
  plan: Plan,
  program: Program,
): Promise<{ state: TrainingState; warnings: readonly string[] }> {
  const { settings, checkpoint } = plan;
  if (checkpoint !== undefined) return { state: await loadTraining(checkpoint, program), warnings: [] };
  const parameters = initialise(program, { version: settings.version, seed: settings.seed });
  const statistics = initialStatistics(program);
  const skipped =
    settings.init_from === undefined
      ? []
      : await initialiseFrom(resolve(settings.init_from), plan.model.variant, program, {
          parameters,
          statistics,
        });
  const state = {
    parameters,
    statistics,
    momentum: new Float32Array(program.parameterCount),
    averages: parameters.slice(),
    gradients: new Float32Array(program.parameterCount),
  };
  const warnings =
    skipped.length === 0
      ? []
      : [
          `${skipped.join(", ")} start from the seed: not in the weights given, or of another number of classes`,
        ];
  return { state, warnings };
}

/** The network, with its rule of what decays or the simpler one. */
function trainedNetwork(model: ModelDescription, decayOn: "variant" | "matrices"): Network {
  const network = shuffleNetV2({ variant: model.variant, width: model.width, classes: model.classes });
  return decayOn === "variant" ? network : { ...network, decays: ["convolution", "depthwise", "linear"] };
}
