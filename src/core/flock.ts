/**
 * The kernel's lock on an open file, flock(2): it ends with the process however that ends, and it holds across PID
 * namespaces, containers and host names that share the file.
 *
 * Node has none of its own. The addon asks the kernel; without one the command flock(1) does, of util-linux or busybox, which
 * locks the same open file. So processes with and without an addon exclude each other.
 */

import { spawnSync } from "node:child_process";
import { type FileHandle, stat } from "node:fs/promises";
import { getSystemErrorName } from "node:util";

import { addonOrUndefined } from "./addon.js";
import { errorCode, systemError } from "./error.js";

/** Whose the lock is now, or why there are no such locks here. */
export type FlockAnswer = "ours" | "theirs" | { readonly none: string };

/** Tries for the lock on an open file, without waiting. It is let go when the file is closed. */
export function flock(descriptor: number): FlockAnswer {
  const addon = addonOrUndefined() as Addon | undefined;
  if (addon === undefined) return flockByCommand(descriptor);
  const errno = addon.flock(descriptor);
  if (errno === 0) return "ours";
  const code = getSystemErrorName(-errno);
  if (code === "EAGAIN" || code === "EWOULDBLOCK") return "theirs";
  if (["ENOLCK", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EINVAL"].includes(code)) return { none: code };
  throw systemError(code, `${code}: the file cannot be locked`);
}

/** A lock belongs to the open file, which the command has in common with us, and stays when the command has ended. */
export function flockByCommand(descriptor: number): FlockAnswer {
  if (process.platform === "win32" || isCommandMissing) return NO_COMMAND;
  const stdio = ["ignore", "ignore", "pipe", descriptor] as const;
  const { error, status, stderr } = spawnSync("flock", ["-n", "3"], { stdio: [...stdio], encoding: "utf8" });
  if (error !== undefined) {
    if (!["ENOENT", "EACCES"].includes(errorCode(error) ?? "")) throw error;
    isCommandMissing = true;
    return NO_COMMAND;
  }
  if (status === 0) return "ours";
  // It says nothing of a lock that another has, and something of all else.
  if (status === 1 && stderr === "") return "theirs";
  return { none: stderr.split("\n")[0] || `flock ended with ${status}` };
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

interface Addon {
  /** Returns an errno, or 0. */
  flock(descriptor: number): number;
}

const NO_COMMAND = { none: "there is neither the native engine nor the command flock" };
let isCommandMissing = false;
