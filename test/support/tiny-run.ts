/**
 * Runs small enough to be repeated dozens of times: a 0.5x network on 48 made-up pictures of 32 x 32.
 *
 * Six steps an epoch, three epochs: 18 steps, a checkpoint every 4, an evaluation per epoch.
 */

import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";

import { zipSync } from "fflate";

import { Draws, streams } from "../../src/core/random.js";
import type { Reporter, TrainEvent } from "../../src/run/events.js";
import type { GivenSettings } from "../../src/settings/settings.js";
import { train, type TrainResult } from "../../src/train/trainer.js";
import { npyBytes } from "./numpy-bytes.js";

export const steps = 18;
export const stepsPerEpoch = 6;
export const saveEvery = 4;

/** A folder that is removed when the file's tests have ended. */
export function scratch(): string {
  const folder = mkdtempSync(join(tmpdir(), "riffle-test-"));
  after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Writes the set as `.npz`: each of three classes is brightest in one colour. Returns its path. */
export function writeTinySet(folder: string, name = "tiny.npz", seed = 1): string {
  const arrays = {
    ...picturesAndLabels("train_", 48, seed),
    ...picturesAndLabels("val_", 12, seed + 1),
  };
  const path = join(folder, name);
  writeFileSync(path, zipSync(arrays, { level: 0 }));
  return path;
}

/** A run whose weights others may start from: a 0.5x network that saw pictures of 32 px, for a step. Returns its path. */
export async function drawnWeights(folder: string): Promise<string> {
  const run = join(folder, "drawn-weights");
  await train({ ...tinySettings(writeTinySet(folder), run), recipe: "small-set", max_train_steps: 1 });
  return run;
}

export function tinySettings(data: string, run: string): GivenSettings {
  return {
    data_dir: data,
    log_dir: run,
    width: 0.5,
    image_size: 32,
    batch_size: 8,
    eval_batch_size: 5,
    max_epochs: steps / stepsPerEpoch,
    lr: 0.02,
    save_checkpoints_steps: saveEvery,
    keep_checkpoint_max: 100,
    epochs_between_evals: 1,
    log_steps: 1,
    report: false,
  };
}

/** Trains and keeps what was reported; aborts after step `stopAfter` or when `stopAt` says so. */
export async function trainAndWatch(
  given: GivenSettings,
  stopAt: (event: TrainEvent) => boolean = () => false,
): Promise<{ result: TrainResult; events: TrainEvent[] }> {
  const events: TrainEvent[] = [];
  const stop = new AbortController();
  const report: Reporter = (event) => {
    events.push(event);
    if (stopAt(event)) stop.abort();
  };
  const result = await train(given, report, stop.signal);
  return { result, events };
}

/** SHA-256 of every file below a folder, by its path in it. */
export function hashes(folder: string): Record<string, string> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  return Object.fromEntries(
    files
      .map((entry) => join(entry.parentPath, entry.name))
      .sort()
      .map((path) => [path.slice(folder.length + 1), sha256(path)]),
  );
}

/** The bits of all that training carries: weights, moving statistics, momentum, averages. */
export function trainedBits(checkpoint: string | null): string {
  if (checkpoint === null) throw new Error("the run wrote no checkpoint");
  return sha256(join(checkpoint, "weights.safetensors"));
}

function sha256(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

function picturesAndLabels(prefix: string, count: number, seed: number): Record<string, Uint8Array> {
  const labels = Uint8Array.from({ length: count }, (_, i) => i % 3);
  const pictures = new Uint8Array(count * 32 * 32 * 3);
  for (let i = 0; i < count; i++) {
    const draws = new Draws(seed, streams.draw, 0, i);
    for (let j = 0; j < 32 * 32 * 3; j++) {
      pictures[i * 32 * 32 * 3 + j] = draws.below(160) + (j % 3 === labels[i] ? 90 : 0);
    }
  }
  return {
    [`${prefix}images.npy`]: npyBytes("|u1", [count, 32, 32, 3], pictures),
    [`${prefix}labels.npy`]: npyBytes("|u1", [count], labels),
  };
}
