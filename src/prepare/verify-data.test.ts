import assert from "node:assert/strict";
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";

import sharp from "sharp";

import { DataError } from "../core/error.js";
import { crc32c, hex32 } from "../formats/crc32c.js";
import { encodeExample, type Feature } from "../formats/tf-example.js";
import { frameRecord } from "../formats/tfrecord.js";
import { openDatasets } from "../data/sets.js";
import { writeManifest } from "../data/records/record-manifest.js";
import { MOST_COPIES, verifyData, type VerifyProgress, type VerifyReport } from "./verify-data.js";
import type { DataProblem } from "./verify-parts.js";

const scratch = mkdtempSync(join(tmpdir(), "riffle-verify-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

const pictures: Buffer[] = [];
for (let i = 0; i < 12; i++) {
  const noise = { type: "gaussian", mean: 90 + i, sigma: 30 } as const;
  const drawn = sharp({ create: { width: 40, height: 30, channels: 3, background: "gray", noise } });
  pictures.push(await drawn.jpeg().toBuffer());
}
const [first = Buffer.alloc(0)] = pictures;

/** One record; the box is xmin, ymin, xmax, ymax. */
function record(image: Uint8Array, label: number, box?: readonly number[]): Uint8Array {
  const features: [string, Feature][] = [
    ["image", { kind: "bytes", values: [image] }],
    ["label", { kind: "ints", values: [BigInt(label)] }],
  ];
  ["xmin", "ymin", "xmax", "ymax"].forEach((side, i) => {
    if (box !== undefined) features.push([side, { kind: "floats", values: Float32Array.of(box[i] ?? 0) }]);
  });
  return frameRecord(encodeExample(features));
}

let folders = 0;

/** A folder of shards with a manifest, and its path. */
async function shards(...content: readonly Uint8Array[][]): Promise<string> {
  const folder = join(scratch, `set-${folders++}`);
  await writeShards(folder, content);
  return folder;
}

async function writeShards(
  folder: string,
  content: readonly Uint8Array[][],
  classes: string[] | null = ["cat", "dog"],
): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const entries = content.map((records, i) => {
    const name = `shard-000${i}.tfrecords`;
    const bytes = Buffer.concat(records);
    writeFileSync(join(folder, name), bytes);
    return { name, records: records.length, bytes: bytes.length, crc32c: hex32(crc32c(bytes)) };
  });
  const records = content.reduce((sum, one) => sum + one.length, 0);
  await writeManifest(folder, {
    format: "riffle-records-1",
    records,
    classes,
    shards: entries,
  });
}

/** Two shards of four pictures, all in order. */
function good(): Promise<string> {
  const records = pictures.slice(0, 8).map((picture, i) => record(picture, i % 2, [0, 0.25, 0.5, 1]));
  return shards(records.slice(0, 4), records.slice(4));
}

/** Check, record and offset of each problem. */
function places(report: VerifyReport): [DataProblem["check"], number | null, number | null][] {
  return report.problems.map(({ check, record, offset }) => [check, record, offset]);
}

suite("verify-data", () => {
  test("finds nothing wrong with good shards, and counts them", async () => {
    const report = await verifyData({ path: await good() });
    assert.deepEqual([report.ok, report.problems, report.leaked, report.stopped], [true, [], 0, false]);
    const [part, ...more] = report.parts;
    assert.deepEqual(more, []);
    assert.deepEqual([part?.shards, part?.pictures, part?.boxes, part?.boxed], [2, 8, 8, 8]);
    assert.equal(
      part?.bytes,
      pictures.slice(0, 8).reduce((sum, { length }) => sum + length, 0),
    );
    assert.deepEqual(part.classes, {
      known: 2,
      seen: 2,
      smallest: { label: 0, name: "cat", pictures: 4 },
      largest: { label: 1, name: "dog", pictures: 4 },
    });
  });

  test("names file, record and offset of a flipped bit, and goes on behind it", async () => {
    const path = await good();
    const file = join(path, "shard-0001.tfrecords");
    const bytes = readFileSync(file);
    const lengths = pictures.slice(4, 8).map((picture) => record(picture, 0, [0, 0, 1, 1]).length);
    const offset = (lengths[0] ?? 0) + (lengths[1] ?? 0);
    bytes[offset + 200] = (bytes[offset + 200] ?? 0) ^ 1;
    writeFileSync(file, bytes);
    const report = await verifyData({ path });
    assert.deepEqual(places(report), [["record", 2, offset]]);
    assert.equal(report.problems[0]?.file, file);
    assert.match(report.problems[0]?.what ?? "", /wrong data CRC/);
    assert.equal(report.parts[0]?.pictures, 7);
  });

  test("a picture that breaks off inside is found although its CRC is right", async () => {
    const path = await shards([record(first, 0), record((pictures[1] as Buffer).subarray(0, -60), 1)]);
    const report = await verifyData({ path });
    assert.deepEqual(places(report), [["picture", 1, record(first, 0).length]]);
  });

  test("a picture damaged in its coded data", async () => {
    const damaged = Buffer.from(first);
    damaged.fill(0xff, damaged.length - 200, damaged.length - 100);
    const report = await verifyData({ path: await shards([record(damaged, 0)]) });
    assert.deepEqual(places(report), [["picture", 0, 0]]);
  });

  test("labels that are no class, and what is no box", async () => {
    const path = await shards([
      record(pictures[0] as Buffer, 2),
      record(pictures[1] as Buffer, -1),
      record(pictures[2] as Buffer, 0, [0.5, 0, 0.5, 1]),
      record(pictures[3] as Buffer, 0, [0, 0, 1, 1.5]),
      record(pictures[4] as Buffer, 0, [0, -0.5, 1, 1]),
      record(pictures[6] as Buffer, 0, [0, 0, 1.5, 1]),
      record(pictures[5] as Buffer, 1, [0, 0, 1, 1]),
    ]);
    const { problems, counts } = await verifyData({ path });
    assert.deepEqual(
      problems.map(({ check, record }) => [check, record]),
      [
        ["label", 0],
        ["label", 1],
        ["boxes", 2],
        ["boxes", 3],
        ["boxes", 4],
        ["boxes", 5],
      ],
    );
    assert.deepEqual(counts, { label: 2, boxes: 4 });
    assert.match(problems[0]?.what ?? "", /label 2 is no class; there are 0 \.\. 1/);
  });

  test("a shard that cannot be opened is a problem, and the others are looked at", async () => {
    const path = await good();
    const [a, b] = ["shard-0000.tfrecords", "shard-0001.tfrecords"].map((name) => join(path, name));
    for (const [spoil, words] of [
      [() => mkdirSync(a ?? ""), /not a regular file/],
      [() => symlinkSync("nowhere", a ?? ""), /there is no such file/],
      [() => symlinkSync(a ?? "", a ?? ""), /ELOOP/],
      [() => symlinkSync("/dev/zero", a ?? ""), /not a regular file/],
    ] as const) {
      rmSync(a ?? "", { recursive: true });
      spoil();
      const report = await verifyData({ path });
      assert.deepEqual(
        report.problems.map(({ check, file, record, offset }) => [check, file, record, offset]),
        [["shard", a, null, null]],
      );
      assert.match(report.problems[0]?.what ?? "", words);
      assert.deepEqual([report.ok, report.parts[0]?.pictures], [false, 4]);
    }
    rmSync(b ?? "");
    mkdirSync(b ?? "");
    assert.deepEqual((await verifyData({ path })).counts, { shard: 2 });
  });

  /** Both parts under other names for their labels, with these labels in them. */
  async function pair(
    trained: readonly [string[] | null, number[]],
    validated: readonly [string[] | null, number[]],
  ): Promise<string> {
    const path = join(scratch, `pair-${folders++}`);
    let next = 0;
    const recordsOf = (labels: readonly number[]) =>
      labels.map((label) => record(pictures[next++] as Buffer, label));
    await writeShards(join(path, "train_shards"), [recordsOf(trained[1])], trained[0]);
    await writeShards(join(path, "eval_shards"), [recordsOf(validated[1])], validated[0]);
    return path;
  }

  type Part = readonly [classes: string[] | null, labels: number[]];
  const different: readonly (readonly [string, Part, Part, DataProblem["check"], RegExp])[] = [
    ["in another order", [["cat", "dog"], [0, 1]], [["dog", "cat"], [0]], "manifest", /label 0 .*expected cat, found dog/],
    ["of other names", [["cat", "dog"], [0, 1]], [["cat", "cow"], [0]], "manifest", /label 1 .*expected dog, found cow/],
    ["of another number", [["cat", "dog"], [0, 1]], [["cat"], [0]], "manifest", /label 1 .*expected dog, found 1 classes/],
    ["where training has none", [null, [0, 1]], [["cat", "dog"], [0]], "manifest", /label 0 .*expected 0, found cat/],
    ["that training does not have", [null, [0, 1]], [null, [2]], "label", /label 2 is no class; there are 0 \.\. 1/],
  ]; // prettier-ignore
  for (const [name, trained, validated, check, words] of different) {
    test(`validation classes ${name}, which train refuses`, async () => {
      const path = await pair(trained, validated);
      await assert.rejects(openDatasets(path, { seed: 0 }), DataError);
      const { problems } = await verifyData({ path });
      assert.deepEqual(
        problems.map((problem) => [problem.check, problem.part]),
        [[check, "validation"]],
      );
      assert.match(problems[0]?.what ?? "", words);
    });
  }

  test("validation classes that are those of training, named or not, are no problem", async () => {
    for (const classes of [["cat", "dog"], null]) {
      const path = await pair([classes, [0, 1]], [classes, [1]]);
      assert.deepEqual((await verifyData({ path })).problems, []);
      const { train, validation } = await openDatasets(path, { seed: 0 });
      await train.close?.();
      await validation?.close?.();
    }
  });

  test("a label beyond what train takes where nothing names the classes", async () => {
    const path = await shards([record(first, 0), record(pictures[1] as Buffer, 1_000_000)]);
    rmSync(join(path, "manifest.json"));
    await assert.rejects(openDatasets(path, { seed: 0 }), /expected 0 \.\. 999999/);
    const { problems } = await verifyData({ path });
    assert.deepEqual(
      problems.map(({ check, what }) => [check, what]),
      [["label", "label 1000000 is no class; there are 0 .. 999999"]],
    );
  });

  test("the same picture twice is counted and told; under two labels it is a problem", async () => {
    const path = await shards([record(first, 0), record(first, 0)], [record(first, 1)]);
    const report = await verifyData({ path });
    assert.equal(report.parts[0]?.duplicates, 1);
    const file = join(path, "shard-0000.tfrecords");
    assert.deepEqual(report.copies, [
      {
        part: "data",
        file,
        record: 1,
        offset: record(first, 0).length,
        of: { file, record: 0, offset: 0 },
      },
    ]);
    assert.deepEqual(places(report), [["contradiction", 0, 0]]);
    assert.match(
      report.problems[0]?.what ?? "",
      /label 1; the same picture has label 0 at .*shard-0000.tfrecords#0/,
    );
  });

  test("a validation picture that is in training, too", async () => {
    const path = join(scratch, "leak");
    const records = pictures.map((picture, i) => record(picture, i % 2));
    await writeShards(join(path, "train_shards"), [records.slice(0, 8)]);
    await writeShards(join(path, "eval_shards"), [records.slice(7)]);
    const report = await verifyData({ path });
    assert.deepEqual(
      report.parts.map(({ part, pictures: n }) => [part, n]),
      [
        ["train", 8],
        ["validation", 5],
      ],
    );
    assert.deepEqual([report.leaked, places(report)], [1, [["leakage", 0, 0]]]);
    assert.equal(report.problems[0]?.part, "validation");
  });

  test("a shard cut between two records, a missing one, an extra one, two exchanged", async () => {
    const manifestProblems = async (path: string): Promise<string[]> => {
      const { problems } = await verifyData({ path });
      assert.deepEqual([...new Set(problems.map(({ check }) => check))], ["manifest"]);
      return problems.map(({ what }) => what);
    };
    const cut = await good();
    truncateSync(join(cut, "shard-0001.tfrecords"), record(pictures[4] as Buffer, 0, [0, 0, 1, 1]).length);
    assert.match((await manifestProblems(cut)).join(), /not the size that manifest.json gives/);

    const missing = await good();
    rmSync(join(missing, "shard-0001.tfrecords"));
    assert.match((await manifestProblems(missing)).join(), /a shard that manifest.json lists is missing/);

    const extra = await good();
    writeFileSync(join(extra, "shard-0002.tfrecords"), record(pictures[9] as Buffer, 0));
    assert.match((await manifestProblems(extra)).join(), /an extra shard/);

    // Of one length, so that only the bytes tell.
    const exchanged = await shards([record(first, 0)], [record(first, 1)]);
    const [a, b] = ["shard-0000.tfrecords", "shard-0001.tfrecords"].map((name) => join(exchanged, name));
    renameSync(a ?? "", `${a}-aside`);
    renameSync(b ?? "", a ?? "");
    renameSync(`${a}-aside`, b ?? "");
    const { problems } = await verifyData({ path: exchanged });
    assert.deepEqual(
      problems.map(({ check }) => check),
      ["manifest", "manifest", "contradiction"],
    );
    assert.match(problems[0]?.what ?? "", /other records than manifest.json was written for/);
  });

  test("shards of a run that was not finished", async () => {
    const path = await good();
    rmSync(join(path, "manifest.json"));
    assert.ok((await verifyData({ path })).ok, "shards of others have no manifest");
    writeFileSync(join(path, "plan.json"), '{\n "format": "riffle-records-plan-1"\n}\n');
    const { problems } = await verifyData({ path });
    assert.match(problems[0]?.what ?? "", /unfinished.*run npx riffle-vision create-tfrecords again/);
  });

  test("one shard of a run that was finished is not unfinished", async () => {
    const path = await good();
    writeFileSync(join(path, "plan.json"), '{\n "format": "riffle-records-plan-1"\n}\n');
    assert.deepEqual((await verifyData({ path: join(path, "shard-0000.tfrecords") })).problems, []);
  });

  test("folders of pictures: what does not decode, copies, leaks", async () => {
    const path = join(scratch, "photos");
    const put = (place: string, bytes: Uint8Array): void => {
      mkdirSync(join(path, place, ".."), { recursive: true });
      writeFileSync(join(path, place), bytes);
    };
    put("train/cat/a.jpg", pictures[0] as Buffer);
    put("train/cat/copy.jpg", pictures[0] as Buffer);
    put("train/cat/page.jpg", Buffer.from("<html>"));
    put("train/dog/b.jpg", pictures[1] as Buffer);
    put("val/dog/b.jpg", pictures[1] as Buffer);
    const report = await verifyData({ path });
    assert.deepEqual(
      report.problems.map(({ check, file, record }) => [check, file, record]),
      [
        ["picture", join(path, "train/cat/page.jpg"), null],
        ["leakage", join(path, "val/dog/b.jpg"), null],
      ],
    );
    assert.deepEqual(
      report.parts.map(({ duplicates }) => duplicates),
      [1, 0],
    );
    assert.deepEqual(
      report.copies.map(({ part, file, of }) => [part, file, of.file]),
      [["train", join(path, "train/cat/copy.jpg"), join(path, "train/cat/a.jpg")]],
    );
  });

  test("of very many copies all are counted and the first are told", async () => {
    const path = await shards(Array.from({ length: MOST_COPIES + 10 }, () => record(first, 0)));
    const report = await verifyData({ path });
    assert.deepEqual(
      [report.ok, report.parts[0]?.duplicates, report.copies.length],
      [true, MOST_COPIES + 9, MOST_COPIES],
    );
    assert.deepEqual([report.copies[0]?.record, report.copies[0]?.of.record], [1, 0]);
  });

  test("a path with nothing behind it", async () => {
    await assert.rejects(verifyData({ path: join(scratch, "nothing") }), DataError);
  });

  test("asked to stop, it tells what it saw, and vouches for nothing", async () => {
    const path = await good();
    const early = await verifyData({ path }, { signal: AbortSignal.abort() });
    assert.deepEqual([early.parts.length, early.ok, early.stopped], [0, false, true]);

    const stop = new AbortController();
    const seen: VerifyProgress[] = [];
    const progress = (one: VerifyProgress): void => {
      seen.push(one);
      stop.abort();
    };
    const report = await verifyData({ path }, { signal: stop.signal, progress });
    assert.deepEqual([report.parts[0]?.pictures, report.ok, report.stopped], [1, false, true]);
    assert.deepEqual([report.problems, report.counts], [[], {}]);
    assert.ok(seen.length > 0 && seen.every(({ done, total }) => done < total), JSON.stringify(seen));
  });

  test("asked to stop when all has been looked at, it has ended", async () => {
    const stop = new AbortController();
    const progress = ({ done, total }: VerifyProgress): void => {
      if (done === total) stop.abort();
    };
    const report = await verifyData({ path: await good() }, { signal: stop.signal, progress });
    assert.deepEqual([report.parts[0]?.pictures, report.ok, report.stopped], [8, true, false]);
  });
});
