import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, suite, test } from "node:test";

import sharp from "sharp";

import { decodedCache, resizedCache } from "../../src/data/cache.js";
import type { Dataset } from "../../src/data/dataset.js";
import { openImageFiles } from "../../src/data/image-folder.js";
import { evaluationBatches, trainingBatches } from "../../src/data/loader.js";
import type { Augmentation } from "../../src/data/pictures/augment.js";
import { END_OF_IMAGE, jpegSegments, START_OF_SCAN } from "../../src/data/pictures/jpeg-segments.js";
import { jpegDecoder } from "../../src/data/pictures/render.js";
import { openDatasets } from "../../src/data/sets.js";
import { sheetRows } from "../../src/prepare/contact-sheet.js";
import { buildRecord } from "../../src/prepare/records/build-record.js";
import { verifyData } from "../../src/prepare/verify-data.js";
import { repository } from "../support/paths.js";

const scratch = mkdtempSync(join(tmpdir(), "riffle-verdicts-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

const noise = sharp({
  create: {
    width: 400,
    height: 300,
    channels: 3,
    background: "gray",
    noise: { type: "gaussian", mean: 128, sigma: 40 },
  },
});
const jpeg = await noise.clone().jpeg().toBuffer();
const progressive = await noise.clone().jpeg({ progressive: true }).toBuffer();
const png = await noise.clone().png().toBuffer();
const webp = await noise.clone().webp().toBuffer();

const insert = (bytes: Buffer, at: number, ...inserted: number[]): Buffer =>
  Buffer.concat([bytes.subarray(0, at), Buffer.from(inserted), bytes.subarray(at)]);
const changed = (bytes: Buffer, change: (bytes: Buffer) => unknown): Buffer => {
  const copy = Buffer.from(bytes);
  change(copy);
  return copy;
};
const scan = [...jpegSegments(jpeg)].find(({ marker }) => marker === START_OF_SCAN);
const lastScan = [...jpegSegments(progressive)].filter(({ marker }) => marker === START_OF_SCAN).at(-1);
const end = [...jpegSegments(progressive)].find(({ marker }) => marker === END_OF_IMAGE);
assert.ok(scan !== undefined && lastScan !== undefined && end !== undefined);
const manyScans = Array<Buffer>(480).fill(progressive.subarray(lastScan.at, end.at));

/** Whether it is used; what is not is refused by every path. */
const pictures: Readonly<Record<string, readonly [used: boolean, bytes: Buffer]>> = {
  "plain.jpg": [true, jpeg],
  "progressive.jpg": [true, progressive],
  "gray.jpg": [true, await noise.clone().toColourspace("b-w").jpeg().toBuffer()],
  "one pixel.jpg": [true, await sharp(jpeg).resize(1, 1).jpeg().toBuffer()],
  "garbage behind it.jpg": [true, Buffer.concat([jpeg, Buffer.from("tail")])],
  "bytes between segments.jpg": [true, insert(jpeg, scan.at, 0x12, 0x34)],
  "odd bounds of its scan.jpg": [true, changed(jpeg, (b) => (b[scan.end - 2] = 0))],
  "no end.jpg": [false, jpeg.subarray(0, jpeg.length - 2)],
  "cut short.jpg": [false, jpeg.subarray(0, jpeg.length / 2)],
  "cut short with an end.jpg": [
    false,
    Buffer.concat([jpeg.subarray(0, jpeg.length / 2), Buffer.of(0xff, 0xd9)]),
  ],
  "half a header.jpg": [false, jpeg.subarray(0, 40)],
  "480 scans.jpg": [
    false,
    Buffer.concat([progressive.subarray(0, end.at), ...manyScans, Buffer.of(0xff, 0xd9)]),
  ],
  "cmyk.jpg": [true, await noise.clone().toColourspace("cmyk").jpeg().toBuffer()],
  "plain.png": [true, png],
  "16 bits.png": [true, await noise.clone().toColourspace("rgb16").png().toBuffer()],
  "gray with alpha.png": [true, await noise.clone().toColourspace("b-w").ensureAlpha(0.5).png().toBuffer()],
  "one pixel.png": [true, await sharp(png).resize(1, 1).png().toBuffer()],
  "garbage behind it.png": [true, Buffer.concat([png, Buffer.from("tail")])],
  "cut short.png": [false, png.subarray(0, png.length / 2)],
  "bomb.png": [
    false,
    changed(png, (b) => {
      b.writeUInt32BE(50_000, 16);
      b.writeUInt32BE(50_000, 20);
    }),
  ],
  "plain.webp": [true, webp],
  "with alpha.webp": [true, await noise.clone().ensureAlpha(0.5).webp().toBuffer()],
  "cut short.webp": [false, webp.subarray(0, webp.length / 2)],
  "a.gif": [true, await noise.clone().gif().toBuffer()],
  "empty.jpg": [false, Buffer.alloc(0)],
  "text.jpg": [false, Buffer.from("<html>not found</html>")],
};

const augmentation: Augmentation = {
  filter: "pillow",
  decoding: { fastDct: true, scaled: true },
  crop: "centre",
  flip: 0,
  colour: { probability: 0, brightness: 0, chroma: 0 },
  grayscale: 0,
};

/** Names of the pictures that are refused when a set is trained on for an epoch. */
async function refusedByTraining(set: Dataset): Promise<string[]> {
  const options = { batch: 1, imageSize: 32, seed: 1, firstStep: 0, augmentation, shuffle: false };
  const batches = trainingBatches(set, { ...options, maxBadImages: Infinity });
  let steps = 0;
  for await (const batch of batches) {
    batch.release();
    if (++steps === set.size) break;
  }
  return named(batches.badImages.map(({ sample }) => set.name(sample)));
}

const named = (paths: readonly string[]): string[] =>
  [...new Set(paths.map((path) => basename(path)))].sort();

suite("H8: every path gives the same verdict on the same picture", () => {
  const folder = join(scratch, "pictures");
  for (const each of ["a", "b"]) mkdirSync(join(folder, each), { recursive: true });
  for (const [name, [, bytes]] of Object.entries(pictures)) writeFileSync(join(folder, "a", name), bytes);
  writeFileSync(join(folder, "b", "plain.jpg"), jpeg);
  const expected = named(Object.keys(pictures).filter((name) => pictures[name]?.[0] === false));
  const open = async (): Promise<Dataset> => (await openDatasets(folder, { seed: 1 })).train;
  const skip = jpegDecoder() === "sharp" ? "sharp alone takes odd JPEGs for damaged ones" : false;

  test("training", { skip }, async () => {
    assert.deepEqual(await refusedByTraining(await open()), expected);
  });

  test("training on resized pictures", { skip }, async () => {
    const cache = await resizedCache(await open(), join(scratch, "cache"), { shorterSide: 128 });
    assert.deepEqual(await refusedByTraining(cache), expected);
    await cache.close?.();
  });

  test("training on decoded pictures", { skip }, async () => {
    const cache = await decodedCache(await open(), { shorterSide: 128, memory: 1e9 });
    assert.deepEqual(await refusedByTraining(cache), expected);
  });

  test("show-data", { skip }, async () => {
    const set = await open();
    const rows = await sheetRows(set, { augmentation, imageSize: 32, images: set.size, epoch: 1, seed: 1 });
    assert.deepEqual(named(rows.filter((row) => "problem" in row).map(({ name }) => name)), expected);
  });

  test("verify-data", { skip }, async () => {
    const { problems } = await verifyData({ path: folder });
    assert.deepEqual(
      named(problems.filter(({ check }) => check === "picture").map(({ file }) => file)),
      expected,
    );
  });

  test("predict and evaluate", { skip }, async () => {
    const set = openImageFiles(Object.keys(pictures).map((name) => join(folder, "a", name)));
    const resize = { filter: "pillow", decoding: augmentation.decoding, shorterSide: 32 } as const;
    const batches = evaluationBatches(set, { batch: 4, imageSize: 32, resize, maxBadImages: Infinity });
    for await (const batch of batches) batch.release();
    assert.deepEqual(named(batches.badImages.map(({ file }) => file)), expected);
  });

  test("create-tfrecords, which leaves out CMYK too, as the original does", { skip }, async () => {
    const refused: string[] = [];
    for (const [path, [, bytes]] of Object.entries(pictures)) {
      const row = { path, label: 0, boxes: undefined };
      const built = await buildRecord(bytes, row, { formats: "all", verify: true });
      if ("skip" in built) refused.push(path);
    }
    assert.deepEqual(named(refused), [...expected, "cmyk.jpg"].sort());
  });

  const cases = join(repository, "..", "shared", "cases");
  test("pictures after public reports", { skip: existsSync(cases) ? skip : "no shared/cases" }, async () => {
    const root = join(scratch, "cases");
    for (const each of ["a", "b"]) mkdirSync(join(root, each), { recursive: true });
    for (const kind of ["jpeg", "png", "webp"]) {
      for (const name of readdirSync(join(cases, kind)))
        writeFileSync(join(root, "a", `${kind}-${name}`), readFileSync(join(cases, kind, name)));
    }
    writeFileSync(join(root, "b", "plain.jpg"), jpeg);
    const { train } = await openDatasets(root, { seed: 1 });
    const refused: string[] = [];
    assert.deepEqual(await refusedByTraining(train), refused);
    const cache = await decodedCache(train, { shorterSide: 128, memory: 1e9 });
    assert.deepEqual(await refusedByTraining(cache), refused);
    const { problems } = await verifyData({ path: root });
    assert.deepEqual(
      named(problems.filter(({ check }) => check === "picture").map(({ file }) => file)),
      refused,
    );
  });
});
