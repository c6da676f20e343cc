/**
 * Checkpoints: what a run needs to continue to the same bits, or a network to be used.
 *
 * A checkpoint is a folder. `step-N/` holds all of training (weights, moving statistics, momentum,
 * averages); `best/` holds one set of weights, ready to use. Every byte is covered by a SHA-256, so a
 * damaged one is always noticed, named, and never silently used or skipped.
 *
 *     weights.safetensors   tensors, under the parameter names of the network (checkpoint-tensors.ts)
 *     state.json            step, settings, classes, data, scores (checkpoint-state.ts)
 *     SHA256SUMS            of both files, as `sha256sum --check` reads it
 */

import { createHash } from "node:crypto";
import { open, readdir, readFile, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

import { exists, recoverFolders, removeFolder, replaceFolder } from "../core/durable.js";
import { CheckpointError, errorCode, UsageError } from "../core/error.js";
import type { ParameterTable } from "../models/initialise.js";
import { asCheckpointError, untouched } from "./checkpoint-error.js";
import { type Checkpoint, type CheckpointState, stateFile } from "./checkpoint-state.js";
import { encodeTensors, type Saved, weightsFile } from "./checkpoint-tensors.js";
import { parseState } from "./parse-state.js";

export const sumsFile = "SHA256SUMS";
export const checkpointFiles = [weightsFile, stateFile, sumsFile] as const;

/** Name of the folder of a step. */
export function stepFolder(step: number): string {
  return `step-${step}`;
}

/** Refuses a folder that holds a run already. @throws UsageError */
export async function refuseOccupied(runDir: string, hint: string): Promise<void> {
  const held = await readdir(runDir).catch((error: unknown) => {
    if (errorCode(error) === "ENOENT") return [];
    throw error;
  });
  const run = held.find((name) => /^(step-\d+|best|recipe\.json)$/.test(name));
  if (run === undefined) return;
  throw new UsageError({
    what: "the folder holds a run already",
    where: runDir,
    expected: "an empty or new folder",
    found: run,
    safe: "Nothing was written",
    hint,
  });
}

/** Removes or completes what a kill left in a run folder; the caller holds the run's lock. */
export function recoverRun(runDir: string): Promise<void> {
  return recoverFolders(runDir, (name) => stepOf(name) !== undefined || OURS.test(name));
}

/** What else is written whole in a run's folder, TensorFlow's checkpoints among it. */
const OURS = /^(best|recipe\.json|split\.json|checkpoint|model\.ckpt-\d+\..+)$/;

/**
 * Saves `runDir/name`, whole or not at all.
 *
 * @returns its path
 * @throws ResourceError when the disk refuses; earlier checkpoints stand.
 */
export async function saveCheckpoint(
  runDir: string,
  name: string,
  layout: ParameterTable,
  saved: Saved,
  state: Omit<CheckpointState, "readme" | "format" | "version" | "kind" | "bytes">,
): Promise<string> {
  const weights = encodeTensors(layout, saved, state.model);
  const full: CheckpointState = {
    readme:
      saved.kind === "training"
        ? "A Riffle checkpoint: npx riffle-vision train --resume continues from here, npx riffle-vision predict uses its weights."
        : "The best weights of a Riffle run: npx riffle-vision predict and npx riffle-vision evaluate use them.",
    format: "riffle-checkpoint",
    version: 1,
    kind: saved.kind,
    ...state,
    bytes: { [weightsFile]: weights.reduce((sum, piece) => sum + piece.length, 0) },
  };
  const json = Buffer.from(`${JSON.stringify(full, null, 2)}\n`);
  const sums = `${sha256(weights)}  ${weightsFile}\n${sha256([json])}  ${stateFile}\n`;
  await replaceFolder(
    runDir,
    name,
    new Map<string, readonly Uint8Array[]>([
      [weightsFile, weights],
      [stateFile, [json]],
      [sumsFile, [Buffer.from(sums)]],
    ]),
  );
  return join(runDir, name);
}

/**
 * Removes checkpoints of steps below `step` until `keep` are left, that one counted.
 *
 * @returns what stays that should have gone, and why: files of someone else in a folder, or a system that refused.
 */
export async function pruneCheckpoints(runDir: string, step: number, keep: number): Promise<string[]> {
  const left: string[] = [];
  const steps = await listSteps(runDir).catch((error: unknown) => {
    left.push(`older checkpoints could not be removed: ${String(error)}`);
    return [];
  });
  for (const doomed of steps.filter((found) => found < step).slice(keep - 1)) {
    const path = join(runDir, stepFolder(doomed));
    try {
      const removed = await removeFolder(runDir, stepFolder(doomed), checkpointFiles);
      if (!removed) left.push(`${path} holds files of someone else; it is kept`);
    } catch (error) {
      left.push(`${path} could not be removed: ${String(error)}`);
    }
  }
  return left;
}

/**
 * Opens the checkpoint in a folder and verifies every byte of it. One that is replaced meanwhile, as `best/` of a run in
 * progress is, is opened as it was before or as it is then, never as some of both.
 *
 * @throws CheckpointError
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  for (let attempt = 1; ; attempt++) {
    const place = (await placeOf(path)) ?? path;
    const before = await sumsIn(place);
    try {
      return { path: place, ...(await verified(place)) };
    } catch (error) {
      const isReplaced = (await placeOf(path)) !== place || (await sumsIn(place)) !== before;
      if (!isReplaced || attempt >= ATTEMPTS) throw error;
    }
  }
}

/** More replacements in a row than anybody meets: a run evaluates between two of them. */
export const ATTEMPTS = 100;

/** Where a checkpoint's folder is: beside its place while a new one is put there; undefined where there is none. */
export async function placeOf(path: string): Promise<string | undefined> {
  for (const place of [path, join(dirname(path), `.replaced-${basename(path)}`), path]) {
    if (await exists(place)) return place;
  }
  return undefined;
}

/** Whether what was read from a checkpoint after it was opened is still of that one. */
export async function isUnchanged({ path, sums }: Checkpoint): Promise<boolean> {
  return (await sumsIn(path)) === sums;
}

async function sumsIn(folder: string): Promise<string | undefined> {
  return readSmall(folder, sumsFile).then(String, () => undefined);
}

async function verified(path: string): Promise<Omit<Checkpoint, "path">> {
  const { text, of } = await readSums(path);
  const json = await readSmall(path, stateFile);
  if (sha256([json]) !== of.get(stateFile))
    throw damaged(path, stateFile, "its bytes are not those that were saved");
  const state = parseState(json, path);
  const file = join(path, weightsFile);
  const expected = state.bytes[weightsFile];
  const found = await sizeOf(path, weightsFile);
  if (found !== expected) {
    throw new CheckpointError({
      what: found < (expected ?? 0) ? "the checkpoint is cut short" : "the checkpoint has grown",
      where: file,
      expected: `${expected} bytes`,
      found: `${found}`,
      ...untouched,
    });
  }
  if ((await sha256OfFile(file)) !== of.get(weightsFile)) {
    throw damaged(path, weightsFile, "its bytes are not those that were saved");
  }
  return { state, sums: text };
}

/** Steps of the checkpoints in a run's folder, newest first. */
export async function listSteps(runDir: string): Promise<number[]> {
  const steps = (await readdir(runDir)).flatMap((name) => stepOf(name) ?? []);
  return steps.sort((a, b) => b - a);
}

export function stepOf(name: string): number | undefined {
  const digits = /^step-(0|[1-9][0-9]{0,14})$/.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** SHA256SUMS, and what it says of each file. */
async function readSums(path: string): Promise<{ text: string; of: Map<string, string> }> {
  const text = (await readSmall(path, sumsFile)).toString("latin1");
  const lines = /^([0-9a-f]{64}) {2}weights\.safetensors\n([0-9a-f]{64}) {2}state\.json\n$/.exec(text);
  if (lines === null) throw damaged(path, sumsFile, "it does not hold the two sums that were saved");
  const of = new Map([
    [weightsFile, lines[1] as string],
    [stateFile, lines[2] as string],
  ]);
  return { text, of };
}

/** State and sums are a few KB; 100,000 class names a few MB. */
const maxSmallFile = 64 * 2 ** 20;

async function readSmall(path: string, name: string): Promise<Buffer> {
  const size = await sizeOf(path, name);
  if (size > maxSmallFile)
    throw damaged(path, name, `it has ${size} bytes, at most ${maxSmallFile} are read`);
  try {
    return await readFile(join(path, name));
  } catch (error) {
    throw asCheckpointError(error, join(path, name));
  }
}

async function sizeOf(path: string, name: string): Promise<number> {
  try {
    const found = await stat(join(path, name));
    if (!found.isFile()) throw damaged(path, name, "it is not a regular file");
    return found.size;
  } catch (error) {
    throw asCheckpointError(error, join(path, name));
  }
}

async function sha256OfFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  try {
    const file = await open(path);
    for await (const piece of file.createReadStream({ highWaterMark: 2 ** 20 })) hash.update(piece as Buffer);
  } catch (error) {
    throw asCheckpointError(error, path);
  }
  return hash.digest("hex");
}

function sha256(pieces: readonly Uint8Array[]): string {
  const hash = createHash("sha256");
  for (const piece of pieces) hash.update(piece);
  return hash.digest("hex");
}

function damaged(path: string, name: string, what: string): CheckpointError {
  return new CheckpointError({
    what: `the checkpoint is damaged: ${what}`,
    where: join(path, name),
    ...untouched,
  });
}
