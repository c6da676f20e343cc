/**
 * A run as it can be seen from its folder, without touching it: what its log tells, how it stands, and whether somebody still
 * trains it.
 *
 * What is kept of a run does not grow with it. Times are in milliseconds, those of the log's events in seconds.
 */

import { join } from "node:path";

import { type Presence, presenceIn } from "../core/lock.js";
import { printable } from "../core/printable.js";
import { GrowingCurve } from "../report/growing-curve.js";
import { type EvaluationPoint, type StepPoint, Telling } from "../report/history.js";
import type { RunEnding, RunStart, RunStep } from "../report/run-log.js";
import { LogTail } from "./log-tail.js";

/** How a run stands. */
export type Standing =
  /** Its log has yet to tell of a beginning. */
  | "not begun"
  | "running"
  /** Its process lives, or cannot be looked up from here, and has said nothing for longer than it should. */
  | "silent"
  /** At its last step. */
  | "ended"
  | "stopped"
  /** As its log says. */
  | "failed"
  /** Its process is gone without a word. */
  | "gone"
  /** Its log cannot be read. */
  | "unreadable";

/** Points of a curve. */
const MOST_POINTS = 960;
const MOST_EVALUATIONS = 1000;
/** A log that was written to so short a time ago is somebody's. */
const FRESH = 5000;
/** Nobody is called silent sooner. */
const PATIENCE = 60_000;

export class WatchedRun {
  /** Counts what changed, so that who has seen it knows. */
  version = 0;
  standing: Standing = "not begun";
  /** When its log was last written to, since 1970. */
  written: number | undefined;
  /** Why its log cannot be read. */
  problem: string | undefined;
  readonly #tail: LogTail;
  #curve = new GrowingCurve(MOST_POINTS);
  #told = new Telling(this.#curve, MOST_EVALUATIONS);

  /**
   * @param id of no other run
   * @param name for people
   */
  constructor(
    readonly id: number,
    readonly folder: string,
    readonly name: string,
  ) {
    this.#tail = new LogTail(join(folder, "events.jsonl"));
  }

  get start(): RunStart | null {
    return this.#told.start;
  }

  /** The last step that was told; null before the first since the last beginning. */
  get step(): RunStep | null {
    return this.#told.step;
  }

  get steps(): readonly StepPoint[] {
    return this.#curve.points;
  }

  get evaluations(): readonly EvaluationPoint[] {
    return this.#told.evaluations;
  }

  get ending(): RunEnding | null {
    return this.#told.ending;
  }

  get beginnings(): number {
    return this.#told.beginnings;
  }

  get warnings(): readonly string[] {
    return this.#told.warnings;
  }

  /** The share of its log that has been read. */
  get done(): number {
    return this.#tail.done;
  }

  /** Reads what was appended, and looks who is there. Never throws: what cannot be read is how the run stands. */
  async look(now = Date.now()): Promise<void> {
    let hasNews = false;
    const before = { standing: this.standing, written: this.written, problem: this.problem };
    try {
      this.written = await this.#tail.read({
        hear: (line) => {
          this.#told.hear(line);
          hasNews = true;
        },
        startOver: () => {
          this.#curve = new GrowingCurve(MOST_POINTS);
          this.#told = new Telling(this.#curve, MOST_EVALUATIONS);
          hasNews = true;
        },
      });
      this.problem = undefined;
      this.standing = await this.#stands(now);
    } catch (error) {
      this.problem = printable(error instanceof Error ? error.message : String(error));
      this.standing = "unreadable";
    }
    const isOther = before.standing !== this.standing || before.problem !== this.problem;
    if (hasNews || isOther) this.version++;
  }

  async #stands(now: number): Promise<Standing> {
    const { ending, start } = this.#told;
    if (ending !== null)
      return ({ end: "ended", stopped: "stopped", failed: "failed" } as const)[ending.event];
    if (start === null) return "not begun";
    const quiet = this.written === undefined ? Infinity : now - this.written;
    // Clocks of other machines may be ahead.
    if (Math.abs(quiet) < FRESH) return "running";
    const presence: Presence = await presenceIn(this.folder);
    if (presence === "gone" || presence === "nobody") return "gone";
    return quiet < this.#patience(start) ? "running" : "silent";
  }

  /** How long nothing may be said: three times as long as it takes from one reported step to the next. */
  #patience({ settings, images_per_step }: RunStart): number {
    const speed = this.#told.step?.images_per_second;
    const every = Number(settings["log_steps"] ?? 1);
    const interval = typeof speed === "number" && speed > 0 ? (every * images_per_step) / speed : 0;
    return Math.max(PATIENCE, 3000 * interval);
  }
}
