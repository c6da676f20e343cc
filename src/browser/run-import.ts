/** A run that comes as a zip file: one that a page exported, or a run's folder from Node, zipped without compression. */

import { CheckpointError, FormatError, RiffleError, UsageError } from "../core/error.js";
import { StoredZip } from "../formats/stored-zip.js";
import type { CheckpointState } from "../run/checkpoint-state.js";
import { weightsFile } from "../run/checkpoint-tensors.js";
import { runLength } from "../settings/schedule.js";
import { decodePicture } from "./decoded-picture.js";
import type { KeptSet } from "./kept-pictures.js";
import { PAGE_FILE, type PageFile } from "./run-export.js";
import { parseRecord, type RunRecord } from "./run-record.js";
import { sha256 } from "./run-store.js";

/** What of it is to be written. */
export interface ImportedRun {
  readonly record: Omit<RunRecord, "files" | "name"> & { readonly name: string | undefined };
  readonly last: Uint8Array<ArrayBuffer>;
  readonly best: Uint8Array<ArrayBuffer> | undefined;
  readonly set: KeptSet | undefined;
}

const MOST_BYTES = 2 ** 31;

/** @throws CheckpointError where it is none, or damaged */
export async function readRun(file: Blob): Promise<ImportedRun> {
  const where = "name" in file && typeof file.name === "string" ? file.name : "the file";
  try {
    if (file.size > MOST_BYTES)
      throw refused(
        where,
        "is longer than any run that is read",
        `at most ${MOST_BYTES} bytes`,
        `${file.size}`,
      );
    const bytes = new Uint8Array(await file.arrayBuffer());
    return await unpacked(
      StoredZip.open(bytes, where, () => undefined),
      where,
    );
  } catch (error) {
    if (error instanceof CheckpointError || !(error instanceof RiffleError)) throw error;
    const { what, expected, found, where: place } = error.problem;
    const isPacked = /compressed by method/.test(what);
    throw new CheckpointError(
      {
        what: isPacked ? "the file is compressed, and only stored zip files are read" : `is no run: ${what}`,
        where: place ?? where,
        expected: expected ?? 'a zip file as exportAs("run") makes it',
        found,
        safe: "Nothing was kept",
        ...(isPacked
          ? { hint: "Zip the run's folder again without compression: zip -0 -r RUN.zip RUN" }
          : {}),
      },
      error instanceof FormatError ? error : undefined,
    );
  }
}

async function unpacked(zip: StoredZip, where: string): Promise<ImportedRun> {
  const steps = zip.names.flatMap((name) => {
    const found = /^((?:[^/]+\/)?)step-(0|[1-9]\d{0,14})\/state\.json$/.exec(name);
    return found === null ? [] : [{ root: found[1] as string, step: Number(found[2]) }];
  });
  const newest = steps.sort((a, b) => b.step - a.step)[0];
  if (newest === undefined)
    throw refused(
      where,
      "holds no checkpoint",
      "a folder step-N",
      zip.names.slice(0, 5).join(", ") || "nothing",
    );
  const { root } = newest;
  const last = await checkpoint(zip, `${root}step-${newest.step}`, where);
  const best =
    zip.content(`${root}best/state.json`) === undefined
      ? undefined
      : await checkpoint(zip, `${root}best`, where);
  const text = zip.content(`${root}${PAGE_FILE}`);
  const page = text === undefined ? undefined : (JSON.parse(new TextDecoder().decode(text)) as PageFile);
  const { state } = last;
  const folder = root.replace(/\/$/, "");
  const set =
    page?.pictures === undefined
      ? undefined
      : await picturesOf(zip, `${root}data/`, page.pictures, state, where);
  const record = recordOf(state, page, where);
  return {
    record: {
      ...record,
      name: page?.name ?? (folder === "" ? undefined : folder),
      best: best === undefined ? null : record.best,
    },
    last: last.weights,
    best: best?.weights,
    set,
  };
}

/** What the checkpoint says, held to what a run's record is. */
function recordOf(state: CheckpointState, page: PageFile | undefined, where: string): RunRecord {
  const { settings, data, solved } = state;
  const checked = parseRecord(
    JSON.stringify({
      ...state,
      format: "riffle-browser-run",
      version: 1,
      name: "imported",
      created: Number.isFinite(page?.created) ? page?.created : Date.now(),
      settings,
      unimproved: state.unimproved ?? 0,
      steps: 0,
      train_images: data?.train_images,
      best: state.best === null || state.best?.loss === undefined ? null : state.best,
      files: { last: { name: "last-0", bytes: 0 }, best: null },
    }),
    where,
  );
  if (
    checked.settings.grow_from !== undefined ||
    checked.settings.mixup > 0 ||
    checked.settings.class_weights === "balanced" ||
    (checked.settings.shards ?? 1) > 1
  )
    return { ...checked, steps: checked.step };
  const length = runLength({ ...checked.settings, shards: 1 }, checked.train_images, solved !== undefined);
  return { ...checked, steps: length.steps, steps_per_epoch: length.stepsPerEpoch };
}

/** A checkpoint whose bytes are those that were saved. */
async function checkpoint(zip: StoredZip, folder: string, where: string) {
  const contentOf = (name: string): Uint8Array<ArrayBuffer> => {
    const content = zip.content(`${folder}/${name}`);
    if (content === undefined)
      throw refused(where, "the checkpoint is not whole", `${folder}/${name}`, "no such file");
    return content.slice();
  };
  const [weights, json] = [contentOf(weightsFile), contentOf("state.json")];
  const sums = `${await sha256(weights)}  ${weightsFile}\n${await sha256(json)}  state.json\n`;
  if (new TextDecoder().decode(contentOf("SHA256SUMS")) !== sums)
    throw refused(where, "the checkpoint is damaged", `the sums in ${folder}/SHA256SUMS`, "others");
  const state = JSON.parse(new TextDecoder().decode(json)) as CheckpointState;
  if (state.format !== "riffle-checkpoint" || state.version !== 1)
    throw refused(
      where,
      "is of another version",
      "riffle-checkpoint version 1",
      `${state.format} ${state.version}`,
    );
  return { weights, state };
}

async function picturesOf(
  zip: StoredZip,
  folder: string,
  pictures: NonNullable<PageFile["pictures"]>,
  { model }: CheckpointState,
  where: string,
): Promise<KeptSet> {
  const entries: KeptSet["entries"][number][] = [];
  const pixels: Uint8Array[] = [];
  for (const { file, name, label, heldOut } of pictures) {
    const content = zip.content(`${folder}${file}`);
    if (content === undefined)
      throw refused(where, "a picture of the run is missing", `${folder}${file}`, "no such file");
    const { width, height, data } = await decodePicture({ name: file, content: new Blob([content.slice()]) });
    entries.push({ name: String(name), label, heldOut: heldOut === true, width, height });
    pixels.push(data);
  }
  return { classes: model.class_names, entries, pixels };
}

/** @throws UsageError */
export function nameFor(given: string | undefined, { record }: ImportedRun): string {
  const name = given ?? record.name;
  if (name !== undefined) return name;
  throw new UsageError({
    what: "the run needs a name",
    expected: "one that is given, or a folder in the file",
    found: "neither",
    safe: "Nothing was kept",
  });
}

function refused(where: string, what: string, expected: string, found: string): CheckpointError {
  return new CheckpointError({ what, where, expected, found, safe: "Nothing was kept" });
}
