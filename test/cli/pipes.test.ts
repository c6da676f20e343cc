import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import { train } from "../../src/train/trainer.js";
import { program } from "../support/paths.js";
import { scratch, tinySettings, writeTinySet } from "../support/tiny-run.js";

const folder = scratch();
const data = writeTinySet(folder);
const run = join(folder, "run");
const pipe = join(folder, "pipe");
const canMakePipes = spawnSync("mkfifo", [pipe]).status === 0;

let copies = 0;

/** A copy of the run in which one file is a pipe. */
function runWithPipe(...names: readonly string[]): string {
  const copy = join(folder, `copy-${copies++}`);
  cpSync(run, copy, { recursive: true });
  const path = join(copy, ...names);
  rmSync(path, { force: true });
  assert.equal(spawnSync("mkfifo", [path]).status, 0);
  return copy;
}

/** A folder with such a pipe and these files. */
function folderWithPipe(name: string, files: Readonly<Record<string, string>> = {}): string {
  const path = join(folder, `folder-${copies++}`);
  mkdirSync(path);
  for (const [file, text] of Object.entries(files)) writeFileSync(join(path, file), text);
  assert.equal(spawnSync("mkfifo", [join(path, name)]).status, 0);
  return path;
}

/** Runs the command until it ends, or the test's own limit ends it. */
function riffle(
  signal: AbortSignal,
  args: readonly string[],
  env = process.env,
): Promise<{ code: number; text: string }> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [program, ...args],
      { signal, killSignal: "SIGKILL", env },
      (error, stdout, stderr) =>
        resolve({
          code: error === null ? 0 : typeof error.code === "number" ? error.code : -1,
          text: stdout + stderr,
        }),
    );
  });
}

before(() => train({ ...tinySettings(data, run), max_train_steps: 1 }));

suite("H9: a pipe under any path that is opened is refused and never waited for:", () => {
  const lists = {
    "rows.csv": "path,wordnet_id,just_name\n/none.jpg,n1,x\n",
    "labels.json": '{"n1": 0, "n2": 1}',
  };
  const cases: Readonly<Record<string, () => readonly string[]>> = {
    "a set of pictures": () => ["train", "--data_dir", pipe],
    "an .npz": () => ["train", "--data_dir", join(folderWithPipe("set.npz"), "set.npz")],
    "a shard": () => ["train", "--data_dir", folderWithPipe("a.tfrecords")],
    "weights to begin with": () => ["train", "--data_dir", data, "--init_from", pipe],
    "a checkpoint's weights": () => ["evaluate", join(runWithPipe("best", "weights.safetensors"), "best")],
    "a checkpoint's state": () => ["train", "--resume", join(runWithPipe("step-1", "state.json"), "step-1")],
    "a checkpoint's sums": () => [
      "export",
      join(runWithPipe("best", "SHA256SUMS"), "best"),
      "--format",
      "onnx",
    ],
    "weights to import": () => ["import", pipe],
    "weights of TensorFlow": () => ["import", join(folderWithPipe("model.ckpt-1.index"), "model.ckpt-1")],
    "a picture to name": () => ["predict", run, pipe],
    "a list of pictures": () => ["create-tfrecords", "-m", pipe, "-l", pipe, "-o", join(folder, "o1")],
    labels: () => ["create-tfrecords", "-m", join(folderWithPipe("p", lists), "rows.csv"), "-l", pipe, "-o", join(folder, "o2")], // prettier-ignore
    boxes: () => {
      const made = folderWithPipe("boxes.npy", lists);
      const [rows, labels, boxes] = ["rows.csv", "labels.json", "boxes.npy"].map((name) => join(made, name)) as [string, string, string]; // prettier-ignore
      return ["create-tfrecords", "-m", rows, "-l", labels, "-b", boxes, "-o", join(folder, "o3")];
    },
    "the plan of shards begun": () => {
      const made = folderWithPipe("x", lists);
      const output = folderWithPipe("plan.json");
      return [
        "create-tfrecords",
        "-m",
        join(made, "rows.csv"),
        "-l",
        join(made, "labels.json"),
        "-o",
        output,
      ];
    },
    "an archive": () => ["explore-imagenet", "--train", join(folderWithPipe("a.tar"), "a.tar"), "-o", join(folder, "o4")], // prettier-ignore
    "data to verify": () => ["verify-data", folderWithPipe("a.tfrecords")],
    "a lock": () => [
      "train",
      "--data_dir",
      data,
      "--log_dir",
      folderWithPipe(".lock"),
      "--max_train_steps",
      "1",
    ],
  };
  for (const [name, args] of Object.entries(cases)) {
    test(name, { skip: canMakePipes ? false : "there is no mkfifo here", timeout: 120_000 }, async (t) => {
      const { code, text } = await riffle(t.signal, args());
      assert.ok([2, 3, 4, 6].includes(code), `exit code ${code}: ${text}`);
      assert.doesNotMatch(text, /should not be able to/);
    });
  }
});

suite("H9: without HOME and without an entry in the list of users", () => {
  const { HOME, XDG_CACHE_HOME, ...env } = process.env;
  void [HOME, XDG_CACHE_HOME];
  // Run by root, as in a container; any other user is known to the machine.
  const asNobody = process.getuid?.() === 0 && spawnSync("setpriv", ["--version"]).status === 0;

  for (const user of asNobody ? ["this user", "a user whom nobody knows"] : ["this user"]) {
    test(`training works, for ${user}`, { timeout: 120_000 }, async (t) => {
      const place = join(folder, `home-${copies++}`);
      mkdirSync(place, { mode: 0o777 });
      spawnSync("chmod", ["-R", "a+rwX", folder]);
      const args = [program, "train", "--data_dir", data, "--log_dir", join(place, "run"), "--image_size", "32", "--width", "0.5", "--batch_size", "8", "--max_train_steps", "1"]; // prettier-ignore
      const [command, given] =
        user === "this user"
          ? [process.execPath, args]
          : [
              "setpriv",
              ["--reuid", "54321", "--regid", "54321", "--clear-groups", process.execPath, ...args],
            ];
      const { code, text } = await new Promise<{ code: number; text: string }>((resolve) => {
        execFile(command, given, { env, signal: t.signal, killSignal: "SIGKILL" }, (error, stdout, stderr) =>
          resolve({ code: error === null ? 0 : Number(error.code), text: stdout + stderr }),
        );
      });
      assert.equal(code, 0, text);
      assert.ok(readdirSync(join(place, "run")).includes("step-1"));
    });
  }
});
