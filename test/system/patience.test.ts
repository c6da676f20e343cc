/** A run that ends because its evaluations no longer get better: where, and what a resume makes of it. */

import assert from "node:assert/strict";
import { cpSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import { UsageError } from "../../src/core/error.js";
import { openCheckpoint } from "../../src/run/checkpoint.js";
import type { EndEvent, TrainEvent } from "../../src/run/events.js";
import type { GivenSettings } from "../../src/settings/settings.js";
import { train } from "../../src/train/trainer.js";
import { scratch, stepsPerEpoch, tinySettings, trainAndWatch, trainedBits, writeTinySet } from "../support/tiny-run.js"; // prettier-ignore

const folder = scratch();
const data = writeTinySet(folder);
const epochs = 10;
const patience = 2;

/** Learns its pictures by heart, so that some evaluations are better than those before them and some are not. */
function given(name: string, more: GivenSettings = {}): GivenSettings {
  const learning = { average_decay: 0, lr: 0.05, augment: "none", max_epochs: epochs } as const;
  const log_dir = join(folder, name);
  return { ...tinySettings(data, log_dir), ...learning, save_checkpoints_steps: stepsPerEpoch, ...more };
}

/** Of each evaluation whether it was the best so far. */
let wereBest: boolean[] = [];
/** The step at which `patience` evaluations in a row were none. */
let expected = 0;

before(async () => {
  const { events, result } = await trainAndWatch(given("straight"));
  assert.equal(result.reason, "steps");
  wereBest = events.flatMap((event) => (event.event === "evaluation" ? [event.best] : []));
  const at = wereBest.findIndex((_, i) => i + 1 >= patience && !wereBest.slice(i + 1 - patience, i + 1).includes(true)); // prettier-ignore
  expected = stepsPerEpoch * (at + 1);
  assert.ok(at >= patience && expected < epochs * stepsPerEpoch, `best: ${wereBest.join(" ")}`);
});

function endOf(events: readonly TrainEvent[]): EndEvent {
  const end = events.at(-1);
  assert.ok(end?.event === "end", end?.event);
  return end;
}

/** Ended early, where the straight run had these weights. */
function assertEnded(events: readonly TrainEvent[], run: string): void {
  const { step, reason, unimproved, best } = endOf(events);
  const lastBest = stepsPerEpoch * (wereBest.lastIndexOf(true, expected / stepsPerEpoch - 1) + 1);
  assert.deepEqual([step, reason, unimproved, best?.step], [expected, "patience", patience, lastBest]);
  assert.equal(bitsAt(run, expected), bitsAt("straight", expected));
}

function bitsAt(run: string, step: number): string {
  return trainedBits(join(folder, run, `step-${step}`));
}

suite("patience", () => {
  test("ends the run after so many evaluations in a row that were no better, and says so", async () => {
    const { events, result } = await trainAndWatch(given("early", { patience, log_name: "plain.log" }));
    assertEnded(events, "early");
    assert.deepEqual([result.stopped, result.reason], [false, "patience"]);
    const log = readFileSync(join(folder, "early", "plain.log"), "utf8");
    assert.match(
      log,
      new RegExp(`ended after step ${expected},.*; 2 evaluations in a row were no better than`),
    );
  });

  test("is counted on after a resume", async () => {
    const stop = expected - stepsPerEpoch;
    const stopped = await trainAndWatch(
      given("resumed", { patience }),
      (event) => event.event === "save" && event.step === stop,
    );
    assert.equal((await openCheckpoint(join(folder, "resumed", `step-${stop}`))).state.unimproved, 1);
    assert.equal(stopped.result.reason, null);
    assertEnded((await trainAndWatch({ resume: join(folder, "resumed") })).events, "resumed");
  });

  test("does not end a run on its way to a best that it has met before", async () => {
    const best = stepsPerEpoch * (wereBest.lastIndexOf(true) + 1);
    assert.ok(wereBest.slice(0, best / stepsPerEpoch).includes(false), "each was better than the one before");
    // Back to the beginning, with best/ of a later step, which no evaluation before it can beat.
    const run = join(folder, "again");
    cpSync(join(folder, "straight"), run, { recursive: true });
    for (let step = stepsPerEpoch; step <= epochs * stepsPerEpoch; step += stepsPerEpoch) {
      rmSync(join(run, `step-${step}`), { recursive: true });
    }
    const { events } = await trainAndWatch({ resume: run, patience: 1 });
    const { step } = endOf(events);
    assert.equal(step, Math.min(best + stepsPerEpoch, epochs * stepsPerEpoch));
    assert.equal(bitsAt("again", step), bitsAt("straight", step));
  });

  test("ended a run for good, unless there is more of it", async () => {
    const resume = join(folder, "early");
    const again = endOf((await trainAndWatch({ resume })).events);
    assert.deepEqual([again.step, again.reason], [expected, "patience"]);
    const { events } = await trainAndWatch({ resume, patience: 0 });
    const last = epochs * stepsPerEpoch;
    assert.deepEqual([endOf(events).step, endOf(events).reason], [last, "steps"]);
    assert.equal(bitsAt("early", last), bitsAt("straight", last));
  });

  test("is refused where nothing is evaluated", async () => {
    await assert.rejects(train(given("refused", { patience, mode: "train" })), UsageError);
    const pictures = { synthetic: true, data_dir: undefined, num_classes: 3, train_dataset_size: 64 };
    await assert.rejects(train(given("refused", { patience, ...pictures })), /nothing is evaluated/);
  });
});
