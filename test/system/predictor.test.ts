import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import { parse } from "csv-parse/sync";

import { runRiffle } from "../../src/cli/riffle.js";
import { openTerminal, type Stream } from "../../src/cli/terminal.js";
import { UsageError } from "../../src/core/error.js";
import {
  openPredictor,
  type PictureInput,
  predict,
  type Prediction,
  type Predictor,
  type PredictorOptions,
  type Refused,
} from "../../src/inference/predict.js";
import { drawnPictures, oneStepRun, writePictures } from "../support/one-step-run.js";
import { scratch } from "../support/tiny-run.js";

const folder = scratch();
const options = { logits: true, top: 3 };
let run: string;
let pictures: Buffer[];
let files: string[];
/** What the network sees in each picture, asked for alone. */
let alone: Omit<Prediction, "file">[];

before(async () => {
  run = await oneStepRun(folder);
  pictures = await drawnPictures(24);
  files = writePictures(folder, pictures);
  alone = [];
  for (const file of files) alone.push(withoutFile((await predict(run, [file], options))[0]));
  assert.equal(new Set(alone.map(({ logits }) => String(logits))).size, pictures.length);
});

function withoutFile(result: Prediction | Refused | undefined): Omit<Prediction, "file"> {
  assert.ok(result !== undefined && "top" in result, JSON.stringify(result));
  const { top, logits = [] } = result;
  return { top, logits };
}

async function withPredictor(
  more: PredictorOptions & { readonly batch?: number },
  use: (predictor: Predictor) => Promise<void>,
): Promise<void> {
  const predictor = await openPredictor(run, { eval_batch_size: more.batch ?? 8 }, undefined, more);
  try {
    await use(predictor);
  } finally {
    await predictor.close();
  }
}

async function all(results: AsyncIterable<Prediction | Refused>): Promise<(Prediction | Refused)[]> {
  const list = [];
  for await (const result of results) list.push(result);
  return list;
}

suite("pictures as bytes", () => {
  test("give the bits of the same files, mixed with paths, in the order given", async () => {
    const mixed: PictureInput[] = pictures.map((bytes, i) => (i % 4 < 2 ? bytes : (files[i] as string)));
    // A view into a larger buffer, as a program may hold one.
    const padded = Buffer.concat([Buffer.alloc(7), pictures[0] as Buffer, Buffer.alloc(9)]);
    mixed[0] = new Uint8Array(padded.buffer, padded.byteOffset + 7, (pictures[0] as Buffer).length);
    const results = await predict(run, mixed, options);
    assert.deepEqual(results.map(withoutFile), alone);
    assert.deepEqual(
      results.map(({ file }) => file),
      files.map((file, i) => (i % 4 < 2 ? `#${i}` : file)),
    );
  });

  test("that are no picture are refused in their place", async () => {
    const results = await predict(run, [Buffer.from("no picture"), pictures[1] as Buffer, Buffer.alloc(0)]);
    assert.deepEqual(
      results.map((result) => "error" in result),
      [true, false, true],
    );
  });

  test("and nothing else are taken", async () => {
    for (const wrong of [17, null, { data: [] }, new ArrayBuffer(8)]) {
      await assert.rejects(predict(run, [wrong as unknown as string]), UsageError);
      await withPredictor({}, async (predictor) => {
        await assert.rejects(predictor.predictOne(wrong as unknown as string), UsageError);
      });
    }
  });
});

suite("a predictor", () => {
  for (const [batch, max_wait] of [
    [1, 0],
    [8, 0],
    [8, 200],
    [64, 5],
  ] as const) {
    test(`with batches of ${batch} and a wait of ${max_wait} ms gives concurrent calls the bits of single ones`, async () => {
      const batches: number[] = [];
      await withPredictor({ batch, max_wait, onBatch: (size) => batches.push(size) }, async (predictor) => {
        const results = await Promise.all(
          pictures.map((bytes, i) =>
            predictor.predictOne(i % 2 === 0 ? bytes : (files[i] as string), options),
          ),
        );
        assert.deepEqual(results.map(withoutFile), alone);
      });
      assert.equal(
        batches.reduce((sum, size) => sum + size, 0),
        pictures.length,
      );
      assert.ok(Math.max(...batches) <= batch);
      if (max_wait === 200) assert.deepEqual(batches, [8, 8, 8]);
    });
  }

  test("serves several lists and single pictures at the same time, to the same bits", async () => {
    await withPredictor({ batch: 5 }, async (predictor) => {
      const [first, second, ...ones] = await Promise.all([
        all(predictor.predict(files, options)),
        all(predictor.predict(pictures, options)),
        ...pictures.map((bytes) => predictor.predictOne(bytes, options)),
      ]);
      for (const results of [first, second, ones]) assert.deepEqual(results.map(withoutFile), alone);
    });
  });

  test("refuses what cannot be read, alone", async () => {
    await withPredictor({ max_wait: 50 }, async (predictor) => {
      const [bad, good, missing] = await Promise.all([
        predictor.predictOne((pictures[0] as Buffer).subarray(0, 300)),
        predictor.predictOne(pictures[1] as Buffer, options),
        predictor.predictOne("there-is-none.jpg"),
      ]);
      assert.ok("error" in bad && "error" in missing);
      assert.match(missing.error, /no such file/);
      assert.deepEqual(withoutFile(good), alone[1]);
      await assert.rejects(predictor.predictOne("set.npz"), UsageError);
    });
  });

  test("answers what it accepted when it is closed, and accepts no more", async () => {
    const predictor = await openPredictor(run, { eval_batch_size: 4 }, undefined, { max_wait: 60_000 });
    const began = performance.now();
    const accepted = Promise.all(pictures.slice(0, 6).map((bytes) => predictor.predictOne(bytes, options)));
    assert.equal(predictor.pending, 6);
    const closed = Promise.all([predictor.close(), predictor.close()]);
    await assert.rejects(predictor.predictOne(pictures[0] as Buffer), UsageError);
    assert.deepEqual((await accepted).map(withoutFile), alone.slice(0, 6));
    await closed;
    assert.ok(performance.now() - began < 30_000, "closing waits for nobody");
    assert.equal(predictor.pending, 0);
    await assert.rejects(all(predictor.predict(files)), UsageError);
  });

  test("forgets a picture that is aborted while it waits", async () => {
    await withPredictor({ max_wait: 100 }, async (predictor) => {
      const stop = new AbortController();
      const gone = predictor.predictOne(pictures[0] as Buffer, { signal: stop.signal });
      const kept = predictor.predictOne(pictures[1] as Buffer, options);
      stop.abort(new Error("no longer wanted"));
      await assert.rejects(gone, /no longer wanted/);
      assert.deepEqual(withoutFile(await kept), alone[1]);
    });
  });

  test("refuses a wait that is none", async () => {
    for (const max_wait of [-1, NaN, 1e9]) {
      await assert.rejects(openPredictor(run, {}, undefined, { max_wait }), UsageError);
    }
  });
});

suite("riffle predict --csv", () => {
  const silent = { write: () => true, on: () => undefined } as unknown as Stream;
  const terminal = openTerminal(false, { stdout: silent, stderr: silent });
  const run1 = (...argv: string[]) => runRiffle(["predict", run, ...argv], terminal);

  test("writes a row for each picture, those that were refused too, and replaces no file unasked", async () => {
    const table = join(folder, "table.csv");
    const odd = join(folder, 'a "quoted", name.jpg');
    writeFileSync(odd, "no picture");
    assert.equal(await run1(files[0] as string, odd, files[1] as string, "--top", "2", "--csv", table), 3);
    const rows = parse(readFileSync(table));
    assert.deepEqual(rows[0], ["file", "class_1", "probability_1", "class_2", "probability_2", "error"]);
    for (const [row, i] of [
      [rows[1], 0],
      [rows[3], 1],
    ] as const) {
      const guesses = alone[i]?.top.slice(0, 2).flatMap((guess) => [guess.name, String(guess.probability)]);
      assert.deepEqual(row, [files[i], ...(guesses ?? []), ""]);
    }
    assert.deepEqual(rows[2]?.slice(0, 5), [odd, "", "", "", ""]);
    assert.match(rows[2]?.[5] ?? "", /text file/);
    const before = readFileSync(table);
    await assert.rejects(run1(files[0] as string, "--csv", table), UsageError);
    assert.deepEqual(readFileSync(table), before);
    assert.equal(await run1(files[0] as string, "--csv", table, "--overwrite"), 0);
    assert.equal(parse(readFileSync(table)).length, 2);
  });

  test("is refused with other nonsense before anything is done", async () => {
    const table = join(folder, "never.csv");
    await assert.rejects(run1(files[0] as string, "--overwrite"), UsageError);
    await assert.rejects(run1("-", files[0] as string, "--csv", table), UsageError);
    assert.ok(!existsSync(table));
  });
});
