import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { isBetter } from "./best.js";

const at = (step: number, top1: number, loss?: number): { step: number; top1: number; loss?: number } =>
  loss === undefined ? { step, top1 } : { step, top1, loss };

suite("of two evaluations the better one", () => {
  test("is any before there was one", () => assert.ok(isBetter(at(1, 0, 3), null)));

  test("is the one with the higher top-1, whatever the losses", () => {
    assert.ok(isBetter(at(2, 0.6, 9), at(1, 0.5, 1)));
    assert.ok(!isBetter(at(2, 0.5, 1), at(1, 0.6, 9)));
  });

  test("is of equal top-1 the one with the lower loss", () => {
    assert.ok(isBetter(at(2, 0.5, 1), at(1, 0.5, 2)));
    assert.ok(!isBetter(at(2, 0.5, 2), at(1, 0.5, 1)));
  });

  test("is of equal ones the later", () => {
    assert.ok(isBetter(at(2, 0.5, 1), at(1, 0.5, 1)));
    assert.ok(!isBetter(at(1, 0.5, 1), at(2, 0.5, 1)));
  });

  test("is never one whose loss is not finite, not even the first", () => {
    for (const loss of [NaN, Infinity]) {
      assert.ok(!isBetter(at(2, 1, loss), at(1, 0, 1)));
      assert.ok(!isBetter(at(1, 1, loss), null));
    }
  });

  test("is of equal top-1 the later where an older checkpoint does not say its loss", () => {
    assert.ok(isBetter(at(2, 0.5, 9), at(1, 0.5)));
    assert.ok(!isBetter(at(1, 0.5), at(2, 0.5, 9)));
  });
});
