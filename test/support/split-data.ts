/** Data in the layouts that people have, and what a run and an evaluation make of it. */

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

import sharp from "sharp";

import type { Dataset } from "../../src/data/dataset.js";
import { encodeExample } from "../../src/formats/tf-example.js";
import { frameRecord } from "../../src/formats/tfrecord.js";
import { evaluate, type EvaluateEvent } from "../../src/inference/evaluate.js";
import type { StartEvent } from "../../src/run/events.js";
import type { GivenSettings } from "../../src/settings/settings.js";
import { scratch, tinySettings, trainAndWatch } from "./tiny-run.js";

export const folder = scratch();
let made = 0;
export const fresh = (name: string): string => join(folder, `${name}-${made++}`);

/** A picture whose bytes are its own, so that no two have one length by more than chance. */
export async function picture(seed: number): Promise<Buffer> {
  const pixels = Buffer.from(
    Array.from({ length: 24 * 24 * 3 }, (_, i) => (i * 7 + seed * 31 + (i % (seed + 2)) * 40) % 256),
  );
  return sharp(pixels, { raw: { width: 24, height: 24, channels: 3 } })
    .jpeg({ quality: 95 })
    .toBuffer();
}

/** A folder with pictures under these names. */
export async function pictures(...names: string[]): Promise<string> {
  const root = fresh("data");
  for (const [i, name] of names.entries()) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), await picture(i));
  }
  return root;
}

export const classes = (root: string, ...parts: string[]): string[] =>
  ["ants", "bees"].flatMap((name) => parts.map((part) => `${root}${name}/${part}.jpg`));
export const numbered = (n: number): string[] => Array.from({ length: n }, (_, i) => `${i}`.padStart(2, "0"));

export function named(set: Dataset | undefined, root: string): string[] {
  return Array.from({ length: set?.size ?? 0 }, (_, i) => set!.name(i).slice(root.length + 1));
}

/** One epoch; every picture in a batch of 4. */
export function given(data: string, more: GivenSettings = {}): GivenSettings {
  return {
    ...tinySettings(data, fresh("run")),
    batch_size: 4,
    max_epochs: 1,
    save_checkpoints_steps: 2,
    ...more,
  };
}

export async function startOf(settings: GivenSettings): Promise<{ start: StartEvent; warnings: string[] }> {
  const { events } = await trainAndWatch(settings);
  const start = events.find((event) => event.event === "start");
  assert.ok(start);
  return { start, warnings: events.flatMap((event) => (event.event === "warning" ? [event.what] : [])) };
}

/** What an evaluation scores: how many, which part, what is said. */
export async function scoredBy(run: string | undefined, settings: GivenSettings = {}) {
  const events: EvaluateEvent[] = [];
  await evaluate(run, settings, (event) => void events.push(event));
  const start = events.find((event) => event.event === "start");
  assert.ok(start);
  const warnings = events.flatMap((event) => (event.event === "warning" ? [event.what] : []));
  return { images: start.images, part: start.part, unused: start.unused, warnings };
}

export function writeShard(path: string, labels: readonly number[], image: Buffer): void {
  mkdirSync(dirname(path), { recursive: true });
  const records = labels.map((label) =>
    frameRecord(
      encodeExample([
        ["image", { kind: "bytes", values: [image] }],
        ["label", { kind: "ints", values: [BigInt(label)] }],
      ]),
    ),
  );
  writeFileSync(path, Buffer.concat(records.flat()));
}
