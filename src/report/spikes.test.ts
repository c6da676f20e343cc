import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { spikesAbove } from "./spikes.js";

/** A loss from `first` down towards 0.1, with a little noise. */
const falling = (first: number, count = 40): number[] =>
  Array.from({ length: count }, (_, i) => 0.1 + (first - 0.1) * Math.exp(-i / 4) + 0.02 * (i % 3));

suite("spikes", () => {
  test("are what rises far above its own curve", () => {
    const loss = falling(2);
    assert.equal(spikesAbove([loss.with(20, 1e4)]), 2);
    assert.equal(spikesAbove([loss.with(0, 1e4), [2.5, 1, 1, 1]]), 2.5, "a first step, too");
  });

  test("are not the beginning of a curve that falls, nor a curve that is higher than another", () => {
    assert.equal(spikesAbove([falling(6.9)]), undefined);
    const overfitting = Array.from({ length: 10 }, (_, i) => 0.5 + i / 2);
    assert.equal(spikesAbove([falling(0.7), overfitting]), undefined);
    const diverged = [...falling(0.7, 20), ...Array.from({ length: 20 }, () => 90)];
    assert.equal(spikesAbove([diverged]), undefined, "half of a curve is no spike");
    assert.equal(spikesAbove([[0, 0, 0, 0, 1]]), undefined);
  });
});
