import assert from "node:assert/strict";
import { suite, test } from "node:test";

import type { Settings } from "../settings/settings.js";
import { loopAfter, longestLoop } from "./loop.js";

const settings = {
  iterations_per_loop: 10,
  save_checkpoints_steps: 1000,
  epochs_between_evals: 2,
  mode: "train_and_evaluate",
  grow_from: undefined,
  grow_epochs: undefined,
  max_epochs: 100 / 13,
} as const;
const length = { stepsPerEpoch: 13, scheduled: 100, steps: 95 };
const never: (step: number) => boolean = () => false;

/** The steps at which loops end, from the first step to the last. */
function endsOf(
  more: Partial<Pick<Settings, "save_checkpoints_steps" | "grow_from" | "grow_epochs">>,
  isAlone = never,
): number[] {
  const ends: number[] = [];
  for (let step = 0; step < length.steps; ends.push(step))
    step += loopAfter(step, { ...settings, ...more }, length, isAlone);
  return ends;
}

suite("loops", () => {
  test("end at multiples of their length, at evaluations and at the end", () => {
    assert.deepEqual(endsOf({}), [10, 20, 26, 30, 40, 50, 52, 60, 70, 78, 80, 90, 95]);
  });

  test("end where the run is saved", () => {
    assert.deepEqual(endsOf({ save_checkpoints_steps: 16 }).slice(0, 5), [10, 16, 20, 26, 30]);
  });

  test("end where the pictures grow", () => {
    assert.deepEqual(endsOf({ grow_from: 32, grow_epochs: 1.2 }).slice(0, 4), [10, 16, 20, 26]);
  });

  test("leave a step that is looked at by itself", () => {
    assert.deepEqual(endsOf({}, (step) => step === 1 || step === 30).slice(0, 6), [1, 10, 20, 26, 29, 30]);
  });

  test("begin anew after fewer updates than were planned", () => {
    assert.equal(loopAfter(8, settings, length, never), 2);
  });

  test("are at most as long as what ends them is apart", () => {
    assert.equal(longestLoop(settings, length), 10);
    assert.equal(longestLoop({ ...settings, iterations_per_loop: 1000 }, length), 26);
    assert.equal(longestLoop({ ...settings, iterations_per_loop: 1000 }, { ...length, steps: 7 }), 7);
  });
});
