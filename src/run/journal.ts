/**
 * What a run says, in one place: to its caller, to `events.jsonl` and to the plain log, where one is asked for.
 */

import { join } from "node:path";

import { EventLog, type Reporter, type TrainEvent } from "./events.js";
import { passes, PlainLog } from "./plain-log.js";

export interface JournalOptions {
  /** Name of the plain log; undefined for none. */
  readonly log_name: string | undefined;
  /** Of the reported steps, events.jsonl keeps one in so many steps. */
  readonly log_steps: number;
}

export class Journal {
  readonly #report: Reporter;
  readonly #log: EventLog;
  readonly #plainLog: PlainLog | undefined;
  readonly #logSteps: number;
  /** The step that was reported last. */
  #step: number;

  /** @param step that the run goes on from */
  constructor(runDir: string, { log_name, log_steps }: JournalOptions, step: number, report: Reporter) {
    this.#report = report;
    this.#log = new EventLog(runDir);
    this.#plainLog = log_name === undefined ? undefined : new PlainLog(join(runDir, log_name));
    this.#logSteps = log_steps;
    this.#step = step;
  }

  emit(event: TrainEvent): void {
    this.#report(event);
    if (event.event === "evaluating") return;
    this.#plainLog?.add(event);
    if (event.event !== "step") this.#log.add(event);
    else {
      if (passes(this.#step, event.step, this.#logSteps)) this.#log.add(event);
      this.#step = event.step;
    }
  }

  warn(what: string): void {
    this.emit({ event: "warning", what });
  }

  /** Writes what was said since the last time. */
  async flush(): Promise<void> {
    await this.#log.flush();
    await this.#plainLog?.flush();
  }
}
