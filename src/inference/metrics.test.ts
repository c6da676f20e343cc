import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { suite, test } from "node:test";

import { toFloat64 } from "../formats/npy.js";
import { readNpz } from "../../test/support/read-npz.js";
import { ScoreKeeper, softmax } from "./metrics.js";

function scoresOf(
  rows: readonly (readonly number[])[],
  labels: readonly number[],
): ReturnType<ScoreKeeper["scores"]> {
  const keeper = new ScoreKeeper();
  keeper.add(Float32Array.from(rows.flat()), Int32Array.from(labels), rows.length, rows[0]?.length ?? 0);
  return keeper.scores();
}

suite("scores", () => {
  test("of two even classes: a loss of log 2", () => {
    assert.ok(Math.abs(scoresOf([[3, 3]], [1]).loss - Math.log(2)) < 1e-15);
  });

  test("of huge logits do not overflow", () => {
    assert.equal(scoresOf([[1e38, -1e38]], [0]).loss, 0);
  });

  test("of a network that always says the same are those of one class, not of all", () => {
    const rows = [0, 1, 2, 3].map(() => [0, 0, 0, 0]);
    assert.equal(scoresOf(rows, [0, 1, 2, 3]).top1, 0.25);
  });

  test("count a tie at the fifth place as among the five", () => {
    assert.equal(scoresOf([[9, 8, 7, 6, 5, 5, 1]], [5]).top5, 1);
    assert.equal(scoresOf([[9, 8, 7, 6, 5, 4, 1]], [5]).top5, 0);
  });

  test("never count a logit that is not a number", () => {
    const scores = scoresOf([[NaN, 1, 2, 3, 4, 5]], [0]);
    assert.deepEqual([scores.top1, scores.top5], [0, 0]);
  });

  // tf.math.in_top_k of TensorFlow 2 says no to each of these at k = 1 and at k = 5.
  for (const row of [
    [5, NaN, 2, 3, 4, 1],
    [5, -Infinity, 2, 3, 4, 1],
    [5, Infinity, 2, 3, 4, 1],
    [Infinity, 0, 1, 2, 3, 4],
  ]) {
    test(`count no label of a row that is not finite: ${row.join(", ")}`, () => {
      const { top1, top5 } = scoresOf([row], [0]);
      assert.deepEqual([top1, top5], [0, 0]);
    });
  }

  test("weigh each image alike, however they are batched", () => {
    const keeper = new ScoreKeeper();
    keeper.add(Float32Array.of(1, 0, 1, 0, 1, 0), Int32Array.of(0, 0, 0), 3, 2);
    keeper.add(Float32Array.of(1, 0, 99, 99), Int32Array.of(1, 0), 1, 2);
    assert.deepEqual([keeper.scores().images, keeper.scores().top1], [4, 0.75]);
  });

  const file = `${process.env["RIFFLE_SHARED"] ?? "../shared"}/data/tf-reference/schedule.npz`;
  const skip = existsSync(file) ? false : `${file} is not here`;

  test("equal TensorFlow's cross-entropy, in_top_k and softmax", { skip }, async () => {
    const arrays = await readNpz(file);
    const numbers = (name: string): Float64Array => {
      const array = arrays.get(name);
      assert.ok(array, name);
      return toFloat64(array, name);
    };
    const logits = Float32Array.from(numbers("ce_logits"));
    const labels = Int32Array.from(numbers("ce_labels"));
    const inTop5 = numbers("in_top_5");
    labels.forEach((label, i) => {
      const row = logits.subarray(10 * i, 10 * (i + 1));
      const { loss, top5 } = scoresOf([[...row]], [label]);
      const expected = numbers("ce_each")[i] as number;
      assert.ok(Math.abs(loss - expected) <= 1e-6 * Math.max(1, expected), `${loss} is not ${expected}`);
      assert.equal(top5, inTop5[i]);
      softmax(row).forEach((p, k) => {
        assert.ok(Math.abs(p - (numbers("probabilities")[10 * i + k] as number)) <= 1e-6);
      });
    });
    const keeper = new ScoreKeeper();
    keeper.add(logits, labels, labels.length, 10);
    assert.ok(Math.abs(keeper.scores().loss - (numbers("ce_mean")[0] as number)) <= 1e-6 * 5.3);
  });
});
