import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { suite, test } from "node:test";

import type { RankPlan } from "../../src/measure/plan-ranks.js";
import { program } from "../support/paths.js";

const small = ["--width", "0.5", "--image_size", "64", "--batch_size", "4", "--num_classes", "10"];

function plan(...argv: readonly string[]) {
  return spawnSync(process.execPath, [program, "plan", ...small, ...argv], { encoding: "utf8" });
}

function planned(...argv: readonly string[]): RankPlan {
  const { status, stdout, stderr } = plan(...argv, "--json");
  assert.equal(status, 0, stderr);
  return JSON.parse(stdout) as RankPlan;
}

suite("riffle plan", () => {
  test("doubles from one number of ranks to the other, and ends with that", () => {
    const { rows } = planned("--ranks", "6..40", "--step_ms", "100", "--ranks_per_machine", "8");
    assert.deepEqual(
      rows.map(({ ranks, machines }) => [ranks, machines]),
      [
        [6, 1],
        [12, 2],
        [24, 3],
        [40, 5],
      ],
    );
  });

  test("obeys every option: another value gives another plan", () => {
    const common = [
      ...["--ranks", "4", "--ranks_per_machine", "1", "--step_ms", "100", "--memory_gb_s", "20"],
      ...["--bandwidth", "100mbit"],
    ];
    const seen = (...argv: readonly string[]) => planned(...common, ...argv).rows[0]!;
    const usual = seen();
    for (const [option, value, says] of [
      ["--bandwidth", "1gbit", ({ exchange_ms: is }, { exchange_ms: was }) => is < was / 2],
      ["--latency_us", "1050", ({ exchange_ms: is }, { exchange_ms: was }) => is > was + 2],
      ["--message_us", "1010", ({ exchange_ms: is }, { exchange_ms: was }) => is > was + 6],
      ["--memory_gb_s", "0.001", ({ exchange_ms: is }, { exchange_ms: was }) => is > 2 * was],
      ["--hcom_parallel", "false", ({ exposed_ms, exchange_ms }) => exposed_ms === exchange_ms],
      ["--bucket_size", "65536", ({ exposed_ms: is, exchange_ms }) => Math.abs(is - exchange_ms) < 1e-9],
      ["--shards", "8", ({ compute_ms: is }, { compute_ms: was }) => is > 1.9 * was],
      [
        "--ranks_per_machine",
        "2",
        ({ machines, exchange_ms: is }, { exchange_ms: was }) => machines === 2 && is > was,
      ],
      ["--step_ms", "200", ({ compute_ms: is }, { compute_ms: was }) => Math.abs(is - 2 * was) < 1e-6],
      ["--batch_size", "8", ({ images_per_step: is }, { images_per_step: was }) => is === 2 * was],
    ] as readonly (readonly [string, string, (is: typeof usual, was: typeof usual) => boolean])[]) {
      const other = seen(option, value);
      assert.ok(says(other, usual), `${option} ${value}: ${JSON.stringify([other, usual])}`);
    }
  });

  test("measures where no time is given, and says with how many ranks at work", () => {
    const { status, stdout, stderr } = plan("--ranks", "1,2", "--shards", "2", "--steps", "2");
    assert.equal(status, 0, stderr);
    assert.match(
      stdout,
      /^Computing \d+ ms a shard with \d+ threads? .*measured on \d+ cores? with \d ranks? at work/m,
    );
    assert.match(stdout, /^To train so: npx riffle-vision train --data_dir DATA .*--shards 2$/m);
  });

  for (const [argv, words] of [
    [["--ranks", "9..3"], /the smaller number first/],
    [["--ranks", "0"], /numbers from 1 to 65536/],
    [["--ranks", "1..70000"], /numbers from 1 to 65536/],
    [["--ranks", "eight"], /numbers from 1/],
    [["--ranks", "3", "--shards", "8"], /3 ranks cannot share 8 shards/],
    [["--bandwidth", "25"], /a rate such as 25gbit/],
    [["--bandwidth", "0gbit"], /a rate such as 25gbit/],
    [["--latency_us", "-1"], /a number from 0/],
    [["--step_ms", "0"], /a number above 0/],
    [["--memory_gb_s", "0"], /a number above 0/],
    [["--step_ms", "5", "--steps", "3"], /no step is measured/],
    [["--ranks_per_machine", "0"], /a whole number from 1/],
  ] as const) {
    test(`refuses ${argv.join(" ")}`, () => {
      const { status, stderr } = plan(...argv);
      assert.equal(status, 2, stderr);
      assert.match(stderr, words);
    });
  }
});
