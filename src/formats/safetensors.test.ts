import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

import fc from "fast-check";

import { FormatError } from "../core/error.js";
import { encodeSafetensors, parseSafetensorsHeader } from "./safetensors.js";
import { openSafetensors } from "./safetensors-file.js";

let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "safetensors-"));
});
after(() => rm(folder, { recursive: true }));

/** A file with this header and `dataBytes` zeros; `length` overrides the header's declared length. */
function fileOf(header: string | Buffer, dataBytes: number, length?: bigint): Buffer {
  const bytes = Buffer.from(header);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(length ?? BigInt(bytes.length));
  return Buffer.concat([prefix, bytes, Buffer.alloc(dataBytes)]);
}

/** What opening these bytes says. */
async function opening(bytes: Uint8Array): Promise<{ names: string[] } | { error: FormatError }> {
  const path = join(folder, "x.safetensors");
  await writeFile(path, bytes);
  try {
    const file = await openSafetensors(path);
    await file.close();
    return { names: [...file.tensors.keys()] };
  } catch (error) {
    assert.ok(error instanceof FormatError, `not a FormatError: ${String(error)}`);
    return { error };
  }
}

const one = `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`;

suite("safetensors", () => {
  test("what is written is read back, metadata and empty tensors too", async () => {
    const path = join(folder, "round.safetensors");
    const tensors = [
      { name: "weight.β", shape: [2, 3], data: Float32Array.of(1, -2, 3.5, NaN, Infinity, -0) },
      { name: "empty", shape: [0, 4], data: new Float32Array(0) },
      { name: "scalar", shape: [], data: Float32Array.of(7) },
    ];
    await writeFile(
      path,
      Buffer.concat(encodeSafetensors(tensors, new Map([["class_names", '["a\\n","b"]']]))),
    );
    const file = await openSafetensors(path);
    assert.equal(file.metadata.get("class_names"), '["a\\n","b"]');
    for (const { name, shape, data } of tensors) {
      assert.deepEqual(file.tensors.get(name)?.shape, shape);
      assert.deepEqual(await file.readFloat32(name), data);
    }
    await assert.rejects(file.readFloat32("missing"), FormatError);
    await file.close();
  });

  test("the data begins at a multiple of 8 bytes", () => {
    const [header] = encodeSafetensors([{ name: "a", shape: [1], data: Float32Array.of(1) }], new Map());
    assert.equal((header as Uint8Array).length % 8, 0);
  });

  test("keys may come in any order, with spaces, and padded at the end", async () => {
    const text = ` { "b" : {"data_offsets":[ 0, 8 ],"shape":[1 ,2], "dtype":"F32"} }   `;
    assert.ok("error" in (await opening(fileOf(text, 8)))); // must begin with {
    assert.deepEqual(await opening(fileOf(text.trimStart(), 8)), { names: ["b"] });
  });

  const cases: [name: string, bytes: Buffer, message: RegExp][] = [
    ["a file shorter than its length field", Buffer.alloc(5), /no safetensors file/],
    ["an empty file", Buffer.alloc(0), /no safetensors file/],
    ["a header length of 2^63", fileOf(one, 8, 2n ** 63n), /header's length/],
    ["a header length of 100,000,001", fileOf(one, 8, 100_000_001n), /header's length/],
    ["a header longer than the file", fileOf(one, 0, 60n), /header's length/],
    ["an empty header", fileOf("", 0), /does not begin with \{/],
    ["a list as header", fileOf("[]", 0), /does not begin with \{/],
    ["a byte that is no UTF-8", fileOf(Buffer.from([0x7b, 0x22, 0xff, 0x22]), 0), /not UTF-8/],
    ["a byte order mark", fileOf(`\uFEFF${one}`, 8), /does not begin with \{/],
    ["a missing brace", fileOf(one.slice(0, -1), 8), /expected }/],
    ["text after the header", fileOf(`${one}x`, 8), /text follows/],
    ["a trailing comma", fileOf(one.replace("]}}", "]},}"), 8), /expected a string/],
    ["a tensor twice", fileOf(`{${one.slice(1, -1)},${one.slice(1)}`, 8), /"a" appears twice/],
    [
      "a tensor twice, once escaped",
      fileOf(`{${one.slice(1, -1)},${one.slice(1).replace('"a"', '"\\u0061"')}`, 8),
      /appears twice/,
    ],
    ["metadata twice", fileOf(`{"__metadata__":{},"__metadata__":{}}`, 0), /__metadata__ appears twice/],
    ["a metadata key twice", fileOf(`{"__metadata__":{"k":"1","k":"2"}}`, 0), /"k" appears twice/],
    ["metadata that is no text", fileOf(`{"__metadata__":{"k":1}}`, 0), /expected a string/],
    ["__proto__ as a name", fileOf(one.replace('"a"', '"__proto__"'), 8), /"__proto__" is not allowed/],
    ["an empty name", fileOf(one.replace('"a"', '""'), 8), /"" is not allowed/],
    ["a name with NUL", fileOf(one.replace('"a"', '"a\\u0000"'), 8), /is not allowed/],
    [
      "a name with an escape sequence of terminals",
      fileOf(one.replace('"a"', '"\\u001b[2J"'), 8),
      /"\\u001b\[2J" is not/,
    ],
    ["a name that turns text around", fileOf(one.replace('"a"', '"a\u202eb"'), 8), /\\u\{202e\}/],
    [
      "a name of 1,025 characters",
      fileOf(one.replace('"a"', `"${"n".repeat(1025)}"`), 8),
      /n…" is not allowed/,
    ],
    ["half a surrogate pair", fileOf(one.replace('"a"', '"\\ud800"'), 8), /surrogate/],
    ["a newline in a string", fileOf(one.replace('"a"', '"a\n"'), 8), /JSON forbids/],
    ["a string without end", fileOf(`{"a`, 0), /JSON forbids/],
    ["an unknown escape", fileOf(one.replace('"a"', '"\\x61"'), 8), /JSON forbids/],
    ["an unknown type", fileOf(one.replace("F32", "F12"), 8), /unknown type "F12"/],
    ["a type that is an object's own word", fileOf(one.replace("F32", "toString"), 8), /unknown type/],
    ["a type in small letters", fileOf(one.replace("F32", "f32"), 8), /unknown type/],
    ["no type", fileOf(one.replace('"dtype":"F32",', ""), 8), /lacks dtype/],
    ["a key twice", fileOf(one.replace('"shape":[2]', '"shape":[2],"shape":[2]'), 8), /repeated key "shape"/],
    [
      "an unknown key",
      fileOf(one.replace('"shape"', '"strides":[1],"shape"'), 8),
      /unknown or repeated key "strides"/,
    ],
    ["a negative length", fileOf(one.replace("[2]", "[-2]"), 8), /whole number/],
    ["a fraction", fileOf(one.replace("[2]", "[2.0]"), 8), /whole number/],
    ["an exponent", fileOf(one.replace("[2]", "[2e0]"), 8), /whole number/],
    ["a leading zero", fileOf(one.replace("[2]", "[02]"), 8), /whole number|expected/],
    ["2^53", fileOf(one.replace("0,8", "0,9007199254740992"), 8), /whole number/],
    ["a number as text", fileOf(one.replace("[2]", '["2"]'), 8), /whole number/],
    [
      "a shape whose product is beyond 2^53",
      fileOf(one.replace("[2]", "[4294967296,4294967296,0]"), 8),
      /larger than 2\^53/,
    ],
    [
      "a shape that disagrees with its bytes",
      fileOf(one.replace("[2]", "[3]"), 8),
      /needs 12 bytes, data_offsets give 8/,
    ],
    ["begin after end", fileOf(one.replace("0,8", "8,0"), 8), /no range/],
    ["one offset", fileOf(one.replace("0,8", "8"), 8), /no range/],
    ["three offsets", fileOf(one.replace("0,8", "0,8,8"), 8), /no range/],
    ["data cut short", fileOf(one, 7), /ends at byte 70, the file has 69; is it complete/],
    ["bytes after the data", fileOf(one, 9), /bytes follow the last tensor/],
    ["data without tensors", fileOf("{}", 4), /bytes follow/],
    [
      "tensors that overlap",
      fileOf(`${one.slice(0, -1)},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8),
      /"b" overlaps/,
    ],
    [
      "a hole between tensors",
      fileOf(`${one.slice(0, -1)},"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}}`, 16),
      /"b" leaves a hole/,
    ],
    ["a hole at the start", fileOf(one.replace("0,8", "4,12"), 12), /"a" leaves a hole/],
    ["nesting 100,000 deep", fileOf(`{"a":${"{".repeat(100_000)}`, 0), /expected a string/],
    ["brackets 100,000 deep", fileOf(`{"a":{"shape":${"[".repeat(100_000)}`, 0), /whole number/],
  ];
  for (const [name, bytes, message] of cases) {
    test(`${name} is refused by name`, async () => {
      const result = await opening(bytes);
      assert.ok("error" in result, "it was accepted");
      assert.match(result.error.message, message);
    });
  }

  test("a million characters of a string without end are refused without overflowing the stack", async () => {
    const result = await opening(fileOf(`{"${"\\\\".repeat(500_000)}`, 0));
    assert.ok("error" in result);
  });

  test("no mutation of a valid file does anything but open or be refused", () => {
    const bytes = fileOf(one, 8).subarray(8, 8 + one.length);
    const before = Object.getOwnPropertyNames(Object.prototype).length;
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        (mutations) => {
          const mutated = Buffer.from(bytes);
          for (const [at, value] of mutations) mutated[at] = value;
          try {
            const { tensors } = parseSafetensorsHeader(mutated, 8 + mutated.length + 8, "mutated");
            for (const { begin, end } of tensors.values())
              assert.ok(begin >= 0 && end <= 16 + mutated.length);
          } catch (error) {
            assert.ok(error instanceof FormatError, String(error));
          }
        },
      ),
      { numRuns: Number(process.env["RIFFLE_FUZZ"] ?? 20_000) },
    );
    assert.equal(Object.getOwnPropertyNames(Object.prototype).length, before);
  });
});
