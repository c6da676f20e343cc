import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { Examination, SHOWN } from "./examination.js";
import { Standouts } from "./standouts.js";

const row = (...probabilities: number[]): Float32Array => Float32Array.from(probabilities, Math.log);

suite("an examination", () => {
  test("has the surest mistakes and the closest calls first", () => {
    const seen = new Examination(3);
    seen.add(0, 0, row(0.9, 0.06, 0.04));
    seen.add(1, 1, row(0.7, 0.2, 0.1));
    seen.add(2, 2, row(0.95, 0.04, 0.01));
    seen.add(3, 1, row(0.45, 0.46, 0.09));
    assert.deepEqual([seen.pictures, seen.wrong], [4, 2]);
    assert.deepEqual(
      seen.mistakes.items.map(({ sample, named }) => [sample, named]),
      [
        [2, 0],
        [1, 0],
      ],
    );
    const [closest] = seen.unsure.items;
    assert.deepEqual([closest?.sample, closest?.named, closest?.second], [3, 1, 0]);
    assert.ok(Math.abs((closest?.runnerUp ?? 0) - 0.45) < 1e-6);
  });

  test("of equal logits names the first, as top-1 does", () => {
    const seen = new Examination(3);
    seen.add(0, 1, row(0.2, 0.4, 0.4));
    seen.add(1, 2, row(0.2, 0.4, 0.4));
    assert.equal(seen.confusion.at(1, 1), 1);
    assert.equal(seen.confusion.at(2, 1), 1);
  });

  test("counts what is not finite as wrong, and as nothing else", () => {
    const seen = new Examination(2);
    seen.add(0, 0, Float32Array.of(NaN, 1));
    seen.add(1, 0, Float32Array.of(Infinity, 1));
    assert.deepEqual([seen.pictures, seen.wrong, seen.notFinite], [2, 2, 2]);
    assert.equal(seen.mistakes.items.length, 0);
    assert.equal(seen.calibration.expectedError(), null);
    assert.equal(seen.confusion.scoresOf(0).recall, 0);
  });

  test("keeps no more than it shows", () => {
    const seen = new Examination(2);
    for (let i = 0; i < 100; i++) seen.add(i, 1, row(0.5 + i / 250, 0.5 - i / 250));
    assert.equal(seen.mistakes.items.length, SHOWN);
    assert.equal(seen.mistakes.items[0]?.sample, 99);
    assert.equal(seen.unsure.items[0]?.sample, 0);
  });
});

test("of equal marks the earlier item stands out", () => {
  const kept = new Standouts<string>(2, (text) => text.length);
  for (const text of ["aa", "bb", "ccc", "dd"]) kept.add(text);
  assert.deepEqual(kept.items, ["ccc", "aa"]);
});
