/**
 * `split.json` in a run's folder: which pictures the run trains on and which it held out, by name, so that they are
 * found again when the data has moved or has changed. Written once, before the first checkpoint; every checkpoint knows
 * its SHA-256.
 */

import { createHash } from "node:crypto";
import { dirname, join } from "node:path";

import { z } from "zod";

import { replaceFile } from "../core/durable.js";
import { CheckpointError } from "../core/error.js";
import type { SplitRecord } from "../data/held-out.js";
import type { OpenOptions } from "../data/sets.js";
import { readWhole } from "../formats/read-file.js";
import { untouched } from "./checkpoint-error.js";
import type { CheckpointState, SplitState } from "./checkpoint-state.js";

export const SPLIT_FILE = "split.json";

export function splitStateOf(record: SplitRecord): SplitState {
  const { drawn, heldOut } = record;
  return { share: drawn?.share ?? null, held_out: heldOut.size, sha256: sha256(textOf(record)) };
}

/** Writes the record whole. */
export async function writeSplit(runDir: string, record: SplitRecord): Promise<void> {
  await replaceFile(join(runDir, SPLIT_FILE), [Buffer.from(textOf(record))]);
}

/** How the data of a checkpoint's run is opened: as the run remembers its split. */
export interface RememberedSplit extends Pick<OpenOptions, "record" | "byNumber"> {
  /** What a draw has to give where the run's memory is lost. */
  readonly lost?: SplitState;
}

/** What a checkpoint's run remembers; the checkpoint may have been taken out of the run's folder. */
export async function rememberedSplit(
  path: string,
  { split }: Pick<CheckpointState, "split">,
): Promise<RememberedSplit> {
  if (split === undefined) return { byNumber: true };
  const bytes = await readWhole(join(dirname(path), SPLIT_FILE), MAX_BYTES).catch(() => undefined);
  if (bytes === undefined || sha256(bytes) !== split.sha256) return { lost: split };
  const { drawn, fingerprint, held_out, trained } = schema.parse(JSON.parse(Buffer.from(bytes).toString()));
  const names = (of: Readonly<Record<string, number>>) => new Map(Object.entries(of));
  return { record: { drawn, fingerprint, heldOut: names(held_out), trained: names(trained) } };
}

/** @throws CheckpointError where the run's memory is lost, and its data is not what it was. */
export function checkDrawn(
  { lost }: RememberedSplit,
  record: SplitRecord | undefined,
  checkpoint: string,
): void {
  if (lost === undefined || lost.share === null) return;
  if (record !== undefined && splitStateOf(record).sha256 === lost.sha256) return;
  throw new CheckpointError({
    what: `${SPLIT_FILE} of the run is missing or damaged, and the data is not what it was, so which pictures were held out cannot be told`,
    where: join(dirname(checkpoint), SPLIT_FILE),
    expected: `SHA-256 ${lost.sha256}`,
    found: "other or no names",
    ...untouched,
    hint: "Put the file back, or score other pictures with --data_dir",
  });
}

const MAX_BYTES = 2 ** 30;

const names = z.record(z.string(), z.int().nonnegative());
const schema = z.strictObject({
  readme: z.string(),
  format: z.literal("riffle-split"),
  version: z.literal(1),
  drawn: z.strictObject({ share: z.number(), seed: z.number() }).nullable(),
  fingerprint: z.string(),
  held_out: names,
  trained: names,
});

function textOf({ drawn, fingerprint, heldOut, trained }: SplitRecord): string {
  const file: z.infer<typeof schema> = {
    readme:
      "The pictures that a Riffle run held out and those that it trains on, with their lengths: evaluation and a resume go by these names.",
    format: "riffle-split",
    version: 1,
    drawn,
    fingerprint,
    held_out: Object.fromEntries(heldOut),
    trained: Object.fromEntries(trained),
  };
  return `${JSON.stringify(file, null, 1)}\n`;
}

function sha256(content: string | Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}
