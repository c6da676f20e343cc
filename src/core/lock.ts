/**
 * One process per folder: a second one hears who has it, instead of mixing its files in.
 *
 * The lock is a file naming the process. It outlives a kill, so a lock whose process is gone (or whose
 * number now belongs to another process) is taken over. Only processes of this host can be checked.
 */

import { link, readFile, rename, unlink, writeFile } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";

import { errorCode } from "./durable.js";

export interface Lock {
  release(): Promise<void>;
}

/** A living process that has the lock. */
export interface Owner {
  readonly pid: number;
  readonly host: string;
  /** When the process began, in clock ticks since the machine started; "" where that cannot be known. */
  readonly started: string;
}

/** The file in the folder; while it is made, names that begin with it stand there, too. */
export const LOCK_FILE = ".lock";

/** The lock, or who has it. */
export async function tryLock(folder: string): Promise<Lock | Owner> {
  const path = join(folder, LOCK_FILE);
  const owner: Owner = { pid: process.pid, host: hostname(), started: processStart(process.pid) ?? "" };
  const text = `${JSON.stringify(owner)}\n`;
  while (!(await createWhole(path, text))) {
    const found = await readIfThere(path);
    if (found === undefined) continue;
    const other = parseOwner(found);
    if (other !== undefined && isAlive(other)) return other;
    await removeStale(path, found);
  }
  return {
    release: async () => {
      if ((await readIfThere(path)) === text) await unlink(path);
    },
  };
}

/** Names the process of a lock, for a message. */
export function ownerText({ pid, host, started }: Owner): string {
  return `process ${pid} on ${host}${started === "" ? "" : `, started at tick ${started}`}`;
}

/** Of this process, which may try for several folders, or one several times, at once. */
let attempts = 0;

/** Creates the file with all of its content at once; false when it exists already. */
async function createWhole(path: string, text: string): Promise<boolean> {
  const temporary = `${path}-${process.pid}-${attempts++}`;
  await writeFile(temporary, text);
  try {
    await link(temporary, path);
    return true;
  } catch (error) {
    if (errorCode(error) === "EEXIST") return false;
    throw error;
  } finally {
    await unlink(temporary);
  }
}

/** Moves the stale lock away; if another process has replaced it meanwhile, puts that one back. */
async function removeStale(path: string, stale: string): Promise<void> {
  const aside = `${path}-stale-${process.pid}`;
  try {
    await rename(path, aside);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return;
    throw error;
  }
  if ((await readFile(aside, "utf8")) !== stale) await link(aside, path).catch(() => undefined);
  await unlink(aside);
}

function isAlive(owner: Owner): boolean {
  if (owner.host !== hostname()) return true;
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    // EPERM: it lives, under another user.
    if (errorCode(error) !== "EPERM") return false;
  }
  const started = processStart(owner.pid);
  return started === undefined || owner.started === "" || started === owner.started;
}

/** Field 22 of /proc/PID/stat (proc(5)); the command's name before it may hold spaces and brackets. */
function processStart(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    return undefined;
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

function parseOwner(text: string): Owner | undefined {
  try {
    const value = JSON.parse(text) as Partial<Owner> | null;
    const { pid, host, started } = value ?? {};
    if (!Number.isSafeInteger(pid) || typeof host !== "string" || typeof started !== "string")
      return undefined;
    return { pid: pid as number, host, started };
  } catch {
    return undefined;
  }
}
