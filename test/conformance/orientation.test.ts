/**
 * Pictures turned as EXIF says: the pixels are those of Pillow's `ImageOps.exif_transpose`, whatever is cut out of them and
 * whichever way they come to the network.
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import fc from "fast-check";
import sharp from "sharp";

import { decodedCache, resizedCache } from "../../src/data/cache.js";
import { type Dataset, upright } from "../../src/data/dataset.js";
import { trainingBatches } from "../../src/data/loader.js";
import {
  augmentations,
  type ObjectBox,
  type Picture,
  type Transform,
} from "../../src/data/pictures/augment.js";
import { imageInfo } from "../../src/data/pictures/image-info.js";
import { exifOrientation, type Orientation, turnPixels } from "../../src/data/pictures/orientation.js";
import { type Encoded, type Pixels, renderInto } from "../../src/data/pictures/render.js";
import { exifOf, heldJpeg } from "../support/exif.js";
import { repository } from "../support/paths.js";
import { pixelsOf } from "../support/picture-pixels.js";
import { scratch } from "../support/tiny-run.js";
import { needs, sharedPath } from "../support/shared.js";

const folder = join(repository, "test", "golden", "pictures");
type Value = readonly [width: number, height: number, sha256: string];
const values = Object.entries(
  JSON.parse(readFileSync(join(folder, "values.json"), "utf8")) as Record<
    string,
    { stored: Value; upright?: Value }
  >,
);
const orientations: readonly Orientation[] = [1, 2, 3, 4, 5, 6, 7, 8];
const read = (name: string): Buffer => readFileSync(join(folder, name));
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

suite("EXIF's orientation", () => {
  test("turns JPEG, PNG, WebP and TIFF to Pillow's upright pixels, whichever decodes them", async () => {
    const held = values.filter(([, { upright: expected }]) => expected !== undefined);
    assert.equal(held.length, 11);
    for (const [name, { upright: expected, stored }] of held) {
      for (const decoder of ["auto", "sharp"] as const) {
        for (const [turned, value] of [
          [true, expected],
          [false, stored],
        ] as const) {
          const { width, height, data } = await pixelsOf(read(name), name, decoder, turned);
          assert.deepEqual([width, height, sha256(data)], value, `${name}, ${decoder}`);
        }
      }
    }
  });

  test("comes before cutting and resizing: every crop has the bits of the same crop of turned pixels", async () => {
    const plain = await sharp(read("held-7-large.jpg")).jpeg({ quality: 95 }).toBuffer();
    for (const orientation of orientations) {
      const bytes = heldJpeg(plain, orientation);
      const turned = await pixelsOf(bytes, "turned", "auto", true);
      const [longer, shorter] = [
        Math.max(turned.width, turned.height),
        Math.min(turned.width, turned.height),
      ];
      assert.deepEqual([longer, shorter], [157, 118]);
      for (const filter of ["tensorflow", "pillow", "pillow-bytes"] as const) {
        for (const [x, y, width, height, flip] of [
          [0, 0, turned.width, turned.height, false],
          [3, 5, 61, 47, true],
          [turned.width - 50, turned.height - 71, 50, 71, false],
        ] as const) {
          const transform: Transform = {
            ...{ box: { x, y, width, height }, resized: { width: 33, height: 40 }, window: { x: 1, y: 6 } },
            ...{ size: 32, filter, flip, shift: [0, 0, 0], grayscale: false },
            decoding: { fastDct: false, scaled: false },
          };
          const render = async (source: Encoded | Pixels): Promise<Uint8Array> => {
            const out = new Uint8Array(32 * 32 * 3);
            await renderInto(source, "x", () => transform, out, 0);
            return out;
          };
          const seen = await render({ kind: "encoded", bytes, upright: true });
          assert.deepEqual(seen, await render(turned), `${orientation}, ${filter}, ${x}`);
        }
      }
    }
  });

  test("turns a JPEG that is reduced while it is decoded after reducing it", async () => {
    const square = await sharp(read("held-7-large.jpg")).resize(160, 160, { fit: "fill" }).jpeg().toBuffer();
    // A quarter of the size, so that nothing is left to resize.
    const transform: Transform = {
      ...{ box: { x: 0, y: 0, width: 160, height: 160 }, resized: { width: 40, height: 40 } },
      ...{ window: { x: 0, y: 0 }, size: 40, filter: "pillow", flip: false, shift: [0, 0, 0] },
      ...{ grayscale: false, decoding: { fastDct: false, scaled: true } },
    };
    const render = async (bytes: Uint8Array): Promise<Uint8Array> => {
      const out = new Uint8Array(40 * 40 * 3);
      await renderInto({ kind: "encoded", bytes, upright: true }, "x", () => transform, out, 0);
      return out;
    };
    const reduced = await render(square);
    for (const orientation of orientations) {
      assert.deepEqual(
        await render(heldJpeg(square, orientation)),
        turnPixels(reduced, { width: 40, height: 40 }, 3, orientation),
      );
    }
  });

  test("turns the boxes of objects too", async () => {
    // A white rectangle in a black picture, and its box.
    const box: ObjectBox = { xmin: 0.25, ymin: 0.125, xmax: 0.5, ymax: 0.875 };
    const white = await sharp({ create: { width: 32, height: 96, channels: 3, background: "white" } })
      .png()
      .toBuffer();
    const picture = await sharp({ create: { width: 128, height: 128, channels: 3, background: "black" } })
      .composite([{ input: white, left: 32, top: 16 }])
      .jpeg({ quality: 100 })
      .toBuffer();
    for (const orientation of orientations) {
      let known: Picture | undefined;
      const source = { kind: "encoded", bytes: heldJpeg(picture, orientation), boxes: [box] } as const;
      const out = new Uint8Array(128 * 128 * 3);
      await renderInto(
        { ...source, upright: true },
        "x",
        (seen) => {
          known = seen;
          return {
            ...{ box: { x: 0, y: 0, width: 128, height: 128 }, resized: { width: 128, height: 128 } },
            ...({ window: { x: 0, y: 0 }, size: 128, filter: "pillow", flip: false } as const),
            ...({ shift: [0, 0, 0], grayscale: false } as const),
            decoding: { fastDct: false, scaled: false },
          };
        },
        out,
        0,
      );
      const { xmin, ymin, xmax, ymax } = known?.boxes?.[0] as ObjectBox;
      for (const [x, y, inside] of [
        [xmin * 128 + 4, ymin * 128 + 4, true],
        [xmax * 128 - 5, ymax * 128 - 5, true],
        [xmin * 128 - 5, ymin * 128 + 4, false],
        [xmax * 128 + 4, ymax * 128 - 5, false],
        [xmin * 128 + 4, ymin * 128 - 5, false],
        [xmax * 128 - 5, ymax * 128 + 4, false],
      ] as const) {
        const value = out[(y * 128 + x) * 3] as number;
        assert.equal(value > 128, inside, `orientation ${orientation} at ${x}, ${y}: ${value}`);
      }
    }
  });

  test("that makes no sense, or is cut anywhere, means as stored and is never an error", async () => {
    const plain = read("420.jpg");
    const stored = sha256((await pixelsOf(plain, "plain")).data);
    const big = (value: number): Buffer => exifOf(value);
    const entry = (offset: number, value: number): Buffer => {
      const exif = exifOf(6);
      exif[offset] = value;
      return exif;
    };
    for (const exif of [
      ...[big(0), big(9), big(65535), Buffer.alloc(0), Buffer.from("II*\0"), Buffer.from("nonsense")],
      // No TIFF; a directory behind the end; another type; two values.
      ...[entry(0, 0x4d), entry(2, 43), entry(7, 255), entry(12, 2), entry(14, 2)],
      ...Array.from({ length: 20 }, (_, length) => exifOf(6).subarray(0, length)),
    ]) {
      const bytes = heldJpeg(plain, exif);
      assert.equal(exifOrientation("jpeg", bytes), 1, exif.toString("hex"));
      assert.equal(sha256((await pixelsOf(bytes, "damaged", "auto", true)).data), stored);
    }
  });

  test("is read from damaged files of every kind without leaving them", () => {
    for (const name of ["held-6.jpg", "held-6.png", "held-6.tif", "held-8.webp"]) {
      const whole = read(name);
      const format = imageInfo(whole, name).format;
      const changes = fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 6 });
      fc.assert(
        fc.property(changes, fc.nat(whole.length), (changed, length) => {
          const bytes = Uint8Array.from(whole);
          for (const [at, value] of changed) bytes[at] = value;
          assert.ok(orientations.includes(exifOrientation(format, bytes.subarray(0, length))));
        }),
        { numRuns: Number(process.env["RIFFLE_FUZZ"] ?? 2000), seed: 1 },
      );
    }
  });

  test("is followed by both caches: a cached picture is upright, and no set is taken for the other", async () => {
    const large = await sharp(read("held-7-large.jpg"))
      .resize(400, 300, { fit: "fill" })
      .jpeg({ quality: 98 })
      .toBuffer();
    const files = [heldJpeg(large, 6), heldJpeg(read("420.jpg"), 8), read("held-6.png")];
    const set: Dataset = {
      classes: ["a"],
      size: files.length,
      label: () => 0,
      name: (sample) => `picture ${sample}`,
      fingerprint: "f".repeat(64),
      read: (sample) => Promise.resolve({ kind: "encoded", bytes: files[sample] as Buffer }),
    };
    const held = upright(set);
    assert.notEqual(held.fingerprint, set.fingerprint);
    const first = async (dataset: Dataset): Promise<Uint8Array[]> => {
      const batches = trainingBatches(dataset, {
        ...{ batch: 1, imageSize: 48, maxBadImages: 0, seed: 1, firstStep: 0, shuffle: false },
        augmentation: augmentations.none,
      });
      const images: Uint8Array[] = [];
      for await (const batch of batches) {
        images.push(batch.images.slice());
        batch.release();
        if (images.length === files.length) break;
      }
      return images;
    };
    const expected = await first(held);
    const stored = await first(set);
    const caches = [
      await resizedCache(held, join(scratch(), "cache"), { shorterSide: 256 }),
      await decodedCache(held, { shorterSide: 256, memory: 1e9 }),
    ];
    const difference = (a: Uint8Array, b: Uint8Array): number =>
      a.reduce((sum, value, i) => sum + Math.abs(value - (b[i] as number)), 0) / a.length;
    for (const cache of caches) {
      const images = await first(cache);
      // The first was made smaller and encoded again; the others are kept as they are.
      assert.ok(difference(images[0]!, expected[0]!) < 2, `${difference(images[0]!, expected[0]!)}`);
      assert.ok(difference(images[0]!, stored[0]!) > 10);
      assert.deepEqual(images.slice(1), expected.slice(1));
      await cache.close?.();
    }
  });

  test(
    "turns the eight cases, which store the same pixels, each its own way",
    needs("..", "cases"),
    async () => {
      const cases = sharedPath("..", "cases", "jpeg");
      const names = readdirSync(cases).filter((name) => name.startsWith("10_orientation"));
      assert.equal(names.length, 8);
      for (const [i, name] of names.sort().entries()) {
        const bytes = readFileSync(join(cases, name));
        const stored = await pixelsOf(bytes, name);
        const { data } = await pixelsOf(bytes, name, "auto", true);
        assert.equal(sha256(data), sha256(turnPixels(stored.data, stored, 3, (i + 1) as Orientation)), name);
      }
    },
  );
});
