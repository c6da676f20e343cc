/** `--autotune` as a run's events tell of it. */

import { autotune, type TuningReport } from "../backends/autotune.js";
import type { Backend, BackendOptions, Tuning } from "../backends/backend.js";
import type { Program } from "../program/program.js";
import type { PreparingEvent, TuningEvent, WarningEvent } from "./events.js";

export type TuningMessage = PreparingEvent | TuningEvent | WarningEvent;

interface TuningOptions {
  readonly report: (event: TuningMessage) => void;
  /** False for one of several processes: it only reads what is kept. */
  readonly mayMeasure?: boolean;
  /** Its reason is thrown when it aborts meanwhile. */
  readonly signal?: AbortSignal | undefined;
}

/** As `autotune`, reported. */
export async function tunedFor(
  backend: Backend,
  program: Program,
  options: BackendOptions,
  { report, signal, mayMeasure = true }: TuningOptions,
): Promise<{ readonly tuning: Tuning | undefined; readonly report: TuningReport }> {
  const start = performance.now();
  const progress = (done: number, total: number): void => {
    signal?.throwIfAborted();
    const seconds = (performance.now() - start) / 1000;
    const rest = { images_per_second: 0, seconds_left: (seconds / done) * (total - done) };
    report({ event: "preparing", what: "tuning", done, total, ...rest });
  };
  const warn = (what: string): void => report({ event: "warning", what });
  const found = await autotune(backend, program, options, { mayMeasure, progress, warn });
  report({ event: "tuning", ...found.report });
  return found;
}
