import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { balancedAccuracy, Confusion, majority } from "./confusion.js";

/** Four of class 0, one of them taken for 2; two of class 1, both taken for 0; none of class 2; one that named nothing. */
function small(): Confusion {
  const confusion = new Confusion(3);
  for (const named of [0, 0, 0, 2]) confusion.add(0, named);
  confusion.add(1, 0);
  confusion.add(1, 0);
  confusion.add(1, -1);
  return confusion;
}

suite("confusion", () => {
  test("counts by class and name", () => {
    const confusion = small();
    assert.deepEqual(
      [0, 1, 2].map((actual) => [0, 1, 2].map((named) => confusion.at(actual, named))),
      [
        [3, 0, 1],
        [2, 0, 0],
        [0, 0, 0],
      ],
    );
  });

  test("precision, recall and F1 are those computed by hand; null where nothing is divided by", () => {
    const [first, second, third] = small().allScores();
    assert.deepEqual(first, {
      ...{ output: 0, support: 4, named: 5, correct: 3 },
      ...{ precision: 3 / 5, recall: 3 / 4, f1: 6 / 9 },
    });
    // Of three, the one that named nothing counts in the class's recall alone.
    assert.deepEqual(second, {
      ...{ output: 1, support: 3, named: 0, correct: 0 },
      ...{ precision: null, recall: 0, f1: 0 },
    });
    assert.deepEqual(third, {
      ...{ output: 2, support: 0, named: 1, correct: 0 },
      ...{ precision: 0, recall: null, f1: 0 },
    });
  });

  test("the mean recall is of classes that have pictures", () => {
    assert.equal(balancedAccuracy(small().allScores()), (3 / 4 + 0) / 2);
    assert.deepEqual(majority(small().allScores()), { output: 0, share: 4 / 7 });
    assert.equal(balancedAccuracy(new Confusion(3).allScores()), null);
    assert.equal(majority(new Confusion(3).allScores()), undefined);
    const alike = new Confusion(2);
    for (const actual of [0, 1]) alike.add(actual, 0);
    assert.deepEqual(majority(alike.allScores()), { output: undefined, share: 1 / 2 });
  });

  test("the pairs confused most come first, the diagonal never", () => {
    assert.deepEqual(small().confused(5), [
      { actual: 1, named: 0, pictures: 2 },
      { actual: 0, named: 2, pictures: 1 },
    ]);
    assert.equal(small().confused(1).length, 1);
  });
});
