/** Which part of the layouts that people have is trained on, which is scored, and what is said of the rest. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import { zipSync } from "fflate";

import { DataError } from "../../src/core/error.js";
import { openDatasets, openPart } from "../../src/data/sets.js";
import { train } from "../../src/train/trainer.js";
import { npyBytes } from "../support/numpy-bytes.js";
import { program } from "../support/paths.js";
import { needs, sharedPath } from "../support/shared.js";
import {
  classes,
  fresh,
  given,
  named,
  picture,
  pictures,
  scoredBy,
  startOf,
  writeShard,
} from "../support/split-data.js";

suite("folders of pictures", () => {
  test("each word for a part is that part, in any case, and none is a class", async () => {
    for (const [train, scored, by] of [
      ["train", "val", "validation"],
      ["Training", "VALID", "validation"],
      ["TRAIN", "Validation", "validation"],
      ["train", "dev", "validation"],
      ["train", "test", "test"],
      ["training", "eval", "test"],
    ] as const) {
      const root = await pictures(...classes(`${train}/`, "1", "2"), ...classes(`${scored}/`, "3"));
      const sets = await openDatasets(root, { seed: 0, usualShare: 0.2 });
      assert.deepEqual(sets.classes, ["ants", "bees"]);
      assert.deepEqual(named(sets.train, root), classes(`${train}/`, "1", "2"));
      assert.deepEqual(named(sets.validation, root), classes(`${scored}/`, "3"));
      assert.equal(sets.scored?.by, by);
    }
  });

  test("validation goes before test, which is named, and scored when it is asked for", async () => {
    const root = await pictures(
      ...classes("train/", "1", "2"),
      ...classes("valid/", "3"),
      ...classes("test/", "4", "5"),
    );
    const settings = given(root);
    const { start } = await startOf(settings);
    assert.deepEqual([start.validation_images, start.scored?.by], [2, "validation"]);
    assert.deepEqual(start.scored?.unused, [join(root, "test")]);
    assert.deepEqual(await scoredBy(settings.log_dir), {
      images: 2,
      part: "validation",
      unused: [],
      warnings: [],
    });
    assert.equal((await scoredBy(settings.log_dir, { split: "test" })).images, 4);
    assert.equal((await scoredBy(settings.log_dir, { split: "train" })).images, 4);
  });

  test("what is beside the parts is named: pictures without classes, folders that are none", async () => {
    const root = await pictures(...classes("train/", "1", "2"), "test/1.jpg", "more/1.jpg");
    const sets = await openDatasets(root, { seed: 0, usualShare: 0.5 });
    assert.deepEqual(sets.scored, {
      by: "share",
      share: 0.5,
      unused: [join(root, "more"), join(root, "test")],
    });
    assert.deepEqual([sets.train.size, sets.validation?.size], [2, 2]);
  });

  test("a class may be called train or val when pictures lie directly in it", async () => {
    const root = await pictures(
      "bus/1.jpg",
      "bus/2.jpg",
      "train/1.jpg",
      "train/2.jpg",
      "val/1.jpg",
      "val/2.jpg",
    );
    const { classes, train } = await openDatasets(root, { seed: 0 });
    assert.deepEqual(classes, ["bus", "train", "val"]);
    assert.equal(train.size, 6);
    const bare = await pictures("train/1.jpg", "train/2.jpg", "val/1.jpg");
    await assert.rejects(
      openDatasets(bare, { seed: 0 }),
      /holds pictures and no class folders.*train\/CLASS/,
    );
  });

  test("a run's own folder, its lists and its shards inside the data are no classes", async () => {
    const root = await pictures(...classes("", "1", "2", "3"));
    const run = { ...given(root), log_dir: join(root, "runs", "a") };
    await train(run);
    const riffle = (...argv: string[]): void => {
      const { status, stderr } = spawnSync(process.execPath, [program, ...argv], {
        cwd: root,
        encoding: "utf8",
      });
      assert.equal(status, 0, stderr);
    };
    riffle("explore-imagenet", "--train", ".", "--output", "lists");
    const lists = ["-m", "lists/training_metadata.csv", "-l", "lists/integer_encoding.json"];
    riffle("create-tfrecords", ...lists, "-o", "shards", "-s", "1");
    riffle("explore-imagenet", "--train", ".", "--output", "lists");
    mkdirSync(join(root, "empty-run"));
    const outputs = [join(root, "empty-run")];
    const sets = await openDatasets(root, { seed: 0, outputs });
    assert.deepEqual(sets.classes, ["ants", "bees"]);
    assert.equal(sets.train.size, 6);
    await train({ ...run, log_dir: outputs[0] });
  });

  test("a stray shard beside class folders is an error, not a choice", async () => {
    const image = await picture(0);
    const root = await pictures(...classes("", "1", "2"));
    writeShard(join(root, "extra.tfrecord"), [0, 1], image);
    await assert.rejects(openDatasets(root, { seed: 0 }), (error) => {
      assert.ok(error instanceof DataError);
      return /extra\.tfrecord: lies beside the folder ants/.test(error.message);
    });
    const parts = await pictures(...classes("train/", "1", "2"), ...classes("val/", "1"));
    writeShard(join(parts, "extra.tfrecord"), [0, 1], image);
    await assert.rejects(openDatasets(parts, { seed: 0 }), /lies beside the folder train/);
    const folders = await pictures(...classes("", "1", "2"));
    writeShard(join(folders, "train_shards", "a.tfrecord"), [0, 1], image);
    await assert.rejects(
      openDatasets(folders, { seed: 0 }),
      /train_shards: holds shards beside the folder ants/,
    );
  });
});

suite("shards", () => {
  test("in one folder belong to the parts that their names say, and one whose name says none is named", async () => {
    const image = await picture(0);
    for (const [trained, held, by, more] of [
      ["train-0000%-of-00002", "validation-00000-of-00001", "validation", "extra.tfrecord"],
      [
        "flowers_train_0000%-of-00002.tfrecord",
        "flowers_validation_00000-of-00001.tfrecord",
        "validation",
        undefined,
      ],
      ["my-train.tfrecord-0000%-of-00002", "my-test.tfrecord-00000-of-00001", "test", undefined],
      ["train%.tfrec", "val1.tfrec", "validation", undefined],
    ] as const) {
      const root = fresh("shards");
      for (const i of [0, 1]) writeShard(join(root, trained.replace("%", String(i))), [0, 1, 0, 1], image);
      writeShard(join(root, held), [0, 1, 1], image);
      if (more !== undefined) writeShard(join(root, more), [0], image);
      const sets = await openDatasets(root, { seed: 0, usualShare: 0.2 });
      assert.deepEqual([sets.train.size, sets.validation?.size, sets.scored?.by], [8, 3, by], trained);
      assert.deepEqual(sets.scored?.unused, more === undefined ? [] : [join(root, more)]);
      await sets.train.close?.();
      await sets.validation?.close?.();
    }
  });

  test("of one part alone: the training part is not scored unless it is asked for", async () => {
    const image = await picture(0);
    const root = fresh("shards");
    writeShard(join(root, "train-00000-of-00001"), [0, 1, 0, 1], image);
    await assert.rejects(openPart(root, undefined, { seed: 0 }), /pictures to train on alone.*--split train/);
    const { set } = await openPart(root, "train", { seed: 0 });
    assert.equal(set.size, 4);
    await set.close?.();
  });

  const cases = sharedPath("..", "cases", "records");
  test(
    "as Inception and TensorFlow Datasets leave them: 24 train, 9 are held out, and classes have TFDS's names",
    needs("..", "cases", "records"),
    async () => {
      const copy = fresh("cases");
      cpSync(cases, copy, { recursive: true });
      const inception = await openDatasets(join(copy, "inception_one_folder"), { seed: 0, usualShare: 0.2 });
      assert.deepEqual([inception.train.size, inception.validation?.size], [24, 9]);
      const tfds = await openDatasets(join(copy, "tfds", "1.0.0"), { seed: 0, usualShare: 0.2 });
      assert.deepEqual([tfds.train.size, tfds.validation?.size], [24, 9]);
      assert.deepEqual(tfds.classes, ["daisy", "roses", "tulips"]);
      for (const { train, validation } of [inception, tfds]) {
        await train.close?.();
        await validation?.close?.();
      }
    },
  );

  test("class names are read from labels.txt of slim and label.labels.txt of TensorFlow Datasets", async () => {
    const image = await picture(0);
    for (const [name, text] of [
      ["labels.txt", "0:daisy\n1:rose\n"],
      ["label.labels.txt", "daisy\nrose\n"],
    ] as const) {
      const root = fresh("shards");
      writeShard(join(root, "train.tfrecord"), [0, 1], image);
      writeFileSync(join(root, name), text);
      const { classes, train } = await openDatasets(root, { seed: 0 });
      assert.deepEqual(classes, ["daisy", "rose"]);
      await train.close?.();
    }
  });

  test("labels from 1 and labels with gaps are said, with the option that makes the classes fewer", async () => {
    const image = await picture(0);
    const root = fresh("shards");
    writeShard(join(root, "train", "a.tfrecord"), [1, 2, 3, 1], image);
    writeShard(join(root, "val", "a.tfrecord"), [1, 2, 3], image);
    const counted = await startOf(given(root));
    assert.equal(counted.start.classes, 4);
    assert.match(counted.warnings.join(), /no picture has the label 0.*--label_offset 1 makes it 3/);
    const fewer = await startOf(given(root, { label_offset: 1 }));
    assert.equal(fewer.start.classes, 3);
    assert.doesNotMatch(fewer.warnings.join(), /no picture has/);
    const gaps = fresh("shards");
    writeShard(join(gaps, "train", "a.tfrecord"), [0, 3, 0, 3], image);
    writeShard(join(gaps, "val", "a.tfrecord"), [0, 3], image);
    const { warnings } = await startOf(given(gaps));
    assert.match(warnings.join(), /no picture has the label 1, 2; the network has 4 outputs/);
  });
});

suite("arrays", () => {
  function arrays(
    parts: Readonly<Record<string, readonly [pixels: string, labels: readonly number[]]>>,
  ): string {
    const path = `${fresh("arrays")}.npz`;
    const files: Record<string, Uint8Array> = {};
    for (const [images, [labelsName, labels]] of Object.entries(parts)) {
      const pixels = new Uint8Array(labels.length * 8 * 8);
      files[`${images}.npy`] = npyBytes("|u1", [labels.length, 8, 8], pixels);
      files[`${labelsName}.npy`] = npyBytes("|u1", [labels.length], Uint8Array.from(labels));
    }
    writeFileSync(path, zipSync(files, { level: 0 }));
    return path;
  }

  test("test_images are held out where there are no others, else named, and scored when they are asked for", async () => {
    const three = arrays({
      train_images: ["train_labels", [0, 1, 0, 1]],
      val_images: ["val_labels", [0, 1, 1]],
      test_images: ["test_labels", [0, 1]],
    });
    const sets = await openDatasets(three, { seed: 0, usualShare: 0.2 });
    assert.deepEqual([sets.train.size, sets.validation?.size, sets.scored?.by], [4, 3, "validation"]);
    assert.deepEqual(sets.scored?.unused, [`${three}, test_images`]);
    assert.equal((await openPart(three, "test", { seed: 0 })).set.size, 2);
    for (const two of [
      arrays({ train_images: ["train_labels", [0, 1, 0]], test_images: ["test_labels", [0, 1]] }),
      arrays({ x_train: ["y_train", [0, 1, 0]], x_test: ["y_test", [0, 1]] }),
    ]) {
      const { train, validation, scored } = await openDatasets(two, { seed: 0, usualShare: 0.2 });
      assert.deepEqual([train.size, validation?.size, scored?.by], [3, 2, "test"]);
    }
  });

  test("labels from 1 are said, and --label_offset 1 counts them so", async () => {
    const path = arrays({
      train_images: ["train_labels", [1, 2, 3, 1]],
      val_images: ["val_labels", [1, 2, 3]],
    });
    const { start, warnings } = await startOf(given(path));
    assert.equal(start.classes, 4);
    assert.match(warnings.join(), /no picture has the label 0.*--label_offset 1 makes it 3/);
    assert.equal((await startOf(given(path, { label_offset: 1 }))).start.classes, 3);
  });
});
