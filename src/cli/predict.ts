/** `riffle predict`: the likeliest classes of pictures. A picture that cannot be read is named, not fatal. */

import { tuningText } from "../backends/autotune.js";
import { printable, shortPath } from "../core/printable.js";
import { UsageError } from "../core/error.js";
import { openPredictor, type Prediction, type Refused } from "../inference/predict.js";
import { passedOverText } from "../run/plain-lines.js";
import { settings as table, settingsOf } from "../settings/settings.js";
import { shownClass } from "../prepare/imagenet/challenge-classes.js";
import { originLines } from "../weights/find-network.js";
import { type CliCommand, type Invocation, wholeNumber } from "./command.js";
import { findFiles } from "./find-files.js";
import { count, percent } from "./format.js";
import { startProgress } from "./progress.js";
import { orientationWords, preparing, titled } from "./report-run.js";
import type { Terminal } from "./terminal.js";

export const predictCommand: CliCommand = {
  name: "predict",
  arguments: "<run> <files...>",
  purpose: "Names what a run, or a file of weights, sees: the likeliest classes of each picture.",
  examples: [
    "riffle predict runs/a photo.jpg",
    "riffle predict shufflenetv2_x1.pth photo.jpg",
    "riffle predict runs/a set.npz#17 --logits --json",
  ],
  settings: settingsOf("predict"),
  options: {
    Output: {
      top: { value: "<n>", help: "how many classes to name", default: "5" },
      logits: { help: "with --json, the network's outputs for every class too" },
    },
  },
  run: predictFiles,
};

async function predictFiles(invocation: Invocation, terminal: Terminal): Promise<number> {
  const [run = "", ...paths] = invocation.arguments;
  const top = wholeNumber(invocation, "top", 5);
  const logits = invocation.own.has("logits");
  if (logits && !terminal.json) {
    throw new UsageError({ what: "--logits is for programs to read", expected: "--json beside it" });
  }
  const { files, wanted, refused: unopened, remarks } = findFiles(paths);
  const archives = files.some((file) => file.toLowerCase().endsWith(".npz"));
  const { eval_batch_size = table.eval_batch_size.default } = invocation.settings;
  const tuning = startProgress(terminal);
  const predictor = await openPredictor(
    run,
    {
      ...invocation.settings,
      // A program for more images than there are would only take memory.
      eval_batch_size: archives ? eval_batch_size : Math.min(eval_batch_size, files.length),
    },
    (event) => {
      if (event.event === "preparing") return tuning.show(preparing(event));
      terminal.emit(event);
      tuning.note(
        event.event === "warning" ? `warning: ${event.what}` : titled("Tuned", tuningText(event, shortPath)),
      );
    },
  ).finally(() => tuning.end());
  if (remarks.system + remarks.others.length > 0) {
    const event = { event: "passed_over", system_files: remarks.system, others: remarks.others } as const;
    terminal.emit(event);
    terminal.note(titled("Left out", passedOverText(event, shortPath)));
  }
  for (const text of predictor.passedOver) {
    const event = { event: "warning", what: `passed over ${text}; using ${predictor.checkpoint}` } as const;
    terminal.emit(event);
    terminal.note(`warning: ${event.what}`);
  }
  const { origin, model } = predictor;
  if (origin !== undefined) {
    terminal.emit({ event: "weights", file: predictor.checkpoint, ...origin });
    originLines(origin, model).forEach((line, i) => terminal.note(titled(i === 0 ? "Weights" : "", line)));
  }
  terminal.note(titled("Pictures", orientationWords(predictor.model.exif_orientation)));
  // Results passing by on a terminal are progress enough.
  const progress = terminal.printsToTerminal ? undefined : startProgress(terminal);
  const column = Math.min(40, Math.max(...files.map((file) => printable(file).length)));
  let predicted = 0;
  let refused = 0;
  try {
    for await (const result of predictor.predict(files, { top, logits, refused: unopened })) {
      if (!wanted(result.file)) continue;
      terminal.emit(result);
      if ("error" in result) refused++;
      else predicted++;
      terminal.print(lineOf(result, column));
      if (!archives) {
        progress?.show({ label: "prediction", done: predicted + refused, total: files.length, columns: [] });
      }
    }
  } finally {
    progress?.end();
    await predictor.close();
  }
  if (predicted + refused === 0) {
    throw new UsageError({
      what: "no picture of that number",
      where: paths.join(" "),
      expected: "numbers from 0",
    });
  }
  const all = predicted + refused;
  if (all > 1 || refused > 0) {
    terminal.note(
      `${count(all)} file${all === 1 ? "" : "s"}, ${count(predicted)} predicted, ${count(refused)} refused`,
    );
  }
  return refused > (invocation.settings.max_bad_images ?? table.max_bad_images.default) ? 3 : 0;
}

function lineOf(result: Prediction | Refused, column: number): string {
  const file = printable(result.file).padEnd(column);
  if ("error" in result) return `${file}   not read: ${result.error}`;
  const guesses = result.top.map((guess) => `${shownClass(guess.name)} ${percent(guess.probability)}`);
  return `${file}   ${guesses.join("   ")}`;
}
