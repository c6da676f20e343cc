import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { classWeights } from "./class-weights.js";

suite("class weights", () => {
  test("make classes count alike, and a picture 1 on average", () => {
    const labels = [0, 0, 0, 0, 0, 0, 2, 2, 4, 4, 4, 4];
    const weights = classWeights({ size: labels.length, label: (sample) => labels[sample] as number }, 5);
    // 12 pictures, three classes that have any: 12 / (3 * 6), 12 / (3 * 2), 12 / (3 * 4).
    assert.deepEqual([...weights], [2 / 3, 1, 2, 1, 1].map(Math.fround));
    assert.ok(Math.abs(labels.reduce((sum, label) => sum + (weights[label] as number), 0) - 12) < 1e-6);
  });
});
