/** What test files that make many tiny runs share: where the runs lie, and what of them is compared. */

import { join } from "node:path";

import type { TrainEvent } from "../../src/run/events.js";
import type { GivenSettings } from "../../src/settings/settings.js";
import { scratch, writeTinySet } from "./tiny-run.js";

export interface FreshRuns {
  /** The tiny set. */
  readonly data: string;
  /** A folder for a run, another one each time. */
  readonly fresh: () => string;
}

/** In a folder that is removed when the file's tests have ended. */
export function freshRuns(): FreshRuns {
  const folder = scratch();
  let runs = 0;
  return { data: writeTinySet(folder), fresh: () => join(folder, `run-${runs++}`) };
}

/** As a command line gives them. */
export function asOptions(given: GivenSettings): string[] {
  return Object.entries(given).flatMap(([name, value]) => [`--${name}`, String(value)]);
}

/** What a run learned and said of it, times aside. */
export function numbersOf(events: readonly TrainEvent[]): unknown[] {
  return events.flatMap((event): unknown[][] =>
    event.event === "step"
      ? [[event.step, event.loss, event.top1, event.learning_rate, event.loss_scale, event.skipped]]
      : event.event === "skipped"
        ? [["skipped", event.step, event.loss, event.loss_scale, event.skipped]]
        : event.event === "evaluation"
          ? [["scores", event.step, event.loss, event.top1, event.best]]
          : [],
  );
}
