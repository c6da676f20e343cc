import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { readRates, RunningAway } from "./rate-curve.js";

/** 121 rates from 1e-5 to 10, twenty a decade. */
const rates = Array.from({ length: 121 }, (_, i) => 1e-5 * 10 ** (i / 20));

function reading(lossAt: (decade: number) => number, isTrained = false) {
  return readRates(
    rates.map((rate) => ({ rate, loss: lossAt(Math.log10(rate)) })),
    isTrained,
  );
}

/** Within half of what losses are smoothed over: three steps. */
function assertNear(found: number | null, expected: number): void {
  assert.ok(found !== null && Math.abs(Math.log10(found / expected)) < 0.16, `${found}, not ${expected}`);
}

suite("a test of rates", () => {
  test("suggests the rate at which the loss falls fastest, and at least a tenth of the lowest's", () => {
    // Falls from 2 to 1 between 1e-3 and 1e-1, fastest at 1e-2, and rises from 0.3 on.
    const { lowest, steepest, rises, suggested } = reading((x) => {
      const falling = 1.5 - Math.tanh(2 * (x + 2)) / 2;
      return falling + Math.max(0, x + 0.5) ** 2;
    });
    assertNear(steepest, 1e-2);
    assert.ok(lowest !== null && lowest > 0.2 && lowest < 0.6, `${lowest}`);
    assert.equal(suggested, Number(Math.max(lowest / 10, steepest ?? 0).toPrecision(2)));
    // Steep at the beginning, and then a long valley.
    const valley = reading(
      (x) => 2 - Math.min(1, Math.max(0, 5 * (x + 4))) - 0.2 * Math.max(0, Math.min(3, x + 4)),
    );
    assert.ok(valley.steepest !== null && valley.steepest < 1e-3, `${valley.steepest}`);
    assertNear(valley.suggested, (valley.lowest ?? 0) / 10);
    assert.equal(rises, null);
  });

  test("of weights that know their pictures, a tenth of the rate from which on it rises", () => {
    const rising = (x: number): number => 0.2 + Math.max(0, x + 2);
    const { lowest, rises, suggested } = reading(rising, true);
    assert.equal(lowest, null);
    assertNear(rises, 10 ** -1.98);
    assertNear(suggested, 10 ** -2.98);
    // One that knows nothing might only not have begun to learn.
    assert.equal(reading(rising).suggested, null);
  });

  test("suggests nothing where the loss does neither", () => {
    assert.equal(reading(() => 1).suggested, null);
  });

  test("is not taken in by the noise of a step", () => {
    const noisy = reading((x) => 2 - Math.max(0, Math.min(1, x + 3)) + (Math.abs(x + 4) < 0.02 ? -1.5 : 0));
    assert.ok(noisy.lowest !== null && noisy.lowest > 1e-3, `${noisy.lowest}`);
  });

  test("ends where the loss is four times its lowest, or is not finite", () => {
    const away = new RunningAway();
    const losses = [...Array<number>(15).fill(1), 2, 3, 6, 9, 12];
    // Of the mean 0.8 m + 0.2 loss: 1.2, 1.6, 2.4, 3.8, 5.4.
    assert.equal(
      losses.findIndex((loss) => away.hears(loss)),
      19,
    );
    assert.equal(new RunningAway().hears(NaN), true);
  });
});
