/**
 * Makes weights from elsewhere ours: a run that `riffle predict`, `evaluate` and `train --init_from` take, or one
 * safetensors file under our names.
 *
 * What a network needs besides its weights comes along: the preprocessing that its variant was trained with, and names
 * of its classes, without which no label can be told. Nothing is written until every tensor has been read and fits.
 */

import { readdir } from "node:fs/promises";
import { dirname, resolve } from "node:path";

import { exists, makeFolder, probeFolder, replaceFile } from "../core/durable.js";
import { CheckpointError, UsageError } from "../core/error.js";
import { evaluationSide } from "../data/pictures/augment.js";
import { challengeClasses } from "../prepare/imagenet/challenge-classes.js";
import { initialise, initialStatistics, type ParameterTable } from "../models/initialise.js";
import { type VariantName, variants } from "../models/variants.js";
import {
  fillTensor,
  type FlatWeights,
  takeTensor,
  tensorsOf,
  type WeightTensor,
} from "../models/tensor-names.js";
import { saveCheckpoint } from "../run/checkpoint.js";
import { asCheckpointError } from "../run/checkpoint-error.js";
import type { ModelDescription } from "../run/checkpoint-state.js";
import { encodeTensors } from "../run/checkpoint-tensors.js";
import {
  type ForeignEntry,
  type ForeignWeights,
  isHead,
  layoutOf,
  openForeign,
  readInto,
  recognise,
  type Recognised,
  type WeightChoice,
} from "./foreign-weights.js";
import { lockRun } from "../run/run-lock.js";
import { settings as table } from "../settings/settings.js";

export const classifierChoices = ["keep", "drop"] as const;

export interface ImportOptions {
  /** Where names and shapes leave more than one, or to insist. */
  readonly variant?: VariantName | undefined;
  /** "average" where the file has averages. */
  readonly weights?: WeightChoice | undefined;
  /** Outputs; the file's. Another number needs `classifier`. */
  readonly classes?: number | undefined;
  /** "keep" the outputs that there are, and draw further ones; "drop" them all and draw new ones. */
  readonly classifier?: (typeof classifierChoices)[number] | undefined;
  /** A name for each output; outputs beyond them have none. */
  readonly classNames?: readonly string[] | undefined;
  /** Pixels: 224. */
  readonly imageSize?: number | undefined;
  /** Pixels of the shorter side in evaluation: 256 for 224. */
  readonly evalResize?: number | undefined;
  /** Of outputs that are drawn. */
  readonly seed?: number | undefined;
}

/** A network read from elsewhere. */
export interface Imported {
  /** What kind of file, in words. */
  readonly form: string;
  readonly recognised: Recognised;
  readonly layout: ParameterTable;
  readonly weights: FlatWeights;
  readonly model: ModelDescription;
  /** What was done beyond copying, and what was assumed: a sentence each. */
  readonly notices: readonly string[];
}

/**
 * Reads a network; nothing is written.
 *
 * @throws CheckpointError, UsageError
 */
export async function importWeights(path: string, options: ImportOptions = {}): Promise<Imported> {
  try {
    const file = await openForeign(path);
    try {
      return await importOpen(file, options);
    } finally {
      await file.close();
    }
  } catch (error) {
    throw asCheckpointError(error, path);
  }
}

/** Writes `path`, safetensors under our names. @throws UsageError where it exists, ResourceError */
export async function writeImportedFile(imported: Imported, path: string): Promise<void> {
  const file = resolve(path);
  if (await exists(file)) {
    throw new UsageError({
      what: "the file exists already",
      where: file,
      safe: "It was left as it is",
      hint: "Name another with --output",
    });
  }
  await makeFolder(dirname(file));
  await replaceFile(
    file,
    encodeTensors(imported.layout, { kind: "weights", weights: imported.weights }, imported.model),
  );
}

/**
 * Writes the network as `best/` of a new run's folder.
 *
 * @returns its path
 * @throws UsageError where the folder holds a run, ResourceError
 */
export async function writeImportedRun(imported: Imported, folder: string): Promise<string> {
  const runDir = resolve(folder);
  await probeFolder(runDir);
  const lock = await lockRun(runDir);
  try {
    const run = (await readdir(runDir)).find((name) => /^(step-\d+|best|recipe\.json)$/.test(name));
    if (run !== undefined) {
      throw new UsageError({
        what: "the folder holds a run already",
        where: runDir,
        expected: "an empty or new folder",
        found: run,
        safe: "Nothing was written",
        hint: "Name another folder with --log_dir",
      });
    }
    const { layout, weights, model } = imported;
    const { variant, width, classes, image_size } = model;
    return await saveCheckpoint(
      runDir,
      "best",
      layout,
      { kind: "weights", weights },
      {
        step: 0,
        steps_per_epoch: 1,
        evaluated_step: -1,
        scores: null,
        best: null,
        model,
        settings: { variant, width, num_classes: classes, image_size },
        origins: {},
        data: { fingerprint: "", train_images: 0 },
      },
    );
  } finally {
    await lock.release();
  }
}

async function importOpen(file: ForeignWeights, options: ImportOptions): Promise<Imported> {
  const recognised = recognise(file, options);
  const { variant, width, scheme } = recognised;
  if (recognised.missing.some(({ canonical }) => isHead(canonical) && !isClassifier(canonical))) {
    throw withoutHead(file, recognised);
  }
  const classes = outputsOf(file, recognised, options);
  const layout = layoutOf(variant, width, classes);
  const seed = options.seed ?? table.seed.default;
  const weights: FlatWeights = {
    parameters: initialise(layout, { version: variants[variant].initialisation, seed }),
    statistics: initialStatistics(layout),
  };
  const drawn = recognised.classes === undefined || options.classifier === "drop";
  const names = new Map(recognised.found.map(([{ canonical }, name]) => [canonical, name]));
  for (const tensor of tensorsOf(layout, scheme)) {
    const name = names.get(tensor.canonical);
    if (!isClassifier(tensor.canonical)) await readInto(file, [tensor, name as string], weights);
    else if (!drawn && name !== undefined) await readClassifier(file, [tensor, name], weights);
  }
  const named = namesOf(file, recognised, { given: options.classNames, classes, drawn });
  return {
    form: file.form,
    recognised,
    layout,
    weights,
    model: describe(file, recognised, { ...options, classes, classNames: named.names }),
    notices: noticesOf(recognised, { classes, drawn, seed, assumed: named.assumed }),
  };
}

/** How many outputs the network is to have. @throws UsageError where the file's are others and nothing says what to do. */
function outputsOf(file: ForeignWeights, { classes: found }: Recognised, options: ImportOptions): number {
  const { classes = options.classNames?.length ?? found, classifier } = options;
  if (classes !== undefined && (classes === found || classifier !== undefined || found === undefined))
    return classes;
  const safe = "Nothing was written";
  if (classes === undefined) {
    throw new UsageError({
      what: "the file has no classifier, so how many outputs there are to be has to be said",
      where: file.path,
      expected: "--num_classes",
      found: "nothing",
      safe,
    });
  }
  throw new UsageError({
    what: "the file's classifier has another number of outputs",
    where: file.path,
    expected: `${classes}`,
    found: `${found}`,
    safe,
    hint: "--classifier drop draws a new one to be trained, --classifier keep keeps the outputs that there are",
  });
}

/** Copies the outputs that both have; further ones stay as they were drawn. */
async function readClassifier(
  file: ForeignWeights,
  [tensor, name]: readonly [WeightTensor, string],
  weights: FlatWeights,
): Promise<void> {
  const { shape } = file.tensors.get(name) as ForeignEntry;
  // Outputs are rows of our weight and bias; where they are columns (TensorFlow), `order` says so.
  const axis = tensor.order.indexOf(0);
  const fits =
    shape.length === tensor.shape.length && shape.every((n, i) => i === axis || n === tensor.shape[i]);
  if (!fits || shape[axis] === tensor.shape[axis]) return readInto(file, [tensor, name], weights);
  const theirs = await file.read(name);
  const ours = takeTensor(tensor, weights.parameters);
  const [from, into] = [shape[axis] as number, tensor.shape[axis] as number];
  // Elements behind one output, and how often outputs are counted through.
  const behind = shape.slice(axis + 1).reduce((product, n) => product * n, 1);
  const before = shape.slice(0, axis).reduce((product, n) => product * n, 1);
  const kept = Math.min(from, into) * behind;
  for (let i = 0; i < before; i++) {
    ours.set(theirs.subarray(i * from * behind, i * from * behind + kept), i * into * behind);
  }
  fillTensor(tensor, { shape: tensor.shape, data: ours }, weights.parameters);
}

interface Named {
  readonly names: readonly string[];
  /** Nobody said so: 1,000 outputs of these networks are ImageNet's. */
  readonly assumed: boolean;
}

/** @throws UsageError when there are more names than outputs. */
function namesOf(
  file: ForeignWeights,
  { scheme, classes: found }: Recognised,
  {
    given,
    classes,
    drawn,
  }: { readonly given: readonly string[] | undefined; readonly classes: number; readonly drawn: boolean },
): Named {
  if (given !== undefined) {
    const twice = given.find((name, i) => given.indexOf(name) !== i);
    if (given.length > classes || twice !== undefined) {
      throw new UsageError({
        what: twice === undefined ? "more names than outputs" : "the same class name twice",
        where: "option --classes",
        expected: twice === undefined ? `at most ${classes}` : `${classes} different names`,
        found: twice ?? `${given.length}`,
        safe: "Nothing was written",
      });
    }
    return { names: given, assumed: false };
  }
  const recorded = recordedNames(file.metadata.get("class_names"));
  if (recorded !== undefined && !drawn) return { names: recorded.slice(0, classes), assumed: false };
  const isImageNet =
    found === challengeClasses.length && !drawn && scheme !== "canonical" && scheme !== "tensorflow";
  return { names: isImageNet ? challengeClasses.slice(0, classes) : [], assumed: isImageNet };
}

/** As our own files carry them. */
function recordedNames(json: string | undefined): readonly string[] | undefined {
  try {
    const names: unknown = JSON.parse(json ?? "null");
    return Array.isArray(names) && names.every((name) => typeof name === "string") ? names : undefined;
  } catch {
    return undefined;
  }
}

/** Each variant with the pictures it was trained on: its lineage's decoder and resize, or Pillow's as torchvision has it. */
function describe(
  file: ForeignWeights,
  { variant, width }: Recognised,
  options: ImportOptions & { readonly classes: number; readonly classNames: readonly string[] },
): ModelDescription {
  const recorded = Number(file.metadata.get("image_size") ?? NaN);
  const imageSize = options.imageSize ?? (Number.isInteger(recorded) && recorded >= 32 ? recorded : 224);
  return {
    variant,
    width,
    classes: options.classes,
    image_size: imageSize,
    eval_resize: options.evalResize ?? evaluationSide(imageSize),
    pipeline: variant === "tensorflow" ? "tensorflow" : "torchvision",
    class_names: options.classNames,
  };
}

function noticesOf(
  { prefix, averages, classes: found, leftOver }: Recognised,
  done: {
    readonly classes: number;
    readonly drawn: boolean;
    readonly seed: number;
    readonly assumed: boolean;
  },
): string[] {
  const { classes, drawn, seed, assumed } = done;
  return [
    ...(prefix === "" ? [] : [`every name begins with ${JSON.stringify(prefix)}, which was passed over`]),
    ...(averages
      ? ["the averages of the weights were taken; --weights raw takes what they were averaged from"]
      : []),
    ...(drawn
      ? [`the classifier is new, ${classes} outputs drawn from seed ${seed}: train before you predict`]
      : []),
    ...(drawn || found === classes ? [] : [`the classifier had ${found} outputs and has ${classes} now`]),
    ...(assumed
      ? ["the outputs are named by ImageNet's WordNet ids in order; --classes FILE names them otherwise"]
      : []),
    ...(leftOver.length > 0 ? [`left out, as no part of this network: ${listOf(leftOver)}`] : []),
  ];
}

function withoutHead(file: ForeignWeights, { missing }: Recognised): CheckpointError {
  return new CheckpointError({
    what: "the file holds the stages of a network without what follows them, so it cannot classify yet",
    where: file.path,
    expected: "conv5 and the classifier",
    found: `no ${listOf(missing.map(({ name }) => name))}`,
    safe: "Nothing was written",
    hint: "Train from it: riffle train --init_from FILE draws what is missing",
  });
}

function isClassifier(canonical: string): boolean {
  return canonical.startsWith("classifier.");
}

function listOf(names: readonly string[]): string {
  const more = names.length > 5 ? ` and ${names.length - 5} more` : "";
  return names.slice(0, 5).join(", ") + more;
}
