import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { ResourceError } from "../core/error.js";
import { availableMemory } from "../core/available-memory.js";
import { nativeBackend } from "../backends/native/index.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { compile } from "../program/compile.js";
import { estimateMemory, refuseTooLargeBatch } from "./memory.js";

const limit = { bytes: 1000e6, source: "a test" };

function hintFor(batch: number, estimateFor: (batch: number) => number): string | undefined {
  try {
    refuseTooLargeBatch({ batch_size: batch, lr: 0.1 }, estimateFor, limit);
    return undefined;
  } catch (error) {
    assert.ok(error instanceof ResourceError, String(error));
    return error.problem.hint;
  }
}

suite("refuseTooLargeBatch", () => {
  test("lets what fits pass, to the byte", () => {
    assert.equal(
      hintFor(100, (batch) => batch * 10e6),
      undefined,
    );
  });

  test("names the largest batch that fits and the rate that belongs to it", () => {
    assert.match(hintFor(101, (batch) => batch * 10e6) ?? "", /--batch_size 100 --lr 0.0990099009901$/);
    assert.match(hintFor(142, (batch) => 500e6 + batch * 7e6) ?? "", /--batch_size 71 --lr 0.05$/);
  });

  test("names the longest loop that fits where single steps would", () => {
    assert.throws(
      () =>
        refuseTooLargeBatch(
          { batch_size: 4, lr: 0.1, loop: 50 },
          (batch, loop) => batch * (100e6 + loop * 10e6),
          { bytes: 1000e6, source: "a test" },
        ),
      (error: unknown) =>
        error instanceof ResourceError &&
        error.problem.expected === "about 2,400 MB for loops of 50" &&
        /--iterations_per_loop 15;/.test(error.problem.hint ?? ""),
    );
  });

  test("says so when not even one image fits", () => {
    assert.match(hintFor(2, () => 2000e6) ?? "", /smaller --image_size/);
  });
});

suite("estimateMemory", () => {
  const network = shuffleNetV2({ variant: "tensorflow", width: 0.5, classes: 10 });
  const program = compile(network, { batch: 4, imageSize: 64, mode: "train" });
  const memoryOf = (needs: { shards?: number; prefetch?: number; held?: number }): number =>
    estimateMemory(nativeBackend, program, undefined, {
      decoding: 0,
      prefetch: 3,
      held: 1,
      shards: 1,
      ...needs,
    });

  test("counts one copy of the gradients for every sum that is put aside", () => {
    const gradients = 4 * program.parameterCount;
    const copies = [1, 2, 3, 4, 7, 8].map((shards) => (memoryOf({ shards }) - memoryOf({})) / gradients);
    assert.deepEqual(copies, [0, 1, 1, 2, 2, 3]);
  });

  test("counts the batches that are decoded ahead", () => {
    assert.equal(memoryOf({}) - memoryOf({ prefetch: 0 }), 3 * 4 * 64 * 64 * 3);
    assert.equal(memoryOf({ held: 10 }) - memoryOf({}), 9 * 4 * 64 * 64 * 3);
  });
});

test("this process may still take some memory", () => {
  const { bytes, source } = availableMemory();
  assert.ok(bytes > 64e6, `${bytes} bytes of ${source}`);
});
