import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import { CheckpointError } from "../../src/core/error.js";
import { Draws, streams } from "../../src/core/random.js";
import { checkpointFiles, openCheckpoint } from "../../src/run/checkpoint.js";
import { findCheckpoint, newestValid } from "../../src/run/find-checkpoint.js";
import { evaluate } from "../../src/inference/evaluate.js";
import { train } from "../../src/train/trainer.js";
import { program } from "../support/paths.js";
import {
  hashes,
  scratch,
  steps,
  tinySettings,
  trainAndWatch,
  trainedBits,
  writeTinySet,
} from "../support/tiny-run.js";

const folder = scratch();
const data = writeTinySet(folder);
const straight = join(folder, "straight");
before(() => train(tinySettings(data, straight)));

let copies = 0;

/** A copy of the finished run without its last checkpoint: the newest are step-16 and step-12. */
function copyOfRun(): string {
  const copy = join(folder, `copy-${copies++}`);
  cpSync(straight, copy, { recursive: true });
  rmSync(join(copy, `step-${steps}`), { recursive: true });
  return copy;
}

function flipBit(path: string, bit: number): void {
  const bytes = readFileSync(path);
  bytes[bit >> 3]! ^= 1 << (bit & 7);
  writeFileSync(path, bytes);
}

async function problemOf(act: Promise<unknown>): Promise<CheckpointError["problem"]> {
  let problem: CheckpointError["problem"] | undefined;
  await assert.rejects(act, (error) => {
    assert.ok(error instanceof CheckpointError, String(error));
    assert.equal(error.exitCode, 4);
    problem = error.problem;
    return true;
  });
  return problem!;
}

suite("a damaged checkpoint", () => {
  test("is noticed whichever bit of it is flipped", async () => {
    const checkpoint = join(copyOfRun(), "step-16");
    for (const file of checkpointFiles) {
      const path = join(checkpoint, file);
      const whole = readFileSync(path);
      const bits = 8 * whole.length;
      const draws = new Draws(1, streams.draw, 0, checkpointFiles.indexOf(file));
      const picked = [0, bits - 1, ...Array.from({ length: 20 }, () => draws.below(bits))];
      for (const bit of picked) {
        flipBit(path, bit);
        const problem = await problemOf(openCheckpoint(checkpoint));
        assert.match(problem.where ?? "", /step-16/, `bit ${bit} of ${file}`);
        writeFileSync(path, whole);
      }
    }
    await openCheckpoint(checkpoint); // whole again
  });

  for (const file of checkpointFiles) {
    test(`is noticed when ${file} is cut short, grown, emptied or gone`, async () => {
      const checkpoint = join(copyOfRun(), "step-16");
      const path = join(checkpoint, file);
      const whole = readFileSync(path);
      for (const length of [0, 1, Math.floor(whole.length / 2), whole.length - 1]) {
        truncateSync(path, length);
        await problemOf(openCheckpoint(checkpoint));
        writeFileSync(path, whole);
      }
      writeFileSync(path, Buffer.concat([whole, Buffer.from("x")]));
      await problemOf(openCheckpoint(checkpoint));
      rmSync(path);
      await problemOf(openCheckpoint(checkpoint));
      mkdirSync(path);
      await problemOf(openCheckpoint(checkpoint));
    });
  }

  test("is noticed when its files are of two steps", async () => {
    const run = copyOfRun();
    cpSync(join(run, "step-12", "weights.safetensors"), join(run, "step-16", "weights.safetensors"));
    await problemOf(openCheckpoint(join(run, "step-16")));
  });

  test("that was cut short says how long it should be and is", async () => {
    const checkpoint = join(copyOfRun(), "step-16");
    const path = join(checkpoint, "weights.safetensors");
    const { size } = statSync(path);
    truncateSync(path, size - 100);
    assert.deepEqual(await problemOf(openCheckpoint(checkpoint)), {
      what: "the checkpoint is cut short",
      where: path,
      expected: `${size} bytes`,
      found: `${size - 100}`,
      safe: "The checkpoint is untouched",
    });
  });

  test("is passed over for the one before it, naming both, and the run ends with the same bits", async () => {
    const run = copyOfRun();
    truncateSync(join(run, "step-16", "weights.safetensors"), 1000);
    const { result, events } = await trainAndWatch({ resume: run });
    const warning = events.find((event) => event.event === "warning");
    assert.ok(warning?.event === "warning");
    assert.match(warning.what, /step-16 .*step-12/);
    const start = events.find((event) => event.event === "start");
    assert.ok(start?.event === "start");
    assert.deepEqual(start.resumed, { checkpoint: join(run, "step-12"), step: 12 });
    assert.equal(trainedBits(result.checkpoint), trainedBits(join(straight, `step-${steps}`)));
    await openCheckpoint(join(run, "step-16")); // written anew
  });

  test("that was named itself is refused, not passed over", async () => {
    const run = copyOfRun();
    rmSync(join(run, "step-16", "state.json"));
    const before = hashes(run);
    await problemOf(train({ resume: join(run, "step-16") }));
    assert.deepEqual(hashes(run), before);
  });
});

suite("a run without a whole checkpoint", () => {
  test("is refused with the reason, and does not start over", async () => {
    const run = copyOfRun();
    for (const step of [0, 4, 8, 12, 16]) flipBit(join(run, `step-${step}`, "weights.safetensors"), 12345);
    const before = hashes(run);
    const problem = await problemOf(train({ resume: run }));
    assert.equal(problem.what, "no checkpoint of 5 is whole");
    assert.match(problem.found ?? "", /step-16: .*damaged/);
    assert.deepEqual(hashes(run), before);
  });

  test("that never had one is refused", async () => {
    const empty = join(folder, "empty");
    mkdirSync(empty);
    assert.equal((await problemOf(newestValid(empty))).what, "there is no checkpoint");
  });
});

/** What a safetensors header says of the tensor that the test below damages. */
interface Tensors {
  readonly "conv1.weight": { readonly data_offsets: readonly [begin: number, end: number] };
}

suite("using a network", () => {
  test("whose best/ is damaged takes the newest whole step, and every command says so", () => {
    const run = copyOfRun();
    truncateSync(join(run, "best", "weights.safetensors"), 1000);
    const again = ["--log_dir", join(folder, "again"), "--data_dir", data];
    for (const args of [
      ["evaluate", run],
      ["predict", run, data],
      ["export", run, "--format", "safetensors"],
      ["import", run, "--log_dir", join(folder, "imported")],
      [
        "train",
        ...again,
        "--init_from",
        run,
        "--max_train_steps",
        "1",
        "--image_size",
        "32",
        "--batch_size",
        "8",
      ],
    ]) {
      for (const json of [[], ["--json"]]) {
        rmSync(join(folder, "again"), { recursive: true, force: true });
        rmSync(join(folder, "imported"), { recursive: true, force: true });
        rmSync(join(run, "step-16.safetensors"), { force: true });
        const command = spawnSync(process.execPath, [program, ...args, ...json], { encoding: "utf8" });
        const said = json.length === 0 ? command.stderr + command.stdout : command.stdout;
        assert.equal(command.status, 0, command.stderr);
        assert.match(said.replaceAll("\n", " "), /best: .*cut short.*step-16/, args.join(" "));
      }
    }
  });

  test("takes best/ of a run, or the checkpoint named, or its weights file", async () => {
    assert.equal((await findCheckpoint(straight)).path, join(straight, "best"));
    const step = join(straight, "step-8");
    assert.equal((await findCheckpoint(step)).path, step);
    assert.equal((await findCheckpoint(join(step, "weights.safetensors"))).path, step);
  });

  test("scores best/ as the run did", async () => {
    const best = await openCheckpoint(join(straight, "best"));
    const scores = await evaluate(straight, { eval_batch_size: 12 });
    assert.equal(scores.images, 12);
    assert.equal(scores.top1, best.state.scores?.top1);
    assert.ok(Math.abs(scores.loss - (best.state.scores?.loss ?? NaN)) < 1e-5);
  });

  test("does not depend on the size of its batches", async () => {
    const one = await evaluate(straight, { eval_batch_size: 1 });
    const five = await evaluate(straight, { eval_batch_size: 5 });
    assert.deepEqual({ ...one, loss: 0 }, { ...five, loss: 0 });
    assert.ok(Math.abs(one.loss - five.loss) <= 1e-6 * one.loss);
  });

  for (const [name, path, what] of [
    ["a folder that is not there", "nowhere", /no such file or folder/],
    ["a text file", "notes.txt", /is no file of weights/],
    ["a folder without checkpoints", "plain", /holds no weights/],
  ] as const) {
    test(`refuses ${name}`, async () => {
      writeFileSync(join(folder, "notes.txt"), "hello");
      mkdirSync(join(folder, "plain"), { recursive: true });
      assert.match((await problemOf(evaluate(join(folder, path), {}))).what, what);
    });
  }

  test("starts from a copy of a checkpoint's weights, whatever it is called", async () => {
    const path = join(folder, "copy.safetensors");
    cpSync(join(straight, "step-8", "weights.safetensors"), path);
    const { step } = await train({ ...tinySettings(data, join(folder, "from-copy")), init_from: path });
    assert.equal(step, steps);
  });

  test("refuses weights that are not finite, naming the tensor and the element", async () => {
    const path = join(folder, "nan.safetensors");
    const whole = readFileSync(join(straight, "best", "weights.safetensors"));
    const header = JSON.parse(whole.toString("utf8", 8, 8 + whole.readUInt32LE(0))) as Tensors;
    whole.writeFloatLE(NaN, 8 + whole.readUInt32LE(0) + header["conv1.weight"].data_offsets[0] + 4 * 7);
    writeFileSync(path, whole);
    const problem = await problemOf(train({ ...tinySettings(data, join(folder, "nan")), init_from: path }));
    assert.match(problem.where ?? "", /conv1\.weight, element 7/);
  });
});
