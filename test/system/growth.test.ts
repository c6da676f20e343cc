/** Pictures that grow in the course of a run: its bits, whatever it is stopped by or cut into. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import { UsageError } from "../../src/core/error.js";
import type { TrainEvent } from "../../src/run/events.js";
import type { GivenSettings } from "../../src/settings/settings.js";
import { train } from "../../src/train/trainer.js";
import { needsMpi, startRanks } from "../support/mpi.js";
import { needsNative } from "../support/native.js";
import { scratch, steps, stepsPerEpoch, tinySettings, trainAndWatch, trainedBits, writeTinySet } from "../support/tiny-run.js"; // prettier-ignore

const folder = scratch();
const data = writeTinySet(folder);
/** The pictures grow after the seventh step. */
const growth = 7;
const straight = join(folder, "straight");

function growing(name: string, more: GivenSettings = {}): GivenSettings {
  const grown = { image_size: 40, grow_from: 32, grow_epochs: growth / stepsPerEpoch };
  return { ...tinySettings(data, join(folder, name)), ...grown, ...more };
}

function bitsOf(run: string, step = steps): string {
  return trainedBits(join(folder, run, `step-${step}`));
}

/** Of every step, as text. */
function losses(events: readonly TrainEvent[]): string[] {
  return events.flatMap((event) => (event.event === "step" ? [`${event.step}: ${event.loss}`] : []));
}

let straightLosses: string[] = [];

before(async () => {
  straightLosses = losses((await trainAndWatch(growing("straight"))).events);
});

suite("a run whose pictures grow", () => {
  test("is one on small pictures until they do, and another from then on", async () => {
    const small = { image_size: 32, grow_from: undefined, grow_epochs: undefined };
    const smallLosses = losses((await trainAndWatch(growing("small", small))).events);
    assert.deepEqual(straightLosses.slice(0, growth), smallLosses.slice(0, growth));
    assert.notEqual(straightLosses[growth], smallLosses[growth]);
  });

  test("is scored, and used, on large pictures from the beginning", () => {
    const text = readFileSync(join(straight, "recipe.json"), "utf8");
    assert.equal((JSON.parse(text) as { model: { image_size: number } }).model.image_size, 40);
  });

  for (const stop of [growth - 1, growth, growth + 1]) {
    test(`and which is stopped after step ${stop} goes on to the same bits`, async () => {
      const given = growing(`stopped-${stop}`);
      const { result } = await trainAndWatch(given, (e) => e.event === "step" && e.step === stop);
      assert.equal(result.step, stop);
      await trainAndWatch({ resume: given.log_dir });
      assert.equal(bitsOf(`stopped-${stop}`), bitsOf("straight"));
    });
  }

  test("ends with the same bits in loops, with summaries, and with other threads", async () => {
    await trainAndWatch(growing("loops", { iterations_per_loop: 5, save_summary_steps: 3, threads: 1 }));
    assert.equal(bitsOf("loops"), bitsOf("straight"));
  });

  test("keeps the loss scale that it had found", needsNative(), async () => {
    const mixed: GivenSettings = { precision_mode: "allow_mix_precision", loss_scale_value: 3e38 };
    const { events } = await trainAndWatch(growing("mixed", mixed));
    const scales = events.flatMap((e) => (e.event === "step" ? [e.loss_scale ?? 0] : []));
    assert.ok((scales[0] ?? 0) < 3e38, "the first steps overflow");
    assert.equal(scales[growth], scales[growth - 1]);
    const given = growing("mixed-stopped", mixed);
    await trainAndWatch(given, (e) => e.event === "step" && e.step === growth);
    await trainAndWatch({ resume: given.log_dir });
    assert.equal(bitsOf("mixed-stopped"), bitsOf("mixed"));
  });

  test("is refused where it would not grow, or never be of its full size", async () => {
    for (const more of [{ grow_from: 40 }, { grow_from: undefined }, { grow_epochs: 3 }]) {
      await assert.rejects(train(growing("refused", more)), UsageError);
    }
  });
});

suite("two processes", needsMpi("openmpi"), () => {
  test("grow at the same step, to the bits of one with as many shards", async () => {
    const split = { batch_size: 4 };
    await trainAndWatch(growing("one", { ...split, shards: 2 }));
    const argv = Object.entries(growing("two", split)).map(([name, value]) => `--${name}=${String(value)}`);
    const { code, stderr } = await startRanks("openmpi", 2, ["train", ...argv]).ended;
    assert.equal(code, 0, stderr);
    assert.equal(bitsOf("two"), bitsOf("one"));
  });
});
