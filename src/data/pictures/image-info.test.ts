import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { deflateSync } from "node:zlib";

import sharp from "sharp";

import { DataError } from "../../core/error.js";
import { imageInfo } from "./image-info.js";

const noise = sharp({
  create: {
    width: 40,
    height: 30,
    channels: 3,
    background: "gray",
    noise: { type: "gaussian", mean: 128, sigma: 40 },
  },
});
const jpeg = await noise.clone().jpeg().toBuffer();
const webp = await noise.clone().webp().toBuffer();

/** A PNG whose header claims these sides, with almost no pixels behind it. */
function pngClaiming(width: number, height: number): Buffer {
  const chunk = (type: string, data: Uint8Array): Buffer => {
    const bytes = Buffer.alloc(12 + data.length);
    bytes.writeUInt32BE(data.length, 0);
    bytes.write(type, 4, "latin1");
    bytes.set(data, 8);
    return bytes;
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const signature = Buffer.from("\x89PNG\r\n\x1a\n", "latin1");
  return Buffer.concat([
    signature,
    chunk("IHDR", header),
    chunk("IDAT", deflateSync(new Uint8Array(64))),
    chunk("IEND", new Uint8Array(0)),
  ]);
}

/** The JPEG with its frame header's marker or a byte of it changed. */
function withFrame(change: (bytes: Buffer, frame: number) => void): Buffer {
  const bytes = Buffer.from(jpeg);
  change(bytes, bytes.indexOf("\xff\xc0", 0, "latin1"));
  return bytes;
}

suite("imageInfo", () => {
  test("reads the size of JPEG, progressive JPEG, PNG and WebP, lossless too", async () => {
    for (const [format, bytes, grayscale = false] of [
      ["jpeg", jpeg],
      ["jpeg", await noise.clone().jpeg({ progressive: true }).toBuffer()],
      ["jpeg", await noise.clone().toColourspace("b-w").jpeg().toBuffer(), true],
      ["png", await noise.clone().png().toBuffer()],
      ["webp", await noise.clone().webp().toBuffer()],
      ["webp", await noise.clone().webp({ lossless: true }).toBuffer()],
      ["webp", await noise.clone().ensureAlpha(0.5).webp().toBuffer()],
    ] as const) {
      const info = imageInfo(bytes, "x");
      assert.deepEqual([info.format, info.width, info.height, info.grayscale], [format, 40, 30, grayscale]);
    }
  });

  test("accepts bytes after the end of a JPEG", () => {
    assert.equal(imageInfo(Buffer.concat([jpeg, Buffer.from("tail")]), "x").width, 40);
  });

  const refused: readonly (readonly [why: string, bytes: Buffer, message: RegExp])[] = [
    ["an empty file", Buffer.alloc(0), /empty file: 0 bytes/],
    [
      "text",
      Buffer.from("<html>not found</html>"),
      /a text file, not a picture; JPEG, PNG, WebP, GIF, TIFF and AVIF are read/,
    ],
    ["a JPEG of two bytes", Buffer.of(0xff, 0xd8), /^x: not a picture; JPEG/],
    ["bytes of which none controls", Buffer.alloc(300, 0xe9), /^x: not a picture; JPEG/],
    [
      "a long text whose 256th byte is inside a letter",
      Buffer.from(`x${"\u00e9".repeat(200)}`),
      /a text file/,
    ],
    ["a text that breaks off inside a letter", Buffer.of(0x61, 0xc3), /^x: not a picture; JPEG/],
    [
      "a GIF cut short",
      Buffer.from("GIF89a\x01\x00\x01\x00", "latin1"),
      /^x: not a whole GIF: it ends after 10 bytes/,
    ],
    ["a lossless JPEG", withFrame((b, at) => (b[at + 1] = 0xc3)), /lossless/],
    ["a 12-bit JPEG", withFrame((b, at) => (b[at + 4] = 12)), /more than 8 bits.*found 12/],
    ["a JPEG of no height", withFrame((b, at) => b.writeUInt16BE(0, at + 5)), /40 x 0 pixels/],
    ["a 20,000 x 20,000 PNG", pngClaiming(20_000, 20_000), /at most 100,000,000 pixels, found 400,000,000/],
    ["a PNG of 2^31 columns", pngClaiming(2 ** 31 - 1, 1), /more than is decoded/],
    ["a WebP cut short", webp.subarray(0, 100), /not a whole WebP: it ends after 100 bytes/],
  ];
  for (const [why, bytes, message] of refused) {
    test(`refuses ${why}`, () => {
      assert.throws(
        () => imageInfo(bytes, "x"),
        (error: unknown) => error instanceof DataError && message.test(error.message),
      );
    });
  }

  test("finds every cut of a JPEG", () => {
    for (let length = 0; length < jpeg.length; length++) {
      assert.throws(() => imageInfo(jpeg.subarray(0, length), "x"), DataError, `${length} bytes`);
    }
  });

  test("says where a JPEG breaks off", async () => {
    assert.throws(() => imageInfo(jpeg.subarray(0, jpeg.length - 100), "a.jpg"), {
      message: `a.jpg: not a whole JPEG: it ends after ${jpeg.length - 100} bytes, inside scan 1`,
    });
    assert.throws(() => imageInfo(jpeg.subarray(0, 100), "a.jpg"), /ends after 100 bytes, inside its header/);
    const progressive = await noise.clone().jpeg({ progressive: true }).toBuffer();
    assert.throws(
      () => imageInfo(progressive.subarray(0, progressive.length - 4), "a.jpg"),
      /inside scan ([2-9]|1\d)/,
    );
  });

  test("does not take the end of an embedded thumbnail for the end of the picture", () => {
    // An APP1 segment that holds a whole JPEG, before a picture that is cut.
    const segment = Buffer.concat([Buffer.from([0xff, 0xe1, 0, 0]), jpeg]);
    segment.writeUInt16BE(segment.length - 2, 2);
    const whole = Buffer.concat([jpeg.subarray(0, 2), segment, jpeg.subarray(2)]);
    assert.equal(imageInfo(whole, "x").width, 40);
    assert.throws(() => imageInfo(whole.subarray(0, whole.length - 20), "x"), /not a whole JPEG/);
  });
});
