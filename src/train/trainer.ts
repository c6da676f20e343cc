/**
 * Training: from settings to a trained network in a run folder.
 *
 * Every number of step s (its batch, its draws, its rate) is a function of the settings and s, so a run
 * that was stopped or killed continues to the same bits. Nothing is changed by a step whose numbers are not finite: it
 * ends the run or, where the loss is scaled, is passed over with its batch.
 *
 *     RUN/recipe.json     every setting and who decided it
 *     RUN/split.json      which pictures were held out, where the data fit to be remembered (split-record.ts)
 *     RUN/events.jsonl    what happened, a line each
 *     RUN/step-N/         checkpoints; RUN/best/ the best weights so far
 *     RUN/events.out.*    summaries for TensorBoard (summaries.ts)
 *     RUN/model.ckpt-N.*  the same for TensorFlow, with --checkpoint_format tf
 *     RUN/<log_name>      a plain log, where it is asked for
 *     RUN/dump/step-N/    what is written of a step for who looks for a fault (tensor-dump.ts, overflow.ts)
 *     RUN/profile/        what a window of steps consists of, with --profiling (profiler.ts)
 *     RUN/report.html     at the end, with model-card.md beside it: the run and its scores as a page (report/)
 */

import { cpus } from "node:os";
import { join, resolve } from "node:path";

import type { Backend, Batch, Shard, StepResult } from "../backends/backend.js";
import { isStuck } from "../backends/loss-scale.js";
import { chooseBackend } from "../backends/registry.js";
import { anybody, FailedElsewhere, firstFailure } from "../distributed/duties.js";
import { joinRanks } from "../distributed/join.js";
import { closing } from "../core/closing.js";
import { exists, probeFolder, replaceFile } from "../core/durable.js";
import { DataError, DivergedError, RiffleError } from "../core/error.js";
import { shellWord } from "../core/printable.js";
import { shortPath } from "../core/short-path.js";
import { type BadImage, type BatchSource, type LoadedBatch, TooManyBadImages } from "../data/loader.js";
import { writeReport } from "../report/write-report.js";
import { recoverRun, refuseOccupied } from "../run/checkpoint.js";
import type { Best, Scores } from "../run/checkpoint-state.js";
import type { EndReason, Reporter, StartEvent, StepEvent, TrainEvent } from "../run/events.js";
import { runFolderOf } from "../run/find-checkpoint.js";
import { Journal } from "../run/journal.js";
import { recordsEvent } from "../run/run-data.js";
import { writeSplit } from "../run/split-record.js";
import { lockRun } from "../run/run-lock.js";
import { Summaries } from "../run/summaries.js";
import { lossScaling } from "../settings/loss-scaling.js";
import { scaledRate } from "../settings/resolve-settings.js";
import { readCall, respelt, valuesOf } from "../settings/read-settings.js";
import { type GivenSettings, settings as table, settingsOf } from "../settings/settings.js";
import { agreeOnPlan } from "./agreement.js";
import { fitToBudget } from "./budget.js";
import { Evaluations } from "./evaluation.js";
import { foreseePlan } from "./foresee.js";
import { stepsLeft, trainingSize } from "./growth.js";
import { loopAfter } from "./loop.js";
import { notesOn } from "./notes.js";
import { cachedPlan, type Plan, planRun } from "./plan.js";
import { type Prepared, prepare, ranksEvent } from "./prepare.js";
import { Overflows, type ShardInput } from "./overflow.js";
import { Profiler } from "./profiler.js";
import { Saver } from "./saver.js";
import { learningRate, type Schedule, scheduleOf } from "../settings/schedule.js";
import { StepClock } from "./step-clock.js";
import { StepInputs } from "./step-inputs.js";
import { TensorDump } from "./tensor-dump.js";

export interface TrainResult {
  readonly run: string;
  /** Path of the last checkpoint; null where none was to be written. */
  readonly checkpoint: string | null;
  readonly step: number;
  /** Epochs done, with its fraction. */
  readonly epoch: number;
  /** True when the signal ended the run before its last step. */
  readonly stopped: boolean;
  /** Why it ended; null where it was stopped. */
  readonly reason: EndReason | null;
  /** Steps that were not finite and were passed over, where the loss is scaled. */
  readonly skipped: number;
  /** Of the last evaluation, on the averages where they are kept; null without a validation set. */
  readonly scores: Scores | null;
  readonly best: Best | null;
  readonly images_per_second: number;
  /** Path of the report; null where none was written. */
  readonly report: string | null;
}

/**
 * Trains a network, or resumes training (`given.resume`).
 *
 * @param signal when it aborts, the step in progress ends, a checkpoint is saved and `stopped` is true; before the
 * first step, while a cache is made, its reason is thrown instead.
 * @throws RiffleError; the class says what kind of problem, and its exit code.
 */
export async function train(
  asked: GivenSettings,
  report: Reporter = () => undefined,
  signal?: AbortSignal,
): Promise<TrainResult> {
  const begun = performance.now();
  const given = readCall(asked, "train", settingsOf("train"));
  const runDir =
    given.resume === undefined
      ? resolve(given.log_dir ?? table.log_dir.default)
      : await runFolderOf(resolve(given.resume));
  const journal = new Journal(report);
  for (const what of respelt(asked)) journal.warn(what);
  const patience = given.rank_timeout ?? table.rank_timeout.default;
  const ranks = await joinRanks(patience);
  const advice = given.resume === undefined ? "Nothing was written." : "The run is as it was.";
  ranks.watch(patience, advice);
  const isThere = await exists(runDir);
  // A folder that cannot be written is told before anything long; a new one is made when nothing speaks against the run.
  if (ranks.rank === 0) {
    const leaveNothing = await probeFolder(runDir);
    await leaveNothing();
  }
  const { trained, settings } = await closing(async (atEnd) => {
    const enter = async (): Promise<void> => {
      if (ranks.rank > 0) return; // the first holds and writes the folder for all
      atEnd(await probeFolder(runDir));
      const lock = await lockRun(runDir);
      atEnd(() => lock.release());
      if (lock.warning !== undefined) journal.warn(lock.warning);
      atEnd(() => journal.flush());
      await recoverRun(runDir);
    };
    if (isThere) await enter();
    const planned = await planRun(given, runDir, journal.emit, signal, ranks);
    atEnd(() => planned.data.close());
    ranks.watch(planned.settings.rank_timeout, advice);
    const backend = await chooseBackend(planned.settings.backend);
    await agreeOnPlan(ranks, planned, backend);
    await foreseePlan(planned, backend);
    if (!isThere && ranks.rank === 0) {
      await enter();
      await refuseOccupied(
        runDir,
        "Another process has begun one meanwhile; name another folder with --log_dir",
      );
    }
    const cached = await cachedPlan(planned, journal.emit, signal);
    atEnd(() => cached.data.close());
    const prepared = await prepare(cached, backend, journal.emit, signal);
    atEnd(() => prepared.run.close());
    atEnd(() => prepared.evaluation?.run.close());
    const plan = await fitToBudget(cached, prepared, begun, journal.emit, signal);
    if (ranks.rank === 0) journal.open(runDir, plan.settings, prepared.standing.step);
    const training = new Training(plan, prepared, backend, journal);
    atEnd(() => training.close());
    return { trained: await training.run(signal), settings: plan.settings };
  }, journal.warn);
  await ranks.close();
  if (trained.stopped || ranks.rank > 0 || !settings.report) return trained;
  return { ...trained, report: await reportOn(runDir, settings, ranks.threads, journal, signal) };
}

/**
 * Writes a finished run's report, when nothing else of it is in memory any more. Whatever goes wrong is a warning: what was
 * trained stands.
 *
 * @param threads of the engine where the settings do not say it
 * @returns its path; null where it could not be written.
 */
async function reportOn(
  runDir: string,
  { mode, threads: asked, backend }: Pick<GivenSettings, "mode" | "threads" | "backend">,
  threads: number,
  journal: Journal,
  signal: AbortSignal | undefined,
): Promise<string | null> {
  const warn = (what: string): void => journal.tell({ event: "warning", what });
  const command = `npx riffle-vision report ${shellWord(shortPath(runDir))}`;
  const unscored = mode === "train" ? `--mode train asked for none; ${command} takes them` : undefined;
  try {
    const written = await writeReport(
      runDir,
      { threads: asked ?? (threads || undefined), backend },
      (event) => {
        if (event.event === "evaluating" || event.event === "preparing") journal.tell(event);
      },
      signal,
      { unscored },
    );
    const { failure, warnings, ...event } = written;
    for (const what of warnings) warn(`the report: ${what}`);
    if (failure !== undefined) warn(`the report is without scores: ${failure.message}`);
    journal.tell(event);
    return event.path;
  } catch (error) {
    const why =
      signal?.aborted === true ? "it was stopped" : String(error instanceof Error ? error.message : error);
    warn(`the report is not written, and the run is whole: ${why}; later: ${command}`);
    return null;
  }
}

/** A run in progress. */
class Training {
  readonly #plan: Plan;
  readonly #prepared: Prepared;
  readonly #backend: Backend;
  readonly #journal: Journal;
  readonly #summaries: Summaries;
  readonly #saver: Saver;
  readonly #evaluations: Evaluations;
  readonly #schedule: Schedule;
  readonly #inputs: StepInputs;
  readonly #clock: StepClock;
  readonly #profiler: Profiler;
  readonly #dump: TensorDump;
  readonly #overflows: Overflows | undefined;
  /** What the shards of the step at hand were given, for `#overflows`. */
  #given: ShardInput[] = [];
  #lastStep: StepResult | undefined;
  /** Pictures that were found bad and told. */
  #bad: readonly BadImage[] = [];
  /** While an update is made the weights may be half of it. */
  #isUpdating = false;
  /** Whether all ranks have learned that one of them cannot go on. */
  #endsTogether = false;
  /** Why no more batches can be had. */
  #unloaded: { readonly error: unknown } | undefined;

  constructor(plan: Plan, prepared: Prepared, backend: Backend, journal: Journal) {
    const { runDir, settings, model, length } = plan;
    const { standing } = prepared;
    this.#plan = plan;
    this.#prepared = prepared;
    this.#backend = backend;
    this.#journal = journal;
    this.#summaries = new Summaries(runDir, {
      program: () => prepared.program,
      stepImages: this.#stepImages,
      readState: () => prepared.run.readState(),
      weightDecay: settings.weight_decay,
      scheme: model.variant === "tensorflow" ? "tensorflow" : "canonical",
      interval: plan.ranks.rank === 0 ? settings.save_summary_steps : 0,
      loop: settings.iterations_per_loop,
      lastStep: length.steps,
      step: standing.step,
      evaluatedStep: standing.evaluated_step,
      warn: journal.warn,
    });
    this.#saver = new Saver(plan, prepared, journal);
    this.#evaluations = new Evaluations(plan, prepared, journal, this.#summaries, this.#saver);
    this.#schedule = scheduleOf(settings, length);
    this.#inputs = new StepInputs(plan, prepared);
    this.#clock = new StepClock(this.#stepImages);
    this.#profiler = new Profiler(plan, prepared, journal);
    this.#dump = new TensorDump(plan, prepared, journal);
    this.#overflows = settings.over_dump ? new Overflows(plan, prepared, journal) : undefined;
  }

  async run(signal: AbortSignal | undefined): Promise<TrainResult> {
    const { runDir, length, checkpoint: resumed } = this.#plan;
    const { standing, warnings } = this.#prepared;
    for (const what of warnings) this.#journal.warn(what);
    const { train: unreadable, validation: alsoUnreadable } = this.#plan.unreadable;
    this.#saver.noteBad([...unreadable, ...alsoUnreadable]);
    this.#bad = unreadable;
    const { data, settings } = this.#plan;
    const { record } = data;
    const isFirst = this.#plan.ranks.rank === 0;
    if (
      isFirst &&
      settings.do_checkpoint &&
      record !== undefined &&
      (resumed === undefined || resumed.state.split !== undefined)
    ) {
      await writeSplit(runDir, record);
    }
    // Saved before anything is trained, so that a run killed at any time from now on can be resumed.
    if (resumed === undefined) await this.#saver.save("last");
    else await this.#saver.settleBest();
    if (isFirst) await this.#writeRecipe();
    this.#journal.emit(this.#startEvent());
    let stopped = false;
    const ask = (): void => {
      this.#prepared.run.requestStop();
      this.#plan.ranks.stopping();
    };
    if (signal?.aborted === true) ask();
    else signal?.addEventListener("abort", ask, { once: true });
    try {
      // A run stopped between a step and its evaluation makes up for it; a classifier that was solved is scored as it is.
      const isScored = standing.step > 0 || this.#prepared.solved !== undefined;
      const isWhole = !isScored || (await this.#evaluate(signal));
      if (isWhole && !this.#isOver) await this.#train(signal);
      stopped ||= !isWhole;
    } catch (error) {
      const failure = await this.#ended(error);
      const code = failure instanceof RiffleError ? failure.exitCode : 1;
      const what = failure instanceof Error ? failure.message : String(failure);
      this.#journal.fail({ event: "failed", step: standing.step, epoch: this.#epoch(), code, what });
      throw failure;
    } finally {
      signal?.removeEventListener("abort", ask);
    }
    this.#plan.ranks.place("ending", standing.step);
    if (!(await this.#saver.isSaved())) await this.#saver.save("last");
    const { step, scores, best, skipped, unimproved } = standing;
    const { checkpoint } = this.#saver;
    const epoch = this.#epoch();
    const images_per_second = this.#clock.overall();
    stopped ||= !this.#isOver;
    const reason = step < length.steps ? "patience" : "steps";
    const ended = { reason, unimproved, best, ...this.#finalScores(), images_per_second, skipped } as const;
    this.#journal.emit(
      stopped
        ? { event: "stopped", step, epoch, checkpoint }
        : { event: "end", step, epoch, ...ended, checkpoint },
    );
    await this.#journal.flush();
    return {
      run: runDir,
      checkpoint,
      step,
      epoch,
      stopped,
      reason: stopped ? null : reason,
      skipped,
      scores,
      best,
      images_per_second,
      report: null,
    };
  }

  close(): Promise<void> {
    return this.#summaries.close();
  }

  /** From where the run stands to its last step, or the step at which it is to stop. */
  async #train(signal: AbortSignal | undefined): Promise<void> {
    while (await this.#trainAtSize(signal)) {
      const { settings, length } = this.#plan;
      await this.#prepared.grow(trainingSize(this.#prepared.standing.step, settings, length));
      // What was asked of the run before is not known to this one.
      if (signal?.aborted === true) this.#prepared.run.requestStop();
    }
  }

  /** On pictures of one size. @returns whether the run goes on with larger ones */
  async #trainAtSize(signal: AbortSignal | undefined): Promise<boolean> {
    const { step, skipped } = this.#prepared.standing;
    const source = this.#inputs.source(step + skipped, this.#bad);
    return closing((atEnd) => {
      atEnd(() => source.close());
      return this.#loop(source, signal);
    }, this.#journal.warn);
  }

  /**
   * What a run ends with that an error ended: its weights are saved first, where they are whole and finite. Of several ranks
   * all end with what one of them met, where the others could learn of it.
   */
  async #ended(thrown: unknown): Promise<unknown> {
    const { runDir, settings, ranks } = this.#plan;
    if (ranks.size > 1 && !this.#endsTogether) return thrown;
    const error = await firstFailure(ranks, thrown);
    if (error instanceof TooManyBadImages && ranks.size === 1) this.#saver.noteBad(error.images);
    if (!(error instanceof DivergedError) && !this.#isUpdating) await this.#saver.rescue();
    if (!(error instanceof TooManyBadImages) || !settings.do_checkpoint || !(await this.#saver.isSaved()))
      return error;
    const { images, problem } = error;
    const resume = `npx riffle-vision train --resume ${shellWord(runDir)}`;
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

  /** @returns whether the run goes on with larger pictures */
  async #loop(source: BatchSource, signal: AbortSignal | undefined): Promise<boolean> {
    const { settings, length, ranks } = this.#plan;
    const { standing } = this.#prepared;
    this.#clock.resume(0);
    const isStopped = await anybody(ranks, "begin", signal?.aborted === true);
    if (standing.step >= length.steps || isStopped) return false;
    const batches = source[Symbol.asyncIterator]();
    for (;;) {
      const before = standing.step;
      this.#profiler.begin(before + 1);
      const results = await this.#make(loopAfter(before, settings, length, this.#isAlone), batches);
      const exchanged = results.reduce((sum, { exchangeSeconds }) => sum + exchangeSeconds, 0);
      this.#clock.step(source.waited, exchanged, results.length);
      this.#profiler.enter("reporting");
      for (const result of results) await this.#stepped(result);
      this.#reportBadImages(source);
      // A step that was skipped makes nothing due anew.
      const isNew = standing.step > before;
      if (isNew && this.#evaluations.isDue) this.#profiler.enter("evaluating");
      const isWhole = !isNew || (await this.#evaluate(signal));
      // Ranks stop where all of them have heard of it: with the step's sum, or in the evaluation.
      const { stops = 0 } = results.at(-1) ?? {};
      const isStopped = ranks.size === 1 ? signal?.aborted === true : stops > 0;
      const last = this.#isOver || isStopped || !isWhole;
      const isDue = isNew && standing.step % settings.save_checkpoints_steps === 0;
      if (last || isDue) {
        this.#profiler.enter("saving");
        await this.#saver.save(last ? "last" : "between");
      }
      await this.#journal.flush();
      await this.#profiler.end(standing.step, last);
      this.#clock.resume(source.waited);
      if (last) return false;
      if (trainingSize(standing.step, settings, length) !== this.#prepared.program.imageSize) return true;
    }
  }

  /** Whether there is nothing left to train. */
  get #isOver(): boolean {
    return this.#prepared.standing.step >= this.#plan.length.steps || this.#evaluations.endsEarly;
  }

  /** Where an evaluation is due. @returns false when it was stopped before its end */
  async #evaluate(signal: AbortSignal | undefined): Promise<boolean> {
    try {
      return !this.#evaluations.isDue || (await this.#evaluations.evaluate(signal));
    } catch (error) {
      // Counted over all ranks, and so met by all at the same place.
      this.#endsTogether ||= error instanceof TooManyBadImages;
      throw error;
    }
  }

  /** Steps that are not made in one call with others: something looks at the run before or after them. */
  readonly #isAlone = (step: number): boolean =>
    this.#summaries.isDue(step) ||
    this.#profiler.isDue(step) ||
    this.#dump.isDue(step) ||
    this.#overflows !== undefined;

  /**
   * So many steps, or fewer where they end early. Those of a loop are one call of the engine; a single step of several shards
   * is a call for each, whose pictures need not lie in memory together.
   */
  async #make(steps: number, batches: AsyncIterator<LoadedBatch>): Promise<StepResult[]> {
    const { count } = this.#plan.shards;
    if (steps > 1) return this.#call({ index: 0, count }, steps * count, batches);
    for (let index = 0; index < count - 1; index++) await this.#call({ index, count }, 1, batches);
    return this.#call({ index: count - 1, count }, 1, batches);
  }

  /** The next shards, `first` the first of them; of a loop whose pictures end early the whole steps that there are. */
  async #call(first: Shard, wanted: number, batches: AsyncIterator<LoadedBatch>): Promise<StepResult[]> {
    const { ranks } = this.#plan;
    const { run, standing } = this.#prepared;
    ranks.place("loading", standing.step);
    this.#profiler.enter("waiting");
    const loaded = await this.#load(wanted, batches);
    ranks.place("computing", standing.step);
    this.#profiler.enter("computing");
    try {
      const used = wanted === 1 ? loaded : loaded.slice(0, loaded.length - (loaded.length % first.count));
      if (used.length === 0) return await this.#abandon();
      const { images } = used[0] as LoadedBatch;
      if (first.index === 0) await this.#summaries.before(standing.step + 1, images);
      const inputs = this.#inputs.of(used, first, standing.step + standing.skipped);
      if (used.length === 1) {
        const [dropoutMask] = inputs.dropoutMasks ?? [];
        const loss = { ...inputs.loss, ...(dropoutMask === undefined ? {} : { dropoutMask }) };
        await this.#look(standing.step + 1, first, { batch: inputs.batches[0] as Batch, loss });
      }
      const steps = Math.floor((first.index + used.length) / first.count);
      this.#isUpdating = steps > 0;
      const updates = Array.from({ length: steps }, (_, ahead) => {
        const step = standing.step + ahead;
        return this.#inputs.update(learningRate(this.#schedule, step), step);
      });
      const results = await run.steps({ ...inputs, updates });
      this.#isUpdating = false;
      return results;
    } finally {
      for (const batch of loaded) batch.release();
    }
  }

  /** As many batches as are wanted, or those before one that cannot be had. */
  async #load(wanted: number, batches: AsyncIterator<LoadedBatch>): Promise<LoadedBatch[]> {
    const loaded: LoadedBatch[] = [];
    try {
      while (loaded.length < wanted && this.#unloaded === undefined)
        loaded.push(((await batches.next()) as IteratorYieldResult<LoadedBatch>).value);
    } catch (error) {
      this.#unloaded = { error };
    }
    return loaded;
  }

  /**
   * This rank cannot go on; the others learn of it with the step's sum. They wait elsewhere where their batch norms are
   * one, and end with this rank.
   */
  async #abandon(): Promise<never> {
    if (!this.#plan.settings.sync_batch_norm) {
      await this.#prepared.run.abandonStep();
      this.#endsTogether = true;
    }
    throw this.#unloaded?.error;
  }

  /** A step was not finite. Where the loss is scaled another scale or batch may be; else, or where none was for long, the run ends. */
  async #skip(result: StepResult, origin: string | undefined): Promise<void> {
    const { settings, runDir } = this.#plan;
    const { standing } = this.#prepared;
    const { kind } = lossScaling(settings);
    const loss = result.crossEntropy + result.decayLoss;
    const step = standing.step + 1;
    const found = `loss ${loss} at learning rate ${this.#rate}${origin === undefined ? "" : `; ${origin}`}`;
    if (kind === "none" || !Number.isFinite(result.decayLoss))
      throw this.#saver.diverged("the loss or a gradient is not finite", step, found);
    standing.skipped++;
    this.#journal.emit({
      event: "skipped",
      step: standing.step,
      loss: Number.isFinite(loss) ? loss : null,
      loss_scale: result.lossScale.scale,
      skipped: standing.skipped,
    });
    if (!isStuck({ kind, ...result.lossScale })) return;
    await this.#saver.rescue();
    const { scale, consecutive } = result.lossScale;
    const what = `the loss or a gradient was not finite in ${consecutive} steps in a row`;
    const at = `${found}, loss scale ${scale}`;
    if (kind === "dynamic") throw this.#saver.diverged(`${what}, whatever the loss scale`, step, at);
    const resume = settings.do_checkpoint ? ` --resume ${shellWord(runDir)}` : "";
    const instead = `Let the scale be found: npx riffle-vision train${resume} --loss_scale dynamic; or give a smaller --loss_scale_value`;
    throw this.#saver.diverged(`${what}, at a loss scale that is fixed`, step, at, instead);
  }

  /** Dumps a step that is due, and keeps what a shard is given for as long as its step may turn out not to be finite. */
  async #look(step: number, { index }: Shard, input: ShardInput): Promise<void> {
    if (index === 0 && this.#dump.isDue(step)) {
      this.#profiler.enter("dumping");
      await this.#dump.write(step, input);
      this.#profiler.enter("computing");
    }
    if (this.#overflows === undefined) return;
    if (index === 0) this.#given = [];
    const { images, labels } = input.batch;
    this.#given.push({
      ...input,
      batch: { ...input.batch, images: images.slice(), labels: labels.slice() },
    });
  }

  /** A step was made: where the run stands, and what it reports. */
  async #stepped(result: StepResult): Promise<void> {
    const { settings, length } = this.#plan;
    const { standing } = this.#prepared;
    const rate = this.#rate;
    const step = standing.step + 1;
    if (result.failures > 0) {
      this.#endsTogether = true;
      throw new FailedElsewhere();
    }
    const { scale = 1 } = standing.loss_scale ?? {};
    if (standing.loss_scale !== undefined) standing.loss_scale = result.lossScale;
    if (!result.finite) return this.#skip(result, await this.#overflows?.look(step, scale, this.#given));
    standing.step = step;
    this.#lastStep = result;
    if (step % settings.iterations_per_loop !== 0 && step !== length.steps) return;
    const event: StepEvent = {
      event: "step",
      step,
      epoch: this.#epoch(),
      loss: result.crossEntropy + result.decayLoss,
      cross_entropy: result.crossEntropy,
      decay_loss: result.decayLoss,
      top1: result.correct1 / this.#stepImages,
      top5: result.correct5 / this.#stepImages,
      learning_rate: rate,
      ...this.#clock.recent(stepsLeft(step, settings, length)),
      loss_scale: standing.loss_scale?.scale ?? null,
      skipped: standing.skipped,
    };
    await this.#summaries.step(event);
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
      images_per_step: this.#stepImages,
      epochs: settings.max_epochs,
      measured: this.#measured(),
      backend: this.#backend.name,
      machine: this.#machine(),
      ranks: ranksEvent(this.#plan, program),
      memory,
      recipe: settings.recipe,
      scaled_rate: scaledRate({ settings, origins }),
      solved: this.#prepared.solved ?? null,
      class_weights: this.#classWeights(),
      notes: checkpoint === undefined ? notesOn(this.#plan) : [],
      settings: valuesOf(settings),
      origins,
      resumed: checkpoint === undefined ? null : { checkpoint: checkpoint.path, step: checkpoint.state.step },
    };
  }

  #classWeights(): StartEvent["class_weights"] {
    const { classWeights } = this.#inputs;
    return classWeights === undefined
      ? null
      : { least: Math.min(...classWeights), most: Math.max(...classWeights) };
  }

  #measured(): StartEvent["measured"] {
    const { measured } = this.#plan;
    if (measured === undefined) return null;
    const images_per_second = this.#stepImages / measured.step;
    return { images_per_second, evaluation_seconds: measured.evaluation };
  }

  #machine(): StartEvent["machine"] {
    const { isa, threads } = this.#backend.machine();
    return {
      processor: cpus()[0]?.model.trim() ?? "unknown",
      isa,
      threads: this.#plan.settings.threads ?? (this.#plan.ranks.threads || threads),
    };
  }

  #finalScores(): Pick<Scores, "loss" | "top1" | "top5"> {
    const { scores } = this.#prepared.standing;
    if (scores !== null) return { loss: scores.loss, top1: scores.top1, top5: scores.top5 };
    const images = this.#stepImages;
    const { crossEntropy = NaN, correct1 = NaN, correct5 = NaN } = this.#lastStep ?? {};
    return { loss: crossEntropy, top1: correct1 / images, top5: correct5 / images };
  }

  /** Pictures of a step, over all shards. */
  get #stepImages(): number {
    return this.#plan.shards.of * this.#plan.settings.batch_size;
  }

  /** Of the next update. */
  get #rate(): number {
    return learningRate(this.#schedule, this.#prepared.standing.step);
  }

  #epoch(): number {
    return this.#prepared.standing.step / this.#plan.length.stepsPerEpoch;
  }

  #reportBadImages(source: BatchSource): void {
    const found = source.badImages.slice(this.#bad.length);
    this.#saver.noteBad(found);
    for (const { file, reason } of found) this.#journal.emit({ event: "bad_image", file, reason });
    if (found.length > 0) this.#bad = [...source.badImages];
  }
}
