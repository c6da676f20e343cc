import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import { DataError } from "../../src/core/error.js";
import { imageInfo } from "../../src/data/pictures/image-info.js";
import { repository } from "../support/paths.js";
import { pixelsOf } from "../support/picture-pixels.js";

const folder = join(repository, "test", "golden", "pictures");

type Value = readonly [width: number, height: number, sha256: string];
const values = new Map(
  Object.entries(
    JSON.parse(readFileSync(join(folder, "values.json"), "utf8")) as Record<string, { stored: Value }>,
  ),
);

function picture(name: string): Buffer {
  return readFileSync(join(folder, name));
}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

suite("pictures, against Pillow", () => {
  test("JPEG, PNG, WebP, GIF and TIFF of every kind have Pillow's pixels, whichever decodes them", async () => {
    for (const [name, { stored }] of values) {
      if (name.endsWith(".avif")) continue;
      for (const decoder of ["auto", "sharp"] as const) {
        const { width, height, data } = await pixelsOf(picture(name), name, decoder);
        assert.deepEqual([width, height, sha256(data)], stored, `${name}, ${decoder}`);
      }
    }
  });

  test("a CMYK JPEG is RGB as Pillow makes it, whichever decodes it", async () => {
    for (const decoder of ["auto", "sharp"] as const) {
      const { data } = await pixelsOf(picture("cmyk.jpg"), "cmyk.jpg", decoder);
      assert.equal(sha256(data), values.get("cmyk.jpg")?.stored[2]);
    }
  });

  test("AVIF has Pillow's pixels to two levels", async () => {
    // The second is turned by a box of its own, whatever is done with EXIF.
    for (const name of ["colour.avif", "held-6.avif"]) {
      const ours = await pixelsOf(picture(name), name);
      const theirs = await pixelsOf(picture(`${name}.png`), name);
      assert.deepEqual([ours.width, ours.height], [theirs.width, theirs.height]);
      const { width, height } = imageInfo(picture(name), name);
      assert.deepEqual([width, height], [theirs.width, theirs.height]);
      ours.data.forEach((value, i) =>
        assert.ok(Math.abs(value - (theirs.data[i] as number)) <= 2, `${name}, value ${i}`),
      );
    }
  });

  test("of animations and pages the first is used, and it is known that there are more", async () => {
    for (const [moving, still] of [
      ["moving.gif", "still.gif"],
      ["moving.webp", "lossless.webp"],
      ["two-pages.tif", "plain.tif"],
    ] as const) {
      assert.equal(imageInfo(picture(moving), moving).more, true, moving);
      assert.equal(imageInfo(picture(still), still).more, false, still);
      const first = await pixelsOf(picture(moving), moving);
      assert.equal(sha256(first.data), sha256((await pixelsOf(picture(still), still)).data), moving);
    }
  });

  test("HEIC, BMP, CMYK in TIFF and videos are refused by name, with what to do", () => {
    const box = (brand: string): Buffer =>
      Buffer.from(`\0\0\0\x18ftyp${brand}\0\0\0\0${brand}mif1`, "latin1");
    for (const [bytes, message] of [
      [box("heic"), /^x: a HEIC; save it as JPEG or PNG/],
      [box("qt  "), /^x: a video; JPEG, PNG, WebP, GIF, TIFF and AVIF are read$/],
      [picture("refused.bmp"), /^x: a BMP; save it as JPEG or PNG/],
      [picture("refused-cmyk.tif"), /^x: a CMYK TIFF; save it as RGB$/],
    ] as const) {
      assert.throws(
        () => imageInfo(bytes, "x"),
        (error: unknown) => error instanceof DataError && message.test(error.message),
      );
    }
  });

  test("a header that is cut anywhere is refused, or read to a size, and never more than that", () => {
    for (const name of [
      "moving.gif",
      "plain.tif",
      "two-pages.tif",
      "colour.avif",
      "moving.webp",
      "rgba.png",
    ]) {
      const whole = picture(name);
      for (let length = 0; length < whole.length; length++) {
        try {
          const { width, height } = imageInfo(whole.subarray(0, length), name);
          assert.ok(width > 0 && height > 0);
        } catch (error) {
          assert.ok(error instanceof DataError, `${name}, ${length} bytes: ${String(error)}`);
        }
      }
    }
  });
});
