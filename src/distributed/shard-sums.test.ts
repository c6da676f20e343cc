import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { Draws, streams } from "../core/random.js";
import { meanByLevels } from "../../test/support/shard-tree.js";
import { ShardSums } from "./shard-sums.js";

function meanOf(shards: readonly Float32Array[]): Float32Array {
  const sums = new ShardSums<Float32Array>();
  for (const shard of shards) sums.add(shard);
  return sums.mean();
}

function drawn(count: number): Float32Array[] {
  const draws = new Draws(1, streams.initialise, count, 0);
  return Array.from({ length: count }, () => Float32Array.from({ length: 40 }, () => draws.normal()));
}

suite("the mean of shards", () => {
  test("of one shard is the shard", () => {
    const [only] = drawn(1) as [Float32Array];
    assert.deepEqual(meanOf([only]), only);
  });

  test("is added in pairs: (a + b) + (c + d)", () => {
    // 2^24 + 1 is no f32: added one after the other the ones are lost, in pairs two of them are not.
    const shards = [2 ** 24, 0, 1, 1].map((value) => Float32Array.of(value));
    assert.deepEqual(meanOf(shards), Float32Array.of((2 ** 24 + 2) / 4));
    const [a, b, c, d] = shards as [Float32Array, Float32Array, Float32Array, Float32Array];
    assert.deepEqual(meanOf([a, c, b, d]), Float32Array.of(2 ** 24 / 4));
  });

  test("is the tree's, level by level, for any number of shards", () => {
    for (let count = 1; count <= 33; count++)
      assert.deepEqual(meanOf(drawn(count)), meanByLevels(drawn(count)), `${count} shards`);
  });

  test("in f64 is not rounded to f32", () => {
    const sums = new ShardSums<Float64Array>();
    for (const value of [0.1, 0.2, 0.3]) sums.add(Float64Array.of(value));
    assert.deepEqual(sums.mean(), Float64Array.of((0.1 + 0.2 + 0.3) * (1 / 3)));
  });

  test("leaves nothing behind, and takes copies", () => {
    const sums = new ShardSums<Float32Array>();
    const shard = Float32Array.of(1);
    sums.add(shard);
    shard[0] = 9;
    assert.deepEqual(sums.mean(), Float32Array.of(1));
    assert.throws(() => sums.mean(), RangeError);
  });
});
