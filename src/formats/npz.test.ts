import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";

import fc from "fast-check";
import { zipSync } from "fflate";

import { npyBytes } from "../../test/support/numpy-bytes.js";
import { repository } from "../../test/support/paths.js";
import { readNpz } from "../../test/support/read-npz.js";
import { FormatError } from "../core/error.js";
import { openNpz } from "./npz.js";

const folder = mkdtempSync(join(tmpdir(), "riffle-npz-"));
after(() => rmSync(folder, { recursive: true }));

let files = 0;
function stored(bytes: Uint8Array): string {
  const path = join(folder, `${files++}.npz`);
  writeFileSync(path, bytes);
  return path;
}

const labels = npyBytes("<i4", [3], Int32Array.of(2, 0, 1));
const images = npyBytes("|u1", [3, 100, 100], new Uint8Array(30_000));
const archive = zipSync({ "train_images.npy": images, "train_labels.npy": [labels, { level: 0 }] });

/** The archive with a 32-bit little-endian field changed, `offset` bytes into member `index`'s directory entry. */
function withEntryField(index: number, offset: number, value: number): Buffer {
  const bytes = Buffer.from(archive);
  let entry = -1;
  for (let i = 0; i <= index; i++) entry = bytes.indexOf("PK\x01\x02", entry + 1, "latin1");
  bytes.writeUInt32LE(value, entry + offset);
  return bytes;
}

/** The archive with a ZIP64 end record, and a locator that says where it stands. */
function withZip64End(place?: bigint): Buffer {
  const bytes = Buffer.from(archive);
  const end = bytes.length - 22;
  const record = Buffer.alloc(56);
  record.writeUInt32LE(0x06064b50);
  record.writeBigUInt64LE(2n, 32);
  record.writeBigUInt64LE(BigInt(bytes.readUInt32LE(end + 16)), 48);
  const locator = Buffer.alloc(20);
  locator.writeUInt32LE(0x07064b50);
  locator.writeBigUInt64LE(place ?? BigInt(end), 8);
  return Buffer.concat([bytes.subarray(0, end), record, locator, bytes.subarray(end)]);
}

suite("openNpz", () => {
  test("reads stored and deflated members by name", async () => {
    const arrays = await readNpz(stored(archive));
    assert.deepEqual([...arrays.keys()], ["train_images", "train_labels"]);
    assert.deepEqual(arrays.get("train_labels")?.data, Int32Array.of(2, 0, 1));
    assert.deepEqual(arrays.get("train_images")?.shape, [3, 100, 100]);
  });

  test("gives a shape without reading the numbers", async () => {
    const npz = await openNpz(stored(archive));
    assert.deepEqual((await npz.header("train_images")).shape, [3, 100, 100]);
  });

  test("names what there is when an array is missing", async () => {
    const npz = await openNpz(stored(archive));
    await assert.rejects(npz.read("images"), /has no array "images".*train_images, train_labels/);
  });

  test("finds a flipped byte in the data by its CRC-32", async () => {
    const bytes = Buffer.from(archive);
    const at = bytes.indexOf("NUMPY", bytes.indexOf("train_labels.npy")) + 127;
    bytes[at] = (bytes[at] as number) ^ 1;
    const npz = await openNpz(stored(bytes));
    await assert.rejects(npz.read("train_labels"), /CRC-32/);
  });

  test("refuses a declared length that deflate cannot reach, before taking memory", async () => {
    await assert.rejects(openNpz(stored(withEntryField(0, 24, 0xfffffff0))), /cannot hold/);
  });

  test("H10: refuses members that share their bytes, whose unpacking the file's length would not bound", async () => {
    const noise = npyBytes(
      "|u1",
      [5000],
      Uint8Array.from({ length: 5000 }, (_, i) => (i * i * 31) >> 3),
    );
    const bytes = Buffer.from(zipSync({ "first.npy": noise, "other.npy": new Uint8Array(0) }));
    const first = bytes.indexOf("PK\x01\x02", 0, "latin1");
    const second = bytes.indexOf("PK\x01\x02", first + 1, "latin1");
    // Method, CRC-32, both lengths; and where the member lies.
    bytes.copy(bytes, second + 10, first + 10, first + 28);
    bytes.copy(bytes, second + 42, first + 42, first + 46);
    await assert.rejects(openNpz(stored(bytes)), isFormatError(/other and those before it take more bytes/));
  });

  test("H10: stops where a member unpacks to more than it declares", async () => {
    // 30,000 bytes lie in the member; its header and the directory say 128 + 8,000.
    const short = npyBytes("|u1", [8000], new Uint8Array(8000));
    const bytes = Buffer.from(zipSync({ "x.npy": Buffer.concat([short, Buffer.alloc(22_000)]) }));
    bytes.writeUInt32LE(short.length, bytes.indexOf("PK\x01\x02", 0, "latin1") + 24);
    const npz = await openNpz(stored(bytes));
    await assert.rejects(npz.read("x"), isFormatError(/too many bytes/));
  });

  test("refuses a shape that disagrees with the declared length", async () => {
    const npz = await openNpz(stored(withEntryField(0, 24, 40_000)));
    await assert.rejects(npz.read("train_images"), /disagree about its length/);
  });

  test("refuses arrays above the caller's limit", async () => {
    const npz = await openNpz(stored(archive), { maxBytes: 10_000 });
    await assert.rejects(npz.read("train_images"), /at most 10000 bytes, found 30128/);
  });

  test("refuses a member past the end of the file", async () => {
    const npz = await openNpz(stored(withEntryField(1, 42, 0x7fffffff)));
    await assert.rejects(npz.read("train_labels"), /past the end/);
  });

  test("reads a ZIP64 directory, and refuses one beyond any file", async () => {
    assert.equal((await readNpz(stored(withZip64End()))).size, 2);
    // fs throws at 2^63, outside of any promise.
    await assert.rejects(readNpz(stored(withZip64End(2n ** 63n))), isFormatError(/past the end/));
  });

  test("refuses encryption and methods it does not know, by name", async () => {
    // Flags and method stand side by side.
    const encrypted = stored(withEntryField(0, 8, 0x00080001));
    await assert.rejects(openNpz(encrypted), isFormatError(/train_images is encrypted/));
    const bzip2 = stored(withEntryField(0, 8, 0x000c0000));
    await assert.rejects(openNpz(bzip2), isFormatError(/method 12; stored \(0\) and deflated \(8\)/));
  });

  test("refuses two members of one name", async () => {
    const bytes = Buffer.from(archive);
    bytes.write("train_images", bytes.lastIndexOf("train_labels"));
    await assert.rejects(openNpz(stored(bytes)), isFormatError(/train_images twice/));
  });

  test("refuses members that are not arrays, and names that climb out of a folder", async () => {
    const without = await openNpz(stored(zipSync({ "x.txt": labels })));
    assert.deepEqual([without.names, without.others], [[], ["x.txt"]]);
    await assert.rejects(openNpz(stored(zipSync({ "../x.npy": labels }))), isFormatError(/relative path/));
    await assert.rejects(openNpz(stored(zipSync({ "\né.npy": labels }))), isFormatError(/not printable/));
  });

  test("says that a file without a directory may be incomplete", async () => {
    const cut = stored(archive.subarray(0, archive.length - 30));
    await assert.rejects(openNpz(cut), isFormatError(/file is truncated/));
    await assert.rejects(openNpz(stored(new Uint8Array(0))), isFormatError(/not a zip file/));
  });

  test("throws nothing but FormatError on damaged archives", async () => {
    const damaged = fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(archive.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
      async (edits) => {
        const bytes = Buffer.from(archive);
        for (const [at, value] of edits) bytes[at] = value;
        try {
          await readNpz(stored(bytes));
        } catch (error) {
          assert.ok(error instanceof FormatError, String(error));
        }
      },
    );
    await fc.assert(damaged, { numRuns: 500 });
  });
});

function isFormatError(words: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof FormatError, String(error));
    assert.match(error.message, words);
    return true;
  };
}

test("arrays of NumPy's are the same numbers in Fortran order, big-endian, and with a README between them", async () => {
  const npz = await openNpz(join(repository, "test", "golden", "arrays", "odd.npz"));
  assert.deepEqual(npz.others, ["README.md"]);
  const expected = Array.from({ length: 24 }, (_, i) => (i * 37) % 251);
  for (const name of ["plain", "fortran", "big", "both", "short"]) {
    const { shape, data } = await npz.read(name);
    assert.deepEqual([shape, Array.from(data, Number)], [[2, 3, 4], expected], name);
  }
  assert.deepEqual((await npz.read("text")).data, ["\u00e9", "bc", ""]);
});

test("an array that is longer than a buffer is read in pieces of whole rows, and its damage is noticed", async () => {
  const bytes = Uint8Array.from({ length: 7 * 100 }, (_, i) => (i * 37) % 251);
  const zip = zipSync({ "images.npy": npyBytes("|u1", [7, 10, 10], bytes), "flat.npy": labels });
  for (const pieceBytes of [100, 250, 300, 699, 4096]) {
    const npz = await openNpz(stored(zip), { pieceBytes, maxBytes: 300 });
    assert.deepEqual((await npz.header("images")).shape, [7, 10, 10]);
    const { row, header } = await npz.readRows("images");
    assert.deepEqual(header.shape, [7, 10, 10]);
    for (let i = 0; i < 7; i++) {
      assert.deepEqual(
        Buffer.from(row(i)),
        Buffer.from(bytes.subarray(100 * i, 100 * (i + 1))),
        `${pieceBytes}, ${i}`,
      );
    }
  }
  const small = await openNpz(stored(zip), { pieceBytes: 99 });
  await assert.rejects(small.readRows("images"), /one entry is too long/);
  await assert.rejects(small.readRows("flat"), /holds no bytes/);
  const loose = zipSync({ "images.npy": [npyBytes("|u1", [7, 10, 10], bytes), { level: 0 }] });
  loose[loose.length - 400]! ^= 1;
  await assert.rejects(
    openNpz(stored(loose), { pieceBytes: 300 }).then((npz) => npz.readRows("images")),
    FormatError,
  );
});
