/**
 * What befalls one rank ends all of them or none: in bounded time, with the right exit code, no process left, and every
 * checkpoint whole.
 *
 * `RIFFLE_RANKS=all` goes through every combination (about half an hour on two cores); otherwise those that differ most.
 * `RIFFLE_KILLS` and `RIFFLE_SEED` say how often a rank is killed, and when.
 */

// Needs the native engine.

import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { Draws, streams } from "../../src/core/random.js";
import { newestValid } from "../../src/run/find-checkpoint.js";
import type { GivenSettings } from "../../src/settings/settings.js";
import { train } from "../../src/train/trainer.js";
import { asOptions } from "../support/fresh-runs.js";
import {
  type Ended,
  families,
  type Family,
  needsMpi,
  startRanks,
  type StartedRanks,
} from "../support/mpi.js";
import { repository } from "../support/paths.js";
import {
  type FaultKind,
  hookEnvironment,
  type RankDifference,
  type RankFault,
} from "../support/rank-fault-hook.js";
import { leftAfter, processesOf, ranksOf } from "../support/rank-processes.js";
import { scratch, steps, tinySettings, trainedBits, writeTinySet } from "../support/tiny-run.js";
import type { UnequalIn } from "../support/unequal-ranks.js";

const isFull = process.env["RIFFLE_RANKS"] === "all";
const kills = Number(process.env["RIFFLE_KILLS"] ?? 5);
const seed = Number(process.env["RIFFLE_SEED"] ?? 1);

const folder = scratch();
const data = writeTinySet(folder);
let runs = 0;

after(() => {
  for (const pid of processesOf(folder)) process.kill(pid, "SIGKILL");
});

function fresh(): string {
  return join(folder, `run-${runs++}-`);
}

/** Of the tiny set in four shards, which one, two and four ranks share. */
function settingsOf(run: string, more: GivenSettings = {}): GivenSettings {
  return { ...tinySettings(data, run), batch_size: 2, image_size: 64, max_train_steps: steps, shards: 4, save_checkpoints_steps: 1, keep_checkpoint_max: 4, ...more }; // prettier-ignore
}

interface Launch {
  readonly family: Family;
  readonly ranks: number;
  readonly given: GivenSettings;
  readonly fault?: RankFault;
  readonly difference?: RankDifference;
  readonly env?: Record<string, string>;
}

function launch({ family, ranks, given, fault, difference, env = {} }: Launch): StartedRanks {
  const hook = {
    ...(fault === undefined ? {} : { fault }),
    ...(difference === undefined ? {} : { difference }),
  };
  const needsHook = Object.keys(hook).length > 0;
  return startRanks(family, ranks, ["train", "--json", ...asOptions(given)], {
    env: { ...(needsHook ? hookEnvironment(hook) : {}), ...env },
  });
}

/** Waits for the end, and for every process of the run to be gone; ends what is left, and fails, when that takes longer. */
async function endOf(started: StartedRanks, run: string, seconds: number): Promise<Ended> {
  const since = performance.now();
  const ended = await Promise.race([started.ended, sleep(seconds * 1000, undefined, { ref: false })]);
  const left = await leftAfter(
    run,
    ended === undefined ? 0 : Math.max(0, seconds - (performance.now() - since) / 1000),
  );
  for (const pid of left) process.kill(pid, "SIGKILL");
  const what = left.map((pid) =>
    readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").slice(0, 90),
  );
  assert.equal(left.length, 0, `after ${seconds} s there were still ${what.join("; ")}\n${started.said()}`);
  return ended ?? started.ended;
}

async function until(condition: () => boolean, what: string, seconds = 60): Promise<void> {
  for (const end = performance.now() + seconds * 1000; !condition(); await sleep(20))
    if (performance.now() > end) throw new Error(`${what} did not come about`);
}

function count(text: string, pattern: RegExp): number {
  return [...text.matchAll(new RegExp(pattern, "gm"))].length;
}

/** Hydra may answer with the signal that it ended the others with. */
function assertCode(family: Family, code: number | null, wanted: number, text: string): void {
  const possible = family === "mpich" ? [wanted, 9] : [wanted];
  assert.ok(possible.includes(code ?? -1), `code ${code}, not ${possible.join(" or ")}:\n${text}`);
}

async function assertWhole(run: string): Promise<number> {
  if (!existsSync(run) || !readdirSync(run).some((name) => /^step-\d+$/.test(name))) return -1;
  const { checkpoint, damaged } = await newestValid(run);
  assert.deepEqual(damaged, [], "a checkpoint was left that is not whole");
  return checkpoint.state.step;
}

/** What one process ends with that nothing befell, by its shards. */
const undisturbed = new Map<number, Promise<string>>();

function bitsOf(shards: number): Promise<string> {
  const known = undisturbed.get(shards);
  if (known !== undefined) return known;
  const bits = train(settingsOf(fresh(), { shards })).then(({ checkpoint }) => trainedBits(checkpoint));
  undisturbed.set(shards, bits);
  return bits;
}

before(async () => {
  await bitsOf(4);
});

suite(`${kills} ranks killed at drawn moments`, () => {
  test(
    "all end within 10 s, and the run goes on to the bits of one never killed",
    needsMpi(...families),
    async (t) => {
      let killed = 0;
      let completed = 0;
      let slowest = 0;
      for (let number = 0; killed < kills || completed === 0; number++) {
        const run = fresh();
        // Three ranks share three shards, two and four ranks four.
        const shards = number % 2 === 0 ? 4 : 3;
        let given = settingsOf(run, { shards });
        for (let isComplete = false; !isComplete;) {
          const draws = new Draws(seed, streams.draw, 0, killed);
          const ranks = shards === 3 ? 3 : draws.below(2) === 0 ? 2 : 4;
          const family = families[killed % 2] as Family;
          const started = launch({ family, ranks, given });
          const [events, milliseconds, rank] = [draws.below(20), draws.below(300), draws.below(ranks)];
          let victim: number | undefined;
          if (killed < kills) {
            let isOver = false;
            void started.ended.then(() => (isOver = true));
            const begun = (): number => count(started.said(), /^\{"event"/);
            await until(
              () => isOver || (ranksOf(run).has(rank) && begun() >= events),
              "the rank's beginning",
            );
            // At the start, from the process to its first event, there is more to meet.
            await sleep(events === 0 ? milliseconds * 5 : milliseconds);
            victim = ranksOf(run).get(rank);
            if (victim !== undefined) process.kill(victim, "SIGKILL");
          }
          const since = performance.now();
          const what = `kill ${killed}, ${family}, rank ${rank} of ${ranks}, ${milliseconds} ms after event ${events}`;
          const { code, stderr } = await endOf(started, run, victim === undefined ? 120 : 10);
          isComplete = code === 0;
          if (victim !== undefined && !isComplete) {
            killed++;
            slowest = Math.max(slowest, (performance.now() - since) / 1000);
          } else {
            // It may have been over when the signal came.
            assert.equal(code, 0, `${what}: ${stderr}`);
          }
          if ((await assertWhole(run)) >= 0) given = { resume: run };
        }
        assert.equal(trainedBits(join(run, `step-${steps}`)), await bitsOf(shards), `run ${number}`);
        completed++;
      }
      t.diagnostic(
        `${killed} kills over ${completed} runs, the slowest end ${slowest.toFixed(1)} s after it`,
      );
    },
  );
});

interface Stop {
  readonly name: string;
  readonly family: Family;
  readonly ranks: number;
  readonly fault: Omit<RankFault, "kind" | "hit">;
  readonly more?: GivenSettings;
  /** What the last word says. */
  readonly said: RegExp;
}

const timeout = 6;
const stops: readonly Stop[] = [
  { name: "rank 0 computing", family: "openmpi", ranks: 2, fault: { rank: 0, at: "trainSteps", step: 3 }, said: /rank 0 has been silent for \d+ s \(step 3, exchange of gradients; last seen computing\)\./ },
  { name: "rank 1 in the window, where it waits", family: "mpich", ranks: 3, fault: { rank: 1, at: "trainSteps", step: 3, after: 700, othersWait: 1500 }, said: /rank 1 has been silent for \d+ s \(step 3, exchange of gradients; last seen exchanging gradients\)\./ },
  { name: "rank 2 in messages, where it waits", family: "openmpi", ranks: 3, fault: { rank: 2, at: "trainSteps", step: 3, after: 700, othersWait: 1500 }, more: { exchange: "messages" }, said: /rank 2 has been silent for \d+ s \(step 3, exchange of gradients; last seen exchanging gradients\)\./ },
  { name: "rank 0 saving", family: "mpich", ranks: 2, fault: { rank: 0, at: "gather save", step: 2 }, said: /rank 0 has been silent for \d+ s \(step 2, saving; last seen saving\)\./ },
  { name: "rank 1 evaluating", family: "openmpi", ranks: 2, fault: { rank: 1, at: "place evaluating", step: 6 }, said: /rank 1 has been silent for \d+ s \(step 6, evaluation; last seen computing\)\./ },
  { name: "rank 1 in the handshake", family: "openmpi", ranks: 2, fault: { rank: 1, at: "gather handshake" }, said: /rank 1 has been silent for \d+ s \(step 0, start; last seen starting\)\./ },
  { name: "rank 1 before it joined, openmpi", family: "openmpi", ranks: 2, fault: { rank: 1, at: "joinRanks" }, said: /other ranks have not come/ },
  { name: "rank 0 before it joined, mpich", family: "mpich", ranks: 2, fault: { rank: 0, at: "load" }, said: /other ranks have not come/ },
  { name: "rank 1 at the very end, openmpi", family: "openmpi", ranks: 2, fault: { rank: 1, at: "closeRanks" }, said: /other ranks do not leave/ },
  { name: "rank 0 at the very end, mpich", family: "mpich", ranks: 3, fault: { rank: 0, at: "closeRanks" }, said: /other ranks do not leave/ },
]; // prettier-ignore

suite("a rank that is stopped", { concurrency: 4 }, () => {
  for (const { name, family, ranks, fault, more, said } of stops.filter((_, i) => isFull || i % 3 === 1)) {
    test(`for ever: ${name}`, needsMpi(family), async () => {
      const run = fresh();
      const hit = `${run}hit`;
      const given = settingsOf(run, {
        shards: ranks === 3 ? 3 : 4,
        rank_timeout: timeout,
        max_epochs: 1,
        ...more,
      });
      const started = launch({ family, ranks, given, fault: { ...fault, kind: "SIGSTOP", hit } });
      await until(() => existsSync(hit), "the fault");
      const begin = performance.now();
      await until(() => said.test(started.said()), said.source, 5 * timeout);
      const seconds = (performance.now() - begin) / 1000;
      const { code, stderr } = await endOf(started, run, 5);
      assertCode(family, code, 7, stderr);
      // In MPI's own calls nobody sees who of the others speaks first.
      const words = count(stderr, /^(?:\[rank \d\] )?riffle: (?!.*it is waited for until)/);
      if (said.source.startsWith("rank")) assert.equal(words, 1, stderr);
      else assert.ok(words > 0 && words < ranks, stderr);
      // A tenth of the time-out, and what a busy machine adds; who waits in MPI's own calls counts from where it began.
      const late = ["load", "joinRanks"].includes(fault.at) ? 6 : 2;
      assert.ok(seconds > 0.9 * timeout - 0.5 && seconds < 1.1 * timeout + late, `said after ${seconds} s`);
      await assertWhole(run);
    });
  }

  for (const family of families) {
    test(`for a while: all are warned, wait, and go on, ${family}`, needsMpi(family), async () => {
      const run = fresh();
      const hit = `${run}hit`;
      const given = settingsOf(run, { rank_timeout: 2 * timeout });
      const fault = { rank: 1, at: "trainSteps", step: 3, kind: "SIGSTOP", hit } as const;
      const started = launch({ family, ranks: 2, given, fault });
      const warning =
        /^riffle: rank 1 has been silent for \d+ s \(step 3, exchange of gradients; last seen .*\); it is waited for until 12 s/;
      await until(() => count(started.said(), warning) > 0, "the warning");
      const late = (Date.now() - statSync(hit).mtimeMs) / 1000;
      assert.ok(late > 0.9 * timeout - 0.5 && late < 1.1 * timeout + 2, `warned after ${late} s`);
      process.kill(Number(readFileSync(hit, "utf8")), "SIGCONT");
      const { code, stderr } = await endOf(started, run, 30);
      assert.equal(code, 0, stderr);
      assert.equal(count(stderr, warning), 1, stderr);
      assert.equal(trainedBits(join(run, `step-${steps}`)), await bitsOf(4));
    });
  }
});

suite("ranks that differ", { concurrency: 2 }, () => {
  const others = { shards: 8, seed: 5, lr: 0.03, momentum: 0.8, num_classes: 7, batch_size: 1, width: 1, weight_decay: 0.5 } as const; // prettier-ignore
  const fieldOf = (name: string): string[] =>
    ({ num_classes: ["network", "--num_classes"], width: ["network", "--width"], shards: ["shards", "--shards"] })[name] ?? [`--${name}`]; // prettier-ignore

  /** @returns the table's fields */
  async function refused(
    family: Family,
    ranks: number,
    difference: RankDifference,
    given?: GivenSettings,
  ): Promise<string[]> {
    const run = fresh();
    const started = launch({ family, ranks, given: given ?? settingsOf(run), difference });
    const { code, stderr, stdout } = await endOf(started, given === undefined ? run : "no run", 30);
    assertCode(family, code, 7, stderr);
    assert.ok(!existsSync(run), "something was written");
    assert.ok(!/"event":"step"/.test(stdout), "a step was made");
    const [, table] = /^ {4}field +rank 0 +another rank\n((?: {4}.*\n)+)/m.exec(stderr) ?? [];
    assert.ok(table !== undefined, stderr);
    return table.split("\n").map((row) => row.trim().split(/ {2,}/)[0] ?? "").filter((field) => field !== ""); // prettier-ignore
  }

  test("in many options are refused with a table of all", needsMpi("openmpi"), async () => {
    const { shards, ...more } = others;
    const argv = asOptions({ ...more, shards });
    const fields = await refused("openmpi", 4, { rank: 2, argv });
    for (const name of Object.keys(others)) for (const field of fieldOf(name)) assert.ok(fields.includes(field), `${field} of ${fields.join(", ")}`); // prettier-ignore
  });

  const single: [string, RankDifference, string[]][] = [
    ["the version", { rank: 1, version: "9.9.9" }, ["version"]],
    ["the instruction set", { rank: 1, env: { RIFFLE_ISA: "sse2" } }, ["instruction set"]],
    [
      "the pictures",
      { rank: 1, argv: ["--data_dir", writeTinySet(folder, "other.npz", 7)] },
      ["their content"],
    ],
  ];
  const each: typeof single = Object.entries(others).map(([name, value]) => [
    name,
    { rank: 1, argv: asOptions({ [name]: value }) },
    fieldOf(name),
  ]);
  [...single, ...(isFull ? each : [])].forEach(([name, difference, fields], i) => {
    const family = families[i % 2] as Family;
    test(`in ${name} are refused, ${family}`, needsMpi(family), async () => {
      const named = await refused(family, 2, difference);
      for (const field of fields) assert.ok(named.includes(field), `${field} of ${named.join(", ")}`);
    });
  });

  test("in the step that they go on from are refused", needsMpi("mpich"), async () => {
    const [first, second] = [fresh(), fresh()];
    await train(settingsOf(first, { max_train_steps: 2 }));
    await train(settingsOf(second, { max_train_steps: 3 }));
    const kept = readdirSync(first);
    const given = { resume: first, max_train_steps: 9 };
    const named = await refused("mpich", 2, { rank: 1, argv: ["--resume", second] }, given);
    assert.deepEqual(named, ["goes on from"]);
    assert.deepEqual(readdirSync(first), kept);
  });
});

suite("ranks that exchange what is not the same", { concurrency: 2 }, () => {
  const script = join(repository, "dist", "test", "support", "unequal-ranks.js");
  const cases: [UnequalIn, string, RegExp][] = [
    ["gradients", "window", /ranks do not exchange the same/],
    ["buckets", "messages", /ranks do not exchange the same/],
    ["kind", "window", /ranks are not at the same place: rank 0 adds gradients, rank 1 adds numbers/],
    ["kind", "overlapped", /ranks do not exchange the same|ranks are not at the same place/],
    ["sums", "window", /ranks do not exchange the same/],
    ["sums", "messages", /ranks do not exchange the same/],
  ];
  cases.forEach(([what, exchange, said], i) => {
    for (const family of isFull ? families : [families[i % 2] as Family]) {
      test(`${what}, ${exchange}, ${family}`, needsMpi(family), async () => {
        const word = fresh();
        const started = startRanks(family, i < 3 ? 2 : 3, [what, exchange, word], { script });
        const { code, stderr, stdout } = await endOf(started, word, 20);
        assertCode(family, code, 7, stderr);
        assert.match(stderr, said);
        assert.equal(stdout.includes("a step was made"), false);
      });
    }
  });

  for (const [at, said] of [
    ["trainSteps", /ranks are not at the same place: rank 0 adds gradients, rank 1 gathers/],
    [
      "gather prune",
      /ranks are not at the same place: rank \d at "(?:prune|elsewhere)" \(\d+\), rank \d at "(?:prune|elsewhere)"/,
    ],
  ] as const) {
    test(`something else at ${at}`, needsMpi("mpich"), async () => {
      const family = "mpich";
      const run = fresh();
      const fault = { rank: 1, at, step: 2, kind: "gather", hit: `${run}hit` } as const;
      const started = launch({ family, ranks: 2, given: settingsOf(run), fault });
      const { code, stderr } = await endOf(started, run, 30);
      assertCode(family, code, 7, stderr);
      assert.match(stderr, said);
      await assertWhole(run);
    });
  }
});

suite("a rank that fails by itself", { concurrency: 2 }, () => {
  const places: [string, number][] = [
    ["load", 0],
    ["joinRanks", 0],
    ["gather handshake", 0],
    ["place loading", 3],
    ["place computing", 3],
    ["trainSteps", 3],
    ["place saving", 3],
    ["place evaluating", 6],
    ["place ending", 0],
    ["closeRanks", 0],
  ];
  const kinds: FaultKind[] = ["throw", "exit 0", "reject", "exit 3", "heap", "allocation", "abort"];
  const codes: Partial<Record<FaultKind, number>> = {
    throw: 1,
    reject: 1,
    "exit 0": 7,
    "exit 3": 3,
    allocation: 6,
  };
  const all = places.flatMap(([at, step], p) => kinds.flatMap((kind, k) => [0, 1].map((rank) => ({ at, step, kind, rank, family: families[(p + k + rank) % 2] as Family })))); // prettier-ignore
  /** Throw and exit everywhere, on one rank and on the other; every other kind somewhere. */
  const some = all.filter(({ at, kind, rank }) => {
    const place = places.findIndex(([name]) => name === at);
    const isHere = rank === place % 2;
    return kind === "throw" ? !isHere : isHere && (kind === "exit 3" || kind === kinds[place % kinds.length]);
  });
  for (const { at, step, kind, rank, family } of isFull ? all : some) {
    test(`${kind} at ${at}, rank ${rank}, ${family}`, needsMpi(family), async () => {
      const run = fresh();
      const hit = `${run}hit`;
      // A rank that left before it met the others in MPI ends nobody with Hydra, nor with Open MPI where it said 0: the
      // others end by the time-out.
      const isUnmet =
        (family === "mpich" && ["load", "joinRanks"].includes(at)) || (kind === "exit 0" && at === "load");
      const given = settingsOf(run, { max_epochs: 1, rank_timeout: isUnmet ? 5 : 20 });
      // In the exchange, while the others are not there yet.
      const late = at === "trainSteps" && kind !== "allocation" ? { after: 300, othersWait: 700 } : {};
      const started = launch({ family, ranks: 2, given, fault: { rank, at, step, kind, hit, ...late } });
      await until(() => existsSync(hit), `the fault in\n${started.said()}`);
      const { code, stderr } = await endOf(started, run, isUnmet ? 15 : 10);
      assert.notEqual(code, 0, stderr);
      const wanted = codes[kind];
      // Before it joined nobody of ours makes an exit of 0 a failure; with Hydra the last to leave decides,
      // and at the very end what becomes of itself: 255, or a signal.
      const isHydras = family === "mpich" && at === "closeRanks";
      if (wanted !== undefined && at !== "load" && !isUnmet && !isHydras)
        assertCode(family, code, wanted, stderr);
      await assertWhole(run);
    });
  }
});

suite("rank 0's disk is full", () => {
  for (const family of families) {
    test(`all ranks stop with the reason, ${family}`, needsMpi(family), async () => {
      const run = fresh();
      const hit = `${run}hit`;
      const fault = { at: 150, kind: "ENOSPC", lasting: true, below: run, thread: "main", rank: 0, hit };
      const faults = new URL("../support/faults.js", import.meta.url).pathname;
      const env = { NODE_OPTIONS: `--import ${faults}`, RIFFLE_FAULT: JSON.stringify(fault) };
      const started = launch({ family, ranks: 2, given: settingsOf(run, { rank_timeout: 20 }), env });
      await until(() => existsSync(hit), `the fault in\n${started.said()}`);
      const { code, stderr } = await endOf(started, run, 10);
      assertCode(family, code, 6, stderr);
      assert.match(stderr, /^riffle: .*cannot be written: ENOSPC[^]*\n {2}Free space on the disk/m);
      assert.equal(count(stderr, /^(?:\[rank \d\] )?riffle: /), 1, stderr);
      assert.ok((await assertWhole(run)) >= 0);
    });
  }
});
