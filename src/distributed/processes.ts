/** The processes below one, on this machine, and their end. */

import { existsSync, readdirSync, readFileSync } from "node:fs";

import { errorCode } from "../core/error.js";

interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly commandLine: string;
}

/** All processes that descend from this one, as far as the system tells (Linux's /proc). */
export function descendants(ancestor: number): Process[] {
  const children = new Map<number, Process[]>();
  for (const process of allProcesses()) {
    children.set(process.parent, [...(children.get(process.parent) ?? []), process]);
  }
  const below = (pid: number): Process[] =>
    (children.get(pid) ?? []).flatMap((child) => [child, ...below(child.pid)]);
  return below(ancestor);
}

/** Whether this process runs, and has `word` in its command line: a number may have passed to another process. */
export function isRunning(pid: number, word: string): boolean {
  try {
    process.kill(pid, 0);
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(word);
  } catch (error) {
    // Gone; or alive, on a system without /proc.
    return errorCode(error) === "ENOENT" && !existsSync("/proc/self");
  }
}

/** Sends a signal to each that is still there; a negative number is a group. */
export function signalAll(pids: Iterable<number>, signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch {
      // Gone, which is what was wanted.
    }
  }
}

function allProcesses(): Process[] {
  let names: string[];
  try {
    names = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  } catch {
    return [];
  }
  return names.flatMap((name) => {
    try {
      // "pid (name) state parent ...", where the name may hold anything.
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      const [, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      const commandLine = readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ");
      return [{ pid: Number(name), parent: Number(parent), commandLine }];
    } catch {
      return [];
    }
  });
}
