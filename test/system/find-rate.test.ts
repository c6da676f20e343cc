/** `riffle find-lr`: what it tries is what training would make, and nothing of it is kept. */

import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import type { GivenSettings } from "../../src/settings/settings.js";
import { findRate } from "../../src/train/find-rate.js";
import { drawnWeights, scratch, tinySettings, trainAndWatch, writeTinySet } from "../support/tiny-run.js";

const folder = scratch();
const data = writeTinySet(folder);

function given(more: GivenSettings = {}): GivenSettings {
  return { ...tinySettings(data, join(folder, "run")), mixup: 0.2, class_weights: "balanced", ...more };
}

suite("a test of learning rates", () => {
  test("begins with training's own first step, and ends where the loss runs away", async () => {
    const steps: number[] = [];
    const test = { from: 1e-4, to: 100, steps: 40 };
    const found = await findRate(given(), test, undefined, ({ rate }) => steps.push(rate));
    const { tried, diverged } = found;
    assert.equal(tried.length, steps.length);
    assert.ok(diverged && tried.length < 40, `${tried.length} steps`);
    assert.ok(Math.abs((steps[1] as number) / 1e-4 - 1e6 ** (1 / 39)) < 1e-9);
    assert.equal(found.smooth.length, tried.length);
    assert.ok(!existsSync(join(folder, "run")) && !readdirSync(folder).includes("model_1p"));
    const { events } = await trainAndWatch(given({ max_train_steps: 1 }));
    const step = events.find((event) => event.event === "step");
    assert.ok(step?.event === "step");
    assert.equal(tried[0]?.loss, step.cross_entropy);
    // A run in the folder is in nobody's way.
    const before = readdirSync(join(folder, "run"));
    await findRate(given(), { from: 1e-4, to: 1e-3, steps: 3 });
    assert.deepEqual(readdirSync(join(folder, "run")), before);
  });

  test("is refused where no step is made", async () => {
    const frozen = {
      init_from: await drawnWeights(folder),
      recipe: "fine-tune",
      freeze: true,
      num_classes: 4,
    } as const;
    await assert.rejects(findRate(given(frozen), { from: 1e-4, to: 1, steps: 20 }), /no rate to look for/);
  });
});
