import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { open as openFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

import sharp from "sharp";

import { needs, sharedPath } from "../../../test/support/shared.js";
import { DataError, RiffleError, UsageError } from "../../core/error.js";
import { crc32c, hex32 } from "../../formats/crc32c.js";
import { encodeExample, type Feature } from "../../formats/tf-example.js";
import { frameRecord } from "../../formats/tfrecord.js";
import { openRecords, type RecordOptions } from "./record-dataset.js";
import { parseKeys } from "./record-keys.js";
import { writeManifest } from "./record-manifest.js";
import type { Picture } from "../pictures/render.js";
import { Scratch } from "../pictures/scratch.js";
import { openDatasets, openPart } from "../sets.js";

const root = mkdtempSync(join(tmpdir(), "riffle-records-"));
after(() => rmSync(root, { recursive: true }));

let jpeg: Buffer;
before(async () => {
  jpeg = await sharp({ create: { width: 8, height: 8, channels: 3, background: "red" } })
    .jpeg()
    .toBuffer();
});

/** A record of the red picture, followed by `mark` so that records differ. */
function record(label: number, mark = "", boxes: number[][] = []): Uint8Array {
  const side = (i: number): Feature => ({
    kind: "floats",
    values: Float32Array.from(boxes.map((box) => box[i] ?? 0)),
  });
  return frameRecord(
    encodeExample([
      ["image", { kind: "bytes", values: [Buffer.concat([jpeg, Buffer.from(mark)])] }],
      ["label", { kind: "ints", values: [BigInt(label)] }],
      ["xmin", side(0)],
      ["ymin", side(1)],
      ["xmax", side(2)],
      ["ymax", side(3)],
    ]),
  );
}

let folders = 0;
function folder(files: Record<string, readonly Uint8Array[] | string> = {}): string {
  const path = join(root, `set-${folders++}`);
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(join(path, name, ".."), { recursive: true });
    writeFileSync(join(path, name), typeof content === "string" ? content : Buffer.concat(content));
  }
  return path;
}

/** What was read, its bytes copied out of memory that will be used again; of an error its message. */
function plain(read: Picture | DataError | undefined): unknown {
  if (read instanceof DataError) return read.message;
  if (read?.kind !== "encoded") return read;
  return { ...read, bytes: Buffer.from(read.bytes).toString("latin1") };
}

const rejects = (path: string, message: RegExp, options: RecordOptions = {}) =>
  assert.rejects(openRecords(path, options), (error: unknown) => {
    assert.ok(error instanceof DataError, String(error));
    assert.match(error.message, message);
    return true;
  });

suite("a set of records", () => {
  test("reads any sample by its number: picture, label, boxes and name", async () => {
    const path = folder({
      "a.tfrecords": [record(0, "a0"), record(1, "a1", [[0.1, 0.2, 0.3, 0.4]])],
      "b.tfrecords": [record(2, "b0")],
    });
    const set = await openRecords(path);
    assert.deepEqual([set.size, set.classes], [3, ["0", "1", "2"]]);
    const marks = [];
    for (const sample of [2, 0, 1])
      marks.push(Buffer.from((await set.read(sample)).bytes.subarray(-2)).toString());
    assert.deepEqual(marks, ["b0", "a0", "a1"]);
    assert.deepEqual(
      [0, 1, 2].map((sample) => set.label(sample)),
      [0, 1, 2],
    );
    assert.deepEqual(
      [0, 1, 2].map((sample) => set.name(sample).slice(path.length + 1)),
      ["a.tfrecords#0", "a.tfrecords#1", "b.tfrecords#0"],
    );
    const { boxes } = await set.read(1);
    assert.deepEqual(
      boxes?.map((box) => [box.xmin, box.ymin, box.xmax, box.ymax]),
      [[0.1, 0.2, 0.3, 0.4].map(Math.fround)],
    );
    assert.deepEqual((await set.read(0)).boxes, []);
    assert.throws(() => set.label(3), RangeError);
    await set.close();
    assert.equal((await set.read(0)).bytes.length, jpeg.length + 2, "a closed set opens again");
    await set.close();
  });

  test("reads several at once as it reads them one by one, into memory that is used again", async () => {
    const path = folder({
      "a.tfrecords": [record(0, "a0"), record(1, "a1", [[0.1, 0.2, 0.3, 0.4]])],
      "b.tfrecords": [record(2, "b0"), record(0, "a longer picture")],
    });
    const set = await openRecords(path);
    const scratch = new Scratch();
    for (const samples of [[2, 0, 1], [3], [], [1, 1, 3, 0]]) {
      const together = await set.readAll(samples, scratch);
      assert.equal(together.length, samples.length);
      for (const [i, sample] of samples.entries())
        assert.deepEqual(plain(together[i]), plain(await set.read(sample)));
    }
    await set.close();
  });

  test("finds damage in any byte of three records read at once, in the right one, and says of it what read() says", async () => {
    const records = [record(0, "a0"), record(1, "a1", [[0.1, 0.2, 0.3, 0.4]]), record(0, "a2")];
    const path = folder({ "a.tfrecords": records });
    const set = await openRecords(path, { skipBadRecords: 3 });
    const scratch = new Scratch();
    const good = await Promise.all([0, 1, 2].map(async (sample) => plain(await set.read(sample))));
    const bytes = Buffer.concat(records);
    // The set holds the file open, so what is written behind its back is what it reads.
    const file = await openFile(join(path, "a.tfrecords"), "r+");
    let at = 0;
    for (const [hit, { length }] of records.entries()) {
      for (const end = at + length; at < end; at++) {
        const byte = bytes[at] as number;
        await file.write(Buffer.of(byte ^ (1 << (at % 8))), 0, 1, at);
        const together = await set.readAll([0, 1, 2], scratch);
        const alone = await set.read(hit).catch((error: unknown) => error);
        await file.write(Buffer.of(byte), 0, 1, at);
        assert.ok(alone instanceof DataError, `byte ${at}`);
        for (const sample of [0, 1, 2]) {
          const expected: unknown = sample === hit ? alone.message : good[sample];
          assert.deepEqual(plain(together[sample]), expected, `record ${sample}, byte ${at} damaged`);
        }
      }
    }
    assert.equal(set.records.badRecords.length, 3);
    await file.truncate(bytes.length - 1);
    const [, whole, cut] = await set.readAll([0, 1, 2], scratch);
    assert.deepEqual(plain(whole), good[1]);
    assert.match(String(plain(cut)), /a\.tfrecords, byte \d+: became shorter/);
    await file.close();
    await set.close();
  });

  test("numbers the records of a shard as they stand there, those left out counted", async () => {
    const bad = Buffer.from(record(1, "x"));
    bad[50] = (bad[50] as number) ^ 1;
    const path = folder({ "a.tfrecords": [bad, record(0, "a1"), bad, bad, record(1, "a4")] });
    const set = await openRecords(path, { skipBadRecords: 3 });
    assert.deepEqual([set.name(0), set.name(1)], [`${path}/a.tfrecords#1`, `${path}/a.tfrecords#4`]);
    assert.equal(Buffer.from((await set.read(1)).bytes.subarray(-2)).toString(), "a4");
    assert.deepEqual(
      set.records.badRecords.map(({ shard, record: at }) => `${shard}#${at}`),
      ["a.tfrecords#0", "a.tfrecords#2", "a.tfrecords#3"],
    );
    await set.close();
  });

  test("has a fingerprint that follows names, lengths and labels, not the place", async () => {
    const of = async (files: Parameters<typeof folder>[0]) => (await openRecords(folder(files))).fingerprint;
    const first = await of({ "a.tfrecords": [record(0), record(1)] });
    assert.equal(await of({ "a.tfrecords": [record(0), record(1)] }), first);
    assert.notEqual(await of({ "b.tfrecords": [record(0), record(1)] }), first);
    assert.notEqual(await of({ "a.tfrecords": [record(1), record(0)] }), first);
    assert.notEqual(await of({ "a.tfrecords": [record(0, "1"), record(1)] }), first);
  });

  test("takes its classes from the manifest, from integer_encoding.json or from classes.txt, beside or above", async () => {
    const shard = { "train/a.tfrecords": [record(0), record(1)] };
    const classes = async (path: string) => (await openRecords(join(path, "train"))).classes;
    assert.deepEqual(await classes(folder({ ...shard, "integer_encoding.json": '{"bee":1,"ant":0}' })), [
      "ant",
      "bee",
    ]);
    assert.deepEqual(await classes(folder({ ...shard, "train/classes.txt": "x\ny\nz\n" })), ["x", "y", "z"]);
    const path = folder({ ...shard, "classes.txt": "x\ny\n" });
    const bytes = readFileSync(join(path, "train", "a.tfrecords"));
    await writeManifest(join(path, "train"), {
      format: "riffle-records-1",
      records: 2,
      classes: ["n1", "n2"],
      shards: [{ name: "a.tfrecords", records: 2, bytes: bytes.length, crc32c: hex32(crc32c(bytes)) }],
    });
    assert.deepEqual(await classes(path), ["n1", "n2"]);
    await rejects(
      join(path, "train"),
      /other classes than the training set.*label 1.*expected n3, found n2/,
      { classes: ["n1", "n3"] },
    );
    for (const broken of ['{"bee":1,"ant":1}', '{"bee":1}', '{"bee":"0"}', "[0]"]) {
      await rejects(
        folder({ "a.tfrecords": [record(0)], "integer_encoding.json": broken }),
        /integer_encoding\.json: /,
      );
    }
  });

  test("refuses a list of classes that leaves a label without a name, or is no text", async () => {
    const shard = { "a.tfrecords": [record(0), record(1)] };
    await rejects(
      folder({ ...shard, "classes.txt": "cat\n\ndog\n" }),
      /classes\.txt, line 2: names no class/,
    );
    await rejects(folder({ ...shard, "classes.txt": "" }), /classes\.txt, line 1: names no class/);
    const path = folder(shard);
    writeFileSync(join(path, "classes.txt"), Buffer.of(0x63, 0xff));
    await rejects(path, /classes\.txt: holds bytes that are no UTF-8 text/);
    const pipe = folder(shard);
    execFileSync("mkfifo", [join(pipe, "classes.txt")]);
    await rejects(pipe, /classes\.txt: not a regular file/);
  });

  test("refuses a label that is no class, by record and byte, and knows classes counted from 1", async () => {
    const path = folder({ "a.tfrecords": [record(1), record(2)], "classes.txt": "ant\nbee\n" });
    await rejects(
      path,
      /a\.tfrecords#1, byte \d+: the record's label is no class \(expected 0 \.\. 1, found 2\).*--label_offset 1/,
    );
    const set = await openRecords(path, { labelOffset: 1 });
    assert.deepEqual([set.label(0), set.label(1)], [0, 1]);
    await rejects(folder({ "a.tfrecords": [record(-1)] }), /found -1/);
    await assert.rejects(openRecords(path, { labelOffset: -1 }), UsageError);
    await assert.rejects(openRecords(path, { skipBadRecords: 0.5 }), UsageError);
  });

  test("notices damage that came after it was indexed, each record once, and stops beyond the number allowed", async () => {
    const path = folder({ "a.tfrecords": [record(0), record(1), record(0)] });
    const set = await openRecords(path, { skipBadRecords: 1 });
    const length = record(0).length;
    const file = await openFile(join(path, "a.tfrecords"), "r+");
    // A byte of the second record's CRC of its data, and one of the third's length.
    await file.write(Buffer.from("damage"), 0, 6, 2 * length - 6);
    await file.write(Buffer.of(1), 0, 1, 2 * length + 5);
    await file.close();
    await assert.rejects(
      set.read(1),
      (e: unknown) => e instanceof DataError && /a\.tfrecords#1, byte .*data CRC/.test(e.message),
    );
    await assert.rejects(set.read(1), DataError);
    assert.equal(set.records.badRecords.length, 1);
    await assert.rejects(set.read(2), (e: unknown) => {
      assert.ok(e instanceof RiffleError && !(e instanceof DataError) && e.exitCode === 3);
      assert.match(
        e.message,
        /a\.tfrecords#2, byte .*length CRC.*2 damaged records are more than --skip_bad_records 1/,
      );
      return true;
    });
    assert.equal((await set.read(0)).bytes.length, jpeg.length);
    await set.close();
  });

  test("refuses a shard that was replaced between indexing and reading", async () => {
    const path = folder({ "a.tfrecords": [record(0), record(1)], "b.tfrecords": [record(0)] });
    const set = await openRecords(path);
    writeFileSync(join(path, "b.tfrecords"), record(1, "other"));
    await assert.rejects(set.read(2), /b\.tfrecords: was changed since it was indexed/);
    await set.close();
  });
});

suite("records as a data folder", () => {
  const shards = () => ({ "0.tfrecords": [record(0), record(1), record(0), record(1)] });
  const under = (name: string) =>
    Object.fromEntries(Object.entries(shards()).map(([file, content]) => [`${name}/${file}`, content]));

  for (const [train, validation] of [
    ["train_shards", "eval_shards"],
    ["train", "val"],
    ["train", "validation"],
  ] as const) {
    test(`may be ${train}/ and ${validation}/`, async () => {
      const sets = await openDatasets(folder({ ...under(train), ...under(validation) }), { seed: 1 });
      assert.deepEqual([sets.train.size, sets.validation?.size, sets.classes], [4, 4, ["0", "1"]]);
      await Promise.all([sets.train.close?.(), sets.validation?.close?.()]);
    });
  }

  test("may be one folder of shards or one shard, with a share held out", async () => {
    const path = folder(shards());
    for (const data of [path, join(path, "0.tfrecords")]) {
      const sets = await openDatasets(data, { seed: 1, valSplit: 0.5 });
      assert.deepEqual([sets.train.size, sets.validation?.size], [2, 2]);
      assert.match(sets.train.name(0), /0\.tfrecords#\d$/);
      assert.equal(sets.train.records?.shards, 1);
      await sets.train.close?.();
    }
  });

  test("is evaluated without the training shards being read", async () => {
    const path = folder({ ...under("train_shards"), ...under("eval_shards") });
    writeFileSync(join(path, "train_shards", "0.tfrecords"), "damaged");
    const { set } = await openPart(path, undefined, { seed: 1 });
    assert.equal(set.size, 4);
    await assert.rejects(openDatasets(path, { seed: 1 }), /train_shards\/0\.tfrecords, byte 0: text/);
  });

  test("is not without a part only because that part's shards are gone", async () => {
    const path = folder({ "train_shards/a.tfrecords": [record(0), record(1)] });
    const bytes = Buffer.from(record(0));
    for (const part of ["eval_shards", "val"]) {
      const missing = join(path, part);
      mkdirSync(missing);
      await writeManifest(missing, {
        format: "riffle-records-1",
        records: 1,
        classes: null,
        shards: [{ name: "b.tfrecords", records: 1, bytes: bytes.length, crc32c: hex32(crc32c(bytes)) }],
      });
      await assert.rejects(
        openDatasets(path, { seed: 0 }),
        /b\.tfrecords: a shard that manifest\.json lists is missing/,
      );
      rmSync(missing, { recursive: true });
    }
    mkdirSync(join(path, "eval_shards"));
    writeFileSync(join(path, "eval_shards", "b.tfrecords.gz"), "");
    await assert.rejects(openDatasets(path, { seed: 0 }), /b\.tfrecords\.gz: compressed with gzip/);
  });

  test("refuses a validation label that training does not have", async () => {
    const path = folder({ ...under("train"), "val/0.tfrecords": [record(2)] });
    await assert.rejects(openDatasets(path, { seed: 1 }), /val\/0\.tfrecords#0.*expected 0 \.\. 1, found 2/);
  });

  test("passes on the keys, and what is said of the index", async () => {
    const path = folder(shards());
    const records = { keys: parseKeys("image=picture") };
    await assert.rejects(
      openDatasets(path, { seed: 1, records }),
      /no picture under a known key \(expected picture/,
    );
  });
});

suite("shards that others wrote", () => {
  /** A link to the file in a folder of its own, so that no index is put beside the original. */
  function linked(name: string): string {
    const path = folder({ "README.txt": "" });
    symlinkSync(sharedPath("tfrecords", name), join(path, name));
    return path;
  }

  const detection = parseKeys("image=image/encoded,label=image/object/class/label");
  for (const [name, size, boxes] of [
    ["flow_train.tfrecords", 45, 110],
    ["flow_eval.tfrecords", 4, 8],
    ["raccoon_test.record", 40, 44],
  ] as const) {
    test(`${name} opens with --keys, its pictures and boxes with it`, needs("tfrecords"), async () => {
      await rejects(linked(name), /no label under a known key.*image\/object\/class\/label \(ints\)/);
      const set = await openRecords(linked(name), { keys: detection });
      let found = 0;
      for (let sample = 0; sample < set.size; sample++) found += (await set.read(sample)).boxes?.length ?? 0;
      assert.deepEqual([set.size, found], [size, boxes]);
      await set.close();
    });
  }

  test("jkh_train.tfrecords is refused: its records hold paths", needs("tfrecords"), async () => {
    await rejects(
      linked("jkh_train.tfrecords"),
      /no picture under a known key.*found x \(bytes\), y \(ints\)/,
    );
    const keys = parseKeys("image=x,label=y");
    await rejects(linked("jkh_train.tfrecords"), /#0, "x": a text file, not a picture/, { keys });
  });

  test("yanxp_train.tfrecords is refused: its records hold raw pixels", needs("tfrecords"), async () => {
    await rejects(
      linked("yanxp_train.tfrecords"),
      /#0, "image": not a picture; JPEG, PNG, WebP, GIF, TIFF and AVIF are read/,
    );
  });

  test(
    "the lineage's give every picture that it took as it was, its label and its boxes",
    needs("tf-reference", "records"),
    async () => {
      const path = join(root, "lineage");
      mkdirSync(path);
      for (const name of [
        "shard-0000.tfrecords",
        "shard-0001.tfrecords",
        "shard-0002.tfrecords",
        "integer_encoding.json",
      ]) {
        copyFileSync(sharedPath("tf-reference", "records", name), join(path, name));
      }
      const set = await openRecords(path);
      assert.deepEqual([set.size, set.classes.length], [63, 1000]);
      const [, ...rows] = readFileSync(sharedPath("tf-reference", "records", "sources.tsv"), "utf8")
        .trim()
        .split("\n");
      const written = rows
        .map((row) => row.split("\t"))
        .filter(([, , , , result]) => !result?.startsWith("skipped"));
      assert.equal(written.length, set.size);
      let same = 0;
      for (const [sample, [, shard, , source = "", result, label, boxes]] of written.entries()) {
        assert.match(set.name(sample), new RegExp(`shard-000${shard}\\.tfrecords#`));
        assert.equal(set.label(sample), Number(label));
        const { bytes, boxes: found } = await set.read(sample);
        assert.equal(found?.length, Number(boxes));
        if (result !== "same bytes") continue;
        assert.ok(Buffer.from(bytes).equals(readFileSync(sharedPath(...source.split("/")))), source);
        same++;
      }
      assert.ok(same > 50, `${same}`);
      await set.close();
    },
  );
});
