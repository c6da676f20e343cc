/** What a run's files hold: its pictures, all of its training, the weights that it is used with. */

import type { TrainingState, Weights } from "../backends/backend.js";
import { ResourceError, UsageError } from "../core/error.js";
import { readSafetensors } from "../formats/safetensors.js";
import type { ParameterTable } from "../models/initialise.js";
import { asCheckpointError } from "../run/checkpoint-error.js";
import { readTraining, readWeights } from "../run/checkpoint-tensors.js";
import { layoutOf } from "../weights/fill.js";
import type { KeptSet } from "./kept-pictures.js";
import type { RunSummary } from "./run.js";
import { parsePictures, type RunRecord } from "./run-record.js";
import { bytesLeft, type RunFolder } from "./run-store.js";
import { trainedNetwork, trainingProgram } from "./training-run.js";

/** @throws CheckpointError where they are damaged; UsageError where the run has none */
export async function keptSet(folder: RunFolder, record: RunRecord): Promise<KeptSet> {
  const { pictures } = record.files;
  if (pictures === undefined) {
    throw new UsageError({
      what: "the run came without its pictures, so it can be asked but not go on",
      where: `run ${JSON.stringify(folder.name)}`,
      hint: 'Train a new run from its weights: exportAs("safetensors"), then from',
    });
  }
  const text = new TextDecoder().decode(await folder.read(pictures.index));
  const entries = parsePictures(text, pictures.index.name, record.model.classes, pictures.pixels.bytes);
  const all = await folder.read(pictures.pixels);
  let at = 0;
  const pixels = entries.map(({ width, height }) => all.subarray(at, (at += width * height * 3)));
  return { classes: record.model.class_names, entries, pixels };
}

export async function trainingState(folder: RunFolder, record: RunRecord): Promise<TrainingState> {
  const { last } = record.files;
  const program = trainingProgram(record);
  return asCheckpoint(last.name, async () =>
    readTraining(readSafetensors(await folder.read(last), last.name), last.name, program),
  );
}

/** The best weights, else the last as they are used. */
export async function usedWeights(folder: RunFolder, record: RunRecord): Promise<Weights> {
  const { best, last } = record.files;
  const file = best ?? last;
  const layout = layoutFor(record);
  const kind = best === null ? "training" : "weights";
  const settings = record.settings as unknown as Record<string, string | number | boolean>;
  return asCheckpoint(file.name, async () =>
    readWeights(readSafetensors(await folder.read(file), file.name), file.name, { kind, settings }, layout),
  );
}

function layoutFor({ model: { variant, width, classes } }: RunRecord): ParameterTable {
  return layoutOf(variant, width, classes);
}

async function asCheckpoint<T>(where: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw asCheckpointError(error, where);
  }
}

/** Pictures and the state before the first step. @throws ResourceError where there is no room */
export async function writeFirst(
  folder: RunFolder,
  stem: string,
  set: KeptSet,
  tensors: readonly Uint8Array[],
) {
  const needed =
    set.pixels.reduce((sum, { length }) => sum + length, 0) +
    3 * tensors.reduce((sum, { length }) => sum + length, 0);
  const left = await bytesLeft();
  if (left !== undefined && needed > left) {
    throw new ResourceError({
      what: "the browser has no room left for the run",
      expected: `${Math.ceil(needed / 2 ** 20)} MB`,
      found: `${Math.floor(left / 2 ** 20)} MB`,
      safe: "Nothing was trained; runs that are kept stay",
      hint: "Remove runs that are not needed, or download them first; or take fewer pictures",
    });
  }
  return {
    pictures: await writePictures(folder, stem, set),
    last: await folder.write(`last-0-${stem}.safetensors`, tensors),
  };
}

export async function writePictures(folder: RunFolder, stem: string, { pixels, entries }: KeptSet) {
  return {
    pixels: await folder.write(`pictures-${stem}.bin`, pixels, false),
    index: await folder.write(`pictures-${stem}.json`, [new TextEncoder().encode(JSON.stringify(entries))]),
  };
}

export function summaryOf(record: RunRecord): RunSummary {
  const { name, created, model, step, steps, best, files } = record;
  const { pixels, index } = files.pictures ?? {};
  const all = [files.last, files.best, pixels, index];
  return {
    name,
    created,
    classes: model.class_names,
    network: trainedNetwork(record).name,
    imageSize: model.image_size,
    step,
    steps,
    best,
    resumable: step < steps && files.pictures !== undefined,
    bytes: all.reduce((sum, file) => sum + (file?.bytes ?? 0), 0),
  };
}
