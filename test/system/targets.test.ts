/** Training with weighted classes and mixed pictures: its bits, whatever it is stopped by, cut into or shared among. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import { UsageError } from "../../src/core/error.js";
import { openCheckpoint } from "../../src/run/checkpoint.js";
import type { TrainEvent } from "../../src/run/events.js";
import type { GivenSettings } from "../../src/settings/settings.js";
import { train } from "../../src/train/trainer.js";
import { needsMpi, startRanks } from "../support/mpi.js";
import { scratch, tinySettings, trainAndWatch, trainedBits, writeTinySet } from "../support/tiny-run.js"; // prettier-ignore

const folder = scratch();
const data = writeTinySet(folder);

/** 22 of 48 pictures, spread over classes that follow each other in threes: 8, 8 and 6. */
function given(name: string, more: GivenSettings = {}): GivenSettings {
  const set = { train_dataset_size: 22, batch_size: 5, max_epochs: 2 };
  return {
    ...tinySettings(data, join(folder, name)),
    ...set,
    mixup: 0.4,
    class_weights: "balanced",
    ...more,
  };
}

const last = 2 * Math.floor(22 / 5);

function bitsOf(run: string, step = last): string {
  return trainedBits(join(folder, run, `step-${step}`));
}

function losses(events: readonly TrainEvent[]): number[] {
  return events.flatMap((event) => (event.event === "step" ? [event.cross_entropy] : []));
}

let straight: readonly TrainEvent[] = [];

before(async () => {
  ({ events: straight } = await trainAndWatch(given("straight")));
});

suite("weighted classes and mixed pictures", () => {
  test("are another training each, and said", async () => {
    const own = losses(straight);
    const others = { pure: { mixup: 0 }, alike: { class_weights: "none" }, more: { mixup: 1 } } as const;
    for (const [name, more] of Object.entries(others)) {
      assert.notEqual(
        losses((await trainAndWatch(given(name, { ...more, mode: "train", max_train_steps: 1 }))).events)[0],
        own[0],
        name,
      );
    }
    const start = straight.find((event) => event.event === "start");
    // 22 / (3 * 8) and 22 / (3 * 6).
    assert.ok(start?.event === "start");
    assert.deepEqual(start.class_weights, { least: Math.fround(22 / 24), most: Math.fround(22 / 18) });
  });

  test("stopped, in loops and with other threads end with the same bits", async () => {
    await trainAndWatch(given("stopped"), (event) => event.event === "step" && event.step === 3);
    const resumed = await trainAndWatch({
      resume: join(folder, "stopped"),
      iterations_per_loop: 3,
      threads: 1,
    });
    assert.equal(bitsOf("stopped"), bitsOf("straight"));
    assert.deepEqual(losses(resumed.events).at(-1), losses(straight).at(-1));
  });

  test("are refused where there is nothing to mix with", async () => {
    await assert.rejects(train(given("refused", { batch_size: 1 })), UsageError);
  });
});

suite("two processes", needsMpi("openmpi"), () => {
  test("mix, weigh and fit into a time to the bits of one with as many shards and epochs", async () => {
    const made = 6;
    const some = { batch_size: 3, max_train_steps: made };
    const options = given("two", { ...some, budget: "20s", max_epochs: undefined });
    const argv = Object.entries(options).flatMap(([name, value]) =>
      value === undefined ? [] : [`--${name}=${String(value)}`],
    );
    const { code, stderr } = await startRanks("openmpi", 2, ["train", ...argv]).ended;
    assert.equal(code, 0, stderr);
    assert.match(stderr, /mixup 0\.4, classes weighted from 0\.92 to 1\.2,/);
    assert.match(stderr, /epochs that fit into 20s at [\d,.]+ img\/s measured/);
    const { max_epochs } = (await openCheckpoint(join(folder, "two", `step-${made}`))).state.settings;
    await trainAndWatch(given("one", { ...some, shards: 2, max_epochs: Number(max_epochs) }));
    assert.equal(bitsOf("two", made), bitsOf("one", made));
  });
});
