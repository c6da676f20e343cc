import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { suite, test } from "node:test";

import { toFloat64 } from "../formats/npy.js";
import { readNpz } from "../../test/support/read-npz.js";
import { averageDecay, learningRate, type Schedule } from "./schedule.js";

const linear: Schedule = { kind: "linear", peak: 0.4, end: 0.1, warmupSteps: 0, decaySteps: 30 };

suite("learningRate", () => {
  test("linear: from the peak, by equal steps, to the end, and no further", () => {
    assert.deepEqual(
      [0, 10, 20, 30, 31].map((t) => Number(learningRate(linear, t).toFixed(12))),
      [0.4, 0.3, 0.2, 0.1, 0.1],
    );
  });

  test("cosine: peak at the start, the mean in the middle, the end at the end", () => {
    const cosine: Schedule = { ...linear, kind: "cosine" };
    assert.deepEqual(
      [0, 15, 30, 99].map((t) => Number(learningRate(cosine, t).toFixed(12))),
      [0.4, 0.25, 0.1, 0.1],
    );
  });

  test("the warm-up rises by equal steps and reaches the peak in its last step", () => {
    const warm: Schedule = { ...linear, warmupSteps: 4 };
    assert.deepEqual(
      [0, 1, 2, 3, 4, 30].map((t) => Number(learningRate(warm, t).toFixed(12))),
      [0.1, 0.2, 0.3, 0.4, 0.4, 0.1],
    );
  });

  test("a schedule that is all warm-up ends at the end", () => {
    assert.equal(learningRate({ ...linear, warmupSteps: 30 }, 30), 0.1);
  });

  const file = `${process.env["RIFFLE_SHARED"] ?? "../shared"}/data/tf-reference/schedule.npz`;
  const skip = existsSync(file) ? false : `${file} is not here`;

  test("linear equals tf.train.polynomial_decay to f32 rounding", { skip }, async () => {
    const arrays = await readNpz(file);
    const numbers = (name: string): number[] => {
      const array = arrays.get(name);
      assert.ok(array, name);
      return [...toFloat64(array, name)];
    };
    const [decaySteps] = numbers("lr_decay_steps");
    const short: Schedule = {
      kind: "linear",
      peak: 0.0625,
      end: 1e-6,
      warmupSteps: 0,
      decaySteps: decaySteps as number,
    };
    const long: Schedule = { ...short, decaySteps: 1_331_064 };
    const expected = [
      ...numbers("lr").map((rate, t) => ({ rate, t, schedule: short })),
      ...numbers("lr_0.5x_run_steps").map((t, i) => ({
        rate: numbers("lr_0.5x_run")[i] as number,
        t,
        schedule: long,
      })),
    ];
    assert.equal(expected.length, 38);
    for (const { rate, t, schedule } of expected) {
      const found = learningRate(schedule, t);
      // TensorFlow subtracts in f32, which near the end costs digits relative to the peak, not to the rate.
      assert.ok(Math.abs(found - rate) <= 0.0625 * 2 ** -23, `step ${t}: ${found} is not ${rate}`);
    }
  });
});

suite("averageDecay", () => {
  test("is 2/11, 3/12, … until the decay is reached", () => {
    assert.deepEqual(
      [1, 2].map((t) => averageDecay(0.995, t)),
      [2 / 11, 3 / 12],
    );
    assert.equal(averageDecay(0.995, 1_000_000), 0.995);
  });
});
