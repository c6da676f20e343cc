/**
 * PyTorch checkpoints, damaged: 20,000 zips in which the pickle, the storages or the zip itself were changed, and 20,000
 * legacy files. Each gives tensors or a FormatError: no other error, nothing added to Object's prototype (frozen here), no
 * hang, and never more memory than the file can mean.
 *
 * Where the inside of a zip is changed it is put together anew with right checksums, or nearly every change would end there.
 * Draws are counter-based: a failure names its seed and repeats.
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { suite, test } from "node:test";

import { unzipSync, zipSync } from "fflate";

import { FormatError } from "../../src/core/error.js";
import { Draws, streams } from "../../src/core/random.js";
import { parseTorchCheckpoint } from "../../src/formats/torch-checkpoint.js";
import { MOST_SHARING } from "../../src/formats/torch-tensors.js";
import { storedPath } from "../support/shared.js";
import { mutate } from "../support/mutate.js";

Object.freeze(Object.prototype);

const MUTATIONS = 20_000;
/** RIFFLE_FUZZ_SEED meets other files than the last time. */
const SEED = Number(process.env["RIFFLE_FUZZ_SEED"] ?? 1);
const MOST_MEMORY = 600;
/** Others are listed, and refused when they are asked for. */
const readTypes = /^(b?float(16|32|64)|u?int8|int(16|32|64)|bool)$/;

const stored = (name: string): Uint8Array => readFileSync(storedPath("golden", "torch-checkpoints", name));
const zips = ["everything.pth", "training.pth", "beside.pth", "views.pth"].map((name) => {
  const bytes = stored(name);
  return { bytes, members: unzipSync(bytes) };
});
const legacy = ["everything-legacy.pth", "beside-legacy.pth"].map(stored);

/** The pickle in half of all cases, else a storage, a name, or the zip as it lies. */
function damagedZip(draws: Draws): Uint8Array {
  const { bytes, members } = zips[draws.below(zips.length)] as (typeof zips)[number];
  const names = Object.keys(members);
  const pickle = names.find((name) => name.endsWith("/data.pkl")) as string;
  const kind = draws.below(8);
  if (kind === 0) return mutate(bytes, draws);
  const chosen = kind <= 4 ? pickle : (names[draws.below(names.length)] as string);
  // Not spread into one object: a name that was changed may be one that objects have.
  const changed = names.flatMap((name): [string, Uint8Array][] => {
    const content = members[name] as Uint8Array;
    if (name !== chosen) return [[name, content]];
    if (kind === 6) return [];
    if (kind === 7)
      return [[Buffer.from(mutate(Buffer.from(name), draws)).toString("latin1") || "x", content]];
    return [[name, mutate(content, draws)]];
  });
  return zipSync(Object.fromEntries(changed), { level: 0 });
}

suite(`${MUTATIONS} damaged files each give tensors or a FormatError`, () => {
  for (const [name, draw] of [
    ["zip", damagedZip],
    ["legacy", (draws: Draws) => mutate(legacy[draws.below(2)] as Uint8Array, draws)],
  ] as const) {
    test(name, () => {
      let refused = 0;
      for (let i = 0; i < MUTATIONS; i++) {
        const bytes = draw(new Draws(SEED, streams.draw, 0, i));
        try {
          const { tensors } = parseTorchCheckpoint(bytes, "fuzz");
          let read = 0;
          for (const tensor of tensors.values()) {
            if (!readTypes.test(tensor.dtype)) {
              assert.throws(() => tensor.read(), FormatError);
              continue;
            }
            const data = tensor.read();
            assert.equal(
              data.length,
              tensor.shape.reduce((product, n) => product * n, 1),
            );
            read += data.byteLength;
          }
          // Half floats are widened, which doubles them.
          assert.ok(read <= 2 * MOST_SHARING * bytes.length, `${read} bytes of a file of ${bytes.length}`);
        } catch (error) {
          if (!(error instanceof FormatError)) {
            throw new Error(`${name}, mutation ${i} of seed ${SEED}: ${String(error)}`, { cause: error });
          }
          refused++;
        }
      }
      // Both ends are met, or the mutations test nothing.
      assert.ok(refused > MUTATIONS / 10, `${refused} refused`);
      assert.ok(refused < 0.98 * MUTATIONS, `${refused} refused`);
    });
  }

  test(`within ${MOST_MEMORY} MB`, () => {
    const megabytes = process.resourceUsage().maxRSS / 1024;
    assert.ok(megabytes < MOST_MEMORY, `${megabytes} MB`);
  });

  test("and nothing was added to Object's prototype, which was frozen all the while", () => {
    assert.ok(Object.isFrozen(Object.prototype));
    assert.deepEqual(Object.keys(Object.prototype), []);
  });
});
