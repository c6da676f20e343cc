import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";
import { gzipSync } from "node:zlib";

import { DataError } from "../../core/error.js";
import { crc32c, hex32 } from "../../formats/crc32c.js";
import { encodeExample } from "../../formats/tf-example.js";
import { frameRecord } from "../../formats/tfrecord.js";
import { indexPieces, openRecordIndex } from "./record-index.js";
import type { IndexOptions, IndexProgress } from "./record-scan.js";
import { parseKeys } from "./record-keys.js";
import { writeManifest } from "./record-manifest.js";

const root = mkdtempSync(join(tmpdir(), "riffle-index-"));
after(() => rmSync(root, { recursive: true }));
process.env["XDG_CACHE_HOME"] = join(root, "cache");

/** A record with this label; the picture is never decoded here. */
function record(label: number, picture = "jpeg"): Uint8Array {
  return frameRecord(
    encodeExample([
      ["image", { kind: "bytes", values: [Buffer.from(picture)] }],
      ["label", { kind: "ints", values: [BigInt(label)] }],
    ]),
  );
}

let folders = 0;
/** A folder of shards with these labels. */
function shards(...labels: number[][]): string {
  const folder = join(root, `set-${folders++}`);
  mkdirSync(folder);
  labels.forEach((list, i) =>
    writeFileSync(shardPath(folder, i), Buffer.concat(list.map((label) => record(label)))),
  );
  return folder;
}

function shardPath(folder: string, shard: number): string {
  return join(folder, `shard-000${shard}.tfrecords`);
}

/** Opens and gives the labels, with what was said meanwhile. */
async function opening(path: string, options: IndexOptions = {}) {
  const notices: string[] = [];
  let scanned = false;
  const index = await openRecordIndex(path, {
    ...options,
    onNotice: (text) => notices.push(text),
    onProgress: () => (scanned = true),
  });
  return { index, labels: [...index.labels], notices, scanned };
}

const rejects = (path: string, message: RegExp, options: IndexOptions = {}) =>
  assert.rejects(openRecordIndex(path, options), (error: unknown) => {
    assert.ok(error instanceof DataError, String(error));
    assert.match(error.message, message);
    return true;
  });

const one = record(1).length;

suite("the index of a folder of shards", () => {
  test("is made once, lies beside them, and gives every record's place and label", async () => {
    const folder = shards([5, 6], [], [7, -1]);
    unlinkSync(shardPath(folder, 1));
    const first = await opening(folder);
    assert.deepEqual(first.labels, [5, 6, 7, -1]);
    assert.deepEqual([...first.index.offsets], [0, one, 0, one]);
    assert.equal(first.scanned, true);
    assert.equal(first.index.file, join(folder, ".riffle-index"));
    const second = await opening(folder);
    assert.deepEqual([second.labels, second.scanned, second.notices], [[5, 6, 7, -1], false, []]);
    assert.deepEqual(second.index, first.index);
    assert.deepEqual(readdirSync(folder), [".riffle-index", "shard-0000.tfrecords", "shard-0002.tfrecords"]);
  });

  test("of a single shard is kept under that shard's name", async () => {
    const folder = shards([5], [6]);
    assert.deepEqual((await opening(shardPath(folder, 1))).labels, [6]);
    assert.equal((await opening(shardPath(folder, 1))).scanned, false);
    assert.deepEqual((await opening(folder)).labels, [5, 6]);
  });

  const changes: [name: string, change: (folder: string) => void, notice: RegExp, labels: number[]][] = [
    [
      "a shard grew",
      (f) => appendFileSync(shardPath(f, 1), record(9)),
      /shard-0001.*had \d+ bytes and has/,
      [1, 2, 9],
    ],
    [
      "a shard's time changed",
      (f) => utimesSync(shardPath(f, 0), 1e9, 1e9),
      /shard-0000.*was changed/,
      [1, 2],
    ],
    ["a shard is new", (f) => writeFileSync(shardPath(f, 5), record(3)), /shard-0005.*is new/, [1, 2, 3]],
    ["a shard is gone", (f) => unlinkSync(shardPath(f, 0)), /shard-0000.*is gone/, [2]],
    [
      "the index is cut short",
      (f) => truncateSync(join(f, ".riffle-index"), 100),
      /damaged \(wrong CRC\)/,
      [1, 2],
    ],
    ["the index is empty", (f) => truncateSync(join(f, ".riffle-index"), 0), /no index/, [1, 2]],
    [
      "the index is a text",
      (f) => writeFileSync(join(f, ".riffle-index"), "x".repeat(200)),
      /no index/,
      [1, 2],
    ],
  ];
  for (const [name, change, notice, labels] of changes) {
    test(`is made again, with a word about it, when ${name}`, async () => {
      const folder = shards([1], [2]);
      await opening(folder);
      change(folder);
      const again = await opening(folder);
      assert.match(again.notices.join(), notice);
      assert.deepEqual([again.labels, again.scanned], [labels, true]);
      assert.deepEqual((await opening(folder)).notices, []);
    });
  }

  test("is made again when other keys are asked for", async () => {
    const folder = shards([1]);
    await opening(folder);
    const given = { keys: parseKeys("image=image,label=label") };
    assert.match((await opening(folder, given)).notices.join(), /other keys/);
    assert.equal((await opening(folder, given)).scanned, false);
  });

  test("with any byte changed is never trusted", async () => {
    const folder = shards([1], [2]);
    await opening(folder);
    const path = join(folder, ".riffle-index");
    const good = readFileSync(path);
    for (let at = 0; at < good.length; at++) {
      const bad = Buffer.from(good);
      bad[at] = (bad[at] as number) ^ 0x41;
      writeFileSync(path, bad);
      const again = await opening(folder);
      assert.deepEqual([again.labels, again.scanned], [[1, 2], true], `byte ${at}`);
    }
  });

  test("whose CRC was put right, but whose records leave the shards, is made again", async () => {
    const folder = shards([1, 2]);
    const { index } = await opening(folder);
    for (const change of [
      { offsets: Float64Array.of(0, 1e9) },
      { offsets: Float64Array.of(0, 1) },
      { lengths: Uint32Array.of(1, 2 ** 31) },
    ]) {
      const { keys, shards, offsets, lengths, labels } = { ...index, ...change };
      writeFileSync(
        join(folder, ".riffle-index"),
        Buffer.concat(indexPieces({ keys, shards, offsets, lengths, labels }, null)),
      );
      assert.match((await opening(folder)).notices.join(), /do not lie in the shards/);
    }
  });

  test("goes to the user's cache where the folder takes no file", async () => {
    const folder = shards([1], [2]);
    mkdirSync(join(folder, ".riffle-index"));
    const first = await opening(folder);
    assert.match(first.notices.join(), /cannot be written.*so their index is .*cache/s);
    assert.ok(first.index.file?.startsWith(join(root, "cache", "riffle", "records-")));
    assert.equal((await opening(folder)).scanned, false);
    assert.deepEqual(readdirSync(folder).sort(), [
      ".riffle-index",
      "shard-0000.tfrecords",
      "shard-0001.tfrecords",
    ]);
  });

  test("tells its progress up to the last byte", async () => {
    const folder = shards([1, 2], [3]);
    let last: IndexProgress | undefined;
    await openRecordIndex(folder, { onProgress: (progress) => (last = progress) });
    const totalBytes = 3 * one;
    // Shards are read at once; which of them ends last is nobody's promise.
    const { shard, ...rest } = last as unknown as IndexProgress;
    assert.match(shard, /^shard-000[01]\.tfrecords$/);
    assert.deepEqual(rest, {
      shardsDone: 2,
      shards: 2,
      records: 3,
      bytes: totalBytes,
      totalBytes,
    });
  });

  test("is not waited for where a pipe has its name", async () => {
    const folder = shards([5]);
    execFileSync("mkfifo", [join(folder, ".riffle-index")]);
    const { labels, notices } = await opening(folder);
    assert.deepEqual(labels, [5]);
    assert.match(notices[0] ?? "", /\.riffle-index: not a regular file; making the index again/);
  });

  test("is not made of shards that are still being written, or that stand there compressed", async () => {
    const folder = shards([5], [6]);
    writeFileSync(join(folder, "plan.json"), '{\n "format": "riffle-records-plan-1"\n}\n');
    await rejects(
      folder,
      /unfinished: there is plan\.json but no manifest\.json.*Run the same npx riffle-vision create-tfrecords again/,
    );
    await manifestOf(folder, [1, 1]);
    assert.deepEqual((await opening(folder)).labels, [5, 6]);
    const packed = shards([5], [6]);
    writeFileSync(`${shardPath(packed, 1)}.gz`, gzipSync(readFileSync(shardPath(packed, 1))));
    assert.deepEqual((await opening(packed)).labels, [5, 6], "the same beside it");
    unlinkSync(shardPath(packed, 1));
    await rejects(packed, /shard-0001\.tfrecords\.gz: compressed with gzip.*gunzip --keep/);
  });

  test("refuses folders without shards, and paths that are not there", async () => {
    await rejects(shards(), /holds no shards of TFRecords.*\*\.tfrecords/);
    await rejects(join(root, "nowhere"), /no such file or folder/);
    await rejects(shards([]), /shard-0000\.tfrecords, byte 0: an empty file/);
  });
});

suite("damaged records", () => {
  /** Shards of 4 records; in each of these the picture is damaged. */
  function damaged(...records: (readonly [shard: number, record: number])[]): string {
    const folder = shards([0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]);
    for (const [shard, at] of records) {
      const bytes = readFileSync(shardPath(folder, shard));
      bytes[at * one + 40] = 0;
      writeFileSync(shardPath(folder, shard), bytes);
    }
    return folder;
  }

  test("stop the opening with shard, record, byte and check", async () => {
    const where = `shard-0001\\.tfrecords#2, byte ${2 * one}: record 2: wrong data CRC`;
    await rejects(damaged([1, 2]), new RegExp(`${where}.*--skip_bad_records 1`));
  });

  test("are left out and listed up to the number allowed, and stop beyond it naming the first", async () => {
    const folder = damaged([0, 1], [0, 3], [2, 0]);
    const { labels, index } = await opening(folder, { skipBadRecords: 3 });
    assert.deepEqual(labels, [0, 2, 4, 5, 6, 7, 9, 10, 11]);
    assert.deepEqual(
      index.shards.map(({ bad }) => bad.map(({ record }) => record)),
      [[1, 3], [], [0]],
    );
    await rejects(
      folder,
      /shard-0002\.tfrecords#0.*3 damaged.*more than --skip_bad_records 2.*the first was .*shard-0000\.tfrecords#1/,
      { skipBadRecords: 2 },
    );
    await rejects(folder, /shard-0000\.tfrecords#1/);
    // The same without an index to look it up in.
    unlinkSync(join(folder, ".riffle-index"));
    await rejects(folder, /shard-0002\.tfrecords#0.*3 damaged/, { skipBadRecords: 2 });
  });

  test("of which the length is damaged end their shard, and say so", async () => {
    const folder = shards([0, 1, 2, 3], [4]);
    const bytes = readFileSync(shardPath(folder, 0));
    bytes[one] = 99;
    writeFileSync(shardPath(folder, 0), bytes);
    const { labels, index } = await opening(folder, { skipBadRecords: 1 });
    assert.deepEqual(labels, [0, 4]);
    assert.match(
      index.shards[0]?.bad[0]?.reason ?? "",
      /wrong length CRC.*nothing after it in this shard can be found/,
    );
    // With a manifest it is known how many are lost.
    await manifestOf(folder, [4, 1]);
    unlinkSync(join(folder, ".riffle-index"));
    await rejects(folder, /#1, byte .*3 damaged or lost/, { skipBadRecords: 2 });
    assert.equal((await opening(folder, { skipBadRecords: 3 })).index.shards[0]?.bad[0]?.lost, 3);
  });

  test("are not what a file of another kind holds: it is refused with what to do, whatever may be skipped", async () => {
    const folder = shards([0], [1]);
    writeFileSync(shardPath(folder, 1), gzipSync(readFileSync(shardPath(folder, 0))));
    await rejects(folder, /shard-0001\.tfrecords, byte 0: compressed with gzip.*gunzip/, {
      skipBadRecords: 9,
    });
  });

  test("may be the first ones: the keys then come from another", async () => {
    const folder = shards([0, 1]);
    const empty = frameRecord(encodeExample([]));
    writeFileSync(shardPath(folder, 0), Buffer.concat([empty, record(7)]));
    await rejects(folder, /#0, byte 0: the record has no picture under a known key.*--keys/);
    assert.deepEqual((await opening(folder, { skipBadRecords: 1 })).labels, [7]);
    const length = Buffer.from(record(7));
    length[0] = (length[0] as number) ^ 1;
    writeFileSync(shardPath(folder, 0), length);
    await rejects(
      folder,
      /holds no whole record.*shard-0000\.tfrecords#0, byte 8: record 0: wrong length CRC/,
      {
        skipBadRecords: 1,
      },
    );
  });

  test("that are no Example, or have no label, count too", async () => {
    const folder = shards([0], [1]);
    appendFileSync(shardPath(folder, 0), frameRecord(Buffer.from("noise")));
    appendFileSync(
      shardPath(folder, 0),
      frameRecord(encodeExample([["image", { kind: "bytes", values: [Buffer.of(1)] }]])),
    );
    await rejects(folder, /#1, byte \d+: no tf\.train\.Example/);
    const { index, labels } = await opening(folder, { skipBadRecords: 2 });
    assert.deepEqual(labels, [0, 1]);
    assert.match(index.shards[0]?.bad[1]?.reason ?? "", /"label" cannot be used/);
  });
});

/** Writes a manifest of the shards as they are, with these counts. */
async function manifestOf(folder: string, counts: readonly number[]): Promise<void> {
  const entries = counts.map((records, i) => {
    const bytes = readFileSync(shardPath(folder, i));
    return { name: `shard-000${i}.tfrecords`, records, bytes: bytes.length, crc32c: hex32(crc32c(bytes)) };
  });
  const records = counts.reduce((sum, count) => sum + count, 0);
  await writeManifest(folder, { format: "riffle-records-1", records, classes: null, shards: entries });
}

suite("a folder with a manifest", () => {
  const complete = async () => {
    const folder = shards([0, 1], [2, 3]);
    await manifestOf(folder, [2, 2]);
    return folder;
  };

  test("opens when it is what the manifest says", async () => {
    assert.deepEqual((await opening(await complete())).labels, [0, 1, 2, 3]);
  });

  const faults: [name: string, fault: (folder: string) => void | Promise<void>, message: RegExp][] = [
    ["a shard is missing", (f) => unlinkSync(shardPath(f, 1)), /shard-0001\.tfrecords: .*is missing/],
    [
      "a shard is extra",
      (f) => writeFileSync(shardPath(f, 2), record(1)),
      /shard-0002\.tfrecords: an extra shard/,
    ],
    [
      "a shard is cut between records",
      (f) => truncateSync(shardPath(f, 1), one),
      /shard-0001.*expected \d+ bytes, found/,
    ],
    [
      "a shard holds fewer records than it should",
      (f) => manifestOf(f, [2, 3]),
      /shard-0001.*records.*expected 3, found 2/,
    ],
  ];
  test("is refused by the shard's name when a shard holds the same records in another order", async () => {
    const folder = await complete();
    writeFileSync(shardPath(folder, 1), Buffer.concat([record(3), record(2)]));
    await rejects(
      folder,
      /shard-0001\.tfrecords: other records than manifest\.json was written for \(expected CRC/,
    );
  });

  test("whose shards are all gone still says which is missing", async () => {
    const folder = await complete();
    for (const shard of [0, 1]) unlinkSync(shardPath(folder, shard));
    await rejects(folder, /shard-0000\.tfrecords: a shard that manifest\.json lists is missing/);
  });

  for (const [name, fault, message] of faults) {
    test(`is refused by the shard's name when ${name}, index or no index`, async () => {
      const folder = await complete();
      await fault(folder);
      await rejects(folder, message);
      const indexed = await complete();
      await opening(indexed);
      await fault(indexed);
      await rejects(indexed, message);
    });
  }
});

test("an index of 1.3 million records takes less than 32 MB in the file and in memory, and is used as it was read", async () => {
  const folder = join(root, "imagenet");
  mkdirSync(folder);
  const [count, perShard, length] = [1_300_000, 1_300, 110_000];
  const names = Array.from(
    { length: count / perShard },
    (_, i) => `shard-${String(i).padStart(4, "0")}.tfrecords`,
  );
  const shards = names.map((name) => {
    const path = join(folder, name);
    writeFileSync(path, "");
    // Holes take no space.
    truncateSync(path, perShard * (length + 16));
    const { size, mtimeNs } = statSync(path, { bigint: true });
    return { name, bytes: Number(size), modified: mtimeNs.toString(), records: perShard, bad: [] };
  });
  const pieces = indexPieces(
    {
      keys: { image: "image", label: "label", xmin: "xmin", ymin: "ymin", xmax: "xmax", ymax: "ymax" },
      shards,
      offsets: Float64Array.from({ length: count }, (_, i) => (i % perShard) * (length + 16)),
      lengths: new Uint32Array(count).fill(length),
      labels: Int32Array.from({ length: count }, (_, i) => i % 1000),
    },
    null,
  );
  writeFileSync(join(folder, ".riffle-index"), Buffer.concat(pieces));
  pieces.length = 0;
  assert.ok(statSync(join(folder, ".riffle-index")).size < 32e6);

  const memory = () => {
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  const before = memory();
  const { index, scanned } = await opening(folder);
  assert.equal(scanned, false);
  assert.equal(index.labels[1_234_567], 567);
  // The bytes of the file themselves: nothing is made for a record.
  assert.equal(index.offsets.buffer.byteLength, statSync(join(folder, ".riffle-index")).size);
  assert.ok([index.lengths, index.labels].every(({ buffer }) => buffer === index.offsets.buffer));
  assert.ok(memory() - before < 32e6, `${memory() - before} bytes`);
});
