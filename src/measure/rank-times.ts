/**
 * What one rank needs for a shard, measured while others compute beside it as they will: a core that shares its memory
 * and its clock with busy ones is slower than one that is alone.
 */

import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";

import { ResourceError } from "../core/error.js";
import type { BusyRankReply, BusyRankSettings } from "./busy-rank.js";
import { median } from "../core/median.js";
import type { RankTimes } from "./scaling.js";
import { compileNetwork, type ProgramSettings, timeSteps } from "./workload.js";

interface RankTiming {
  /** Threads of each rank. */
  readonly threads: number;
  /** Ranks that compute meanwhile, in processes of their own. */
  readonly beside: number;
  /** Steps measured, after two of warm-up. */
  readonly steps: number;
}

/** Trains on made-up pictures. @throws ResourceError where there is too little memory for all of them. */
export async function measureRank(
  network: ProgramSettings,
  { threads, beside, steps }: RankTiming,
  progress?: (done: number, total: number) => void,
): Promise<RankTimes> {
  const neighbours: ChildProcess[] = [];
  try {
    for (let i = 0; i < beside; i++) neighbours.push(startNeighbour({ network, threads }));
    await Promise.all(neighbours.map(isBusy));
    const timings = await timeSteps(compileNetwork(network, "train"), steps, { threads }, progress);
    const gone = neighbours.find(({ connected }) => !connected);
    if (gone !== undefined) throw notBusy("it ended before the measurement did");
    return splitStep(timings);
  } finally {
    for (const each of neighbours) if (each.connected) each.disconnect();
  }
}

/** The median step, in parts that are to each other as their means are. */
function splitStep({
  stepSeconds,
  layerSeconds,
  backwardSeconds,
}: Awaited<ReturnType<typeof timeSteps>>): RankTimes {
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
  const scale = (median(stepSeconds) * stepSeconds.length) / sum(stepSeconds);
  const backward = backwardSeconds.map((seconds) => scale * seconds);
  const forward = scale * (sum(layerSeconds) - sum(backwardSeconds));
  return { forward, backward, update: Math.max(0, median(stepSeconds) - forward - sum(backward)) };
}

function startNeighbour(settings: BusyRankSettings): ChildProcess {
  const script = fileURLToPath(new URL("./busy-rank.js", import.meta.url));
  return fork(script, [JSON.stringify(settings)], { stdio: ["ignore", "ignore", "inherit", "ipc"] });
}

/** Waits for its first step. */
function isBusy(neighbour: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    neighbour.once("message", ({ failed }: BusyRankReply) => {
      if (failed === undefined) resolve();
      else reject(notBusy(failed));
    });
    neighbour.once("error", (error) => reject(notBusy(error.message)));
    neighbour.once("exit", (code, signal) =>
      reject(notBusy(`it ended with ${signal ?? `exit code ${code}`}`)),
    );
  });
}

function notBusy(why: string): ResourceError {
  return new ResourceError({
    what: `the process of a rank beside the measured one failed: ${why}`,
    hint: "Plan with fewer ranks on a machine, --ranks_per_machine N, or a smaller --batch_size",
  });
}
