/**
 * Training: from settings to a trained network in a run folder.
 *
 * Every number of step s (its batch, its draws, its rate) is a function of the settings and s, so a run
 * that was stopped or killed continues to the same bits. Nothing is reported, saved or changed by a step
 * whose loss is not finite.
 *
 *     RUN/recipe.json     every setting and who decided it
 *     RUN/split.json      which pictures were held out, where the data fit to be remembered (split-record.ts)
 *     RUN/events.jsonl    what happened, a line each
 *     RUN/step-N/         checkpoints; RUN/best/ the best weights so far
 *     RUN/events.out.*    summaries for TensorBoard (summaries.ts)
 *     RUN/model.ckpt-N.*  the same for TensorFlow, with --checkpoint_format tf
 *     RUN/<log_name>      a plain log, where it is asked for
 */

import { join, resolve } from "node:path";

import type { Batch, StepResult } from "../backends/backend.js";
import { chooseBackend } from "../backends/registry.js";
import { closing } from "../core/closing.js";
import { exists, probeFolder, replaceFile } from "../core/durable.js";
import { DataError, DivergedError } from "../core/error.js";
import { shellWord } from "../core/printable.js";
import { Draws, streams } from "../core/random.js";
import { type BatchSource, type LoadedBatch, TooManyBadImages, trainingBatches } from "../data/loader.js";
import type { HeadStep, Program } from "../program/program.js";
import { recoverRun, refuseOccupied } from "../run/checkpoint.js";
import type { Best, Scores } from "../run/checkpoint-state.js";
import type { Reporter, StepEvent, TrainEvent } from "../run/events.js";
import { runFolderOf } from "../run/find-checkpoint.js";
import { Journal } from "../run/journal.js";
import { badImageLimit, recordsEvent } from "../run/run-data.js";
import { writeSplit } from "../run/split-record.js";
import { lockRun } from "../run/run-lock.js";
import { Summaries } from "../run/summaries.js";
import { augmentationOf } from "../settings/augmentation.js";
import { scaledRate } from "../settings/resolve-settings.js";
import { valuesOf } from "../settings/read-settings.js";
import { type GivenSettings, settings as table } from "../settings/settings.js";
import { Evaluations } from "./evaluation.js";
import { foreseePlan } from "./foresee.js";
import { notesOn } from "./notes.js";
import { cachedPlan, type Plan, planRun } from "./plan.js";
import { type Prepared, prepare } from "./prepare.js";
import { Saver } from "./saver.js";
import { averageDecay, learningRate, type Schedule, scheduleOf } from "./schedule.js";
import { StepClock } from "./step-clock.js";

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
  readonly best: Best | null;
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
  const journal = new Journal(report);
  const isThere = await exists(runDir);
  // A folder that cannot be written is told before anything long; a new one is made when nothing speaks against the run.
  const leaveNothing = await probeFolder(runDir);
  await leaveNothing();
  return closing(async (atEnd) => {
    const enter = async (): Promise<void> => {
      atEnd(await probeFolder(runDir));
      const lock = await lockRun(runDir);
      atEnd(() => lock.release());
      if (lock.warning !== undefined) journal.warn(lock.warning);
      atEnd(() => journal.flush());
      await recoverRun(runDir);
    };
    if (isThere) await enter();
    const planned = await planRun(given, runDir, journal.emit, signal);
    atEnd(() => planned.data.close());
    const backend = await chooseBackend();
    await foreseePlan(planned, backend);
    if (!isThere) {
      await enter();
      await refuseOccupied(
        runDir,
        "Another process has begun one meanwhile; name another folder with --log_dir",
      );
    }
    const plan = await cachedPlan(planned, journal.emit, signal);
    atEnd(() => plan.data.close());
    const prepared = await prepare(plan, backend);
    atEnd(() => prepared.run.close());
    atEnd(() => prepared.evaluation?.run.close());
    journal.open(runDir, plan.settings, prepared.standing.step);
    const training = new Training(plan, prepared, backend.name, journal);
    atEnd(() => training.close());
    return training.run(signal);
  }, journal.warn);
}

/** A run in progress. */
class Training {
  readonly #plan: Plan;
  readonly #prepared: Prepared;
  readonly #backend: string;
  readonly #journal: Journal;
  readonly #summaries: Summaries;
  readonly #saver: Saver;
  readonly #evaluations: Evaluations;
  readonly #schedule: Schedule;
  readonly #clock: StepClock;
  #lastStep: StepResult | undefined;
  #badImages = 0;
  /** While a step is made the weights may be half of it. */
  #isUpdating = false;

  constructor(plan: Plan, prepared: Prepared, backend: string, journal: Journal) {
    const { runDir, settings, model, length } = plan;
    const { program, run, standing } = prepared;
    this.#plan = plan;
    this.#prepared = prepared;
    this.#backend = backend;
    this.#journal = journal;
    this.#summaries = new Summaries(runDir, {
      program,
      readState: () => run.readState(),
      weightDecay: settings.weight_decay,
      scheme: model.variant === "tensorflow" ? "tensorflow" : "canonical",
      interval: settings.save_summary_steps,
      loop: settings.iterations_per_loop,
      lastStep: length.steps,
      step: standing.step,
      evaluatedStep: standing.evaluated_step,
      warn: journal.warn,
    });
    this.#saver = new Saver(plan, prepared, journal);
    this.#evaluations = new Evaluations(plan, prepared, journal, this.#summaries, this.#saver);
    this.#schedule = scheduleOf(settings, length);
    this.#clock = new StepClock(settings.batch_size);
  }

  async run(signal: AbortSignal | undefined): Promise<TrainResult> {
    const { runDir, length, checkpoint: resumed } = this.#plan;
    const { standing, warnings } = this.#prepared;
    for (const what of warnings) this.#journal.warn(what);
    const { train: unreadable, validation: alsoUnreadable } = this.#plan.unreadable;
    this.#saver.noteBad([...unreadable, ...alsoUnreadable]);
    this.#badImages = unreadable.length;
    const { data, settings } = this.#plan;
    const { record } = data;
    if (
      settings.do_checkpoint &&
      record !== undefined &&
      (resumed === undefined || resumed.state.split !== undefined)
    ) {
      await writeSplit(runDir, record);
    }
    // Saved before anything is trained, so that a run killed at any time from now on can be resumed.
    if (resumed === undefined) await this.#saver.save("last");
    else await this.#saver.settleBest();
    await this.#writeRecipe();
    this.#journal.emit(this.#startEvent());
    try {
      // A run stopped between a step and its evaluation makes up for it.
      if (standing.step > 0 && this.#evaluations.isDue) await this.#evaluations.evaluate(signal);
      await this.#train(signal);
    } catch (error) {
      throw await this.#ended(error);
    }
    if (!this.#saver.isSaved) await this.#saver.save("last");
    const { step, scores, best } = standing;
    const { checkpoint } = this.#saver;
    const epoch = this.#epoch();
    const images_per_second = this.#clock.overall();
    const stopped = step < length.steps;
    this.#journal.emit(
      stopped
        ? { event: "stopped", step, epoch, checkpoint }
        : { event: "end", step, epoch, ...this.#finalScores(), images_per_second, checkpoint },
    );
    await this.#journal.flush();
    return { run: runDir, checkpoint, step, epoch, stopped, scores, best, images_per_second };
  }

  close(): Promise<void> {
    return this.#summaries.close();
  }

  /** From where the run stands to its last step, or the step at which it is to stop. */
  async #train(signal: AbortSignal | undefined): Promise<void> {
    const { settings, model, data } = this.#plan;
    const source = trainingBatches(data.train, {
      batch: settings.batch_size,
      imageSize: model.image_size,
      seed: settings.seed,
      firstStep: this.#prepared.standing.step,
      augmentation: augmentationOf(settings),
      shuffle: settings.shuffle,
      maxBadImages: badImageLimit(settings),
      known: this.#plan.unreadable.train,
    });
    await closing((atEnd) => {
      atEnd(() => source.close());
      return this.#loop(source, signal);
    }, this.#journal.warn);
  }

  /** What a run ends with that an error ended: its weights are saved first, where they are whole and finite. */
  async #ended(error: unknown): Promise<unknown> {
    const { runDir, settings } = this.#plan;
    if (error instanceof TooManyBadImages) this.#saver.noteBad(error.images);
    if (!(error instanceof DivergedError) && !this.#isUpdating) await this.#saver.rescue();
    if (!(error instanceof TooManyBadImages) || !settings.do_checkpoint || !this.#saver.isSaved) return error;
    const { images, problem } = error;
    const resume = `riffle train --resume ${shellWord(runDir)}`;
    const leave = `such files out: ${resume} --max_bad_images ${images.length + 4}`;
    const isFile = problem.where !== undefined && (await exists(problem.where));
    return new DataError(
      {
        ...problem,
        safe: `The weights of step ${this.#prepared.standing.step} were saved`,
        hint: isFile ? `Remove it, then ${resume}; or leave ${leave}` : `Leave ${leave}`,
      },
      error,
    );
  }

  async #loop(source: BatchSource, signal: AbortSignal | undefined): Promise<void> {
    const { settings, length } = this.#plan;
    const { standing } = this.#prepared;
    this.#clock.resume(0);
    if (standing.step >= length.steps || signal?.aborted) return;
    for await (const batch of source) {
      try {
        await this.#trainOn(batch, source);
      } finally {
        batch.release();
      }
      this.#reportBadImages(source);
      if (this.#evaluations.isDue) await this.#evaluations.evaluate(signal);
      const last = standing.step >= length.steps || signal?.aborted === true;
      if (last || standing.step % settings.save_checkpoints_steps === 0)
        await this.#saver.save(last ? "last" : "between");
      await this.#journal.flush();
      this.#clock.resume(source.waited);
      if (last) return;
    }
  }

  /** One update, and its report. */
  async #trainOn(batch: LoadedBatch, source: BatchSource): Promise<void> {
    const { settings, length } = this.#plan;
    const { program, run, standing } = this.#prepared;
    const rate = learningRate(this.#schedule, standing.step);
    const mask = dropoutMask(program, settings.seed, standing.step);
    const loss = {
      labelSmoothing: settings.label_smoothing,
      weightDecay: settings.weight_decay,
      ...(mask === undefined ? {} : { dropoutMask: mask }),
    };
    const input: Batch = { images: batch.images, labels: batch.labels };
    const step = standing.step + 1;
    await this.#summaries.before(step);
    this.#isUpdating = true;
    const result = await run.step(input, loss, {
      learningRate: rate,
      momentum: settings.momentum,
      nesterov: settings.nesterov,
      weightDecay: settings.weight_decay,
      averageDecay: settings.average_decay === 0 ? 0 : averageDecay(settings.average_decay, step),
    });
    this.#isUpdating = false;
    if (!result.finite) {
      const found = `loss ${result.crossEntropy + result.decayLoss} at learning rate ${rate}`;
      throw this.#saver.diverged("the loss or a gradient is not finite", step, found);
    }
    standing.step = step;
    this.#lastStep = result;
    this.#clock.step(source.waited);
    if (step % settings.iterations_per_loop !== 0 && step !== length.steps) return;
    const event: StepEvent = {
      event: "step",
      step,
      epoch: this.#epoch(),
      loss: result.crossEntropy + result.decayLoss,
      cross_entropy: result.crossEntropy,
      decay_loss: result.decayLoss,
      top1: result.correct1 / settings.batch_size,
      top5: result.correct5 / settings.batch_size,
      learning_rate: rate,
      ...this.#clock.recent(length.steps - step),
    };
    await this.#summaries.step(event, batch.images);
    this.#journal.emit(event);
  }

  async #writeRecipe(): Promise<void> {
    const { runDir, origins, model, settings } = this.#plan;
    const text = `${JSON.stringify({ settings: valuesOf(settings), origins, model }, null, 2)}\n`;
    await replaceFile(join(runDir, "recipe.json"), [Buffer.from(text)]);
  }

  #startEvent(): TrainEvent {
    const { runDir, model, data, settings, origins, checkpoint, length } = this.#plan;
    const { network, program, memory } = this.#prepared;
    return {
      event: "start",
      run: runDir,
      network: network.name,
      classes: model.classes,
      image_size: model.image_size,
      parameters: program.parameterCount,
      train_images: data.train.size,
      validation_images: data.validation?.size ?? 0,
      scored: data.scored ?? null,
      records: recordsEvent(data.train),
      cache_folder: data.cacheFolder ?? null,
      steps: length.steps,
      steps_per_epoch: length.stepsPerEpoch,
      epochs: settings.max_epochs,
      backend: this.#backend,
      memory,
      recipe: settings.recipe,
      scaled_rate: scaledRate({ settings, origins }),
      notes: checkpoint === undefined ? notesOn(this.#plan) : [],
      settings: valuesOf(settings),
      origins,
      resumed: checkpoint === undefined ? null : { checkpoint: checkpoint.path, step: checkpoint.state.step },
    };
  }

  #finalScores(): Pick<Scores, "loss" | "top1" | "top5"> {
    const { scores } = this.#prepared.standing;
    if (scores !== null) return { loss: scores.loss, top1: scores.top1, top5: scores.top5 };
    const { batch_size } = this.#plan.settings;
    const { crossEntropy = NaN, correct1 = NaN, correct5 = NaN } = this.#lastStep ?? {};
    return { loss: crossEntropy, top1: correct1 / batch_size, top5: correct5 / batch_size };
  }

  #epoch(): number {
    return this.#prepared.standing.step / this.#plan.length.stepsPerEpoch;
  }

  #reportBadImages(source: BatchSource): void {
    const found = source.badImages.slice(this.#badImages);
    this.#saver.noteBad(found);
    for (const { file, reason } of found) this.#journal.emit({ event: "bad_image", file, reason });
    this.#badImages = source.badImages.length;
  }
}

/** [batch, features] of 0 or 1 / (1 - rate), a function of (seed, step); undefined without dropout. */
function dropoutMask(program: Program, seed: number, step: number): Float32Array | undefined {
  const head = program.steps.at(-1) as HeadStep;
  if (head.dropout === 0) return undefined;
  const draws = new Draws(seed, streams.dropout, 0, step);
  const kept = 1 / (1 - head.dropout);
  const threshold = head.dropout * 2 ** 32;
  return Float32Array.from({ length: program.batch * head.inputs.length }, () =>
    draws.word() < threshold ? 0 : kept,
  );
}
