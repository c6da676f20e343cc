/**
 * The report of a run: `report.html` and `model-card.md` in its folder, made of its log, its checkpoint and its scores.
 *
 * The scores are taken anew, on the pictures that the run held out, by the weights in `best/`: the very ones that are used,
 * one evaluation with a look at every picture. Whoever evaluates anyway lets the report look on.
 */

import { stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";

import { exists } from "../core/durable.js";
import { CheckpointError, isOfThePath, RiffleError, UsageError } from "../core/error.js";
import { shellWord } from "../core/printable.js";
import { shortPath } from "../core/short-path.js";
import { riffleVersion } from "../core/version.js";
import { evaluate, type EvaluateEvent, type Examiner, type ScoredSet } from "../inference/evaluate.js";
import { listSteps, sumsFile } from "../run/checkpoint.js";
import type { Checkpoint } from "../run/checkpoint-state.js";
import type { PreparingEvent, ReportEvent } from "../run/events.js";
import { findCheckpoint } from "../run/find-checkpoint.js";
import { dataSettingNames } from "../run/run-data.js";
import { readSettings } from "../settings/read-settings.js";
import type { GivenSettings } from "../settings/settings.js";
import type { Evaluated, ShownPicture } from "./content.js";
import { checkData } from "./data-check.js";
import { Examination } from "./examination.js";
import { type History, readHistory } from "./history.js";
import { type LayerProfile, readLayerProfile } from "./layer-profile.js";
import { looksOf } from "./looks.js";
import { modelCard } from "./model-card.js";
import { replaceOwn } from "./own-file.js";
import { reportPage } from "./page.js";
import type { Judged, Standouts } from "./standouts.js";
import { thumbnails } from "./thumbnails.js";

export const REPORT_FILE = "report.html";
export const CARD_FILE = "model-card.md";

/** What was written, and what it lacks. */
export interface WrittenReport extends ReportEvent {
  /** Why there are no scores, where they were to be taken and could not be. */
  readonly failure: RiffleError | undefined;
  /** A sentence each. */
  readonly warnings: readonly string[];
}

/** Settings that say which pictures are scored, or show them otherwise than the run does: then the scores are not the run's own. */
const OTHER_PICTURES = [...dataSettingNames, "split", "eval_resize", "exif_orientation"] as const;

/** Whether an evaluation with these settings is of the pictures that the run held out, seen as the run sees them. */
export function isOfRunsOwn(given: GivenSettings): boolean {
  return OTHER_PICTURES.every((name) => given[name] === undefined);
}

/**
 * Scores a run and writes its report. Settings are those of an evaluation; what is not given is the run's.
 *
 * @param options `scores` false leaves the scores out, with its reason
 * @throws CheckpointError where the path is no run's folder, UsageError where its report was changed by hand, the signal's
 * reason where that stops it.
 */
export async function writeReport(
  path: string,
  given: GivenSettings = {},
  report: (event: EvaluateEvent) => void = () => undefined,
  signal?: AbortSignal,
  options: { readonly unscored?: string | undefined } = {},
): Promise<WrittenReport> {
  const runReport = await RunReport.of(path, given, { signal, report });
  const unscored = options.unscored ?? runReport.unscorable;
  let failure: RiffleError | undefined;
  if (unscored === undefined) {
    try {
      await evaluate(runReport.folder, runReport.settings, report, signal, runReport);
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof RiffleError)) throw error;
      failure = error;
    }
  }
  return { ...(await runReport.write(failure?.message ?? unscored)), failure };
}

interface ReportOptions {
  readonly signal?: AbortSignal | undefined;
  /** Hears of pictures that are looked at once all are scored. */
  readonly report?: (event: PreparingEvent) => void;
}

/** A report in the making: looks on while the run is scored, then writes itself. */
export class RunReport implements Examiner {
  #examination: Examination | undefined;
  #evaluated: Evaluated | null = null;

  private constructor(
    /** The run's, absolute. */
    readonly folder: string,
    /** Given, and the run's where its scores would else not be what training saw. */
    readonly settings: GivenSettings,
    private readonly checkpoint: Checkpoint | undefined,
    private readonly history: History,
    private readonly profile: LayerProfile | null,
    private readonly warnings: string[],
    private readonly options: ReportOptions,
  ) {}

  /** @throws CheckpointError where the path is no run's folder. */
  static async of(path: string, given: GivenSettings, options: ReportOptions = {}): Promise<RunReport> {
    const folder = resolve(path);
    await requireRun(folder);
    const warnings: string[] = [];
    const history = await readHistory(join(folder, "events.jsonl"));
    if (history.unread > 0) {
      warnings.push(`events.jsonl: ${history.unread} lines are no events of ours, and were passed over`);
    }
    let checkpoint: Checkpoint | undefined;
    try {
      checkpoint = await findCheckpoint(folder);
    } catch (error) {
      if (!(error instanceof CheckpointError) || history.start === null) throw error;
      if (history.start.settings["do_checkpoint"] !== false) warnings.push(error.message);
    }
    const profile = await readLayerProfile(folder).catch((error: unknown) => {
      warnings.push(`profile/layers.json cannot be used: ${String(error)}`);
      return null;
    });
    const settings = { ...given, ...evaluationSettings(given, checkpoint) };
    return new RunReport(folder, settings, checkpoint, history, profile, warnings, options);
  }

  /** Why the run has nothing to be scored by; undefined where it may have. */
  get unscorable(): string | undefined {
    const { start } = this.history;
    if (this.checkpoint === undefined) return "the run kept no checkpoint";
    if (start === null || start.validation_images > 0 || !isOfRunsOwn(this.settings)) return undefined;
    return "nothing was held out: all pictures were trained on, and scores of those would say little";
  }

  picture(sample: number, output: number, logits: Float32Array): void {
    this.#examination ??= new Examination(logits.length);
    this.#examination.add(sample, output, logits);
  }

  async scored(scored: ScoredSet): Promise<void> {
    const { start, set, scores, bad, weights } = scored;
    const examination = this.#examination;
    if (examination === undefined) return;
    const { signal } = this.options;
    const shown = ({ items }: Standouts<Judged>): ShownPicture[] =>
      items.map((judged) => ({ ...judged, name: set.name(judged.sample) }));
    const mistakes = shown(examination.mistakes);
    const isAbove = new Set(mistakes.map(({ sample }) => sample));
    const unsure = shown(examination.unsure).filter(({ sample }) => !isAbove.has(sample));
    const data = await checkData(scored, { signal, progress: this.#progress() });
    if (typeof data === "object" && data.problem !== undefined) this.warnings.push(data.problem);
    const all = [...mistakes, ...unsure];
    this.#evaluated = {
      start,
      scores,
      examination,
      choseBest:
        (isOfRunsOwn(this.settings) || start.part === "held out") &&
        this.history.start?.settings["mode"] !== "train",
      bad: bad.length,
      mistakes,
      unsure,
      thumbnails: await thumbnails(
        set,
        start.model,
        all.map(({ sample }) => sample),
        signal,
      ),
      looks: await looksOf(set, start.model, weights, all, {
        signal,
        threads: this.settings.threads,
        backend: this.settings.backend,
        progress: this.#progress(),
      }),
      data,
    };
  }

  #progress(): (done: number, total: number) => void {
    const started = performance.now();
    return (done, total) => {
      const seconds = Math.max((performance.now() - started) / 1000, 1e-3);
      this.options.report?.({
        event: "preparing",
        what: "check",
        done,
        total,
        images_per_second: done / seconds,
        seconds_left: (seconds * (total - done)) / Math.max(done, 1),
      });
    };
  }

  /**
   * @param unscored why there are no scores, where there are none
   * @throws UsageError where a report that was changed by hand stands there, ResourceError
   */
  async write(unscored = "no picture was scored"): Promise<Omit<WrittenReport, "failure">> {
    const content = {
      folder: this.folder,
      written: new Date(),
      version: riffleVersion(),
      history: this.history,
      model: this.#evaluated?.start.model ?? this.checkpoint?.state.model ?? null,
      profile: this.profile,
      evaluated: this.#evaluated,
      unscored,
      remarks: this.warnings,
    };
    const path = join(this.folder, REPORT_FILE);
    const card = join(this.folder, CARD_FILE);
    const warnings = [...this.warnings];
    if (!(await replaceOwn(path, reportPage(content)))) {
      throw new UsageError({
        what: "is not as Riffle wrote it, so no report is written over it",
        where: path,
        safe: "It was left as it is",
        hint: "Give it another name, then npx riffle-vision report " + shellWord(shortPath(this.folder)),
      });
    }
    const isCardWritten = await replaceOwn(card, modelCard(content));
    if (!isCardWritten) warnings.push(`${shortPath(card)} was changed by hand, and was left as it is`);
    const scored = this.#evaluated?.scores.images ?? 0;
    return { event: "report", path, card: isCardWritten ? card : null, scored, warnings };
  }
}

/** Of the run's settings those by which its own evaluations were made, and their limits. */
function evaluationSettings(given: GivenSettings, checkpoint: Checkpoint | undefined): GivenSettings {
  const recorded = checkpoint === undefined ? {} : readSettings(checkpoint.state.settings);
  const names = ["max_bad_images", "eval_batch_size", "precision_mode"] as const;
  return Object.fromEntries(names.map((name) => [name, given[name] ?? recorded[name]]));
}

/** @throws CheckpointError */
async function requireRun(folder: string): Promise<void> {
  const words = { where: folder, expected: "the folder of a run", safe: "Nothing was read or written" };
  const found = await stat(folder).catch((error: unknown) => {
    if (!isOfThePath(error)) throw error;
    return undefined;
  });
  if (found?.isDirectory() !== true) {
    throw new CheckpointError({
      ...words,
      what: "there is no such run",
      found: found === undefined ? "nothing" : "a file",
    });
  }
  if (await exists(join(folder, sumsFile))) {
    throw new CheckpointError({
      ...words,
      what: "is a checkpoint, and a report is of a run",
      found: basename(folder),
      hint: `npx riffle-vision report ${shellWord(shortPath(dirname(folder)))}`,
    });
  }
  const signs = ["events.jsonl", "recipe.json", "best"].map((name) => exists(join(folder, name)));
  const isRun = (await Promise.all(signs)).includes(true) || (await listSteps(folder)).length > 0;
  if (isRun) return;
  throw new CheckpointError({
    ...words,
    what: "is no run",
    found: "a folder without recipe.json, events.jsonl and checkpoints",
  });
}
