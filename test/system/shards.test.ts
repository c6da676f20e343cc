/** Steps of several shards in one process: gradient accumulation, to bits that several processes will have too. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { suite, test } from "node:test";

import { ALONE } from "../../src/distributed/alone.js";
import { CheckpointError, UsageError } from "../../src/core/error.js";
import type { StartEvent, StepEvent, TrainEvent } from "../../src/run/events.js";
import type { GivenSettings } from "../../src/settings/settings.js";
import { type Plan, planRun } from "../../src/train/plan.js";
import { train } from "../../src/train/trainer.js";
import { optionsInFull } from "../support/native.js";
import { repository } from "../support/paths.js";
import { scratch, tinySettings, trainAndWatch, trainedBits, writeTinySet } from "../support/tiny-run.js";

const program = join(repository, "dist", "src", "cli", "main.js");
const folder = scratch();
const data = writeTinySet(folder);
let runs = 0;

/** 48 pictures: three steps an epoch of four shards of four, two epochs. */
function inShards(more: GivenSettings = {}): GivenSettings {
  const log_dir = join(folder, `run-${runs++}`);
  return { ...tinySettings(data, log_dir), batch_size: 4, shards: 4, max_epochs: 2, ...more };
}

function startOf(events: readonly TrainEvent[]): StartEvent {
  const start = events.find((event) => event.event === "start");
  assert.ok(start);
  return start;
}

function stepsOf(events: readonly TrainEvent[]): StepEvent[] {
  return events.filter((event) => event.event === "step");
}

function numbersOf(events: readonly TrainEvent[]): unknown[] {
  return events.flatMap((event) =>
    event.event === "step"
      ? [[event.step, event.epoch, event.loss, event.top1, event.top5, event.learning_rate]]
      : event.event === "evaluation"
        ? [[event.step, event.loss, event.top1]]
        : [],
  );
}

function planOf(given: GivenSettings, ranks?: { rank: number; size: number }): Promise<Plan> {
  // The first rank has looked at the pictures.
  const gather = () => Promise.resolve([Buffer.from('{"result":{"train":[],"validation":[]}}')]);
  return planRun(given, given.log_dir as string, () => undefined, undefined, {
    ...ALONE,
    ...(ranks === undefined ? {} : { ...ranks, gather }),
  });
}

suite("a run of four shards", () => {
  const straight = inShards();
  const trained = trainAndWatch(straight);

  test("counts steps, epochs and pictures by all of them", async () => {
    const { result, events } = await trained;
    const { steps, steps_per_epoch, images_per_step } = startOf(events);
    assert.deepEqual([steps, steps_per_epoch, images_per_step], [6, 3, 16]);
    assert.deepEqual([result.step, result.epoch], [6, 2]);
    assert.deepEqual(
      stepsOf(events).map(({ step, epoch }) => [step, epoch]),
      [1, 2, 3, 4, 5, 6].map((step) => [step, step / 3]),
    );
    for (const { top1, top5 } of stepsOf(events)) {
      assert.ok(Number.isInteger(top1 * 16) && top1 <= 1, `top-1 ${top1}`);
      assert.equal(top5, 1); // of three classes
    }
  });

  for (const stop of [1, 3, 4]) {
    test(`stopped after step ${stop} goes on to the same bits, losses and scores`, async () => {
      const { result: whole, events } = await trained;
      const given = inShards();
      const first = await trainAndWatch(given, (event) => event.event === "step" && event.step === stop);
      assert.equal(first.result.step, stop);
      const second = await trainAndWatch({ resume: given.log_dir });
      assert.equal(trainedBits(second.result.checkpoint), trainedBits(whole.checkpoint));
      assert.deepEqual([...numbersOf(first.events), ...numbersOf(second.events)], numbersOf(events));
      assert.equal(startOf(second.events).settings["shards"], 4);
    });
  }

  test("has other bits than two shards of eight or one of sixteen: each has its own batch norm", async () => {
    const all = await Promise.all(
      [
        trained,
        trainAndWatch(inShards({ shards: 2, batch_size: 8 })),
        trainAndWatch(inShards({ shards: 1, batch_size: 16 })),
      ].map(async (run) => trainedBits((await run).result.checkpoint)),
    );
    assert.equal(new Set(all).size, 3);
  });

  test("decoded ahead or not ends with the same bits", async () => {
    const { result } = await trainAndWatch(inShards({ enable_data_pre_proc: false }));
    assert.equal(trainedBits(result.checkpoint), trainedBits((await trained).result.checkpoint));
  });

  test("is not resumed with another number", async () => {
    await trained;
    await assert.rejects(
      train({ resume: straight.log_dir, shards: 2 }),
      (error: unknown) =>
        error instanceof CheckpointError && /expected shards 4, found shards 2/.test(error.message),
    );
  });
});

suite("the header", () => {
  const header = (...options: string[]): string => {
    const argv = [
      "train",
      "--data_dir",
      data,
      "--width",
      "0.5",
      "--image_size",
      "32",
      "--max_train_steps",
      "1",
    ];
    const run = ["--log_dir", join(folder, `run-${runs++}`), "--mode", "train"];
    return spawnSync(process.execPath, [program, ...argv, ...run, ...options], { encoding: "utf8" }).stderr;
  };

  test("says how many pictures a step has, and what the rate was made from", () => {
    const said = header("--shards", "4", "--batch_size", "4");
    assert.match(said, /^Shards +4 shards of 4: 16 pictures a step, each with its own batch norm$/m);
    assert.match(said, /^Recipe +small-set: batch 4, rate 0\.1 = 0\.2 at batch 32, scaled to 16, cosine, /m);
  });

  test("says what became of rates that are kept", () => {
    const said = header("--shards", "4", "--batch_size", "4", "--recipe", "original", ...optionsInFull);
    assert.match(said, /rate 0\.25 = 4 shards of 0\.0625 at batch 128, linear to 0\.000004, /);
    assert.match(said, /warning: .* 0\.0625 for each of 4 shards.*--lr 0\.0078125/);
  });

  test("says nothing of shards where there is one", () => {
    assert.doesNotMatch(header("--batch_size", "8"), /shard/i);
  });
});

suite("one shard", () => {
  test("that is given is a run without shards, to the bit", async () => {
    const one = { shards: 1, batch_size: 8, max_epochs: 0.5 };
    const [plain, given] = await Promise.all([
      trainAndWatch(inShards({ ...one, shards: undefined })),
      trainAndWatch(inShards(one)),
    ]);
    assert.equal(trainedBits(given.result.checkpoint), trainedBits(plain.result.checkpoint));
    assert.deepEqual(numbersOf(given.events), numbersOf(plain.events));
  });
});

suite("a plan", () => {
  test("gives each rank its neighbouring shards, one each unless told", async () => {
    for (const [given, rank, expected] of [
      [{ shards: 8 }, 3, { first: 6, count: 2, of: 8 }],
      [{ shards: undefined }, 3, { first: 3, count: 1, of: 4 }],
    ] as const) {
      const plan = await planOf(inShards({ ...given, batch_size: 2 }), { rank, size: 4 });
      await plan.data.close();
      assert.deepEqual(plan.shards, expected);
      assert.equal(plan.settings.shards, expected.of);
      assert.equal(plan.length.stepsPerEpoch, Math.floor(48 / (2 * expected.of)));
    }
  });

  test("of ranks that cannot share the shards is refused", () =>
    assert.rejects(
      planOf(inShards({ shards: 6 }), { rank: 0, size: 4 }),
      /6 shards .* 4 ranks.*1, 3 or 6 ranks/,
    ));

  test("of more shards than pictures for them is refused with a batch that fits", () =>
    assert.rejects(
      planOf(inShards({ shards: 16 })),
      /one of 16 .*at most 3, found 4.*--batch_size 2 --lr 0.01$/,
    ));

  test("of another number of ranks than were started is refused", async () => {
    for (const [given, size, message] of [
      [{ rank_size: 8 }, 1, /started alone.*Start that many with npx riffle-vision launch --ranks 8/],
      [{ rank_size: 8 }, 4, /another number .*expected 4, or nothing, found --rank_size 8.*launch --ranks 8/],
      [{ rank_size: 1 }, 4, /another number .*Leave --rank_size out/],
    ] as const) {
      await assert.rejects(
        planOf(inShards(given), { rank: 0, size }),
        (error: unknown) => error instanceof UsageError && message.test(error.message),
      );
    }
    const plan = await planOf(inShards({ rank_size: 4 }), { rank: 0, size: 4 });
    await plan.data.close();
  });

  test("of one batch norm over shards that are not computed at the same time is refused", () =>
    assert.rejects(
      planOf(inShards({ sync_batch_norm: true })),
      /expected 4 processes for 4 shards, found one process/,
    ));

  test("of a resumed run may be of another number of ranks, whatever the run began with", async () => {
    const given = inShards({ rank_size: 1, max_train_steps: 1, mode: "train" });
    await train(given);
    const plan = await planOf(
      { ...given, resume: given.log_dir, rank_size: undefined },
      { rank: 1, size: 2 },
    );
    await plan.data.close();
    assert.deepEqual(plan.shards, { first: 2, count: 2, of: 4 });
  });
});
