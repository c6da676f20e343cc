import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";

import { DivergedError, ResourceError, RiffleError, UsageError } from "../../src/core/error.js";
import { encodeSafetensors } from "../../src/formats/safetensors.js";
import { openSafetensors } from "../../src/formats/safetensors-file.js";
import type { TrainEvent } from "../../src/run/events.js";
import { train } from "../../src/train/trainer.js";
import { hashes, scratch, steps, tinySettings, trainAndWatch, writeTinySet } from "../support/tiny-run.js";
import { trainChild as child } from "../support/paths.js";

const folder = scratch();
const data = writeTinySet(folder);

let runs = 0;
function newRun(): string {
  return join(folder, `run-${runs++}`);
}

async function refusal<E extends RiffleError>(
  kind: new (...args: never[]) => E,
  act: Promise<unknown>,
): Promise<E["problem"]> {
  let problem: RiffleError["problem"] | undefined;
  await assert.rejects(act, (error) => {
    assert.ok(error instanceof kind, String(error));
    problem = error.problem;
    return true;
  });
  return problem!;
}

suite("a loss that is no longer finite", () => {
  test("stops the run with the step and the last good checkpoint, and no file holds it", async () => {
    const donor = newRun();
    await train({ ...tinySettings(data, donor), max_train_steps: 1 });
    const weights = join(folder, "overflowing.safetensors");
    await rewriteTensor(join(donor, "best", "weights.safetensors"), weights, "classifier.weight", 3e38);

    const run = newRun();
    const before: Record<string, string> = {};
    const problem = await refusal(
      DivergedError,
      train({ ...tinySettings(data, run), init_from: weights }, (event) => {
        if (event.event === "start") Object.assign(before, hashes(join(run, "step-0")));
      }),
    );
    assert.match(problem.where ?? "", /^step 1,/);
    assert.match(problem.safe ?? "", /last good checkpoint is .*step-0$/);
    assert.deepEqual(readdirSync(run).sort(), ["events.jsonl", "recipe.json", "split.json", "step-0"]);
    assert.deepEqual(hashes(join(run, "step-0")), before);
    // Resuming meets the same step and the same refusal.
    assert.equal((await refusal(DivergedError, train({ resume: run }))).where, problem.where);
  });
});

/** Copies a file of weights with one tensor filled with `value`. */
async function rewriteTensor(from: string, to: string, name: string, value: number): Promise<void> {
  const file = await openSafetensors(from);
  const tensors = [];
  for (const [tensor, { shape }] of file.tensors) {
    const numbers = await file.readFloat32(tensor);
    // Alternating signs, so that no sum cancels the overflow.
    tensors.push({
      name: tensor,
      shape,
      data: tensor === name ? numbers.map((_, i) => (i % 2 === 0 ? value : -value)) : numbers,
    });
  }
  await file.close();
  writeFileSync(to, Buffer.concat(encodeSafetensors(tensors, new Map())));
}

suite("a second trainer in the same folder", () => {
  test("is refused at once, naming the first, which goes on", async () => {
    const run = newRun();
    let second: Promise<RiffleError["problem"]> | undefined;
    const { result } = await trainAndWatch(tinySettings(data, run), (event) => {
      if (event.event === "step" && event.step === 3)
        second = refusal(ResourceError, train({ resume: run, max_train_steps: 1 }));
      return false;
    });
    assert.equal(result.step, steps);
    const problem = await second;
    assert.match(problem?.found ?? "", new RegExp(`process ${process.pid} on ${hostname()}`));
  });

  test("in another process is refused too, with exit code 6's error", async () => {
    const run = newRun();
    const first = spawn(
      process.execPath,
      [child, JSON.stringify({ ...tinySettings(data, run), max_epochs: 5000 })],
      {
        stdio: ["ignore", "pipe", "inherit"],
      },
    );
    try {
      await once(first.stdout, "data");
      const problem = await refusal(ResourceError, train({ resume: run, max_train_steps: 1 }));
      assert.match(problem.found ?? "", new RegExp(`process ${first.pid}`));
    } finally {
      first.kill("SIGKILL");
    }
    await once(first, "exit");
    // Its lock is stale now.
    const { result } = await trainAndWatch({ resume: run }, (event) => event.event === "step");
    assert.equal(result.stopped, true);
  });

  test("a lock whose process number belongs to another process now is taken over", async () => {
    const run = newRun();
    mkdirSync(run);
    const stale = { pid: process.pid, host: hostname(), started: "1" };
    writeFileSync(join(run, ".lock"), JSON.stringify(stale));
    const { result } = await trainAndWatch({ ...tinySettings(data, run), max_train_steps: 1 });
    assert.equal(result.step, 1);
    assert.ok(!readdirSync(run).includes(".lock"), "the lock was left behind");
  });

  test("H3: a container that was killed and comes back under another host name goes on without a hand", async () => {
    const run = newRun();
    mkdirSync(run);
    writeFileSync(join(run, ".lock"), JSON.stringify({ pid: 1, host: "elsewhere", started: "1" }));
    const { result } = await trainAndWatch({ ...tinySettings(data, run), max_train_steps: 1 });
    assert.equal(result.step, 1);
  });
});

suite("an output folder", () => {
  test("that is a file is refused before any data is read", async () => {
    const run = newRun();
    writeFileSync(run, "a file");
    const problem = await refusal(ResourceError, train({ ...tinySettings("no-such-data", run) }));
    assert.match(problem.what, /output folder cannot be written/);
    assert.equal(readFileSync(run, "utf8"), "a file");
  });

  test("below which nothing can be made is refused", async () => {
    await refusal(ResourceError, train(tinySettings(data, "/proc/riffle/run")));
  });

  test("in which a checkpoint cannot be saved: the run goes on, warns, and saves the next", async () => {
    const run = newRun();
    mkdirSync(run);
    writeFileSync(join(run, "step-8.txt"), "");
    const { events } = await trainAndWatch(tinySettings(data, run), (event) => {
      // What stands in the way is someone else's and is left alone.
      if (event.event === "step" && event.step === 7) {
        mkdirSync(join(run, "step-8"));
        writeFileSync(join(run, "step-8", "notes.txt"), "mine");
      }
      return false;
    });
    const warnings = events.filter((event) => event.event === "warning");
    assert.equal(warnings.length, 1);
    assert.match(warnings[0]?.event === "warning" ? warnings[0].what : "", /not saved at step 8.*notes\.txt/);
    assert.equal(readFileSync(join(run, "step-8", "notes.txt"), "utf8"), "mine");
    assert.equal(events.at(-1)?.event, "end");
  });

  test("in which the last checkpoint cannot be saved fails the run", async () => {
    const run = newRun();
    const stopped = trainAndWatch(tinySettings(data, run), (event) => {
      if (event.event === "step" && event.step === steps) writeFileSync(join(run, `step-${steps}`), "mine");
      return false;
    });
    const problem = await refusal(ResourceError, stopped);
    assert.match(problem.where ?? "", new RegExp(`step-${steps}$`));
    assert.equal(readFileSync(join(run, `step-${steps}`), "utf8"), "mine");
  });
});

suite("checkpoints", () => {
  test("are kept up to keep_checkpoint_max, and someone else's files are not touched", async () => {
    const run = newRun();
    const { events } = await trainAndWatch(
      { ...tinySettings(data, run), keep_checkpoint_max: 2, save_checkpoints_steps: 3 },
      (event) => {
        if (event.event === "save" && event.step === 6) writeFileSync(join(run, "step-6", "mine.txt"), "");
        return false;
      },
    );
    assert.deepEqual(
      readdirSync(run)
        .filter((name) => name.startsWith("step-"))
        .sort(),
      ["step-15", "step-18", "step-6"],
    );
    assert.ok(events.some((event) => event.event === "warning" && event.what.includes("step-6")));
  });
});

suite("settings that cannot work with the data", () => {
  for (const [name, change, what] of [
    ["a batch larger than the set", { batch_size: 49 }, /larger than the training set/],
    ["fewer outputs than classes", { num_classes: 2 }, /fewer outputs/],
    ["a batch of one that leaves one value per channel", { batch_size: 1 }, /only one value per channel/],
    ["no data", { data_dir: undefined }, /no data/],
  ] as const) {
    test(`${name} is refused before training`, async () => {
      const run = newRun();
      const problem = await refusal(UsageError, train({ ...tinySettings(data, run), ...change }));
      assert.match(problem.what, what);
      assert.equal(existsSync(run), false);
    });
  }

  test("a batch that memory cannot hold is refused with the estimate and the largest that fits", async () => {
    const run = newRun();
    const big = writeTinySet(folder, "big.npz", 3);
    const problem = await refusal(
      ResourceError,
      train({ ...tinySettings(big, run), batch_size: 48, image_size: 4096, width: 2 }),
    );
    assert.match(problem.what, /too little memory/);
    assert.match(problem.expected ?? "", /MB|more than one program can address/);
    assert.match(problem.hint ?? "", /--batch_size \d+|not even one/i);
    assert.equal(existsSync(run), false);
  });

  test("the same under a limit on the address space", { skip: process.platform !== "linux" }, () => {
    const given = { ...tinySettings(data, newRun()), batch_size: 48, image_size: 640 };
    const { stderr, status } = spawnSync(
      "sh",
      ["-c", `ulimit -v 2000000; exec "$0" "$@"`, process.execPath, child, JSON.stringify(given)],
      { encoding: "utf8" },
    );
    assert.notEqual(status, 0);
    assert.match(stderr, /ResourceError.*too little memory for this batch.*ulimit -v/s);
  });
});

suite("the events", () => {
  test("have exactly these fields, in events.jsonl too", async () => {
    const run = newRun();
    const { events } = await trainAndWatch(tinySettings(data, run));
    const fields = (event: object): string => Object.keys(event).join(" ");
    const kinds = new Map(events.map((event) => [event.event, fields(event)]));
    assert.deepEqual(Object.fromEntries(kinds), {
      start:
        "event run network classes image_size parameters train_images validation_images scored records cache_folder steps " +
        "steps_per_epoch images_per_step epochs measured backend machine ranks memory recipe scaled_rate solved class_weights notes settings origins resumed",
      save: "event step checkpoint",
      step: "event step epoch loss cross_entropy decay_loss top1 top5 learning_rate images_per_second waiting exchanging seconds_left loss_scale skipped",
      evaluating: "event done images",
      evaluation: "event step epoch weights images loss top1 top5 best",
      end: "event step epoch reason unimproved best loss top1 top5 images_per_second skipped checkpoint",
    });
    const lines = readFileSync(join(run, "events.jsonl"), "utf8").trimEnd().split("\n");
    const written = lines.map((line) => JSON.parse(line) as { time: string } & TrainEvent);
    const kept = events.filter((event) => event.event !== "evaluating");
    assert.deepEqual(
      written.map(({ time, ...event }) => {
        assert.ok(!Number.isNaN(Date.parse(time)));
        return event;
      }),
      kept,
    );
  });

  test("go on without events.jsonl when it cannot be written", async () => {
    const run = newRun();
    mkdirSync(join(run, "events.jsonl"), { recursive: true });
    const { result } = await trainAndWatch({ ...tinySettings(data, run), max_train_steps: 2 });
    assert.equal(result.step, 2);
    rmSync(run, { recursive: true });
  });

  test("of the files in a run folder: what a finished run consists of", async () => {
    const run = newRun();
    await trainAndWatch({ ...tinySettings(data, run), keep_checkpoint_max: 1 });
    // TensorBoard's files have the time in their names.
    const names = Object.keys(hashes(run)).map((name) => name.replace(/tfevents\.\d+\..*/, "tfevents"));
    assert.deepEqual(names.sort(), [
      "best/SHA256SUMS",
      "best/state.json",
      "best/weights.safetensors",
      "eval/events.out.tfevents",
      "eval_parameters/events.out.tfevents",
      "events.jsonl",
      "events.out.tfevents",
      "recipe.json",
      "split.json",
      ...["SHA256SUMS", "state.json", "weights.safetensors"].map((name) => `step-${steps}/${name}`),
    ]);
  });
});
