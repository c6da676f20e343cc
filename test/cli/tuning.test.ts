/** `--autotune` on the command line: measured once, then read, and no result differs. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import { optionsInFull } from "../support/native.js";
import { repository } from "../support/paths.js";
import { scratch, writeTinySet } from "../support/tiny-run.js";

const program = join(repository, "dist", "src", "cli", "main.js");
const folder = scratch();
const data = writeTinySet(folder);
const caches = join(folder, "caches");

function riffle(...argv: string[]): { readonly stdout: string; readonly stderr: string } {
  const env = { ...process.env, XDG_CACHE_HOME: caches };
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...argv], {
    cwd: folder,
    encoding: "utf8",
    env,
  });
  assert.equal(status, 0, stderr);
  return { stdout, stderr };
}

const small = ["--width=0.5", "--image_size=32", "--batch_size=4", "--num_classes=10"];

suite("--autotune", () => {
  for (const mode of ["train", "infer"]) {
    test(`bench ${mode} measures once, then reads`, () => {
      const bench = ["bench", mode, ...small, "--steps=2", "--autotune", "--json"];
      const tuningOf = (stdout: string) =>
        (
          JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as {
            tuning: { from: string; file: string; steps: number };
          }
        ).tuning;
      const first = riffle(...bench);
      const { from, file, steps } = tuningOf(first.stdout);
      assert.equal(from, "measured");
      assert.ok(steps > 50 && file.startsWith(caches));
      assert.match(first.stderr, /^Tuned {5}\w+: .* · measured in [\d.]+ s, kept in /m);
      assert.match(first.stderr, /^tuning /m);
      const second = riffle(...bench);
      assert.equal(tuningOf(second.stdout).from, "cache");
      assert.match(second.stderr, /^Tuned {5}\w+: .* · from /m);
    });
  }

  test("doctor lists what is kept", () => {
    const { stdout } = riffle("doctor", "--json");
    const { tunings } = JSON.parse(stdout) as {
      tunings: { file: string; state: string; of: { mode: string; batch: number; image_size: number } }[];
    };
    const modes = tunings.map(({ state, of: { mode, batch, image_size } }) => [
      state,
      mode,
      batch,
      image_size,
    ]);
    assert.deepEqual(modes.sort(), [
      ["current", "infer", 4, 32],
      ["current", "train", 4, 32],
    ]);
    for (const { file } of tunings) assert.ok(existsSync(file), file);
    assert.match(
      riffle("doctor").stdout,
      /^tuning {2,}current {2,}inference, 0\.35 M parameters, 10 classes, 32 px, batch 4, f32; .* threads: /m,
    );
  });

  test("a file that is damaged is said, and replaced", () => {
    const tuned = join(caches, "riffle", "tuning");
    const files = readdirSync(tuned);
    assert.equal(files.length, 2);
    for (const file of files) writeFileSync(join(tuned, file), "{");
    assert.match(riffle("doctor").stdout, /^tuning {2,}damaged {2,}it is damaged$/m);
    const { stderr } = riffle("bench", "infer", ...small, "--steps=1", "--autotune");
    assert.match(stderr, /^warning: a kept tuning is passed over, it is damaged: /m);
    assert.match(stderr, /^Tuned .* measured in /m);
  });

  test("train, evaluate and predict say what they use, and results do not differ", () => {
    const sizes = [
      "--width=0.5",
      "--image_size=32",
      "--batch_size=8",
      "--max_epochs=0.5",
      "--recipe=original",
      ...optionsInFull,
    ];
    const trained = ["usual", "tuned"].map((run) => {
      const more = run === "tuned" ? ["--autotune"] : [];
      const { stderr } = riffle(
        "train",
        "--data_dir",
        data,
        "--log_dir",
        run,
        ...sizes,
        "--eval_batch_size=5",
        ...more,
      );
      assert.equal(/^Tuned +training: /m.test(stderr), run === "tuned", stderr);
      assert.equal(/^Tuned +inference: /m.test(stderr), run === "tuned", stderr);
      const scored = riffle("evaluate", run, "--eval_batch_size=6", "--report=false", ...more);
      assert.equal(/^Tuned +inference: /m.test(scored.stderr), run === "tuned");
      const picture = `${data}#3`;
      const predicted = riffle("predict", run, picture, "--eval_batch_size=2", "--json", "--logits", ...more);
      const lines = predicted.stdout.trim().split("\n");
      assert.equal(/"event":"tuning"/.test(predicted.stdout), run === "tuned");
      return [scored.stdout, lines.at(-1)];
    });
    assert.deepEqual(trained[1], trained[0]);
  });
});
