/** What is wrong with a start is said at once, and leaves nothing behind. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { before, suite, test } from "node:test";

import sharp from "sharp";

import {
  CheckpointError,
  DataError,
  ResourceError,
  type RiffleError,
  UsageError,
} from "../../src/core/error.js";
import type { GivenSettings } from "../../src/settings/settings.js";
import { train } from "../../src/train/trainer.js";
import { damageBehindHeader } from "../support/damage.js";
import { program } from "../support/paths.js";
import { scratch, tinySettings, trainAndWatch, trainedBits } from "../support/tiny-run.js";

const folder = scratch();
const good = join(folder, "good");
const spoiled = join(folder, "spoiled");

/** What is put in the place of pictures: told by the first bytes, by the length, by the name. */
const unreadable: Readonly<Record<string, RegExp>> = {
  "a/03.png": /a text file/,
  "a/05.png": /an empty file/,
  "b/07.png": /HEIC/,
  "b/09.png": /too short|ends after/,
  "b/11.png": /no such file/,
};

before(async () => {
  for (const name of ["a", "b"]) mkdirSync(join(good, name), { recursive: true });
  for (let i = 0; i < 32; i++) {
    const pixels = Buffer.from(
      Array.from({ length: 32 * 32 * 3 }, (_, j) => (i * 31 + j * 7 + (j % 3) * i) % 256),
    );
    const path = join(good, i < 16 ? "a" : "b", `${String(i % 16).padStart(2, "0")}.png`);
    await sharp(pixels, { raw: { width: 32, height: 32, channels: 3 } })
      .png()
      .toFile(path);
  }
  cpSync(good, spoiled, { recursive: true });
  const put = (name: string, bytes: string | Uint8Array): void => writeFileSync(join(spoiled, name), bytes);
  put("a/03.png", "words");
  put("a/05.png", "");
  put("b/07.png", Buffer.from("\0\0\0\x18ftypheic\0\0\0\0mif1", "latin1"));
  put("b/09.png", readFileSync(join(good, "b/09.png")).subarray(0, 30));
  const link = join(spoiled, "b/11.png");
  spawnSync("rm", [link]);
  symlinkSync("gone", link);
});

function given(data: string, run: string, more: GivenSettings = {}): GivenSettings {
  return {
    ...tinySettings(data, join(folder, run)),
    val_split: 0,
    max_epochs: 2,
    save_checkpoints_steps: 100,
    ...more,
  };
}

async function refused(settings: GivenSettings, kind: abstract new (...args: never[]) => RiffleError) {
  let error: RiffleError | undefined;
  await assert.rejects(train(settings), (thrown: RiffleError) => {
    assert.ok(thrown instanceof kind, String(thrown));
    error = thrown;
    return true;
  });
  return (error as RiffleError).problem;
}

suite("pictures that cannot be read", () => {
  test("are named all at once, each with its reason, before anything is made", async () => {
    const before = readdirSync(folder);
    const problem = await refused(given(spoiled, "none/of/this"), DataError);
    const found = Object.fromEntries(
      (problem.files ?? []).map(({ file, reason }) => [file.slice(spoiled.length + 1), reason]),
    );
    assert.deepEqual(Object.keys(found), Object.keys(unreadable));
    for (const [name, reason] of Object.entries(unreadable)) assert.match(found[name] ?? "", reason);
    assert.deepEqual(readdirSync(folder), before);
  });

  test("are named on the terminal and with --json, exit code 3, and the hint's number is right to the letter", () => {
    const options = ["--width", "0.5", "--image_size", "32", "--batch_size", "8", "--max_epochs", "1"];
    const argv = ["train", "--data_dir", spoiled, "--log_dir", join(folder, "cli"), ...options];
    const riffle = (...more: string[]) =>
      spawnSync(process.execPath, [program, ...argv, ...more], { encoding: "utf8" });
    const first = riffle("--json");
    assert.equal(first.status, 3, first.stderr);
    const event = JSON.parse(first.stdout.trimEnd().split("\n").at(-1) ?? "") as {
      files: { file: string }[];
    };
    assert.equal(event.files.length, 5);
    for (const name of Object.keys(unreadable)) assert.match(first.stderr, new RegExp(name));
    const hint = /--max_bad_images (\d+)/.exec(first.stderr) ?? [];
    assert.equal(hint[1], "5");
    assert.equal(riffle("--max_bad_images", "4").status, 3);
    assert.equal(existsSync(join(folder, "cli")), false);
    const second = riffle("--max_bad_images", "5");
    assert.equal(second.status, 0, second.stderr);
    assert.equal(second.stderr.match(/left out: /g)?.length, 5);
  });

  test("and may be bad are left out with the bits of a run that finds them when it decodes", async () => {
    const damaged = join(folder, "damaged");
    cpSync(good, damaged, { recursive: true });
    for (const name of Object.keys(unreadable)) damageBehindHeader(join(damaged, name));
    const late = await train(given(damaged, "late", { max_bad_images: 5 }));
    const { result, events } = await trainAndWatch(given(spoiled, "early", { max_bad_images: 5 }));
    assert.equal(trainedBits(result.checkpoint), trainedBits(late.checkpoint));
    const named = events.filter(({ event }) => event === "bad_image" || event === "start");
    assert.deepEqual(
      named.map(({ event }) => event),
      [...Array<string>(5).fill("bad_image"), "start"],
    );
  });

  test("count together with those that only decoding finds", async () => {
    const both = join(folder, "both");
    cpSync(spoiled, both, { recursive: true, verbatimSymlinks: true });
    damageBehindHeader(join(both, "a/08.png"));
    const problem = await refused(given(both, "sixth", { max_bad_images: 5 }), DataError);
    assert.match(problem.where ?? "", /a\/08\.png$/);
    assert.equal((await train(given(both, "sixth-allowed", { max_bad_images: 6 }))).step, 8);
  });
});

suite("a start that fails leaves no folder, no lock, no cache", () => {
  const parent = join(folder, "failed", "deep");
  const cache_dir = join(folder, "failed", "cache");
  for (const [why, kind, more] of [
    ["a warm-up as long as the run", UsageError, { max_epochs: 1, warmup_epochs: 1 }],
    ["weights that are none", CheckpointError, { init_from: join(good, "a/00.png") }],
    ["weights that are not there", CheckpointError, { init_from: join(folder, "nothing.pth") }],
    ["too little memory", ResourceError, { batch_size: 32, image_size: 4096, width: 2 }],
    ["a batch larger than the set", UsageError, { batch_size: 100 }],
    ["data that is not there", DataError, { data_dir: join(folder, "nowhere") }],
  ] as const) {
    test(`for ${why}`, async () => {
      await refused(given(good, "failed/deep/run", { cache: "resized", cache_dir, ...more }), kind);
      assert.equal(existsSync(dirname(parent)), false);
    });
  }
});
