import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { Scratch } from "./scratch.js";

suite("Scratch", () => {
  test("gives the length asked for, from the same memory while it lasts", () => {
    const scratch = new Scratch();
    const first = scratch.take(1000);
    assert.equal(first.length, 1000);
    for (const length of [0, 1, 999, 1024]) {
      const next = scratch.take(length);
      assert.equal(next.length, length);
      assert.equal(next.buffer, first.buffer);
    }
    assert.notEqual(scratch.take(1025).buffer, first.buffer);
  });

  test("does not keep what is longer than four megabytes", () => {
    const scratch = new Scratch();
    const large = scratch.take(2 ** 22 + 1);
    assert.equal(large.length, 2 ** 22 + 1);
    assert.notEqual(scratch.take(2 ** 22 + 1).buffer, large.buffer);
    assert.equal(scratch.take(2 ** 22).length, 2 ** 22);
  });
});
