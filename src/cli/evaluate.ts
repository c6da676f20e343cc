/** `riffle evaluate`: loss, top-1 and top-5 on a whole validation set. */

import { tuningText } from "../backends/autotune.js";
import { shortPath } from "../core/short-path.js";
import { CheckpointError, RiffleError, UsageError } from "../core/error.js";
import { evaluate, type EvaluateEvent } from "../inference/evaluate.js";
import type { PreparingEvent } from "../run/events.js";
import { evaluationLine, passedOverText } from "../run/plain-lines.js";
import { type GivenSettings, settingsOf } from "../settings/settings.js";
import type { CliCommand } from "./command.js";
import { percent, several } from "./format.js";
import { isOfRunsOwn, RunReport } from "../report/write-report.js";
import { startProgress } from "./progress.js";
import { publishedNamed } from "../weights/published.js";
import { openedLines } from "./opened-weights.js";
import { tellReport } from "./report.js";
import type { Terminal } from "./terminal.js";
import {
  fetching,
  orientationWords,
  preparing,
  recordLines,
  reporting,
  saysTop5,
  titled,
  unusedLines,
} from "./report-run.js";

export const evaluateCommand: CliCommand = {
  name: "evaluate",
  arguments: "[run] [data]",
  purpose: "Scores a run's best weights, or any checkpoint or file of weights, on a whole validation set.",
  // Here there is one batch size, and the documented command line calls it so.
  aliases: { batch_size: "eval_batch_size", train_batch_size: "eval_batch_size" },
  examples: [
    "npx riffle-vision evaluate runs/a",
    "npx riffle-vision evaluate imagenet data/imagenet --json",
    "npx riffle-vision --mode evaluate --checkpoint_dir model_1p --data_dir data",
  ],
  settings: settingsOf("evaluate"),
  async run(invocation, terminal) {
    const [run] = invocation.arguments;
    const { settings } = invocation;
    refuseContradictions(run, settings);
    const progress = startProgress(terminal);
    let step = 0;
    let classes: number | undefined;
    let end: EvaluateEvent | undefined;
    const runReport = await reportFor(run, settings, (event) => progress.show(reporting(event)));
    const report = (event: EvaluateEvent): void => {
      if (!PASSING.has(event.event)) terminal.emit(event);
      switch (event.event) {
        case "preparing":
          progress.show(preparing(event));
          return;
        case "fetching":
          progress.show(fetching(event));
          return;
        case "passed_over":
          progress.note(titled("Left out", passedOverText(event, shortPath)));
          return;
        case "tuning":
          progress.note(titled("Tuned", tuningText(event, shortPath)));
          return;
        case "warning":
          progress.warn(event.what);
          return;
        case "start":
          step = event.step;
          classes = event.model.classes;
          for (const line of openedLines({ ...event, origin: event.origin ?? undefined }))
            terminal.note(line);
          terminal.note(
            titled(
              "Data",
              `${shortPath(event.data_dir)}, ${several(event.images, "picture")}: ${PARTS[event.part]} · ${orientationWords(event.model.exif_orientation)}`,
            ),
          );
          for (const line of unusedLines(event.unused)) terminal.note(line);
          for (const line of recordLines(event.records)) terminal.note(line);
          return;
        case "evaluating":
          progress.show({ label: "evaluation", done: event.done, total: event.images, columns: [] });
          return;
        case "bad_image":
          progress.note(`left out: ${event.file}: ${event.reason}`);
          return;
        case "end":
          end = event;
          return;
      }
    };
    try {
      const scores = await evaluate(run, settings, report, undefined, runReport);
      progress.end();
      terminal.print(
        `${several(scores.images, "picture")}  loss ${scores.loss.toFixed(4)}  ` +
          `top-1 ${percent(scores.top1, 2)}${saysTop5(classes) ? `  top-5 ${percent(scores.top5, 2)}` : ""}`,
      );
      // Who evaluates by the documented command line looks for its words.
      if (run === undefined) terminal.print(evaluationLine(scores, step));
      if (runReport !== undefined) await reportBeside(runReport, terminal);
      // The result stays the last line, for who reads it there.
      if (end !== undefined) terminal.emit(end);
      return 0;
    } finally {
      progress.end();
    }
  },
};

/**
 * The report that is written along: of a run's own folder, when what it held out is scored.
 *
 * @throws UsageError, CheckpointError where one is asked for in words and there can be none.
 */
async function reportFor(
  run: string | undefined,
  settings: GivenSettings,
  report: (event: PreparingEvent) => void,
): Promise<RunReport | undefined> {
  if (settings.report === false) return undefined;
  const isAsked = settings.report === true;
  const isNamed = run !== undefined && publishedNamed(run) !== undefined;
  if (run === undefined || isNamed || !isOfRunsOwn(settings)) {
    if (!isAsked) return undefined;
    throw new UsageError({
      what: "an evaluation writes a report only of what a run itself held out",
      where: "option --report",
      expected: "a run's folder, and no option that says which pictures are scored or how they are cut",
      safe: "Nothing was read or written",
      hint: "npx riffle-vision report RUN takes --split and --data_dir",
    });
  }
  try {
    return await RunReport.of(run, settings, { report });
  } catch (error) {
    // A checkpoint, or a file of weights; or the evaluation itself says what is wrong with it.
    if (isAsked || !(error instanceof CheckpointError)) throw error;
    return undefined;
  }
}

/** What was scored stands, whatever becomes of the report. */
async function reportBeside(report: RunReport, terminal: Terminal): Promise<void> {
  try {
    tellReport({ ...(await report.write()), failure: undefined }, terminal);
  } catch (error) {
    if (!(error instanceof RiffleError)) throw error;
    const what = `the report is not written: ${error.message}`;
    terminal.emit({ event: "warning", what });
    terminal.warn(what);
  }
}

/** What passes, and the last line, which has a time of its own. */
const PASSING: ReadonlySet<EvaluateEvent["event"]> = new Set(["evaluating", "preparing", "fetching", "end"]);

/** What is scored, in words. */
const PARTS = {
  train: "those that were trained on, by --split train",
  validation: "the validation part",
  test: "the test part",
  "held out": "those that were held out",
  all: "all of them, for there are no parts",
} as const;

/** Two answers to the question what is evaluated. */
function refuseContradictions(
  run: string | undefined,
  { mode, checkpoint_dir, log_dir }: GivenSettings,
): void {
  const other = [
    ...(checkpoint_dir === undefined ? [] : [`--checkpoint_dir ${checkpoint_dir}`]),
    ...(log_dir === undefined ? [] : [`--log_dir ${log_dir}`]),
    ...(mode === undefined || mode === "evaluate" ? [] : [`--mode ${mode}`]),
  ];
  if (other.length === 0 || (run === undefined && (mode === undefined || mode === "evaluate"))) return;
  throw new UsageError({
    what: run === undefined ? "evaluating is another mode" : "there are two answers to what is evaluated",
    where: "evaluate",
    expected: run === undefined ? "--mode evaluate" : "a run or checkpoint, or --checkpoint_dir",
    found: [...(run === undefined ? [] : [run]), ...other].join(" and "),
    safe: "Nothing was read or written",
  });
}
