/**
 * A run as files of others: its weights with their classes, the network as ONNX, or all of it as one zip file.
 *
 *     NAME/step-N/, NAME/best/     checkpoints as Node writes them
 *     NAME/data/train/CLASS/*.png  the pictures, and data/val/ those that are held out
 *     NAME/page.json               what only the browser knows: which picture is which file
 *
 * Unpacked it is a run's folder; in it `riffle train --resume .` goes on to the bits of the page, where classes can be folders' names.
 */

import type { TrainingState, Weights } from "../backends/backend.js";
import { ResourceError } from "../core/error.js";
import { riffleVersion } from "../core/version.js";
import { encodeOnnx } from "../formats/onnx.js";
import { encodeSafetensors } from "../formats/safetensors.js";
import { encodeStoredZip, type ZipMember } from "../formats/stored-zip-writer.js";
import { exportWeights } from "../models/tensor-names.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { compile } from "../program/compile.js";
import type { CheckpointState } from "../run/checkpoint-state.js";
import { encodeTensors, weightsFile, type Saved } from "../run/checkpoint-tensors.js";
import { inputInWords, metadataOf } from "../weights/export-metadata.js";
import { networkToOnnx } from "../weights/network-to-onnx.js";
import type { KeptSet } from "./kept-pictures.js";
import { pngOf } from "./png.js";
import type { RunRecord } from "./run-record.js";
import { joined, sha256 } from "./run-store.js";

export const PAGE_FILE = "page.json";

/** What `page.json` holds. */
export interface PageFile {
  readonly name: string;
  readonly created: number;
  /** In the order of the run, by their files below `data/`; absent from a run without its pictures. */
  readonly pictures?: readonly {
    readonly file: string;
    readonly name: string;
    readonly label: number;
    readonly heldOut: boolean;
  }[];
}

export function safetensorsOf(record: RunRecord, weights: Weights): Uint8Array[] {
  const { network, program, metadata } = described(record);
  void network;
  const tensors = [...exportWeights(program, "canonical", weights)].map(([name, tensor]) => ({
    name,
    ...tensor,
  }));
  return encodeSafetensors(tensors, new Map([...metadata, ["format", "riffle"], ["names", "canonical"]]));
}

/** Its input is RGB bytes as floats, [N, 3, size, size]: the graph normalises them. */
export function onnxOf(record: RunRecord, weights: Weights): Uint8Array[] {
  const { network, program, metadata } = described(record);
  const input = "pixels";
  return encodeOnnx(
    networkToOnnx(network, program, weights, {
      imageSize: program.imageSize,
      keepBatchNorm: false,
      input,
      producerVersion: riffleVersion(),
      metadata: new Map([...metadata, ["input", inputInWords(network, input)]]),
    }),
  );
}

function described(record: RunRecord) {
  const { variant, width, classes, image_size: imageSize } = record.model;
  const network = shuffleNetV2({ variant, width, classes });
  const program = compile(network, { batch: 1, imageSize, mode: "infer" });
  const step = record.best?.step ?? record.step;
  const state = stateOf({ ...record, step }, "weights", "");
  const kind = record.settings.average_decay > 0 ? "average" : "raw";
  return { network, program, metadata: metadataOf({ state }, network, kind) };
}

/**
 * @param best of a run that was scored
 * @param set absent where the run has no pictures
 * @throws ResourceError where it is too large for a zip file
 */
export async function zipOf(
  record: RunRecord,
  state: TrainingState,
  best: Weights | undefined,
  set: KeptSet | undefined,
): Promise<Blob> {
  const { model } = record;
  const layout = compile(shuffleNetV2(model), { batch: 1, imageSize: model.image_size, mode: "infer" });
  const folder = fileNameOf(record.name);
  const pictures = set === undefined ? undefined : await pictureFiles(set);
  const fingerprint =
    set === undefined || pictures === undefined ? "" : await fingerprintOf(record, set, pictures);
  const scoredSettings = set?.entries.some(({ heldOut }) => heldOut) === false ? { val_split: 0 } : {};
  const settings = { ...record.settings, ...scoredSettings };
  const members: ZipMember[] = [];
  const add = async (name: string, saved: Saved, of: RunRecord): Promise<void> => {
    const weights = joined(encodeTensors(layout, saved, model));
    const said = stateOf({ ...of, settings }, saved.kind, fingerprint, weights.length);
    const json = new TextEncoder().encode(`${JSON.stringify(said, null, 2)}\n`);
    const sums = `${await sha256(weights)}  ${weightsFile}\n${await sha256(json)}  state.json\n`;
    members.push(
      { name: `${folder}/${name}/${weightsFile}`, content: weights },
      { name: `${folder}/${name}/state.json`, content: json },
      { name: `${folder}/${name}/SHA256SUMS`, content: new TextEncoder().encode(sums) },
    );
  };
  await add(`step-${record.step}`, { kind: "training", state }, record);
  if (best !== undefined && record.best !== null) {
    const { step } = record.best;
    const scores = record.evaluated_step === step ? record.scores : null;
    await add(
      "best",
      { kind: "weights", weights: best },
      { ...record, step, evaluated_step: step, scores, unimproved: 0 },
    );
  }
  const page: PageFile = {
    name: record.name,
    created: record.created,
    ...(pictures === undefined || set === undefined
      ? {}
      : {
          pictures: set.entries.map(({ name, label, heldOut }, i) => ({
            file: pictures[i]?.name ?? "",
            name,
            label,
            heldOut,
          })),
        }),
  };
  members.push({ name: `${folder}/${PAGE_FILE}`, content: new TextEncoder().encode(JSON.stringify(page)) });
  for (const { name, content } of pictures ?? []) members.push({ name: `${folder}/data/${name}`, content });
  try {
    return new Blob(encodeStoredZip(members), { type: "application/zip" });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ResourceError({
      what: "the run is too large for one file",
      found: error.message,
      safe: "The run stays as it is",
      hint: 'Take its weights: exportAs("safetensors")',
    });
  }
}

/** Files below `data/`, in the order of the set: folders of classes, in which names sort as training counts them. */
async function pictureFiles({ entries, pixels, classes }: KeptSet): Promise<ZipMember[]> {
  const folders = foldersOf(classes);
  const files: ZipMember[] = [];
  for (const [i, { label, heldOut, width, height }] of entries.entries()) {
    const png = await pngOf({ width, height, data: pixels[i] as Uint8Array });
    const name = `${heldOut ? "val" : "train"}/${folders[label]}/${String(i + 1).padStart(6, "0")}.png`;
    files.push({ name, content: new Uint8Array(await png.arrayBuffer()) });
  }
  return files;
}

/** The classes' own names where they can be folders' names on all systems. */
function foldersOf(classes: readonly string[]): string[] {
  const names = classes.map(fileNameOf);
  return names.map((name, i) => (names.indexOf(name) === i ? name : `${name}-${i}`));
}

/** Without what some system does not take in a name. */
export function fileNameOf(name: string): string {
  const plain = [...name]
    .map((letter) => (/[<>:"/\\|?*\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(letter) ? "-" : letter))
    .join("");
  const short = plain.replace(/^[. ]+|[. ]+$/g, "").slice(0, 80);
  return short === "" || /^(con|prn|aux|nul|com\d|lpt\d)$/i.test(short) ? `_${short}` : short;
}

/** As src/data/image-folder.ts and `upright` of src/data/dataset.ts find it in these files. */
async function fingerprintOf(
  record: RunRecord,
  { classes, entries }: KeptSet,
  files: readonly ZipMember[],
): Promise<string> {
  const lines = entries.flatMap(({ heldOut, label }, i) => {
    const file = files[i] as ZipMember;
    return heldOut ? [] : [`\n${file.name.slice("train/".length)}\t${file.content.length}\t${label}`];
  });
  const text = JSON.stringify(foldersOf(classes)) + lines.join("");
  const own = await sha256(new TextEncoder().encode(text));
  if (record.settings.exif_orientation !== "apply") return own;
  return sha256(new TextEncoder().encode(`${own}\nupright`));
}

function stateOf(
  record: RunRecord,
  kind: CheckpointState["kind"],
  fingerprint: string,
  bytes = 0,
): CheckpointState {
  const {
    step,
    steps_per_epoch,
    evaluated_step,
    scores,
    best,
    unimproved,
    model,
    settings,
    origins,
    solved,
    train_images,
  } = record;
  const values = Object.entries(settings).filter(([, value]) => value !== undefined);
  return {
    readme:
      kind === "training"
        ? "A Riffle checkpoint, trained in a browser: npx riffle-vision train --resume continues from here, npx riffle-vision predict uses its weights."
        : "The best weights of a Riffle run: npx riffle-vision predict and npx riffle-vision evaluate use them.",
    format: "riffle-checkpoint",
    version: 1,
    kind,
    step,
    steps_per_epoch,
    evaluated_step,
    scores,
    best,
    ...(unimproved > 0 ? { unimproved } : {}),
    model,
    settings: Object.fromEntries(values) as CheckpointState["settings"],
    origins,
    data: { fingerprint, train_images },
    ...(solved === undefined ? {} : { solved }),
    bytes: { [weightsFile]: bytes },
  };
}
