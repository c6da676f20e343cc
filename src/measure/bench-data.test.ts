import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

import { UsageError } from "../core/error.js";
import { drawFolder } from "../prepare/draw/draw-folder.js";
import { type Encoded, jpegDecoder } from "../data/pictures/render.js";
import { openDatasets } from "../data/sets.js";
import { encodeExample } from "../formats/tf-example.js";
import { frameRecord } from "../formats/tfrecord.js";
import { benchData } from "./bench-data.js";

const scratch = mkdtempSync(join(tmpdir(), "riffle-bench-"));
const folder = join(scratch, "photos");
before(() => drawFolder({ folder, seed: 3, size: 64, train: 40, validation: 20 }));
after(() => rmSync(scratch, { recursive: true, force: true }));

suite("benchData", () => {
  for (const decoder of ["auto", "sharp"] as const) {
    test(`${decoder}: loads whole batches beyond an epoch and gives the rates of its clock`, async (t) => {
      // 8 ms go by from each look at it to the next: three a batch, the loader's two among them, and three a picture alone.
      let now = 0;
      t.mock.method(performance, "now", () => (now += 8));
      t.mock.method(process, "cpuUsage", (since?: object) => (since ? { user: 288e3, system: 96e3 } : {}));
      t.mock.method(performance, "eventLoopUtilization", () => ({ utilization: 0.25 }));
      const heard: [number, number][] = [];
      const options = { data_dir: folder, image_size: 48, batch_size: 24, images: 90, decoder };
      const result = await benchData(options, (done, total) => heard.push([done, total]));
      assert.equal(result.images, 96);
      assert.deepEqual(heard.at(-1), [9, 9]);
      assert.equal(result.decoder, decoder === "sharp" ? "sharp" : jpegDecoder());
      assert.deepEqual(result.images_per_second, { mean: 1000, min: 1000, median: 1000, max: 1000 });
      assert.equal(result.cpu_ms_per_image, 4);
      assert.deepEqual([result.main_thread_share, result.read_share], [0.25, 0.5]);
      assert.ok(result.mb_per_second > 0 && result.peak_memory_mb > 0);
    });
  }

  test("loads the training part of records, not the smaller validation part", async () => {
    const records = join(scratch, "records");
    const sets = await openDatasets(folder, { seed: 0 });
    for (const [part, set, pictures] of [
      ["train_shards", sets.train, 20],
      ["eval_shards", sets.validation, 10],
    ] as const) {
      const framed: Uint8Array[] = [];
      for (let i = 0; i < pictures; i++) {
        const picture = (await set?.read(i)) as Encoded;
        const image = { kind: "bytes", values: [picture.bytes] } as const;
        framed.push(
          frameRecord(
            encodeExample([
              ["image", image],
              ["label", { kind: "ints", values: [0n] }],
            ]),
          ),
        );
      }
      mkdirSync(join(records, part), { recursive: true });
      writeFileSync(join(records, part, "a.tfrecords"), Buffer.concat(framed));
    }
    const load = (batch_size: number) =>
      benchData({ data_dir: records, image_size: 48, batch_size, images: 20 });
    assert.equal((await load(20)).images, 20);
    await assert.rejects(load(21), /at most 20, found 21/);
  });

  test("says what is missing or too large", async () => {
    await assert.rejects(
      benchData({}),
      (error: unknown) => error instanceof UsageError && /--data_dir/.test(error.message),
    );
    await assert.rejects(benchData({ data_dir: folder, batch_size: 500 }), /at most 40, found 500/);
  });
});
