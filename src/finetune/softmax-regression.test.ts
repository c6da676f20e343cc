import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { Draws, streams } from "../core/random.js";
import { logitsOf, type Rows, type Solution, solve } from "./softmax-regression.js";

/** Two classes at x = -1 and x = 1, so certain that only the penalty keeps the weights finite. */
const twoPoints: Rows = {
  features: 1,
  classes: 2,
  values: Float32Array.of(-1, 1),
  labels: Int32Array.of(0, 1),
  weights: Float64Array.of(1, 1),
  biased: true,
};

/** 40 rows of 7 features and 3 classes, drawn. */
function drawnRows(biased = true): Rows {
  const draws = new Draws(1, streams.draw, 0, 0);
  const values = Float32Array.from({ length: 40 * 7 }, () => draws.uniform(-2, 2));
  const labels = Int32Array.from({ length: 40 }, () => draws.below(3));
  const weights = Float64Array.from({ length: 40 }, () => draws.uniform(0.5, 2));
  return { features: 7, classes: 3, values, labels, weights, biased };
}

/** The gradient as the definition has it, with nothing shared: W's, then b's. */
function gradientOf(rows: Rows, penalty: number, solution: Solution): number[] {
  const { features, classes, values, labels, weights } = rows;
  const total = weights.reduce((sum, w) => sum + w, 0);
  const errors = Array.from(labels, (label, row) => {
    const z = Array.from({ length: classes }, (_, k) => {
      const x = values.subarray(row * features, (row + 1) * features);
      return x.reduce(
        (sum, value, f) => sum + value * (solution[k * features + f] as number),
        solution[classes * features + k] as number,
      );
    });
    const sum = z.reduce((all, each) => all + Math.exp(each), 0);
    return z.map(
      (each, k) => ((weights[row] as number) / total) * (Math.exp(each) / sum - Number(k === label)),
    );
  });
  const ofWeights = Array.from({ length: classes * features }, (_, i) => {
    const [k, f] = [Math.floor(i / features), i % features];
    const data = errors.reduce(
      (sum, e, row) => sum + (e[k] as number) * (values[row * features + f] as number),
      0,
    );
    return data + penalty * (solution[i] as number);
  });
  const ofBiases = Array.from({ length: classes }, (_, k) =>
    errors.reduce((sum, e) => sum + (e[k] as number), 0),
  );
  return [...ofWeights, ...(rows.biased ? ofBiases : [])];
}

suite("a softmax regression", () => {
  test("of two points is where calculus has it", async () => {
    // W = (-w, w), b = 0: f = log(1 + e^(-2w)) + penalty w^2 is least where penalty = 1 / (w (1 + e^(2w))).
    for (const w of [0.5, 1, 2]) {
      const { solution, converged } = await solve(twoPoints, 1 / (w * (1 + Math.exp(2 * w))), {
        tolerance: 1e-12,
      });
      assert.ok(converged);
      for (const [i, expected] of [-w, w, 0, 0].entries()) {
        assert.ok(Math.abs((solution[i] as number) - expected) < 1e-9, `${solution.join()} for ${w}`);
      }
    }
  });

  for (const biased of [true, false]) {
    test(`ends where the gradient is zero, ${biased ? "biases" : "none of them"} counted`, async () => {
      const rows = drawnRows(biased);
      for (const penalty of [1, 0.1, 0.001]) {
        const { solution } = await solve(rows, penalty, { tolerance: 1e-10 });
        const worst = Math.max(...gradientOf(rows, penalty, solution).map(Math.abs));
        assert.ok(worst < 2e-10, `${worst} at penalty ${penalty}`);
        assert.equal(
          biased,
          solution.subarray(3 * 7).some((bias) => bias !== 0),
        );
      }
    });
  }

  test("has one minimum, from wherever it begins, and the same bits when it begins there again", async () => {
    const rows = drawnRows();
    const [one, same] = [await solve(rows, 0.01), await solve(rows, 0.01)];
    assert.deepEqual(one, same);
    const { solution: elsewhere } = await solve(rows, 1);
    const { solution } = await solve(rows, 0.01, { from: elsewhere, tolerance: 1e-9 });
    const { solution: exact } = await solve(rows, 0.01, { tolerance: 1e-9 });
    solution.forEach((w, i) => assert.ok(Math.abs(w - (exact[i] as number)) < 1e-6));
  });

  test("does not see rows that weigh nothing, and sees a row twice where it weighs two", async () => {
    const rows = drawnRows();
    const weights = rows.weights.map((_, row) => (row < 10 ? 0 : row < 20 ? 2 : 1));
    const weighed = await solve({ ...rows, weights }, 0.1, { tolerance: 1e-10 });
    const kept = [
      ...Array.from({ length: 30 }, (_, i) => i + 10),
      ...Array.from({ length: 10 }, (_, i) => i + 10),
    ];
    const written = await solve(
      {
        ...rows,
        values: Float32Array.from(kept.flatMap((row) => [...rows.values.subarray(row * 7, (row + 1) * 7)])),
        labels: Int32Array.from(kept, (row) => rows.labels[row] as number),
        weights: new Float64Array(40).fill(1),
      },
      0.1,
      { tolerance: 1e-10 },
    );
    weighed.solution.forEach((w, i) => assert.ok(Math.abs(w - (written.solution[i] as number)) < 1e-7));
  });

  test("gives logits that are W x + b, off the fours that it adds at a time", () => {
    const rows = drawnRows();
    const solution = Float64Array.from({ length: 3 * 8 }, (_, i) => i / 8 - 1);
    const x = [...rows.values.subarray(7, 14)];
    const expected = [0, 1, 2].map((k) =>
      x.reduce((sum, value, f) => sum + value * (solution[k * 7 + f] as number), solution[21 + k] as number),
    );
    logitsOf(rows, 1, solution).forEach((z, k) => assert.ok(Math.abs(z - (expected[k] as number)) < 1e-12));
  });

  test("ends when it is told to between two iterations", async () => {
    let pauses = 0;
    const pause = (): Promise<void> =>
      ++pauses === 3 ? Promise.reject(new Error("told")) : Promise.resolve();
    await assert.rejects(solve(drawnRows(), 0.01, { pause }), /told/);
  });
});
