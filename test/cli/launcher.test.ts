/**
 * `riffle launch`: what a user sees of several ranks, however they end. With a launcher that is made up, which prints and
 * does what the real ones were seen to; and with those that are installed.
 */

import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { messageLine, type RankMessage } from "../../src/distributed/rank-messages.js";
import { damageBehindHeader } from "../support/damage.js";
import { outcomeOf } from "../support/in-process.js";
import { families, launchers, needsMpi, startRanks } from "../support/mpi.js";
import { needsNative } from "../support/native.js";
import { program } from "../support/paths.js";
import { drawFolder } from "../../src/prepare/draw/draw-folder.js";
import { scratch, tinySettings, trainedBits, writeTinySet } from "../support/tiny-run.js";

const folder = scratch();
const data = writeTinySet(folder);
let made = 0;

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly seconds: number;
}

interface Started {
  readonly child: ChildProcess;
  readonly ended: Promise<Outcome>;
  said(): string;
}

function riffle(argv: readonly string[], env: Readonly<Record<string, string>> = {}): Started {
  const { RANK_SIZE, RANK_TABLE_FILE, RIFFLE_LAUNCH, ...rest } = process.env;
  void [RANK_SIZE, RANK_TABLE_FILE, RIFFLE_LAUNCH];
  const begun = performance.now();
  const child = spawn(process.execPath, [program, ...argv], {
    cwd: folder,
    env: { ...rest, ...env, _: "" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const ended = new Promise<Outcome>((resolve) =>
    child.on("close", (code) =>
      resolve({ code: code ?? -1, stdout, stderr, seconds: (performance.now() - begun) / 1000 }),
    ),
  );
  return { child, ended, said: () => stdout + stderr };
}

/** What was printed of a failure: the lines of the one message, and how many there were. */
function message({ stderr }: Outcome): string {
  const heads = stderr.match(/^riffle: /gm) ?? [];
  assert.equal(heads.length, 1, `not one message:\n${stderr}`);
  return stderr.slice(stderr.indexOf("riffle: "));
}

async function until(what: string, holds: () => boolean, seconds = 60): Promise<void> {
  for (const end = performance.now() + 1000 * seconds; !holds(); await sleep(20)) {
    if (performance.now() > end) throw new Error(`${what}: not within ${seconds} s`);
  }
}

/** Processes whose command line has this word. */
function processesOf(word: string): string[] {
  const names = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && name !== String(process.pid));
  return names.filter((name) => {
    try {
      return readFileSync(`/proc/${name}/cmdline`, "utf8").includes(word);
    } catch {
      return false;
    }
  });
}

suite("with a launcher that is made up", needsNative(), () => {
  const banner = "-".repeat(74);
  const openMpi = (rank: number, status: number): string =>
    `${banner}\nPrimary job  terminated normally, but 1 process returned\n` +
    `a non-zero exit code. Per user-direction, the job has been aborted.\n${banner}\n${banner}\n` +
    `mpirun.openmpi detected that one or more processes exited with non-zero status, thus causing\n` +
    `the job to be terminated. The first process to do so was:\n\n` +
    `  Process name: [[8487,1],${rank}]\n  Exit code:    ${status}\n${banner}\n`;
  const hydra =
    `\n${"=".repeat(83)}\n=   BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES\n=   PID 20517 RUNNING AT vm\n` +
    `=   EXIT CODE: 9\n=   CLEANING UP REMAINING PROCESSES\n=   YOU CAN IGNORE THE BELOW CLEANUP MESSAGES\n` +
    `${"=".repeat(83)}\nYOUR APPLICATION TERMINATED WITH THE EXIT STRING: Killed (signal 9)\n` +
    `This typically refers to a problem with your application.\nPlease see the FAQ page for debugging suggestions\n`;
  const begun = (rank: number): RankMessage => ({ rank, size: 2, pid: 2 ** 22 + rank, host: "elsewhere" });

  /** An mpirun that prints these and then runs `script`; its path. */
  function mpirun({
    messages = [],
    stdout = "",
    stderr = "",
    script = "exit 0",
  }: {
    readonly messages?: readonly RankMessage[];
    readonly stdout?: string;
    readonly stderr?: string;
    readonly script?: string;
  }): string {
    const place = join(folder, `mpi-${made++}`);
    mkdirSync(place);
    writeFileSync(join(place, "messages"), messages.map(messageLine).join(""));
    writeFileSync(join(place, "stdout"), stdout);
    writeFileSync(join(place, "stderr"), stderr);
    const path = join(place, "mpirun");
    const body =
      `[ "$1" = --version ] && { echo "mpirun (Open MPI) 4.1.4"; exit 0; }\n` +
      `cd ${place}; echo "$@" > arguments; cat messages >&2; cat stdout; cat stderr >&2\n${script}\n`;
    writeFileSync(path, `#!/bin/sh\n${body}`);
    chmodSync(path, 0o755);
    return path;
  }

  function launch(path: string, more: readonly string[] = [], train: readonly string[] = []): Started {
    const run = ["--log_dir", join(folder, `made-up-${made++}`), "--data_dir", data];
    return riffle(["launch", "--ranks", "2", "--mpi", path, ...more, "--", "train", ...run, ...train]);
  }

  test("prints what rank 0 does, as it stands, and nothing that others print", async () => {
    const path = mpirun({
      messages: [
        begun(0),
        begun(1),
        { rank: 0, to: "stderr", text: "epoch 1\n" },
        { rank: 0, to: "stdout", text: '{"event":"end"}\n' },
        { rank: 0, ended: 0 },
        { rank: 1, ended: 0 },
      ],
      stdout: "Hello from the library\n",
      stderr: "[vm:1] WARNING: There was an error initializing an OpenFabrics device.\n",
    });
    const { code, stdout, stderr } = await launch(path).ended;
    assert.deepEqual([code, stdout], [0, '{"event":"end"}\n']);
    const [first = "", ...rest] = stderr.replace(/^Engine .*\n/gm, "").split("\n");
    assert.match(first, /^Launch +2 ranks by \S+mpirun \(Open MPI 4\.1\.4\), .* logs made-up-\d+\.ranks\/$/);
    assert.deepEqual(rest, ["epoch 1", ""]);
    const [folderOfLogs = ""] = /made-up-\d+\.ranks/.exec(first) ?? [];
    const log = readFileSync(join(folder, folderOfLogs, "launcher.log"), "utf8");
    assert.match(log, /Hello from the library\n/);
    assert.match(log, /OpenFabrics/);
  });

  test("starts finetune as it starts train, as it was written; without pictures nothing is started", async () => {
    const path = mpirun({ messages: [begun(0), begun(1), { rank: 0, ended: 0 }, { rank: 1, ended: 0 }] });
    const launched = (...argv: string[]): Promise<Outcome> =>
      riffle(["launch", "--ranks", "2", "--mpi", path, "--", "finetune", ...argv]).ended;
    const { code, stderr } = await launched(data, "--from", "weights", "--log_dir", `tuned-${made++}`);
    assert.equal(code, 0, stderr);
    const started = readFileSync(join(path, "..", "arguments"), "utf8");
    assert.match(started, / finetune .*--data_dir=\S+tiny\.npz/);
    assert.match(started, / --init_from=weights/);
    rmSync(join(path, "..", "arguments"));
    const refused = await launched();
    assert.equal(refused.code, 2);
    assert.match(message(refused), /no pictures to learn from/);
    assert.ok(!existsSync(join(path, "..", "arguments")));
  });

  const killed: RankMessage = { rank: 1, status: 137 };
  for (const [title, stderr, stdout] of [
    ["Open MPI", openMpi(0, 1), ""],
    ["Hydra", "", hydra],
  ] as const) {
    test(`says of a rank that a signal ended what the launcher does not: ${title}`, async () => {
      const path = mpirun({ messages: [begun(0), begun(1), killed], stderr, stdout, script: "exit 9" });
      const outcome = await launch(path).ended;
      assert.equal(outcome.code, 7);
      assert.match(message(outcome), /^riffle: rank 1 was ended by signal 9, SIGKILL, .*memory runs out\.\n/);
      assert.match(
        message(outcome),
        /nothing had been saved\.\n {2}What each rank printed: \S+rank-\*\.log\n$/,
      );
      assert.doesNotMatch(outcome.stderr, /Primary job|BAD TERMINATION|EXIT CODE/);
    });
  }

  const failure = {
    code: 3,
    what: "is not a whole JPEG",
    where: "a.jpg",
    safe: "Nothing was trained",
    hint: "Remove it",
  };
  test("makes one message of several failures: the first that is no rank's loss of another", async () => {
    const path = mpirun({
      messages: [
        begun(0),
        begun(1),
        { rank: 0, failure: { code: 7, what: "rank 1 is gone" } },
        { rank: 1, failure },
        { rank: 1, status: 3 },
        { rank: 0, status: 7 },
      ],
      script: "exit 7",
    });
    const outcome = await launch(path).ended;
    assert.equal(outcome.code, 3);
    assert.equal(
      message(outcome),
      "riffle: rank 1, a.jpg: is not a whole JPEG.\n  Nothing was trained.\n  Remove it\n",
    );
  });

  test("a failure of rank 0 is everybody's; with --json it is the last line of stdout", async () => {
    const path = mpirun({
      messages: [begun(0), { rank: 0, failure }, { rank: 0, status: 3 }],
      script: "exit 3",
    });
    const outcome = await launch(path, [], ["--json"]).ended;
    assert.equal(outcome.code, 3);
    const lines = outcome.stdout.trimEnd().split("\n");
    assert.equal(lines.length, 1);
    assert.deepEqual(JSON.parse(lines[0] ?? ""), {
      event: "error",
      code: 3,
      what: failure.what,
      where: "a.jpg",
      expected: null,
      found: null,
      hint: failure.hint,
      safe: failure.safe,
    });
    assert.match(message(outcome), /^riffle: a\.jpg: /);
  });

  test("what a rank's watch says of a silent one is the message, and its warning is shown", async () => {
    const late =
      "riffle: rank 1 has been silent for 10 s (step 1,204, exchange of gradients; last seen computing)";
    const path = mpirun({
      messages: [begun(0), begun(1), { rank: 0, to: "stderr", text: "epoch 1/3 ━━──" }],
      stderr:
        `${late}; it is waited for until 20 s have passed\n` +
        `${late.replace("10 s", "20 s")}.\n  All ranks were ended. The last checkpoint is whole: x/step-3. Go on\n`,
      script: "exit 7",
    });
    const outcome = await launch(path).ended;
    assert.equal(outcome.code, 7);
    assert.match(outcome.stderr, /━━──\nwarning: rank 1 has been silent for 10 s .*until 20 s have passed\n/);
    assert.match(
      message(outcome),
      /^riffle: rank 1 has been silent for 20 s \(step 1,204, .*last seen computing\)\.\n/,
    );
  });

  test("a launcher that starts nothing is shown with its own words", async () => {
    const said = `${banner}\nThere are not enough slots available in the system, which cannot be\n${banner}\n`;
    const outcome = await launch(mpirun({ stderr: said, script: "exit 1" })).ended;
    assert.equal(outcome.code, 7);
    assert.match(outcome.stderr, /^mpirun: There are not enough slots available/m);
    assert.match(message(outcome), /mpirun ended with exit code 1; 0 of 2 ranks had begun\./);
  });

  test("a rank that never began is no success, whatever the launcher says", async () => {
    const outcome = await launch(mpirun({ messages: [begun(0), { rank: 0, ended: 0 }] })).ended;
    assert.equal(outcome.code, 7);
    assert.match(message(outcome), /ended with exit code 0; 1 of 2 ranks had begun/);
  });

  test("a rank that ends without a word is named, and what was printed besides is shown", async () => {
    const path = mpirun({
      messages: [begun(0), begun(1), { rank: 1, ended: 1 }, { rank: 1, status: 1 }],
      stderr: "FATAL ERROR: Reached heap limit\n",
      script: "exit 1",
    });
    const outcome = await launch(path).ended;
    assert.equal(outcome.code, 1);
    assert.match(outcome.stderr, /^mpirun: FATAL ERROR: Reached heap limit$/m);
    assert.match(message(outcome), /rank 1 ended with exit code 1 without a word/);
  });

  test("hands a signal on as a line, and ends with its code once rank 0 has stopped", async () => {
    const path = mpirun({
      messages: [begun(0), begun(1)],
      script:
        `read line; echo "heard $line" > heard\n` +
        `printf '\\036{"rank":0,"ended":143}\\n\\036{"rank":1,"ended":0}\\n' >&2; exit 0`,
    });
    const started = launch(path);
    await until("its start", () => existsSync(join(path, "..", "arguments")));
    await sleep(300);
    started.child.kill("SIGINT");
    const { code, stderr } = await started.ended;
    assert.equal(code, 130, stderr);
    assert.equal(readFileSync(join(path, "..", "heard"), "utf8"), "heard stop\n");
  });

  test("ends all at the second signal, also what hears no other", { timeout: 60_000 }, async () => {
    const mark = `deaf-${process.pid}`;
    const deaf = `trap '' INT TERM HUP; while :; do sleep 1; done`;
    const path = mpirun({ messages: [begun(0)], script: `sh -c "${deaf}" riffle-rank ${mark} & ${deaf}` });
    const started = launch(path);
    await until("its start", () => processesOf(mark).length > 0);
    started.child.kill("SIGTERM");
    await sleep(500);
    assert.ok(processesOf(mark).length > 0);
    started.child.kill("SIGTERM");
    const { code, stderr } = await started.ended;
    assert.equal(code, 143);
    assert.match(stderr, /^Ended at once\. Nothing had been saved\.$/m);
    assert.deepEqual([processesOf(mark), processesOf(path)], [[], []]);
  });

  test(
    "ends the ranks that a failed one has left behind within ten seconds",
    { timeout: 60_000 },
    async () => {
      const mark = `left-${process.pid}`;
      const deaf = `trap '' INT TERM HUP; while :; do sleep 1; done`;
      const path = mpirun({
        messages: [begun(0), begun(1), killed],
        script: `sh -c "${deaf}" riffle-rank ${mark} & ${deaf}`,
      });
      const outcome = await launch(path).ended;
      assert.equal(outcome.code, 7);
      assert.match(message(outcome), /rank 1 was ended by signal 9/);
      assert.ok(outcome.seconds < 10, `${outcome.seconds} s`);
      assert.deepEqual([processesOf(mark), processesOf(path)], [[], []]);
    },
  );

  test(
    "does not wait for a launcher that sleeps when its ranks have ended",
    { timeout: 60_000 },
    async () => {
      const path = mpirun({
        messages: [begun(0), begun(1), { rank: 0, ended: 0 }, { rank: 1, ended: 0 }],
        script: "sleep 100",
      });
      const outcome = await launch(path).ended;
      assert.equal(outcome.code, 0, outcome.stderr);
      assert.ok(outcome.seconds < 10, `${outcome.seconds} s`);
    },
  );

  test("goes on by itself as often as it may, after what may pass", async () => {
    const path = mpirun({
      script:
        `echo x >> tries; [ $(wc -l < tries) -lt 3 ] && { printf '\\036{"rank":1,"status":139}\\n' >&2; exit 1; }\n` +
        `printf '\\036{"rank":0,"ended":0}\\n\\036{"rank":1,"ended":0}\\n' >&2`,
    });
    const outcome = await launch(path, ["--max_restarts", "2"]).ended;
    assert.equal(outcome.code, 0, outcome.stderr);
    assert.deepEqual(outcome.stderr.match(/^Restart +\d of 2: .*$/gm), [
      "Restart   1 of 2: rank 1 was ended by signal 11, SIGSEGV; nothing was saved, so it begins anew",
      "Restart   2 of 2: rank 1 was ended by signal 11, SIGSEGV; nothing was saved, so it begins anew",
    ]);
    assert.doesNotMatch(outcome.stderr, /^riffle: /m);
    rmSync(join(path, "..", "tries"));
    const once = await launch(path, ["--max_restarts", "1"]).ended;
    assert.equal(once.code, 7);
    assert.match(message(once), /SIGSEGV/);
  });

  test("does not go on after a failure that would come again", async () => {
    const path = mpirun({
      messages: [begun(0), { rank: 0, failure }, { rank: 0, status: 3 }],
      script: "exit 3",
    });
    const outcome = await launch(path, ["--max_restarts", "5"]).ended;
    assert.equal(outcome.code, 3);
    assert.doesNotMatch(outcome.stderr, /^Restart/m);
  });
});

/** In this process, but for a rank, which prints where a rank does. */
async function refusal(
  argv: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<Pick<Outcome, "code" | "stderr">> {
  if ("PMI_RANK" in env) return riffle(argv, env).ended;
  const kept = { ...process.env };
  Object.assign(process.env, env);
  const { status, stderr } = await outcomeOf(argv);
  process.env = kept;
  return { code: status ?? -1, stderr };
}

suite("what launch refuses, before anything is started or written", () => {
  const train = ["--", "train", "--data_dir", data];
  const bad = join(folder, "bad-hosts");
  writeFileSync(bad, "node1 slots=none\n");
  const hosts = join(folder, "hosts");
  writeFileSync(hosts, "node1:2\nnode2:2\n");
  const cases: Readonly<
    Record<
      string,
      {
        readonly argv: readonly string[];
        readonly env?: Record<string, string>;
        readonly says: readonly [number, RegExp];
        readonly skip?: string | false;
      }
    >
  > = {
    "no command": { argv: ["--ranks", "2"], says: [2, /what the ranks are to do is not given/] },
    "another command": {
      argv: ["--ranks", "2", "--", "evaluate", "x"],
      says: [2, /nothing that several ranks do/],
    },
    "no number of ranks": { argv: train, says: [2, /the number of ranks is not given/] },
    "no ranks": { argv: ["--ranks", "0", ...train], says: [2, /--ranks cannot be "0"/] },
    "an option of train in front of it": {
      argv: ["--ranks", "2", "--width", "0.5", ...train],
      says: [2, /--width stands before the command/],
    },
    "an unknown option of train": {
      argv: ["--ranks", "2", ...train, "--wdith", "1"],
      says: [2, /unknown option --wdith/],
    },
    "a wrong value of train": {
      argv: ["--ranks", "2", ...train, "--width", "x"],
      says: [2, /--width cannot be "x"/],
    },
    "evaluating by mode": {
      argv: ["--ranks", "2", ...train, "--mode=evaluate"],
      says: [2, /unknown command evaluate/],
    },
    "two lists of machines": {
      argv: ["--hosts", hosts, "--rank_table", hosts, ...train],
      says: [2, /both say where the ranks run/],
    },
    "a list that is none": { argv: ["--hosts", bad, ...train], says: [7, /bad-hosts, line 1/] },
    "a table that is none": { argv: ["--rank_table", hosts, ...train], says: [7, /hosts, line 1/] },
    "more ranks than places": { argv: ["--ranks", "5", "--hosts", hosts, ...train], says: [2, /at most 4/] },
    "a RANK_SIZE that is none": {
      argv: train,
      env: { RANK_SIZE: "many" },
      says: [2, /RANK_SIZE is no number/],
    },
    "a run that is not there": {
      argv: ["--ranks", "2", "--", "train", "--resume", join(folder, "nowhere")],
      says: [4, /nowhere/],
      skip: Object.values(launchers).some((launcher) => launcher !== undefined)
        ? false
        : "no MPI is installed",
    },
    "no MPI": {
      argv: ["--ranks", "2", ...train],
      env: { PATH: "/nowhere" },
      says: [6, /apt-get install openmpi-bin/],
    },
    "an MPI that is none": {
      argv: ["--ranks", "2", "--mpi", "/bin/true", ...train],
      says: [6, /no launcher of MPI/],
    },
    "a rank as its launcher": {
      argv: ["--ranks", "2", ...train],
      env: { PMI_RANK: "0", PMI_SIZE: "2", MPI_LOCALRANKID: "0", MPI_LOCALNRANKS: "2" },
      says: [2, /was started as one/],
    },
    "options of ranks for a script": {
      argv: ["--ranks", "2", "train_full_8p", "--data_path", folder],
      says: [2, /--ranks is not for scripts/],
    },
  };
  for (const [title, { argv, env = {}, says, skip = false }] of Object.entries(cases)) {
    test(title, { skip }, async () => {
      const before = readdirSync(folder);
      const [code, words] = says;
      const outcome = await refusal(["launch", ...argv], env);
      assert.equal(outcome.code, code, outcome.stderr);
      assert.match(outcome.stderr, words);
      assert.deepEqual(readdirSync(folder), before);
    });
  }

  test("help of train is shown behind launch too", async () => {
    const { status, stdout } = await outcomeOf(["launch", "--ranks", "2", "--", "train", "--help"]);
    assert.equal(status, 0);
    assert.match(stdout, /^ {2}--batch_size /m);
  });
});

/** What one family does the other does; test/system/ranks.test.ts and rank-faults.test.ts run both. */
const isFull = process.env["RIFFLE_RANKS"] === "all";

for (const family of families) {
  const tested = isFull || family === families[0];
  suite(
    `two ranks by ${family}`,
    tested ? needsMpi(family) : { skip: "RIFFLE_RANKS=all runs these, too" },
    () => {
      const launch = (run: string, more: readonly string[] = [], train: readonly string[] = []): Started => {
        const given = Object.entries(tinySettings(data, run)).map(([name, value]) => `--${name}=${value}`);
        return riffle([
          "launch",
          "--ranks",
          "2",
          "--mpi",
          family,
          ...more,
          "--",
          "train",
          ...given,
          ...train,
        ]);
      };
      const fresh = (): string => join(folder, `${family}-${made++}`);
      const hasSteps = (run: string, atLeast = 1): boolean =>
        existsSync(join(run, "events.jsonl")) &&
        (readFileSync(join(run, "events.jsonl"), "utf8").match(/"event":"step"/g) ?? []).length >= atLeast;
      const pidOf = (run: string, rank: number): number => {
        const log = readFileSync(join(`${run}.ranks`, `rank-${rank}.log`), "utf8");
        return Number([...log.matchAll(/^rank \d of 2, pid (\d+), host /gm)].at(-1)?.[1]);
      };
      const long = ["--max_epochs=100000", "--mode=train", "--keep_checkpoint_max=2"];

      test("train as one process would, print once, and each leave a log", async () => {
        const run = fresh();
        const { code, stdout, stderr } = await launch(run).ended;
        assert.equal(code, 0, stderr);
        assert.equal(stderr.match(/^Network /gm)?.length, 1);
        assert.equal(stdout.match(/^Saved /gm)?.length, 1);
        assert.doesNotMatch(stderr + stdout, /\u001e|\u001b|\[rank/);
        for (const rank of [0, 1]) {
          const log = readFileSync(join(`${run}.ranks`, `rank-${rank}.log`), "utf8");
          assert.match(log, new RegExp(`^rank ${rank} of 2, pid \\d+, host \\S+, 20\\d\\d-.*Z\\nNetwork `));
          assert.match(log, /^epoch 3\/3 .*\nvalidation .*\nBest .*\nSaved /m);
        }
        assert.ok(existsSync(join(run, "best")));
      });

      test("with --json: every line of stdout is an object, and only rank 0's", async () => {
        const { code, stdout } = await launch(fresh(), [], ["--json"]).ended;
        assert.equal(code, 0);
        const events = stdout
          .trimEnd()
          .split("\n")
          .map((line) => JSON.parse(line) as { event: string });
        assert.equal(events.filter(({ event }) => event === "start").length, 1);
        assert.equal(events.at(-1)?.event, "end");
      });

      for (const [signal, code] of [
        ["SIGTERM", 143],
        ["SIGINT", 130],
      ] as const) {
        test(`stop together on ${signal} to the launcher, saved; the command that goes on is printed, and does`, async () => {
          const run = fresh();
          const started = launch(run, [], long);
          await until("steps", () => hasSteps(run, 3));
          started.child.kill(signal);
          const outcome = await started.ended;
          assert.equal(outcome.code, code, outcome.stderr);
          assert.match(outcome.stderr, /^Stopping after the step in progress and saving it/m);
          const [, step] = /^Saved +\S+\/step-(\d+)$/m.exec(outcome.stdout) ?? [];
          assert.ok(existsSync(join(run, `step-${step}`)), outcome.stdout);
          assert.deepEqual(processesOf(run), []);
          const [, command = ""] = /^Resume +npx riffle-vision (.*)$/m.exec(outcome.stdout) ?? [];
          const again = riffle([...command.split(" "), `--max_train_steps=${Number(step) + 1}`]);
          const resumed = await again.ended;
          assert.equal(resumed.code, 0, resumed.stderr);
          assert.ok(existsSync(join(run, `step-${Number(step) + 1}`)));
        });
      }

      test("stop together on SIGTERM to any rank", async () => {
        const run = fresh();
        const started = launch(run, [], long);
        await until("steps", () => hasSteps(run, 3));
        process.kill(pidOf(run, 1), "SIGTERM");
        const outcome = await started.ended;
        assert.equal(outcome.code, 143, outcome.stderr);
        assert.match(outcome.stdout, /^Saved +\S+\/step-\d+$/m);
      });

      test("are ended at once by a second Ctrl-C", async () => {
        const run = fresh();
        const started = launch(run, [], long);
        await until("steps", () => hasSteps(run, 3));
        started.child.kill("SIGINT");
        started.child.kill("SIGINT");
        await sleep(1);
        started.child.kill("SIGINT");
        const outcome = await started.ended;
        assert.equal(outcome.code, 130, outcome.stderr);
        assert.deepEqual(processesOf(run), []);
      });

      test("end with one of them, named with its signal and place; the command that goes on is printed", async () => {
        const run = fresh();
        const started = launch(run, [], long);
        await until("steps", () => hasSteps(run, 5));
        const begun = performance.now();
        process.kill(pidOf(run, 1), "SIGKILL");
        const outcome = await started.ended;
        assert.ok(performance.now() - begun < 10_000);
        assert.equal(outcome.code, 7);
        assert.match(
          message(outcome),
          /^riffle: rank 1 was ended by signal 9, SIGKILL, .* \(step \d+; last seen [a-z ]+\)\.\n/,
        );
        assert.match(
          message(outcome),
          /\n {2}All ranks were ended\. The last checkpoint is whole: \S+\/step-\d+\.\n/,
        );
        assert.match(
          message(outcome),
          new RegExp(
            `\\n {2}Go on: npx riffle-vision launch --ranks 2 --mpi ${family} -- train --resume \\S+\\n$`,
          ),
        );
        assert.deepEqual(processesOf(run), []);
      });

      test("go on by themselves after a lost rank, to the bits of a run that lost none", async () => {
        const whole = fresh();
        const calm = await launch(whole).ended;
        assert.equal(calm.code, 0, calm.stderr);
        const run = fresh();
        const started = launch(run, ["--max_restarts", "1"]);
        await until("a checkpoint", () => existsSync(join(run, "step-4")));
        process.kill(pidOf(run, 1), "SIGKILL");
        const outcome = await started.ended;
        assert.equal(outcome.code, 0, outcome.stderr);
        assert.match(
          outcome.stderr,
          /^Restart +1 of 1: rank 1 was ended by signal 9.*; going on from \S+\/step-\d+$/m,
        );
        const last = readdirSync(whole)
          .filter((name) => /^step-\d+$/.test(name))
          .map((name) => Number(name.slice(5)));
        const name = `step-${Math.max(...last)}`;
        assert.equal(trainedBits(join(run, name)), trainedBits(join(whole, name)));
        const log = readFileSync(join(`${run}.ranks`, "rank-1.log"), "utf8");
        assert.equal(log.match(/^rank 1 of 2, pid /gm)?.length, 2);
      });

      test("stop and save when their launcher is gone", async () => {
        const run = fresh();
        const started = launch(run, [], long);
        await until("steps", () => hasSteps(run, 3));
        started.child.kill("SIGKILL");
        await until("the end of all ranks", () => processesOf(run).length === 0, 30);
        const saved = readdirSync(run).filter((name) => /^step-[1-9]/.test(name));
        assert.ok(saved.length > 0);
      });

      test("say once what is wrong for all of them, with its own exit code", async () => {
        const run = fresh();
        const outcome = await riffle([
          "launch",
          "--ranks",
          "2",
          "--mpi",
          family,
          "--",
          "train",
          "--data_dir",
          join(folder, "none"),
          "--log_dir",
          run,
        ]).ended;
        assert.equal(outcome.code, 3, outcome.stderr);
        assert.match(message(outcome), /none/);
        assert.match(readFileSync(join(`${run}.ranks`, "rank-0.log"), "utf8"), /^failed: .*none/m);
      });

      test("say once of a picture that one of them met", async () => {
        const photos = join(folder, `${family}-photos`);
        await drawFolder({ folder: photos, seed: 6, size: 40, train: 40, validation: 10 });
        const [name = ""] = readdirSync(join(photos, "train"));
        const [picture = ""] = readdirSync(join(photos, "train", name));
        damageJpeg(join(photos, "train", name, picture));
        const run = fresh();
        const outcome = await riffle([
          ...[
            "launch",
            "--ranks",
            "2",
            "--mpi",
            family,
            "--",
            "train",
            "--data_dir",
            photos,
            "--log_dir",
            run,
          ],
          ...["--width=0.5", "--image_size=32", "--batch_size=4", "--max_epochs=3"],
        ]).ended;
        assert.equal(outcome.code, 3, outcome.stderr);
        assert.ok(message(outcome).includes(picture), message(outcome));
        assert.deepEqual(processesOf(run), []);
      });

      test("under a plain mpirun rank 0 alone prints, and no log is left", async () => {
        const run = fresh();
        const given = Object.entries(tinySettings(data, run)).map(([name, value]) => `--${name}=${value}`);
        const { code, stdout, stderr } = await startRanks(family, 2, [
          "train",
          ...given,
          "--max_train_steps=2",
        ]).ended;
        assert.equal(code, 0, stderr);
        assert.equal((stdout + stderr).match(/^Network /gm)?.length, 1);
        assert.doesNotMatch(stdout, /\u001b/);
        assert.ok(!existsSync(`${run}.ranks`));
      });

      test("under a plain mpirun a failure of all is said once, with its code", async () => {
        const { code, stdout, stderr } = await startRanks(family, 2, [
          "train",
          "--data_dir",
          join(folder, "none"),
        ]).ended;
        assert.equal(code, 3);
        assert.equal((stdout + stderr).match(/riffle: /g)?.length, 1, stdout + stderr);
      });
    },
  );
}

/** Cuts a JPEG's data short, its header left as it is. */
function damageJpeg(path: string): void {
  if (path.endsWith(".png")) return damageBehindHeader(path);
  const bytes = readFileSync(path);
  writeFileSync(path, bytes.subarray(0, Math.floor(bytes.length * 0.6)));
}

const canDraw = spawnSync("script", ["--version"]).status === 0;
suite("on a terminal", needsMpi("openmpi"), () => {
  const skip = canDraw ? false : "there is no script(1) here";
  test(
    "rank 0's progress is drawn over itself, as wide as the terminal; its log has plain lines",
    { skip },
    () => {
      const run = join(folder, "drawn");
      const given = Object.entries(tinySettings(data, run)).map(([name, value]) => `--${name}=${value}`);
      const line = [
        process.execPath,
        program,
        "launch",
        "--ranks",
        "2",
        "--mpi",
        "openmpi",
        "--",
        "train",
        ...given,
      ];
      const { status, stdout } = spawnSync(
        "script",
        ["-qec", `stty cols 100; ${line.map((word) => `'${word}'`).join(" ")}`, "/dev/null"],
        { cwd: folder, encoding: "utf8", env: { ...process.env, TERM: "xterm" } },
      );
      assert.equal(status, 0, stdout);
      assert.match(stdout, /━/);
      assert.match(stdout, /\u001b\[/);
      const widest = Math.max(
        ...stdout
          .split(/[\r\n]|\u001b\[\d*[A-Z]/)
          .filter((part) => part.includes("━"))
          .map((part) => part.length),
      );
      assert.ok(widest < 100, `${widest} columns`);
      const log = readFileSync(join(`${run}.ranks`, "rank-0.log"), "utf8");
      assert.doesNotMatch(log, /\u001b|━/);
      assert.match(log, /^epoch 3\/3 +48\/48 /m);
    },
  );
});
