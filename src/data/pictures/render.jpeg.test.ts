/**
 * JPEGs as the world writes them: every oddity is decoded as decoding the whole picture with sharp gives it, or refused
 * by name; and no damage does worse than a DataError.
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import sharp from "sharp";

import { DataError } from "../../core/error.js";
import { Draws, streams } from "../../core/random.js";
import { asItIs, type Transform } from "./augment.js";
import { imageInfo } from "./image-info.js";
import { type Pixels, renderInto } from "./render.js";
import { repository } from "../../../test/support/paths.js";
import { resizeReference } from "../../../test/support/resize-reference.js";

async function render(bytes: Uint8Array, transform: Transform): Promise<Uint8Array> {
  const out = new Uint8Array(transform.size ** 2 * 3);
  await renderInto({ kind: "encoded", bytes }, "x.jpg", () => transform, out, 0);
  return out;
}

async function decodeWhole(bytes: Uint8Array): Promise<Pixels> {
  const { data, info } = await sharp(bytes, { ignoreIcc: true })
    .toColourspace("srgb")
    .raw()
    .toBuffer({ resolveWithObject: true });
  assert.equal(info.channels, 3);
  return { kind: "pixels", data, width: info.width, height: info.height, channels: 3 };
}

const noise = (width: number, height: number) => {
  const draws = new Draws(1, streams.draw, width, height);
  const data = Uint8Array.from({ length: width * height * 3 }, () => draws.below(256));
  return sharp(data, { raw: { width, height, channels: 3 } });
};

const whole = await noise(41, 27).jpeg({ quality: 80 }).toBuffer();

const png = await noise(9, 9).png().toBuffer();

/** JPEGs that are to be read. */
const readable: Record<string, Buffer> = {
  "1 x 1": assemble({ width: 1, height: 1 }),
  "1 x 1, 4:2:0": assemble({ width: 1, height: 1, sampling: ["2x2", "1x1", "1x1"] }),
  "65,500 x 1": assemble({ width: 65_500, height: 1 }),
  "1 x 65,500": assemble({ width: 1, height: 65_500 }),
  grayscale: assemble({ width: 50, height: 21, sampling: ["1x1"] }),
  // One component is never interleaved, so its factors mean nothing.
  "grayscale with factors 2x2": assemble({ width: 50, height: 21, sampling: ["2x2"] }),
  progressive: await noise(70, 53).jpeg({ progressive: true }).toBuffer(),
  "progressive 4:4:4": await noise(70, 53).jpeg({ progressive: true, chromaSubsampling: "4:4:4" }).toBuffer(),
  "trailing garbage": Buffer.concat([
    whole,
    Buffer.from("this is no part of the picture \xff\xd8\xff", "latin1"),
  ]),
  "two pictures in one file": Buffer.concat([whole, whole]),
  "an EXIF block that is none": insert(
    whole,
    segment(0xe1, Buffer.from("Exif\0\0MM\0*\xff\xff\xff\xff", "latin1")),
  ),
  "EXIF that says rotated": await sharp(whole).withMetadata({ orientation: 6 }).jpeg().toBuffer(),
  "a colour profile": await sharp(whole).withIccProfile("p3").jpeg().toBuffer(),
  "a comment of 60 kB": insert(whole, segment(0xfe, Buffer.alloc(60_000, "x"))),
  "fill bytes before a marker": insert(whole, Buffer.from("ffffffff", "hex")),
  "Adobe's marker that says RGB": assemble({ width: 33, height: 18, adobe: 0 }),
  "Adobe's marker that says YCbCr": assemble({ width: 33, height: 18, adobe: 1 }),
  "no JFIF header": assemble({ width: 33, height: 18 }),
  "bytes after the last restart interval": assemble({ width: 64, height: 32, restart: 3 }),
};
const odd = join(repository, "test", "golden", "odd-pictures");
const { pictures } = JSON.parse(readFileSync(join(odd, "values.json"), "utf8")) as {
  pictures: { file: string; kind: string }[];
};
for (const { file, kind } of pictures.filter(({ kind }) => /^cjpeg, (?:-arithmetic|scans)/.test(kind)))
  readable[kind] = readFileSync(join(odd, file));
for (const sampling of [
  ["2x1", "1x1", "1x1"],
  ["1x2", "1x1", "1x1"],
  ["2x2", "1x1", "1x1"],
  ["4x1", "1x1", "1x1"],
  ["4x2", "1x1", "1x1"],
  ["1x4", "1x1", "1x1"],
  ["3x1", "1x1", "1x1"],
  ["1x3", "1x1", "1x1"],
  ["2x2", "2x1", "2x1"],
  ["2x2", "1x2", "1x2"],
  ["2x2", "2x1", "1x2"],
  ["2x1", "2x1", "1x1"],
  ["2x1", "2x1", "2x1"],
  ["1x1", "2x1", "2x1"],
  ["1x1", "2x2", "1x1"],
]) {
  const [y = "", cb = "", cr = ""] = sampling;
  readable[`sampling ${y}, ${cb}, ${cr}`] = assemble({ width: 77, height: 45, sampling });
  readable[`sampling ${y}, ${cb}, ${cr} with restarts`] = assemble({
    width: 77,
    height: 45,
    sampling,
    restart: 2,
  });
}

suite("JPEGs that are read", () => {
  for (const [name, bytes] of Object.entries(readable)) {
    test(`${name}: crops and resizes are those of the whole picture`, async () => {
      const full = await decodeWhole(bytes);
      const { width, height } = full;
      const info = imageInfo(bytes, name);
      assert.deepEqual([info.format, info.width, info.height], ["jpeg", width, height]);
      const draws = new Draws(2, streams.draw, width, height);
      for (let i = 0; i < 30; i++) {
        const size = i === 0 ? Math.min(width, height) : 1 + draws.below(Math.min(width, height));
        const box = {
          x: draws.below(width - size + 1),
          y: draws.below(height - size + 1),
          width: size,
          height: size,
        };
        const expected = resizeReference(full, { ...asItIs(size), box });
        assert.deepEqual(
          [...(await render(bytes, { ...asItIs(size), box }))],
          [...expected],
          JSON.stringify(box),
        );
      }
      const resized: Transform = { ...asItIs(16), box: { x: 0, y: 0, width, height } };
      const expected = resizeReference(full, resized);
      const actual = await render(bytes, resized);
      actual.forEach((value, at) =>
        assert.ok(Math.abs(value - (expected[at] as number)) < 0.501, `value ${at}`),
      );
    });
  }
});

suite("JPEGs that are refused by name", () => {
  const cases: readonly (readonly [string, Uint8Array, RegExp])[] = [
    [
      "12 bits",
      assemble({ width: 16, height: 16, precision: 12 }),
      /more than 8 bits.*expected 8 bits, found 12/,
    ],
    ["lossless", assemble({ width: 16, height: 16, frame: 0xc3 }), /lossless or hierarchical/],
    [
      "lossless arithmetic coding",
      assemble({ width: 16, height: 16, frame: 0xcb }),
      /lossless or hierarchical/,
    ],
    ["hierarchical", assemble({ width: 16, height: 16, frame: 0xc5 }), /lossless or hierarchical/],
    [
      "two components",
      assemble({ width: 16, height: 16, sampling: ["1x1", "1x1"] }),
      /neither a grayscale nor a colour/,
    ],
    ["no end marker", whole.subarray(0, whole.length - 2), /not a whole JPEG/],
    ["a height that only a later marker gives", assemble({ width: 16, height: 0 }), /16 x 0 pixels/],
    [
      "an end marker inside",
      cutInside(whole),
      /does not decode: .*[Pp]remature|does not decode: .*[Cc]orrupt/,
    ],
    [
      "65,535 pixels wide, more than libjpeg takes",
      assemble({ width: 65_535, height: 1 }),
      /65535|65500|65,5/,
    ],
    [
      "65,500 x 1,500 in 200 bytes",
      lyingAboutSize(1500, 65_500),
      /too short|more work than a file of its length/,
    ],
    ["a PNG named .jpg is read as PNG, cut short", png.subarray(0, 60), /does not decode|not a whole PNG/],
    [
      "twelve blocks a unit where the format allows ten",
      assemble({ width: 16, height: 16, sampling: ["2x2", "2x2", "2x2"] }),
      /does not decode: .*Sampling factors too large/,
    ],
    [
      "sampling factors of 5",
      assemble({ width: 16, height: 16, sampling: ["5x1", "1x1", "1x1"], scan: false }),
      /does not decode/,
    ],
  ];
  for (const [name, bytes, message] of cases) {
    test(name, async () => {
      const transform: Transform = { ...asItIs(4), box: { x: 0, y: 0, width: 1, height: 1 } };
      await assert.rejects(
        renderInto(
          { kind: "encoded", bytes },
          "x.jpg",
          ({ width, height }) => ({ ...transform, box: { x: 0, y: 0, width, height } }),
          new Uint8Array(48),
          0,
        ),
        (error: unknown) => {
          assert.ok(error instanceof DataError, String(error));
          assert.match(error.message, /^x\.jpg/);
          assert.match(error.message, message);
          return true;
        },
      );
    });
  }
});

test("20,000 damaged JPEGs give pixels or a DataError, nothing else", async (t) => {
  const seeds = Object.values(readable).filter((bytes) => bytes.length < 8000);
  assert.ok(seeds.length > 20);
  const outcomes = { pixels: 0, "header refused": 0, "data refused": 0 };
  const draws = new Draws(5, streams.draw, 0, 0);
  const one = async (bytes: Uint8Array): Promise<void> => {
    let planned = false;
    try {
      await renderInto(
        { kind: "encoded", bytes },
        "x.jpg",
        ({ width, height }) => {
          planned = true;
          const box = { x: draws.below(width), y: draws.below(height), width: 1, height: 1 };
          return { ...asItIs(9), box: { ...box, width: width - box.x, height: height - box.y } };
        },
        new Uint8Array(9 * 9 * 3),
        0,
      );
      outcomes.pixels++;
    } catch (error) {
      assert.ok(error instanceof DataError, error instanceof Error ? error.stack : String(error));
      outcomes[planned ? "data refused" : "header refused"]++;
    }
  };
  for (let i = 0; i < 20_000; i += 8) {
    await Promise.all(
      Array.from({ length: 8 }, () => one(damage(seeds[draws.below(seeds.length)] as Buffer, draws))),
    );
  }
  t.diagnostic(JSON.stringify(outcomes));
  for (const [outcome, count] of Object.entries(outcomes)) assert.ok(count > 500, outcome);
});

/** A few bytes changed, cut out, doubled, or a stretch made the same. */
function damage(bytes: Uint8Array, draws: Draws): Uint8Array {
  let changed: Buffer = Buffer.from(bytes);
  for (let times = 1 + draws.below(3); times > 0; times--) {
    const at = draws.below(changed.length);
    const length = 1 + draws.below(8);
    switch (draws.below(5)) {
      case 0:
        changed[at] = draws.below(256);
        break;
      case 1:
        changed[at] = (changed[at] as number) ^ (1 << draws.below(8));
        break;
      case 2:
        changed = Buffer.concat([changed.subarray(0, at), changed.subarray(at + length)]);
        break;
      case 3:
        changed = Buffer.concat([changed.subarray(0, at + length), changed.subarray(at)]);
        break;
      default:
        changed.fill(
          [0x00, 0xff, 0x7f, 0x01][draws.below(4)] as number,
          at,
          Math.min(at + length, changed.length),
        );
    }
  }
  return changed;
}

interface Assembled {
  readonly width: number;
  readonly height: number;
  /** Horizontal by vertical factor of each component. */
  readonly sampling?: readonly string[];
  /** Blocks between restart markers, in MCUs. */
  readonly restart?: number;
  readonly precision?: number;
  /** The frame's marker; C0 is baseline. */
  readonly frame?: number;
  /** Adobe's marker with this transform. */
  readonly adobe?: number;
  readonly scan?: boolean;
}

/**
 * A baseline JPEG of random blocks, each a level and one cosine: small enough to write by hand, with everything
 * that encoders do not let one choose.
 *
 * Source: ITU-T T.81, sections A.2 (order of blocks), B.2 (markers) and F.1.2 (coding).
 */
function assemble(picture: Assembled): Buffer {
  const {
    width,
    height,
    sampling = ["1x1", "1x1", "1x1"],
    restart = 0,
    precision = 8,
    frame = 0xc0,
    adobe,
    scan = true,
  } = picture;
  const factors = sampling.map((text) => text.split("x").map(Number) as [number, number]);
  const parts: Buffer[] = [Buffer.from("ffd8", "hex")];
  if (adobe !== undefined)
    parts.push(segment(0xee, Buffer.concat([Buffer.from("Adobe\0d\0\0\0\0", "latin1"), Buffer.of(adobe)])));
  parts.push(segment(0xdb, Buffer.concat([Buffer.of(0), Buffer.alloc(64, 8)])));
  const components = factors.flatMap(([h, v], i) => [i + 1, (h << 4) | v, 0]);
  parts.push(
    segment(
      frame,
      Buffer.of(precision, height >> 8, height & 255, width >> 8, width & 255, factors.length, ...components),
    ),
  );
  // DC: categories 0 to 11, four bits each. AC: end of block is 0, run 0 of size 1 is 10.
  parts.push(segment(0xc4, Buffer.of(0x00, 0, 0, 0, 12, ...Array<number>(12).fill(0), ...Array(12).keys())));
  parts.push(segment(0xc4, Buffer.of(0x10, 1, 1, ...Array<number>(14).fill(0), 0x00, 0x01)));
  if (restart > 0) parts.push(segment(0xdd, Buffer.of(restart >> 8, restart & 255)));
  parts.push(segment(0xda, Buffer.of(factors.length, ...factors.flatMap((_, i) => [i + 1, 0x00]), 0, 63, 0)));
  if (scan) parts.push(scanData(width, height, factors, restart));
  parts.push(Buffer.from("ffd9", "hex"));
  return Buffer.concat(parts);
}

function scanData(
  width: number,
  height: number,
  factors: readonly (readonly [number, number])[],
  restart: number,
): Buffer {
  const alone = factors.length === 1;
  const across = alone ? 1 : Math.max(...factors.map(([h]) => h));
  const down = alone ? 1 : Math.max(...factors.map(([, v]) => v));
  const units = Math.ceil(width / (8 * across)) * Math.ceil(height / (8 * down));
  const draws = new Draws(7, streams.draw, width, height);
  const bytes: number[] = [];
  let bits = "";
  const flush = (): void => {
    for (; bits.length >= 8; bits = bits.slice(8)) {
      const byte = parseInt(bits.slice(0, 8), 2);
      bytes.push(byte);
      if (byte === 0xff) bytes.push(0);
    }
  };
  const finish = (): void => {
    bits = bits.padEnd(Math.ceil(bits.length / 8) * 8, "1");
    flush();
  };
  let before = factors.map(() => 0);
  for (let unit = 0; unit < units; unit++) {
    if (restart > 0 && unit > 0 && unit % restart === 0) {
      finish();
      bytes.push(0xff, 0xd0 + ((unit / restart - 1) % 8));
      before = factors.map(() => 0);
    }
    factors.forEach(([h, v], component) => {
      for (let block = 0; block < (alone ? 1 : h * v); block++) {
        const level = draws.below(200) - 100;
        const difference = level - (before[component] as number);
        before[component] = level;
        const category = difference === 0 ? 0 : Math.floor(Math.log2(Math.abs(difference))) + 1;
        bits += category.toString(2).padStart(4, "0");
        if (category > 0) {
          const value = difference > 0 ? difference : difference + 2 ** category - 1;
          bits += value.toString(2).padStart(category, "0");
        }
        bits += draws.below(2) === 0 ? "0" : `10${draws.below(2)}0`;
      }
    });
    flush();
  }
  finish();
  return Buffer.from(bytes);
}

function segment(marker: number, content: Buffer): Buffer {
  const length = content.length + 2;
  return Buffer.concat([Buffer.of(0xff, marker, length >> 8, length & 255), content]);
}

/** Right after the start marker. */
function insert(jpeg: Buffer, part: Buffer): Buffer {
  return Buffer.concat([jpeg.subarray(0, 2), part, jpeg.subarray(2)]);
}

function cutInside(jpeg: Buffer): Buffer {
  return Buffer.concat([jpeg.subarray(0, jpeg.length - 400), Buffer.from("ffd9", "hex")]);
}

function lyingAboutSize(width: number, height: number): Buffer {
  const jpeg = assemble({ width: 8, height: 8, frame: 0xc2 });
  const at = jpeg.indexOf("ffc2", 0, "hex");
  jpeg.writeUInt16BE(height, at + 5);
  jpeg.writeUInt16BE(width, at + 7);
  return jpeg;
}
