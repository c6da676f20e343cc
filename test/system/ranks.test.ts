/**
 * Ranks give the bits of one process with as many shards, whatever moves their gradients and however the run was stopped.
 *
 * `RIFFLE_RANKS=all` makes a hundred steps in every combination (about ten minutes on two cores); otherwise a few steps in those
 * that differ most.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import type { TrainEvent } from "../../src/run/events.js";
import type { GivenSettings } from "../../src/settings/settings.js";
import { train } from "../../src/train/trainer.js";
import { asOptions } from "../support/fresh-runs.js";
import { families, type Family, needsMpi, program, startRanks } from "../support/mpi.js";
import { repository } from "../support/paths.js";
import { gradientsOf } from "../support/synchronised-child.js";
import { scratch, trainedBits, writeTinySet } from "../support/tiny-run.js";

const isFull = process.env["RIFFLE_RANKS"] === "all";
const steps = isFull ? 100 : 8;
const folder = scratch();
const data = writeTinySet(folder);
let runs = 0;

/** 64 pictures a step at 64 px, in 8 shards: the tiny set's 48 pictures fill six shards' share of an epoch at batch 4. */
const settings: GivenSettings = {
  data_dir: data,
  recipe: "small-set",
  width: 0.5,
  image_size: 64,
  batch_size: isFull ? 6 : 3,
  shards: 8,
  max_epochs: 200,
  max_train_steps: steps,
  lr: 0.02,
  epochs_between_evals: isFull ? 25 : 2,
  save_checkpoints_steps: steps / 2,
  save_summary_steps: 0,
  log_steps: 1,
};

function fresh(): string {
  return join(folder, `run-${runs++}`);
}

interface Trained {
  readonly bits: string;
  readonly events: readonly TrainEvent[];
}

function readRun(run: string): Trained {
  const lines = readFileSync(join(run, "events.jsonl"), "utf8").trim().split("\n");
  return {
    bits: trainedBits(join(run, `step-${steps}`)),
    events: lines.map((line) => JSON.parse(line) as TrainEvent),
  };
}

async function trainInRanks(family: Family, ranks: number, more: GivenSettings = {}): Promise<Trained> {
  const run = fresh();
  const given = more.resume === undefined ? { ...settings, log_dir: run, ...more } : more;
  const { code, stderr } = await startRanks(family, ranks, ["train", ...asOptions(given)]).ended;
  assert.equal(code, 0, stderr);
  return readRun(more.resume ?? run);
}

/** What a run learned and what it said of it, times aside. */
function numbersOf(events: readonly TrainEvent[]): unknown[] {
  return events.flatMap((event) =>
    event.event === "step"
      ? [[event.step, event.loss, event.top1, event.top5, event.learning_rate]]
      : event.event === "evaluation"
        ? [[event.step, event.images, event.loss, event.top1, event.top5, event.best]]
        : [],
  );
}

function startOf(events: readonly TrainEvent[]): TrainEvent & { readonly event: "start" } {
  return events.find((event) => event.event === "start") as TrainEvent & { readonly event: "start" };
}

interface Way {
  readonly family: Family;
  readonly ranks: number;
  readonly more?: GivenSettings;
}

const messages: GivenSettings = { exchange: "messages" };
const short: readonly Way[] = [
  { family: "openmpi", ranks: 2 },
  { family: "mpich", ranks: 4 },
  { family: "openmpi", ranks: 8, more: { ...messages, bucket_size: 64 } },
  { family: "mpich", ranks: 2, more: { ...messages, bucket_size: 4096, hcom_parallel: false } },
];
const full: readonly Way[] = families.flatMap((family) =>
  [1, 2, 4, 8].flatMap((ranks) =>
    [
      {},
      ...[64, 4096].flatMap((bucket_size) =>
        [true, false].map((hcom_parallel) => ({ ...messages, bucket_size, hcom_parallel })),
      ),
    ].map((more) => ({ family, ranks, more })),
  ),
);

suite("the bits of one process with eight shards", () => {
  let alone: Trained;
  before(async () => {
    const run = fresh();
    await train({ ...settings, log_dir: run });
    alone = readRun(run);
  });

  for (const { family, ranks, more = {} } of isFull ? full : short) {
    const name = `${ranks} ranks, ${family}${Object.entries(more)
      .map(([key, value]) => `, ${key} ${value}`)
      .join("")}`;
    test(name, needsMpi(family), async () => {
      const { bits, events } = await trainInRanks(family, ranks, more);
      assert.equal(bits, alone.bits);
      assert.deepEqual(numbersOf(events), numbersOf(alone.events));
      if (ranks === 1) return;
      const { ranks: said, images_per_step } = startOf(events);
      assert.equal(images_per_step, 8 * (settings.batch_size ?? 0));
      const parallel = more.hcom_parallel === false ? "messages" : "overlapped";
      assert.deepEqual([said?.size, said?.machines], [ranks, 1]);
      assert.equal(said?.exchange, more.exchange === undefined ? "window" : parallel);
      // Of 0.5x, 1.4 MB of gradients.
      if (more.bucket_size === 64) assert.ok((said?.buckets ?? 0) > 8);
      if (more.bucket_size === 4096) assert.equal(said?.buckets, 1);
    });
  }

  test("two machines with a link of 1 Gbit/s between them", needsNamespaces(), () => {
    const run = fresh();
    const argv = ["1gbit", process.execPath, program, "train", ...asOptions({ ...settings, log_dir: run })];
    const script = join(repository, "scripts", "two-machines.sh");
    const { status, stderr } = spawnSync(script, argv, { encoding: "utf8" });
    assert.equal(status, 0, stderr);
    const { bits, events } = readRun(run);
    assert.equal(bits, alone.bits);
    assert.deepEqual(numbersOf(events), numbersOf(alone.events));
    const said = startOf(events).ranks;
    assert.deepEqual([said?.size, said?.machines, said?.exchange], [2, 2, "overlapped"]);
  });

  test(
    "stopped on eight ranks and resumed on two, then by one process",
    needsMpi("openmpi", "mpich"),
    async () => {
      const run = fresh();
      const half = { ...settings, log_dir: run, max_train_steps: steps / 2 };
      const first = await startRanks("openmpi", 8, ["train", ...asOptions(half)]).ended;
      assert.equal(first.code, 0, first.stderr);
      const more = { resume: run, max_train_steps: steps - 2 };
      const second = await startRanks("mpich", 2, ["train", ...asOptions(more)]).ended;
      assert.equal(second.code, 0, second.stderr);
      await train({ resume: run, max_train_steps: steps });
      assert.equal(readRun(run).bits, alone.bits);
    },
  );
});

suite("--sync_batch_norm", () => {
  for (const exchange of ["window", "messages", "overlapped"] as const) {
    test(`makes one batch norm of two ranks' pictures (${exchange})`, needsMpi("openmpi"), async () => {
      const out = fresh();
      const script = join(repository, "dist", "test", "support", "synchronised-child.js");
      const { code, stderr } = await startRanks("openmpi", 2, [exchange, out], { script }).ended;
      assert.equal(code, 0, stderr);
      const numbers = new Float32Array(new Uint8Array(readFileSync(out)).buffer);
      const [loss = NaN, gradients] = [numbers[0], numbers.subarray(1)];
      const alone = await gradientsOf({ rank: 0, size: 1 }, "none");
      assert.ok(Math.abs(loss - alone.loss) < 1e-6 * alone.loss, `${loss} and ${alone.loss}`);
      for (const { name, offset, size } of alone.program.parameters) {
        // A depthwise layer's beta goes into a batch norm, which takes it out again: its gradient is rounding alone.
        if (name.endsWith("depthwise.beta")) continue;
        const one = alone.gradients.subarray(offset, offset + size);
        const difference = norm(one.map((value, i) => value - (gradients[offset + i] as number)));
        // Sums of f32 in another order come to thousandths; batch norms that differ move a gradient by its own size.
        assert.ok(difference <= 1e-2 * norm(one), `${name}: ${difference} of ${norm(one)}`);
      }
    });
  }
});

function norm(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));
}

/** Options for node:test: network namespaces are root's, and not every container's. */
function needsNamespaces(): { skip: false | string } {
  const { skip } = needsMpi("openmpi");
  if (skip !== false) return { skip };
  const name = `riffle-test-${process.pid}`;
  const made = spawnSync("ip", ["netns", "add", name]).status === 0;
  if (made) spawnSync("ip", ["netns", "delete", name]);
  return { skip: made ? false : "no network namespace can be made here" };
}
