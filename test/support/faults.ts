/**
 * A file system that fails on purpose: the k-th operation below a folder fails, once or from there on, for k = 1, 2, 3 ...
 * until a piece of work ends without having reached its k-th. (The method of SQLite's I/O error tests.)
 *
 * Node's own functions are replaced, so every reader and writer of the product is reached without knowing of it. A write
 * that fails has written half of its bytes before, as on a full disk. A kill is the same as everything failing from an
 * operation on, clearing up included; "kill" ends the process there, for those who do not believe it.
 *
 * In a process of its own, `node --import .../faults.js` with RIFFLE_FAULT='{"at": 3, "kind": "EIO", ...}' does it to any
 * command; threads count for themselves. The file `hit` is written when the fault comes.
 */

import fs from "node:fs";
import fsp from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { isMainThread } from "node:worker_threads";

export const faultKinds = ["EIO", "ENOSPC", "EROFS", "EACCES", "EMFILE", "short"] as const;

export interface Fault {
  /** Counted from 1. */
  readonly at: number;
  /** "short": a write ends half-way, without an error. */
  readonly kind: (typeof faultKinds)[number] | "kill";
  /** This operation only, or all from it on. */
  readonly lasting: boolean;
  /** The folder in which operations count. */
  readonly below: string;
}

interface ChildFault extends Fault {
  readonly thread: "main" | "worker";
  /** Of a launch, in this one only. */
  readonly rank?: number;
  readonly hit: string;
}

/** Does some work with a fault in its way. @returns what came of it, and whether the fault came at all */
export async function withFault<T>(
  fault: Fault,
  work: () => Promise<T>,
): Promise<{ readonly hit: boolean; readonly value?: T; readonly error?: unknown }> {
  assertUnarmed();
  armed = fault;
  count = 0;
  try {
    const value = await work();
    return { hit: count >= fault.at, value };
  } catch (error) {
    return { hit: count >= fault.at, error };
  } finally {
    armed = undefined;
  }
}

let armed: (Fault & { readonly hit?: string }) | undefined;
let count = 0;
/** Open files below the folder: handles, and numbers of those opened synchronously. */
const handles = new WeakSet<object>();
const descriptors = new Set<number>();

function assertUnarmed(): void {
  if (armed !== undefined) throw new Error("one fault at a time");
}

/** Counts an operation; what it has to fail with, if it has to. */
function verdict(name: string): Error | "short" | undefined {
  if (armed === undefined) return undefined;
  count++;
  if (armed.lasting ? count < armed.at : count !== armed.at) return undefined;
  if (armed.hit !== undefined) real.writeFileSync(armed.hit, name);
  if (armed.kind === "kill") process.kill(process.pid, "SIGKILL");
  if (armed.kind === "short") return "short";
  const { kind } = armed;
  return Object.assign(new Error(`${kind}: made to fail, ${name}`), { code: kind, syscall: name });
}

const isBelow = (args: readonly unknown[]): boolean =>
  armed !== undefined &&
  args.slice(0, 2).some((path) => typeof path === "string" && path.startsWith(armed?.below ?? ""));

type Any = (...args: never[]) => unknown;
type Functions = Record<string, Any>;

const real = { ...fs };

function half(data: unknown): unknown {
  return typeof data === "string" || data instanceof Uint8Array ? data.slice(0, data.length >> 1) : data;
}

/** Functions that take a path, of `fs` and of `fs/promises`. */
const byPath = ["open", "rename", "mkdir", "rm", "rmdir", "unlink", "readdir", "stat", "lstat", "statfs", "readFile", "writeFile", "appendFile", "link", "access", "realpath"]; // prettier-ignore

for (const name of byPath) {
  const functions = fsp as unknown as Functions;
  const original = functions[name] as (...args: unknown[]) => Promise<unknown>;
  functions[name] = async (...args: unknown[]) => {
    if (!isBelow(args)) return original(...args);
    const failure = verdict(name);
    if (failure instanceof Error) {
      if (name === "writeFile" || name === "appendFile") await original(args[0], half(args[1]));
      throw failure;
    }
    const result = await original(...args);
    if (name === "open") handles.add(result as object);
    return result;
  };
  const sync = fs as unknown as Functions;
  const originalSync = sync[`${name}Sync`] as ((...args: unknown[]) => unknown) | undefined;
  if (originalSync === undefined) continue;
  sync[`${name}Sync`] = (...args: unknown[]) => {
    if (!isBelow(args)) return originalSync(...args);
    const failure = verdict(`${name}Sync`);
    if (failure instanceof Error) throw failure;
    const result = originalSync(...args);
    if (name === "open") descriptors.add(result as number);
    return result;
  };
}

for (const name of ["readSync", "writeSync", "fstatSync", "fsyncSync", "closeSync"]) {
  const sync = fs as unknown as Functions;
  const original = sync[name] as (...args: unknown[]) => unknown;
  sync[name] = (...args: unknown[]) => {
    const failure = descriptors.has(args[0] as number) ? verdict(name) : undefined;
    if (name === "closeSync") descriptors.delete(args[0] as number);
    if (failure instanceof Error) {
      if (name === "closeSync") original(...args);
      throw failure;
    }
    return original(...args);
  };
}

{
  const handle = await fsp.open("/dev/null");
  const methods = Object.getPrototypeOf(handle) as Functions;
  await handle.close();
  for (const name of [
    "read",
    "write",
    "sync",
    "stat",
    "truncate",
    "readFile",
    "writeFile",
    "appendFile",
    "close",
  ]) {
    const original = methods[name] as (...args: unknown[]) => Promise<unknown>;
    methods[name] = async function (this: object, ...args: unknown[]): Promise<unknown> {
      const failure = handles.has(this) ? verdict(`handle.${name}`) : undefined;
      if (failure === undefined) return original.apply(this, args);
      if (name === "close") await original.apply(this, args);
      if (name === "write") {
        const [bytes, offset = 0, length = (bytes as Uint8Array).length, position] = args as [unknown, number?, number?, number?]; // prettier-ignore
        const written = await original.call(this, bytes, offset, Math.ceil(length / 2), position);
        if (failure === "short") return written;
      }
      if (!(failure instanceof Error)) return name === "close" ? undefined : original.apply(this, args);
      if (name === "writeFile" || name === "appendFile") await original.call(this, half(args[0]));
      throw failure;
    };
  }
}

syncBuiltinESMExports();

{
  const given = process.env["RIFFLE_FAULT"];
  const fault = given === undefined ? undefined : (JSON.parse(given) as ChildFault);
  const rank = Number(process.env["OMPI_COMM_WORLD_RANK"] ?? process.env["PMI_RANK"]);
  const isHere = fault?.rank === undefined || fault.rank === rank;
  if (fault !== undefined && isHere && (fault.thread === "main") === isMainThread) armed = fault;
}
