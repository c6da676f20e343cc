/** `riffle dashboard` as a process over loopback: what it watches, where it listens, how it ends; and the log of a run that fails. */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, suite, test } from "node:test";

import { runRiffle } from "../../src/cli/riffle.js";
import { openTerminal, type Stream } from "../../src/cli/terminal.js";
import { DivergedError, RiffleError } from "../../src/core/error.js";
import { WatchedRun } from "../../src/serve/watched-run.js";
import { train } from "../../src/train/trainer.js";
import { startLine, stepLine, textOf } from "../support/log-lines.js";
import { program } from "../support/paths.js";
import { scratch, tinySettings, writeTinySet } from "../support/tiny-run.js";

const folder = scratch();
for (const name of ["runs/a", "runs/b"]) {
  mkdirSync(join(folder, name), { recursive: true });
  writeFileSync(join(folder, name, "events.jsonl"), textOf(startLine(), stepLine(1)));
}
const children: ChildProcess[] = [];
after(() => {
  for (const child of children) child.kill("SIGKILL");
});

interface Watching {
  readonly child: ChildProcess;
  readonly url: string;
  readonly stdout: () => string;
  readonly stderr: () => string;
  readonly ended: Promise<number | null>;
}

async function dashboard(...argv: string[]): Promise<Watching> {
  const child = spawn(process.execPath, [program, "dashboard", ...argv], {
    cwd: folder,
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push(child);
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const ended = once(child, "exit").then(([code]) => code as number | null);
  const isUp = (async () => {
    while (!/http:\/\//.test(stdout)) await once(child.stdout, "data");
  })();
  await Promise.race([isUp, ended.then((code) => assert.fail(`ended with ${code}: ${stderr}`))]);
  const [, url = ""] = /(http:\/\/[^/]+)\//.exec(stdout) ?? [];
  return { child, url, stdout: () => stdout, stderr: () => stderr, ended };
}

async function shown(url: string, headers: Record<string, string> = {}): Promise<string> {
  const response = await fetch(`${url}/live`, { headers });
  return `${response.status} ${await response.text()}`;
}

suite("riffle dashboard", () => {
  test("finds the runs there are, takes the next free port, and ends when it is told to", async () => {
    const first = await dashboard();
    assert.match(first.url, /^http:\/\/127\.0\.0\.1:60[67]\d$/, "loopback, where it is usual");
    assert.match(first.stderr(), /^Runs +runs\/[ab], runs\/[ab]$/m);
    assert.match(await shown(first.url), /<h1>2 runs<\/h1>/);
    const second = await dashboard("runs/b", "--json");
    assert.notEqual(second.url, first.url);
    const [serving] = second.stdout().split("\n");
    assert.deepEqual(JSON.parse(serving ?? ""), {
      event: "serving",
      url: `${second.url}/`,
      token: null,
      runs: [join(folder, "runs", "b")],
    });
    assert.match(await shown(second.url), /<h1>runs\/b<\/h1>/);
    first.child.kill("SIGINT");
    second.child.kill("SIGTERM");
    assert.deepEqual(await Promise.all([first.ended, second.ended]), [0, 0]);
    assert.match(second.stdout(), /\n\{"event":"stopped"\}\n$/);
    assert.match(first.stderr(), /Stopping; the runs are as they were\./);
  });

  test("tells nothing without the token of a file, and prints an address that has it", async () => {
    const file = join(folder, "token.txt");
    writeFileSync(file, "a-token-of-20-letters\n");
    const { url, stdout, child, ended } = await dashboard("runs/a", "--port", "0", "--token_file", file);
    assert.match(stdout(), /\/#token=a-token-of-20-letters /);
    assert.match(await shown(url), /^401 /);
    assert.match(await shown(url, { Authorization: "Bearer a-token-of-20-letters" }), /<h1>runs\/a<\/h1>/);
    child.kill("SIGTERM");
    assert.equal(await ended, 0);
  });

  test("refuses what it cannot do, and says what there is", async () => {
    const silent = { write: () => true, on: () => undefined } as unknown as Stream;
    const terminal = openTerminal(false, { stdout: silent, stderr: silent });
    const failing = async (...argv: string[]): Promise<RiffleError> => {
      const error = await runRiffle(["dashboard", ...argv], terminal).catch((thrown: unknown) => thrown);
      assert.ok(error instanceof RiffleError, `${argv.join(" ")}: ${String(error)}`);
      return error;
    };
    const none = await failing(join(folder, "runs", "none"));
    assert.deepEqual([none.exitCode, none.problem.what], [4, "there is nothing of this name"]);
    const empty = join(folder, "empty");
    mkdirSync(empty);
    assert.match((await failing(empty)).problem.what, /no run in this folder/);
    const { url, child, ended } = await dashboard("runs/a", "--port", "0");
    const taken = await failing(join(folder, "runs"), "--port", new URL(url).port);
    child.kill("SIGTERM");
    assert.equal(taken.exitCode, 6);
    assert.match(taken.message, /taken by another program.*--port 0/);
    assert.equal(await ended, 0);
    for (const argv of [
      ["--port", "70000"],
      ["--host", "example.org"],
      Array<string>(9).fill(join(folder, "runs")),
    ]) {
      assert.equal((await failing(...argv)).exitCode, 2, argv.join(" "));
    }
  });
});

suite("a run's log", () => {
  test("of a training that failed ends with why, and one that ended is seen to have ended", async () => {
    const data = writeTinySet(folder);
    const failed = join(folder, "failed");
    const settings = { ...tinySettings(data, failed), lr: 1000, warmup_epochs: 0, max_epochs: 20 };
    await assert.rejects(train(settings), DivergedError);
    const last = readFileSync(join(failed, "events.jsonl"), "utf8").trimEnd().split("\n").at(-1) ?? "";
    const { event, step, code, what, time } = JSON.parse(last) as Record<string, unknown>;
    assert.deepEqual([event, code, typeof step, typeof time], ["failed", 5, "number", "string"]);
    assert.match(String(what), /not finite/);
    const ended = join(folder, "ended");
    await train({ ...tinySettings(data, ended), max_epochs: 1 });
    for (const [path, standing] of [
      [failed, "failed"],
      [ended, "ended"],
    ] as const) {
      const run = new WatchedRun(1, path, "r");
      await run.look();
      assert.equal(run.standing, standing);
      assert.ok(
        run.steps.every(({ speed, waiting }) => typeof speed === "number" && typeof waiting === "number"),
      );
    }
  });
});
