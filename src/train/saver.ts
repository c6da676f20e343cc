/**
 * What of a run is saved when: all of training at every interval and at the end, the weights that scored best in
 * `best/`. Nothing that is not finite is saved, and a full disk in the middle of a run does not end it.
 */

import { join } from "node:path";

import type { TrainingState, Weights } from "../backends/backend.js";
import { asRiffleError, CheckpointError, DataError, DivergedError, ResourceError } from "../core/error.js";
import { everybodys, onFirst } from "../distributed/duties.js";
import { badImageLimit } from "../run/run-data.js";
import { shellWord } from "../core/printable.js";
import { shortPath } from "../core/short-path.js";
import type { PictureFile } from "../data/dataset.js";
import type { BadImage } from "../data/loader.js";
import { openCheckpoint, pruneCheckpoints, saveCheckpoint, stepFolder } from "../run/checkpoint.js";
import type { Best, Checkpoint, CheckpointState, SplitState } from "../run/checkpoint-state.js";
import { type Saved } from "../run/checkpoint-tensors.js";
import { loadWeights } from "../run/load-checkpoint.js";
import type { Journal } from "../run/journal.js";
import { splitStateOf } from "../run/split-record.js";
import { valuesOf } from "../settings/read-settings.js";
import { writeTfCheckpoint } from "../weights/tf-checkpoint.js";
import { isBetter } from "./best.js";
import type { Plan } from "./plan.js";
import type { Prepared, Standing } from "./prepare.js";

/** Where a run stands or stood, as a checkpoint says. */
type Stood = Pick<CheckpointState, keyof Standing>;

/** A failed save "between" others is tried again at the next interval; one of the "last" ends the run. */
type When = "between" | "last";

/** Failures in a row that end a run. */
const FAILURES = 3;

export class Saver {
  readonly #plan: Plan;
  readonly #prepared: Prepared;
  readonly #journal: Journal;
  /** What the last checkpoint holds. */
  #saved = { step: -1, says: "" };
  #failures = 0;
  /** Pictures left out, on any rank. */
  readonly #bad: Map<string, PictureFile>;
  readonly #split: SplitState | undefined;

  constructor(plan: Plan, prepared: Prepared, journal: Journal) {
    this.#plan = plan;
    this.#prepared = prepared;
    this.#journal = journal;
    this.#bad = new Map((plan.checkpoint?.state.bad_images ?? []).map((file) => [file.name, file]));
    this.#split = splitOf(plan);
    if (plan.checkpoint === undefined) return;
    this.#saved = { step: prepared.standing.step, says: this.#says() };
    this.#advise(plan.checkpoint.path);
  }

  /** Whether the last checkpoint is of where the run stands. All ranks ask together. */
  async isSaved(): Promise<boolean> {
    await this.#shareBad();
    return this.#saved.says === this.#says();
  }

  /** Path of the checkpoint of where the run stands; null where none is to be written. */
  get checkpoint(): string | null {
    const { runDir, settings } = this.#plan;
    return settings.do_checkpoint ? join(runDir, stepFolder(this.#prepared.standing.step)) : null;
  }

  /** All of training. */
  async save(when: When): Promise<void> {
    const { runDir, settings } = this.#plan;
    const { program, standing } = this.#prepared;
    const { step } = standing;
    const state = await this.readState();
    if (!settings.do_checkpoint) return;
    await this.#shareBad();
    const path = await this.#try(when, () =>
      this.#write(stepFolder(step), { kind: "training", state }, standing),
    );
    if (path === undefined) return;
    this.#advise(path);
    this.#saved = { step, says: this.#says() };
    if (settings.checkpoint_format === "tf") {
      // A resumed run may come by a step that it has saved before.
      const options = { keep: settings.keep_checkpoint_max, replace: true, warn: this.#journal.warn };
      await this.#try(when, () => writeTfCheckpoint(runDir, program, step, state, options));
    }
    if (step === 0) return; // the start is reported, not that it was saved
    this.#journal.emit({ event: "save", step, checkpoint: path });
    const prune = (): Promise<string[]> => pruneCheckpoints(runDir, step, settings.keep_checkpoint_max);
    for (const what of await onFirst(this.#plan.ranks, "prune", prune)) this.#journal.warn(what);
  }

  /**
   * One set of weights, ready to use, as the best so far. Where that fails the state goes on naming what lies in `best/`,
   * and the next evaluation that beats it is saved.
   *
   * @returns whether it is the best now
   */
  async saveBest(weights: Weights, best: Best): Promise<boolean> {
    const { standing } = this.#prepared;
    if (this.#plan.settings.do_checkpoint) {
      const saved = { kind: "weights", weights } as const;
      const path = await this.#try("between", () => this.#write("best", saved, { ...standing, best }));
      if (path === undefined) return false;
    }
    standing.best = best;
    return true;
  }

  /**
   * After a resume: what the state says is best lies in `best/`, or the state says what does. They differ when the run
   * ended between saving one and the other, went back to an earlier checkpoint, or lost the folder.
   */
  async settleBest(): Promise<void> {
    const { runDir, settings, checkpoint } = this.#plan;
    const { standing, program } = this.#prepared;
    if (checkpoint === undefined || !settings.do_checkpoint) return;
    const said = standing.best;
    const { ranks } = this.#plan;
    const held = await onFirst(ranks, "best", () => heldBest(runDir, checkpoint));
    if (held?.step === said?.step && held?.top1 === said?.top1) return;
    if (said === null || (held !== undefined && !isBetter(said, held))) {
      standing.best = held ?? null;
      return;
    }
    const lost = `best/ does not hold the weights of step ${said.step}, which scored best`;
    const restore = async (): Promise<string | undefined> => {
      const source = await checkpointOf(runDir, said);
      if (source === undefined) return undefined;
      const saved = { kind: "weights", weights: await loadWeights(source, program) } as const;
      return this.#write("best", saved, source.state);
    };
    if ((await this.#try("between", restore)) !== undefined) {
      this.#journal.warn(`${lost}; they were written there from ${stepFolder(said.step)}`);
      return;
    }
    standing.best = held ?? null;
    const instead =
      held === undefined ? "the next evaluation decides anew" : `it holds those of step ${held.step}`;
    this.#journal.warn(`${lost}, and no checkpoint of it is left; ${instead}`);
  }

  /** Files that were left out: one that is removed before the run goes on keeps its place in the order of the others. */
  noteBad(images: readonly BadImage[]): void {
    for (const { picture } of images) {
      if (picture !== undefined) this.#bad.set(picture.name, { name: picture.name, bytes: picture.bytes });
    }
  }

  /**
   * Saves what can be saved when a run ends by an error; a failure of that is said, for the error is what counts.
   */
  async rescue(): Promise<void> {
    try {
      if (!(await this.isSaved())) await this.save("last");
    } catch (error) {
      this.#journal.warn(`not saved at step ${this.#prepared.standing.step}: ${String(error)}`);
    }
  }

  /**
   * Training's numbers where the run stands, right until its next step. An update may overflow although the gradient
   * was finite: such weights are neither scored nor saved.
   */
  async readState(): Promise<TrainingState> {
    const { parameters, statistics, momentum, averages } = await this.#prepared.run.readState();
    const state = { parameters, statistics, momentum, averages };
    for (const [name, values] of Object.entries(state)) {
      const index = values.findIndex((value) => !Number.isFinite(value));
      if (index < 0) continue;
      const what = "the update left a number that is not finite";
      throw this.diverged(what, this.#prepared.standing.step, `${values[index]} in the ${name}`);
    }
    return state;
  }

  /** @param instead what to do rather than learn more slowly */
  diverged(what: string, step: number, found: string, instead?: string): DivergedError {
    const { runDir, settings, length } = this.#plan;
    const saved = this.#saved.step < 0 ? undefined : join(runDir, stepFolder(this.#saved.step));
    return new DivergedError({
      what,
      where: `step ${step}, epoch ${(step / length.stepsPerEpoch).toFixed(2)}`,
      expected: "finite numbers",
      found,
      safe: `Nothing of it was saved${saved === undefined ? "" : `; the last good checkpoint is ${saved}`}`,
      hint:
        instead ??
        `Start a new run with a lower --lr than ${settings.lr}` +
          (saved === undefined
            ? ""
            : `, from these weights if you like: --init_from ${shellWord(saved)} --recipe ${settings.recipe} --log_dir NEW`) +
          (settings.over_dump ? "" : "; with --over_dump it says in which layer such a number comes first"),
    });
  }

  #says(): string {
    return JSON.stringify([this.#prepared.standing, this.#bad.size]);
  }

  #write(name: string, saved: Saved, at: Stood): Promise<string> {
    const { step, evaluated_step, scores, best, skipped = 0, unimproved = 0, loss_scale } = at;
    const { runDir, model, data, content, settings, origins, length } = this.#plan;
    return saveCheckpoint(runDir, name, this.#prepared.program, saved, {
      step,
      evaluated_step,
      scores,
      best,
      steps_per_epoch: length.stepsPerEpoch,
      model,
      settings: valuesOf(settings),
      origins,
      data: {
        fingerprint: data.train.fingerprint,
        train_images: data.train.size,
        ...(content === undefined ? {} : { content }),
      },
      ...(this.#split === undefined ? {} : { split: this.#split }),
      ...(this.#prepared.solved === undefined ? {} : { solved: this.#prepared.solved }),
      ...(this.#bad.size === 0 ? {} : { bad_images: [...this.#bad.values()] }),
      ...(unimproved === 0 ? {} : { unimproved }),
      ...(skipped === 0 ? {} : { skipped }),
      ...(loss_scale === undefined ? {} : { loss_scale }),
    });
  }

  /** What left pictures out is known to the rank that met it; a checkpoint names all of them. */
  async #shareBad(): Promise<void> {
    const { ranks, settings } = this.#plan;
    if (ranks.size === 1) return;
    const all = await everybodys(ranks, "pictures left out", [...this.#bad.values()]);
    for (const file of all.flat()) this.#bad.set(file.name, file);
    const allowed = badImageLimit(settings);
    if (this.#bad.size <= allowed) return;
    const names = [...this.#bad.keys()];
    throw new DataError({
      what: "the ranks together left out more pictures than are allowed",
      where: names[0],
      expected: `at most ${allowed}`,
      found: `${names.length}: ${names.slice(0, 5).join(", ")}${names.length > 5 ? ", ..." : ""}`,
      hint: `Remove or replace them, or allow them: --max_bad_images ${names.length + 4}`,
    });
  }

  /** What ranks are told when one of them goes missing. */
  #advise(path: string): void {
    const { ranks, runDir, settings } = this.#plan;
    const command = `npx riffle-vision launch --ranks ${ranks.size} -- train --resume ${shellWord(shortPath(runDir))}`;
    ranks.watch(
      settings.rank_timeout,
      `The last checkpoint is whole: ${shortPath(path)}.\n  Go on: ${command}`,
    );
  }

  /** What the first rank writes; the others wait for it, however long it takes. */
  async #try(when: When, save: () => Promise<string | undefined>): Promise<string | undefined> {
    const { ranks } = this.#plan;
    const { step } = this.#prepared.standing;
    ranks.place("saving", step);
    const path = await onFirst(ranks, "save", () => this.#tryAlone(when, save));
    ranks.place("computing", step);
    return path;
  }

  async #tryAlone(when: When, save: () => Promise<string | undefined>): Promise<string | undefined> {
    try {
      const path = await save();
      this.#failures = 0;
      return path;
    } catch (thrown) {
      const error = asRiffleError(thrown);
      this.#failures++;
      if (!(error instanceof ResourceError) || when === "last" || this.#failures >= FAILURES) throw error;
      this.#journal.warn(`not saved at step ${this.#prepared.standing.step}: ${error.message}`);
      return undefined;
    }
  }
}

/** A resumed run goes on saying what it said. */
function splitOf({ checkpoint, data }: Plan): SplitState | undefined {
  if (checkpoint !== undefined) return checkpoint.state.split;
  return data.record === undefined ? undefined : splitStateOf(data.record);
}

/** What lies in `best/`, where it is of the run that the checkpoint is of. */
async function heldBest(runDir: string, { state }: Checkpoint): Promise<Best | undefined> {
  const held = (await openIfWhole(join(runDir, "best")))?.state;
  const isOfRun =
    held?.data.fingerprint === state.data.fingerprint &&
    JSON.stringify(held.model) === JSON.stringify(state.model);
  if (!isOfRun || held.scores === null || !Number.isFinite(held.scores.loss)) return undefined;
  return { step: held.step, top1: held.scores.top1, loss: held.scores.loss };
}

/** The checkpoint that was saved with the scores that were best. */
async function checkpointOf(runDir: string, { step, top1 }: Best): Promise<Checkpoint | undefined> {
  const checkpoint = await openIfWhole(join(runDir, stepFolder(step)));
  return checkpoint?.state.evaluated_step === step && checkpoint.state.scores?.top1 === top1
    ? checkpoint
    : undefined;
}

async function openIfWhole(path: string): Promise<Checkpoint | undefined> {
  try {
    return await openCheckpoint(path);
  } catch (error) {
    if (error instanceof CheckpointError) return undefined;
    throw error;
  }
}
