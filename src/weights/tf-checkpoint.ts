/**
 * Checkpoints of TensorFlow's ShuffleNet V2 lineage: all of training under its names, read and written.
 *
 *     NAME                              170 weights and 112 moving statistics (models/tensor-names.ts maps names and layouts)
 *     NAME/ExponentialMovingAverage     averages of the 170
 *     optimizer/NAME/Momentum           momentum of the 170
 *     global_step                       int64: updates made
 *
 * Only the `tensorflow` variant is this network; another's weights would load under these names and score worse.
 *
 * Source: TropComplique/shufflenet-v2-tensorflow @ 22e56159, model.py; the names of its published runs.
 */

import { stat, unlink } from "node:fs/promises";
import { join } from "node:path";

import type { Weights } from "../backends/backend.js";
import { exists, recoverFolders } from "../core/durable.js";
import { CheckpointError, errorCode } from "../core/error.js";
import { bundlePrefix, readBundle, type TensorBundle, writeBundle } from "../formats/tf-bundle.js";
import type { BundleTensor } from "../formats/tf-bundle-index.js";
import {
  latestCheckpoint,
  readCheckpointState,
  stepOf,
  writeCheckpointState,
} from "../formats/tf-checkpoint-state.js";
import type { ParameterTable } from "../models/initialise.js";
import type { Width } from "../models/variants.js";
import { takeTensor, tensorsOf, type WeightTensor } from "../models/tensor-names.js";
import { fillFrom, layoutOf } from "./fill.js";
import { recognise } from "./match.js";
import { ofBundle } from "./open.js";

/** What the lineage saves of training. */
export interface TfState extends Weights {
  /** [parameterCount] */
  readonly momentum?: Float32Array | undefined;
  /** [parameterCount] */
  readonly averages?: Float32Array | undefined;
}

/** A checkpoint of the lineage in our layout. */
export interface TfCheckpoint extends TfState {
  /** The prefix of its files. */
  readonly path: string;
  readonly width: Width;
  readonly classes: number;
  /** Where each tensor lies in the flat arrays; the same for every batch and picture size. */
  readonly layout: ParameterTable;
  /** Updates made; undefined where the checkpoint does not say. */
  readonly step: number | undefined;
  /** Tensors that this network does not have. */
  readonly ignored: readonly string[];
  /** Newer checkpoints of the folder that are not whole. */
  readonly passedOver: readonly string[];
}

export interface WriteTfOptions {
  /** Newest checkpoints kept, among those that the folder's file `checkpoint` lists; all when absent. */
  readonly keep?: number;
  /** Is told of an older checkpoint that could not be removed; the new one stands. */
  readonly warn?: (what: string) => void;
  /** Replaces a checkpoint of the same step that holds something else; otherwise it is refused. */
  readonly replace?: boolean;
}

/**
 * Reads a checkpoint, given as its prefix, as one of its files, or as a folder, of which the newest whole one is taken.
 *
 * @throws CheckpointError when it cannot be read, or is of another network.
 */
export async function importTfCheckpoint(path: string): Promise<TfCheckpoint> {
  const { bundle, passedOver } = await openTfCheckpoint(path);
  const file = ofBundle(bundle.prefix, bundle);
  const recognised = recognise(file, { variant: "tensorflow", weights: "raw" });
  const { width, classes = 2, leftOver } = recognised;
  const layout = layoutOf("tensorflow", width, classes);
  const tensors = tensorsOf(layout, "tensorflow");
  const lacking = tensors.find(({ name }) => !bundle.entries.has(name));
  if (lacking !== undefined) throw notWhole(bundle, lacking.name);
  const state = {
    parameters: new Float32Array(layout.parameterCount),
    statistics: new Float32Array(2 * layout.planes.length),
  };
  for (const tensor of tensors) await fillFrom(file, [tensor, tensor.name], state[tensor.array]);
  const trained = tensors.filter(({ array }) => array === "parameters");
  /** Undefined where no tensor has one; where some have, all must. */
  const slot = async (nameOf: (name: string) => string): Promise<Float32Array | undefined> => {
    if (!trained.some(({ name }) => bundle.entries.has(nameOf(name)))) return undefined;
    const values = new Float32Array(layout.parameterCount);
    for (const tensor of trained) await fillFrom(file, [tensor, nameOf(tensor.name)], values);
    return values;
  };
  return {
    path: bundle.prefix,
    width,
    classes,
    layout,
    ...state,
    averages: await slot(averageName),
    momentum: await slot(momentumName),
    step: await readStep(bundle),
    ignored: leftOver,
    passedOver,
  };
}

/**
 * Writes `folder/model.ckpt-STEP` and names it in the folder's file `checkpoint`. What a kill left of an earlier call is
 * removed; nobody else may write there meanwhile.
 *
 * @returns its prefix
 * @throws ResourceError when the disk refuses; earlier checkpoints stand.
 */
export async function writeTfCheckpoint(
  folder: string,
  layout: ParameterTable,
  step: number,
  state: TfState,
  { keep = Infinity, replace = false, warn }: WriteTfOptions = {},
): Promise<string> {
  const name = `${PREFIX}-${step}`;
  await recoverFolders(folder, (file) =>
    /^(checkpoint|model\.ckpt-\d+\.(index|data-00000-of-00001))$/.test(file),
  );
  await writeBundle(join(folder, name), tfTensors(layout, step, state), { replace });
  const earlier: string[] = [];
  for (const path of (await readCheckpointState(folder))?.all ?? []) {
    const isOurs = path === `${PREFIX}-${stepOf(path)}` && (stepOf(path) as number) < step;
    if (isOurs && (await exists(join(folder, `${path}.index`)))) earlier.push(path);
  }
  earlier.sort((a, b) => (stepOf(a) as number) - (stepOf(b) as number));
  const kept = [...earlier, name].slice(-keep);
  await writeCheckpointState(folder, { latest: name, all: kept });
  for (const doomed of earlier.filter((path) => !kept.includes(path))) {
    try {
      // The index first: without it the rest is no checkpoint.
      for (const file of [`${doomed}.index`, `${doomed}.data-00000-of-00001`])
        await removeFile(join(folder, file));
    } catch (error) {
      warn?.(`${join(folder, doomed)} could not be removed: ${String(error)}`);
    }
  }
  return join(folder, name);
}

/** The tensors of a checkpoint under the lineage's names. */
export function tfTensors(layout: ParameterTable, step: number, state: TfState): Map<string, BundleTensor> {
  const named = new Map<string, BundleTensor>();
  const add = (name: string, tensor: WeightTensor, from: Float32Array | undefined): void => {
    if (from !== undefined)
      named.set(name, { dtype: "F32", shape: tensor.shape, data: takeTensor(tensor, from) });
  };
  for (const tensor of tensorsOf(layout, "tensorflow")) {
    add(tensor.name, tensor, state[tensor.array]);
    if (tensor.array === "statistics") continue;
    add(averageName(tensor.name), tensor, state.averages);
    add(momentumName(tensor.name), tensor, state.momentum);
  }
  return named.set(STEP_NAME, { dtype: "I64", shape: [], data: BigInt64Array.of(BigInt(step)) });
}

const PREFIX = "model.ckpt";
const STEP_NAME = "global_step";

function averageName(name: string): string {
  return `${name}/ExponentialMovingAverage`;
}

function momentumName(name: string): string {
  return `optimizer/${name}/Momentum`;
}

async function openTfCheckpoint(
  path: string,
): Promise<{ bundle: TensorBundle; passedOver: readonly string[] }> {
  // What cannot be looked at is reported by the reader.
  const isFolder = await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
  return isFolder ? latestCheckpoint(path) : { bundle: await readBundle(bundlePrefix(path)), passedOver: [] };
}

function notWhole(bundle: TensorBundle, name: string): CheckpointError {
  return new CheckpointError({
    what: "is no whole checkpoint of TensorFlow's ShuffleNet V2 lineage",
    where: bundle.prefix,
    expected: `a tensor ${name}`,
    found: `${bundle.entries.size} others`,
    safe: "The checkpoint is untouched",
  });
}

async function readStep(bundle: TensorBundle): Promise<number | undefined> {
  if (!bundle.entries.has(STEP_NAME)) return undefined;
  const { shape, data } = await bundle.read(STEP_NAME);
  const step = Number(data[0]);
  if (data.length === 1 && Number.isSafeInteger(step) && step >= 0) return step;
  throw new CheckpointError({
    what: "the step is no whole number",
    where: `${bundle.prefix}, tensor ${STEP_NAME}`,
    expected: "one number from 0 to 2^53 - 1",
    found: data.length === 1 ? `${data[0]}` : `shape [${shape.join(", ")}]`,
    safe: "The checkpoint is untouched",
  });
}

async function removeFile(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
  }
}
