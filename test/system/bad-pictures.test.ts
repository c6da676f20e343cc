import assert from "node:assert/strict";
import { cpSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import sharp from "sharp";

import { DataError } from "../../src/core/error.js";
import { Draws, streams } from "../../src/core/random.js";
import { Sampler } from "../../src/data/sampler.js";
import type { GivenSettings } from "../../src/settings/settings.js";
import { train } from "../../src/train/trainer.js";
import { damageBehindHeader } from "../support/damage.js";
import { scratch, stepsPerEpoch, tinySettings, trainedBits } from "../support/tiny-run.js";

const folder = scratch();
const pictures = 48;
const classes = ["a", "b", "c"];
/** Met at the fifth step: the one picture that does not decode. */
const bad = new Sampler({ size: pictures, seed: 1, shuffle: true }).sample(0, 8 * 4 + 3);

const nameOf = (sample: number): string =>
  join(classes[Math.floor(sample / 16)] as string, `${String(sample % 16).padStart(2, "0")}.png`);

/** 16 pictures of each class, brightest in one colour; `broken` is none. */
async function writePictures(root: string): Promise<void> {
  for (const name of classes) mkdirSync(join(root, name), { recursive: true });
  for (let sample = 0; sample < pictures; sample++) {
    const draws = new Draws(3, streams.draw, 0, sample);
    const pixels = Buffer.from(
      Array.from({ length: 32 * 32 * 3 }, (_, i) => draws.below(160) + (i % 3 === sample % 3 ? 90 : 0)),
    );
    const image = sharp(pixels, { raw: { width: 32, height: 32, channels: 3 } });
    await image.png().toFile(join(root, nameOf(sample)));
  }
}

function given(data: string, run: string): GivenSettings {
  return { ...tinySettings(data, run), val_split: 0, seed: 1, save_checkpoints_steps: 100, max_epochs: 2 };
}

/** What the run ends with, and the commands that its hint names. */
async function problemOf(settings: GivenSettings): Promise<{ safe: string; commands: GivenSettings[] }> {
  let problem: DataError["problem"] | undefined;
  await assert.rejects(train(settings), (error) => {
    assert.ok(error instanceof DataError, String(error));
    assert.equal(error.exitCode, 3);
    problem = error.problem;
    return true;
  });
  const found = (problem?.hint ?? "").matchAll(
    /npx riffle-vision train --resume ('[^']+'|[^\s;]+)(?: --max_bad_images (\d+))?/g,
  );
  const commands = [...found].map(([, resume, allowed]) => ({
    resume: (resume as string).replaceAll("'", ""),
    ...(allowed === undefined ? {} : { max_bad_images: Number(allowed) }),
  }));
  return { safe: problem?.safe ?? "", commands };
}

suite("H6: a picture damaged behind its header, met in the middle of a run", () => {
  const data = join(folder, "data");
  let expected: string;
  before(async () => {
    await writePictures(data);
    damageBehindHeader(join(data, nameOf(bad)));
    const allowed = await train({ ...given(data, join(folder, "allowed")), max_bad_images: 1 });
    expected = trainedBits(allowed.checkpoint);
  });

  for (const [how, cache] of [
    ["removing it", "none"],
    ["removing it", "resized"],
    ["leaving it out", "none"],
  ] as const) {
    const with_ = cache === "none" ? "" : `, with --cache ${cache}`;
    test(`costs nothing: the weights are saved, and ${how} as the hint says ends with the bits of a run that left it out${with_}`, async () => {
      const own = join(folder, `data ${how} ${cache}`.replaceAll(" ", "-"));
      cpSync(data, own, { recursive: true });
      const run = join(folder, `run ${how} ${cache}`);
      const cached = cache === "none" ? {} : { cache, cache_dir: join(folder, "cache") };
      const { safe, commands } = await problemOf({ ...given(own, run), ...cached });
      assert.match(safe, /weights of step 4 were saved/);
      const [afterRemoving, leavingOut] = commands;
      assert.ok(afterRemoving?.max_bad_images === undefined && leavingOut?.max_bad_images !== undefined);
      if (how === "removing it") rmSync(join(own, nameOf(bad)));
      const { step, checkpoint } = await train(how === "removing it" ? afterRemoving! : leavingOut);
      assert.equal(step, 2 * stepsPerEpoch);
      if (cache === "none") assert.equal(trainedBits(checkpoint), expected);
    });
  }

  test("that is held out for validation is left out the same way", async () => {
    const own = join(folder, "held-out");
    await writePictures(own);
    const settings = { ...given(own, join(folder, "run-held-out")), val_split: 0.25 };
    // Some picture that is evaluated and not trained on.
    const { openDatasets } = await import("../../src/data/sets.js");
    const { validation } = await openDatasets(own, { valSplit: 0.25, seed: 1 });
    const name = validation!.name(5);
    damageBehindHeader(name);
    const { commands } = await problemOf(settings);
    rmSync(name);
    const { scores } = await train(commands[0]!);
    assert.equal(scores?.images, 11);
  });

  test("another picture that is gone is another data set", async () => {
    const own = join(folder, "others");
    cpSync(data, own, { recursive: true });
    const run = join(folder, "run-others");
    const { commands } = await problemOf(given(own, run));
    rmSync(join(own, nameOf(bad)));
    rmSync(join(own, nameOf((bad + 1) % pictures)));
    await assert.rejects(train(commands[0]!), /training data is not that of the checkpoint/);
  });
});
