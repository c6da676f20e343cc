/**
 * Runs that start from weights, and what is said to those that do not: the recipe, the network that the weights are of,
 * the rate of another batch, and the commands that are printed, followed to the letter.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import type { TrainingState } from "../../src/backends/backend.js";
import { UsageError } from "../../src/core/error.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import { drawFolder } from "../../src/prepare/draw/draw-folder.js";
import { compile } from "../../src/program/compile.js";
import { openCheckpoint, saveCheckpoint } from "../../src/run/checkpoint.js";
import { loadTraining } from "../../src/run/load-checkpoint.js";
import type { StartEvent, TrainEvent } from "../../src/run/events.js";
import { train } from "../../src/train/trainer.js";
import { repository } from "../support/paths.js";
import { scratch, tinySettings, trainAndWatch, trainedBits, writeTinySet } from "../support/tiny-run.js";

const main = join(repository, "dist", "src", "cli", "main.js");
const folder = scratch();
const data = writeTinySet(folder);
const photos = join(folder, "photos");
/** A 0.5x network of TensorFlow's form, seen pictures of 32 px: nothing that a default would guess. */
const weights = join(folder, "weights");

before(async () => {
  await drawFolder({ folder: photos, seed: 4, size: 40, train: 20, validation: 10 });
  await train({ ...tinySettings(data, weights), recipe: "documented", max_train_steps: 2, warmup_epochs: 0 });
});

function startOf(events: readonly TrainEvent[]): StartEvent {
  const start = events.find((event) => event.event === "start");
  assert.ok(start, "the run did not start");
  return start;
}

suite("a run that starts from weights", () => {
  test("takes a recipe of its own, and the network and picture size that the weights are of", async () => {
    const log_dir = join(folder, "tuned");
    const given = { data_dir: data, log_dir, init_from: weights, batch_size: 16, eval_batch_size: 5 };
    const { events } = await trainAndWatch({ ...given, max_train_steps: 1 });
    const { recipe, settings, origins, network, image_size, notes } = startOf(events);
    assert.equal(recipe, "fine-tune");
    assert.equal(network, "shufflenet-v2 0.5x (tensorflow)");
    assert.deepEqual([image_size, settings["augment"]], [32, "tensorflow"]);
    assert.deepEqual([origins.width, origins.variant, origins.image_size], ["weights", "weights", "weights"]);
    assert.equal(settings["batch_norm"], "moving");
    assert.deepEqual(notes, []);
  });

  test("moves its classifier more than a run whose layers have one rate, and the rest alike", async () => {
    const moved = async (classifier_rate: number): Promise<Float32Array> => {
      const log_dir = join(folder, `rate-${classifier_rate}`);
      const given = {
        ...tinySettings(data, log_dir),
        max_train_steps: 1,
        average_decay: 0,
        init_from: weights,
      };
      await train({ ...given, recipe: "documented", warmup_epochs: 0, classifier_rate });
      const checkpoint = await openCheckpoint(join(log_dir, "step-1"));
      const network = shuffleNetV2({ variant: "tensorflow", width: 0.5, classes: 3 });
      const program = compile(network, { batch: 8, imageSize: 32, mode: "train" });
      const state = emptyState(program.parameterCount, program.planes.length);
      await loadTraining(checkpoint, program, state);
      const head = program.steps.at(-1);
      assert.ok(head !== undefined && head.weights === 0);
      classifier = 3 * head.inputs.length + 3;
      return state.parameters;
    };
    let classifier = 0;
    const [once, tenfold] = [await moved(1), await moved(10)];
    assert.notDeepEqual(tenfold.subarray(0, classifier), once.subarray(0, classifier));
    assert.deepEqual(tenfold.subarray(classifier), once.subarray(classifier));
  });

  test("goes on after a stop to the same bits", async () => {
    const given = { data_dir: data, init_from: weights, batch_size: 16, eval_batch_size: 5, max_epochs: 2 };
    const { result } = await trainAndWatch({ ...given, log_dir: join(folder, "whole") });
    const log_dir = join(folder, "stopped");
    await trainAndWatch({ ...given, log_dir }, (event) => event.event === "step" && event.step === 2);
    const resumed = await train({ resume: log_dir });
    assert.equal(trainedBits(resumed.checkpoint), trainedBits(result.checkpoint));
  });
});

test("a checkpoint from before a setting existed goes on with what held then", async () => {
  const run = join(folder, "older");
  await trainAndWatch({ ...tinySettings(data, run), max_train_steps: 6 }, (event) => {
    return event.event === "step" && event.step === 2;
  });
  const checkpoint = await openCheckpoint(join(run, "step-2"));
  const { classifier_rate, ...settings } = checkpoint.state.settings;
  assert.equal(classifier_rate, 1);
  const network = shuffleNetV2({ variant: "torchvision", width: 0.5, classes: 3 });
  const program = compile(network, { batch: 8, imageSize: 32, mode: "train" });
  const state = emptyState(program.parameterCount, program.planes.length);
  await loadTraining(checkpoint, program, state);
  await saveCheckpoint(
    run,
    "step-2",
    program,
    { kind: "training", state },
    { ...checkpoint.state, settings },
  );
  const { events } = await trainAndWatch({ resume: run });
  assert.equal(startOf(events).settings["classifier_rate"], 1);
});

suite("the header", () => {
  test("says what a rate was made from when the batch is not the recipe's", () => {
    const { stderr } = riffle(["--batch_size", "8", "--log_dir", "scaled"]);
    assert.match(stderr, /Recipe +small-set: batch 8, rate 0\.05 = 0\.2 at batch 32, scaled to 8, cosine/);
  });

  test("warns where a published rate is kept at another batch", () => {
    const { stderr } = riffle(["--batch_size", "8", "--recipe", "original", "--log_dir", "kept"]);
    assert.match(stderr, /warning: recipe original keeps its published rate 0\.0625.*--lr 0\.00390625/);
    assert.match(stderr, /rate 0\.0625 linear/);
  });

  test("says of few pictures what to expect, and a command from weights that works", () => {
    const { stderr, stdout } = riffle(["--log_dir", "few", "--json"]);
    assert.match(stderr, /Note +20 pictures are few/);
    const events = stdout.trimEnd().split("\n").map((line) => JSON.parse(line) as TrainEvent); // prettier-ignore
    const { notes } = startOf(events);
    const [command = ""] = notes.filter((note) => note.startsWith("npx riffle-vision finetune"));
    assert.match(command, / --from torchvision\/0\.5x /);
    // In place of the file that would be fetched.
    const from = command.replace("torchvision/0.5x", weights);
    const ours = from.replace("npx riffle-vision", `${process.execPath} ${main}`);
    const followed = spawnSync("sh", ["-c", ours], { cwd: folder, encoding: "utf8", timeout: 120_000 });
    assert.equal(followed.status, 0, followed.stderr);
    assert.match(followed.stderr, /Recipe +fine-tune:/);
    // Weights of two steps have no statistics worth keeping.
    assert.match(followed.stderr, /warning: the moving statistics .* do not fit .* measured anew/);
  });
});

test("the hint for a batch of more pictures than there are names a rate, and works", async () => {
  const given = {
    ...tinySettings(data, join(folder, "hinted")),
    batch_size: 64,
    lr: 0.04,
    max_train_steps: 1,
  };
  let hint = "";
  await assert.rejects(train(given), (error) => {
    assert.ok(error instanceof UsageError);
    hint = error.problem.hint ?? "";
    return true;
  });
  assert.equal(hint, "--batch_size 32 --lr 0.02");
  const argv = ["train", "--data_dir", data, "--log_dir", "hinted", "--max_train_steps", "1", ...tiny];
  const { status, stderr } = run([...argv, ...hint.split(" ")]);
  assert.equal(status, 0, stderr);
});

const tiny = ["--width", "0.5", "--image_size", "32"];

function riffle(options: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  return run(["train", "--data_dir", photos, "--max_train_steps", "1", ...tiny, ...options]);
}

function run(argv: readonly string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...argv], {
    cwd: folder,
    encoding: "utf8",
    timeout: 120_000,
  });
  return { status, stdout, stderr };
}

function emptyState(parameters: number, planes: number): TrainingState {
  const floats = (): Float32Array => new Float32Array(parameters);
  return {
    parameters: floats(),
    momentum: floats(),
    averages: floats(),
    statistics: new Float32Array(2 * planes),
  };
}
