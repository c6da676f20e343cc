/**
 * The one door for weights: whatever a file or folder of them is, one call opens it, and has it closed.
 *
 * It is recognised by what stands in it, never by its name: PyTorch zip, legacy and unzipped, safetensors, Hugging Face's folders
 * and their indices, TensorFlow checkpoints and SavedModels, our own checkpoints and runs, whose checksums are verified first.
 * What goes wrong behind the door is worded as a checkpoint's.
 *
 * From here weights are matched (match.ts), filled in (fill.ts), described (describe.ts), and leave as a run or a file
 * (import-weights.ts) or as what training begins with (initialise-from.ts).
 */

import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join, sep } from "node:path";

import { closing } from "../core/closing.js";
import { exists } from "../core/durable.js";
import { CheckpointError } from "../core/error.js";
import { lettersOf, nearest } from "../core/nearest-name.js";
import { isReadFormat, kindOf } from "../data/pictures/image-info.js";
import { quoted } from "../formats/plain-name.js";
import { openRegular, readFully } from "../formats/read-file.js";
import { openSafetensors } from "../formats/safetensors-file.js";
import { TABLE_MAGIC } from "../formats/sstable.js";
import { bundlePrefix, readBundle, type TensorBundle } from "../formats/tf-bundle.js";
import { latestCheckpoint, prefixesIn } from "../formats/tf-checkpoint-state.js";
import type { BundleTensor } from "../formats/tf-bundle-index.js";
import { bfloat16ToFloat, float16ToFloat } from "../formats/half.js";
import {
  isUnzippedCheckpoint,
  openTorchCheckpoint,
  openUnzippedCheckpoint,
} from "../formats/torch-checkpoint-file.js";
import { isTorchCheckpoint } from "../formats/torch-checkpoint.js";
import { stepOf, sumsFile } from "../run/checkpoint.js";
import { asCheckpointError } from "../run/checkpoint-error.js";
import { weightsFile } from "../run/checkpoint-tensors.js";
import { readCheckpoint } from "../run/find-checkpoint.js";
import { namesInFolder } from "./class-names-beside.js";
import { publishedNames } from "./published.js";
import { readWeightMap, type WeightMap } from "./sharded.js";
import {
  ofSafetensors,
  ofTorch,
  plainFile,
  toFloat32,
  type WeightsEntry,
  type WeightsFile,
} from "./weights-file.js";

/**
 * Opens `path` for one use.
 *
 * @throws CheckpointError with the reason why it is not read; and what `use` throws.
 */
export async function useWeights<T>(path: string, use: (file: WeightsFile) => Promise<T>): Promise<T> {
  try {
    return await closing(async (atEnd) => use(await openWeights(path, atEnd)));
  } catch (error) {
    throw asCheckpointError(error, path);
  }
}

/** A TensorFlow checkpoint that is open already. */
export function ofBundle(path: string, bundle: TensorBundle, form = "TensorFlow checkpoint"): WeightsFile {
  return {
    ...plainFile,
    path,
    form,
    tensors: bundle.entries,
    read: async (name) => toFloat32(path, name, numbersOf(await bundle.read(name))),
  };
}

type AtEnd = (step: () => unknown) => void;

/** With the names of classes that lie beside it; a checkpoint of ours has its own. */
async function openWeights(path: string, atEnd: AtEnd): Promise<WeightsFile> {
  const found = await stat(path).catch(() => undefined);
  const isFolder = found?.isDirectory() === true;
  const file = await (isFolder ? openFolder(path, atEnd) : openFile(path, found !== undefined, atEnd));
  if (file.isOwn) return file;
  const folder = isFolder ? path : dirname(path);
  const beside = (await namesInFolder(folder)).map(({ names, from }) => ({
    names,
    from: `${from} beside it`,
  }));
  return { ...file, classNames: [...file.classNames, ...beside] };
}

async function openFile(path: string, isThere: boolean, atEnd: AtEnd): Promise<WeightsFile> {
  if (!isThere) {
    const prefix = bundlePrefix(path);
    if (await exists(`${prefix}.index`)) return ofBundle(path, await readBundle(prefix));
    throw notThere(path);
  }
  if (basename(path) === weightsFile && (await exists(join(dirname(path), sumsFile)))) {
    return openOwn(path, atEnd);
  }
  const { head, tail } = await endsOf(path);
  if (isTorchCheckpoint(head)) return ofTorch(path, await openTorchCheckpoint(path));
  if (tail.equals(TABLE_MAGIC) || /\.data-\d{5,}-of-\d{5,}$/.test(path)) {
    return ofBundle(path, await readBundle(bundlePrefix(path)));
  }
  if (head[8] === OPENING_BRACE) return openTensors(path, path, atEnd);
  if (head[0] === OPENING_BRACE) return openSharded(path, path, atEnd);
  const isPicture = isReadFormat(head);
  throw new CheckpointError({
    what: isPicture ? "is a picture, not a run or weights" : "is no file of weights that is read",
    where: path,
    expected: "a PyTorch checkpoint, safetensors, a TensorFlow checkpoint, or a folder of one or of a run",
    found: isPicture
      ? kindOf(head)
      : `a file that begins with the bytes ${head.subarray(0, 8).toString("hex") || "of nothing"}`,
    hint: BY_NAME,
  });
}

/** Whoever mistypes a name of weights is taken to mean a path. */
function notThere(path: string): CheckpointError {
  const typed = [basename(path), path.split(sep).slice(-2).join("/")];
  const [near] = typed.flatMap((name) => nearest(lettersOf(name), publishedNames) ?? []);
  return new CheckpointError({
    what: "there is no such file or folder",
    where: path,
    hint: near === undefined ? BY_NAME : `Did you mean ${near.name}? ${BY_NAME}`,
  });
}

const BY_NAME = `Give a run's folder, a file of weights, or a name: ${publishedNames.join(", ")}`;

/** The first byte behind the length in a safetensors file, and of an index of several. */
const OPENING_BRACE = 0x7b;

async function endsOf(path: string): Promise<{ head: Buffer; tail: Buffer }> {
  const { file, size } = await openRegular(path);
  try {
    const head = Buffer.alloc(Math.min(size, 512));
    const tail = Buffer.alloc(Math.min(size, TABLE_MAGIC.length));
    await readFully(file, head, 0, path);
    await readFully(file, tail, size - tail.length, path);
    return { head, tail };
  } finally {
    await file.close();
  }
}

/** A run of ours or a checkpoint in it, weights lying in a folder, Hugging Face's, TensorFlow's, or an unzipped archive. */
async function openFolder(path: string, atEnd: AtEnd): Promise<WeightsFile> {
  const names = await readdir(path);
  if (names.some((name) => name === sumsFile || name === "best" || stepOf(name) !== undefined)) {
    return openOwn(path, atEnd);
  }
  if (names.includes(weightsFile)) return openTensors(path, join(path, weightsFile), atEnd);
  if (names.includes("checkpoint") || (await prefixesIn(path)).length > 0) {
    const { bundle, passedOver } = await latestCheckpoint(path);
    return { ...ofBundle(path, bundle), notices: passedOver.map((what) => `passed over ${what}`) };
  }
  const [found, ...others] = pretrainedFiles.filter((name) => names.includes(name));
  if (found !== undefined) {
    const file = await openFile(join(path, found), true, atEnd);
    const notices = [`of the folder ${[found, ...others.map((name) => `not ${name}`)].join(", ")} was read`];
    return { ...file, path, notices: [...notices, ...file.notices] };
  }
  if (await exists(join(path, SAVED_VARIABLES + ".index"))) {
    const bundle = await readBundle(join(path, SAVED_VARIABLES));
    return ofBundle(path, bundle, "TensorFlow SavedModel's variables");
  }
  if (await isUnzippedCheckpoint(path)) return ofTorch(path, await openUnzippedCheckpoint(path));
  throw new CheckpointError({
    what: "holds no weights",
    where: path,
    expected:
      `best/ or ${weightsFile} of a run, ${pretrainedFiles.join(", ")}, a TensorFlow checkpoint or SavedModel, ` +
      "or an unzipped PyTorch checkpoint",
    found: "none of them",
  });
}

/** As Hugging Face's libraries name them, in the order in which they look for them. */
const pretrainedFiles = [
  "model.safetensors",
  "model.safetensors.index.json",
  "pytorch_model.bin",
  "pytorch_model.bin.index.json",
];
/** In a SavedModel's folder. */
const SAVED_VARIABLES = join("variables", "variables");

async function openOwn(path: string, atEnd: AtEnd): Promise<WeightsFile> {
  // best/ of a run in progress may be replaced before it is open.
  return readCheckpoint(path, async (found) => {
    const open = await openTensors(path, join(found.path, weightsFile), atEnd);
    const notices = found.passedOver.map((what) => `passed over ${what}; read ${found.path}`);
    return { ...open, isOwn: true, notices };
  });
}

async function openTensors(path: string, file: string, atEnd: AtEnd): Promise<WeightsFile> {
  const opened = await openSafetensors(file);
  atEnd(() => opened.close());
  return ofSafetensors(path, opened);
}

/** The files that an index names, as one. */
async function openSharded(path: string, index: string, atEnd: AtEnd): Promise<WeightsFile> {
  const map: WeightMap = await readWeightMap(index);
  const parts = new Map<string, WeightsFile>();
  for (const name of new Set(map.values())) {
    const part = join(dirname(index), name);
    if (!(await exists(part))) {
      throw new CheckpointError({
        what: "a file that the index names is not there",
        where: index,
        found: `no ${name}`,
      });
    }
    const { head } = await endsOf(part);
    const isTorch = isTorchCheckpoint(head);
    parts.set(
      name,
      isTorch ? ofTorch(part, await openTorchCheckpoint(part)) : await openTensors(part, part, atEnd),
    );
  }
  const tensors = new Map<string, WeightsEntry>();
  for (const [name, part] of map) {
    const entry = parts.get(part)?.tensors.get(name);
    if (entry === undefined) {
      const where = `${join(dirname(index), part)}, tensor ${quoted(name)}`;
      throw new CheckpointError({ what: "a tensor that the index names is not in its file", where });
    }
    tensors.set(name, entry);
  }
  const all = [...parts.values()];
  const [first] = all;
  return {
    ...plainFile,
    path,
    form: `${first?.form ?? "no file"} in ${all.length} files`,
    tensors,
    metadata: first?.metadata ?? plainFile.metadata,
    objects: new Map(all.flatMap(({ objects }) => [...objects])),
    classNames: all.flatMap(({ classNames }) => classNames),
    notices: all.flatMap(({ notices }) => notices),
    read: async (name) => (parts.get(map.get(name) ?? "") as WeightsFile).read(name),
  };
}

/** Half floats are kept as their bits. */
function numbersOf({ dtype, data }: BundleTensor): unknown {
  if (dtype === "F16") return float16ToFloat(data);
  return dtype === "BF16" ? bfloat16ToFloat(data) : data;
}
