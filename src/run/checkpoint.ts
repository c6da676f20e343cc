/**
 * Checkpoints: what a run needs to continue to the same bits, or a network to be used.
 *
 * A checkpoint is a folder. `step-N/` holds all of training (weights, moving statistics, momentum,
 * averages); `best/` holds one set of weights, ready to use. Every byte is covered by a SHA-256, so a
 * damaged one is always noticed, named, and never silently used or skipped.
 *
 *     weights.safetensors   tensors, under the parameter names of the network
 *     state.json            step, settings, classes, data, scores (CheckpointState)
 *     SHA256SUMS            of both files, as `sha256sum --check` reads it
 *
 * Tensors: `NAME` the weights, `NAME` of a batch norm also as `….moving_mean` and `….moving_variance`,
 * `momentum/NAME`, `averages/NAME`.
 */

import { createHash } from "node:crypto";
import { type FileHandle, open, readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

import { z } from "zod";

import type { TrainingState, Weights } from "../backends/backend.js";
import { CheckpointError, FormatError } from "../core/error.js";
import { evaluationDecodings } from "../data/pictures/augment.js";
import { encodeSafetensors, type Float32Tensor, openSafetensors } from "../formats/safetensors.js";
import type { ParameterTable } from "../models/initialise.js";
import { type VariantName, variantNames, type Width, widths } from "../models/variants.js";
import { tensorsOf } from "../models/tensor-names.js";
import { errorCode, exists, recoverFolders, removeFolder, replaceFolder } from "../core/durable.js";

export const weightsFile = "weights.safetensors";
const stateFile = "state.json";
export const sumsFile = "SHA256SUMS";
export const checkpointFiles = [weightsFile, stateFile, sumsFile] as const;

/** Scores on the whole validation set, accuracies as fractions. */
export interface Scores {
  readonly images: number;
  /** Mean softmax cross-entropy, without smoothing and weight decay. */
  readonly loss: number;
  readonly top1: number;
  readonly top5: number;
}

/** A key of `evaluationDecodings` in data/augment.ts. */
export type EvaluationPipeline = keyof typeof evaluationDecodings;

/** What makes a network: enough to build it and to feed it. */
export interface ModelDescription {
  readonly variant: VariantName;
  readonly width: Width;
  /** Outputs; at least as many as there are names. */
  readonly classes: number;
  /** Pixels. */
  readonly image_size: number;
  /** Shorter side before the central crop, pixels. */
  readonly eval_resize: number;
  /** How pictures are decoded and resized for evaluation. */
  readonly pipeline: EvaluationPipeline;
  readonly class_names: readonly string[];
}

export interface CheckpointState {
  /** One line for whoever opens the file. */
  readonly readme: string;
  readonly format: "riffle-checkpoint";
  readonly version: 1;
  /** "training" can be resumed; "weights" holds one set of weights. */
  readonly kind: "training" | "weights";
  /** Updates made. */
  readonly step: number;
  readonly steps_per_epoch: number;
  /** Step of the last evaluation, or -1. */
  readonly evaluated_step: number;
  /** Scores of the last evaluation, null before the first. */
  readonly scores: Scores | null;
  readonly best: { readonly step: number; readonly top1: number } | null;
  readonly model: ModelDescription;
  /** Every setting of the run, and who decided it. */
  readonly settings: Readonly<Record<string, string | number | boolean>>;
  readonly origins: Readonly<Record<string, string>>;
  readonly data: { readonly fingerprint: string; readonly train_images: number };
  /** Sizes of the other files, in bytes. */
  readonly bytes: Readonly<Record<string, number>>;
}

/** A checkpoint whose bytes have been verified. */
export interface Checkpoint {
  readonly path: string;
  readonly state: CheckpointState;
}

/** What is to be saved: whole training, or one set of weights. */
export type Saved =
  | { readonly kind: "training"; readonly state: TrainingState }
  | { readonly kind: "weights"; readonly weights: Weights };

/** A checkpoint passed over, and why. */
export interface Damaged {
  readonly step: number;
  readonly problem: CheckpointError;
}

/** Name of the folder of a step. */
export function stepFolder(step: number): string {
  return `step-${step}`;
}

/** Removes or completes what a kill left in a run folder; the caller holds the run's lock. */
export function recoverRun(runDir: string): Promise<void> {
  return recoverFolders(runDir, (name) => name === "best" || stepOf(name) !== undefined);
}

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
  const weights = encodeSafetensors(slotsOf(layout, saved), metadataOf(state.model));
  const full: CheckpointState = {
    readme:
      saved.kind === "training"
        ? "A Riffle checkpoint: riffle train --resume continues from here, riffle predict uses its weights."
        : "The best weights of a Riffle run: riffle predict and riffle evaluate use them.",
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
 * @returns names of folders that hold files of someone else and were left alone.
 */
export async function pruneCheckpoints(runDir: string, step: number, keep: number): Promise<string[]> {
  const older = (await listSteps(runDir)).filter((found) => found < step);
  const left: string[] = [];
  for (const doomed of older.slice(keep - 1)) {
    const removed = await removeFolder(runDir, stepFolder(doomed), checkpointFiles);
    if (!removed) left.push(stepFolder(doomed));
  }
  return left;
}

/**
 * Opens the checkpoint in a folder and verifies every byte of it.
 *
 * @throws CheckpointError
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const sums = await readSums(path);
  const json = await readSmall(path, stateFile);
  if (sha256([json]) !== sums.get(stateFile))
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
  if ((await sha256OfFile(file)) !== sums.get(weightsFile)) {
    throw damaged(path, weightsFile, "its bytes are not those that were saved");
  }
  return { path, state };
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
 * folder, of which `best/` is taken, else the newest whole one.
 *
 * @throws CheckpointError
 */
export async function findCheckpoint(path: string): Promise<Checkpoint> {
  if (basename(path) === weightsFile) return openCheckpoint(dirname(path));
  await requireFolder(path);
  if (await exists(join(path, sumsFile))) return openCheckpoint(path);
  if (await exists(join(path, "best"))) return openCheckpoint(join(path, "best"));
  return (await newestValid(path)).checkpoint;
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
  const checkpoint = await openCheckpoint(path);
  if (checkpoint.state.kind !== "training") {
    throw new CheckpointError({
      what: "holds weights only, without momentum and averages",
      where: path,
      expected: "a folder step-N, or the run's folder",
      found: basename(path),
      ...untouched,
      hint: `Resume the run with --resume ${dirname(path)}, or start a new one from these weights with --init_from ${path}`,
    });
  }
  return { runDir, checkpoint, damaged: [] };
}

/** The folder of the run that a path to resume from belongs to. @throws CheckpointError */
export async function runFolderOf(path: string): Promise<string> {
  await requireFolder(path);
  return (await exists(join(path, sumsFile))) || stepOf(basename(path)) !== undefined ? dirname(path) : path;
}

/** All of training, as it was saved. @throws CheckpointError when the network is another. */
export async function loadTraining(checkpoint: Checkpoint, layout: ParameterTable): Promise<TrainingState> {
  const state: TrainingState = {
    parameters: new Float32Array(layout.parameterCount),
    statistics: new Float32Array(2 * layout.planes.length),
    momentum: new Float32Array(layout.parameterCount),
    averages: new Float32Array(layout.parameterCount),
    gradients: new Float32Array(layout.parameterCount),
  };
  const slots = slotsOf(layout, { kind: "training", state });
  await fill(join(checkpoint.path, weightsFile), slots, new Set());
  return state;
}

/** The weights to use a network with: the averages where they were kept. @throws CheckpointError */
export async function loadWeights(checkpoint: Checkpoint, layout: ParameterTable): Promise<Weights> {
  const weights = {
    parameters: new Float32Array(layout.parameterCount),
    statistics: new Float32Array(2 * layout.planes.length),
  };
  const averaged =
    checkpoint.state.kind === "training" && Number(checkpoint.state.settings["average_decay"]) > 0;
  const slots = slotsOf(layout, { kind: "weights", weights }).map((slot) =>
    averaged && !isStatistic(slot.name) ? { ...slot, name: `averages/${slot.name}` } : slot,
  );
  await fill(join(checkpoint.path, weightsFile), slots, new Set());
  return weights;
}

/**
 * Weights as one file that says what network it is; `--init_from` and other programs read it.
 *
 * @returns its bytes, in pieces
 */
export function encodeWeights(
  layout: ParameterTable,
  weights: Weights,
  model: ModelDescription,
): Uint8Array[] {
  return encodeSafetensors(slotsOf(layout, { kind: "weights", weights }), metadataOf(model));
}

/** Every tensor's name and shape, and the memory it is read into or written from. */
export function slotsOf(layout: ParameterTable, saved: Saved): Float32Tensor[] {
  const weights = saved.kind === "training" ? saved.state : saved.weights;
  const slots = tensorsOf(layout, "canonical").map(({ name, shape, array, offset, size }) => ({
    name,
    shape,
    data: weights[array].subarray(offset, offset + size),
  }));
  if (saved.kind === "weights") return slots;
  return [
    ...slots,
    ...parameterSlots(layout, saved.state.momentum, "momentum/"),
    ...parameterSlots(layout, saved.state.averages, "averages/"),
  ];
}

function parameterSlots(layout: ParameterTable, values: Float32Array, prefix: string): Float32Tensor[] {
  return layout.parameters.map(({ name, shape, offset, size }) => ({
    name: `${prefix}${name}`,
    shape,
    data: values.subarray(offset, offset + size),
  }));
}

function isStatistic(name: string): boolean {
  return /\.moving_(mean|variance)$/.test(name);
}

/** So that the weights file alone says what network it is. */
function metadataOf(model: ModelDescription): Map<string, string> {
  return new Map([
    ["format", "riffle"],
    ["network", `shufflenet-v2 ${model.width.toFixed(1)}x (${model.variant})`],
    ["image_size", String(model.image_size)],
    ["class_names", JSON.stringify(model.class_names)],
  ]);
}

/** Reads every slot from the file; a slot in `optional` is skipped where its shape differs. */
export async function fill(
  path: string,
  slots: readonly Float32Tensor[],
  optional: ReadonlySet<string>,
): Promise<string[]> {
  const skipped: string[] = [];
  try {
    const file = await openSafetensors(path);
    try {
      for (const { name, shape, data } of slots) {
        const entry = file.tensors.get(name);
        if (entry === undefined || !sameShape(entry.shape, shape)) {
          if (!optional.has(name)) throw otherNetwork(path, name, shape, entry?.shape);
          skipped.push(name);
        } else {
          data.set(await file.readFloat32(name));
          if (!data.every(Number.isFinite)) throw notFinite(path, name, data);
        }
      }
    } finally {
      await file.close();
    }
  } catch (error) {
    throw asCheckpointError(error, path);
  }
  return skipped;
}

export function otherNetwork(
  path: string,
  name: string,
  shape: readonly number[],
  found: readonly number[] | undefined,
): CheckpointError {
  return new CheckpointError({
    what: "the weights are of another network",
    where: `${path}, tensor ${name}`,
    expected: `[${shape.join(", ")}]`,
    found: found === undefined ? "no such tensor" : `[${found.join(", ")}]`,
    ...untouched,
    hint: "Give the --width and --variant that the weights were trained with",
  });
}

function notFinite(path: string, name: string, data: Float32Array): CheckpointError {
  const index = data.findIndex((value) => !Number.isFinite(value));
  return new CheckpointError({
    what: "the weights are not finite",
    where: `${path}, tensor ${name}, element ${index}`,
    expected: "finite numbers",
    found: `${data[index]}`,
    ...untouched,
  });
}

export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((length, axis) => length === b[axis]);
}

export const untouched = { safe: "The checkpoint is untouched" } as const;

const scoresSchema = z.strictObject({
  images: z.int().nonnegative(),
  loss: z.number(),
  top1: z.number(),
  top5: z.number(),
});

const stateSchema: z.ZodType<CheckpointState> = z.strictObject({
  readme: z.string(),
  format: z.literal("riffle-checkpoint"),
  version: z.literal(1),
  kind: z.enum(["training", "weights"]),
  step: z.int().nonnegative(),
  steps_per_epoch: z.int().positive(),
  evaluated_step: z.int().min(-1),
  scores: scoresSchema.nullable(),
  best: z.strictObject({ step: z.int().nonnegative(), top1: z.number() }).nullable(),
  model: z.strictObject({
    variant: z.enum(variantNames),
    width: z.literal(widths),
    classes: z.int().min(2),
    image_size: z.int().min(32).max(4096),
    eval_resize: z.int().min(32).max(8192),
    pipeline: z.enum(Object.keys(evaluationDecodings) as EvaluationPipeline[]),
    class_names: z.array(z.string()),
  }),
  settings: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
  origins: z.record(z.string(), z.string()),
  data: z.strictObject({ fingerprint: z.string(), train_images: z.int().nonnegative() }),
  bytes: z.record(z.string(), z.int().nonnegative()),
});

function parseState(json: Uint8Array, path: string): CheckpointState {
  try {
    return stateSchema.parse(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(json)));
  } catch (error) {
    const found = error instanceof z.ZodError ? z.prettifyError(error).replaceAll("\n", "; ") : String(error);
    throw new CheckpointError(
      {
        what: "is not a state that this version reads",
        where: join(path, stateFile),
        expected: "riffle-checkpoint version 1",
        found,
        ...untouched,
      },
      error,
    );
  }
}

/** Both lines of SHA256SUMS. */
async function readSums(path: string): Promise<Map<string, string>> {
  const text = (await readSmall(path, sumsFile)).toString("latin1");
  const lines = /^([0-9a-f]{64}) {2}weights\.safetensors\n([0-9a-f]{64}) {2}state\.json\n$/.exec(text);
  if (lines === null) throw damaged(path, sumsFile, "it does not hold the two sums that were saved");
  return new Map([
    [weightsFile, lines[1] as string],
    [stateFile, lines[2] as string],
  ]);
}

/** State and sums are a few KB; 100,000 class names a few MB. */
const maxSmallFile = 64 * 2 ** 20;

async function readSmall(path: string, name: string): Promise<Buffer> {
  const size = await sizeOf(path, name);
  if (size > maxSmallFile)
    throw damaged(path, name, `it has ${size} bytes, at most ${maxSmallFile} are read`);
  let file: FileHandle | undefined;
  try {
    file = await open(join(path, name));
    return await file.readFile();
  } catch (error) {
    throw asCheckpointError(error, join(path, name));
  } finally {
    await file?.close();
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

/** Steps of the checkpoints in a run's folder, newest first. */
export async function listSteps(runDir: string): Promise<number[]> {
  const steps = (await readdir(runDir)).flatMap((name) => stepOf(name) ?? []);
  return steps.sort((a, b) => b - a);
}

export function stepOf(name: string): number | undefined {
  const digits = /^step-(0|[1-9][0-9]{0,14})$/.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
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

function damaged(path: string, name: string, what: string): CheckpointError {
  return new CheckpointError({
    what: `the checkpoint is damaged: ${what}`,
    where: join(path, name),
    ...untouched,
    hint: `Resume the run's folder ${dirname(path)} to use the newest whole checkpoint`,
  });
}

/** File-system and format errors in the words of this room; anything else is passed on. */
export function asCheckpointError(error: unknown, path: string): unknown {
  if (error instanceof FormatError) {
    const { what, expected, found, where } = error.problem;
    return new CheckpointError(
      {
        what: `the weights cannot be read: ${what}`,
        where: where ?? path,
        ...(expected === undefined ? {} : { expected }),
        ...(found === undefined ? {} : { found }),
        ...untouched,
      },
      error,
    );
  }
  const code = errorCode(error);
  if (code === undefined || error instanceof CheckpointError) return error;
  return new CheckpointError(
    {
      what: code === "ENOENT" ? "there is no such file or folder" : `cannot be read (${code})`,
      where: path,
      ...untouched,
    },
    error,
  );
}
