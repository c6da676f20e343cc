import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import sharp from "sharp";

import { DataError } from "../../src/core/error.js";
import { Draws, streams } from "../../src/core/random.js";
import { evaluate } from "../../src/inference/evaluate.js";
import { openPredictor, predict, type Prediction, type Refused } from "../../src/inference/predict.js";
import { train } from "../../src/train/trainer.js";
import { scratch, tinySettings, writeTinySet } from "../support/tiny-run.js";

const folder = scratch();
const photos = join(folder, "photos");
const run = join(folder, "run");
const classes = ["blue", "green", "red"];

/** A noisy picture whose brightest colour is its class. */
async function writePicture(path: string, name: string, seed: number): Promise<void> {
  const draws = new Draws(seed, streams.draw, 0, 0);
  const brightest = ["red", "green", "blue"].indexOf(name);
  const pixels = Uint8Array.from(
    { length: 40 * 40 * 3 },
    (_, i) => draws.below(120) + (i % 3 === brightest ? 120 : 0),
  );
  await sharp(pixels, { raw: { width: 40, height: 40, channels: 3 } })
    .png()
    .toFile(path);
}

async function writeFolder(
  root: string,
  names: readonly string[],
  count: number,
  seed: number,
): Promise<void> {
  for (const [c, name] of names.entries()) {
    mkdirSync(join(root, name), { recursive: true });
    for (let i = 0; i < count; i++)
      await writePicture(join(root, name, `${i}.png`), name, seed + 100 * c + i);
  }
}

function isPrediction(result: Prediction | Refused): result is Prediction {
  return "top" in result;
}

before(async () => {
  await writeFolder(join(photos, "train"), classes, 32, 0);
  await writeFolder(join(photos, "val"), classes, 4, 1000);
  await train({
    ...tinySettings(photos, run),
    flip: false,
    augment: "none",
    batch_size: 16,
    lr: 0.05,
    max_epochs: 12,
  });
});

suite("a network trained on a folder of pictures", () => {
  test("knows its validation set", async () => {
    const scores = await evaluate(run, {});
    assert.equal(scores.images, 12);
    assert.ok(scores.top1 >= 0.9, `${scores.top1}`);
  });

  test("names the class of a picture, the most probable first, adding up to 1", async () => {
    const files = classes.map((name) => join(photos, "val", name, "0.png"));
    const results = await predict(run, files, { logits: true });
    results.forEach((result, i) => {
      assert.ok(isPrediction(result));
      assert.equal(result.file, files[i]);
      assert.equal(result.top[0]?.name, classes[i]);
      assert.equal(result.top.length, 3);
      const probabilities = result.top.map((guess) => guess.probability);
      assert.ok(Math.abs(probabilities.reduce((a, b) => a + b, 0) - 1) < 1e-12);
      assert.deepEqual(
        probabilities,
        [...probabilities].sort((a, b) => b - a),
      );
      assert.equal(result.logits?.length, 3);
      assert.equal(result.logits.indexOf(Math.max(...result.logits)), result.top[0]?.index);
    });
  });

  test("gives each file its result in order, the unusable ones too, whatever the batch", async () => {
    const text = join(folder, "text.jpg");
    const cut = join(folder, "cut.png");
    const empty = join(folder, "empty.png");
    writeFileSync(text, "not a picture");
    writeFileSync(empty, "");
    const good = join(photos, "val", "red", "1.png");
    writeFileSync(cut, (await sharp(good).png().toBuffer()).subarray(0, 700));
    const archive = writeTinySet(folder);
    const files = [text, good, join(folder, "missing.jpg"), cut, good, archive, good, empty];
    const seen = new Set<string>();
    for (const eval_batch_size of [1, 2, 64]) {
      const predictor = await openPredictor(run, { eval_batch_size });
      const results: (Prediction | Refused)[] = [];
      for await (const result of predictor.predict(files, { top: 1 })) results.push(result);
      await predictor.close();
      const inArchive = results.filter(({ file }) => file.startsWith(`${archive}#`));
      assert.equal(inArchive.length, 12);
      assert.equal(inArchive[11]?.file, `${archive}#11`);
      assert.deepEqual(
        results.filter(({ file }) => !file.startsWith(archive)).map((r) => [r.file, isPrediction(r)]),
        files.filter((file) => file !== archive).map((file) => [file, file === good]),
      );
      for (const result of results) if (!isPrediction(result)) assert.ok(result.error.length > 0);
      seen.add(JSON.stringify(results.map((r) => (isPrediction(r) ? r.top[0]?.index : null))));
    }
    assert.equal(seen.size, 1, [...seen].join("\n"));
  });

  test("is scored on other pictures by the names of their classes", async () => {
    const other = join(folder, "other");
    await writeFolder(other, ["red", "blue"], 3, 5000);
    const scores = await evaluate(run, { data_dir: other });
    assert.equal(scores.images, 6);
    assert.ok(scores.top1 >= 0.8, `${scores.top1}: blue and red have other numbers there`);
  });

  test("is not scored on a class it never saw", async () => {
    const other = join(folder, "unknown");
    await writeFolder(other, ["red", "violet"], 1, 6000);
    await assert.rejects(evaluate(run, { data_dir: other }), (error) => {
      assert.ok(error instanceof DataError);
      assert.equal(error.problem.found, "violet");
      return true;
    });
  });

  test("is not scored on a broken picture unless that is allowed, and then without it", async () => {
    const other = join(folder, "broken");
    await writeFolder(other, ["red", "blue"], 2, 7000);
    writeFileSync(join(other, "red", "z.png"), "broken");
    await assert.rejects(evaluate(run, { data_dir: other }), DataError);
    const bad: string[] = [];
    const scores = await evaluate(run, { data_dir: other, max_bad_images: 1 }, (event) => {
      if (event.event === "bad_image") bad.push(event.file);
    });
    assert.equal(scores.images, 4);
    assert.deepEqual(bad, [join(other, "red", "z.png")]);
  });
});
