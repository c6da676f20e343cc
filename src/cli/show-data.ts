/** `riffle show-data`: a contact sheet of what a network would see of a data set. */

import { readFile, stat } from "node:fs/promises";
import { dirname, extname, join, resolve } from "node:path";

import { exists, makeFolder, probeFolder, replaceFile } from "../core/durable.js";
import { shortPath } from "../core/short-path.js";
import { errorCode, UsageError } from "../core/error.js";
import {
  SHEET_MARK,
  sheetHtml,
  type SheetOptions,
  sheetPng,
  type SheetRow,
  sheetRows,
} from "../prepare/contact-sheet.js";
import { upright } from "../data/dataset.js";
import { augmentationOf } from "../settings/augmentation.js";
import { USUAL_SHARE } from "../data/held-out.js";
import { splits } from "../data/split-names.js";
import { findCheckpoint } from "../run/find-checkpoint.js";
import { type DataSettings, dataSettingNames, openRunPart } from "../run/run-data.js";
import { type RememberedSplit, rememberedSplit } from "../run/split-record.js";
import { readSettings } from "../settings/read-settings.js";
import { passedOverText } from "../run/plain-lines.js";
import { recipes } from "../settings/recipe.js";
import { usualRecipe } from "../settings/resolve-settings.js";
import { type GivenSettings, settings as table } from "../settings/settings.js";
import { type CliCommand, type Invocation, wholeNumber } from "./command.js";
import { count, shellWord } from "./format.js";
import { startProgress } from "./progress.js";
import { preparing, titled } from "./report-run.js";
import type { Terminal } from "./terminal.js";

export const showDataCommand: CliCommand = {
  name: "show-data",
  arguments: "<data>",
  purpose:
    "Draws a contact sheet: pictures with boxes and crops, beside what the network would see of them; of a run, its data.",
  examples: [
    "npx riffle-vision show-data photos",
    "npx riffle-vision show-data data/ --augment torchvision --output sheet.html",
    "npx riffle-vision show-data data/ --images 4 --epoch 10 --json",
  ],
  settings: [
    "val_split",
    "keys",
    "label_offset",
    "skip_bad_records",
    "image_size",
    "augment",
    "crop_area_min",
    "flip",
    "exif_orientation",
    "seed",
  ],
  defaults: {
    augment: "tensorflow",
    crop_area_min: table.crop_area_min.default,
    exif_orientation: "as the recipe for so many pictures has it: apply below 100,000",
  },
  options: {
    Sheet: {
      images: { value: "<n>", help: "pictures shown", default: "24" },
      epoch: { value: "<n>", help: "the first epoch shown", default: "1" },
      split: {
        value: "<train|validation|test>",
        help: "which part of the data, shown as --augment says; validation is what a run holds out, or held out",
        default: "validation",
      },
      output: {
        value: "<path>",
        help: "the sheet: .png, or .html with everything in it",
        default: "contact-sheet.png",
      },
    },
  },
  run: showData,
};

/** Beyond these a picture of the sheet is too large for most programs that show pictures. */
const MOST_IMAGES = 400;

async function showData(invocation: Invocation, terminal: Terminal): Promise<number> {
  const { settings } = invocation;
  const output = resolve(textOf(invocation, "output", "contact-sheet.png"));
  const kind = extname(output).toLowerCase();
  if (kind !== ".png" && kind !== ".html") {
    throw new UsageError({
      what: "a contact sheet is written as PNG or HTML",
      where: "option --output",
      expected: "a name that ends in .png or .html",
      found: output,
      safe: "Nothing was read or written",
    });
  }
  await refuseForeign(output);
  const asked = textOf(invocation, "split", "validation");
  const split = splits.find((each) => each === asked);
  if (split === undefined) {
    const expected = "--split train, validation or test";
    throw new UsageError({ what: "no such part", where: "option --split", expected, found: asked });
  }
  const images = wholeNumber(invocation, "images", 24);
  if (images > MOST_IMAGES) {
    throw new UsageError({
      what: "too many pictures for one sheet",
      where: "option --images",
      expected: `at most ${MOST_IMAGES}`,
      found: `${images}`,
    });
  }
  const options: SheetOptions = {
    augmentation: augmentationOf({
      augment: settings.augment ?? table.augment.default,
      crop_area_min: settings.crop_area_min ?? table.crop_area_min.default,
      flip: settings.flip ?? table.flip.default,
    }),
    imageSize: settings.image_size ?? table.image_size.default,
    images,
    epoch: wholeNumber(invocation, "epoch", 1),
    seed: settings.seed ?? table.seed.default,
  };
  // The folder is made again when there is something to put into it.
  const leaveNothing = await probeFolder(dirname(output), "--output");
  await leaveNothing();
  const progress = startProgress(terminal);
  const source = await sourceOf(invocation.arguments[0] ?? "", settings);
  const { set: part } = await openRunPart(
    source.settings,
    split,
    { seed: source.settings.seed ?? options.seed, ...source.options },
    (event) => {
      if (event.event === "preparing") progress.show(preparing(event));
      else if (event.event === "passed_over") {
        progress.note(titled("Left out", passedOverText(event, shortPath)));
      } else if (event.event === "warning") progress.warn(event.what);
      else progress.note(`left out: ${event.file}: ${event.reason}`);
    },
  );
  let rows: readonly SheetRow[];
  let size: number;
  try {
    // As the run has them, or as one on these pictures would.
    const usual = recipes[usualRecipe({}, part.size)].values.exif_orientation;
    const rule = settings.exif_orientation ?? source.settings.exif_orientation ?? usual;
    const set = rule === "apply" ? upright(part) : part;
    size = set.size;
    rows = await sheetRows(set, options, (done, total) =>
      progress.show({ label: "drawing", done, total, columns: [] }),
    );
  } finally {
    progress.end();
    await part.close?.();
  }
  await makeFolder(dirname(output));
  await replaceFile(output, [
    kind === ".png" ? await sheetPng(rows, options) : Buffer.from(await sheetHtml(rows, options)),
  ]);
  for (const row of rows) terminal.emit(withoutPixels(row));
  const refused = rows.filter((row) => "problem" in row);
  for (const row of refused) {
    if ("problem" in row) terminal.note(`not shown: ${row.name}: ${row.problem}`);
  }
  terminal.emit({ event: "end", output, images: rows.length, refused: refused.length });
  terminal.print(
    titled("Sheet", `${shellWord(shortPath(output))} · ${count(rows.length)} of ${count(size)} pictures`),
  );
  return refused.length === 0 ? 0 : 3;
}

/** The data itself, or that of a run: its settings, and what it held out. */
async function sourceOf(
  path: string,
  given: GivenSettings,
): Promise<{
  readonly settings: DataSettings & Pick<GivenSettings, "seed" | "exif_orientation">;
  readonly options: Omit<RememberedSplit, "lost"> & {
    readonly isOwn?: boolean;
    readonly usualShare?: number;
  };
}> {
  const isRun = await exists(join(path, "recipe.json"));
  if (!isRun) return { settings: { ...given, data_dir: path }, options: { usualShare: USUAL_SHARE } };
  const { path: checkpoint, state } = await findCheckpoint(resolve(path));
  const recorded = readSettings(state.settings);
  const names = [...dataSettingNames, "seed", "exif_orientation"] as const;
  const settings = Object.fromEntries(names.map((name) => [name, given[name] ?? recorded[name]]));
  const { record, byNumber } = await rememberedSplit(checkpoint, state);
  return { settings, options: { record, byNumber, isOwn: true } };
}

/** A row for a program: where it was cut and how it was varied, without pictures. */
function withoutPixels(row: SheetRow): object {
  if ("problem" in row) return { event: "sample", ...row };
  const { sample, name, label, width, height, boxes } = row;
  const looks = row.looks.map(({ epoch, crop, flip, shift, grayscale }) => ({
    epoch,
    crop,
    flip,
    shift,
    grayscale,
  }));
  return { event: "sample", sample, name, label, class: row.class, width, height, boxes, looks };
}

function textOf(invocation: Invocation, name: string, fallback: string): string {
  const value = invocation.own.get(name);
  return typeof value === "string" ? value : fallback;
}

/** A sheet drawn earlier is drawn over; a file that is no sheet of ours stays. */
async function refuseForeign(path: string): Promise<void> {
  let found;
  try {
    found = await stat(path);
  } catch (error) {
    const code = errorCode(error);
    if (code === "ENOENT") return;
    throw new UsageError({
      what: `the sheet cannot be written under that name: ${code ?? String(error)}`,
      where: "option --output",
      found: path,
      safe: "Nothing was read or written",
    });
  }
  if (found.isFile() && found.size < LARGEST_SHEET && (await readFile(path)).includes(SHEET_MARK)) return;
  throw new UsageError({
    what: "the file that the sheet would replace is no contact sheet",
    where: path,
    safe: "It was left as it is",
    hint: "Name another file with --output",
  });
}

const LARGEST_SHEET = 2 ** 28;
