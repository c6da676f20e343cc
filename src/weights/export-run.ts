/**
 * `riffle export`: a trained network as a file of another world, proven before it gets its name.
 *
 * The file is written beside its place under another name and opened again: names, shapes and bytes of every tensor must be
 * those that went into it. Only then is it renamed, so what stands under the name asked for has been read once already.
 */

import { readFileSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";

import type { Weights } from "../backends/backend.js";
import { CheckpointError, UsageError } from "../core/error.js";
import { shellWord } from "../core/printable.js";
import { asResourceError, exists, makeFolder, writeWhole } from "../core/durable.js";
import { encodeOnnx } from "../formats/onnx.js";
import { readInitializers } from "../formats/onnx-constants.js";
import { encodeSafetensors } from "../formats/safetensors.js";
import { openSafetensors } from "../formats/safetensors-file.js";
import type { Network } from "../models/layers.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { exportWeights, type Scheme } from "../models/tensor-names.js";
import { compile } from "../program/compile.js";
import type { Program } from "../program/program.js";
import type { Checkpoint, CheckpointState } from "../run/checkpoint-state.js";
import { loadTraining, loadWeights } from "../run/load-checkpoint.js";
import { type FoundCheckpoint, meansOwn, readCheckpoint } from "../run/find-checkpoint.js";
import { findNetwork, type FindOptions } from "./find-network.js";
import { inputInWords, metadataOf } from "./export-metadata.js";
import { networkToOnnx, type OnnxInput } from "./network-to-onnx.js";
import { publishedNamed } from "./published.js";
import { exportTfCheckpoint, tfStateOf } from "./export-tf-checkpoint.js";
import { type WebRuntimeName, writeWebFolder } from "./web-folder.js";
import { importTfCheckpoint } from "./tf-checkpoint.js";
import { type NamesOf, refuseUnknown } from "../core/nearest-name.js";

export const exportFormats = [
  "safetensors",
  "safetensors-torchvision",
  "tf-checkpoint",
  "onnx",
  "web",
] as const;
export type ExportFormat = (typeof exportFormats)[number];

/** The weights as they were trained, or their averages. */
export const exportedWeights = ["average", "raw"] as const;
type ExportedWeights = (typeof exportedWeights)[number];

export interface ExportOptions {
  readonly format: ExportFormat;
  /** File, or folder of a TensorFlow checkpoint or for the web; beside the checkpoint, under its name, when absent. */
  readonly output?: string;
  /** The averages where they were kept, when absent. */
  readonly weights?: ExportedWeights;
  /** ONNX: nodes of batch norm instead of their numbers in the convolutions. */
  readonly keepBatchNorm?: boolean;
  /** ONNX: what the graph takes; "normalised" when absent. */
  readonly input?: OnnxInput;
  /** For the web: what runs the network there; "riffle" when absent. */
  readonly runtime?: WebRuntimeName;
  readonly overwrite?: boolean;
  /** Weights that are named are only taken from where they were kept. */
  readonly offline?: boolean | undefined;
  /** Hears of their coming. */
  readonly report?: FindOptions["report"];
}

const exportOptions: NamesOf<ExportOptions> = {
  format: true,
  output: true,
  weights: true,
  keepBatchNorm: true,
  input: true,
  runtime: true,
  overwrite: true,
  offline: true,
  report: true,
};

export interface ExportResult {
  readonly format: ExportFormat;
  /** The file, or the folder for the web; of a TensorFlow checkpoint the prefix of its files. */
  readonly output: string;
  /** Of all files. */
  readonly bytes: number;
  readonly checkpoint: string;
  /** Checkpoints that were passed over for it, each with the reason. */
  readonly passed_over: readonly string[];
  readonly step: number;
  /** Of a TensorFlow checkpoint both, where both were kept. */
  readonly weights: ExportedWeights | "both";
  readonly classes: number;
  readonly network: string;
  readonly check: TensorCheck;
}

/** Every tensor read back is the checkpoint's, bit for bit. */
interface TensorCheck {
  readonly compared: "tensors";
  readonly tensors: number;
}

/**
 * Exports the checkpoint that `path` means: a run's folder (its `best/`), or a folder in it; weights from elsewhere, or
 * published weights by name.
 *
 * @throws CheckpointError, UsageError, ResourceError; then nothing stands under the output's name that did not before.
 */
export async function exportRun(path: string, options: ExportOptions): Promise<ExportResult> {
  refuseUnknown(options, exportOptions, "exportRun");
  const named = publishedNamed(path);
  const given = resolve(path);
  const isOwn = named === undefined && (await meansOwn(given));
  const source = isOwn
    ? await readCheckpoint(given, (found) => {
        refuseUnfit(found, options);
        return openSource(found, options);
      })
    : await openForeign(named === undefined ? given : path, options);
  const { checkpoint } = source;
  // What is kept among the user's caches is no place for a file of the user's.
  const stem = named === undefined ? checkpoint.path : named.name.replace("/", "-");
  const output = resolve(options.output ?? defaultOutput(stem, options.format));
  if (options.format === "tf-checkpoint") return exportTf(checkpoint, output, options);
  await refuseOccupied(output, options);
  const { bytes, check } = await exportFile(source, output, options.format, options);
  return { ...summary(checkpoint, options.format), output, bytes, weights: source.weights, check };
}

function exportFile(
  source: Source,
  output: string,
  format: Exclude<ExportFormat, "tf-checkpoint">,
  options: ExportOptions,
): Promise<{ bytes: number; check: TensorCheck }> {
  if (format === "onnx") return exportOnnx(source, output, options);
  if (format !== "web") return exportSafetensors(source, output, format, options);
  const { checkpoint, network, program } = source;
  const { runtime = "riffle" } = options;
  return writeWebFolder(output, { state: checkpoint.state, network, program }, runtime, (path) =>
    runtime === "onnx"
      ? exportOnnx(source, path, options)
      : exportSafetensors(source, path, "safetensors", options),
  );
}

/** A checkpoint's network, and the one set of weights that is exported. */
interface Source {
  readonly checkpoint: FoundCheckpoint;
  readonly network: Network;
  readonly program: Program;
  readonly weights: ExportedWeights;
  readonly values: Weights;
}

async function openSource(checkpoint: FoundCheckpoint, options: ExportOptions): Promise<Source> {
  const { variant, width, classes, image_size: imageSize } = checkpoint.state.model;
  const network = shuffleNetV2({ variant, width, classes });
  const program = compile(network, { batch: 1, imageSize, mode: "infer" });
  const weights = options.weights ?? (keepsAverages(checkpoint) ? "average" : "raw");
  const values =
    weights === "raw" && checkpoint.state.kind === "training"
      ? await loadTraining(checkpoint, program)
      : await loadWeights(checkpoint, program);
  return { checkpoint, network, program, weights, values };
}

/** Weights from elsewhere, as if they were a checkpoint of ours that holds nothing else. */
async function openForeign(given: string, options: ExportOptions): Promise<Source> {
  if (options.format === "tf-checkpoint") {
    throw new UsageError({
      what: "a checkpoint of TensorFlow's is made of a run, and this is a file of weights",
      where: given,
      expected: "a run's folder",
      found: "a file",
      safe: "Nothing was written",
      hint: `npx riffle-vision import ${shellWord(given)} --log_dir NEW, then npx riffle-vision export NEW --format tf-checkpoint`,
    });
  }
  const { weights: choice, offline, report } = options;
  const found = await findNetwork(given, { weights: choice, offline, report });
  const { path, model, weights: values, step = 0, origin } = found;
  const state: CheckpointState = {
    ...{ readme: "", format: "riffle-checkpoint", version: 1, kind: "weights", step, steps_per_epoch: 1 },
    ...{ evaluated_step: -1, scores: null, best: null, model, settings: {}, origins: {}, bytes: {} },
    data: { fingerprint: "", train_images: 0 },
  };
  const checkpoint: FoundCheckpoint = { path, state, sums: "", passedOver: [] };
  // Which of several sets was asked for is decided already.
  refuseUnfit(checkpoint, { ...options, weights: undefined });
  const network = shuffleNetV2({ variant: model.variant, width: model.width, classes: model.classes });
  const program = compile(network, { batch: 1, imageSize: model.image_size, mode: "infer" });
  return { checkpoint, network, program, weights: origin?.averages === true ? "average" : "raw", values };
}

function keepsAverages({ state }: Checkpoint): boolean {
  return Number(state.settings["average_decay"]) > 0;
}

interface Asked {
  readonly weights?: ExportedWeights | undefined;
}

/** Options that the checkpoint or the format cannot obey. */
function refuseUnfit(
  checkpoint: Checkpoint,
  { format, weights, keepBatchNorm, input, runtime }: Omit<ExportOptions, "weights"> & Asked,
): void {
  const { state, path } = checkpoint;
  const refuse = (what: string, where: string, expected: string, found: string, hint?: string): never => {
    const safe = "Nothing was written";
    throw new UsageError({ what, where, expected, found, safe, hint });
  };
  if (format !== "onnx" && (keepBatchNorm === true || input !== undefined)) {
    const option = keepBatchNorm === true ? "--keep_batch_norm" : "--input";
    refuse(
      `only an ONNX file has a graph, of which ${option} speaks`,
      `option ${option}`,
      "--format onnx",
      format,
    );
  }
  if (format !== "web" && runtime !== undefined) {
    refuse("only a page has something that runs its network", "option --runtime", "--format web", format);
  }
  if (format === "safetensors-torchvision" && state.model.variant !== "torchvision") {
    refuse(
      "the tensors do not fit torchvision's network, whose units have other widths or a bias more",
      path,
      "a network of --variant torchvision",
      state.model.variant,
      "Export it with --format safetensors or onnx, or train with --variant torchvision",
    );
  }
  if (format === "tf-checkpoint" && weights !== undefined) {
    refuse(
      "a TensorFlow checkpoint holds the weights and their averages",
      "option --weights",
      "no --weights",
      weights,
    );
  }
  if (weights === "average" && !keepsAverages(checkpoint)) {
    refuse(
      "no averages were kept",
      path,
      "a run with --average_decay above 0",
      "0",
      "Leave out --weights average",
    );
  }
  if (weights === "raw" && state.kind === "weights" && keepsAverages(checkpoint)) {
    refuse(
      "holds the averages only",
      path,
      "a folder step-N, which holds the weights as trained too",
      basename(path),
      `npx riffle-vision export ${dirname(path)}/step-N --weights raw`,
    );
  }
}

/** runs/a/best becomes runs/a/best.onnx, torchvision/1.0x torchvision-1.0x.onnx in the working directory. */
function defaultOutput(stem: string, format: ExportFormat): string {
  const ending = {
    safetensors: ".safetensors",
    "safetensors-torchvision": ".torchvision.safetensors",
    "tf-checkpoint": ".tf",
    onnx: ".onnx",
    web: ".web",
  }[format];
  return `${stem}${ending}`;
}

function summary({ path, state, passedOver }: FoundCheckpoint, format: ExportFormat) {
  const { width, variant, classes } = state.model;
  const network = `ShuffleNet V2 ${width.toFixed(1)}x (${variant})`;
  return { format, checkpoint: path, passed_over: passedOver, step: state.step, network, classes };
}

async function exportOnnx(
  { checkpoint, network, program, weights, values }: Source,
  output: string,
  options: ExportOptions,
): Promise<{ bytes: number; check: TensorCheck }> {
  const { imageSize } = program;
  const input = options.input ?? "normalised";
  const model = networkToOnnx(network, program, values, {
    imageSize,
    keepBatchNorm: options.keepBatchNorm ?? false,
    input,
    producerVersion: version(),
    metadata: new Map([...metadataOf(checkpoint, network, weights), ["input", inputInWords(network, input)]]),
  });
  return writeProven(output, encodeOnnx(model), options, async (path) =>
    proveTensors(output, model.graph.initializers, readInitializers(await readFile(path), path)),
  );
}

async function exportSafetensors(
  { checkpoint, network, program, weights, values }: Source,
  output: string,
  format: "safetensors" | "safetensors-torchvision",
  options: ExportOptions,
): Promise<{ bytes: number; check: TensorCheck }> {
  const scheme: Scheme = format === "safetensors" ? "canonical" : "torchvision";
  const named = exportWeights(program, scheme, values);
  const tensors = [...named].map(([name, tensor]) => ({ name, ...tensor }));
  // "pt" is what Hugging Face's libraries want to find in files for PyTorch.
  const metadata = new Map([
    ...metadataOf(checkpoint, network, weights),
    ["format", scheme === "torchvision" ? "pt" : "riffle"],
    ["names", scheme],
  ]);
  return writeProven(output, encodeSafetensors(tensors, metadata), options, async (path) => {
    const file = await openSafetensors(path);
    try {
      const found = new Map<string, ProvenTensor>();
      for (const [name, { shape }] of file.tensors) {
        found.set(name, { shape, bytes: bytesOf(await file.readFloat32(name)) });
      }
      const changed = [...metadata].find(([key, value]) => file.metadata.get(key) !== value);
      if (changed !== undefined) {
        throw unproven(output, `the metadata ${changed[0]} as it was`, "another one");
      }
      const written = new Map(
        [...named].map(([name, { shape, data }]) => [name, { shape, bytes: bytesOf(data) }]),
      );
      return proveTensors(output, written, found);
    } finally {
      await file.close();
    }
  });
}

interface ProvenTensor {
  /** Where the format has several; f32 else. */
  readonly dtype?: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** Every tensor that was written is found under its name, with its shape and its bytes, and nothing else. */
function proveTensors(
  output: string,
  written: ReadonlyMap<string, ProvenTensor>,
  found: ReadonlyMap<string, ProvenTensor>,
): TensorCheck {
  for (const [name, { dtype, shape, bytes }] of written) {
    const tensor = found.get(name);
    const same = tensor?.dtype === dtype && tensor?.shape.join() === shape.join();
    if (!same || Buffer.compare(tensor.bytes, bytes) !== 0) {
      throw unproven(output, `the tensor ${name} [${shape.join(", ")}] as it was`, "another one");
    }
  }
  if (found.size !== written.size) throw unproven(output, `${written.size} tensors`, `${found.size}`);
  return { compared: "tensors", tensors: found.size };
}

/** The lineage's files: every tensor of training that the checkpoint has. */
async function exportTf(
  checkpoint: FoundCheckpoint,
  folder: string,
  options: ExportOptions,
): Promise<ExportResult> {
  const prefix = await exportTfCheckpoint(checkpoint, folder, { replace: options.overwrite ?? false });
  const found = await importTfCheckpoint(prefix);
  const training = checkpoint.state.kind === "training";
  const { layout } = found;
  const expected = await tfStateOf(checkpoint, layout);
  const norms = layout.parameters.filter(({ role }) => role === "beta").length;
  let tensors = 0;
  for (const name of ["parameters", "statistics", "averages", "momentum"] as const) {
    const own = expected[name];
    if (own === undefined) continue;
    const back = found[name];
    if (back === undefined || !bytesOf(back).equals(bytesOf(own))) {
      throw unproven(prefix, `the checkpoint's ${name}, bit for bit`, back === undefined ? "none" : "others");
    }
    tensors += name === "statistics" ? 2 * norms : layout.parameters.length;
  }
  const files = [".index", ".data-00000-of-00001"].map(async (end) => (await stat(`${prefix}${end}`)).size);
  const bytes = (await Promise.all(files)).reduce((sum, size) => sum + size, 0);
  return {
    ...summary(checkpoint, options.format),
    output: prefix,
    bytes,
    weights: training ? "both" : keepsAverages(checkpoint) ? "average" : "raw",
    check: { compared: "tensors", tensors },
  };
}

/** Writes a file whole, has it proven, and gives it its name; else it leaves none. */
async function writeProven<T>(
  output: string,
  pieces: readonly Uint8Array[],
  options: ExportOptions,
  prove: (file: string) => Promise<T>,
): Promise<{ bytes: number; check: T }> {
  const words = {
    safe: "The checkpoint is untouched, and so is what stood under that name",
    hint: "Free space on the disk, or name another file with --output",
  };
  try {
    await makeFolder(dirname(output));
  } catch (error) {
    throw asResourceError(error, output, words);
  }
  return writeWhole(
    output,
    async (file) => {
      for (const piece of pieces) await file.write(piece);
      await file.flush();
      const check = await prove(file.temporary);
      await refuseOccupied(output, options);
      return { bytes: file.bytes, check };
    },
    words,
  );
}

/** Never replaces what the user did not say may go, and never a folder. */
async function refuseOccupied(output: string, { overwrite = false }: ExportOptions): Promise<void> {
  if (!(await exists(output))) return;
  const found = await stat(output);
  const isFile = found.isFile();
  if (isFile && overwrite) return;
  const isFolder = found.isDirectory();
  const kind = isFile ? "a file" : isFolder ? "a folder" : "something else";
  throw new UsageError({
    what: `there is ${kind} of that name already`,
    where: output,
    safe: "It was left as it is",
    hint: isFile
      ? "Replace it with --overwrite, or name another file with --output"
      : isFolder
        ? "Remove it or move it away, or name another with --output"
        : "Name another with --output",
  });
}

function unproven(output: string, expected: string, found: string): CheckpointError {
  return new CheckpointError({
    what: "the file that was written does not give back what went into it",
    where: output,
    expected,
    found,
    safe: "The checkpoint is untouched",
    hint: "Try again; if it happens again, report it with what npx riffle-vision doctor says",
  });
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

function version(): string {
  const file = new URL("../../../package.json", import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}
