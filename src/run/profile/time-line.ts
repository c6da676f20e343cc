/**
 * What the loop of training does, one thing after another, as JavaScript sees it; a step is everything from its first
 * wait for pictures to the end of what follows its update.
 *
 * Times are milliseconds of `performance.now()`.
 */

import type { Stretch } from "../../backends/backend.js";

/** Waiting for pictures, in the engine, what is said and summarised, scoring, saving. */
export type LoopWork = "waiting" | "computing" | "reporting" | "evaluating" | "saving" | "dumping";

export interface LoopSpan extends Stretch {
  readonly work: LoopWork;
}

export interface StepSpan extends Stretch {
  readonly step: number;
}

export class TimeLine {
  readonly spans: LoopSpan[] = [];
  readonly steps: StepSpan[] = [];
  #open: { readonly work: LoopWork; readonly begin: number } | undefined;
  #step: { readonly step: number; readonly begin: number } | undefined;

  /** A step begins, with its wait for pictures. */
  begin(step: number): void {
    this.end();
    this.enter("waiting");
    this.#step = { step, begin: this.#open?.begin ?? 0 };
  }

  /** The loop goes over to something else. */
  enter(work: LoopWork): void {
    if (this.#open?.work === work) return;
    const now = performance.now();
    if (this.#open !== undefined) this.spans.push({ ...this.#open, end: now });
    this.#open = { work, begin: now };
  }

  /** The step in progress ends. */
  end(): void {
    const now = performance.now();
    if (this.#open !== undefined) this.spans.push({ ...this.#open, end: now });
    if (this.#step !== undefined) this.steps.push({ ...this.#step, end: now });
    this.#open = undefined;
    this.#step = undefined;
  }
}
