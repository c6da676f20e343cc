/** `riffle report`: a run as a page and a model card: curves, scores by class, calibration, the worst mistakes. */

import { shortPath } from "../core/short-path.js";
import type { EvaluateEvent } from "../inference/evaluate.js";
import { writeReport, type WrittenReport } from "../report/write-report.js";
import type { CliCommand } from "./command.js";
import { several, shellWord } from "./format.js";
import { startProgress } from "./progress.js";
import { reporting, titled } from "./report-run.js";
import { listenForStop } from "./stop.js";
import type { Terminal } from "./terminal.js";

export const reportCommand: CliCommand = {
  name: "report",
  arguments: "<run>",
  purpose:
    "Writes a run's report.html, one page with everything in it, and model-card.md: curves, scores by class, calibration, worst mistakes, duplicates.",
  examples: [
    "npx riffle-vision report runs/a",
    "npx riffle-vision report runs/a --split test",
    "npx riffle-vision report runs/a --data_dir moved/photos --json",
  ],
  settings: [
    "data_dir",
    "eval_data_dir",
    "split",
    "max_bad_images",
    "skip_bad_records",
    "eval_batch_size",
    "precision_mode",
    "backend",
    "threads",
  ],
  defaults: {
    data_dir: "the run's",
    eval_data_dir: "the run's",
    max_bad_images: "the run's",
    skip_bad_records: "the run's",
    eval_batch_size: "the run's",
    precision_mode: "the run's",
  },
  async run({ arguments: [run = ""], settings }, terminal) {
    const progress = startProgress(terminal);
    const stop = listenForStop(terminal, () => "Stopping; the report is left as it was.");
    const report = (event: EvaluateEvent): void => {
      switch (event.event) {
        case "preparing":
        case "evaluating":
          progress.show(reporting(event));
          return;
        case "bad_image":
          terminal.emit(event);
          progress.note(`left out: ${event.file}: ${event.reason}`);
          return;
        case "warning":
          terminal.emit(event);
          progress.warn(event.what);
          return;
        case "start":
        case "fetching":
        case "passed_over":
        case "tuning":
        case "end":
          return;
      }
    };
    try {
      const written = await writeReport(run, settings, report, stop.signal);
      progress.end();
      tellReport(written, terminal);
      return written.failure?.exitCode ?? 0;
    } catch (error) {
      if (stop.signal.aborted && error === stop.signal.reason) return stop.exitCode;
      throw error;
    } finally {
      progress.end();
      stop.release();
    }
  },
};

/** What of a report is told besides its path, then the path. */
export function tellReport({ failure, warnings, ...event }: WrittenReport, terminal: Terminal): void {
  const told = [
    ...warnings,
    ...(failure === undefined ? [] : [`the report is without scores: ${failure.message}`]),
  ];
  for (const what of told) {
    terminal.emit({ event: "warning", what });
    terminal.warn(what);
  }
  terminal.emit(event);
  const of = event.scored === 0 ? "without scores" : `scores of ${several(event.scored, "picture")}`;
  terminal.print(titled("Report", `${shellWord(shortPath(event.path))} · ${of}`));
  if (event.card !== null) terminal.print(titled("Card", shellWord(shortPath(event.card))));
}
