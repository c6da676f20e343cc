/** `riffle predict`: the likeliest classes of pictures. A picture that cannot be read is named, not fatal. */

import { existsSync } from "node:fs";

import { stringify } from "csv-stringify/sync";

import { tuningText } from "../backends/autotune.js";
import { printable, shortPath } from "../core/printable.js";
import { replaceFile } from "../core/durable.js";
import { DataError, UsageError } from "../core/error.js";
import { openPredictor, type PictureInput, type Prediction, type Refused } from "../inference/predict.js";
import { passedOverText } from "../run/plain-lines.js";
import { settings as table, settingsOf } from "../settings/settings.js";
import { shownClass } from "../prepare/imagenet/challenge-classes.js";
import { originLines } from "../weights/find-network.js";
import { type CliCommand, type Invocation, wholeNumber } from "./command.js";
import { findFiles } from "./find-files.js";
import { count, percent } from "./format.js";
import { heatmapFolder, Heatmaps, heatmapsOption } from "./heatmaps.js";
import { startProgress } from "./progress.js";
import { orientationWords, preparing, titled } from "./report-run.js";
import type { Terminal } from "./terminal.js";

export const predictCommand: CliCommand = {
  name: "predict",
  arguments: "<run> <files...>",
  purpose: "Names what a run, or a file of weights, sees: the likeliest classes of each picture.",
  examples: [
    "npx riffle-vision predict runs/a photo.jpg",
    "npx riffle-vision predict shufflenetv2_x1.pth photos/ --csv predictions.csv",
    "npx riffle-vision predict runs/a set.npz#17 --logits --json",
  ],
  settings: settingsOf("predict"),
  options: {
    Output: {
      top: { value: "<n>", help: "how many classes to name", default: "5" },
      csv: {
        value: "<file>",
        help: "a table of the results, too: file, classes and probabilities, error",
      },
      overwrite: { help: "replace a table that exists" },
      heatmaps: heatmapsOption,
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
  const csv = tableFile(invocation);
  const heatFolder = heatmapFolder(invocation);
  const stdin = await pictureFromStdin(paths);
  const { files, wanted, refused: unopened, remarks } = findFiles(stdin === undefined ? paths : []);
  const pictures: readonly PictureInput[] = stdin === undefined ? files : [stdin];
  const archives = files.some((file) => file.toLowerCase().endsWith(".npz"));
  const { eval_batch_size = table.eval_batch_size.default } = invocation.settings;
  const tuning = startProgress(terminal);
  const predictor = await openPredictor(
    run,
    {
      ...invocation.settings,
      // A program for more images than there are would only take memory.
      eval_batch_size: archives ? eval_batch_size : Math.min(eval_batch_size, pictures.length),
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
  const heatmaps =
    heatFolder === undefined ? undefined : await Heatmaps.open(heatFolder, run, model, invocation);
  const column =
    stdin === undefined ? Math.min(40, Math.max(...files.map((file) => printable(file).length))) : 0;
  const results: (Prediction | Refused)[] = [];
  let predicted = 0;
  let refused = 0;
  try {
    for await (const found of predictor.predict(pictures, { top, logits, refused: unopened })) {
      if (!wanted(found.file)) continue;
      const result = stdin === undefined ? found : { ...found, file: STDIN };
      if (csv !== undefined) results.push(result);
      terminal.emit(result);
      if ("error" in result) refused++;
      else predicted++;
      terminal.print(lineOf(result, column));
      if (!("error" in result)) await heatmaps?.add(result, stdin);
      if (!archives) {
        progress?.show({
          label: "prediction",
          done: predicted + refused,
          total: pictures.length,
          columns: [],
        });
      }
    }
  } finally {
    progress?.end();
    heatmaps?.close();
    await predictor.close();
  }
  if (predicted + refused === 0) {
    throw new UsageError({
      what: "no picture of that number",
      where: paths.join(" "),
      expected: "numbers from 0",
    });
  }
  if (csv !== undefined) {
    await replaceFile(csv, [csvText(results, top)], {
      safe: "What was printed is all there",
      hint: "Make room, or name another file",
    });
    terminal.note(titled("Table", shortPath(csv)));
  }
  if (heatmaps !== undefined)
    terminal.note(titled("Heat maps", `${shortPath(heatmaps.folder)}, ${count(heatmaps.count)}`));
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

/** The argument that stands for a picture on stdin. */
const STDIN = "-";

/** Larger pictures are not read (data/pictures/render.ts). */
const MOST_FROM_STDIN = 256 * 2 ** 20;

/** The bytes of stdin where `-` asks for them. @throws UsageError where nobody sends any, DataError for too many. */
async function pictureFromStdin(paths: readonly string[]): Promise<Buffer | undefined> {
  if (!paths.includes(STDIN)) return undefined;
  if (paths.length > 1) {
    throw new UsageError({
      what: "stdin holds one picture, and is read alone",
      expected: "- and no other file",
      found: paths.join(" "),
    });
  }
  if (process.stdin.isTTY) {
    throw new UsageError({
      what: "- is a picture from stdin, and nothing is sent there",
      hint: "npx riffle-vision predict RUN - < photo.jpg",
    });
  }
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MOST_FROM_STDIN) {
      throw DataError.at("stdin", "too long for a picture", { expected: `at most ${MOST_FROM_STDIN} bytes` });
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Where the table goes. @throws UsageError, before anything is done, where something stands there. */
function tableFile({ own }: Invocation): string | undefined {
  const file = own.get("csv");
  if (typeof file !== "string") {
    if (!own.has("overwrite")) return undefined;
    throw new UsageError({ what: "--overwrite is for a table", expected: "--csv FILE beside it" });
  }
  if (!own.has("overwrite") && existsSync(file)) {
    throw new UsageError({
      what: "there is a file of this name",
      where: file,
      safe: "It was not touched",
      hint: "Name another, or replace it: --overwrite",
    });
  }
  return file;
}

/** A row for each picture: its file, `top` classes with their probabilities, and why it was refused. */
function csvText(results: readonly (Prediction | Refused)[], top: number): Buffer {
  const most = Math.min(
    top,
    Math.max(0, ...results.map((result) => ("top" in result ? result.top.length : 0))),
  );
  const ranks = Array.from({ length: most }, (_, i) => i);
  const rows = results.map((result) => {
    const guesses = "top" in result ? result.top : [];
    const cells = ranks.flatMap((i) => [guesses[i]?.name ?? "", guesses[i]?.probability ?? ""]);
    return [result.file, ...cells, "error" in result ? result.error : ""];
  });
  const head = ["file", ...ranks.flatMap((i) => [`class_${i + 1}`, `probability_${i + 1}`]), "error"];
  return Buffer.from(stringify([head, ...rows]));
}
