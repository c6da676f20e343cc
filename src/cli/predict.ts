/** `riffle predict`: the likeliest classes of pictures. A picture that cannot be read is named, not fatal. */

import { RIFFLE } from "../core/call.js";
import { statIfThere } from "../core/durable.js";
import { UsageError } from "../core/error.js";
import { shellWord } from "../core/printable.js";
import { shortPath } from "../core/short-path.js";
import { isReadFormat } from "../data/pictures/image-info.js";
import { openRegular, readFully } from "../formats/read-file.js";
import { openPredictor } from "../inference/predict.js";
import { passedOverText } from "../run/plain-lines.js";
import { settings as table, settingsOf } from "../settings/settings.js";
import { isPublishedName } from "../weights/published.js";
import { type CliCommand, type Invocation, wholeNumber } from "./command.js";
import { count } from "./format.js";
import { isRun, knownRunLines } from "./known-runs.js";
import { heatmapFolder, Heatmaps, heatmapsOption } from "./heatmaps.js";
import { tellPredictor, whileOpening } from "./opened-weights.js";
import { picturesOf } from "./picture-inputs.js";
import { contentOf, fileWanted, resultFiles, writeBeside } from "./prediction-files.js";
import { nameColumns, resultLines } from "./prediction-line.js";
import { sheetOf, type Shown } from "./prediction-picture.js";
import { startProgress } from "./progress.js";
import { titled } from "./report-run.js";
import type { Terminal } from "./terminal.js";

export const predictCommand: CliCommand = {
  name: "predict",
  arguments: "<run> <files...>",
  purpose: "Names what a run, or weights, see: the likeliest classes of each picture.",
  examples: [
    "npx riffle-vision predict runs/a photo.jpg",
    "npx riffle-vision predict imagenet photos/ --output predictions.csv --sheet predictions.png",
    "npx riffle-vision predict runs/a set.npz#17 --logits --json",
  ],
  settings: settingsOf("predict"),
  options: {
    Pictures: {
      allow_url: {
        help: "fetch pictures whose path begins with http:// or https://, 64 MiB and a minute each at most; no address is opened without it",
      },
    },
    Output: {
      top: {
        value: "<n>",
        help: "how many classes to name",
        default: "5; on a terminal those that it has room for",
      },
      output: {
        value: "<file>",
        help: "the results as a file, too: a table in .csv, an array in .json, an object a line in .jsonl, else lines",
      },
      csv: { value: "<file>", help: "the table of --output, whatever the file is called" },
      sheet: {
        value: "<file>",
        help: "a picture of the pictures, PNG: each with its class and probability below; the first 400",
      },
      overwrite: { help: "replace such files that exist" },
      heatmaps: heatmapsOption,
      logits: { help: "with --json or --output FILE.json, the network's outputs for every class too" },
    },
  },
  run: predictFiles,
};

async function predictFiles(invocation: Invocation, terminal: Terminal): Promise<number> {
  const [run = "", ...paths] = invocation.arguments;
  const { own, settings } = invocation;
  const top = wholeNumber(invocation, "top", 5);
  const files = await resultFiles(invocation);
  const sheet = await fileWanted(invocation, "sheet");
  const heatFolder = heatmapFolder(invocation);
  refuseIdle(invocation, files, sheet);
  await refusePicture(run, paths);
  const opening = startProgress(terminal);
  const pictures = await picturesOf(paths, { allowsUrl: own.has("allow_url"), progress: opening });
  const { inputs, nameOf, wanted, remarks } = pictures;
  const named = inputs.map((input, i) => nameOf(typeof input === "string" ? input : `#${i}`));
  const archives = named.some((file) => file.toLowerCase().endsWith(".npz"));
  const { eval_batch_size = table.eval_batch_size.default } = settings;
  const predictor = await openPredictor(
    run,
    {
      ...settings,
      // A program for more images than there are would only take memory.
      eval_batch_size: archives ? eval_batch_size : Math.min(eval_batch_size, inputs.length),
    },
    whileOpening(opening, terminal),
  ).finally(() => opening.end());
  if (remarks.system + remarks.others.length > 0) {
    const event = { event: "passed_over", system_files: remarks.system, others: remarks.others } as const;
    terminal.emit(event);
    terminal.note(titled("Left out", passedOverText(event, shortPath)));
  }
  tellPredictor(predictor, terminal);
  // Results passing by on a terminal are progress enough.
  const progress = terminal.printsToTerminal ? undefined : startProgress(terminal);
  const heatmaps =
    heatFolder === undefined ? undefined : await Heatmaps.open(heatFolder, run, predictor.model, invocation);
  const width = terminal.columns[0] || Infinity;
  const format = { names: nameColumns(named, width), width, isTopAsked: own.has("top") };
  const results: Shown[] = [];
  let predicted = 0;
  let refused = 0;
  try {
    const options = { top, logits: own.has("logits"), refused: pictures.refused };
    for await (const found of predictor.predict(inputs, options)) {
      if (!wanted(found.file)) continue;
      const result = { ...found, file: nameOf(found.file) };
      if (files.length > 0 || sheet !== undefined) results.push({ found, name: result.file });
      terminal.emit(result);
      if ("error" in result) refused++;
      else predicted++;
      for (const line of resultLines(result, format, terminal.colour)) terminal.print(...line);
      if (!("error" in result)) await heatmaps?.add(result, pictures.bytes.get(found.file));
      if (!archives) {
        const done = predicted + refused;
        progress?.show({ label: "prediction", done, total: inputs.length, columns: [] });
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
  const shown = results.map(({ found, name }) => ({ ...found, file: name }));
  for (const { path, form } of files) {
    await writeBeside(path, contentOf(form, shown, top), form === "csv" ? "Table" : "Results", terminal);
  }
  if (sheet !== undefined) {
    await writeBeside(sheet, await sheetOf(results, predictor, pictures.bytes), "Sheet", terminal);
  }
  if (heatmaps !== undefined)
    terminal.note(titled("Heat maps", `${shortPath(heatmaps.folder)}, ${count(heatmaps.count)}`));
  const all = predicted + refused;
  if (all > 1 || refused > 0) {
    terminal.note(
      `${count(all)} file${all === 1 ? "" : "s"}, ${count(predicted)} predicted, ${count(refused)} refused`,
    );
  }
  return refused > (settings.max_bad_images ?? table.max_bad_images.default) ? 3 : 0;
}

/** A picture in the place of the run, as where the two are swapped. @throws UsageError */
async function refusePicture(run: string, paths: readonly string[]): Promise<void> {
  if (isPublishedName(run) || statIfThere(run)?.isFile() !== true) return;
  const { file, size } = await openRegular(run);
  const head = Buffer.alloc(Math.min(size, 16));
  await readFully(file, head, 0, run).finally(() => file.close());
  if (!isReadFormat(head)) return;
  const runs = paths.filter(isRun);
  const pictures = [run, ...paths.filter((path) => !isRun(path))];
  throw new UsageError({
    what: `${run} is a picture, not a run or weights`,
    where: run,
    expected: "the run first, then the pictures",
    table: runs.length === 1 ? [] : knownRunLines(),
    safe: "Nothing was read or written",
    hint: `${RIFFLE} predict ${runs.length === 1 ? [...runs, ...pictures].map(shellWord).join(" ") : "RUN FILES..."}`,
  });
}

/** Options that would change nothing. @throws UsageError */
function refuseIdle(
  { own }: Invocation,
  files: Awaited<ReturnType<typeof resultFiles>>,
  sheet: string | undefined,
): void {
  if (own.has("overwrite") && files.length === 0 && sheet === undefined) {
    throw new UsageError({
      what: "--overwrite is for files that are written",
      expected: "--output FILE or --sheet FILE beside it",
    });
  }
  const isRead = own.has("json") || files.some(({ form }) => form === "json" || form === "jsonl");
  if (own.has("logits") && !isRead) {
    throw new UsageError({
      what: "--logits is for programs to read",
      expected: "--json or --output FILE.json beside it",
    });
  }
  if (sheet !== undefined && !/\.png$/i.test(sheet)) {
    throw new UsageError({
      what: "a sheet is written as PNG",
      where: "option --sheet",
      expected: "a name that ends in .png",
      found: sheet,
      safe: "Nothing was read or written",
    });
  }
}
