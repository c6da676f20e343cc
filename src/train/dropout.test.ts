import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { compile } from "../program/compile.js";
import { dropoutMask } from "./dropout.js";

const programOf = (width: 1 | 2) =>
  compile(shuffleNetV2({ variant: "megvii", width, classes: 10 }), {
    batch: 4,
    imageSize: 32,
    mode: "train",
  });

suite("the dropout mask", () => {
  test("keeps four features of five, five quarters of each", () => {
    const mask = dropoutMask(programOf(2), { seed: 1, step: 0, shard: 0 });
    assert.ok(mask);
    assert.equal(mask.length, 4 * 2048);
    const kept = mask.filter((value) => value !== 0);
    assert.ok(kept.every((value) => value === 1.25));
    assert.ok(Math.abs(kept.length / mask.length - 0.8) < 0.02, `${kept.length} of ${mask.length}`);
  });

  test("is another for every shard, step and seed, and the same when asked again", () => {
    const program = programOf(2);
    const places = [
      { seed: 1, step: 0, shard: 0 },
      { seed: 1, step: 0, shard: 1 },
      { seed: 1, step: 1, shard: 0 },
      { seed: 1, step: 1, shard: 1 },
      { seed: 2, step: 0, shard: 0 },
    ];
    const masks = places.map((place) => dropoutMask(program, place)?.join());
    assert.equal(new Set(masks).size, places.length);
    assert.deepEqual(
      places.map((place) => dropoutMask(program, place)?.join()),
      masks,
    );
  });

  test("is none for a network without dropout", () => {
    assert.equal(dropoutMask(programOf(1), { seed: 1, step: 0, shard: 0 }), undefined);
  });
});
