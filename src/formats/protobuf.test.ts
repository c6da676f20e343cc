import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

import { type Fields, ProtobufWalker } from "./protobuf.js";

/** Walks bytes with a table that is made for the walker; what is refused begins with the byte. */
function walk(
  bytes: ArrayLike<number>,
  fields: (walker: ProtobufWalker) => Fields,
  repeated: readonly number[] = [],
): void {
  const walker = new ProtobufWalker(Uint8Array.from(bytes), (what, at) => new TypeError(`${at}: ${what}`));
  walker.whole("it", fields(walker), repeated);
}

/** Every kind of value, at its field. */
const everything = (into: unknown[]) => (walker: ProtobufWalker) => ({
  1: () => into.push(walker.integer("an integer")),
  2: () => into.push(walker.text("a text")),
  3: () => into.push(walker.float("a float")),
  4: () => into.push(walker.double("a double")),
  5: () => into.push(walker.fixed32("bits")),
  6: () => into.push([...walker.bytesOf("bytes")]),
  7: () => walker.packed("numbers", WireType.Varint, () => into.push(walker.bigint("a number"))),
  8: () => walker.message("a message", { 1: () => into.push(walker.count("a count")) }),
});

test("every kind of value is given as it was written", () => {
  const found: unknown[] = [];
  const bytes = new BinaryWriter().tag(1, WireType.Varint).int64(-5);
  bytes.tag(2, WireType.LengthDelimited).string("ü").tag(3, WireType.Bit32).float(0.5);
  bytes.tag(4, WireType.Bit64).double(0.1).tag(5, WireType.Bit32).fixed32(0xfffffffe);
  bytes.tag(6, WireType.LengthDelimited).bytes(Uint8Array.of(7)).tag(7, WireType.Varint).int64(1);
  bytes.tag(7, WireType.LengthDelimited).fork().int64(2).int64("-9223372036854775808").join();
  bytes.tag(8, WireType.LengthDelimited).fork().tag(1, WireType.Varint).int64(3).join();
  walk(bytes.finish(), everything(found), [7]);
  assert.deepEqual(found, [-5, "ü", 0.5, 0.1, 0xfffffffe, [7], 1n, 2n, -(2n ** 63n), 3]);
});

test("any value that is passed over leaves the walk behind it", () => {
  const bytes = new BinaryWriter()
    .tag(1, WireType.Varint)
    .int64(-5)
    .tag(2, WireType.LengthDelimited)
    .string("x");
  bytes.tag(3, WireType.Bit32).float(1).tag(4, WireType.Bit64).double(1);
  let skipped = 0;
  walk(bytes.finish(), (walker) =>
    Object.fromEntries([1, 2, 3, 4].map((field) => [field, () => (walker.skip("a field"), skipped++)])),
  );
  assert.equal(skipped, 4);
});

suite("refused with the byte is", () => {
  const refusals: [name: string, bytes: number[], message: RegExp][] = [
    ["a field that the table does not name", [0x48, 0], /^1: it with an unknown field 9/],
    ["a second value of a field that is not repeated", [0x08, 1, 0x08, 2], /^3: it with field 1 twice/],
    ["another wire type", [0x0d, 0, 0, 0, 0], /^1: an integer of wire type 5, expected 0/],
    ["a number where a text is", [0x10, 0], /^1: a text of wire type 0, expected 2/],
    ["a length beyond the bytes", [0x12, 5, 0x61], /^2: a text of 5 bytes, of which 1 are there/],
    ["a length beyond its message", [0x42, 2, 0x0a, 9, 0, 0], /a count of wire type 2/],
    ["a number that leaves its message", [0x42, 2, 0x08, 0x80, 0x01], /^5: a field leaves a message, which ends at byte 4/],
    ["packed numbers that end inside one", [0x3a, 1, 0x80, 0x01], /^4: numbers end inside a number/],
    ["a length of 2^32 + 5", [0x12, 0x85, 0x80, 0x80, 0x80, 0x10, 0, 0, 0, 0, 0], /a text of 4 GiB or more/],
    ["a text that is not UTF-8", [0x12, 1, 0xff], /a text that is not UTF-8/],
    ["an integer beyond 2^53", [0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10], /an integer of 9007199254740992/],
    ["a count below 0", [0x42, 11, 0x08, ...Array<number>(9).fill(0xff), 0x01], /a count of -1/],
    ["a varint without an end", [0x08, ...Array<number>(11).fill(0x80)], /no whole protobuf message: invalid varint/],
    ["field 0", [0x02, 0], /no whole protobuf message: illegal tag/],
    ["a group", [0x0b, 0x0c], /an integer of wire type 3/],
    ["a tag that is cut off", [0x80], /no whole protobuf message/],
  ]; // prettier-ignore
  for (const [name, bytes, message] of refusals) {
    test(name, () => {
      assert.throws(
        () => walk(bytes, everything([])),
        (error: unknown) => {
          // Worded by the format, not by the library.
          assert.ok(error instanceof TypeError, String(error));
          assert.match(error.message, message);
          return true;
        },
      );
    });
  }

  test("a group that is passed over", () => {
    assert.throws(() => walk([0x0b, 0x0c], (walker) => ({ 1: () => walker.skip("a field") })), /wire type 3/);
  });

  test("nesting without an end", () => {
    let bytes = new Uint8Array(0);
    for (let depth = 0; depth < 100; depth++) {
      bytes = new Uint8Array(new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(bytes).finish());
    }
    const nested = (walker: ProtobufWalker): Fields => {
      const fields: Fields = { 1: () => walker.message("a message", fields) };
      return fields;
    };
    assert.throws(() => walk(bytes, nested), /49: messages are nested more than 16 deep/);
  });
});
