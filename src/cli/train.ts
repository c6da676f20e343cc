/** `riffle train`: trains a network on a folder of pictures, or goes on with a run. */

import { shortPath } from "../core/short-path.js";
import type { ProfileEvent, StartEvent, TrainEvent } from "../run/events.js";
import { COLUMNS } from "../run/profile/roofline-page.js";
import { type GivenSettings, settingsOf } from "../settings/settings.js";
import { train, type TrainResult } from "../train/trainer.js";
import type { CliCommand } from "./command.js";
import { count, percent, several, shellWord } from "./format.js";
import { trainWords } from "./rank-process.js";
import { reportRun, shortEpoch, titled } from "./report-run.js";
import { listenForStop } from "./stop.js";
import type { Terminal } from "./terminal.js";

export const trainCommand: CliCommand = {
  name: "train",
  arguments: "[data]",
  purpose: "Trains a network on a folder of pictures, one folder per class; or resumes a run.",
  examples: [
    "npx riffle-vision train photos --width 0.5 --image_size 96 --log_dir runs/a",
    "npx riffle-vision train photos --val_split 0.2 --max_epochs 30",
    "npx riffle-vision train --resume runs/a",
  ],
  settings: settingsOf("train"),
  run: ({ settings }, terminal) => runTraining(settings, terminal),
};

/** Trains, says how it goes and what comes next. @returns the exit code */
export async function runTraining(settings: GivenSettings, terminal: Terminal): Promise<number> {
  terminal.keepGoing();
  const stop = listenForStop(terminal, () => run.stopping);
  const run = reportRun(terminal, stop.signal);
  let start: StartEvent | undefined;
  let profile: ProfileEvent | undefined;
  const report = (event: TrainEvent): void => {
    if (event.event === "start") start = event;
    if (event.event === "profile") profile = event;
    run.report(event);
  };
  try {
    const result = await train(settings, report, stop.signal);
    run.end();
    if (profile !== undefined) printProfile(profile, terminal);
    printResult(result, start, terminal);
    return result.stopped ? stop.exitCode : 0;
  } catch (error) {
    if (!stop.signal.aborted || error !== stop.signal.reason) throw error;
    terminal.note(
      settings.cache === "resized"
        ? "Stopped before the first step. What was made of the cache is kept; the same command goes on."
        : "Stopped before the first step. Nothing was trained.",
    );
    return stop.exitCode;
  } finally {
    run.end();
    stop.release();
  }
}

/** The longest layers of the profiled steps, and what to open. */
function printProfile({ layers, layers_in_all, folder }: ProfileEvent, terminal: Terminal): void {
  terminal.table({
    head: COLUMNS.map(({ title }) => title),
    align: COLUMNS.map((_, i) => (i < 2 ? "left" : "right")),
    spare: [5, 4, 6, 7],
    rows: layers.map((layer) => COLUMNS.map(({ text }) => text(layer))),
  });
  const path = shortPath(folder);
  const more = layers_in_all - layers.length;
  terminal.print(
    titled("Profile", `${path}/roofline.html, a page${more > 0 ? ` with the ${more} other rows` : ""}`),
  );
  terminal.print(titled("", `${path}/trace.json, open it at https://ui.perfetto.dev or chrome://tracing`));
}

/** "3 steps that were not finite; their pictures were passed over" */
function skippedWords(steps: number): string {
  const many = steps === 1 ? "1 step that was" : `${count(steps)} steps that were`;
  return `${many} not finite; their pictures were passed over`;
}

/** Where everything is, and the commands that come next. */
function printResult(result: TrainResult, start: StartEvent | undefined, terminal: Terminal): void {
  const run = shellWord(shortPath(result.run));
  if (result.skipped > 0) terminal.print(titled("Skipped", skippedWords(result.skipped)));
  if (!result.stopped) printBest(result, start, terminal);
  if (result.checkpoint === null) {
    terminal.print(
      titled("Saved", `no checkpoint · log ${shellWord(shortPath(`${result.run}/events.jsonl`))}`),
    );
    printReport(result, terminal);
    return;
  }
  if (result.stopped) {
    terminal.print(titled("Saved", shellWord(shortPath(result.checkpoint))));
    terminal.print(titled("Resume", `${trainWords()} --resume ${run}`));
    return;
  }
  const best = result.best === null ? result.checkpoint : `${result.run}/best`;
  terminal.print(
    titled(
      "Saved",
      `${shellWord(shortPath(best))} · log ${shellWord(shortPath(`${result.run}/events.jsonl`))}`,
    ),
  );
  printReport(result, terminal);
  terminal.print(titled("Next", `npx riffle-vision predict ${run} photo.jpg`));
  terminal.print(titled("", `npx riffle-vision serve ${run}`));
  if ((start?.validation_images ?? 0) > 0) terminal.print(titled("", `npx riffle-vision evaluate ${run}`));
}

/** How good the weights are that the run keeps; its last evaluation may have been of others. */
function printBest({ best, scores }: TrainResult, start: StartEvent | undefined, terminal: Terminal): void {
  if (best === null || scores === null || start === undefined) return;
  const pictures = several(scores.images, "held-out picture");
  // A classifier that was solved may be the best before a step is made.
  const when =
    best.step === 0
      ? "before the first step"
      : `after epoch ${shortEpoch(best.step / start.steps_per_epoch)}`;
  terminal.print(titled("Best", `${percent(best.top1)} of ${pictures}, ${when}`));
}

export function printReport({ report }: Pick<TrainResult, "report">, terminal: Terminal): void {
  if (report !== null) terminal.print(titled("Report", shellWord(shortPath(report))));
}
