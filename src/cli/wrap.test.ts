import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { columnsOf } from "../core/columns.js";
import { wrapped } from "./wrap.js";

suite("a line that is longer than the terminal is wide", () => {
  test("is broken between words, and goes on under its text", () => {
    assert.deepEqual(wrapped("Left out  two words and more", 20), [
      "Left out  two words",
      "          and more",
    ]);
    assert.deepEqual(wrapped("Computing so many words", 18), ["Computing so many", "          words"]);
    assert.deepEqual(wrapped("          so many words", 18), ["          so many", "          words"]);
    assert.deepEqual(wrapped("  It was not touched at all", 20), ["  It was not touched", "    at all"]);
    assert.deepEqual(wrapped("a line that just fits", 21), ["a line that just fits"]);
  });

  test("keeps what stands apart by more than one blank", () => {
    assert.deepEqual(wrapped("a.jpg   bees 1 %   ants 2 %", 19), ["a.jpg   bees 1 %", "  ants 2 %"]);
  });

  test("holds no word in two, but one longer than a line", () => {
    const line =
      "Recipe    small-set: batch 16, rate 0.1 = 0.2 at batch 32, 照片 scaled to 16, cosine, warm-up 0.75";
    for (let width = 24; width < 100; width++) {
      const lines = wrapped(line, width);
      for (const each of lines) assert.ok(columnsOf(each) <= width, `${each} in ${width}`);
      assert.deepEqual(lines.join(" ").split(/\s+/), line.split(/\s+/));
    }
    assert.deepEqual(wrapped(`Saved     ${"x".repeat(30)} y`, 20), [
      `Saved     ${"x".repeat(30)}`,
      "          y",
    ]);
  });

  test("with a command begins a line with it, and breaks it as a shell reads it", () => {
    const hint = "To go on with it: npx riffle-vision train --resume 'my runs/a b' --lr 0.1";
    assert.deepEqual(wrapped(hint, 45), [
      "To go on with it:",
      "  npx riffle-vision train --resume \\",
      "    'my runs/a b' --lr 0.1",
    ]);
    assert.deepEqual(wrapped(hint, 60), [
      "To go on with it:",
      "  npx riffle-vision train --resume 'my runs/a b' --lr 0.1",
    ]);
    assert.deepEqual(wrapped("Next      npx riffle-vision predict a b", 30), [
      "Next      npx riffle-vision \\",
      "            predict a b",
    ]);
  });
});
