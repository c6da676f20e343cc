import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { stepsBeforeGrowth, stepsLeft, trainingSize } from "./growth.js";

const length = { stepsPerEpoch: 10, steps: 100 };
const fixed = { image_size: 96, grow_from: undefined, grow_epochs: undefined, max_epochs: 10 };
const growing = { ...fixed, grow_from: 48 };

suite("pictures", () => {
  test("are of one size unless they are to grow", () => {
    assert.equal(stepsBeforeGrowth(fixed, length), 0);
    assert.deepEqual(
      [0, 99].map((step) => trainingSize(step, fixed, length)),
      [96, 96],
    );
  });

  test("grow in the middle of the run where it is not said when", () => {
    assert.deepEqual(
      [0, 49, 50, 99].map((step) => trainingSize(step, growing, length)),
      [48, 48, 96, 96],
    );
  });

  test("grow after the epochs given, to the nearest step", () => {
    const given = { ...growing, grow_epochs: 7.26 };
    assert.deepEqual(
      [72, 73].map((step) => trainingSize(step, given, length)),
      [48, 96],
    );
  });
});

suite("the steps left", () => {
  test("count those on larger pictures by their pixels", () => {
    assert.equal(stepsLeft(0, growing, length), 50 + 50 * 4);
    assert.equal(stepsLeft(49, growing, length), 1 + 50 * 4);
  });

  test("are as many as there are where the pictures grow no more", () => {
    assert.equal(stepsLeft(50, growing, length), 50);
    assert.equal(stepsLeft(30, fixed, length), 70);
    assert.equal(stepsLeft(10, growing, { ...length, steps: 40 }), 30);
  });
});
