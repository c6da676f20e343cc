import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

import sharp from "sharp";

import { DataError } from "../core/error.js";
import { augmentations } from "../data/pictures/augment.js";
import { type SheetSample, sheetHtml, type SheetOptions, sheetPng, sheetRows } from "./contact-sheet.js";
import type { Dataset } from "../data/dataset.js";
import { drawFolder } from "./draw/draw-folder.js";
import { trainingBatches } from "../data/loader.js";
import { openDatasets } from "../data/sets.js";

const folder = mkdtempSync(join(tmpdir(), "riffle-sheet-"));
const photos = join(folder, "photos");
const options: SheetOptions = {
  augmentation: augmentations.tensorflow,
  imageSize: 48,
  images: 6,
  epoch: 1,
  seed: 11,
};
before(() => drawFolder({ folder: photos, seed: 2, size: 80, train: 20, validation: 10 }));
after(() => rmSync(folder, { recursive: true, force: true }));

suite("a contact sheet", () => {
  for (const name of ["tensorflow", "torchvision"] as const) {
    test(`shows the pixels that training gets, in its order (${name})`, async () => {
      const augmentation = augmentations[name];
      const { train } = await openDatasets(photos, { seed: 0 });
      const rows = await sheetRows(train, { ...options, augmentation });
      const source = trainingBatches(train, {
        batch: 6,
        imageSize: 48,
        seed: 11,
        firstStep: 0,
        augmentation,
        shuffle: true,
        maxBadImages: 0,
      });
      const { value: batch } = (await source[Symbol.asyncIterator]().next()) as IteratorYieldResult<{
        images: Uint8Array;
        samples: Uint32Array;
      }>;
      assert.deepEqual(
        rows.map((row) => row.sample),
        [...batch.samples],
      );
      rows.forEach((row, i) => {
        const look = (row as SheetSample).looks[0];
        assert.equal(look?.epoch, 1);
        const expected = batch.images.subarray(i * 48 * 48 * 3, (i + 1) * 48 * 48 * 3);
        assert.equal(Buffer.compare(look.pixels, expected), 0, `picture ${i}`);
      });
      await source.close();
    });
  }

  test("draws the object's box where it is", async () => {
    const jpeg = await sharp({ create: { width: 168, height: 84, channels: 3, background: "#404040" } })
      .jpeg()
      .toBuffer();
    const box = { xmin: 0.25, ymin: 0.25, xmax: 0.75, ymax: 0.75 };
    const set = setOf({ bytes: jpeg, boxes: [box] });
    const none = { ...options, augmentation: augmentations.none, images: 1 };
    const png = await sheetPng(await sheetRows(set, none), none);
    const { data, info } = await sharp(png).raw().toBuffer({ resolveWithObject: true });
    let [left, right, top, bottom] = [Infinity, -1, Infinity, -1];
    for (let y = 76; y < info.height; y++) {
      for (let x = 0; x < info.width; x++) {
        const [r = 0, g = 0, b = 0] = data.subarray((y * info.width + x) * info.channels);
        if (!(g > 130 && r < 60 && b > 80 && b < 150)) continue;
        [left, right] = [Math.min(left, x), Math.max(right, x)];
        [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
      }
    }
    // The tile begins at (20, 76); the picture lies in it at (0, 42) in its own size.
    for (const [found, expected] of [
      [left, 20 + 42],
      [right, 20 + 126],
      [top, 76 + 42 + 21],
      [bottom, 76 + 42 + 63],
    ] as const) {
      assert.ok(Math.abs(found - expected) <= 2, `${found}, not ${expected}`);
    }
  });

  test("says of what is cut where: the central crop of a wide picture", async () => {
    const jpeg = await sharp({ create: { width: 200, height: 100, channels: 3, background: "#fff" } })
      .jpeg()
      .toBuffer();
    const none = { ...options, augmentation: augmentations.none, images: 1 };
    const [row] = (await sheetRows(setOf({ bytes: jpeg }), none)) as SheetSample[];
    const { crop } = row!.looks[0]!;
    // 48 of a shorter side of 55: 87.3 of 100 pixels, in the middle.
    assert.equal(row!.looks.length, 1);
    assert.ok(Math.abs(crop.width - 87.3) < 0.1 && Math.abs(crop.height - 87.3) < 0.1, JSON.stringify(crop));
    assert.ok(Math.abs(crop.x + crop.width / 2 - 100) < 1, JSON.stringify(crop));
  });

  test("shows a picture that does not decode by its reason", async () => {
    const rows = await sheetRows(setOf({ bytes: Buffer.from("no picture at all") }), options);
    assert.match((rows[0] as { problem: string }).problem, /./);
    await sheetPng(rows, options);
    assert.match(await sheetHtml(rows, options), /class="refused"/);
  });

  test("escapes names, and its HTML loads and runs nothing", async () => {
    const jpeg = await sharp({ create: { width: 40, height: 40, channels: 3, background: "#fff" } })
      .jpeg()
      .toBuffer();
    const name = `a"><script>alert(1)</script>&\u202e\u0000'.jpg`;
    const set = { ...setOf({ bytes: jpeg }), classes: [name], name: () => name };
    const rows = await sheetRows(set, options);
    const html = await sheetHtml(rows, options);
    assert.doesNotMatch(html, /<script|[\u0000\u202e]|https?:/);
    assert.match(html, /default-src 'none'/);
    assert.match(html, /&#60;script&#62;alert\(1\)&#60;\/script&#62;&#38;\\u202e\\u0000&#39;\.jpg/);
    await sheetPng(rows, options); // librsvg refuses what is not well-formed
  });

  test("lets a failure that is not the data's through", async () => {
    const set = { ...setOf({ bytes: Buffer.alloc(0) }), read: () => Promise.reject(new Error("a bug")) };
    await assert.rejects(sheetRows(set, options), (error) => !(error instanceof DataError));
  });
});

function setOf(picture: {
  bytes: Uint8Array;
  boxes?: readonly { xmin: number; ymin: number; xmax: number; ymax: number }[];
}): Dataset {
  return {
    classes: ["only"],
    size: 1,
    label: () => 0,
    name: () => "picture.jpg",
    read: () => Promise.resolve({ kind: "encoded", ...picture }),
    fingerprint: "",
  };
}
