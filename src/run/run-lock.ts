/**
 * One trainer per run folder: a second one is refused at once instead of mixing its checkpoints in.
 */

import { ResourceError } from "../core/error.js";
import { type Lock, tryLock } from "../core/lock.js";

/** @throws ResourceError when another living process trains in this folder. */
export async function lockRun(runDir: string): Promise<Lock> {
  const lock = await tryLock(runDir, "training");
  if ("release" in lock) return lock;
  throw new ResourceError({
    what: "another process trains in this folder",
    where: runDir,
    expected: "a run folder of its own",
    found: lock.words,
    safe: "Nothing was written",
    hint:
      "Wait for it, stop it, or name another folder with --log_dir" +
      (lock.file === undefined ? "" : `; if no process runs there any more, remove ${lock.file}`),
  });
}
