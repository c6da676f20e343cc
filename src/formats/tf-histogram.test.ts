import assert from "node:assert/strict";
import { suite, test } from "node:test";

import fc from "fast-check";

import { defaultLimits, type Histogram, histogramOf } from "./tf-histogram.js";

/** By the definition: one search a value, all buckets kept. */
function countedPlainly(values: Float32Array): Map<number, number> {
  const counts = new Map<number, number>();
  for (const value of values) {
    const limit = defaultLimits.find((upper) => value < upper) as number;
    counts.set(limit, (counts.get(limit) ?? 0) + 1);
  }
  return counts;
}

const filled = ({ limits, counts }: Histogram) =>
  new Map(
    Array.from(limits, (limit, i) => [limit, counts[i] as number] as const).filter(([, count]) => count > 0),
  );

suite("TensorFlow's histogram", () => {
  test("has 1,551 limits: 774 of each sign growing by 10 %, zero, and the largest doubles", () => {
    assert.equal(defaultLimits.length, 2 * (774 + 1) + 1);
    assert.equal(defaultLimits[775], 0);
    assert.equal(defaultLimits[776], 1e-12);
    assert.equal(defaultLimits[777], 1e-12 * 1.1);
    assert.equal(defaultLimits.at(-1), Number.MAX_VALUE);
  });

  test("puts every value where a search puts it", () => {
    const anything = fc.float32Array({ noNaN: true, noDefaultInfinity: true, maxLength: 60 });
    const nearLimits = fc
      .array(fc.tuple(fc.nat(defaultLimits.length - 3), fc.integer({ min: -2, max: 2 })))
      .map((places) =>
        Float32Array.from(places, ([i, ulps]) => neighbour(defaultLimits[i + 1] as number, ulps)),
      );
    fc.assert(
      fc.property(fc.oneof(anything, nearLimits), (values) => {
        const histogram = histogramOf(values);
        assert.ok(histogram);
        assert.deepEqual(filled(histogram), new Map([...countedPlainly(values)].sort(([a], [b]) => a - b)));
        assert.equal(histogram.num, values.length);
      }),
      { numRuns: 300 },
    );
  });

  test("counts a value on a limit above it, and both zeros alike", () => {
    const histogram = histogramOf(Float32Array.of(0, -0));
    assert.deepEqual(filled(histogram as Histogram), new Map([[1e-12, 2]]));
  });

  test("stores a run of empty buckets as one, with its last limit", () => {
    const histogram = histogramOf(Float32Array.of(-1e-30, 1)) as Histogram;
    const above = defaultLimits.find((limit) => limit > 1) as number;
    const before = defaultLimits[defaultLimits.indexOf(above) - 1] as number;
    assert.deepEqual([...histogram.limits], [-1e-12, 0, before, above, Number.MAX_VALUE]);
    assert.deepEqual([...histogram.counts], [0, 1, 0, 1, 0]);
    const { min, max, sum, sumSquares } = histogram;
    assert.deepEqual(
      { min, max, sum, sumSquares },
      { min: Math.fround(-1e-30), max: 1, sum: 1, sumSquares: 1 },
    );
  });

  test("of nothing is one empty bucket, of numbers that are not finite there is none", () => {
    assert.deepEqual(histogramOf(new Float32Array(0))?.limits, Float64Array.of(Number.MAX_VALUE));
    for (const value of [NaN, -NaN, Infinity, -Infinity]) {
      assert.equal(histogramOf(Float32Array.of(1, value)), undefined);
    }
  });
});

/** The float that lies `ulps` floats from `value`. */
function neighbour(value: number, ulps: number): number {
  const bits = new Int32Array(Float32Array.of(value).buffer);
  bits[0] = (bits[0] as number) + ulps;
  const moved = new Float32Array(bits.buffer)[0] as number;
  return Number.isFinite(moved) ? moved : value;
}
