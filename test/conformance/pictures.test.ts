import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import { DataError } from "../../src/core/error.js";
import { imageInfo } from "../../src/data/pictures/image-info.js";
import { type Decoder, renderInto } from "../../src/data/pictures/render.js";
import { repository } from "../support/paths.js";

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

/** All pixels as the loader's decoder gives them, unchanged: squares beside each other, at full size. */
async function pixelsOf(bytes: Uint8Array, name: string, decoder?: Decoder): Promise<Buffer> {
  let [width, height] = [0, 0];
  const squares: { x: number; data: Uint8Array }[] = [];
  for (let x = 0, last = false; !last;) {
    const data = new Uint8Array(side(bytes, name) ** 2 * 3);
    const plan = (size: { width: number; height: number }) => {
      ({ width, height } = size);
      const edge = Math.min(width, height);
      const box = { x: Math.min(x, width - edge), y: Math.min(x, height - edge), width: edge, height: edge };
      squares.push({ x: Math.max(box.x, box.y), data });
      last = x + edge >= Math.max(width, height);
      x += edge;
      return {
        ...{ box, resized: { width: edge, height: edge }, window: { x: 0, y: 0 }, size: edge },
        ...({ filter: "pillow", flip: false, shift: [0, 0, 0], grayscale: false } as const),
        decoding: { fastDct: false, scaled: false },
      };
    };
    await renderInto({ kind: "encoded", bytes }, name, plan, data, 0, decoder);
  }
  const all = Buffer.alloc(width * height * 3);
  const edge = Math.min(width, height);
  for (const { x: at, data } of squares) {
    const [left, top] = width > height ? [at, 0] : [0, at];
    for (let row = 0; row < edge; row++) {
      all.set(data.subarray(row * edge * 3, (row + 1) * edge * 3), ((top + row) * width + left) * 3);
    }
  }
  return all;
}

function side(bytes: Uint8Array, name: string): number {
  const { width, height } = imageInfo(bytes, name);
  return Math.min(width, height);
}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

suite("pictures, against Pillow", () => {
  test("JPEG, PNG, WebP, GIF and TIFF of every kind have Pillow's pixels, whichever decodes them", async () => {
    for (const [name, { stored }] of values) {
      if (name.endsWith(".avif")) continue;
      for (const decoder of ["auto", "sharp"] as const) {
        const { width, height } = imageInfo(picture(name), name);
        const pixels = await pixelsOf(picture(name), name, decoder);
        assert.deepEqual([width, height, sha256(pixels)], stored, `${name}, ${decoder}`);
      }
    }
  });

  test("a CMYK JPEG is RGB as Pillow makes it, whichever decodes it", async () => {
    for (const decoder of ["auto", "sharp"] as const) {
      const pixels = await pixelsOf(picture("cmyk.jpg"), "cmyk.jpg", decoder);
      assert.equal(sha256(pixels), values.get("cmyk.jpg")?.stored[2]);
    }
  });

  test("AVIF has Pillow's pixels to two levels", async () => {
    const ours = await pixelsOf(picture("colour.avif"), "colour.avif");
    const theirs = await pixelsOf(picture("colour.avif.png"), "colour.avif.png");
    ours.forEach((value, i) => assert.ok(Math.abs(value - (theirs[i] as number)) <= 2, `value ${i}`));
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
      assert.equal(sha256(first), sha256(await pixelsOf(picture(still), still)), moving);
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
