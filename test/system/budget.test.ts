/** `--budget`: the epochs that fit into a time, told from the machine's speed, and what is left of the telling. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { suite, test } from "node:test";

import { openCheckpoint } from "../../src/run/checkpoint.js";
import type { StartEvent, TrainEvent } from "../../src/run/events.js";
import type { GivenSettings } from "../../src/settings/settings.js";
import { train } from "../../src/train/trainer.js";
import { drawnWeights, scratch, tinySettings, trainAndWatch, trainedBits, writeTinySet } from "../support/tiny-run.js"; // prettier-ignore

const folder = scratch();
const data = writeTinySet(folder);
/** Long enough for a machine that is busy with other tests; of the epochs that fit only the first steps are made. */
const budget = "20s";

function given(name: string, more: GivenSettings = {}): GivenSettings {
  const part = { max_epochs: undefined, epochs_between_evals: 5, max_train_steps: 12 };
  return { ...tinySettings(data, join(folder, name)), ...part, ...more };
}

function startOf(events: readonly TrainEvent[]): StartEvent {
  const start = events.find((event) => event.event === "start");
  assert.ok(start?.event === "start");
  return start;
}

suite("a budget", () => {
  test("chooses the epochs that fit, which are the run's from then on, and are not chosen again by a resume", async () => {
    const stopped = await trainAndWatch(given("fitted", { budget }), ({ event }) => event === "step");
    const { epochs, settings, origins, measured } = startOf(stopped.events);
    assert.ok(measured !== null && measured.images_per_second > 0 && measured.evaluation_seconds > 0);
    const seconds = (epochs * 48) / measured.images_per_second + (epochs / 5) * measured.evaluation_seconds;
    assert.ok(seconds > 5 && seconds < 20, `${epochs} epochs of ${seconds} s`);
    assert.deepEqual([settings["budget"], settings["max_epochs"], origins.max_epochs], [budget, epochs, "budget"]); // prettier-ignore
    const resume = join(folder, "fitted");
    await assert.rejects(train({ resume, budget: "5s" }), /with other settings/);
    const { events, result } = await trainAndWatch({ resume, budget });
    const again = startOf(events);
    assert.deepEqual([again.settings["max_epochs"], again.measured, result.step], [epochs, null, 12]);
    assert.equal((await openCheckpoint(result.checkpoint ?? "")).state.origins["max_epochs"], "budget");
    // To the bits of a run that was given as many: measuring left nothing behind.
    const plain = await trainAndWatch(given("plain", { max_epochs: epochs }));
    assert.equal(trainedBits(result.checkpoint), trainedBits(plain.result.checkpoint));
    assert.equal(startOf(plain.events).settings["warmup_epochs"], settings["warmup_epochs"]);
  });

  test("is refused beside epochs, where not a step fits, and where no step is made", async () => {
    await assert.rejects(train(given("refused", { budget, max_epochs: 3 })), /two answers/);
    await assert.rejects(
      train(given("refused", { budget: "0.01s" })),
      /too short for a step.*at least \d+s/s,
    );
    const frozen = { init_from: await drawnWeights(folder), freeze: true, num_classes: 4 };
    await assert.rejects(train(given("refused", { budget, ...frozen })), /no step is made/);
  });
});
