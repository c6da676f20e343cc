import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { suite, test } from "node:test";

import sharp from "sharp";

import { assertClose } from "../../../test/support/compare.js";
import { needs, sharedPath, storedPath } from "../../../test/support/shared.js";
import { Draws, streams } from "../../core/random.js";
import type { NpyArray } from "../../formats/npy.js";
import { openNpz } from "../../formats/npz.js";
import { asItIs, channelShift, evaluationDecodings, evaluationTransform, type Transform } from "./augment.js";
import { imageInfo } from "./image-info.js";
import { type Decoder, jpegDecoder, type Pixels, renderInto, type Picture, sharpProblem } from "./render.js";
import { resizeReference } from "../../../test/support/resize-reference.js";

/** Pixels that differ everywhere, the same in every run. */
function noise(width: number, height: number, channels: 1 | 3 = 3): Pixels {
  const draws = new Draws(1, streams.draw, width, height);
  const data = Uint8Array.from({ length: width * height * channels }, () => draws.below(256));
  return { kind: "pixels", data, width, height, channels };
}

async function render(source: Picture, transform: Transform): Promise<Uint8Array> {
  const { size } = transform;
  // Bytes before and after must stay as they are.
  const out = new Uint8Array(size * size * 3 + 14).fill(99);
  await renderInto(source, "x.jpg", () => transform, out, 7);
  assert.ok(
    [...out.subarray(0, 7), ...out.subarray(-7)].every((byte) => byte === 99),
    "wrote outside its place",
  );
  return out.subarray(7, -7);
}

/** As shares of full scale, without rounding. */
async function renderFloats(source: Picture, transform: Transform, jpegs?: Decoder): Promise<Float32Array> {
  const { size } = transform;
  const out = new Float32Array(size * size * 3 + 14).fill(99);
  await renderInto(source, "x.jpg", () => transform, out, 7, jpegs);
  assert.ok(
    [...out.subarray(0, 7), ...out.subarray(-7)].every((value) => value === 99),
    "wrote outside its place",
  );
  return out.subarray(7, -7);
}

/** f32 against f64 or another order of the same f32 operations: 1e-6 of full scale. */
const exactly = { ofScale: 0, absolute: 1e-6 } as const;

/** Rounding to 8 bits, and f32 against f64. */
const rounding = 0.5 + 1e-3;

const whole: Transform = asItIs(8);

suite("renderInto on pixels", () => {
  for (const filter of ["tensorflow", "pillow"] as const) {
    for (const [width, height, resizedWidth, resizedHeight, size] of [
      [1, 1, 4, 4, 4],
      [4, 1, 9, 9, 9],
      [9, 7, 9, 7, 7],
      [33, 20, 16, 16, 16],
      [31, 47, 20, 30, 17],
      [200, 150, 8, 6, 6],
      [64, 64, 96, 96, 96],
    ] as const) {
      for (const flip of [false, true]) {
        test(`${filter} ${width} x ${height} to ${resizedWidth} x ${resizedHeight}, flip ${flip}: as the definition`, async () => {
          for (const channels of [3, 1] as const) {
            const pixels = noise(width, height, channels);
            const transform: Transform = {
              ...whole,
              box: { x: 0, y: 0, width, height },
              resized: { width: resizedWidth, height: resizedHeight },
              window: { x: Math.floor((resizedWidth - size) / 2), y: resizedHeight - size },
              size,
              filter,
              flip,
            };
            const expected = resizeReference(pixels, transform);
            assertClose("pixels", await render(pixels, transform), expected, {
              ofScale: 0,
              absolute: rounding,
            });
            const shares = expected.map((value) => value / 255);
            assertClose("f32 pixels", await renderFloats(pixels, transform), shares, exactly);
          }
        });
      }
    }

    test(`${filter}: a box is what cutting it out first would give`, async () => {
      const pixels = noise(50, 40);
      const transform: Transform = {
        ...whole,
        box: { x: 11, y: 5, width: 30, height: 29 },
        filter,
        flip: true,
      };
      const { x, y, width, height } = transform.box;
      const cut = Buffer.concat(
        Array.from({ length: height }, (_, row) =>
          pixels.data.subarray(((y + row) * 50 + x) * 3, ((y + row) * 50 + x + width) * 3),
        ),
      );
      const alone = await render(
        { kind: "pixels", data: cut, width, height, channels: 3 },
        { ...transform, box: { x: 0, y: 0, width, height } },
      );
      assert.deepEqual(await render(pixels, transform), alone);
    });

    test(`${filter}: pixels of the right size come through untouched`, async () => {
      const pixels = noise(8, 8);
      assert.deepEqual(await render(pixels, { ...whole, filter }), pixels.data);
    });
  }

  test("shifts colours, clips them, and takes colour away after that", async () => {
    const pixels = noise(8, 8);
    for (const grayscale of [false, true]) {
      const transform: Transform = { ...whole, shift: [0.2, -0.3, 0.05], grayscale };
      const expected = resizeReference(pixels, transform);
      assertClose("pixels", await render(pixels, transform), expected, { ofScale: 0, absolute: rounding });
      const shares = expected.map((value) => value / 255);
      assertClose("f32 pixels", await renderFloats(pixels, transform), shares, exactly);
    }
  });

  test("8-bit pixels are the f32 ones rounded, halves up, so at most half a level away", async () => {
    for (const filter of ["tensorflow", "pillow"] as const) {
      const transform: Transform = {
        ...whole,
        filter,
        box: { x: 1, y: 2, width: 31, height: 20 },
        resized: { width: 40, height: 24 },
        size: 24,
        shift: [0.1, -0.2, 0.3],
      };
      const floats = await renderFloats(noise(33, 23), transform);
      const bytes = await render(noise(33, 23), transform);
      assertClose(
        "pixels",
        bytes,
        floats.map((value) => value * 255),
        { ofScale: 0, absolute: 0.5 + 1e-4 },
      );
    }
  });

  test("buffers too short, of another type or at a wrong offset are refused before anything is written", async () => {
    const plan = () => whole;
    for (const out of [new Uint8Array(8 * 8 * 3 - 1), new Float32Array(8 * 8 * 3 - 1), new Uint8Array(0)])
      await assert.rejects(renderInto(noise(8, 8), "x", plan, out, 0), /the output buffer is too short/);
    for (const offset of [1, 2 ** 40])
      await assert.rejects(
        renderInto(noise(8, 8), "x", plan, new Float32Array(8 * 8 * 3), offset),
        /the output buffer is too short/,
      );
    const words = new Uint16Array(8 * 8 * 3) as unknown as Uint8Array;
    await assert.rejects(
      renderInto(noise(8, 8), "x", plan, words, 0),
      /neither a Uint8Array nor a Float32Array/,
    );
  });

  test("a box outside the picture is refused before any memory is read", async () => {
    await assert.rejects(
      render(noise(8, 8), { ...whole, box: { x: 1, y: 0, width: 8, height: 8 } }),
      TypeError,
    );
    await assert.rejects(render({ ...noise(8, 8), height: 9 }, whole), TypeError);
  });
});

const photograph = await sharp(noise(203, 151).data, { raw: { width: 203, height: 151, channels: 3 } })
  .blur(2)
  .linear(4, -380)
  .png()
  .toBuffer();

suite("renderInto on files", () => {
  for (const [kind, encode] of [
    ["4:2:0 JPEG", () => sharp(photograph).jpeg({ quality: 90 })],
    ["4:4:4 JPEG", () => sharp(photograph).jpeg({ quality: 90, chromaSubsampling: "4:4:4" })],
    ["progressive JPEG", () => sharp(photograph).jpeg({ quality: 90, progressive: true })],
    ["grayscale JPEG", () => sharp(photograph).grayscale().jpeg()],
    ["PNG", () => sharp(photograph).png()],
    ["16-bit PNG", () => sharp(photograph).toColourspace("rgb16").png()],
    ["palette PNG", () => sharp(photograph).png({ palette: true })],
    ["PNG with transparency", () => sharp(photograph).ensureAlpha(0.3).png()],
    ["WebP", () => sharp(photograph).webp()],
  ] as const) {
    test(`a crop of a ${kind} holds the pixels of decoding it whole`, async () => {
      const bytes = await encode().toBuffer();
      const full = await sharp(bytes)
        .removeAlpha()
        .toColourspace("srgb")
        .raw()
        .toBuffer({ resolveWithObject: true });
      assert.equal(full.info.channels, 3);
      const draws = new Draws(2, streams.draw, 0, 0);
      for (let i = 0; i < 40; i++) {
        const size = 1 + draws.below(151);
        const box = {
          x: draws.below(203 - size + 1),
          y: draws.below(151 - size + 1),
          width: size,
          height: size,
        };
        const crop = await render({ kind: "encoded", bytes }, { ...asItIs(size), box });
        const expected = await sharp(full.data, { raw: full.info })
          .extract({ left: box.x, top: box.y, width: size, height: size })
          .raw()
          .toBuffer();
        assert.deepEqual(Buffer.from(crop), expected, JSON.stringify(box));
      }
    });
  }

  test("reduced decoding gives nearly the picture of a whole decode", async () => {
    const bytes = await sharp(photograph).resize(1100, 900).jpeg({ quality: 95 }).toBuffer();
    const box = { x: 37, y: 101, width: 997, height: 771 };
    for (const [size, limit] of [
      [300, 1.5],
      [150, 1.5],
      [90, 1.5],
    ] as const) {
      const transform: Transform = { ...asItIs(size), box, filter: "pillow" };
      const exact = await render({ kind: "encoded", bytes }, transform);
      const scaled = await render(
        { kind: "encoded", bytes },
        { ...transform, decoding: { fastDct: false, scaled: true } },
      );
      const mean =
        exact.reduce((sum, value, i) => sum + Math.abs(value - (scaled[i] as number)), 0) / exact.length;
      assert.ok(mean > 0 || jpegDecoder() === "sharp", "decoded in full after all?");
      assert.ok(mean < limit, `mean difference ${mean} levels at ${size} px`);
    }
  });

  test("a JPEG damaged inside is refused, not filled with grey", async () => {
    const bytes = await sharp(photograph).jpeg({ quality: 95 }).toBuffer();
    // An end marker in the middle: the rest of the file is no longer part of the picture.
    const cut = Buffer.concat([bytes.subarray(0, bytes.length / 2), Buffer.of(0xff, 0xd9)]);
    const transform: Transform = { ...asItIs(151), box: { x: 0, y: 0, width: 151, height: 151 } };
    await assert.rejects(render({ kind: "encoded", bytes: cut }, transform), /x\.jpg: does not decode/);
  });

  test("a PNG and a WebP cut short are refused", async () => {
    for (const bytes of [
      await sharp(photograph).png().toBuffer(),
      await sharp(photograph).webp().toBuffer(),
    ]) {
      const transform: Transform = { ...asItIs(151), box: { x: 0, y: 0, width: 151, height: 151 } };
      await assert.rejects(
        render({ kind: "encoded", bytes: bytes.subarray(0, bytes.length - 900) }, transform),
        /x\.jpg: /,
      );
    }
  });
});

suite("against TensorFlow", needs("tf-reference", "ops.npz"), async () => {
  const npz =
    needs("tf-reference", "ops.npz").skip === false
      ? await openNpz(sharedPath("tf-reference", "ops.npz"))
      : undefined;
  const array = async (name: string): Promise<NpyArray> => (await npz?.read(name)) as NpyArray;
  const floatArray = async (name: string): Promise<Float32Array> => (await array(name)).data as Float32Array;
  const picture = async (name: string): Promise<Pixels> => {
    const { shape, data } = await array(name);
    return {
      kind: "pixels",
      data: data as Uint8Array,
      height: shape[0] as number,
      width: shape[1] as number,
      channels: 3,
    };
  };

  for (let i = 0; i < 8; i++) {
    test(`resize_bilinear, case ${i}: definition and f32 to 1e-6, bytes to their rounding`, async () => {
      const pixels = await picture(`resize${i}_in`);
      const [height, width] = (await array(`resize${i}_size`)).data as Int32Array as unknown as [
        number,
        number,
      ];
      const expected = await floatArray(`resize${i}_uint8_out`);
      const size = Math.min(height, width);
      // Square windows over the whole result, the last ones moved back to end with it.
      for (const y of steps(height, size)) {
        for (const x of steps(width, size)) {
          const transform: Transform = {
            ...whole,
            box: { x: 0, y: 0, width: pixels.width, height: pixels.height },
            resized: { width, height },
            window: { x, y },
            size,
          };
          const window = cut(expected, width, x, y, size);
          assertClose("definition", resizeReference(pixels, transform), window, { ofScale: 1e-6 });
          assertClose("addon", await render(pixels, transform), window, { ofScale: 0, absolute: rounding });
          const floats = await renderFloats(pixels, transform);
          assertClose(
            "f32",
            floats,
            window.map((value) => value / 255),
            exactly,
          );
          // The same picture resized after conversion to [0, 1], as the evaluation path does it.
          if (i === 2) continue;
          const scaled = cut(await floatArray(`resize${i}_float_out`), width, x, y, size);
          assertClose("f32 of f32 input", floats, scaled, exactly);
        }
      }
    });
  }

  test("the colour shift", async () => {
    const pixels = await picture("colour_in_uint8");
    const args = await floatArray("fast_args");
    for (let i = 0; i < 3; i++) {
      const [brightness, cb, cr] = args.subarray(3 * i, 3 * i + 3) as unknown as [number, number, number];
      const transform: Transform = { ...asItIs(96), shift: channelShift(brightness, cb, cr) };
      const expected = (await floatArray(`fast${i}`)).map((value) => value * 255);
      assertClose("definition", resizeReference(pixels, transform), expected, { ofScale: 1e-6 });
      assertClose("addon", await render(pixels, transform), expected, { ofScale: 0, absolute: rounding });
      assertClose("f32", await renderFloats(pixels, transform), await floatArray(`fast${i}`), exactly);
    }
  });

  test("grayscale", async () => {
    const pixels = await picture("colour_in_uint8");
    const transform: Transform = { ...asItIs(96), grayscale: true };
    const expected = (await floatArray("grayscale_and_back")).map((value) => value * 255);
    assertClose("definition", resizeReference(pixels, transform), expected, { ofScale: 1e-6 });
    assertClose("addon", await render(pixels, transform), expected, { ofScale: 0, absolute: rounding });
    const theirs = await floatArray("grayscale_and_back");
    assertClose("f32", await renderFloats(pixels, transform), theirs, exactly);
  });
});

suite("against Pillow", () => {
  interface Case {
    readonly width: number;
    readonly height: number;
    readonly box: readonly [number, number, number, number];
    readonly resized: readonly [number, number];
    readonly out: string;
  }
  const { cases } = JSON.parse(readFileSync(storedPath("golden", "pillow-bilinear.json"), "utf8")) as {
    cases: Case[];
  };
  for (const { width, height, box, resized, out } of cases) {
    const name = `BILINEAR of ${box.join(",")} to ${resized.join(" x ")}`;
    for (const [filter, absolute, how] of [
      ["pillow", 1, "within the level that its two roundings cost"],
      ["pillow-bytes", 0, "to the byte"],
    ] as const) {
      test(`${name} by ${filter}: ${how}`, async () => {
        const data = Uint8Array.from(
          { length: width * height * 3 },
          (_, i) => i * i * 31 + i * 7 + Math.floor(i / 5),
        );
        const expected = Buffer.from(out, "hex");
        const size = Math.min(...resized);
        for (const y of steps(resized[1], size)) {
          for (const x of steps(resized[0], size)) {
            const transform: Transform = {
              ...whole,
              box: { x: box[0], y: box[1], width: box[2], height: box[3] },
              resized: { width: resized[0], height: resized[1] },
              window: { x, y },
              size,
              filter,
            };
            const window = cut(expected, resized[0], x, y, size);
            const actual = await render({ kind: "pixels", data, width, height, channels: 3 }, transform);
            assertClose("pixels", actual, window, { ofScale: 0, absolute });
          }
        }
      });
    }
  }
});

suite("the evaluation path against TensorFlow's", needs("tf-reference", "eval-pipeline.npz"), () => {
  const resize = { ...evaluationDecodings.tensorflow, shorterSide: 256 };

  /** Differences of the twelve pictures, in levels. */
  async function differences(
    image: (bytes: Uint8Array, transform: Transform) => Promise<ArrayLike<number>>,
  ): Promise<{ readonly mean: number; readonly maximum: number }> {
    const npz = await openNpz(sharedPath("tf-reference", "eval-pipeline.npz"));
    const images = (await npz.read("images")).data as Float32Array;
    const indices = (await npz.read("record_index")).data as ArrayLike<number | bigint>;
    const records = recordedJpegs();
    let sum = 0;
    let maximum = 0;
    for (let i = 0; i < indices.length; i++) {
      const bytes = records[Number(indices[i])] as Uint8Array;
      const ours = await image(bytes, evaluationTransform(resize, imageInfo(bytes, "record"), 224));
      assert.equal(ours.length, 224 * 224 * 3);
      for (let at = 0; at < ours.length; at++) {
        const difference = Math.abs((ours[at] as number) - 255 * (images[i * ours.length + at] as number));
        sum += difference;
        maximum = Math.max(maximum, difference);
      }
    }
    return { mean: sum / images.length, maximum };
  }

  test("libjpeg-turbo with the fast DCT: f32 pixels to 1e-4 of a level, bytes to their rounding", async (t) => {
    if (jpegDecoder() !== "libjpeg-turbo")
      return t.skip("libjpeg-turbo was not found when the addon was built");
    const floats = await differences(async (bytes, transform) =>
      (await renderFloats({ kind: "encoded", bytes }, transform)).map((value) => 255 * value),
    );
    t.diagnostic(`f32: mean ${floats.mean} levels, at most ${floats.maximum}`);
    assert.ok(floats.maximum < 1e-4, `${floats.maximum} levels`);
    const bytes = await differences((bytes, transform) => render({ kind: "encoded", bytes }, transform));
    t.diagnostic(`8 bits: mean ${bytes.mean} levels, at most ${bytes.maximum}`);
    assert.ok(bytes.maximum <= rounding, `${bytes.maximum} levels`);
  });

  test("sharp, which decodes with the accurate DCT: within a level on average", async (t) => {
    const { mean, maximum } = await differences(async (bytes, transform) =>
      (await renderFloats({ kind: "encoded", bytes }, transform, "sharp")).map((value) => 255 * value),
    );
    t.diagnostic(`mean ${mean} levels, at most ${maximum}`);
    assert.ok(mean <= 1, `${mean} levels`);
  });

  test("whole decodes are TensorFlow's, fast and accurate", async (t) => {
    if (jpegDecoder() !== "libjpeg-turbo")
      return t.skip("libjpeg-turbo was not found when the addon was built");
    const npz = await openNpz(sharedPath("tf-reference", "eval-pipeline.npz"));
    const index = Number(((await npz.read("decoded0_index")).data as ArrayLike<number | bigint>)[0]);
    const bytes = recordedJpegs()[index] as Uint8Array;
    for (const [name, fastDct] of [
      ["decoded0_default", true],
      ["decoded0_accurate", false],
    ] as const) {
      const expected = await npz.read(name);
      const transform = { ...asItIs(224), decoding: { fastDct, scaled: false } };
      assert.deepEqual(expected.shape, [224, 224, 3]);
      assert.deepEqual(await render({ kind: "encoded", bytes }, transform), expected.data, name);
    }
  });
});

test("every JPEG of real photographs is cropped as decoded whole", needs("hymenoptera"), async () => {
  const folder = sharedPath("hymenoptera", "val", "bees");
  const files = readdirSync(folder).slice(0, 40);
  assert.ok(files.length > 20);
  for (const [i, file] of files.entries()) {
    const bytes = readFileSync(`${folder}/${file}`);
    const { width, height } = imageInfo(bytes, file);
    const draws = new Draws(4, streams.draw, 0, i);
    const size = 32;
    const box = { x: draws.below(width - size), y: draws.below(height - size), width: size, height: size };
    const crop = await render({ kind: "encoded", bytes }, { ...asItIs(size), box });
    const expected = await sharp(bytes, { ignoreIcc: true })
      .toColourspace("srgb")
      .extract({ left: box.x, top: box.y, width: size, height: size })
      .raw()
      .toBuffer();
    assert.deepEqual(Buffer.from(crop), expected, file);
  }
});

/** Where windows of `size` begin that together cover `length`. */
function steps(length: number, size: number): number[] {
  const starts = Array.from({ length: Math.ceil(length / size) }, (_, i) =>
    Math.min(i * size, length - size),
  );
  return starts;
}

/** The square at (x, y) of an RGB picture `width` pixels wide. */
function cut(pixels: ArrayLike<number>, width: number, x: number, y: number, size: number): Float64Array {
  return Float64Array.from({ length: size * size * 3 }, (_, at) => {
    const row = y + Math.floor(at / (size * 3));
    return pixels[(row * width + x) * 3 + (at % (size * 3))] as number;
  });
}

test("of a JPEG that sharp only warns of, without its words, it is said that it is damaged", () => {
  const error = new Error("Warning treated as error due to failOn setting");
  assert.match(sharpProblem(error, "x.jpg").message, /x\.jpg: does not decode: it is damaged/);
});

/** The pictures of the reference's three shards, in order. */
function recordedJpegs(): Uint8Array[] {
  const found = [0, 1, 2].flatMap((i) =>
    jpegsOf(readFileSync(sharedPath("tf-reference", "records", `shard-000${i}.tfrecords`))),
  );
  assert.equal(found.length, 63);
  return found;
}

/** The JPEG inside each record: the framing gives the records, and a record holds one picture. */
function jpegsOf(file: Buffer): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (let at = 0; at < file.length;) {
    const length = Number(file.readBigUInt64LE(at));
    const record = file.subarray(at + 12, at + 12 + length);
    found.push(
      record.subarray(
        record.indexOf("\xff\xd8\xff", 0, "latin1"),
        record.lastIndexOf("\xff\xd9", undefined, "latin1") + 2,
      ),
    );
    at += 16 + length;
  }
  return found;
}
