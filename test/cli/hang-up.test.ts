/** SIGHUP: it stops a run as Ctrl-C does, unless it was ignored when the program was started. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import { program } from "../support/paths.js";
import { scratch, writeTinySet } from "../support/tiny-run.js";

const folder = scratch();
const data = writeTinySet(folder);

/** Trains `steps` steps under `shell`, hanging up as soon as the run's log has one. */
async function hangUp(
  name: string,
  shell: string,
  outputTo: "file" | "pipe",
  steps: number,
): Promise<{ code: number; run: string }> {
  const run = join(folder, name);
  const argv = ["train", "--data_dir", data, "--width", "0.5", "--image_size", "32", "--batch_size", "8"];
  const more = [
    "--max_train_steps",
    `${steps}`,
    "--log_steps",
    "1",
    "--max_epochs",
    `${steps}`,
    "--log_dir",
    run,
    "--mode",
    "train",
  ];
  const out = outputTo === "file" ? openSync(`${run}.out`, "w") : "pipe";
  // A shell that ran these tests under nohup says nothing about the run.
  const env = { ...process.env, _: "" };
  const child = spawn("bash", ["-c", shell, process.execPath, program, ...argv, ...more], {
    env,
    stdio: ["ignore", out, out],
  });
  child.stdout?.resume();
  child.stderr?.resume();
  const ended = new Promise<number>((done) => child.on("close", (code) => done(code ?? -1)));
  const log = join(run, "events.jsonl");
  const started = (): boolean => existsSync(log) && readFileSync(log, "utf8").includes('"event":"step"');
  while (!started() && child.exitCode === null) await new Promise((done) => setTimeout(done, 20));
  child.kill("SIGHUP");
  const code = await ended;
  if (typeof out === "number") closeSync(out);
  return { code, run };
}

suite("H9: a hang-up", { skip: !existsSync("/bin/bash") || process.platform === "win32" }, () => {
  test("that was ignored at the start stays ignored, as nohup leaves a program", async () => {
    const { code, run } = await hangUp("ignored", `trap '' HUP; exec "$0" "$@"`, "file", 400);
    assert.equal(code, 0);
    assert.ok(existsSync(join(run, "step-400")));
  });

  test("stops a run that somebody listens to, after saving", async () => {
    // Of so many steps that no hang-up comes too late.
    const { code, run } = await hangUp("heard", `exec "$0" "$@"`, "pipe", 1_000_000);
    assert.equal(code, 129);
    assert.ok(!existsSync(join(run, "step-1000000")));
  });
});
