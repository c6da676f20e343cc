import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { UsageError } from "../core/error.js";
import { shardsOf } from "./shard-share.js";
import { ShardSums } from "./shard-sums.js";

suite("shards of ranks", () => {
  test("are neighbours, as many for each", () => {
    const shares = [0, 1, 2, 3].map((rank) => shardsOf({ shards: 8, rank, ranks: 4 }));
    assert.deepEqual(
      shares,
      [0, 2, 4, 6].map((first) => ({ first, count: 2, of: 8 })),
    );
  });

  test("one rank runs any number", () => {
    for (const shards of [1, 3, 7, 12])
      assert.deepEqual(shardsOf({ shards, rank: 0, ranks: 1 }), { first: 0, count: shards, of: shards });
  });

  test("more share where each has 1, 2, 4, ... of them: their sums added are the sum of one, to the bit", () => {
    for (let shards = 1; shards <= 24; shards++) {
      for (let ranks = 2; ranks <= shards; ranks++) {
        if (refusalOf(shards, ranks) === undefined)
          assert.deepEqual(sharedSum(shards, ranks), sharedSum(shards, 1), `${shards} over ${ranks}`);
      }
    }
  });

  test("any other sharing is refused, with the numbers of ranks that fit", () => {
    assert.match(
      refusalOf(12, 5) ?? "",
      /12 shards .* 5 ranks.*expected 1, 3, 6 or 12 ranks.*launch --ranks 3, .*--shards 5/,
    );
    // Three each: (s0 + s1) + s2 is no sum of the tree over six.
    assert.match(refusalOf(6, 2) ?? "", /expected 1, 3 or 6 ranks.*launch --ranks 1,/);
    assert.notDeepEqual(sharedSum(6, 1), threeAndThree());
    assert.match(refusalOf(1, 2) ?? "", /expected 1 ranks/);
  });
});

function refusalOf(shards: number, ranks: number): string | undefined {
  try {
    shardsOf({ shards, rank: 0, ranks });
    return undefined;
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
}

/** Enough numbers that some are rounded in every addition. */
function shard(index: number): Float32Array {
  return Float32Array.from({ length: 100 }, (_, i) => Math.sin(1 + index * 100 + i));
}

function sumOf(shards: readonly Float32Array[]): Float32Array {
  const sums = new ShardSums<Float32Array>();
  for (const each of shards) sums.add(each);
  return sums.sum();
}

function sharedSum(shards: number, ranks: number): Float32Array {
  const own = Array.from({ length: ranks }, (_, rank) => {
    const { first, count } = shardsOf({ shards, rank, ranks });
    return sumOf(Array.from({ length: count }, (_, i) => shard(first + i)));
  });
  return sumOf(own);
}

function threeAndThree(): Float32Array {
  return sumOf([0, 3].map((first) => sumOf([first, first + 1, first + 2].map(shard))));
}
