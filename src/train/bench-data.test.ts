import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

import { UsageError } from "../core/error.js";
import { drawFolder } from "../data/draw/draw-folder.js";
import { jpegDecoder } from "../data/render.js";
import { benchData } from "./bench-data.js";

const scratch = mkdtempSync(join(tmpdir(), "riffle-bench-"));
const folder = join(scratch, "photos");
before(() => drawFolder({ folder, seed: 3, size: 64, train: 40, validation: 20 }));
after(() => rmSync(scratch, { recursive: true, force: true }));

suite("benchData", () => {
  for (const decoder of ["auto", "sharp"] as const) {
    test(`${decoder}: loads whole batches beyond an epoch and gives rates that fit together`, async () => {
      const heard: [number, number][] = [];
      const options = { data_dir: folder, image_size: 48, batch_size: 20, images: 90, decoder };
      const result = await benchData(options, (done, total) => heard.push([done, total]));
      assert.equal(result.images, 100);
      assert.deepEqual(heard.at(-1), [10, 10]);
      assert.equal(result.decoder, decoder === "sharp" ? "sharp" : jpegDecoder());
      const { mean, min, median, max } = result.images_per_second;
      assert.ok(0 < min && min <= median && median <= max && mean > 0);
      assert.ok(result.mb_per_second > 0 && result.cpu_ms_per_image > 0 && result.peak_memory_mb > 0);
      for (const share of [result.main_thread_share, result.read_share]) assert.ok(share > 0 && share <= 1);
    });
  }

  test("says what is missing or too large", async () => {
    await assert.rejects(
      benchData({}),
      (error: unknown) => error instanceof UsageError && /--data_dir/.test(error.message),
    );
    await assert.rejects(benchData({ data_dir: folder, batch_size: 500 }), /at most 40, found 500/);
  });
});
