import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { preferred, splitOfFolder, splitOfImages, splitOfShard } from "./split-names.js";

suite("names of parts", () => {
  test("folders: the words of other tools, in any case, with and without what shards are called", () => {
    const found = (...names: string[]) => names.map(splitOfFolder);
    assert.deepEqual(
      new Set(found("train", "Training", "TRAIN", "train_shards", "training_set")),
      new Set(["train"]),
    );
    assert.deepEqual(
      new Set(found("val", "Valid", "validation", "DEV", "val_shards", "eval_shards")),
      new Set(["validation"]),
    );
    assert.deepEqual(new Set(found("test", "Testing", "eval")), new Set(["test"]));
    assert.deepEqual(
      new Set(found("trains", "bus", "validity", "tests", "developer", "")),
      new Set([undefined]),
    );
  });

  test("shards: as Inception, slim, TensorFlow Datasets and people call them; the last word counts", () => {
    for (const [name, split] of [
      ["train-00000-of-00002", "train"],
      ["validation-00000-of-00128", "validation"],
      ["flowers_train_00000-of-00005.tfrecord", "train"],
      ["flowers_validation_00000-of-00005.tfrecord", "validation"],
      ["my-train.tfrecord-00000-of-00001", "train"],
      ["my-test.tfrecord-00000-of-00001", "test"],
      ["test_pictures-train.tfrecord-00000-of-00001", "train"],
      ["val.tfrecord", "validation"],
      ["train00-190.tfrec", "train"],
      ["DEV.tfrecords", "validation"],
      ["shard-0001.tfrecords", undefined],
      ["retrained.tfrecord", undefined],
    ] as const) {
      assert.equal(splitOfShard(name), split, name);
    }
  });

  test("arrays: MedMNIST's and Keras's", () => {
    assert.deepEqual(
      ["images", "x", "train_images", "x_train", "val_images", "x_test", "boxes"].map(splitOfImages),
      ["all", "all", "train", "train", "validation", "test", undefined],
    );
  });

  test("of two names for one part the usual one is used", () => {
    assert.deepEqual(preferred(["validation", "Val", "dev"]), ["Val", "validation", "dev"]);
    assert.deepEqual(preferred(["eval_shards", "val_shards"]), ["val_shards", "eval_shards"]);
  });
});
