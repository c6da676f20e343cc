import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import sharp from "sharp";

import { CheckpointError, DataError, ResourceError, UsageError } from "../../src/core/error.js";
import { drawFolder } from "../../src/prepare/draw/draw-folder.js";
import { openDatasets } from "../../src/data/sets.js";
import { encodeExample } from "../../src/formats/tf-example.js";
import { frameRecord } from "../../src/formats/tfrecord.js";
import { evaluate } from "../../src/inference/evaluate.js";
import { train } from "../../src/train/trainer.js";
import type { TrainEvent } from "../../src/run/events.js";
import type { GivenSettings } from "../../src/settings/settings.js";
import { scratch, trainAndWatch, trainedBits } from "../support/tiny-run.js";
import { program } from "../support/paths.js";

const folder = scratch();
const photos = join(folder, "photos");
/** Pictures larger than the cache's 256 px, so that the cache has something to do. */
const PICTURES = { seed: 9, size: 272, train: 40, validation: 20 };
before(() => drawFolder({ folder: photos, ...PICTURES }));

/** A 0.5x network at 32 px: ten steps in two epochs. */
function tiny(data: string, run: string): GivenSettings {
  return {
    data_dir: data,
    log_dir: join(folder, run),
    width: 0.5,
    image_size: 32,
    batch_size: 8,
    max_epochs: 2,
    lr: 0.01,
    warmup_epochs: 0,
    save_checkpoints_steps: 4,
    epochs_between_evals: 2,
  };
}

function riffle(...argv: string[]): { stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...argv], {
    cwd: folder,
    encoding: "utf8",
  });
  assert.equal(status, 0, `riffle ${argv.join(" ")}\n${stderr}`);
  return { stdout, stderr };
}

/** The last line that a command prints with --json. */
function result(...argv: string[]): Record<string, unknown> {
  return JSON.parse(
    riffle(...argv, "--json")
      .stdout.trimEnd()
      .split("\n")
      .at(-1) ?? "",
  ) as Record<string, unknown>;
}

suite("the road from a folder of pictures to a prediction", () => {
  // The tests of this suite are steps: each uses what the one before left.
  test("explore-imagenet lists the pictures, labels and boxes", () => {
    riffle(
      "explore-imagenet",
      ...["--train", "photos/train", "--val", "photos/val"],
      ...["--annotations", "photos/annotations/train", "--output", "lists"],
    );
    const rows = readFileSync(join(folder, "lists", "training_metadata.csv"), "utf8")
      .trimEnd()
      .split("\n");
    assert.equal(rows.length, 1 + PICTURES.train);
    assert.ok(existsSync(join(folder, "lists", "boxes.npy")));
  });

  test("create-tfrecords writes them into shards", () => {
    const lists = ["-l", "lists/integer_encoding.json"];
    const boxes = ["-b", "lists/boxes.npy"];
    riffle(
      "create-tfrecords",
      ...["-m", "lists/training_metadata.csv", ...lists, ...boxes],
      ...["-o", "data/train_shards", "-s", "4"],
    );
    riffle(
      "create-tfrecords",
      ...["-m", "lists/validation_metadata.csv", ...lists, "-o", "data/eval_shards", "-s", "2"],
    );
    const shards = readdirSync(join(folder, "data", "train_shards")).filter((n) => n.endsWith(".tfrecords"));
    assert.equal(shards.length, 4);
  });

  test("verify-data finds nothing wrong with them", () => {
    riffle("verify-data", "data");
  });

  test("the records hold the folder's pictures, labels and boxes", async () => {
    const files = await openDatasets(photos, { seed: 0 });
    const records = await openDatasets(join(folder, "data"), { seed: 0 });
    assert.deepEqual(records.classes, files.classes);
    const bytesOf = async ({ train: set }: typeof files): Promise<Map<string, number>> => {
      const found = new Map<string, number>();
      for (let i = 0; i < set.size; i++) {
        const picture = await set.read(i);
        assert.equal(picture.kind, "encoded");
        if (picture.kind === "encoded") {
          found.set(Buffer.from(picture.bytes).toString("base64"), set.label(i));
          if (set.records !== undefined) assert.equal(picture.boxes?.length, 1);
        }
      }
      return found;
    };
    assert.deepEqual(
      new Map([...(await bytesOf(records))].sort()),
      new Map([...(await bytesOf(files))].sort()),
    );
    await records.train.close?.();
    await records.validation?.close?.();
  });

  for (const kind of ["png", "html"]) {
    test(`show-data draws them (${kind})`, async () => {
      const sheet = result(
        "show-data",
        "data",
        "--split",
        "train",
        "--images",
        "3",
        "--output",
        `sheet.${kind}`,
      );
      assert.deepEqual([sheet["images"], sheet["refused"]], [3, 0]);
      const bytes = readFileSync(join(folder, `sheet.${kind}`));
      if (kind === "png") assert.equal((await sharp(bytes).metadata()).format, "png");
      else assert.match(bytes.toString(), /objects/);
      // Drawing it again is no accident; drawing over another file would be.
      riffle("show-data", "data", "--images", "1", "--output", `sheet.${kind}`);
    });
  }

  test("train, evaluate and predict work on them, and say that they are records", () => {
    const options = ["--width", "0.5", "--image_size", "32", "--batch_size", "8", "--max_epochs", "1"];
    const { stderr } = riffle("train", "--data_dir", "data", "--log_dir", "run", ...options);
    assert.match(stderr, /Records +4 shards · index data\/train_shards\/\.riffle-index/);
    const scores = result("evaluate", "run");
    assert.equal(scores["images"], PICTURES.validation);
    const guess = result("predict", "run", "photos/val/star/star_0000.jpg");
    assert.equal((guess["top"] as unknown[]).length, 5);
  });

  test("a contact sheet's name that no file can have is refused before drawing", () => {
    for (const [output, code, message] of [
      [`${"x".repeat(300)}.png`, 2, /the sheet cannot be written under that name: ENAMETOOLONG/],
      ["photos/train/star/star_0000.jpg/sheet.png", 2, /cannot be written under that name: ENOTDIR/],
    ] as const) {
      const argv = [program, "show-data", "data", "--images", "1", "--output", output];
      const { status, stderr } = spawnSync(process.execPath, argv, { cwd: folder, encoding: "utf8" });
      assert.match(stderr, message);
      assert.doesNotMatch(stderr, /drawing/);
      assert.equal(status, code);
    }
  });

  test("a file that is no contact sheet is not drawn over", () => {
    writeFileSync(join(folder, "holiday.png"), "mine");
    const argv = [program, "show-data", "data", "--images", "1", "--output", "holiday.png"];
    const { status } = spawnSync(process.execPath, argv, { cwd: folder });
    assert.equal(status, 2);
    assert.equal(readFileSync(join(folder, "holiday.png"), "utf8"), "mine");
  });
});

/** The folder's pictures as records, in its order, so that sample numbers are the same; two shards a set. */
async function recordsInOrder(
  name: string,
  keys = { image: "image", label: "label" },
  firstLabel = 0,
): Promise<string> {
  const sets = await openDatasets(photos, { seed: 0 });
  for (const [part, set] of [
    ["train_shards", sets.train],
    ["eval_shards", sets.validation!],
  ] as const) {
    const target = join(folder, name, part);
    mkdirSync(target, { recursive: true });
    const framed: Uint8Array[] = [];
    for (let i = 0; i < set.size; i++) {
      const picture = await set.read(i);
      if (picture.kind !== "encoded") throw new Error("a drawn picture is a file");
      framed.push(
        frameRecord(
          encodeExample([
            [keys.image, { kind: "bytes", values: [picture.bytes] }],
            [keys.label, { kind: "ints", values: [BigInt(set.label(i) + firstLabel)] }],
          ]),
        ),
      );
    }
    const half = framed.length >> 1;
    writeFileSync(join(target, "a.tfrecords"), Buffer.concat(framed.slice(0, half)));
    writeFileSync(join(target, "b.tfrecords"), Buffer.concat(framed.slice(half)));
  }
  writeFileSync(join(folder, name, "classes.txt"), sets.classes.join("\n"));
  return join(folder, name);
}

suite("training on records", () => {
  let records: string;
  let onFiles: string;
  before(async () => {
    records = await recordsInOrder("in-order");
    onFiles = trainedBits((await train(tiny(photos, "files"))).checkpoint);
  });

  test("gives the bits of training on the same pictures in files", async () => {
    const { result, events } = await trainAndWatch(tiny(records, "records"));
    assert.equal(trainedBits(result.checkpoint), onFiles);
    const start = events.find((event) => event.event === "start");
    assert.equal(start?.records?.shards, 2);
    // Behind the start, pictures are looked at for the report.
    const before = events.slice(
      0,
      events.findIndex((event) => event.event === "start"),
    );
    const indexed = before.filter((event) => event.event === "preparing");
    assert.ok(indexed.length > 0 && indexed.every(({ what }) => what === "index"));
    const onRecords = await evaluate(join(folder, "records"), {});
    assert.deepEqual(onRecords, await evaluate(join(folder, "records"), { data_dir: photos }));
  });

  test("goes on from a checkpoint to the same bits", async () => {
    const given = tiny(records, "resumed");
    await trainAndWatch(given, (event) => event.event === "step" && event.step === 6);
    const { checkpoint } = await train({ resume: given.log_dir });
    assert.equal(trainedBits(checkpoint), onFiles);
  });

  test("does not go on when a shard was added", async () => {
    const grown = await recordsInOrder("grown");
    const given = tiny(grown, "grown-run");
    await train({ ...given, max_train_steps: 2 });
    const shards = join(grown, "train_shards");
    writeFileSync(join(shards, "c.tfrecords"), readFileSync(join(shards, "a.tfrecords")));
    await assert.rejects(train({ resume: given.log_dir }), CheckpointError);
  });

  test("reads the records of others by their --keys, to the same bits", async () => {
    const foreign = await recordsInOrder("foreign", { image: "jpg", label: "cls" });
    const given = tiny(foreign, "foreign-run");
    await assert.rejects(train({ ...given, keys: "image=jpeg,label=cls" }), DataError);
    await assert.rejects(train({ ...given, keys: "picture=jpg" }), UsageError);
    const { checkpoint } = await train({ ...given, keys: "image=jpg,label=cls" });
    assert.equal(trainedBits(checkpoint), onFiles);
    // Evaluated as it was trained, without being told again.
    assert.equal((await evaluate(given.log_dir as string, {})).images, PICTURES.validation);
  });

  test("counts classes from --label_offset, to the same bits", async () => {
    const shifted = await recordsInOrder("shifted", undefined, 1);
    const given = tiny(shifted, "shifted-run");
    await assert.rejects(train(given), (error) => /--label_offset 1/.test(String(error)));
    const { checkpoint } = await train({ ...given, label_offset: 1 });
    assert.equal(trainedBits(checkpoint), onFiles);
    assert.equal((await evaluate(given.log_dir as string, {})).images, PICTURES.validation);
  });

  test("leaves damaged records out, by name, up to --skip_bad_records", async () => {
    const damaged = await recordsInOrder("damaged");
    const path = join(damaged, "train_shards", "a.tfrecords");
    const bytes = readFileSync(path);
    bytes[1000]! ^= 1; // in the picture of the first record
    writeFileSync(path, bytes);
    const given = tiny(damaged, "damaged-run");
    await assert.rejects(train(given), (error) => {
      assert.ok(error instanceof DataError);
      assert.match(error.message, /a\.tfrecords#0.*--skip_bad_records 1/);
      return true;
    });
    const { events } = await trainAndWatch({ ...given, skip_bad_records: 1, max_train_steps: 2 });
    const start = events.find((event) => event.event === "start");
    assert.deepEqual([start?.train_images, start?.records?.bad_records], [PICTURES.train - 1, 1]);
    const listed = events.filter((event) => event.event === "bad_image");
    assert.deepEqual(listed.length, 1);
    assert.match(listed[0]?.file ?? "", /train_shards\/a\.tfrecords#0, byte 0$/);
  });
});

suite("training on a cache", () => {
  const cachingEvents = (events: readonly TrainEvent[]): number =>
    events.filter((event) => event.event === "preparing" && event.what === "cache").length;

  test("resized: is made once, resumes to the same bits and is part of the run", async () => {
    const given: GivenSettings = { ...tiny(photos, "resized"), cache: "resized" };
    const first = await trainAndWatch(given);
    assert.ok(cachingEvents(first.events) > 0);
    const start = first.events.find((event) => event.event === "start");
    assert.match(start?.cache_folder ?? "", /photos\/\.riffle-cache\/resized-256-/);

    const again: GivenSettings = { ...given, log_dir: join(folder, "resized-2") };
    const stopped = await trainAndWatch(again, (event) => event.event === "step" && event.step === 6);
    assert.equal(cachingEvents(stopped.events), 0);
    await assert.rejects(train({ resume: again.log_dir, cache: "none" }), CheckpointError);
    const { checkpoint } = await train({ resume: again.log_dir });
    assert.equal(trainedBits(checkpoint), trainedBits(first.result.checkpoint));
    // Other pixels, so another training.
    assert.notEqual(trainedBits(checkpoint), trainedBits(join(folder, "files", "step-10")));
  });

  test("resized: lies where --cache_dir says", async () => {
    const elsewhere = join(folder, "caches");
    const given = { ...tiny(photos, "elsewhere"), cache: "resized", cache_dir: elsewhere } as const;
    const { events } = await trainAndWatch({ ...given, max_train_steps: 1 });
    const start = events.find((event) => event.event === "start");
    assert.ok(start?.cache_folder?.startsWith(elsewhere), start?.cache_folder ?? "no folder");
  });

  test("decoded: trains, and resumes to the same bits", async () => {
    const given: GivenSettings = { ...tiny(photos, "decoded"), cache: "decoded" };
    const first = await trainAndWatch(given);
    assert.ok(cachingEvents(first.events) > 0);
    const again: GivenSettings = { ...given, log_dir: join(folder, "decoded-2") };
    await trainAndWatch(again, (event) => event.event === "step" && event.step === 6);
    const { checkpoint } = await train({ resume: again.log_dir });
    assert.equal(trainedBits(checkpoint), trainedBits(first.result.checkpoint));
  });

  test("that is stopped while it is made ends with the signal's reason, and nothing stays locked", async () => {
    const stop = new AbortController();
    const given = { ...tiny(photos, "stopped"), cache: "resized", cache_dir: join(folder, "half") } as const;
    const report = (event: TrainEvent): void => {
      if (event.event === "preparing") stop.abort();
    };
    await assert.rejects(train(given, report, stop.signal), (error) => error === stop.signal.reason);
    const { step } = await train({ ...given, max_train_steps: 1 });
    assert.equal(step, 1);
  });

  test("that cannot be written is refused before training", async () => {
    const file = join(folder, "a-file");
    writeFileSync(file, "");
    const given = { ...tiny(photos, "nowhere"), cache: "resized", cache_dir: join(file, "below") } as const;
    await assert.rejects(train(given), ResourceError);
  });
});
