import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { Gatherer } from "./gatherer.js";

/** A gatherer whose batches end when the test says so; each result is its item doubled. */
function gathererOf(size: number, maxWait: number, atOnce?: number) {
  const batches: number[][] = [];
  const ends: ((error?: Error) => void)[] = [];
  const gatherer = new Gatherer<number, number>({
    size,
    maxWait,
    ...(atOnce !== undefined && { atOnce }),
    work: (items) => {
      batches.push([...items]);
      return new Promise((resolve, reject) => {
        ends.push((error) => (error === undefined ? resolve(items.map((item) => 2 * item)) : reject(error)));
      });
    },
  });
  return { gatherer, batches, ends };
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

suite("a gatherer", () => {
  test("begins a full batch at once, and gives each request its own result", async () => {
    const { gatherer, batches, ends } = gathererOf(3, 60_000);
    const results = Promise.all([1, 2, 3].map((item) => gatherer.add(item)));
    assert.deepEqual(batches, [[1, 2, 3]]);
    ends[0]?.();
    assert.deepEqual(await results, [2, 4, 6]);
  });

  test("begins a batch that is not full when its first request has waited", async () => {
    const { gatherer, batches, ends } = gathererOf(3, 20);
    const began = performance.now();
    const result = gatherer.add(1);
    void gatherer.add(2);
    assert.deepEqual(batches, []);
    while (batches.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    assert.ok(performance.now() - began >= 20);
    assert.deepEqual(batches, [[1, 2]]);
    ends[0]?.();
    assert.equal(await result, 2);
  });

  test("hands over the next batch before the first has ended only where it is full, and no third", async () => {
    const { gatherer, batches, ends } = gathererOf(2, 0, 2);
    const results = [1, 2, 3, 4].map((item) => gatherer.add(item));
    await settled();
    assert.deepEqual(batches, [[1], [2, 3]]);
    results.push(gatherer.add(5));
    await settled();
    assert.equal(batches.length, 2);
    ends[0]?.();
    await settled();
    assert.deepEqual(batches[2], [4, 5]);
    results.push(gatherer.add(6));
    ends[1]?.();
    await settled();
    assert.equal(batches.length, 3); // one alone waits until nothing else is worked on
    ends[2]?.();
    await settled();
    ends[3]?.();
    assert.deepEqual(await Promise.all(results), [2, 4, 6, 8, 10, 12]);
  });

  test("works on one batch at a time, and gathers the next meanwhile, in order", async () => {
    const { gatherer, batches, ends } = gathererOf(2, 0);
    const results = [1, 2, 3, 4, 5].map((item) => gatherer.add(item));
    await settled();
    assert.deepEqual(batches, [[1]]);
    ends[0]?.();
    await settled();
    ends[1]?.();
    await settled();
    ends[2]?.();
    assert.deepEqual(await Promise.all(results), [2, 4, 6, 8, 10]);
    assert.deepEqual(batches, [[1], [2, 3], [4, 5]]);
  });

  test("lets go of a request that is aborted while it waits, and of none that is worked on", async () => {
    const { gatherer, batches, ends } = gathererOf(2, 60_000);
    const [early, late] = [new AbortController(), new AbortController()];
    const gone = gatherer.add(1, early.signal);
    early.abort(new Error("gone"));
    await assert.rejects(gone, /gone/);
    await assert.rejects(gatherer.add(9, early.signal), /gone/);
    const kept = gatherer.add(2, late.signal);
    void gatherer.add(3);
    assert.deepEqual(batches, [[2, 3]]);
    late.abort(new Error("too late"));
    ends[0]?.();
    assert.equal(await kept, 4);
  });

  test("fails all requests of a batch that fails, and goes on", async () => {
    const { gatherer, ends } = gathererOf(2, 60_000);
    const failed = Promise.allSettled([gatherer.add(1), gatherer.add(2)]);
    ends[0]?.(new Error("no engine"));
    assert.deepEqual(
      (await failed).map(({ status }) => status),
      ["rejected", "rejected"],
    );
    const fine = Promise.all([gatherer.add(3), gatherer.add(4)]);
    ends[1]?.();
    assert.deepEqual(await fine, [6, 8]);
  });

  test("in a hurry waits for nobody", () => {
    const { gatherer, batches } = gathererOf(9, 60_000);
    void gatherer.add(1);
    gatherer.hurry();
    assert.deepEqual(batches, [[1]]);
  });
});
