/**
 * What a run says, in one place: to its caller, to `events.jsonl`, one JSON object a line, and to the plain log where
 * one is asked for. Nothing of it stops training, neither a log that cannot be written nor a caller's function that
 * throws: that is said once, as a warning.
 */

import { join } from "node:path";

import { printable } from "../core/printable.js";
import type { FailedEvent, Reporter, TrainEvent } from "./events.js";
import { LineLog } from "./line-log.js";
import { passes, PlainLines } from "./plain-lines.js";

interface JournalOptions {
  /** Name of the plain log; undefined for none. */
  readonly log_name: string | undefined;
  /** Of the reported steps, events.jsonl keeps one in so many steps. */
  readonly log_steps: number;
}

interface Logs {
  readonly events: LineLog;
  readonly plain: LineLog | undefined;
  readonly logSteps: number;
}

export class Journal {
  readonly #plainLines = new PlainLines();
  #logs: Logs | undefined;
  /** Events for the logs, said before there were any. */
  readonly #before: TrainEvent[] = [];
  /** The step that was reported last. */
  #step = 0;
  #reporterFailed = false;

  constructor(private readonly report: Reporter) {}

  /** Opens the logs, once it is known that the folder is the run's; `step` is what it goes on from. */
  open(runDir: string, { log_name, log_steps }: JournalOptions, step: number): void {
    this.#step = step;
    this.#logs = {
      events: new LineLog(join(runDir, "events.jsonl"), (count) =>
        JSON.stringify({ event: "lost_lines", count }),
      ),
      plain:
        log_name === undefined
          ? undefined
          : new LineLog(join(runDir, log_name), (count) => `${count} lines could not be written here`),
      logSteps: log_steps,
    };
    for (const event of this.#before.splice(0)) this.#write(event);
  }

  readonly emit = (event: TrainEvent): void => {
    this.#tell(event);
    // What only shows that something goes on is not kept.
    if (!["evaluating", "preparing", "fetching"].includes(event.event)) this.#write(event);
  };

  /** For the caller alone, when the logs are closed. */
  readonly tell = (event: TrainEvent): void => this.#tell(event);

  readonly warn = (what: string): void => this.emit({ event: "warning", what });

  /** For the log of events alone: whoever called is told by what is thrown. */
  readonly fail = (event: FailedEvent): void => {
    this.#logs?.events.add(lineOf(event));
  };

  /** Writes what was said since the last time. */
  async flush(): Promise<void> {
    for (const log of [this.#logs?.events, this.#logs?.plain]) {
      const problem = await log?.flush();
      if (problem !== undefined) this.warn(`a log is not written, and lines are lost: ${problem}`);
    }
  }

  #write(event: TrainEvent): void {
    if (this.#logs === undefined) {
      this.#before.push(event);
      return;
    }
    const { events, plain, logSteps } = this.#logs;
    plain?.add(...this.#plainLines.of(event).map(printable));
    if (event.event === "step") {
      const isKept = passes(this.#step, event.step, logSteps);
      this.#step = event.step;
      if (!isKept) return;
    }
    events.add(lineOf(event));
  }

  #tell(event: TrainEvent): void {
    try {
      // A function that returns a promise is a Reporter to TypeScript, and may fail later.
      const later: unknown = this.report(event);
      if (later instanceof Promise) later.catch((error: unknown) => this.#failed(error));
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    if (this.#reporterFailed) return;
    this.#reporterFailed = true;
    this.warn(`what follows the run's events failed, and training goes on: ${String(error)}`);
  }
}

function lineOf(event: TrainEvent | FailedEvent): string {
  return JSON.stringify({ time: new Date().toISOString(), ...event });
}
