/**
 * `riffle demo` (`npm start`): the whole way from pictures to predictions in one command, on pictures drawn for
 * the purpose or on a folder given.
 */

import { existsSync } from "node:fs";
import { basename } from "node:path";

import { chooseBackend } from "../backends/registry.js";
import { printable } from "../core/printable.js";
import { USUAL_SHARE } from "../data/held-out.js";
import type { Dataset } from "../data/dataset.js";
import { jpegDecoder } from "../data/pictures/render.js";
import { drawFolder } from "../prepare/draw/draw-folder.js";
import { objectClasses } from "../prepare/draw/classes.js";
import { evaluate } from "../inference/evaluate.js";
import { predict } from "../inference/predict.js";
import { openRunData } from "../run/run-data.js";
import { recipes } from "../settings/recipe.js";
import { rateAt } from "../settings/resolve-settings.js";
import type { GivenSettings, SettingName } from "../settings/settings.js";
import { train } from "../train/trainer.js";
import type { CliCommand, Invocation } from "./command.js";
import { count, duration, percent, several, shellWord } from "./format.js";
import { startProgress } from "./progress.js";
import { reportRun, titled } from "./report-run.js";
import { listenForStop } from "./stop.js";
import type { Terminal } from "./terminal.js";
import { printReport, trainCommand } from "./train.js";

const FOLDER = "runs/demo";
const PICTURES = { seed: 1, size: 128, train: 2000, validation: 400 } as const;
/** Small enough for two slow cores, large enough to see forms. */
const DEFAULTS = { width: 0.5, image_size: 96, max_epochs: 24 } as const satisfies GivenSettings;
/** Tried on them: a smaller crop may leave nothing of the object to see, in training and in evaluation. */
const DRAWN_DEFAULTS = { lr: 0.1, crop_area_min: 0.6, eval_crop: 0.875 } as const satisfies GivenSettings;
const LOOKED_AT = 5;
/** Settings that say where else the pictures come from, or leave nothing to try at the end. */
const NOT_HERE: readonly SettingName[] = [
  "resume",
  "mode",
  "do_checkpoint",
  "synthetic",
  "train_data_dir",
  "eval_data_dir",
];

export const demoCommand: CliCommand = {
  name: "demo",
  arguments: "[data]",
  purpose: "Trains a small network from nothing, evaluates it and tries it; on drawn pictures, or on yours.",
  examples: ["npm start", "npm start -- photos/", "npx riffle-vision demo --max_epochs 5"],
  settings: (trainCommand.settings ?? []).filter((name) => !NOT_HERE.includes(name)),
  defaults: {
    ...DEFAULTS,
    log_dir: `${FOLDER}, or the next free number`,
    data_dir: "pictures drawn for the purpose",
    cache: "decoded on drawn pictures where sharp decodes JPEGs, else none",
    lr: `${DRAWN_DEFAULTS.lr} on drawn pictures, else the recipe's`,
    crop_area_min: `${DRAWN_DEFAULTS.crop_area_min} on drawn pictures, else the recipe's`,
    eval_crop: `${DRAWN_DEFAULTS.eval_crop} on drawn pictures, else the recipe's`,
  },
  run: demo,
};

async function demo({ settings }: Invocation, terminal: Terminal): Promise<number> {
  const started = performance.now();
  terminal.keepGoing();
  let training = false;
  const stop = listenForStop(terminal, () => (training ? run.stopping : "Stopping."));
  const run = reportRun(terminal, stop.signal);
  try {
    // Without an engine nothing is drawn either.
    (await chooseBackend(settings.backend)).machine();
    const dataDir = settings.data_dir ?? (await drawPictures(terminal, stop.signal));
    const given = {
      ...DEFAULTS,
      ...(settings.data_dir === undefined ? drawnDefaults(settings) : {}),
      ...settings,
      data_dir: dataDir,
      log_dir: settings.log_dir ?? freeFolder(),
    };
    training = true;
    const result = await train(given, run.report, stop.signal);
    training = false;
    run.end();
    const folder = shellWord(given.log_dir);
    if (result.stopped) {
      terminal.print(titled("Resume", `npx riffle-vision train --resume ${folder}`));
      return stop.exitCode;
    }

    const data = await openRunData(given, { seed: settings.seed ?? 0, usualShare: USUAL_SHARE }, () => {});
    const { validation } = data;
    await data.close();
    if (validation !== undefined) {
      const scores = await evaluate(given.log_dir, {});
      terminal.print(
        titled(
          "Result",
          `top-1 ${percent(scores.top1)}, loss ${scores.loss.toFixed(3)} on ${several(scores.images, "picture")}`,
        ),
      );
      terminal.emit({ event: "evaluated", ...scores });
      await lookAt(given.log_dir, someOf(validation), terminal);
    }
    const seconds = (performance.now() - started) / 1000;
    terminal.print(
      titled("Saved", `${folder}/best · log ${folder}/events.jsonl · ${duration(seconds)} in all`),
    );
    printReport(result, terminal);
    terminal.print(titled("Next", `npx riffle-vision predict ${folder} photo.jpg`));
    terminal.print(
      titled("", "npx riffle-vision train --data_dir path/to/your/photos        (one folder per class)"),
    );
    terminal.emit({ event: "end", run: given.log_dir, seconds, ...(result.scores ?? {}) });
    return 0;
  } catch (error) {
    // Drawing, or making a cache, that was asked to stop.
    if (stop.signal.aborted && (!training || error === stop.signal.reason)) return stop.exitCode;
    throw error;
  } finally {
    run.end();
    stop.release();
  }
}

/**
 * The rate follows another batch, as a recipe's does. Where sharp decodes, which takes as long as training on a picture of this
 * size, each is decoded once: the cache makes pictures of more than 256 pixels smaller, and these have 128.
 */
function drawnDefaults({ batch_size }: GivenSettings): GivenSettings {
  const defaults = { ...DRAWN_DEFAULTS, ...(jpegDecoder() === "sharp" ? { cache: "decoded" as const } : {}) };
  if (batch_size === undefined) return defaults;
  const { batch_size: usual } = recipes["small-set"].values;
  return { ...defaults, lr: rateAt(batch_size, { lr: DRAWN_DEFAULTS.lr, batch_size: usual }) };
}

/** Draws the set, or finds the one of an earlier demo. */
async function drawPictures(terminal: Terminal, signal: AbortSignal): Promise<string> {
  const folder = `${FOLDER}/data`;
  const started = performance.now();
  const total = PICTURES.train + PICTURES.validation;
  if (!existsSync(folder)) {
    terminal.note(
      `No data given, so drawing ${objectClasses.length} classes of pictures into ${folder} (${count(total)} JPEGs, boxes)`,
    );
  }
  const progress = startProgress(terminal);
  try {
    const drawn = await drawFolder(
      { folder, ...PICTURES },
      (done) => progress.show({ label: "drawing", done, total, columns: [] }),
      signal,
    );
    terminal.note(
      drawn === 0
        ? `No data given; ${count(total)} pictures drawn earlier stand in ${folder}`
        : titled("Drawn", `in ${duration((performance.now() - started) / 1000)}`),
    );
  } finally {
    progress.end();
  }
  return folder;
}

/** runs/demo, or the next number where a run stands already. */
function freeFolder(): string {
  const holdsRun = (folder: string): boolean => existsSync(`${folder}/recipe.json`);
  let folder = FOLDER;
  for (let n = 2; holdsRun(folder); n++) folder = `${FOLDER}-${n}`;
  return folder;
}

/** Pictures spread over the set, so over its classes. */
function someOf(set: Dataset): string[] {
  const picked = Array.from({ length: Math.min(LOOKED_AT, set.size) }, (_, i) =>
    set.name(Math.floor(((i + 0.5) * set.size) / LOOKED_AT)),
  );
  return picked.filter((name) => existsSync(name));
}

async function lookAt(run: string, files: readonly string[], terminal: Terminal): Promise<void> {
  const results = files.length === 0 ? [] : await predict(run, files, { top: 3 });
  const column = Math.max(...results.map(({ file }) => printable(basename(file)).length));
  results.forEach((result, i) => {
    terminal.emit(result);
    const guesses =
      "error" in result
        ? `not read: ${result.error}`
        : result.top.map((g) => `${g.name} ${percent(g.probability, 0)}`).join(", ");
    terminal.print(
      titled(i === 0 ? "Look" : "", `${printable(basename(result.file)).padEnd(column)}   ${guesses}`),
    );
  });
}
