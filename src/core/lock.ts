/**
 * One process per folder: a second one hears who has it, instead of mixing its files in.
 *
 * The lock is the kernel's (flock.ts) on the file `.lock`, held open: it holds across PID namespaces, host names and
 * containers on one volume, and it is gone with its process, so nothing stale is ever left. The words in the file are
 * for messages only.
 *
 * Where there are no such locks, the file `.lock-held` being there is the lock, and `warning` says so. One
 * whose process is gone is taken over, as far as that can be seen: only processes of this host can be looked up.
 *
 * Of two processes one may have the kernel's locks and the other not. So each, once it has its own kind, looks for the other
 * kind, by the words in its file, and gives way.
 */

import { readFileSync } from "node:fs";
import { constants, type FileHandle, open, readFile, rename, unlink } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";

import { errorCode, isOfThePath, ResourceError } from "./error.js";
import { flock, type FlockAnswer, standsAt } from "./flock.js";

export interface Lock {
  /** What the user should know: that this lock holds less than it should. */
  readonly warning?: string;
  /** Lets the folder go. Never throws: with the process the lock ends at the latest. */
  release(): Promise<void>;
}

/** Who has the lock. */
export interface Holder {
  /** "process 12 on host, training since 2026-11-29T00:00:00.000Z" */
  readonly words: string;
  /** The file that stands for the lock without a kernel's; removing it is up to the user. */
  readonly file?: string;
}

/** Every name in a folder that belongs to its lock begins with it. */
export const LOCK_FILE = ".lock";

/** Whether a process has the lock of a folder, as far as its words tell. */
export type Presence = "here" | "gone" | "nobody" | "unknown";

/** Asks nothing of the kernel and writes nothing, so that whoever only looks is never in the way. */
export async function presenceIn(folder: string): Promise<Presence> {
  for (const name of [`${LOCK_FILE}-held`, LOCK_FILE]) {
    const text = await textIfFile(join(folder, name));
    // Where the kernel has no locks the file stays, without words.
    if (text === undefined || text === "") continue;
    const owner = parseOwner(text);
    if (owner === undefined || owner.host !== hostname()) return "unknown";
    return isAlive(owner) ? "here" : "gone";
  }
  return "nobody";
}

/** @param purpose what for, such as "training" */
export async function tryLock(
  folder: string,
  purpose: string,
  ask: (descriptor: number) => FlockAnswer = flock,
): Promise<Lock | Holder> {
  const path = join(folder, LOCK_FILE);
  for (;;) {
    const file = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_NONBLOCK, 0o666);
    let kept = false;
    try {
      await expectFile(file, path);
      const answer = ask(file.fd);
      if (answer === "theirs") return { words: await holderOf(file) };
      if (typeof answer === "object") return await tryPlainLock(path, purpose, answer.none);
      // Whoever had it until now has taken the file away.
      if (!(await standsAt(file, path))) continue;
      await file.truncate(0);
      await file.write(ownerText(purpose), 0);
      // Only now, so that of two that begin at once at least one sees the other.
      const other = await plainHolder(`${path}-held`);
      if (other !== undefined) {
        await unlink(path).catch(() => undefined);
        return other;
      }
      kept = true;
      return { release: () => letGo(path, file) };
    } finally {
      if (!kept) await file.close().catch(() => undefined);
    }
  }
}

/** What the file of a lock says of its process. */
interface Owner {
  readonly pid: number;
  readonly host: string;
  /** When the process began, in clock ticks since the machine started; "" where that cannot be known. */
  readonly started: string;
  /** Not in files of Riffle 0.1.0. */
  readonly since?: string;
  readonly purpose?: string;
}

function ownerText(purpose: string): string {
  const { pid } = process;
  const owner = { pid, host: hostname(), started: processStart(pid) ?? "", since: new Date(), purpose };
  return `${JSON.stringify(owner)}\n`;
}

function wordsOf(text: string): string {
  const owner = parseOwner(text);
  if (owner === undefined) return "a process that has not said who it is";
  const { pid, host, since = "", purpose = "" } = owner;
  const task = [purpose, since && `since ${since}`].filter(Boolean).join(" ");
  return `process ${pid} on ${host}${task && `, ${task}`}`;
}

/** Whoever has just taken the lock has yet to write its words. */
async function holderOf(file: FileHandle): Promise<string> {
  for (let tries = 0; ; tries++) {
    const text = await file.readFile("utf8");
    if (text.endsWith("\n") || tries === 10) return wordsOf(text);
    await setTimeout(20);
  }
}

/** Taken away first, so that nobody takes it who finds it here. */
async function letGo(path: string, file?: FileHandle): Promise<void> {
  await unlink(path).catch(() => undefined);
  await file?.close().catch(() => undefined);
}

async function tryPlainLock(lock: string, purpose: string, reason: string): Promise<Lock | Holder> {
  const path = `${lock}-held`;
  for (;;) {
    try {
      const file = await open(path, "wx");
      await file.writeFile(ownerText(purpose)).finally(() => file.close());
    } catch (error) {
      if (errorCode(error) !== "EEXIST") throw error;
      const holder = await plainHolder(path);
      if (holder !== undefined) return holder;
      continue;
    }
    const other = await kernelHolder(lock);
    if (other !== undefined) {
      await letGo(path);
      return other;
    }
    return {
      warning:
        `the folder of ${lock} has no locks of the kernel (${reason}): a second process is noticed on this host only, ` +
        `and ${path} may have to be removed by hand after a crash of another host`,
      release: () => letGo(path),
    };
  }
}

/** Who has the lock that is a file; one whose process is gone is taken away. */
async function plainHolder(path: string): Promise<Holder | undefined> {
  for (;;) {
    const text = await readIfThere(path);
    if (text === undefined) return undefined;
    const owner = parseOwner(text);
    // Without words it is just being made.
    if (owner === undefined || isAlive(owner)) return { words: wordsOf(text), file: path };
    await removeStale(path, text);
  }
}

/** Who has the kernel's lock, for whoever cannot ask the kernel: its words outlive a process that was killed. */
async function kernelHolder(path: string): Promise<Holder | undefined> {
  const text = await readIfThere(path);
  const owner = text === undefined ? undefined : parseOwner(text);
  return owner === undefined || !isAlive(owner) ? undefined : { words: wordsOf(text ?? ""), file: path };
}

/** Moves the stale file away; if another process has replaced it meanwhile, puts that one back. */
async function removeStale(path: string, stale: string): Promise<void> {
  const aside = `${path}-stale-${process.pid}`;
  try {
    await rename(path, aside);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return;
    throw error;
  }
  if ((await readFile(aside, "utf8")) !== stale) await rename(aside, path);
  else await unlink(aside);
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
  let file: FileHandle | undefined;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    await expectFile(file, path);
    return await file.readFile("utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  } finally {
    await file?.close();
  }
}

/** A pipe would be waited at. */
async function expectFile(file: FileHandle, path: string): Promise<void> {
  if ((await file.stat()).isFile()) return;
  throw new ResourceError({
    what: "no plain file has the name of the file that locks a folder",
    where: path,
    safe: "It was left as it is",
    hint: "Take it away, or use another folder",
  });
}

/** The beginning of a file; undefined for what is none, and for a pipe, which would be waited at. */
async function textIfFile(path: string): Promise<string | undefined> {
  let file: FileHandle | undefined;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    if (!(await file.stat()).isFile()) return undefined;
    const { buffer, bytesRead } = await file.read(Buffer.alloc(4096), 0, 4096, 0);
    return buffer.toString("utf8", 0, bytesRead);
  } catch (error) {
    if (isOfThePath(error)) return undefined;
    throw error;
  } finally {
    await file?.close();
  }
}

function parseOwner(text: string): Owner | undefined {
  try {
    const owner = JSON.parse(text) as Owner | null;
    return Number.isSafeInteger(owner?.pid) && typeof owner?.host === "string" ? owner : undefined;
  } catch {
    return undefined;
  }
}
