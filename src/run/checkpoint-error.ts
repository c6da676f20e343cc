/**
 * What goes wrong with a checkpoint, in one wording: whatever reads one ends with code 4 and says that it is untouched.
 */

import { CheckpointError, errorCode, FormatError, isOfThePath, isSystemError } from "../core/error.js";

export const untouched = { safe: "The checkpoint is untouched" } as const;

/** Errors of the path and of the format as a checkpoint's; anything else, the machine's among it, is passed on. */
export function asCheckpointError(error: unknown, path: string): unknown {
  if (error instanceof FormatError) {
    const { what, expected, found, where } = error.problem;
    return new CheckpointError(
      {
        what: `the weights cannot be read: ${what}`,
        where: where ?? path,
        expected,
        found,
        ...untouched,
      },
      error,
    );
  }
  const code = errorCode(error);
  // A disk that fails says nothing of the checkpoint: an older one may not take its place.
  if (code === undefined || (isSystemError(error) && !isOfThePath(error))) return error;
  return new CheckpointError(
    {
      what:
        code === "ENOENT" || code === "ENOTDIR"
          ? "there is no such file or folder"
          : `cannot be read (${code})`,
      where: path,
      ...untouched,
    },
    error,
  );
}
