/** An evaluation that several ranks share: every picture once, and the bits of one process. */

import assert from "node:assert/strict";
import { suite, test } from "node:test";

import sharp from "sharp";

import type { Weights } from "../../src/backends/backend.js";
import { DataError } from "../../src/core/error.js";
import { Draws, streams } from "../../src/core/random.js";
import type { Dataset } from "../../src/data/dataset.js";
import type { BadImage } from "../../src/data/loader.js";
import { score } from "../../src/inference/evaluate.js";
import { initialise, initialStatistics } from "../../src/models/initialise.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import { compile } from "../../src/program/compile.js";
import type { ModelDescription, Scores } from "../../src/run/checkpoint-state.js";
import type { BadImageEvent, EvaluatingEvent } from "../../src/run/events.js";
import { fastBackend } from "../support/fast-backend.js";
import { fakeRanks } from "../support/fake-ranks.js";

const SIZE = 37;
const jpegs = await Promise.all(
  Array.from({ length: SIZE }, (_, i) => {
    const draws = new Draws(3, streams.draw, 0, i);
    const data = Buffer.from(Array.from({ length: 40 * 40 * 3 }, () => draws.below(256)));
    return sharp(data, { raw: { width: 40, height: 40, channels: 3 } })
      .jpeg()
      .toBuffer();
  }),
);

const classes = ["a", "b", "c", "d", "e", "f", "g"];

/** `size` pictures of noise; those in `bad` are text. */
function noise(size: number, bad: readonly number[] = []): Dataset {
  return {
    classes,
    size,
    label: (sample) => sample % classes.length,
    name: (sample) => `${sample}.jpg`,
    file: (sample) => ({ name: `a/${sample}.jpg`, bytes: 9 }),
    read: (sample) =>
      Promise.resolve({
        kind: "encoded",
        bytes: bad.includes(sample) ? Buffer.from("no picture") : (jpegs[sample] as Buffer),
      }),
    fingerprint: "",
  };
}

const network = shuffleNetV2({ variant: "torchvision", width: 0.5, classes: classes.length });
const program = compile(network, { batch: 4, imageSize: 32, mode: "infer" });
const model: ModelDescription = {
  variant: "torchvision",
  width: 0.5,
  classes: classes.length,
  image_size: 32,
  eval_resize: 36,
  pipeline: "torchvision",
  exif_orientation: "ignore",
  class_names: classes,
};
const candidates = [1, 2].map((seed): Weights => {
  const statistics = Float32Array.from(initialStatistics(program));
  return { parameters: initialise(program, { version: "torch", seed }), statistics };
});

interface Seen {
  readonly scores: Scores[] | undefined;
  readonly events: (EvaluatingEvent | BadImageEvent)[];
  readonly bad: BadImage[];
}

interface Asked {
  readonly ranks: number;
  readonly maxBadImages?: number;
  readonly known?: readonly BadImage[];
  /** Aborts rank 1 when it reports for the first time. */
  readonly stopsSecond?: boolean;
  readonly log?: { tag: string; bytes: number }[];
}

/** What each rank has of it; in another number of threads each. */
function scored(
  dataset: Dataset,
  { ranks, maxBadImages = 0, known, stopsSecond, log }: Asked,
): Promise<Seen[]> {
  const all = ranks === 0 ? [undefined] : fakeRanks(ranks, log);
  return Promise.all(
    all.map(async (own, rank) => {
      const run = fastBackend.infer(program, { threads: 1 + (rank % 2) });
      const stop = new AbortController();
      const events: Seen["events"] = [];
      const bad: BadImage[] = [];
      try {
        const options = {
          model,
          maxBadImages,
          signal: stop.signal,
          onBadImage: (image: BadImage) => void bad.push(image),
          ...(known === undefined ? {} : { known }),
          ranks: own,
        };
        const scores = await score({ program, run }, dataset, candidates, options, (event) => {
          events.push(event);
          if (stopsSecond === true && rank === 1) stop.abort();
        });
        return { scores, events, bad };
      } finally {
        run.close();
      }
    }),
  );
}

async function alone(dataset: Dataset, asked: Partial<Asked> = {}): Promise<Seen> {
  const [seen] = await scored(dataset, { ...asked, ranks: 0 });
  assert.ok(seen);
  return seen;
}

function badOf(events: Seen["events"]): string[] {
  return events.flatMap((event) => (event.event === "bad_image" ? [event.file] : []));
}

for (const ranks of [1, 2, 3, 4, 8]) {
  suite(`an evaluation of ${ranks} ranks`, () => {
    for (const size of [SIZE, 32, 5, 1]) {
      test(`${size} pictures: every rank has the scores of one process, to the bit`, async () => {
        const expected = await alone(noise(size));
        assert.equal(expected.scores?.[0]?.images, size);
        assert.notDeepEqual(expected.scores[0], expected.scores[1]);
        for (const { scores, events } of await scored(noise(size), { ranks })) {
          assert.deepEqual(scores, expected.scores);
          const last = events.at(-1);
          assert.deepEqual(last, { event: "evaluating", done: size, images: size });
        }
      });
    }

    test("leaves bad pictures out, and every rank knows of all of them, each once", async () => {
      // A whole batch of one rank, both ends, and neighbours.
      const bad = [0, 4, 8, 9, 12, 16, 20, 24, 28, 32, 36];
      const set = noise(SIZE, bad);
      const expected = await alone(set, { maxBadImages: bad.length });
      assert.equal(expected.scores?.[0]?.images, SIZE - bad.length);
      assert.deepEqual(
        expected.bad.map(({ sample }) => sample),
        bad,
      );
      for (const seen of await scored(set, { ranks, maxBadImages: bad.length })) {
        assert.deepEqual(seen.scores, expected.scores);
        assert.deepEqual([...badOf(seen.events)].sort(), [...badOf(expected.events)].sort());
        assert.deepEqual(
          seen.bad.map(({ picture }) => picture?.name).sort(),
          bad.map((sample) => `a/${sample}.jpg`).sort(),
        );
      }
    });

    test("does not count again what was known before", async () => {
      const known = [{ file: "5.jpg", reason: "a text file", sample: 5, picture: undefined }];
      const asked = { known, maxBadImages: 2 };
      const expected = await alone(noise(SIZE, [5, 7]), asked);
      for (const seen of await scored(noise(SIZE, [5, 7]), { ...asked, ranks })) {
        assert.deepEqual(seen.scores, expected.scores);
        assert.deepEqual(badOf(seen.events), ["7.jpg"]);
      }
    });

    test("with more bad pictures than are allowed ends on every rank, as in one process", async () => {
      const bad = [3, 4, 5, 6, 7];
      const messageOf = async (work: Promise<unknown>): Promise<string> => {
        const error = await work.then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        assert.ok(error instanceof DataError, String(error));
        return error.message;
      };
      const asked = { maxBadImages: 2 };
      const expected = await messageOf(alone(noise(SIZE, bad), asked));
      const set = noise(SIZE, bad);
      const own = fakeRanks(ranks).map(async (each) => {
        const run = fastBackend.infer(program, { threads: 1 });
        try {
          await score({ program, run }, set, candidates, { model, ...asked, ranks: each }, () => undefined);
        } finally {
          run.close();
        }
      });
      const messages = await Promise.all(own.map(messageOf));
      assert.deepEqual(
        messages,
        messages.map(() => expected),
      );
    });

    test("exchanges little: a line for each batch, then 9 bytes a picture and candidate", async () => {
      const log: { tag: string; bytes: number }[] = [];
      await scored(noise(SIZE), { ranks, log });
      const rounds = Math.ceil(Math.ceil(SIZE / ranks) / program.batch);
      assert.deepEqual(
        log.map(({ tag }) => tag),
        [...Array<string>(rounds).fill("evaluation"), "scores", "scores"],
      );
      const tags = (wanted: string) => log.filter(({ tag }) => tag === wanted).map(({ bytes }) => bytes);
      assert.ok(tags("evaluation").every((bytes) => bytes < 50 * ranks));
      assert.deepEqual(tags("scores"), [9 * SIZE, 9 * SIZE]);
    });

    if (ranks > 1) {
      test("stopped on one rank ends on all, with their next batch", async () => {
        for (const { scores, events } of await scored(noise(SIZE), { ranks, stopsSecond: true })) {
          assert.equal(scores, undefined);
          assert.equal(events.length, 1);
        }
      });
    }
  });
}
