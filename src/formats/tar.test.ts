import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";
import { gzipSync } from "node:zlib";

import { paxEntry, tarBytes, tarEntry } from "../../test/support/tar-bytes.js";
import { DataError, FormatError } from "../core/error.js";
import { openFile, type SkippedMember, tarContents, type TarMember, tarMembers } from "./tar.js";

const folder = mkdtempSync(join(tmpdir(), "riffle-tar-"));
after(() => rmSync(folder, { recursive: true }));

const END = Buffer.alloc(1024);

function index(bytes: Buffer, skipped: SkippedMember[] = []): TarMember[] {
  const readAt = (at: number, length: number) => bytes.subarray(at, at + length);
  return [
    ...tarMembers(readAt, { start: 0, end: bytes.length }, "test.tar", (member) => skipped.push(member)),
  ];
}

async function contents(path: string, maxBytes = 1000): Promise<[string, string][]> {
  const found: [string, string][] = [];
  for await (const { name, bytes } of tarContents(path, (n) => n.endsWith(".txt"), maxBytes)) {
    found.push([name, Buffer.from(bytes).toString()]);
  }
  return found;
}

function stored(name: string, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

suite("tarMembers", () => {
  test("finds files where they stand, and passes over folders", () => {
    const bytes = tarBytes([
      { name: "./a/", type: "5" },
      { name: "./a/one.txt", data: Buffer.from("one") },
      { name: "two.txt", data: Buffer.alloc(513, "2") },
      { name: "empty" },
    ]);
    assert.deepEqual(index(bytes), [
      { name: "a/one.txt", offset: 1024, size: 3 },
      { name: "two.txt", offset: 2048, size: 513 },
      { name: "empty", offset: 3584, size: 0 },
    ]);
  });

  test("reads long names of ustar, GNU and pax", () => {
    const long = `${"f".repeat(90)}/${"n".repeat(200)}.JPEG`;
    const gnu = tarEntry({ name: "././@LongLink", type: "L", data: Buffer.from(`${long}\0`) });
    const entry = tarEntry({ name: "cut", data: Buffer.from("x") });
    const prefixed = tarEntry({ name: "n.JPEG", change: (header) => void header.write("folder", 345) });
    const bytes = Buffer.concat([
      gnu,
      entry,
      paxEntry({ path: `p/${long}`, mtime: "1.5" }),
      entry,
      prefixed,
      entry,
      END,
    ]);
    assert.deepEqual(
      index(bytes).map(({ name }) => name),
      [long, `p/${long}`, "folder/n.JPEG", "cut"],
    );
  });

  test("GNU's times in the place of a prefix are no part of the name", () => {
    const entry = tarEntry({
      name: "n.JPEG",
      change: (header) => {
        header.write("ustar  \0", 257);
        header.write("14046130600", 345);
      },
    });
    assert.equal(index(Buffer.concat([entry, END]))[0]?.name, "n.JPEG");
  });

  test("reads lengths in base 256 and in pax", () => {
    const data = Buffer.from("12345");
    const base256 = tarEntry({
      name: "b",
      data,
      change: (header) => {
        header.fill(0, 124, 136);
        header[124] = 0x80;
        header[135] = 5;
      },
    });
    const bytes = Buffer.concat([
      base256,
      paxEntry({ size: "5" }),
      tarEntry({ name: "p", data, size: 0 }),
      END,
    ]);
    assert.deepEqual(
      index(bytes).map(({ size }) => size),
      [5, 5],
    );
  });

  test("leaves out links, devices and sparse files, and says so", () => {
    const skipped: SkippedMember[] = [];
    const sparse = tarEntry({
      name: "s",
      type: "S",
      data: Buffer.from("data"),
      change: (header) => (header[482] = 1),
    });
    // The map's second block stands between the header and the data.
    const withMap = Buffer.concat([sparse.subarray(0, 512), Buffer.alloc(512), sparse.subarray(512)]);
    const bytes = Buffer.concat([
      tarEntry({ name: "l", type: "2" }),
      tarEntry({ name: "h", type: "1", size: 700 }),
      tarEntry({ name: "d", type: "3" }),
      withMap,
      paxEntry({ "GNU.sparse.major": "1" }),
      tarEntry({ name: "g", data: Buffer.from("map") }),
      tarEntry({ name: "?", type: "Z", data: Buffer.from("zzz") }),
      tarEntry({ name: "\xff", change: (header) => (header[0] = 0xff) }),
      tarEntry({ name: "last" }),
      END,
    ]);
    assert.deepEqual(
      index(bytes, skipped).map(({ name }) => name),
      ["last"],
    );
    assert.deepEqual(
      skipped.map(({ name, reason }) => `${name}: ${reason}`),
      [
        "l: a symbolic link",
        "h: a hard link",
        "d: a device",
        "s: a sparse file",
        "g: a sparse file",
        '?: of the unknown type "Z"',
        "(a name): a name that is not UTF-8",
      ],
    );
  });

  test("an archive in an archive is a range of the same bytes", () => {
    const inner = tarBytes([{ name: "x.JPEG", data: Buffer.from("picture") }]);
    const outer = tarBytes([{ name: "first" }, { name: "n01440764.tar", data: inner }]);
    const readAt = (at: number, length: number) => outer.subarray(at, at + length);
    const [, { offset = 0, size = 0 } = {}] = index(outer);
    const [member] = tarMembers(readAt, { start: offset, end: offset + size }, "outer::inner");
    assert.equal(outer.subarray(member?.offset, (member?.offset ?? 0) + 7).toString(), "picture");
  });

  const whole = tarBytes([{ name: "a.txt", data: Buffer.from("abc") }]);
  const flipped = Buffer.from(whole);
  flipped[3] = 0x7a;
  const changed = (change: (header: Buffer) => void) => Buffer.concat([tarEntry({ name: "a", change }), END]);
  const refused: readonly (readonly [string, Buffer, RegExp])[] = [
    ["an empty file", Buffer.alloc(0), /byte 0: the archive ends without its end mark/],
    ["a header with a flipped bit", flipped, /byte 0: no header of a tar archive: its checksum is wrong/],
    ["a picture", Buffer.alloc(2048, 0xd8), /no header of a tar archive/],
    ["a gzipped archive", gzipSync(whole), /test\.tar, byte 0: compressed with gzip.*gunzip < test\.tar > /],
    [
      "an archive cut in a member",
      tarEntry({ name: "a.JPEG", size: 5000 }),
      /ends inside "a\.JPEG" \(expected 5000 more bytes, found 0\)/,
    ],
    [
      "an archive cut between members",
      whole.subarray(0, 1024),
      /byte 1024: the archive ends without its end mark/,
    ],
    [
      "a length of 2^64 - 1",
      changed((h) => h.fill(0xff, 125, 136).fill(0x80, 124, 125)),
      /no length in the header/,
    ],
    ["a negative length", changed((h) => h.fill(0xff, 124, 136)), /no length in the header/],
    ["a length in letters", changed((h) => void h.write("1e9", 124)), /no length in the header/],
    [
      "a name of a gigabyte",
      tarEntry({ name: "x", type: "L", size: 2 ** 30 }),
      /name or pax header is too long/,
    ],
    [
      "a pax header whose length lies",
      Buffer.concat([tarEntry({ name: "x", type: "x", data: Buffer.from("99 path=a\n") }), END]),
      /damaged pax header/,
    ],
    ["a pax length in letters", Buffer.concat([paxEntry({ size: "many" }), whole]), /no length.*"many"/],
  ];
  for (const [name, bytes, words] of refused) {
    test(`refuses ${name}`, () => {
      assert.throws(
        () => index(bytes),
        (error: unknown) => {
          assert.ok(error instanceof FormatError, String(error));
          assert.match(error.message, words);
          return true;
        },
      );
    });
  }
});

suite("tarContents", () => {
  const archive = tarBytes([
    { name: "a/one.txt", data: Buffer.from("one") },
    { name: "big.bin", data: Buffer.alloc(300_000, 1) },
    { name: "a/two.txt", data: Buffer.alloc(900, "2") },
  ]);
  const expected = [
    ["a/one.txt", "one"],
    ["a/two.txt", "2".repeat(900)],
  ];

  test("reads the members that are wanted, plain and gzipped", async () => {
    assert.deepEqual(await contents(stored("plain.tar", archive)), expected);
    assert.deepEqual(await contents(stored("packed.tar.gz", gzipSync(archive))), expected);
  });

  test("refuses a wanted member beyond the limit", async () => {
    await assert.rejects(
      contents(stored("limit.tar", archive), 100),
      /limit\.tar::a\/two\.txt, byte \d+: longer than/,
    );
    await assert.rejects(
      contents(stored("limit.tar.gz", gzipSync(archive)), 100),
      /longer than what it should hold/,
    );
  });

  test("refuses a gzipped archive that is cut or damaged", async () => {
    const packed = gzipSync(archive);
    await assert.rejects(contents(stored("cut.tar.gz", packed.subarray(0, packed.length - 20))), DataError);
    const damaged = Buffer.from(packed);
    // The checksum of all that was packed, which stands before the length in the last eight bytes.
    damaged[packed.length - 8] = (damaged[packed.length - 8] as number) ^ 1;
    await assert.rejects(contents(stored("damaged.tar.gz", damaged)), /cannot be unpacked/);
    await assert.rejects(contents(stored("cut-inside.tar.gz", gzipSync(archive.subarray(0, 2000)))), /ends/);
    const endless = gzipSync(Buffer.concat([archive, Buffer.alloc(3_000_000)]));
    await assert.rejects(contents(stored("endless.tar.gz", endless)), /goes on long after/);
  });

  test("refuses what is no file", async () => {
    await assert.rejects(contents(join(folder, "nowhere.tar")), /there is no such file/);
    await assert.rejects(contents(folder), /a folder, where a file is expected/);
    assert.throws(() => openFile("/dev/zero"), /no plain file/);
  });
});
