import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { setTimeout } from "node:timers/promises";
import { suite, test } from "node:test";

import sharp from "sharp";

import { DataError, UsageError } from "../core/error.js";
import { Draws, permutation, streams } from "../core/random.js";
import { augmentations, evaluationDecodings } from "./pictures/augment.js";
import type { Dataset } from "./dataset.js";
import { type BatchSource, evaluationBatches, trainingBatches, type TrainingOptions } from "./loader.js";

const jpegs = await Promise.all(
  Array.from({ length: 11 }, (_, i) =>
    sharp({
      create: { width: 40 + i, height: 36, channels: 3, background: { r: 20 * i, g: 255 - 20 * i, b: 90 } },
    })
      .jpeg()
      .toBuffer(),
  ),
);

/**
 * Eleven pictures, or `size` by repeating them; those in `bad` are text. Reading takes as long as `delay` says, so
 * completion order varies.
 */
function pictures(
  bad: readonly number[] = [],
  delay: (sample: number) => number = () => 0,
  size = jpegs.length,
): Dataset {
  return {
    classes: ["even", "odd"],
    size,
    label: (sample) => sample % 2,
    name: (sample) => `${sample}.jpg`,
    read: async (sample) => {
      await setTimeout(delay(sample));
      return {
        kind: "encoded",
        bytes: bad.includes(sample) ? Buffer.from("no picture") : (jpegs[sample % jpegs.length] as Buffer),
      };
    },
    fingerprint: "",
  };
}

const training: TrainingOptions = {
  batch: 4,
  imageSize: 32,
  seed: 5,
  firstStep: 0,
  augmentation: augmentations.tensorflow,
  shuffle: true,
  maxBadImages: 0,
};
const evaluation = {
  batch: 4,
  imageSize: 32,
  resize: { ...evaluationDecodings.torchvision, shorterSide: 36 },
  maxBadImages: 0,
};

interface Seen {
  readonly samples: readonly number[];
  readonly labels: readonly number[];
  readonly digest: string;
}

/** The first `count` batches, then closed. */
async function take(source: BatchSource, count = Infinity): Promise<Seen[]> {
  const seen: Seen[] = [];
  for await (const batch of source) {
    seen.push({
      samples: [...batch.samples.subarray(0, batch.count)],
      labels: [...batch.labels.subarray(0, batch.count)],
      digest: createHash("sha256").update(batch.images).digest("hex"),
    });
    batch.release();
    if (seen.length === count) break;
  }
  return seen;
}

suite("trainingBatches", () => {
  test("each epoch is a new permutation, its tail of size mod batch left out", async () => {
    const seen = await take(trainingBatches(pictures(), training), 4);
    const order = [0, 1].flatMap((epoch) => [...permutation(11, 5, epoch).subarray(0, 8)]);
    assert.deepEqual(
      seen.flatMap((batch) => batch.samples),
      order,
    );
    assert.deepEqual(
      seen.flatMap((batch) => batch.labels),
      order.map((sample) => sample % 2),
    );
  });

  test("without shuffling every epoch is in file order", async () => {
    const seen = await take(trainingBatches(pictures(), { ...training, shuffle: false }), 3);
    assert.deepEqual(
      seen.map((batch) => batch.samples),
      [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [0, 1, 2, 3],
      ],
    );
    assert.notEqual(seen[0]?.digest, seen[2]?.digest, "the second epoch must be augmented anew");
  });

  test("the batches are the same whatever order the pictures complete in", async () => {
    const inOrder = await take(trainingBatches(pictures(), training), 6);
    const jumbled = await take(
      trainingBatches(
        pictures([], (sample) => (sample * 7) % 11),
        training,
      ),
      6,
    );
    const reversed = await take(
      trainingBatches(
        pictures([], (sample) => 11 - sample),
        { ...training, prefetch: 1 },
      ),
      6,
    );
    assert.deepEqual(jumbled, inOrder);
    assert.deepEqual(reversed, inOrder);
  });

  test("starting at a later step continues as if the earlier ones had been read", async () => {
    const all = await take(trainingBatches(pictures(), training), 6);
    assert.deepEqual(await take(trainingBatches(pictures(), { ...training, firstStep: 3 }), 3), all.slice(3));
  });

  test("another seed gives other pictures", async () => {
    const [a] = await take(trainingBatches(pictures(), { ...training, shuffle: false }), 1);
    const [b] = await take(trainingBatches(pictures(), { ...training, shuffle: false, seed: 6 }), 1);
    assert.notEqual(a?.digest, b?.digest);
  });

  test("a picture that does not decode stops the run with its name and what to do", async () => {
    await assert.rejects(
      take(trainingBatches(pictures([3]), training), 9),
      (error: unknown) =>
        error instanceof DataError &&
        error.message ===
          "3.jpg: a text file, not a picture; JPEG, PNG, WebP, GIF, TIFF and AVIF are read. No image was used from it. " +
            "Remove or replace it, or allow up to 5 such files: --max_bad_images 5",
    );
  });

  test("a tolerated one is counted once, and the next good sample of the epoch takes its place", async () => {
    const bad = [2, 7];
    const source = trainingBatches(pictures(bad), { ...training, maxBadImages: 2 });
    const seen = await take(source, 6);
    const expected = [0, 1, 2].flatMap((epoch) => {
      const order = [...permutation(11, 5, epoch)];
      return order.slice(0, 8).map((_, at) => {
        while (bad.includes(order[at % 11] as number)) at++;
        return order[at % 11];
      });
    });
    assert.deepEqual(
      seen.flatMap((batch) => batch.samples),
      expected,
    );
    assert.deepEqual(new Set(source.badImages.map(({ sample }) => sample)), new Set(bad));
    assert.deepEqual(source.badImages.map(({ file }) => file).sort(), ["2.jpg", "7.jpg"]);
  });

  test("pictures are the same whether they are decoded in groups or one by one, bad neighbours among them", async () => {
    const order = [...permutation(70, 5, 0)];
    // Two of one group of eight, the one that takes the place of the second, and one of the last group.
    const bad = [3, 4, 5, 31].map((at) => order[at] as number);
    /** The pixels of each sample of epoch 0, in their order. */
    const load = async (batch: number) => {
      const found: [sample: number | undefined, pixels: string][] = [];
      const source = trainingBatches(pictures(bad, undefined, 70), { ...training, batch, maxBadImages: 4 });
      for await (const loaded of source) {
        for (let i = 0; i < loaded.count; i++) {
          const pixels = loaded.images.subarray(i * 32 * 32 * 3, (i + 1) * 32 * 32 * 3);
          found.push([loaded.samples[i], createHash("sha256").update(pixels).digest("hex")]);
        }
        loaded.release();
        if (found.length >= 64) break;
      }
      return found.slice(0, 64);
    };
    const grouped = await load(32);
    const places = order.slice(0, 64).map((_, at) => {
      while (bad.includes(order[at] as number)) at++;
      return order[at];
    });
    assert.deepEqual(
      grouped.map(([sample]) => sample),
      places,
    );
    assert.deepEqual(grouped, await load(4));
  });

  test("one bad file more than allowed stops the run", async () => {
    const source = trainingBatches(pictures([1, 2, 7]), { ...training, maxBadImages: 2 });
    await assert.rejects(take(source, 20), /3 such files are more than --max_bad_images 2 allows/);
  });

  test("a batch larger than the set is refused with one that fits", () => {
    assert.throws(
      () => trainingBatches(pictures(), { ...training, batch: 12 }),
      (error: unknown) =>
        error instanceof UsageError && /at most 11, found 12.*--batch_size 8/.test(error.message),
    );
  });

  test("buffers are reused once released, and no more are made", async () => {
    const source = trainingBatches(pictures(), { ...training, prefetch: 2 });
    const buffers = new Set<ArrayBufferLike>();
    let read = 0;
    for await (const batch of source) {
      buffers.add(batch.images.buffer);
      batch.release();
      if (++read === 20) break;
    }
    assert.equal(buffers.size, 3);
  });

  test("without looking ahead a picture is read when the batch before it is done", async () => {
    const read: number[] = [];
    const set = pictures([], (sample) => (read.push(sample), 0));
    const source = trainingBatches(set, { ...training, prefetch: 0 });
    let batches = 0;
    for await (const batch of source) {
      await setTimeout(20);
      assert.equal(read.length, 4 * ++batches);
      batch.release();
      if (batches === 3) break;
    }
  });

  test("a reader that keeps every batch is told, not left waiting", async () => {
    const source = trainingBatches(pictures(), { ...training, prefetch: 1 });
    const batches = source[Symbol.asyncIterator]();
    await batches.next();
    await batches.next();
    await assert.rejects(batches.next(), /release\(\)/);
    await source.close();
  });

  test("the time that the reader waits is counted", async (t) => {
    let now = 0;
    t.mock.method(performance, "now", () => now);
    const slow: Dataset = {
      ...pictures(),
      read: async (sample) => {
        const read = await pictures().read(sample);
        now += 30;
        return read;
      },
    };
    const source = trainingBatches(slow, { ...training, prefetch: 1 });
    await take(source, 1);
    // Four pictures are waited for, and those of the next batch may come meanwhile.
    assert.ok(source.waited >= 0.12, `${source.waited} s`);
  });
});

suite("shards", () => {
  /** What each of `ranks` processes with one shard reads. */
  const epochOf = async (ranks: number, batch: number, steps: number, prefetch: number) =>
    await Promise.all(
      Array.from({ length: ranks }, (_, first) => {
        const shards = { first, count: 1, of: ranks };
        return take(trainingBatches(pictures(), { ...training, batch, shards, prefetch }), steps);
      }),
    );

  test("of one process come one after the other, as those of as many processes", async () => {
    const apart = await epochOf(5, 2, 4, 3);
    for (const { first, count } of [
      { first: 0, count: 5 },
      { first: 0, count: 2 },
      { first: 3, count: 2 },
    ]) {
      const shards = { first, count, of: 5 };
      const batches = await take(trainingBatches(pictures(), { ...training, batch: 2, shards }), 4 * count);
      batches.forEach((batch, i) =>
        assert.deepEqual(batch, apart[first + (i % count)]?.[Math.floor(i / count)], `batch ${i}`),
      );
      const later = { ...training, batch: 2, shards, firstStep: 3 };
      assert.deepEqual(await take(trainingBatches(pictures(), later), count), batches.slice(3 * count));
    }
  });

  test("a bad picture's place is taken by another of its own shard", async () => {
    const bad = [2, 7];
    const shards = { first: 0, count: 2, of: 2 };
    const source = trainingBatches(pictures(bad), { ...training, batch: 2, shards, maxBadImages: 2 });
    const seen = await take(source, 8);
    const order = [...permutation(11, 5, 0)];
    for (const shard of [0, 1]) {
      const own = order.filter((_, position) => position % 2 === shard);
      const places = own.slice(0, 4).map((_, at) => {
        while (bad.includes(own[at % own.length] as number)) at++;
        return own[at % own.length];
      });
      const samples = [0, 1].flatMap((step) => seen[2 * step + shard]?.samples);
      assert.deepEqual(samples, places, `shard ${shard}`);
    }
  });

  test("hold each sample at most once an epoch between them, and exactly once where the batches divide the set", async () => {
    for (const [ranks, batch] of [
      [1, 11],
      [1, 1],
      [2, 1],
      [3, 1],
      [8, 1],
      [2, 5],
    ] as const) {
      const steps = Math.floor(11 / (ranks * batch));
      for (const prefetch of [1, 4]) {
        const seen = (await epochOf(ranks, batch, steps, prefetch)).flat().flatMap((b) => b.samples);
        assert.equal(seen.length, steps * ranks * batch);
        assert.equal(new Set(seen).size, seen.length, `${ranks} ranks`);
      }
    }
  });

  test("make together the steps that one makes with all their pictures, down to the pixels' draws", async () => {
    const [alone = []] = await epochOf(1, 4, 5, 3);
    for (const ranks of [2, 4]) {
      const shares = await epochOf(ranks, 4 / ranks, 5, 3);
      alone.forEach((step, s) => {
        const together = step.samples.map(
          (_, at) => shares[at % ranks]?.[s]?.samples[Math.floor(at / ranks)],
        );
        assert.deepEqual(together, step.samples, `step ${s} of ${ranks} ranks`);
      });
    }
    // One picture a batch, so that digests compare.
    const ones = await epochOf(4, 1, 2, 3);
    const [single = []] = await epochOf(1, 1, 8, 3);
    ones.forEach((own, rank) =>
      own.forEach(({ digest }, s) =>
        assert.equal(digest, single[4 * s + rank]?.digest, `step ${s}, rank ${rank}`),
      ),
    );
  });

  test("divide an evaluation between them: every sample once", async () => {
    for (const ranks of [1, 2, 3, 8, 12]) {
      const seen = await Promise.all(
        Array.from({ length: ranks }, (_, rank) =>
          take(evaluationBatches(pictures(), { ...evaluation, rank, ranks })),
        ),
      );
      const samples = seen.flat().flatMap((batch) => batch.samples);
      assert.deepEqual(
        samples.sort((a, b) => a - b),
        [...Array(11).keys()],
      );
    }
  });

  test("a batch larger than a shard's share is refused with one that fits, and so are more shards than pictures", () => {
    const of = (count: number) => ({ ...training, shards: { first: 0, count, of: count } });
    assert.throws(() => trainingBatches(pictures(), of(3)), /one of 3 .*at most 3, found 4.*--batch_size 2/);
    assert.throws(() => trainingBatches(pictures(), of(12)), /more shards than .*at most 11, found 12/);
  });
});

suite("object boxes", () => {
  test("reach the training crop, and a box that leaves its picture counts as a bad image", async () => {
    const ramp = Buffer.from(Array.from({ length: 60 * 40 * 3 }, (_, at) => (at / 3) % 60));
    const bytes = await sharp(ramp, { raw: { width: 60, height: 40, channels: 3 } })
      .jpeg()
      .toBuffer();
    const boxed = (xmax?: number): Dataset => ({
      ...pictures(),
      read: () =>
        Promise.resolve({
          kind: "encoded",
          bytes,
          ...(xmax === undefined ? {} : { boxes: [{ xmin: 0.4, ymin: 0.4, xmax, ymax: 0.6 }] }),
        }),
    });
    const [plain] = await take(trainingBatches(boxed(), training), 1);
    const [around] = await take(trainingBatches(boxed(0.6), training), 1);
    assert.deepEqual(around?.samples, plain?.samples);
    assert.notEqual(around?.digest, plain?.digest);
    await assert.rejects(
      take(trainingBatches(boxed(1.6), training), 1),
      /jpg: an object's box leaves the picture/,
    );
  });
});

/** One picture as evaluation sees it, alone in its batch. */
async function imageOf(sample: number): Promise<Uint8Array> {
  for await (const batch of evaluationBatches(pictures(), { ...evaluation, batch: 1 })) {
    if (batch.samples[0] === sample) return batch.images;
    batch.release();
  }
  throw new Error(`no sample ${sample}`);
}

suite("evaluationBatches", () => {
  test("give the whole set once, in order, the last batch short and zeros behind it", async () => {
    const source = evaluationBatches(
      pictures([], (sample) => (sample * 5) % 7),
      evaluation,
    );
    const counts: number[] = [];
    const samples: number[] = [];
    for await (const batch of source) {
      counts.push(batch.count);
      samples.push(...batch.samples.subarray(0, batch.count));
      const rest = batch.images.subarray(batch.count * 32 * 32 * 3);
      assert.ok(rest.every((value) => value === 0));
      batch.release();
    }
    assert.deepEqual(counts, [4, 4, 3]);
    assert.deepEqual(samples, [...Array(11).keys()]);
  });

  test("a bad picture is left out and counted, the others move up", async () => {
    const source = evaluationBatches(pictures([1, 8, 9, 10]), { ...evaluation, maxBadImages: 4 });
    const seen = await take(source);
    assert.deepEqual(
      seen.map((batch) => batch.samples),
      [
        [0, 2, 3],
        [4, 5, 6, 7],
      ],
    );
    assert.deepEqual(
      source.badImages.map(({ sample }) => sample),
      [1, 8, 9, 10],
    );
    // The others' pixels move up with them: 0 and 2 are what they are in a set without 1.
    const alone = await take(
      evaluationBatches(pictures([1]), { ...evaluation, batch: 3, maxBadImages: 1 }),
      1,
    );
    const both = createHash("sha256");
    for (const sample of [0, 2]) both.update(await imageOf(sample));
    assert.equal(alone[0]?.digest, both.update(new Uint8Array(32 * 32 * 3)).digest("hex"));
  });

  test("more bad pictures than allowed stop it", async () => {
    await assert.rejects(take(evaluationBatches(pictures([4]), evaluation)), DataError);
  });
});

suite("arrays", () => {
  const size = 32;
  const draws = new Draws(9, streams.draw, 0, 0);
  const data = Uint8Array.from({ length: 2 * size * size * 3 }, () => draws.below(256));
  const arrays = (side: number): Dataset => ({
    ...pictures(),
    size: 2,
    read: (sample) =>
      Promise.resolve({
        kind: "pixels",
        data: data.subarray(sample * side * side * 3, (sample + 1) * side * side * 3),
        width: side,
        height: side,
        channels: 3,
      }),
  });

  test("of the network's own size are used as they are, in training without augmentation and in evaluation", async () => {
    const options = { ...training, batch: 2, augmentation: augmentations.none, shuffle: false };
    const [trained] = await take(trainingBatches(arrays(size), options), 1);
    const [evaluated] = await take(evaluationBatches(arrays(size), { ...evaluation, batch: 2 }));
    const expected = createHash("sha256").update(data).digest("hex");
    assert.equal(trained?.digest, expected);
    assert.equal(evaluated?.digest, expected);
  });

  test("of another size are resized and cropped", async () => {
    const [batch] = await take(evaluationBatches(arrays(20), { ...evaluation, batch: 2 }));
    assert.deepEqual(batch?.samples, [0, 1]);
    assert.notEqual(batch?.digest, createHash("sha256").update(data).digest("hex"));
  });
});
