import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { suite, test } from "node:test";

import { CheckpointError } from "../../src/core/error.js";
import { Draws, streams } from "../../src/core/random.js";
import { latestCheckpoint } from "../../src/formats/tf-checkpoint-state.js";
import { newestValid } from "../../src/run/find-checkpoint.js";
import type { GivenSettings } from "../../src/settings/settings.js";
import { train } from "../../src/train/trainer.js";
import { scratch, steps, tinySettings, trainedBits, writeTinySet } from "../support/tiny-run.js";
import { trainChild as child } from "../support/paths.js";

/** How often a run is killed, and the seed of the moments: `RIFFLE_KILLS=200 RIFFLE_SEED=2 npm test`. */
const kills = Number(process.env["RIFFLE_KILLS"] ?? 6);
const seed = Number(process.env["RIFFLE_SEED"] ?? 1);

function start(given: GivenSettings): ChildProcess {
  return spawn(process.execPath, [child, JSON.stringify(given)], { stdio: ["ignore", "pipe", "inherit"] });
}

/** Kills the process some milliseconds after its n-th event; true when it came to its end before. */
async function killAfter(process: ChildProcess, events: number, milliseconds: number): Promise<boolean> {
  const ended = new Promise<number | null>((resolve) => process.once("exit", (code) => resolve(code)));
  let seen = 0;
  let finished = false;
  assert.ok(process.stdout);
  for await (const event of createInterface(process.stdout)) {
    finished ||= event === "end";
    if (++seen !== events) continue;
    await sleep(milliseconds);
    process.kill("SIGKILL");
  }
  const code = await ended;
  if (!finished) assert.equal(code, null, "the run failed by itself");
  return finished;
}

/** The variant that TensorFlow's checkpoints are of, which every second run writes beside ours. */
const settings = { variant: "tensorflow", save_checkpoints_steps: 1, keep_checkpoint_max: 2 } as const;

suite(`kill -9 at ${kills} drawn moments, a save at every step`, () => {
  test("a run always resumes, from a whole checkpoint, and ends with the bits of one never killed", async (t) => {
    const folder = scratch();
    const data = writeTinySet(folder);
    const straight = await train({ ...tinySettings(data, join(folder, "straight")), ...settings });
    const expected = trainedBits(straight.checkpoint);

    let killed = 0;
    let completed = 0;
    for (let run = 0; killed < kills || completed === 0; run++) {
      const runDir = join(folder, `run-${run}`);
      let given: GivenSettings = {
        ...tinySettings(data, runDir),
        ...settings,
        checkpoint_format: run % 2 === 0 ? "riffle" : "tf",
      };
      for (let finished = false; !finished;) {
        // Up to 18 steps, 18 saves, 12 evaluation events: any of the first ones, and any moment until the next.
        const draws = new Draws(seed, streams.draw, 0, killed);
        const events = killed < kills ? 1 + draws.below(24) : Infinity;
        finished = await killAfter(start(given), events, draws.below(30));
        if (!finished) killed++;
        const found = await newestOrNone(runDir);
        if (found === undefined) continue; // killed before the first checkpoint: nothing had been trained
        assert.deepEqual(found.damaged, [], "a checkpoint was left that is not whole");
        assertLinesWhole(runDir);
        given = { resume: runDir };
      }
      assert.equal(trainedBits(join(runDir, `step-${steps}`)), expected, `run ${run}`);
      assertLinesWhole(runDir);
      if (run % 2 === 1) {
        const { prefix, passedOver } = await latestCheckpoint(runDir);
        assert.deepEqual([prefix, passedOver], [join(runDir, `model.ckpt-${steps}`), []]);
      }
      const left = readdirSync(runDir).filter((name) => /^\.(saving|replaced|deleting)/.test(name));
      assert.deepEqual(left, [], "what a kill left was not cleared away");
      completed++;
    }
    t.diagnostic(`${killed} kills over ${completed} runs, each ending with ${expected.slice(0, 16)}…`);
  });
});

/** All lines of events.jsonl parse, save half a one at the end, which the next start cuts. */
function assertLinesWhole(runDir: string): void {
  const path = join(runDir, "events.jsonl");
  // The first checkpoint is saved before the first line is written.
  const lines = existsSync(path) ? readFileSync(path, "utf8").split("\n") : [];
  for (const line of lines.slice(0, -1)) JSON.parse(line);
}

async function newestOrNone(runDir: string): Promise<Awaited<ReturnType<typeof newestValid>> | undefined> {
  try {
    return await newestValid(runDir);
  } catch (error) {
    assert.ok(error instanceof CheckpointError, String(error));
    assert.equal(error.problem.what, "there is no checkpoint");
    return undefined;
  }
}
