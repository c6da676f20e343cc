import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32 as zlibCrc32 } from "node:zlib";

import { unzipSync, zipSync } from "fflate";

import { crc32 } from "./crc32.js";
import { encodeStoredZip } from "./stored-zip-writer.js";
import { StoredZip } from "./stored-zip.js";

const files = {
  "run/state.json": new TextEncoder().encode("{}"),
  "run/data/größe/1.png": Uint8Array.of(1, 2, 3),
  "run/nothing": new Uint8Array(),
};

const members = Object.entries(files).map(([name, content]) => ({ name, content }));

test("the sum is zlib's", () => {
  const bytes = Uint8Array.from({ length: 1000 }, (_, i) => i % 251);
  assert.equal(crc32(bytes), zlibCrc32(bytes));
  assert.equal(crc32(bytes.subarray(300), crc32(bytes.subarray(0, 300))), zlibCrc32(bytes));
});

test("what is written is read here and by others, names with letters beyond ASCII among it", () => {
  const bytes = new Uint8Array(Buffer.concat(encodeStoredZip(members)));
  assert.deepEqual(unzipSync(bytes), files);
  const zip = StoredZip.open(bytes, "a.zip", () => undefined);
  assert.deepEqual(zip.names, Object.keys(files));
  for (const [name, content] of Object.entries(files)) assert.deepEqual(zip.content(name), content);
});

test("a directory of 64 bits is read, as PyTorch writes it for large files", () => {
  const plain = Buffer.from(zipSync(files, { level: 0 }));
  const end = plain.length - 22;
  const record = Buffer.alloc(56);
  record.writeUInt32LE(0x06064b50, 0);
  record.writeBigUInt64LE(BigInt(members.length), 32);
  record.writeBigUInt64LE(BigInt(plain.readUInt32LE(end + 12)), 40);
  record.writeBigUInt64LE(BigInt(plain.readUInt32LE(end + 16)), 48);
  const locator = Buffer.alloc(20);
  locator.writeUInt32LE(0x07064b50, 0);
  locator.writeBigUInt64LE(BigInt(end), 8);
  const last = Buffer.from(plain.subarray(end));
  last.writeUInt32LE(0xffffffff, 16);
  const bytes = new Uint8Array(Buffer.concat([plain.subarray(0, end), record, locator, last]));
  assert.deepEqual(
    StoredZip.open(bytes, "a.zip", () => undefined).content("run/state.json"),
    files["run/state.json"],
  );
  record.writeBigUInt64LE(2n ** 60n, 48);
  assert.throws(
    () =>
      StoredZip.open(
        Buffer.concat([plain.subarray(0, end), record, locator, last]),
        "a.zip",
        () => undefined,
      ),
    /not readable as a zip file/,
  );
});
