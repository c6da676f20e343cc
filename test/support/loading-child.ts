/**
 * Loads every picture of a set in a process of its own, for tests of what that takes: prints one line of JSON.
 *
 *     node loading-child.js FOLDER BATCH [exhaust]
 *
 * With `exhaust` the process has opened all the files that it may before it reads the first picture.
 */

import { openSync } from "node:fs";

import { RiffleError } from "../../src/core/error.js";
import { openDatasets } from "../../src/data/sets.js";
import { decodingMemoryOf, trainingBatches } from "../../src/data/loader.js";

const [folder = "", batch = "1", exhaust] = process.argv.slice(2);
const { train } = await openDatasets(folder, { seed: 1 });
const said = await decodingMemoryOf(train);
await train.close?.();
const before = process.resourceUsage().maxRSS;
if (exhaust !== undefined) {
  try {
    for (;;) openSync(folder, "r");
  } catch {
    // No more may be opened.
  }
}
const batches = trainingBatches(train, {
  batch: Number(batch),
  imageSize: 32,
  seed: 1,
  firstStep: 0,
  augmentation: {
    filter: "pillow",
    decoding: { fastDct: true, scaled: true },
    crop: "centre",
    flip: 0,
    colour: { probability: 0, brightness: 0, chroma: 0 },
    grayscale: 0,
  },
  shuffle: true,
  maxBadImages: 1_000_000,
});
let images = 0;
let error: unknown;
try {
  for await (const loaded of batches) {
    images += loaded.count;
    loaded.release();
    if (images >= train.size) break;
  }
} catch (thrown) {
  error = thrown;
}
process.stdout.write(
  `${JSON.stringify({
    images,
    bad: batches.badImages.length,
    said,
    /** Bytes above what the process had before. */
    taken: (process.resourceUsage().maxRSS - before) * 1024,
    exitCode: error === undefined ? 0 : error instanceof RiffleError ? error.exitCode : 1,
    error: error instanceof Error ? error.message : null,
  })}\n`,
);
