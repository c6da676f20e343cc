import assert from "node:assert/strict";
import { suite, test } from "node:test";

import fc from "fast-check";
import sharp from "sharp";

import { judge } from "./build-record.js";

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
const gray = await noise.clone().toColourspace("b-w").jpeg().toBuffer();
const progressive = await noise.clone().jpeg({ progressive: true }).toBuffer();
const profiled = await noise.clone().withIccProfile("p3").jpeg().toBuffer();
const turned = await noise.clone().withMetadata({ orientation: 6 }).jpeg().toBuffer();
const png = await noise.clone().png().toBuffer();
const webp = await noise.clone().webp().toBuffer();
const gif = await noise.clone().gif().toBuffer();
const cmyk = await noise.clone().toColourspace("cmyk").jpeg().toBuffer();

/** A marker with its content. */
function segment(marker: number, ...content: number[]): Buffer {
  const length = content.length + 2;
  return Buffer.from([0xff, marker, length >> 8, length & 0xff, ...content]);
}

/** A JPEG's headers up to its scan: what a header alone can tell. */
function headers(...segments: Buffer[]): Buffer {
  return Buffer.concat([
    Buffer.from([0xff, 0xd8]),
    ...segments,
    segment(0xda, 3, 1, 0, 2, 0, 3, 0, 0, 63, 0),
    Buffer.of(0xff, 0xd9),
  ]);
}

/** A frame header of 20 x 10 pixels. */
function frame(marker: number, precision: number, components: number): Buffer {
  const each = Array.from({ length: components }, (_, i) => [i + 1, 0x11, 0]).flat();
  return segment(marker, precision, 0, 10, 0, 20, components, ...each);
}

function adobe(transform: number): Buffer {
  return segment(0xee, ...Buffer.from("Adobe", "latin1"), 0, 100, 0, 0, 0, 0, transform);
}

/** The bytes with `inserted` behind the first two, where application segments stand. */
function withSegment(bytes: Buffer, inserted: Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, 2), inserted, bytes.subarray(2)]);
}

suite("what becomes of a picture", () => {
  for (const [name, bytes, verdict] of [
    ["a colour JPEG", jpeg, "keep"],
    ["a progressive one", progressive, "keep"],
    ["one with a colour profile", profiled, "keep"],
    ["one that EXIF says is turned", turned, "keep"],
    [
      "one whose EXIF is nonsense",
      withSegment(jpeg, segment(0xe1, ...Buffer.from("Exif\0\0\xff\xd8\xff\xc0II", "latin1"))),
      "keep",
    ],
    [
      "one with fill bytes before a marker",
      withSegment(jpeg, Buffer.from([0xff, 0xff, 0xff, 0xff, 0xfe, 0, 2])),
      "keep",
    ],
    ["one stored as RGB, which Adobe's segment says", headers(adobe(0), frame(0xc0, 8, 3)), "keep"],
    [
      "one without an end marker, which training refuses",
      jpeg.subarray(0, jpeg.length - 2),
      { skip: `not a whole JPEG: it ends after ${jpeg.length - 2} bytes, inside scan 1` },
    ],
    ["a grayscale JPEG", gray, "grayscale"],
    ["a CMYK JPEG", cmyk, { skip: "a CMYK JPEG" }],
    ["a CMYK JPEG without Adobe's segment", headers(frame(0xc0, 8, 4)), { skip: "a CMYK JPEG" }],
    ["a YCCK JPEG", headers(adobe(2), frame(0xc0, 8, 4)), { skip: "a CMYK JPEG" }],
    ["a YCCK JPEG with Adobe's segment last", headers(frame(0xc0, 8, 4), adobe(2)), { skip: "a CMYK JPEG" }],
    [
      "a JPEG of two components",
      headers(frame(0xc0, 8, 2)),
      { skip: "neither a grayscale nor a colour JPEG" },
    ],
    ["12 bits", headers(frame(0xc1, 12, 3)), { skip: "a JPEG of more than 8 bits" }],
    ["arithmetic coding", headers(frame(0xc9, 8, 3)), "keep"],
    [
      "lossless coding",
      headers(frame(0xc3, 8, 3)),
      { skip: "a lossless or hierarchical JPEG, which is not read" },
    ],
    [
      "no rows",
      headers(segment(0xc0, 8, 0, 0, 0, 20, 3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0)),
      { skip: "a picture of 20 x 0 pixels" },
    ],
    ["a scan without a frame", headers(), { skip: "a JPEG scan before any frame header" }],
    ["a PNG", png, { skip: "a PNG, not a JPEG" }],
    ["a WebP", webp, { skip: "a WebP, not a JPEG" }],
    ["a GIF", gif, { skip: "a GIF, not a JPEG" }],
    ["a BMP", Buffer.from("BM\x46\0\0\0", "latin1"), { skip: "a BMP, not a JPEG" }],
    ["a page of HTML", Buffer.from("<html>404</html>"), { skip: "a text file, not a picture" }],
    ["nothing", Buffer.alloc(0), { skip: "an empty file: 0 bytes" }],
    [
      "a header cut short",
      jpeg.subarray(0, 30),
      { skip: "not a whole JPEG: it ends after 30 bytes, inside its header" },
    ],
  ] as const) {
    test(`${name}: ${typeof verdict === "string" ? verdict : "skipped, with the reason"}`, () => {
      assert.deepEqual(judge(bytes, "x.jpg", "jpeg"), verdict);
    });
  }

  test("a PNG, a WebP and a GIF are kept byte for byte where all formats are; what no reader takes is skipped by name", () => {
    for (const bytes of [png, webp, gif]) assert.equal(judge(bytes, "x.jpg", "all"), "keep");
    for (const [bytes, reason] of [
      [Buffer.from("BM\x46\0\0\0", "latin1"), /^a BMP; save it as JPEG or PNG$/],
      [Buffer.from("<html>404</html>"), /^a text file, not a picture; JPEG, .* are read$/],
      [cmyk, /^a CMYK JPEG$/],
      [png.subarray(0, 20), /^not a whole PNG/],
    ] as const) {
      const verdict = judge(bytes, "x.jpg", "all");
      assert.ok(typeof verdict === "object");
      assert.match(verdict.skip, reason);
    }
  });

  test("any bytes get an answer, and end", () => {
    const damaged = fc
      .tuple(
        fc.constantFrom(jpeg, gray, cmyk),
        fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { maxLength: 4 }),
        fc.nat(700),
      )
      .map(([bytes, changes, length]) => {
        const copy = Buffer.from(bytes.subarray(0, length));
        for (const [at, value] of changes) if (at < copy.length) copy[at] = value;
        return copy;
      });
    fc.assert(
      fc.property(fc.oneof(damaged, fc.uint8Array({ maxLength: 64 })), (bytes) => {
        const verdict = judge(bytes, "x.jpg", "all");
        assert.ok(verdict === "keep" || verdict === "grayscale" || verdict.skip.length > 0);
      }),
      { numRuns: 20_000 },
    );
  });
});
