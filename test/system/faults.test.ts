import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, suite, test } from "node:test";
import { inspect } from "node:util";

import sharp from "sharp";

import { type Fault, faultKinds, withFault } from "../support/faults.js";
import { asRiffleError, RiffleError } from "../../src/core/error.js";
import { isTemporary } from "../../src/core/durable.js";
import { latestCheckpoint } from "../../src/formats/tf-checkpoint-state.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import { compile } from "../../src/program/compile.js";
import { createRecords } from "../../src/prepare/records/create-records.js";
import {
  checkpointFiles,
  openCheckpoint,
  pruneCheckpoints,
  recoverRun,
  saveCheckpoint,
  stepFolder,
} from "../../src/run/checkpoint.js";
import type { CheckpointState } from "../../src/run/checkpoint-state.js";
import { newestValid } from "../../src/run/find-checkpoint.js";
import { train } from "../../src/train/trainer.js";
import { writeTfCheckpoint } from "../../src/weights/tf-checkpoint.js";
import { program as riffle, repository } from "../support/paths.js";
import { tinyNetwork } from "../support/tiny-network.js";
import { hashes, scratch, tinySettings, trainedBits, writeTinySet } from "../support/tiny-run.js";

/** `RIFFLE_FAULTS=all npm test`: every operation with every kind of fault; otherwise a sample of each. */
const all = process.env["RIFFLE_FAULTS"] === "all";

const folder = scratch();
let folders = 0;

function newFolder(): string {
  const path = join(folder, `f-${folders++}`);
  mkdirSync(path);
  return path;
}

/** What a fault may come to, and what must hold after it whatever it came to. */
interface Work<T> {
  /** The state before; the folder is given. */
  readonly prepare: (path: string) => Promise<void> | void;
  readonly act: (path: string) => Promise<T>;
  /** Right after, before anything is put right; `error` where it failed. */
  readonly standing?: (path: string, error: unknown) => Promise<void>;
  /** Clears up as the next start does, and does the work again without a fault. */
  readonly again: (path: string) => Promise<void>;
}

/**
 * Every operation of `act` that fails in turn. An error has the exit code 6; nothing may be lost.
 *
 * @param stride takes every so many operations, another one first for each kind of fault; 1 takes all
 */
async function everyOperation<T>(
  work: Work<T>,
  stride: number,
  kinds: readonly Fault["kind"][] = faultKinds,
): Promise<number> {
  let operations = 0;
  for (const lasting of [false, true]) {
    for (const [index, kind] of kinds.entries()) {
      for (let at = 1 + (stride === 1 ? 0 : index % stride); ; at += stride) {
        const path = newFolder();
        await work.prepare(path);
        const fault: Fault = { at, kind, lasting, below: path };
        const said = `operation ${at} ${lasting ? "and all after it fail" : "fails"} with ${kind}`;
        const { hit, error } = await withFault(fault, () => work.act(path));
        try {
          if (error !== undefined) assert.equal(exitCode(error), 6, inspect(error));
          if (!hit) assert.equal(error, undefined);
          await work.standing?.(path, error);
          await work.again(path);
          const left = readdirSync(path).filter(isTemporary);
          assert.deepEqual(left, [], "the next start left something");
        } catch (cause) {
          throw new Error(`${said}: ${String(cause)}`, { cause });
        }
        rmSync(path, { recursive: true });
        if (!hit) {
          operations = Math.max(operations, at);
          break;
        }
      }
    }
  }
  return operations;
}

function exitCode(error: unknown): number {
  const failure = asRiffleError(error);
  return failure instanceof RiffleError ? failure.exitCode : 1;
}

const layout = compile(
  tinyNetwork({ padding: "same", classes: 3, stem: 2 }, (net) => net.pointwise("one", "pool1", 4)),
  { batch: 1, imageSize: 32, mode: "infer" },
);

function save(runDir: string, name: string, step: number): Promise<string> {
  const array = (): Float32Array => new Float32Array(layout.parameterCount).fill(step);
  const statistics = new Float32Array(2 * layout.planes.length).fill(step);
  const state = { parameters: array(), statistics, momentum: array(), averages: array(), gradients: array() };
  return saveCheckpoint(runDir, name, layout, { kind: "training", state }, { ...someState, step });
}

/** Of a real run's checkpoint, without what saveCheckpoint adds. */
let someState: Parameters<typeof saveCheckpoint>[4];
const data = writeTinySet(folder);
let straight: string | null;

before(async () => {
  const settings = {
    ...tinySettings(data, join(folder, "straight")),
    max_train_steps: 3,
    save_checkpoints_steps: 1,
  };
  ({ checkpoint: straight } = await train(settings));
  const { state } = await openCheckpoint(straight ?? "");
  const { readme, format, version, kind, bytes, ...rest }: CheckpointState = state;
  assert.ok(readme && format && version && kind && bytes);
  someState = rest;
});

suite(
  "H1, H2: whatever operation of a save or a prune fails, once or from there on, or is the last before a kill,",
  () => {
    test("a save loses no checkpoint, and the next one succeeds", async (t) => {
      const operations = await everyOperation(
        {
          prepare: async (path) => void (await save(path, stepFolder(1), 1)),
          act: (path) => save(path, stepFolder(2), 2),
          standing: async (path, error) => {
            await openCheckpoint(join(path, stepFolder(1)));
            const { checkpoint } = await newestValid(path);
            if (error === undefined) assert.equal(checkpoint.state.step, 2);
          },
          again: async (path) => {
            await recoverRun(path);
            await save(path, stepFolder(2), 2);
            assert.deepEqual(readdirSync(path).sort(), ["step-1", "step-2"]);
            await openCheckpoint(join(path, stepFolder(2)));
          },
        },
        all ? 1 : 5,
      );
      t.diagnostic(`${operations} operations`);
    });

    test("replacing best/ leaves the old one or the new one", async (t) => {
      const operations = await everyOperation(
        {
          prepare: async (path) => void (await save(path, "best", 1)),
          act: (path) => save(path, "best", 2),
          standing: async (path, error) => {
            if (error === undefined) assert.equal((await openCheckpoint(join(path, "best"))).state.step, 2);
          },
          again: async (path) => {
            await recoverRun(path);
            assert.ok([1, 2].includes((await openCheckpoint(join(path, "best"))).state.step));
            await save(path, "best", 3);
            assert.equal((await openCheckpoint(join(path, "best"))).state.step, 3);
            assert.deepEqual(readdirSync(path), ["best"]);
          },
        },
        all ? 1 : 5,
      );
      t.diagnostic(`${operations} operations`);
    });

    test("pruning takes no checkpoint that is to stay, and is made up for", async (t) => {
      const operations = await everyOperation(
        {
          prepare: async (path) => {
            for (const step of [1, 2, 3]) await save(path, stepFolder(step), step);
          },
          act: (path) => pruneCheckpoints(path, 3, 1),
          standing: async (path) => assert.equal((await newestValid(path)).checkpoint.state.step, 3),
          again: async (path) => {
            await recoverRun(path);
            assert.deepEqual((await newestValid(path)).damaged, []);
            await pruneCheckpoints(path, 3, 1);
            assert.deepEqual(readdirSync(path), ["step-3"]);
            assert.deepEqual(readdirSync(join(path, "step-3")).sort(), [...checkpointFiles].sort());
          },
        },
        all ? 1 : 2,
      );
      t.diagnostic(`${operations} operations`);
    });

    test("TensorFlow's format loses no checkpoint either, its pruning included", async (t) => {
      const network = shuffleNetV2({ variant: "tensorflow", width: 0.5, classes: 3 });
      const lineage = compile(network, { batch: 1, imageSize: 32, mode: "infer" });
      const write = (path: string, step: number): Promise<string> => {
        const array = (): Float32Array => new Float32Array(lineage.parameterCount).fill(step);
        const statistics = new Float32Array(2 * lineage.planes.length).fill(step);
        const state = { parameters: array(), statistics, momentum: array(), averages: array() };
        return writeTfCheckpoint(path, lineage, step, state, { keep: 1 });
      };
      const operations = await everyOperation(
        {
          prepare: async (path) => void (await write(path, 1)),
          act: (path) => write(path, 2),
          standing: async (path, error) => {
            const { bundle } = await latestCheckpoint(path);
            assert.ok(bundle.prefix.endsWith(error === undefined ? "-2" : ""), bundle.prefix);
          },
          again: async (path) => {
            await write(path, 3);
            const { bundle, passedOver } = await latestCheckpoint(path);
            assert.ok(bundle.prefix.endsWith("-3"), bundle.prefix);
            assert.deepEqual(passedOver, []);
          },
        },
        all ? 1 : 11,
        all ? faultKinds : ["EIO"],
      );
      t.diagnostic(`${operations} operations`);
    });

    test("training ends well or with code 6, and goes on to the bits of a run that met no fault", async (t) => {
      const settings = (path: string) => ({
        ...tinySettings(data, join(path, "run")),
        max_train_steps: 3,
        save_checkpoints_steps: 1,
        keep_checkpoint_max: 1,
      });
      const operations = await everyOperation(
        {
          prepare: () => undefined,
          act: (path) => train(settings(path)),
          standing: async (path, error) => {
            if (error === undefined)
              assert.equal((await newestValid(join(path, "run"))).checkpoint.state.step, 3);
          },
          again: async (path) => {
            const run = join(path, "run");
            const begun = existsSync(run) && readdirSync(run).some((name) => /^step-/.test(name));
            const { checkpoint } = await train(begun ? { resume: run } : settings(path));
            assert.equal(trainedBits(checkpoint), trainedBits(straight));
            for (const entry of readdirSync(run)) assert.ok(!isTemporary(entry), entry);
          },
        },
        all ? 1 : 97,
        all ? faultKinds : ["EROFS"],
      );
      t.diagnostic(`${operations} operations`);
    });
  },
);

suite(
  "H1: whatever operation of create-tfrecords fails, once or from there on, or is the last before a kill,",
  () => {
    const pictures = join(folder, "pictures");
    const metadata = join(folder, "metadata.csv");
    const labels = join(folder, "labels.json");
    const ROWS = 12;
    let expected: Record<string, string>;
    const create = (output: string) =>
      createRecords({ metadata, labels, output, shards: 3, seed: 5, verify: false, jobs: 1 });

    before(async () => {
      mkdirSync(pictures);
      const lines = ["path,wordnet_id,just_name"];
      for (let i = 0; i < ROWS; i++) {
        const background = { r: i, g: 2 * i, b: 255 - i };
        const bytes = await sharp({ create: { width: 24, height: 16, channels: 3, background } })
          .jpeg()
          .toBuffer();
        const path = join(pictures, `${i}.jpg`);
        writeFileSync(path, bytes);
        lines.push(`${path},${i % 2 === 0 ? "n1" : "n2"},${i}`);
      }
      writeFileSync(metadata, `${lines.join("\n")}\n`);
      writeFileSync(labels, '{"n2": 0, "n1": 1}');
      const output = join(newFolder(), "out");
      await create(output);
      expected = hashes(output);
    });

    test("finished shards stay, and the same command again writes the bytes of a run that met no fault", async (t) => {
      const operations = await everyOperation(
        {
          prepare: () => undefined,
          act: (path) => create(join(path, "out")),
          standing: async (path, error) => {
            if (error !== undefined) return Promise.resolve();
            // The file of a lock that is free may have to wait for the next start.
            const { ".lock": _lock = "", ...found } = hashes(join(path, "out"));
            assert.deepEqual(found, expected, _lock);
            return Promise.resolve();
          },
          again: async (path) => {
            await create(join(path, "out"));
            assert.deepEqual(hashes(join(path, "out")), expected);
          },
        },
        all ? 1 : 29,
        all ? faultKinds : ["EIO", "short"],
      );
      t.diagnostic(`${operations} operations`);
    });

    for (const [thread, kind, stride] of [
      ["main", "kill", 31],
      ["worker", "EMFILE", 29],
      ["worker", "EIO", 29],
    ] as const) {
      test(`as a command, in its ${thread} thread, ${kind}: it ends as it should, and the same command finishes`, () => {
        const { length: most } = Array.from({ length: 1000 });
        for (let at = 2; at < most; at += all ? 1 : stride) {
          const path = newFolder();
          const hit = join(path, "hit");
          const below = thread === "main" ? join(path, "out") : pictures;
          const fault = { at, kind, lasting: true, below, thread, hit };
          const output = join(path, "out");
          const args = ["create-tfrecords", "--metadata_file", metadata, "--labels", labels, "--output", output, "--num_shards", "3", "--seed", "5", "--jobs", "1"]; // prettier-ignore
          const shim = join(repository, "dist", "test", "support", "faults.js");
          const command = spawnSync(process.execPath, ["--import", shim, riffle, ...args], {
            encoding: "utf8",
            env: { ...process.env, RIFFLE_FAULT: JSON.stringify(fault) },
          });
          const said = `operation ${at}: ${command.stderr}`;
          if (!existsSync(hit)) {
            assert.equal(command.status, 0, said);
            assert.ok(at > 2, "no operation was counted");
            return;
          }
          if (kind === "kill") assert.equal(command.signal, "SIGKILL", said);
          else assert.equal(command.status, 6, said);
          const again = spawnSync(process.execPath, [riffle, ...args], { encoding: "utf8" });
          assert.equal(again.status, 0, again.stderr);
          assert.deepEqual(hashes(output), expected);
          rmSync(path, { recursive: true });
        }
      });
    }
  },
);
