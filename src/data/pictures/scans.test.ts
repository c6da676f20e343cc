import assert from "node:assert/strict";
import { suite, test } from "node:test";

import sharp from "sharp";

import { DataError } from "../../core/error.js";
import { imageInfo } from "./image-info.js";
import { END_OF_IMAGE, jpegSegments, START_OF_SCAN } from "./jpeg-segments.js";
import { decodingProblem } from "./decoding-problem.js";
import { decodingMemory, jpegDecoder } from "./render.js";

/** The picture with its last scan `times` more: a few bytes each where the picture is flat. */
function withScans(jpeg: Buffer, times: number): Buffer {
  const scans = [...jpegSegments(jpeg)].filter(({ marker }) => marker === START_OF_SCAN);
  const end = [...jpegSegments(jpeg)].find(({ marker }) => marker === END_OF_IMAGE);
  assert.ok(scans.length > 1 && end !== undefined, "not a progressive JPEG");
  const last = jpeg.subarray(scans.at(-1)?.at, end.at);
  return Buffer.concat([jpeg.subarray(0, end.at), ...Array<Buffer>(times).fill(last), Buffer.of(0xff, 0xd9)]);
}

const noise = { type: "gaussian", mean: 128, sigma: 40 } as const;
const flat = (side: number): Promise<Buffer> =>
  sharp({ create: { width: side, height: side, channels: 3, background: "#666" } })
    .jpeg({ progressive: true })
    .toBuffer();
const small = await sharp({ create: { width: 64, height: 48, channels: 3, background: "gray", noise } })
  .jpeg({ progressive: true })
  .toBuffer();
const flatSmall = await flat(64);
const flatLarge = await flat(4096);

suite("H10: the work of a picture is bounded by its file's size", () => {
  test("a progressive JPEG of 480 scans is refused before it is decoded", () => {
    assert.throws(
      () => imageInfo(withScans(flatSmall, 480), "x.jpg"),
      (error: unknown) =>
        error instanceof DataError && /at most 100 scans.*found 101 over/.test(error.message),
    );
  });

  test("so is a large one whose scans hold next to nothing", () => {
    assert.throws(
      () => imageInfo(withScans(flatLarge, 60), "x.jpg"),
      (error: unknown) =>
        error instanceof DataError && /more work than a file of its length/.test(error.message),
    );
  });

  test("ordinary progressive JPEGs pass, small and large, flat and noisy, and a small one of many scans", async () => {
    const large = await flat(10_000);
    for (const bytes of [small, flatSmall, flatLarge, large, withScans(small, 60)]) {
      assert.equal(imageInfo(bytes, "x.jpg").format, "jpeg");
    }
  });

  test("a picture of 60 scans decodes", async () => {
    if (jpegDecoder() === "sharp") return; // which takes repeated scans for damage
    assert.equal(
      await decodingProblem({ kind: "encoded", bytes: withScans(flatSmall, 60) }, "x.jpg"),
      undefined,
    );
  });

  test("a photograph of 130 megapixels is decoded by rows, and one of several scans if its coefficients fit", async () => {
    const side = 11_500;
    const large = await sharp({ create: { width: side, height: side, channels: 3, background: "#284" } })
      .jpeg({ chromaSubsampling: "4:2:0" })
      .toBuffer();
    const info = imageInfo(large, "x.jpg");
    assert.equal(info.width * info.height, side * side);
    if (jpegDecoder() === "libjpeg-turbo") assert.equal(decodingMemory(info), 0);
    assert.equal(await decodingProblem({ kind: "encoded", bytes: large }, "x.jpg"), undefined);

    // Of the size that its frame claims, and long enough for it.
    const claiming = (width: number, height: number): Buffer => {
      const bytes = Buffer.concat([flatSmall, Buffer.alloc(5_000_000)]);
      const frame = [...jpegSegments(bytes)].find(({ marker }) => marker === 0xc2);
      assert.ok(frame !== undefined);
      bytes.writeUInt16BE(height, frame.start + 1);
      bytes.writeUInt16BE(width, frame.start + 3);
      return bytes;
    };
    assert.equal(imageInfo(claiming(14_000, 14_000), "x.jpg").coefficients, 588_000_000);
    assert.throws(
      () => imageInfo(claiming(20_000, 15_000), "x.jpg"),
      (error: unknown) =>
        error instanceof DataError &&
        /several scans that takes more memory.*at most 600,000,000 bytes/.test(error.message),
    );
  });

  test("a PNG too short for the pixels in its header is refused", async () => {
    const png = await sharp({ create: { width: 64, height: 64, channels: 3, background: "#666" } })
      .png()
      .toBuffer();
    png.writeUInt32BE(9000, 16);
    png.writeUInt32BE(9000, 20);
    assert.throws(() => imageInfo(png, "x.png"), /too short for the size in its header/);
  });

  test("the flattest PNG passes", async () => {
    const png = await sharp({ create: { width: 6000, height: 4000, channels: 3, background: "#000" } })
      .png({ compressionLevel: 9 })
      .toBuffer();
    assert.equal(imageInfo(png, "x.png").width, 6000);
  });
});
