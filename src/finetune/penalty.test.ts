import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { Draws, streams } from "../core/random.js";
import { choosePenalty, FOLDS, type Held } from "./penalty.js";
import type { Rows } from "./softmax-regression.js";

const held: Held = {
  folds: Uint8Array.from({ length: 100 }, (_, row) => row % FOLDS),
  isScored: () => true,
  used: FOLDS,
};

/** 100 rows of 30 features, of which the first says the class where `says` is 1 and nothing does where it is 0. */
function rowsThat(says: number): Rows {
  const draws = new Draws(2, streams.draw, 0, 0);
  const labels = Int32Array.from({ length: 100 }, (_, row) => Math.floor(row / FOLDS) % 2);
  const values = Float32Array.from({ length: 100 * 30 }, (_, i) => {
    const noise = draws.uniform(-1, 1);
    return i % 30 === 0
      ? noise * (1 - says) + says * (2 * (labels[Math.floor(i / 30)] as number) - 1)
      : noise;
  });
  return { features: 30, classes: 2, values, labels, weights: new Float64Array(100).fill(1), biased: true };
}

const go = (): Promise<void> => Promise.resolve();

suite("the penalty", () => {
  test("is strong where features say nothing, and a weak one where one says all", async () => {
    const nothing = await choosePenalty(rowsThat(0), held, go);
    assert.ok(nothing.penalty >= 1, String(nothing.penalty));
    assert.ok(Math.abs(nothing.right - 0.5) < 0.2, String(nothing.right));
    const all = await choosePenalty(rowsThat(1), held, go);
    assert.ok(all.penalty < 0.01, String(all.penalty));
    assert.deepEqual([all.right, all.scored], [1, 100]);
  });

  test("is judged by rows that are held out and scored, and by no others", async () => {
    const rows = rowsThat(0);
    // The same rows again, never held out on their own: views of the same pictures.
    const twice: Rows = {
      ...rows,
      values: Float32Array.of(...rows.values, ...rows.values),
      labels: Int32Array.of(...rows.labels, ...rows.labels),
      weights: new Float64Array(200).fill(1),
    };
    const together = {
      ...held,
      folds: Uint8Array.of(...held.folds, ...held.folds),
      isScored: (row: number) => row < 100,
    };
    const chosen = await choosePenalty(twice, together, go);
    const { loss, ...once } = await choosePenalty(rows, held, go);
    assert.deepEqual({ ...chosen, loss: 0 }, { ...once, loss: 0 });
    assert.ok(Math.abs(chosen.loss - loss) < 1e-12); // sums of as many again, in f64
    // A view that stays while its picture is held out gives the class away.
    const leaked = {
      ...together,
      folds: Uint8Array.of(...held.folds, ...held.folds.map((fold) => (fold + 1) % FOLDS)),
    };
    assert.ok((await choosePenalty(twice, leaked, go)).right > chosen.right);
    assert.equal((await choosePenalty(rows, { ...held, used: 2 }, go)).scored, 40);
  });
});
