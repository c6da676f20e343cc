/** `riffle predict --heatmaps`: a PNG of every picture that is predicted, whatever it came from. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import sharp from "sharp";

import { drawnPictures, oneStepRun, writePictures } from "../support/one-step-run.js";
import { program } from "../support/paths.js";
import { scratch } from "../support/tiny-run.js";

const folder = scratch();

function predict(
  files: readonly string[],
  heatmaps: string,
  input?: Buffer,
): { status: number | null; stderr: string } {
  return spawnSync(
    process.execPath,
    [program, "predict", join(folder, "run"), ...files, "--heatmaps", heatmaps],
    {
      encoding: "utf8",
      ...(input === undefined ? {} : { input }),
    },
  );
}

suite("predict --heatmaps", () => {
  let photo = "";
  before(async () => {
    await oneStepRun(folder);
    [photo = ""] = writePictures(folder, await drawnPictures(1));
  });

  test("writes a picture for each that is predicted: what was seen, and the map beside it", async () => {
    mkdirSync(join(folder, "more"));
    copyFileSync(photo, join(folder, "more", "picture-0.jpg"));
    writeFileSync(join(folder, "bad.jpg"), "no picture");
    const into = join(folder, "maps");
    const files = [photo, join(folder, "more"), join(folder, "bad.jpg"), `${join(folder, "tiny.npz")}#3`];
    const { status, stderr } = predict(files, into);
    assert.equal(status, 3, stderr); // of the bad one
    assert.match(stderr, /Heat maps +\S*maps, 3/);
    assert.deepEqual(readdirSync(into).sort(), ["picture-0-2.png", "picture-0.png", "tiny-3.png"]);
    const { data, info } = await sharp(join(into, "picture-0.png"))
      .raw()
      .toBuffer({ resolveWithObject: true });
    assert.deepEqual([info.width, info.height, info.channels], [64, 32, 3]);
    // Left the colours of what was seen, right those of a map: more than one.
    const right = new Set(
      Array.from({ length: 32 }, (_, row) => data.subarray(row * 192 + 96, row * 192 + 192).toString("hex")),
    );
    assert.ok(right.size > 1);
    assert.deepEqual(readFileSync(join(into, "picture-0.png")), readFileSync(join(into, "picture-0-2.png")));
  });

  test("takes a picture from stdin, and touches no folder in which there is something", () => {
    const into = join(folder, "one");
    const piped = predict(["-"], into, readFileSync(photo));
    assert.equal(piped.status, 0, piped.stderr);
    assert.deepEqual(readdirSync(into), ["stdin.png"]);
    const refused = predict([photo], into);
    assert.equal(refused.status, 2);
    assert.match(refused.stderr, /there are files where the heat maps are to go/);
    assert.ok(!existsSync(join(into, "picture-0.png")));
    assert.match(predict([photo], photo).stderr, /heat maps go into a folder, and this is none/);
  });
});
