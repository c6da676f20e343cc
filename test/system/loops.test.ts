/** Loops of steps in one call of the engine: the bits, saves, evaluations and reports of single steps. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import { ResourceError } from "../../src/core/error.js";
import type { TrainEvent } from "../../src/run/events.js";
import type { GivenSettings } from "../../src/settings/settings.js";
import { train } from "../../src/train/trainer.js";
import { asOptions, freshRuns, numbersOf } from "../support/fresh-runs.js";
import { needsMpi, startRanks } from "../support/mpi.js";
import { hashes, tinySettings, trainAndWatch, trainedBits } from "../support/tiny-run.js";

const { data, fresh } = freshRuns();

/** What was said of steps at which all lengths of loops report, and of evaluations and saves. */
function saidOf(events: readonly TrainEvent[], loop: number): unknown[] {
  const last = Math.max(...events.map((event) => (event.event === "step" ? event.step : 0)));
  return events
    .filter((event) => event.event !== "step" || event.step % loop === 0 || event.step === last)
    .flatMap((event) => (event.event === "save" ? [["saved", event.step]] : numbersOf([event])));
}

/** All files of all checkpoints but their states, which hold the settings. */
function weightsIn(run: string): Record<string, string> {
  return Object.fromEntries(
    Object.entries(hashes(run)).filter(([name]) => name.endsWith("weights.safetensors")),
  );
}

/** The megvii variant at 2.0x has dropout. */
const variants: readonly (readonly [string, GivenSettings])[] = [
  ["one shard", {}],
  ["three shards", { shards: 3, batch_size: 2 }],
  ["dropout", { variant: "megvii", width: 2, max_train_steps: 6 }],
  ["a summary every four steps", { save_summary_steps: 4 }],
];

for (const [name, more] of variants) {
  suite(`loops (${name})`, () => {
    let single: { readonly run: string; readonly events: readonly TrainEvent[] };
    before(async () => {
      const run = fresh();
      const { events } = await trainAndWatch({ ...tinySettings(data, run), ...more });
      single = { run, events };
    });

    for (const iterations_per_loop of more.max_train_steps === undefined ? [3, 10] : [6]) {
      test(`of ${iterations_per_loop} save, score and end as single steps do`, async () => {
        const run = fresh();
        const { events } = await trainAndWatch({ ...tinySettings(data, run), ...more, iterations_per_loop });
        assert.deepEqual(weightsIn(run), weightsIn(single.run));
        assert.deepEqual(saidOf(events, iterations_per_loop), saidOf(single.events, iterations_per_loop));
      });
    }
  });
}

suite("a loop", () => {
  const long: GivenSettings = {
    mode: "train",
    max_epochs: 100,
    max_train_steps: 600,
    iterations_per_loop: 600,
    save_checkpoints_steps: 600,
  };

  test("is left after the step at hand when the run is stopped, and resumed to the same bits", async () => {
    const run = fresh();
    const stop = new AbortController();
    // In the middle of the one loop of the run, which reports nothing before its end.
    const started = train(
      { ...tinySettings(data, run), ...long },
      ({ event }) => {
        if (event === "start") setTimeout(() => stop.abort(), 700);
      },
      stop.signal,
    );
    const { stopped, step } = await started;
    assert.equal(stopped, true);
    assert.ok(step > 0 && step < 600, `stopped at ${step}`);
    const { checkpoint } = await train({ resume: run, max_train_steps: step + 7, iterations_per_loop: 5 });
    const again = await train({
      ...tinySettings(data, fresh()),
      mode: "train",
      max_epochs: 100,
      max_train_steps: step + 7,
    });
    assert.equal(trainedBits(checkpoint), trainedBits(again.checkpoint));
  });

  test("of two ranks, and of two shards each, is that of one process", needsMpi("openmpi"), async () => {
    for (const shards of [2, 4]) {
      const given = {
        ...tinySettings(data, fresh()),
        shards,
        batch_size: 8 / shards,
        max_train_steps: 4,
      };
      const alone = await train(given);
      const run = fresh();
      const options = asOptions({ ...given, log_dir: run, iterations_per_loop: 3 });
      const { code, stderr } = await startRanks("openmpi", 2, ["train", ...options]).ended;
      assert.equal(code, 0, stderr);
      assert.equal(trainedBits(join(run, "step-4")), trainedBits(alone.checkpoint));
    }
  });

  test("whose pictures do not fit into memory is refused with the longest that fits", async () => {
    const run = fresh();
    const huge = { iterations_per_loop: 1e6, max_epochs: 1e6, save_checkpoints_steps: 1e6, batch_size: 16 };
    await assert.rejects(
      train({ ...tinySettings(data, run), ...huge, mode: "train" }),
      (error: unknown) =>
        error instanceof ResourceError &&
        /so many steps in one call/.test(error.message) &&
        /The longest that fits is --iterations_per_loop \d+/.test(error.problem.hint ?? ""),
    );
  });
});
