/** The processes of a launch, found by a word of their command lines that no other has: the folder of their run. */

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** All that live, `mpirun` and its helpers among them; a zombie has ended. */
export function processesOf(word: string): number[] {
  return numbers().filter((pid) => {
    if (pid === process.pid) return false;
    const [line, status] = [read(pid, "cmdline"), read(pid, "status")];
    return line.includes(word) && !/^State:\s+Z/m.test(status);
  });
}

/** Of each rank that has begun, its process. */
export function ranksOf(word: string): Map<number, number> {
  const found = new Map<number, number>();
  for (const pid of processesOf(word)) {
    const [, rank] = /(?:^|\0)(?:OMPI_COMM_WORLD_RANK|PMI_RANK)=(\d+)/.exec(read(pid, "environ")) ?? [];
    if (rank !== undefined && programOf(pid) === process.execPath) found.set(Number(rank), pid);
  }
  return found;
}

/** Waits until none is left. @returns those that are left after so many seconds */
export async function leftAfter(word: string, seconds: number): Promise<number[]> {
  const until = performance.now() + seconds * 1000;
  let left = processesOf(word);
  for (; left.length > 0 && performance.now() < until; left = processesOf(word)) await sleep(50);
  return left;
}

function numbers(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/** A file of /proc; empty for a process that has ended. */
function read(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return "";
  }
}

function programOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/exe`);
  } catch {
    return "";
  }
}
