/**
 * The readers of TensorFlow's checkpoints on damaged ones: at least 20,000 mutations each of small valid files.
 *
 * Whatever stands in a file, a reader gives a value or throws a CheckpointError: no other error, no change to Object's
 * prototype (frozen here, so that an attempt throws), no hang. Blocks and entries are also changed inside a table whose
 * checksums are put right, compressed or not, or nearly every mutation would end at the first check.
 *
 * Draws are counter-based: a failure names its seed and repeats.
 */

import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { CheckpointError } from "../../src/core/error.js";
import { Draws, streams } from "../../src/core/random.js";
import { uncompressSnappy } from "../../src/formats/snappy.js";
import { encodeTable, FOOTER_BYTES, readTable } from "../../src/formats/sstable.js";
import { encodeBundle, openBundle, verifyBundle } from "../../src/formats/tf-bundle.js";
import { type BundleTensor, parseBundleIndex } from "../../src/formats/tf-bundle-index.js";
import { encodeCheckpointState, parseCheckpointState } from "../../src/formats/tf-checkpoint-state.js";
import { mutate } from "../support/mutate.js";
import { tableOf, varint } from "../support/sstable-bytes.js";

Object.freeze(Object.prototype);

const MUTATIONS = 20_000;
/** RIFFLE_FUZZ_SEED meets other files than the last time. */
const SEED = Number(process.env["RIFFLE_FUZZ_SEED"] ?? 1);
/** Resident memory in MB at the worst; the test runner and 20,000 garbage files are most of it. */
const MOST_MEMORY = 400;

const tensors: ReadonlyMap<string, BundleTensor> = new Map<string, BundleTensor>([
  ["classifier/biases", { dtype: "F32", shape: [3], data: Float32Array.of(1, 2, 3) }],
  ["classifier/weights", { dtype: "F32", shape: [2, 3], data: new Float32Array(6) }],
  ["classifier/weights/Momentum", { dtype: "F32", shape: [2, 3], data: new Float32Array(6) }],
  ["global_step", { dtype: "I64", shape: [], data: BigInt64Array.of(5n) }],
]);
const bundle = encodeBundle(tensors);
const data = Buffer.concat(bundle.data);
const entries = readTable(bundle.index, "seed");
const block = dataBlock(bundle.index);
/** "abcd", 16 bytes from 4 back, 8 from 5 back, "ef". */
const snappy = Uint8Array.of(30, 12, 97, 98, 99, 100, 62, 4, 0, 17, 5, 4, 101, 102);

interface Target {
  readonly name: string;
  readonly seeds: readonly Uint8Array[];
  readonly read: (bytes: Uint8Array, draws: Draws) => void | Promise<void>;
}

const targets: readonly Target[] = [
  {
    name: "index, as it lies",
    seeds: [bundle.index, encodeTable(entries, 1)],
    read: (bytes) => void parseBundleIndex(bytes, "fuzz"),
  },
  {
    name: "index, inside a block with the right checksum, half of them compressed",
    seeds: [block],
    read: (bytes, draws) => {
      const stored = draws.below(2) === 1 ? { bytes: asLiteral(bytes), type: 1 } : { bytes, type: 0 };
      parseBundleIndex(tableOf(stored.bytes, { type: stored.type }), "fuzz");
    },
  },
  ...[0, 2].map((at) => ({
    name: `index, inside ${at === 0 ? "the header" : "a tensor's entry"} of a valid table`,
    seeds: [entries[at]?.value as Uint8Array],
    read: (value: Uint8Array) => {
      const changed = entries.map((entry, i) => (i === at ? { key: entry.key, value } : entry));
      parseBundleIndex(encodeTable(changed), "fuzz");
    },
  })),
  {
    name: "data, half of them with the right checksums",
    seeds: [data],
    read: async (bytes, draws) => {
      const repaired = draws.below(2) === 1 && bytes.length >= data.length ? indexFor(bytes) : bundle.index;
      const file = {
        bytes: bytes.length,
        read: (into: Uint8Array, position: number) => {
          assert.ok(position + into.length <= bytes.length, "read past the end");
          into.set(bytes.subarray(position, position + into.length));
          return Promise.resolve();
        },
      };
      await verifyBundle(await openBundle("fuzz", repaired, () => Promise.resolve(file)));
    },
  },
  {
    name: "`checkpoint`",
    seeds: [
      Buffer.from(
        encodeCheckpointState({ latest: 'model.ckpt-5"é', all: ["model.ckpt-0", "/a/model.ckpt-5"] }),
      ),
      Buffer.from("# x\r\nmodel_checkpoint_path: 'a\\x41' \"\\101\"\nlast_preserved_timestamp: 1.5e9\n"),
    ],
    read: (bytes) => void parseCheckpointState(bytes, "fuzz"),
  },
  {
    name: "Snappy",
    seeds: [
      snappy,
      Uint8Array.of(200, 1, 61 << 2, 99, 0, ...Buffer.alloc(100, "x"), 254, 100, 0, 142, 50, 0),
    ],
    read: (bytes) => void uncompressSnappy(bytes, { where: "fuzz", offset: 0, limit: 2 ** 20 }),
  },
];

suite(`${MUTATIONS} damaged files each give a value or a CheckpointError`, () => {
  for (const { name, seeds, read } of targets) {
    test(name, async () => {
      for (const seed of seeds) await read(seed, new Draws(0, streams.draw, 0, 0));
      let refused = 0;
      for (let i = 0; i < MUTATIONS; i++) {
        const draws = new Draws(SEED, streams.draw, 0, i);
        const bytes = mutate(seeds[draws.below(seeds.length)] as Uint8Array, draws);
        try {
          await read(bytes, draws);
        } catch (error) {
          if (!(error instanceof CheckpointError)) {
            throw new Error(`${name}, mutation ${i} of seed ${SEED}: ${String(error)}\n${Buffer.from(bytes).toString("hex")}`, { cause: error }); // prettier-ignore
          }
          refused++;
        }
      }
      // Both ends are met, or the mutations test nothing.
      assert.ok(refused > MUTATIONS / 10, `${refused} refused`);
      assert.ok(refused < MUTATIONS, "all refused");
    });
  }

  test(`within ${MOST_MEMORY} MB`, () => {
    const megabytes = process.resourceUsage().maxRSS / 1024;
    assert.ok(megabytes < MOST_MEMORY, `${megabytes} MB`);
  });
});

/** The contents of the one data block, which ends 5 bytes (type and checksum) before the metaindex begins. */
function dataBlock(table: Uint8Array): Uint8Array {
  // The footer begins with the metaindex's offset, here a varint of two bytes.
  const footer = table.subarray(table.length - FOOTER_BYTES);
  const metaindex = ((footer[0] as number) & 127) + 128 * (footer[1] as number);
  return table.subarray(0, metaindex - 5);
}

/** As a Snappy block of one literal. */
function asLiteral(bytes: Uint8Array): number[] {
  const last = bytes.length - 1;
  return bytes.length === 0 ? [0] : [...varint(bytes.length), 61 << 2, last & 255, last >> 8, ...bytes];
}

/** The index whose checksums fit these bytes. */
function indexFor(bytes: Uint8Array): Uint8Array {
  const changed = new Map<string, BundleTensor>();
  let at = 0;
  for (const [name, tensor] of tensors) {
    const copy = tensor.data.slice();
    new Uint8Array(copy.buffer).set(bytes.subarray(at, at + copy.byteLength));
    changed.set(name, { ...tensor, data: copy } as BundleTensor);
    at += copy.byteLength;
  }
  return encodeBundle(changed).index;
}
