import assert from "node:assert/strict";
import { suite, test } from "node:test";

import fc from "fast-check";

import { blockOf, restarts, tableOf, varint } from "../../test/support/sstable-bytes.js";
import { CheckpointError } from "../core/error.js";
import { encodeTable, readTable, type TableEntry } from "./sstable.js";

const entry = (key: string, value: string): TableEntry => ({
  key: Buffer.from(key),
  value: Buffer.from(value),
});

const rising = (count: number): TableEntry[] =>
  Array.from({ length: count }, (_, i) => entry(`tensor/${String(i).padStart(5, "0")}`, `value ${i}`));

const asText = (entries: readonly TableEntry[]): string[] =>
  entries.map(
    ({ key, value }) => `${Buffer.from(key).toString("hex")}=${Buffer.from(value).toString("hex")}`,
  );

function refused(bytes: Uint8Array, what: RegExp): void {
  assert.throws(
    () => readTable(bytes, "x.index"),
    (error: unknown) => {
      assert.ok(error instanceof CheckpointError, String(error));
      assert.match(error.message, what);
      assert.match(error.message, /x\.index, byte \d+/);
      return true;
    },
  );
}

suite("a table", () => {
  for (const count of [0, 1, 16, 17, 1000]) {
    test(`of ${count} entries is read back, in one block or in many`, () => {
      const entries = rising(count);
      for (const blockBytes of [1, 100, 4096, 256 * 1024]) {
        assert.deepEqual(asText(readTable(encodeTable(entries, blockBytes), "t")), asText(entries));
      }
    });
  }

  test("holds any keys and values", () => {
    const anyEntries = fc.uniqueArray(fc.tuple(fc.string({ unit: "binary", maxLength: 20 }), fc.string()), {
      selector: ([key]) => key,
      maxLength: 60,
    });
    fc.assert(
      fc.property(anyEntries, fc.integer({ min: 1, max: 300 }), (pairs, blockBytes) => {
        const entries = pairs.map(([key, value]) => entry(key, value));
        entries.sort((a, b) => Buffer.compare(a.key, b.key));
        assert.deepEqual(asText(readTable(encodeTable(entries, blockBytes), "t")), asText(entries));
      }),
      { numRuns: 100 },
    );
  });

  test("is not written with keys that do not rise", () => {
    assert.throws(() => encodeTable([entry("b", ""), entry("a", "")]), /not in rising order/);
    assert.throws(() => encodeTable([entry("a", ""), entry("a", "")]), /not in rising order/);
  });

  test("with any bit flipped, or any length cut off, is refused", () => {
    const bytes = encodeTable(rising(40), 300);
    for (let bit = 0; bit < 8 * bytes.length; bit++) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ (1 << (bit & 7));
      refused(flipped, /./);
    }
    for (let length = 0; length < bytes.length; length++) refused(bytes.subarray(0, length), /./);
    refused(Buffer.concat([bytes, Buffer.alloc(1)]), /./);
  });
});

suite("a damaged table whose checksums fit is refused", () => {
  test("(the table made by hand for these tests is read)", () => {
    const table = tableOf(blockOf([[0, "ab", [1]], [1, "c", [2]]])); // prettier-ignore
    assert.deepEqual(asText(readTable(table, "t")), ["6162=01", "6163=02"]);
  });

  test("for another magic number", () => {
    refused(Buffer.alloc(60), /magic number is missing; is the file complete\?.*57fb808b247547db/);
  });

  test("for a footer that is not there", () => {
    refused(Buffer.alloc(47), /shorter than its footer \(expected 48, found 47\)/);
  });

  test("for a block beyond the end of the file", () => {
    refused(tableOf(blockOf([]), { index: blockOf([[0, "~", [0, 2 ** 40]]]) }), /a block leaves its place/);
    refused(tableOf(blockOf([]), { index: blockOf([[0, "~", [2 ** 40, 8]]]) }), /does not follow/);
  });

  test("for two handles on one block", () => {
    const block = blockOf([[0, "a", []]]);
    const index = blockOf([[0, "b", [0, block.length]], [0, "c", [0, block.length]]]); // prettier-ignore
    refused(tableOf(block, { index }), /does not follow the one before it/);
  });

  test("for numbers above 2^53", () => {
    refused(tableOf(blockOf([]), { index: [0, 1, 9, 97, ...Array<number>(8).fill(255), 1, ...restarts([0])] }), /2\^53/); // prettier-ignore
  });

  test("for more restarts than fit, none, or in other places", () => {
    refused(tableOf([...blockOf([]).slice(0, 4), 255, 255, 255, 255]), /number of restarts/);
    refused(tableOf([0, 0, 0, 0, 0, 0, 0, 0]), /number of restarts/);
    refused(tableOf(blockOf([[0, "a", []]], [0, 2])), /more restarts than entries|not the place of an entry/);
    refused(tableOf(blockOf([[0, "abcdef", []], [0, "b", []]], [0, 3])), /not the place of an entry/); // prettier-ignore
  });

  test("for a key that shares more than the key before it", () => {
    refused(tableOf(blockOf([[1, "a", []]])), /shares more/);
    refused(tableOf(blockOf([[0, "ab", []], [3, "c", []]])), /shares more/); // prettier-ignore
  });

  test("for a key that shares at a restart", () => {
    refused(tableOf(blockOf([[0, "ab", []], [1, "c", []]], [0, 5])), /shares more/); // prettier-ignore
  });

  test("for keys out of order, or twice", () => {
    refused(tableOf(blockOf([[0, "b", []], [0, "a", []]])), /not in rising order/); // prettier-ignore
    refused(tableOf(blockOf([[0, "b", []], [1, "", []]])), /not in rising order/); // prettier-ignore
  });

  test("for keys beyond the index's", () => {
    refused(tableOf(blockOf([[0, "b", []]]), { last: "a" }), /beyond those the index gives/);
  });

  test("for an entry that leaves its block", () => {
    refused(tableOf([0, 1, 100, 97, ...restarts([0])]), /leaves its block/);
    refused(tableOf([0, 1, ...restarts([0])]), /reaches into the block's restarts/);
  });

  test("for a compression that is none", () => {
    refused(tableOf(blockOf([]), { type: 2 }), /another compression.*found 2/);
  });

  test("for a Snappy block that declares more than it can be", () => {
    refused(tableOf([0xff, 0xff, 0xff, 0x7f, 0, 97], { type: 1 }), /declares 268435455 bytes, at most 132/);
  });

  test("for a key of more than 4096 bytes", () => {
    refused(tableOf([0, ...varint(5000), 0, ...Buffer.alloc(5000), ...restarts([0])]), /a key is too long/);
  });
});
