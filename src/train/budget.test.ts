import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { resolveSettings } from "../settings/resolve-settings.js";
import type { GivenSettings } from "../settings/settings.js";
import { epochsThatFit } from "./budget.js";

/** 100 pictures in steps of 10, at a tenth of a second: an epoch is a second. */
const measured = { step: 0.1, evaluation: 0.5 };

function fitting(seconds: number, given: GivenSettings = {}): number | undefined {
  const { settings } = resolveSettings(
    { batch_size: 10, epochs_between_evals: 1, report: false, warmup_epochs: 0, ...given },
    100,
  );
  const length = { stepsPerEpoch: 10, scheduled: 10, steps: 10 };
  return epochsThatFit(
    { settings, length, solves: undefined, data: { train: { size: 100 } } },
    measured,
    seconds,
  );
}

suite("epochs that fit", () => {
  test("are whole, with an evaluation after each", () => {
    assert.equal(fitting(30), 20);
    assert.equal(fitting(29.9), 19);
  });

  test("of few are tenths, and the last step is evaluated too", () => {
    assert.equal(fitting(1.5), 1);
    assert.equal(fitting(3.5), 2);
    assert.equal(fitting(3.65), 2.1);
  });

  test("of less than one are its steps", () => {
    assert.equal(fitting(1.25), 0.7);
    assert.equal(fitting(0.65), 0.1);
    assert.equal(fitting(0.59), undefined);
  });

  test("leave the evaluations out that are not made, and keep time for the report", () => {
    assert.equal(fitting(30, { mode: "train" }), 30);
    // Three evaluations, and that of the report with its two seconds.
    assert.equal(fitting(30, { epochs_between_evals: 10, report: true }), 26);
    // The rates are those of all epochs.
    assert.equal(fitting(30, { max_train_steps: 10 }), 20);
  });

  test("on pictures that grow cost what their pixels do", () => {
    // Measured at 112 px; of 224 px a step takes four times as long.
    assert.equal(fitting(25, { mode: "train", grow_from: 112 }), 10);
    assert.equal(fitting(38, { mode: "train", grow_from: 112, grow_epochs: 6 }), 14);
  });
});
