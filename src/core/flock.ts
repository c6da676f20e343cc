/**
 * The kernel's lock on an open file, flock(2): it ends with the process however that ends, and it holds across PID
 * namespaces, containers and host names that share the file.
 */

import { type FileHandle, stat } from "node:fs/promises";
import { getSystemErrorName } from "node:util";

import { loadAddon } from "./addon.js";
import { errorCode, systemError } from "./error.js";

/** Whose the lock is now, or why there are no such locks here. */
export type FlockAnswer = "ours" | "theirs" | { readonly none: string };

/** Tries for the lock on an open file, without waiting. It is let go when the file is closed. */
export function flock(descriptor: number): FlockAnswer {
  native ??= findNative();
  if (typeof native === "string") return { none: native };
  const errno = native(descriptor);
  if (errno === 0) return "ours";
  const code = getSystemErrorName(-errno);
  if (code === "EAGAIN" || code === "EWOULDBLOCK") return "theirs";
  if (["ENOLCK", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EINVAL"].includes(code)) return { none: code };
  throw systemError(code, `${code}: the file cannot be locked`);
}

/** Whether the open file is still the one under its name. */
export async function standsAt(file: FileHandle, path: string): Promise<boolean> {
  try {
    const [opened, named] = [await file.stat({ bigint: true }), await stat(path, { bigint: true })];
    return opened.ino === named.ino && opened.dev === named.dev;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return false;
    throw error;
  }
}

/** Returns an errno, or 0. */
type NativeFlock = (descriptor: number) => number;

/** The addon's function, or why there is none. */
let native: NativeFlock | string | undefined;

function findNative(): NativeFlock | string {
  try {
    return (loadAddon() as { readonly flock: NativeFlock }).flock;
  } catch {
    return "the native engine is not built";
  }
}
