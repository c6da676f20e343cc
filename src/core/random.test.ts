import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { Draws, streams } from "./random.js";

suite("beta", () => {
  // Distribution functions in closed form; the first is the arcsine law.
  for (const [alpha, below] of [
    [0.5, (x: number) => (2 / Math.PI) * Math.asin(Math.sqrt(x))],
    [1, (x: number) => x],
    [2, (x: number) => 3 * x ** 2 - 2 * x ** 3],
  ] as const) {
    test(`Beta(${alpha}, ${alpha}) is distributed as its formula says`, () => {
      const count = 4000;
      const drawn = Array.from({ length: count }, (_, i) => new Draws(1, streams.mixup, 0, i).beta(alpha));
      drawn.sort((a, b) => a - b);
      const off = drawn.map((x, i) => Math.abs(below(x) - (i + 0.5) / count));
      // Kolmogorov's bound: one sample in a thousand is farther off.
      assert.ok(Math.max(...off) < 1.95 / Math.sqrt(count), `${Math.max(...off)}`);
    });
  }

  test("of a small alpha is 0 or 1, each half of the time", () => {
    const drawn = Array.from({ length: 1000 }, (_, i) => new Draws(1, streams.mixup, 1, i).beta(1e-3));
    const ends = drawn.filter((x) => x < 1e-3 || x > 1 - 1e-3);
    assert.ok(ends.length > 980, `${ends.length}`);
    assert.ok(Math.abs(ends.filter((x) => x > 0.5).length - ends.length / 2) < 60);
  });
});
