import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { suite, test } from "node:test";

import { toFloat64 } from "../formats/npy.js";
import { readNpz } from "../../test/support/read-npz.js";
import type { Scores } from "../run/checkpoint-state.js";
import { ScoreKeeper, scoresOf, softmax } from "./metrics.js";

/** Of batches of rows of logits and their labels, one picture after the other. */
function kept(batches: readonly { logits: Float32Array; labels: number[] }[], classes: number): Scores {
  const keeper = new ScoreKeeper(batches.reduce((sum, { labels }) => sum + labels.length, 0));
  let place = 0;
  for (const { logits, labels } of batches) {
    const places = labels.map(() => place++);
    keeper.add(places, logits, Int32Array.from(labels), labels.length, classes);
  }
  return scoresOf([keeper.bytes()]);
}

function scored(rows: readonly (readonly number[])[], labels: readonly number[]): Scores {
  return kept([{ logits: Float32Array.from(rows.flat()), labels: [...labels] }], rows[0]?.length ?? 0);
}

suite("scores", () => {
  test("of two even classes: a loss of log 2", () => {
    assert.ok(Math.abs(scored([[3, 3]], [1]).loss - Math.log(2)) < 1e-15);
  });

  test("of huge logits do not overflow", () => {
    assert.equal(scored([[1e38, -1e38]], [0]).loss, 0);
  });

  test("of a network that always says the same are those of one class, not of all", () => {
    const rows = [0, 1, 2, 3].map(() => [0, 0, 0, 0]);
    assert.equal(scored(rows, [0, 1, 2, 3]).top1, 0.25);
  });

  test("count a tie at the fifth place as among the five", () => {
    assert.equal(scored([[9, 8, 7, 6, 5, 5, 1]], [5]).top5, 1);
    assert.equal(scored([[9, 8, 7, 6, 5, 4, 1]], [5]).top5, 0);
  });

  test("never count a logit that is not a number", () => {
    const scores = scored([[NaN, 1, 2, 3, 4, 5]], [0]);
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
      const { top1, top5 } = scored([row], [0]);
      assert.deepEqual([top1, top5], [0, 0]);
    });
  }

  test("weigh each image alike, however they are batched", () => {
    const { images, top1 } = kept(
      [
        { logits: Float32Array.of(1, 0, 1, 0, 1, 0), labels: [0, 0, 0] },
        { logits: Float32Array.of(1, 0, 99, 99), labels: [1] },
      ],
      2,
    );
    assert.deepEqual([images, top1], [4, 0.75]);
  });

  test("do not count a place without a picture", () => {
    const keeper = new ScoreKeeper(3);
    keeper.add([2], Float32Array.of(3, 3), Int32Array.of(0), 1, 2);
    const { images, loss, top1 } = scoresOf([keeper.bytes()]);
    assert.deepEqual([images, top1], [1, 1]);
    assert.ok(Math.abs(loss - Math.log(2)) < 1e-15);
  });

  test("of shares are those of the set, added in its order", () => {
    // 1e16 + 1 is 1e16: the order shows. Losses of 1e16 come of a logit so far below the largest.
    const rows = [[1e16, 0], [0, 0], [0, 0], [1e16, 0], [0, 0]]; // prettier-ignore
    const labels = [1, 0, 1, 1, 0];
    const alone = scored(rows, labels);
    for (const ranks of [2, 3, 7]) {
      const shares = Array.from({ length: ranks }, (_, rank) => {
        const samples = labels.flatMap((_, sample) => (sample % ranks === rank ? [sample] : []));
        const keeper = new ScoreKeeper(samples.length);
        for (const [place, sample] of samples.entries())
          keeper.add(
            [place],
            Float32Array.from(rows[sample] ?? []),
            Int32Array.of(labels[sample] ?? 0),
            1,
            2,
          );
        return keeper.bytes();
      });
      assert.deepEqual(scoresOf(shares), alone, `${ranks} shares`);
    }
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
      const { loss, top5 } = scored([[...row]], [label]);
      const expected = numbers("ce_each")[i] as number;
      assert.ok(Math.abs(loss - expected) <= 1e-6 * Math.max(1, expected), `${loss} is not ${expected}`);
      assert.equal(top5, inTop5[i]);
      softmax(row).forEach((p, k) => {
        assert.ok(Math.abs(p - (numbers("probabilities")[10 * i + k] as number)) <= 1e-6);
      });
    });
    const { loss } = kept([{ logits, labels: [...labels] }], 10);
    assert.ok(Math.abs(loss - (numbers("ce_mean")[0] as number)) <= 1e-6 * 5.3);
  });
});
