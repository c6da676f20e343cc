import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";

import { DataError } from "../../core/error.js";
import {
  compareWithManifest,
  isShardName,
  readManifest,
  type RecordManifest,
  writeManifest,
} from "./record-manifest.js";

const folder = mkdtempSync(join(tmpdir(), "riffle-manifest-"));
after(() => rmSync(folder, { recursive: true }));

const shard = (name: string, records = 2, bytes = 100) => ({ name, records, bytes, crc32c: "00c0ffee" });
const manifest: RecordManifest = {
  format: "riffle-records-1",
  records: 4,
  classes: ["bee", "ant"],
  shards: [shard("shard-0000.tfrecords"), shard("shard-0001.tfrecords")],
};
const found = [
  { name: "shard-0000.tfrecords", bytes: 100, records: 2 },
  { name: "shard-0001.tfrecords", bytes: 100, records: 2 },
];

suite("a manifest of records", () => {
  test("is read as it was written, and leaves no other file", async () => {
    await writeManifest(folder, manifest);
    assert.deepEqual(await readManifest(folder), manifest);
    assert.deepEqual(readdirSync(folder), ["manifest.json"]);
  });

  test("may be missing", async () => {
    assert.equal(await readManifest(join(folder, "nowhere")), undefined);
  });

  const broken: [name: string, change: object | string, message: RegExp][] = [
    ["half of it", '{"format":', /is no JSON/],
    ["something else", { format: "vite" }, /is no manifest of records at format/],
    ["an unknown key", { extra: 1 }, /extra/],
    ["a count that is no count", { records: -4 }, /at records/],
    ["counts that do not add up", { records: 5 }, /do not add up.*expected 5 records, found 4/],
    ["a shard twice", { shards: [shard("a.tfrecords"), shard("a.tfrecords")] }, /a shard twice/],
    ["a path as name", { shards: [shard("../a.tfrecords", 4)] }, /shards\.0\.name/],
    ["a name that is no shard's", { shards: [shard("passwd", 4)] }, /no name of a shard/],
    ["a CRC in capitals", { shards: [{ ...shard("a.tfrecords", 4), crc32c: "00C0FFEE" }] }, /crc32c/],
  ];
  for (const [name, change, message] of broken) {
    test(`that holds ${name} is refused with the place`, async () => {
      const text = typeof change === "string" ? change : JSON.stringify({ ...manifest, ...change });
      writeFileSync(join(folder, "manifest.json"), text);
      await assert.rejects(
        readManifest(folder),
        (error: unknown) => error instanceof DataError && message.test(error.message),
      );
    });
  }

  test("tells missing, extra, shorter and emptier shards apart, each by name", () => {
    const differences = (changed: typeof found) =>
      compareWithManifest(manifest, changed, "d").map((e) => e.message);
    const [first, second] = found as [(typeof found)[0], (typeof found)[0]];
    assert.deepEqual(differences(found), []);
    assert.match(differences([first]).join(), /d\/shard-0001\.tfrecords: a shard .* is missing/);
    assert.match(
      differences([...found, { ...first, name: "x.tfrecords" }]).join(),
      /d\/x\.tfrecords: an extra shard/,
    );
    assert.match(
      differences([first, { ...second, bytes: 99 }]).join(),
      /shard-0001.*expected 100 bytes, found 99/,
    );
    assert.match(
      differences([{ ...first, records: 1 }, second]).join(),
      /shard-0000.*records.*expected 2, found 1/,
    );
  });
});

test("shards go by the names that TFRecords have, hidden files and others do not", () => {
  for (const name of ["shard-0000.tfrecords", "a.tfrecord", "b.record", "train-00000-of-01024"]) {
    assert.ok(isShardName(name), name);
  }
  for (const name of [
    ".saving-a.tfrecords",
    "manifest.json",
    "a.tfrecords.gz",
    "bee",
    "x-1-of-2",
    ".riffle-index",
  ]) {
    assert.ok(!isShardName(name), name);
  }
});
