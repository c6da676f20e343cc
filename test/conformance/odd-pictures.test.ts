/**
 * Pictures as cameras, phones, editors and other people's scripts leave them, against Pillow's pixels; the thousands that these
 * are a sample of are judged by scripts/judge-pictures.mjs. And JPEGs whose headers are odd against their plain twins, on every
 * path, down to the logits.
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import { DataError } from "../../src/core/error.js";
import { decodedCache } from "../../src/data/cache.js";
import { openClasses } from "../../src/data/image-folder.js";
import { evaluationBatches, trainingBatches } from "../../src/data/loader.js";
import { augmentations, evaluationDecodings } from "../../src/data/pictures/augment.js";
import { decodingProblem } from "../../src/data/pictures/decoding-problem.js";
import { imageInfo } from "../../src/data/pictures/image-info.js";
import { plainJpeg } from "../../src/data/pictures/plain-jpeg.js";
import { predict } from "../../src/inference/predict.js";
import { buildRecord } from "../../src/prepare/records/build-record.js";
import { train } from "../../src/train/trainer.js";
import { pixelsOf } from "../support/picture-pixels.js";
import { repository } from "../support/paths.js";
import { scratch, tinySettings, writeTinySet } from "../support/tiny-run.js";

interface Row {
  readonly file: string;
  readonly kind: string;
  readonly size?: readonly [number, number];
  readonly sha256?: string;
  readonly refused?: string;
  readonly damaged?: boolean;
}

const golden = join(repository, "test", "golden", "odd-pictures");
const { pictures } = JSON.parse(readFileSync(join(golden, "values.json"), "utf8")) as { pictures: Row[] };
const bytesOf = ({ file }: Row): Buffer => readFileSync(join(golden, file));
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

const readable = pictures.filter(({ refused, damaged }) => refused === undefined && damaged !== true);
const unreadable = pictures.filter((row) => !readable.includes(row));

suite("odd pictures, against Pillow", () => {
  test("JPEGs of arithmetic coding, any sampling, scans, inks, components and stray bytes have Pillow's pixels, whichever decodes them", async () => {
    assert.ok(readable.length > 30);
    for (const row of readable) {
      const bytes = bytesOf(row);
      const { width, height } = imageInfo(bytes, row.kind);
      assert.deepEqual([width, height], row.size, row.kind);
      for (const decoder of ["auto", "sharp"] as const) {
        // Behind a scan's data libvips takes anything for damage where there are several.
        const { data: pixels } = await pixelsOf(bytes, row.kind, decoder);
        assert.equal(sha256(pixels), row.sha256, `${row.kind}, ${decoder}`);
      }
    }
  });

  test("verify-data and create-tfrecords have no other verdict on a JPEG than the decoder", async () => {
    for (const row of readable.filter(({ file }) => file.endsWith(".jpg"))) {
      const bytes = bytesOf(row);
      assert.equal(await decodingProblem({ kind: "encoded", bytes }, row.kind), undefined, row.kind);
      const { cmyk } = imageInfo(bytes, row.kind);
      const built = await buildRecord(
        bytes,
        { path: row.kind, label: 0, boxes: undefined },
        { formats: "jpeg", verify: true },
      );
      assert.deepEqual("skip" in built ? built.skip : "written", cmyk ? "a CMYK JPEG" : "written", row.kind);
    }
  });

  test("what Pillow does not read, and damage that it fills with gray, is refused by name", async () => {
    assert.ok(unreadable.length > 4);
    for (const row of unreadable) {
      const bytes = bytesOf(row);
      for (const decoder of ["auto", "sharp"] as const) {
        await assert.rejects(
          async () => pixelsOf(bytes, row.kind, decoder),
          DataError,
          `${row.kind}, ${decoder}`,
        );
      }
      const built = await buildRecord(
        bytes,
        { path: row.kind, label: 0, boxes: undefined },
        { formats: "jpeg", verify: true },
      );
      assert.ok("skip" in built, row.kind);
    }
  });
});

const plain = readFileSync(join(repository, "test", "golden", "pictures", "420.jpg"));
const twins = new Map([["plain", plain], ...oddTwins(plain)]);
const folder = scratch();
const files = new Map<string, string>();

/** As firmware and editors write them: the scan's bounds, and bytes before every header marker. */
function oddTwins(jpeg: Buffer): [string, Buffer][] {
  const twins: [string, Buffer][] = [];
  let at = 2;
  for (; jpeg[at + 1] !== 0xda; at += 2 + jpeg.readUInt16BE(at + 2)) {
    if (at > 2)
      twins.push([
        `stray-${at}`,
        Buffer.concat([jpeg.subarray(0, at), Buffer.of(0x00, 0x12), jpeg.subarray(at)]),
      ]);
  }
  twins.push([`stray-${at}`, Buffer.concat([jpeg.subarray(0, at), Buffer.of(0x55), jpeg.subarray(at)])]);
  const bounds = at + 2 + jpeg.readUInt16BE(at + 2) - 3;
  for (const values of [
    [0, 0, 0],
    [63, 63, 0],
    [0, 63, 0x11],
    [1, 255, 255],
  ]) {
    const twin = Buffer.from(jpeg);
    twin.set(values, bounds);
    twins.push([`bounds-${values.join("-")}`, twin]);
  }
  return twins;
}

suite("odd JPEGs, against their plain twin", () => {
  before(() => {
    for (const [name, bytes] of twins) {
      mkdirSync(join(folder, name, "a"), { recursive: true });
      files.set(name, join(folder, name, "a", "picture.jpg"));
      writeFileSync(join(folder, name, "a", "picture.jpg"), bytes);
    }
  });

  test("odd scan bounds and stray bytes between markers change no pixel in training, evaluation and the caches", async () => {
    assert.ok(twins.size >= 10);
    const all = async (name: string): Promise<Record<string, string>> => {
      const set = openClasses(join(folder, name));
      const loading = { batch: 1, imageSize: 24, maxBadImages: 0 };
      const first = async (source: ReturnType<typeof evaluationBatches>): Promise<string> => {
        for await (const { images } of source) {
          await source.close();
          return sha256(images.subarray(0, 24 * 24 * 3));
        }
        return "no batch";
      };
      const resize = { ...evaluationDecodings.torchvision, shorterSide: 27 };
      const cached = await (await decodedCache(set, { shorterSide: 20, memory: 2 ** 24 })).read(0);
      assert.equal(cached.kind, "pixels");
      return {
        training: await first(
          trainingBatches(set, {
            ...loading,
            seed: 1,
            firstStep: 0,
            shuffle: false,
            augmentation: augmentations.tensorflow,
          }),
        ),
        evaluation: await first(evaluationBatches(set, { ...loading, resize })),
        bySharp: await first(evaluationBatches(set, { ...loading, resize, decoder: "sharp" })),
        cached: cached.kind === "pixels" ? sha256(cached.data) : "encoded",
      };
    };
    const expected = await all("plain");
    for (const name of twins.keys()) assert.deepEqual(await all(name), expected, name);
  });

  test("nor a bit of the logits that predict prints", async (t) => {
    const run = join(folder, "run");
    await train({ ...tinySettings(writeTinySet(folder), run), max_train_steps: 2 });
    const logits = async (paths: readonly string[]) =>
      (await predict(run, paths, { logits: true })).map((found) =>
        "logits" in found ? found.logits : found,
      );
    const [expected, ...odd] = await logits([...files.values()]);
    assert.equal((expected as readonly number[]).length, 3);
    for (const found of odd) assert.deepEqual(found, expected);

    const cases = join(repository, "..", "shared", "cases", "jpeg");
    if (!existsSync(cases))
      return t.diagnostic("no shared/cases beside the repository; its files are left out");
    const names = [
      "00_plain",
      "01_samsung_sos_se0",
      "01_samsung_sos_ss63",
      "02_two_bytes_before_dqt",
      "02_two_bytes_before_sos",
    ];
    const [shared, ...twinsOfShared] = await logits(names.map((name) => join(cases, `${name}.jpg`)));
    for (const found of twinsOfShared) assert.deepEqual(found, shared);
  });

  test("what is odd is taken out of the bytes for sharp, and a plain file is not copied", () => {
    assert.equal(plainJpeg(plain), plain);
    for (const [name, bytes] of twins) assert.ok(plain.equals(plainJpeg(bytes)), name);
  });
});
