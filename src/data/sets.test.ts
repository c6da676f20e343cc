import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, suite, test } from "node:test";

import { zipSync } from "fflate";

import { npyBytes } from "../../test/support/numpy-bytes.js";
import { needs, sharedPath } from "../../test/support/shared.js";
import { DataError, UsageError } from "../core/error.js";
import { type Dataset, readAll } from "./dataset.js";
import { openDatasets, openPart } from "./sets.js";
import { openImageFiles } from "./image-folder.js";
import { openNpzImages } from "./npz-dataset.js";
import { Scratch } from "./pictures/scratch.js";

const root = mkdtempSync(join(tmpdir(), "riffle-data-"));
after(() => rmSync(root, { recursive: true }));

let folders = 0;
/** A folder with these files; what is in them does not matter until they are read. */
function folder(...paths: string[]): string {
  const path = join(root, `folder-${folders++}`);
  mkdirSync(path);
  for (const file of paths) {
    mkdirSync(dirname(join(path, file)), { recursive: true });
    writeFileSync(join(path, file), file);
  }
  return path;
}

function names(set: Dataset | undefined, below: string): string[] {
  return Array.from({ length: set?.size ?? 0 }, (_, i) => (set as Dataset).name(i).slice(below.length + 1));
}

const refuses = (path: string, message: RegExp, options = {}) =>
  assert.rejects(
    openDatasets(path, { seed: 1, ...options }),
    (error: unknown) => error instanceof DataError && message.test(error.message),
  );

suite("a folder of pictures", () => {
  test("with train/ and val/: classes and files sorted by code point, labels shared", async () => {
    const path = folder(
      "train/b/2.jpg",
      "train/b/10.jpg",
      "train/a/x.png",
      "train/B/1.webp",
      "val/b/9.jpg",
      "val/B/8.jpg",
    );
    const { train, validation, classes } = await openDatasets(path, { seed: 1 });
    assert.deepEqual(classes, ["B", "a", "b"]);
    assert.deepEqual(names(train, path), [
      "train/B/1.webp",
      "train/a/x.png",
      "train/b/10.jpg",
      "train/b/2.jpg",
    ]);
    assert.deepEqual(
      [0, 1, 2, 3].map((i) => train.label(i)),
      [0, 1, 2, 2],
    );
    assert.deepEqual(names(validation, path), ["val/B/8.jpg", "val/b/9.jpg"]);
    assert.deepEqual(
      [0, 1].map((i) => validation?.label(i)),
      [0, 2],
    );
    const first = await train.read(0);
    assert.ok(first.kind === "encoded");
    assert.equal(Buffer.from(first.bytes).toString(), "train/B/1.webp");
  });

  test("leaves aside hidden files, what systems leave behind, and notes beside the classes", async () => {
    const path = folder("README.md", ".DS_Store", "a/1", "a/.hidden", "a/Thumbs.db", "b/1", "__MACOSX/1");
    const { train } = await openDatasets(path, { seed: 1 });
    assert.deepEqual(names(train, path), ["a/1", "b/1"]);
  });

  test("of classes alone: --val_split holds out the same share of each, for the same seed the same", async () => {
    const files = ["a", "b"].flatMap((c) =>
      Array.from({ length: c === "a" ? 20 : 10 }, (_, i) => `${c}/${i}`),
    );
    const path = folder(...files, "c/1", "c/2");
    const first = await openDatasets(path, { seed: 1, valSplit: 0.2 });
    const held = names(first.validation, path);
    assert.deepEqual(
      ["a", "b", "c"].map((c) => held.filter((name) => name.startsWith(c)).length),
      [4, 2, 1],
    );
    assert.deepEqual([...held, ...names(first.train, path)].sort(), [...files, "c/1", "c/2"].sort());
    assert.deepEqual(names((await openDatasets(path, { seed: 1, valSplit: 0.2 })).validation, path), held);
    const other = await openDatasets(path, { seed: 2, valSplit: 0.2 });
    assert.notDeepEqual(names(other.validation, path), held);
    assert.notEqual(other.train.fingerprint, first.train.fingerprint);
  });

  test("without a validation part is evaluated whole", async () => {
    const path = folder("a/1", "a/2");
    const { set, part } = await openPart(path, undefined, { seed: 1 });
    assert.deepEqual(names(set, path), ["a/1", "a/2"]);
    assert.equal(part, "all");
    const parts = folder("val/a/1", "val/b/1");
    assert.equal((await openPart(parts, undefined, { seed: 1 })).set.size, 2);
  });

  test("has a fingerprint that follows names, sizes and labels, not the place", async () => {
    const of = async (...files: string[]) =>
      (await openDatasets(folder(...files), { seed: 1 })).train.fingerprint;
    assert.equal(await of("a/1", "b/1"), await of("a/1", "b/1"));
    assert.notEqual(await of("a/1", "b/1"), await of("a/1", "b/2"));
    assert.notEqual(await of("a/1", "b/1"), await of("a/1", "b/1", "b/2"));
  });

  test("refuses what is not a set of classes", async () => {
    await refuses(join(root, "nowhere"), /no such file or folder/);
    await refuses(folder(), /holds no class folders.*one folder of pictures per class/);
    await refuses(folder("train/a/1"), /only one class.*found a\b/);
    await refuses(folder("train/a/1", "train/b/.hidden"), /b: a class without pictures/);
    await refuses(
      folder("train/a/1", "train/b/1", "val/c/1"),
      /c: a class that the training set does not have \(expected a, b, found c\)/,
    );
    await refuses(folder("a/1", "b/1", "photo.jpg"), /photo\.jpg: lies beside the class folders/);
    await refuses(folder("a/1", "b/1", "b/more/2"), /more: a folder inside a class folder/);
    await refuses(folder("val/a/1", "val/b/1"), /no pictures to train on/);
    const file = join(folder("x"), "x");
    await refuses(file, /neither a folder of pictures or TFRecords, nor a \.npz file/);
  });

  test("gives loops of links, dead links and pipes as pictures that cannot be read, without waiting for them", async () => {
    const refuses = async (path: string, message: RegExp): Promise<void> => {
      const { train } = await openDatasets(path, { seed: 1 });
      assert.equal(train.size, 3);
      const read = await readAll(train, [0, 1, 2], new Scratch());
      const errors = read.filter((one) => one instanceof DataError);
      assert.equal(errors.length, 1);
      assert.match(errors[0]?.message ?? "", message);
    };
    const loop = folder("a/1", "b/1");
    symlinkSync("loop", join(loop, "a", "loop"));
    await refuses(loop, /a\/loop: cannot be read: a loop of symbolic links/);
    const dead = folder("a/1", "b/1");
    symlinkSync("gone", join(dead, "b", "dead"));
    await refuses(dead, /b\/dead: there is no such file/);
    const pipe = folder("a/1", "b/1");
    execFileSync("mkfifo", [join(pipe, "a", "pipe")]);
    await refuses(pipe, /a\/pipe: neither a file nor a folder/);
  });

  test("refuses --val_split beside a validation set, and shares that are none", async () => {
    const path = folder("train/a/1", "train/b/1", "val/a/1");
    await assert.rejects(openDatasets(path, { seed: 1, valSplit: 0.1 }), UsageError);
    await assert.rejects(openDatasets(folder("a/1", "b/1"), { seed: 1, valSplit: 1 }), UsageError);
  });

  test("a file that vanishes is named when it is read", async () => {
    const path = folder("a/1", "b/1");
    const { train } = await openDatasets(path, { seed: 1 });
    rmSync(join(path, "a/1"));
    await assert.rejects(train.read(0), /a\/1: there is no such file/);
  });
});

test("single files for prediction have no label", () => {
  const path = folder("a/1");
  const set = openImageFiles([join(path, "a/1")]);
  assert.deepEqual([set.size, set.label(0), set.name(0)], [1, -1, join(path, "a/1")]);
});

suite("an .npz file", () => {
  const save = (arrays: Record<string, Uint8Array>): string => {
    const path = join(folder(), "set.npz");
    writeFileSync(
      path,
      zipSync(Object.fromEntries(Object.entries(arrays).map(([name, bytes]) => [`${name}.npy`, bytes]))),
    );
    return path;
  };
  const images = (n: number, first = 0) =>
    npyBytes(
      "|u1",
      [n, 2, 2, 3],
      Uint8Array.from({ length: n * 12 }, (_, i) => first + i),
    );

  test("as MedMNIST stores it: parts, labels in a column, grayscale", async () => {
    const path = save({
      train_images: npyBytes(
        "|u1",
        [3, 2, 2],
        Uint8Array.from({ length: 12 }, (_, i) => i),
      ),
      train_labels: npyBytes("|u1", [3, 1], Uint8Array.of(0, 2, 1)),
      val_images: npyBytes("|u1", [1, 2, 2], Uint8Array.of(9, 9, 9, 9)),
      val_labels: npyBytes("|u1", [1, 1], Uint8Array.of(1)),
    });
    const { train, validation, classes } = await openDatasets(path, { seed: 1 });
    assert.deepEqual(classes, ["0", "1", "2"]);
    assert.deepEqual(
      [0, 1, 2].map((i) => train.label(i)),
      [0, 2, 1],
    );
    assert.equal(train.name(2), `${path}#2`);
    assert.deepEqual(await train.read(1), {
      kind: "pixels",
      data: Uint8Array.of(4, 5, 6, 7),
      width: 2,
      height: 2,
      channels: 1,
    });
    assert.equal(validation?.size, 1);
  });

  test("of images and labels alone, 64-bit labels too, is split on request", async () => {
    const path = save({ images: images(4), labels: npyBytes("<i8", [4], BigInt64Array.of(0n, 1n, 0n, 1n)) });
    assert.equal((await openDatasets(path, { seed: 1 })).validation, undefined);
    const { train, validation } = await openDatasets(path, { seed: 1, valSplit: 0.5 });
    assert.deepEqual([train.size, validation?.size], [2, 2]);
    assert.equal((await openPart(path, undefined, { seed: 1 })).set.size, 4);
    assert.equal((await openNpzImages(path)).label(3), -1);
  });

  test("is refused when images and labels do not belong together", async () => {
    await refuses(save({ labels: npyBytes("|u1", [1], Uint8Array.of(0)) }), /holds no images.*found labels/);
    await refuses(save({ images: images(2) }), /labels: missing/);
    await refuses(
      save({ images: images(2), labels: npyBytes("|u1", [3], Uint8Array.of(0, 1, 2)) }),
      /one label per image.*\[2\].*\[3\]/,
    );
    await refuses(
      save({ images: images(2), labels: npyBytes("|i1", [2], Int8Array.of(0, -1)) }),
      /label 1 is no class.*found -1/,
    );
    await refuses(
      save({ images: images(2), labels: npyBytes("<f4", [2], Float32Array.of(0, 0.5)) }),
      /found 0\.5/,
    );
    await refuses(
      save({ images: npyBytes("<f4", [1, 2, 2], new Float32Array(4)) }),
      /8-bit pictures.*found f4 \[1, 2, 2\]/,
    );
    await refuses(
      save({ images: images(2), labels: npyBytes("|u1", [2], Uint8Array.of(0, 0)) }),
      /only one class/,
    );
    await refuses(
      save({
        train_images: images(2),
        train_labels: npyBytes("|u1", [2], Uint8Array.of(0, 1)),
        val_images: images(1),
        val_labels: npyBytes("|u1", [1], Uint8Array.of(2)),
      }),
      /val_labels: a class that the training set does not have/,
    );
  });
});

test("real folders open with the counts their source states", needs("imagenette224"), async () => {
  const { train, validation, classes } = await openDatasets(sharedPath("imagenette224"), { seed: 1 });
  assert.deepEqual([train.size, validation?.size, classes.length, classes[0]], [6000, 1000, 10, "n01440764"]);
});
