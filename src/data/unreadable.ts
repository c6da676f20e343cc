/**
 * Why something cannot be read: the file's own fault, or the machine's.
 *
 * Only what the system says of this very path (it is not there, it may not be read) makes a bad picture, which may be
 * left out. A disk that fails, a network share that is gone and a process that may open no more files say nothing
 * of the pictures: they end the run with exit code 6, and no picture is lost for it.
 */

import { getSystemErrorName } from "node:util";

import { DataError, errorCode, ResourceError } from "../core/error.js";

/**
 * The error to throw where reading `where` failed with `error`, or with an errno of native code; one that is no error
 * of the system is given back as it is.
 */
export function unreadable(where: string, error: unknown): Error {
  const code = typeof error === "number" ? getSystemErrorName(-error) : errorCode(error);
  if (code === undefined || !/^E[A-Z0-9_]+$/.test(code))
    return error instanceof Error ? error : new Error(String(error));
  const ofFile = OF_THE_FILE[code];
  // Node puts U+FFFD into the place of what is no text, and no file has that name.
  if (code === "ENOENT" && where.includes("\ufffd")) {
    return DataError.at(
      where,
      "there is no such file; a name that is not UTF-8 text cannot be given",
      {},
      error,
    );
  }
  if (ofFile !== undefined) return DataError.at(where, ofFile, {}, error);
  // Node's own, such as a path with a NUL in it.
  if (code.startsWith("ERR_")) return DataError.at(where, `cannot be read: ${code}`, {}, error);
  return new ResourceError(
    {
      where,
      what: `cannot be read: ${WORDS[code] ?? code}`,
      safe: "It was not counted as a bad picture",
      hint: HINTS[code] ?? "Look at the disk or network that it lies on, then run the same command again",
    },
    error,
  );
}

/** No memory, for what cannot be decoded without it. */
export function noMemory(where: string, cause?: unknown): ResourceError {
  const what = "no memory to decode it";
  return new ResourceError({ where, what, safe: "It was not counted as a bad picture", ...MEMORY }, cause);
}

const MEMORY = { hint: "Leave more memory to this process" };

const OF_THE_FILE: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file (a broken link?)",
  ENOTDIR: "there is no such file: a part of its path is no folder",
  EISDIR: "a folder, where a file is expected",
  ELOOP: "cannot be read: a loop of symbolic links",
  ENAMETOOLONG: "a name that is too long",
  EACCES: "cannot be read: no permission",
  EPERM: "cannot be read: no permission",
};

const WORDS: Readonly<Record<string, string>> = {
  EMFILE: "this process may open no more files (EMFILE)",
  ENFILE: "the machine may open no more files (ENFILE)",
  ENOMEM: "no memory (ENOMEM)",
  EIO: "the disk or network failed (EIO)",
  ESTALE: "the network share was replaced or is gone (ESTALE)",
};

const HINTS: Readonly<Record<string, string>> = {
  EMFILE: "Allow more: ulimit -n 4096",
  ENFILE: "End what holds so many files open, or raise fs.file-max",
  ENOMEM: MEMORY.hint,
};
