/**
 * Which checkpoint a path means: a run's folder, a checkpoint's folder or its weights file; to resume from, or to use.
 */

import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

import type { Weights } from "../backends/backend.js";
import { exists } from "../core/durable.js";
import { CheckpointError } from "../core/error.js";
import { shellWord } from "../core/printable.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { compile } from "../program/compile.js";
import {
  ATTEMPTS,
  isUnchanged,
  listSteps,
  openCheckpoint,
  placeOf,
  stepFolder,
  stepOf,
  sumsFile,
} from "./checkpoint.js";
import { asCheckpointError, untouched } from "./checkpoint-error.js";
import { type Checkpoint, stateFile } from "./checkpoint-state.js";
import { weightsFile } from "./checkpoint-tensors.js";
import { loadWeights } from "./load-checkpoint.js";

/** A checkpoint passed over, and why. */
export interface Damaged {
  readonly step: number;
  readonly problem: CheckpointError;
}

/** A checkpoint, and those that were passed over for it: which and why, a sentence each. */
export interface FoundCheckpoint extends Checkpoint {
  readonly passedOver: readonly string[];
}

/** What to say of checkpoints that were passed over. */
function passedOverTexts(damaged: readonly Damaged[]): string[] {
  return damaged.map(({ step, problem }) => `${stepFolder(step)}: ${problem.message}`);
}

/**
 * The newest checkpoint of a run that is whole, and the newer ones that are not.
 *
 * @throws CheckpointError when there is none: a run never starts over by itself.
 */
export async function newestValid(
  runDir: string,
): Promise<{ checkpoint: Checkpoint; damaged: readonly Damaged[] }> {
  const passedOver: Damaged[] = [];
  for (const step of await listSteps(runDir)) {
    try {
      return { checkpoint: await openCheckpoint(join(runDir, stepFolder(step))), damaged: passedOver };
    } catch (error) {
      if (!(error instanceof CheckpointError)) throw error;
      passedOver.push({ step, problem: error });
    }
  }
  const [first] = passedOver;
  throw new CheckpointError(
    {
      what: first === undefined ? "there is no checkpoint" : `no checkpoint of ${passedOver.length} is whole`,
      where: runDir,
      expected: "a folder step-N",
      found: first === undefined ? "none" : `${stepFolder(first.step)}: ${first.problem.message}`,
      ...untouched,
      hint: "To start over, train into a new folder with --log_dir",
    },
    first?.problem,
  );
}

/**
 * The checkpoint that a path means for using a network: a checkpoint's folder or its weights file, or a run's
 * folder, of which `best/` is taken, else the newest whole one. One that is named itself is never passed over.
 *
 * @throws CheckpointError
 */
export async function findCheckpoint(path: string): Promise<FoundCheckpoint> {
  if (basename(path) === weightsFile) return openNamed(dirname(path));
  // A folder that is not there may be `best/` while a new one takes its place.
  const place = await placeOf(path);
  const isCheckpoint = place !== undefined && (place !== path || (await exists(join(path, sumsFile))));
  if (isCheckpoint) return openNamed(path);
  await requireFolder(path);
  const best = join(path, "best");
  if ((await placeOf(best)) === undefined) return newestWhole(path);
  try {
    return only(await openCheckpoint(best));
  } catch (error) {
    if (!(error instanceof CheckpointError)) throw error;
    return newestWhole(path, error);
  }
}

function only(checkpoint: Checkpoint): FoundCheckpoint {
  return { ...checkpoint, passedOver: [] };
}

/** The checkpoint named; where it is damaged, the error says what stands beside it instead. @throws CheckpointError */
async function openNamed(path: string): Promise<FoundCheckpoint> {
  try {
    return only(await openCheckpoint(path));
  } catch (error) {
    if (!(error instanceof CheckpointError)) throw error;
    const runDir = dirname(path);
    const other = await newestValid(runDir).catch(() => undefined);
    if (other === undefined) throw error;
    const { step } = other.checkpoint.state;
    const hint = `${stepFolder(step)} beside it is whole: give it, ${shellWord(join(runDir, stepFolder(step)))}`;
    throw new CheckpointError({ ...error.problem, hint }, error);
  }
}

/** The newest whole one of a run's steps, after its `best/`, where that is damaged, was passed over. */
async function newestWhole(runDir: string, best?: CheckpointError): Promise<FoundCheckpoint> {
  const ofBest = best === undefined ? [] : [`best: ${best.message}`];
  // Where there is nothing to fall back to, what is wrong with `best/` is the answer.
  if (best !== undefined && (await listSteps(runDir)).length === 0) throw best;
  const { checkpoint, damaged } = await newestValid(runDir);
  return { ...checkpoint, passedOver: [...ofBest, ...passedOverTexts(damaged)] };
}

/**
 * Whether a path means a run or checkpoint of ours, whole or not: a folder that holds one, or its weights file. Weights that
 * somebody took out of a checkpoint are a file like any other.
 */
export async function meansOwn(path: string): Promise<boolean> {
  if (basename(path) === weightsFile) {
    const beside = [sumsFile, stateFile].map((name) => exists(join(dirname(path), name)));
    return (await Promise.all(beside)).includes(true);
  }
  const place = await placeOf(path);
  if (place !== path) return place !== undefined;
  const names = await readdir(path).catch((): string[] => []);
  return names.some(
    (name) =>
      name === sumsFile ||
      name === stateFile ||
      /^(\.replaced-)?best$/.test(name) ||
      stepOf(name) !== undefined,
  );
}

/**
 * Finds the checkpoint that a path means and reads from it: anew where it was replaced meanwhile, as `best/` of a run in
 * progress is, so that what was read is of one checkpoint.
 *
 * @throws CheckpointError
 */
export async function readCheckpoint<T>(
  path: string,
  read: (checkpoint: FoundCheckpoint) => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const checkpoint = await findCheckpoint(path);
    const [result] = await Promise.allSettled([read(checkpoint)]);
    if (await isUnchanged(checkpoint)) {
      if (result.status === "fulfilled") return result.value;
      throw result.reason;
    }
    if (attempt < ATTEMPTS) continue;
    throw new CheckpointError({ what: "is replaced faster than it can be read", where: path, ...untouched });
  }
}

export interface FoundWeights {
  readonly checkpoint: FoundCheckpoint;
  readonly weights: Weights;
}

/** What `readCheckpoint` gives of the weights to use a network with. @throws CheckpointError */
export async function findWeights(path: string): Promise<FoundWeights> {
  return readCheckpoint(path, weightsOf);
}

/** The weights of a run's newest whole checkpoint, whatever its `best/` holds. @throws CheckpointError */
export async function newestWeights(runDir: string): Promise<FoundWeights> {
  return weightsOf(await newestWhole(runDir));
}

async function weightsOf(checkpoint: FoundCheckpoint): Promise<FoundWeights> {
  const { variant, width, classes, image_size: imageSize } = checkpoint.state.model;
  const layout = compile(shuffleNetV2({ variant, width, classes }), { batch: 1, imageSize, mode: "infer" });
  return { checkpoint, weights: await loadWeights(checkpoint, layout) };
}

/**
 * The checkpoint to resume from: the newest whole one of a run's folder, or the one named.
 *
 * @throws CheckpointError
 */
export async function findResumable(
  path: string,
): Promise<{ runDir: string; checkpoint: Checkpoint; damaged: readonly Damaged[] }> {
  await requireFolder(path);
  const runDir = await runFolderOf(path);
  if (runDir === path) return { runDir, ...(await newestValid(path)) };
  const checkpoint = await openNamed(path);
  if (checkpoint.state.kind !== "training") {
    throw new CheckpointError({
      what: "holds weights only, without momentum and averages",
      where: path,
      expected: "a folder step-N, or the run's folder",
      found: basename(path),
      ...untouched,
      hint: `Resume the run with --resume ${shellWord(dirname(path))}, or start a new one from these weights with --init_from ${shellWord(path)}`,
    });
  }
  return { runDir, checkpoint, damaged: [] };
}

/** The folder of the run that a path to resume from belongs to. @throws CheckpointError */
export async function runFolderOf(path: string): Promise<string> {
  await requireFolder(path);
  return (await exists(join(path, sumsFile))) || stepOf(basename(path)) !== undefined ? dirname(path) : path;
}

async function requireFolder(path: string): Promise<void> {
  try {
    if ((await stat(path)).isDirectory()) return;
  } catch (error) {
    throw asCheckpointError(error, path);
  }
  throw new CheckpointError({
    what: "is no checkpoint",
    where: path,
    expected: "a run's folder, or a folder step-N or best in it",
    found: "a file",
    ...untouched,
  });
}
