/**
 * Pictures as people bring them, through whole runs: how a camera was held is followed by training, evaluation, prediction and
 * exports alike, and files that were replaced are noticed.
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { cpSync, readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { before, suite, test } from "node:test";

import { unzipSync, zipSync } from "fflate";
import sharp from "sharp";

import { CheckpointError } from "../../src/core/error.js";
import { openSafetensors } from "../../src/formats/safetensors-file.js";
import { evaluate } from "../../src/inference/evaluate.js";
import { openPredictor } from "../../src/inference/predict.js";
import { drawFolder } from "../../src/prepare/draw/draw-folder.js";
import { exportRun } from "../../src/weights/export-run.js";
import type { GivenSettings } from "../../src/settings/settings.js";
import { heldJpeg } from "../support/exif.js";
import { pixelsOf } from "../support/picture-pixels.js";
import { storedPath } from "../support/shared.js";
import { scratch, tinySettings, trainAndWatch, writeTinySet } from "../support/tiny-run.js";

const folder = scratch();
const photos = join(folder, "photos");
const run = join(folder, "run");
/** One epoch of what people get who give no recipe. */
const short: GivenSettings = { width: 0.5, image_size: 32, batch_size: 8, max_epochs: 1, threads: 1 };

before(async () => {
  await drawFolder({ folder: photos, seed: 4, size: 40, train: 20, validation: 10 });
  // Each as a camera on its side stores it.
  for (const name of jpegsIn(photos)) writeFileSync(name, heldJpeg(readFileSync(name), 6));
  await trainAndWatch({ ...short, data_dir: photos, log_dir: run });
});

function jpegsIn(path: string): string[] {
  return readdirSync(path, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".jpg"))
    .sort()
    .map((name) => join(path, name));
}

async function logits(of: string, file: string, given: GivenSettings = {}): Promise<readonly number[]> {
  const predictor = await openPredictor(of, { eval_batch_size: 1, ...given });
  try {
    for await (const result of predictor.predict([file], { logits: true })) {
      assert.ok("top" in result, JSON.stringify(result));
      return result.logits ?? [];
    }
    throw new Error("no result");
  } finally {
    await predictor.close();
  }
}

interface State {
  model: { exif_orientation?: string };
  settings: Record<string, unknown>;
  data: { content?: (string | null)[]; fingerprint: string };
}

function stateIn(checkpoint: string): State {
  return JSON.parse(readFileSync(join(checkpoint, "state.json"), "utf8")) as State;
}

/** The checkpoint as an earlier version would have written it. */
function rewriteState(checkpoint: string, change: (state: State) => void): void {
  const state = stateIn(checkpoint);
  change(state);
  const text = JSON.stringify(state);
  writeFileSync(join(checkpoint, "state.json"), text);
  const sums = join(checkpoint, "SHA256SUMS");
  const sum = createHash("sha256").update(text).digest("hex");
  writeFileSync(sums, readFileSync(sums, "latin1").replace(/[0-9a-f]{64}(?= {2}state)/, sum));
}

suite("how the camera was held", () => {
  test("is followed by the recipe for small sets, and kept with the model", async () => {
    assert.equal(stateIn(join(run, "best")).model.exif_orientation, "apply");
    assert.equal(stateIn(join(run, "best")).settings["exif_orientation"], "apply");
    const { output } = await exportRun(run, { format: "safetensors" });
    const file = await openSafetensors(output);
    await file.close();
    assert.equal(file.metadata.get("exif_orientation"), "apply");
  });

  test("is followed by prediction and evaluation as it was by training, unless they are told otherwise", async () => {
    const [held = ""] = jpegsIn(join(photos, "val"));
    const turned = join(folder, "turned.png");
    const { data, width, height } = await pixelsOf(readFileSync(held), held, "auto", true);
    await sharp(data, { raw: { width, height, channels: 3 } })
      .png()
      .toFile(turned);
    assert.deepEqual(await logits(run, held), await logits(run, turned));
    assert.notDeepEqual(await logits(run, held, { exif_orientation: "ignore" }), await logits(run, turned));
    const scores = await evaluate(run, {});
    assert.deepEqual(scores, await evaluate(run, { exif_orientation: "apply" }));
    assert.notDeepEqual(scores, await evaluate(run, { exif_orientation: "ignore" }));
  });

  test("is ignored by the recipes of ImageNet and by checkpoints that do not say, which go on as they began", async () => {
    const old = join(folder, "old");
    const given = { ...short, data_dir: photos, log_dir: old, max_epochs: 2 };
    await trainAndWatch({ ...given, recipe: "original", max_train_steps: 2 });
    assert.equal(stateIn(join(old, "step-2")).model.exif_orientation, "ignore");
    for (const name of ["step-2", "best"]) {
      rewriteState(join(old, name), (state) => {
        delete state.model.exif_orientation;
        delete state.settings["exif_orientation"];
        delete state.data.content;
      });
    }
    const { result } = await trainAndWatch({ resume: old, max_train_steps: 4 });
    assert.equal(result.step, 4);
    const [held = ""] = jpegsIn(join(photos, "val"));
    assert.deepEqual(await logits(old, held), await logits(old, held, { exif_orientation: "ignore" }));
  });
});

test("weights from elsewhere predict photographs upright, and are evaluated on pictures as they are stored", async () => {
  const imported = join(folder, "imported");
  cpSync(run, imported, { recursive: true });
  rewriteState(join(imported, "best"), (state) => {
    delete state.model.exif_orientation;
    // As riffle import leaves what it has made.
    Object.assign(state, { step: 0, settings: {}, data: { fingerprint: "", train_images: 0 } });
  });
  const [held = ""] = jpegsIn(join(photos, "val"));
  assert.deepEqual(await logits(imported, held), await logits(run, held));
  const given = { data_dir: photos };
  assert.deepEqual(
    await evaluate(imported, given),
    await evaluate(run, { ...given, exif_orientation: "ignore" }),
  );
});

test("that animations have further frames, which are left out, is said once", async () => {
  const set = join(folder, "moving");
  cpSync(photos, set, { recursive: true });
  const [beside = ""] = jpegsIn(join(set, "train"));
  for (const name of ["moving.gif", "moving.webp", "still.gif"])
    cpSync(storedPath("golden", "pictures", name), join(dirname(beside), name));
  const { events } = await trainAndWatch({
    ...{ ...short, data_dir: set, log_dir: join(folder, "moving-run"), max_train_steps: 1 },
  });
  const said = events.flatMap((event) => (event.event === "warning" ? [event.what] : []));
  assert.deepEqual(
    said.filter((what) => what.includes("frames")),
    ["2 pictures have further frames or pages, which are left out: the first is used"],
  );
});

suite("pictures that were replaced by others of the same length", () => {
  test("are noticed by a run that goes on, and named", async () => {
    const set = join(folder, "replaced");
    cpSync(photos, set, { recursive: true });
    const log_dir = join(folder, "replaced-run");
    const given = { ...short, data_dir: set, log_dir, max_train_steps: 1 };
    await trainAndWatch({ ...given, max_epochs: 2 });
    const [file = ""] = jpegsIn(join(set, "train"));
    const bytes = readFileSync(file);
    const changed = Buffer.from(bytes);
    changed[changed.length - 8]! ^= 1;
    writeFileSync(file, changed);
    // As if it had been there all the time.
    utimesSync(file, 1e9, 1e9);
    await assert.rejects(
      trainAndWatch({ resume: log_dir, max_train_steps: 2 }),
      (error) =>
        error instanceof CheckpointError &&
        error.problem.where === file &&
        /pictures were replaced/.test(error.problem.what),
    );
    writeFileSync(file, bytes);
    const { result } = await trainAndWatch({ resume: log_dir, max_train_steps: 2 });
    assert.equal(result.step, 2);
  });

  test("are noticed in a .npz, whichever of its pictures they are", async () => {
    const set = writeTinySet(folder, "replaced.npz");
    const log_dir = join(folder, "npz-run");
    await trainAndWatch({ ...tinySettings(set, log_dir), max_train_steps: 1 });
    const members = unzipSync(readFileSync(set));
    const images = Object.entries(members).find(([name]) => name.startsWith("train_images"))?.[1];
    assert.ok(images !== undefined);
    images[images.length - 5]! ^= 1;
    writeFileSync(set, zipSync(members, { level: 0 }));
    await assert.rejects(trainAndWatch({ resume: log_dir, max_train_steps: 2 }), /pictures were replaced/);
  });
});
