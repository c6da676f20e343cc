import assert from "node:assert/strict";
import { suite, test } from "node:test";

import fc from "fast-check";

import { UsageError } from "../core/error.js";
import { Sampler } from "./sampler.js";

/** All samples of a rank in an epoch, in their order. */
function samplesOf(sampler: Sampler, epoch: number): Uint32Array {
  return Uint32Array.from({ length: sampler.length }, (_, index) => sampler.sample(epoch, index));
}

suite("the samples of an epoch", () => {
  for (const ranks of [1, 2, 3, 8]) {
    for (const size of [1, 7, 24, 1000, 1003]) {
      for (const shuffle of [true, false]) {
        test(`${size} samples, ${ranks} ranks, ${shuffle ? "shuffled" : "in file order"}: each comes exactly once`, () => {
          for (const epoch of [0, 1, 5]) {
            const seen = new Uint32Array(size);
            for (let rank = 0; rank < ranks; rank++) {
              const sampler = new Sampler({ size, seed: 3, shuffle, rank, ranks });
              assert.equal(samplesOf(sampler, epoch).length, sampler.length);
              for (const sample of samplesOf(sampler, epoch)) seen[sample]!++;
            }
            assert.deepEqual(seen, new Uint32Array(size).fill(1));
          }
        });
      }
    }
  }

  test("dealt out to ranks and put together again is the order of one rank", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 1, max: 9 }),
        fc.nat(),
        (size, ranks, seed) => {
          const alone = samplesOf(new Sampler({ size, seed, shuffle: true }), 2);
          const dealt = Array.from({ length: ranks }, (_, rank) =>
            samplesOf(new Sampler({ size, seed, shuffle: true, rank, ranks }), 2),
          );
          alone.forEach((sample, i) => assert.equal(dealt[i % ranks]?.[Math.floor(i / ranks)], sample));
        },
      ),
    );
  });

  test("shares differ by one at most, the first ranks having more", () => {
    const lengths = Array.from({ length: 8 }, (_, rank) => {
      return new Sampler({ size: 1003, seed: 0, shuffle: true, rank, ranks: 8 }).length;
    });
    assert.deepEqual(lengths, [126, 126, 126, 125, 125, 125, 125, 125]);
  });

  test("more ranks than samples leaves the last ones without any", () => {
    assert.equal(new Sampler({ size: 2, seed: 0, shuffle: true, rank: 2, ranks: 3 }).length, 0);
  });

  test("epochs differ, and each can be asked for again in any order", () => {
    const sampler = new Sampler({ size: 50, seed: 1, shuffle: true });
    const first = [...samplesOf(sampler, 0)];
    assert.notDeepEqual([...samplesOf(sampler, 1)], first);
    samplesOf(sampler, 7);
    assert.deepEqual([...samplesOf(sampler, 0)], first);
  });

  test("neighbours are the shares that follow", () => {
    const [first, second] = new Sampler({ size: 11, seed: 2, shuffle: true, rank: 1, ranks: 4 }).neighbours(
      2,
    );
    const alone = (rank: number) =>
      samplesOf(new Sampler({ size: 11, seed: 2, shuffle: true, rank, ranks: 4 }), 3);
    assert.deepEqual(
      [first, second].map((each) => samplesOf(each as Sampler, 3)),
      [alone(1), alone(2)],
    );
  });

  test("a rank that is not there is refused with both numbers", () => {
    const sampler = () => new Sampler({ size: 10, seed: 0, shuffle: true, rank: 3, ranks: 3 });
    assert.throws(
      sampler,
      (error: unknown) => error instanceof UsageError && /0 \.\. 2.*3/.test(error.message),
    );
  });
});
