/**
 * One trainer per run folder: a second one is refused at once instead of mixing its checkpoints in.
 *
 * The lock is a file naming the process. It outlives a kill, so a lock whose process is gone (or whose
 * number now belongs to another process) is taken over. Only processes of this host can be checked.
 */

import { link, readFile, rename, unlink, writeFile } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";

import { ResourceError } from "../core/error.js";
import { errorCode } from "../core/durable.js";

export interface RunLock {
  release(): Promise<void>;
}

interface Owner {
  readonly pid: number;
  readonly host: string;
  /** When the process began, in clock ticks since the machine started; "" where that cannot be known. */
  readonly started: string;
}

const lockName = ".lock";

/** @throws ResourceError when another living process trains in this folder. */
export async function lockRun(runDir: string): Promise<RunLock> {
  const path = join(runDir, lockName);
  const owner: Owner = { pid: process.pid, host: hostname(), started: processStart(process.pid) ?? "" };
  const text = `${JSON.stringify(owner)}\n`;
  while (!(await createWhole(path, text))) {
    const found = await readIfThere(path);
    if (found === undefined) continue;
    const other = parseOwner(found);
    if (other !== undefined && isAlive(other)) throw lockedBy(other, runDir);
    await removeStale(path, found);
  }
  return {
    release: async () => {
      if ((await readIfThere(path)) === text) await unlink(path);
    },
  };
}

/** Creates the file with all of its content at once; false when it exists already. */
async function createWhole(path: string, text: string): Promise<boolean> {
  const temporary = `${path}-${process.pid}`;
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

function lockedBy(owner: Owner, runDir: string): ResourceError {
  const here = owner.host === hostname();
  return new ResourceError({
    what: "another process trains in this folder",
    where: runDir,
    expected: "a run folder of its own",
    found: `process ${owner.pid} on ${owner.host}${owner.started === "" ? "" : `, started at tick ${owner.started}`}`,
    safe: "Nothing was written",
    hint: here
      ? "Wait for it, stop it, or name another folder with --log_dir"
      : `If no process runs there any more, remove ${join(runDir, lockName)}`,
  });
}
