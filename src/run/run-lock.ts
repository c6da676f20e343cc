/**
 * One trainer per run folder: a second one is refused at once instead of mixing its checkpoints in.
 */

import { hostname } from "node:os";
import { join } from "node:path";

import { ResourceError } from "../core/error.js";
import { type Lock, LOCK_FILE, ownerText, tryLock } from "../core/lock.js";

/** @throws ResourceError when another living process trains in this folder. */
export async function lockRun(runDir: string): Promise<Lock> {
  const lock = await tryLock(runDir);
  if ("release" in lock) return lock;
  throw new ResourceError({
    what: "another process trains in this folder",
    where: runDir,
    expected: "a run folder of its own",
    found: ownerText(lock),
    safe: "Nothing was written",
    hint:
      lock.host === hostname()
        ? "Wait for it, stop it, or name another folder with --log_dir"
        : `If no process runs there any more, remove ${join(runDir, LOCK_FILE)}`,
  });
}
