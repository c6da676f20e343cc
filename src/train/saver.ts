/**
 * What of a run is saved when: all of training at every interval and at the end, the weights that scored best in
 * `best/`. Nothing that is not finite is saved, and a full disk in the middle of a run does not end it.
 */

import { join } from "node:path";

import type { Weights } from "../backends/backend.js";
import { DivergedError, ResourceError } from "../core/error.js";
import { pruneCheckpoints, saveCheckpoint, stepFolder } from "../run/checkpoint.js";
import type { Saved } from "../run/checkpoint-tensors.js";
import type { Journal } from "../run/journal.js";
import { valuesOf } from "../settings/read-settings.js";
import { writeTfCheckpoint } from "../weights/tf-checkpoint.js";
import type { Plan } from "./plan.js";
import type { Prepared } from "./prepare.js";

/** A failed save "between" others is tried again at the next interval; one of the "last" ends the run. */
type When = "between" | "last";

/** Failures in a row that end a run. */
const FAILURES = 3;

export class Saver {
  readonly #plan: Plan;
  readonly #prepared: Prepared;
  readonly #journal: Journal;
  /** What the last checkpoint holds; -1 before the first. */
  #saved = { step: -1, evaluated_step: -1 };
  #failures = 0;

  constructor(plan: Plan, prepared: Prepared, journal: Journal) {
    this.#plan = plan;
    this.#prepared = prepared;
    this.#journal = journal;
    if (plan.checkpoint !== undefined) this.#saved = { ...prepared.standing };
  }

  /** Whether the last checkpoint is of where the run stands. */
  get isSaved(): boolean {
    const { step, evaluated_step } = this.#prepared.standing;
    return this.#saved.step === step && this.#saved.evaluated_step === evaluated_step;
  }

  /** Path of the checkpoint of where the run stands; null where none is to be written. */
  get checkpoint(): string | null {
    const { runDir, settings } = this.#plan;
    return settings.do_checkpoint ? join(runDir, stepFolder(this.#prepared.standing.step)) : null;
  }

  /** All of training. */
  async save(when: When): Promise<void> {
    const { runDir, settings } = this.#plan;
    const { program, state, standing } = this.#prepared;
    const { step, evaluated_step } = standing;
    this.refuseNonFinite();
    if (!settings.do_checkpoint) return;
    const path = await this.#try(when, () => this.#write(stepFolder(step), { kind: "training", state }));
    if (path === undefined) return;
    this.#saved = { step, evaluated_step };
    if (settings.checkpoint_format === "tf") {
      // A resumed run may come by a step that it has saved before.
      const options = { keep: settings.keep_checkpoint_max, replace: true };
      await this.#try(when, () => writeTfCheckpoint(runDir, program, step, state, options));
    }
    if (step === 0) return; // the start is reported, not that it was saved
    this.#journal.emit({ event: "save", step, checkpoint: path });
    for (const name of await pruneCheckpoints(runDir, step, settings.keep_checkpoint_max)) {
      this.#journal.warn(`${join(runDir, name)} holds files of someone else; it is kept`);
    }
  }

  /** One set of weights, ready to use. */
  async saveBest(weights: Weights): Promise<void> {
    if (!this.#plan.settings.do_checkpoint) return;
    await this.#try("between", () => this.#write("best", { kind: "weights", weights }));
  }

  /** An update may overflow although the gradient was finite; such weights are neither scored nor saved. */
  refuseNonFinite(): void {
    const { parameters, statistics, momentum, averages } = this.#prepared.state;
    for (const [name, values] of Object.entries({ parameters, statistics, momentum, averages })) {
      const index = values.findIndex((value) => !Number.isFinite(value));
      if (index < 0) continue;
      const what = "the update left a number that is not finite";
      throw this.diverged(what, this.#prepared.standing.step, `${values[index]} in the ${name}`);
    }
  }

  diverged(what: string, step: number, found: string): DivergedError {
    const { runDir, settings, length } = this.#plan;
    const saved = this.#saved.step < 0 ? undefined : join(runDir, stepFolder(this.#saved.step));
    return new DivergedError({
      what,
      where: `step ${step}, epoch ${(step / length.stepsPerEpoch).toFixed(2)}`,
      expected: "finite numbers",
      found,
      safe: `Nothing of it was saved${saved === undefined ? "" : `; the last good checkpoint is ${saved}`}`,
      hint:
        `Start a new run with a lower --lr than ${settings.lr}` +
        (saved === undefined ? "" : `, from these weights if you like: --init_from ${saved} --log_dir NEW`),
    });
  }

  #write(name: string, saved: Saved): Promise<string> {
    const { runDir, model, data, settings, origins, length } = this.#plan;
    return saveCheckpoint(runDir, name, this.#prepared.program, saved, {
      ...this.#prepared.standing,
      steps_per_epoch: length.stepsPerEpoch,
      model,
      settings: valuesOf(settings),
      origins,
      data: { fingerprint: data.train.fingerprint, train_images: data.train.size },
    });
  }

  async #try(when: When, save: () => Promise<string>): Promise<string | undefined> {
    try {
      const path = await save();
      this.#failures = 0;
      return path;
    } catch (error) {
      this.#failures++;
      if (!(error instanceof ResourceError) || when === "last" || this.#failures >= FAILURES) throw error;
      this.#journal.warn(`not saved at step ${this.#prepared.standing.step}: ${error.message}`);
      return undefined;
    }
  }
}
