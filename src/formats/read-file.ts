/**
 * Files read by place or whole. What is opened is a regular file, without waiting: a pipe under a file's name would be
 * waited for without end. What is read is all that was asked for, or an error.
 *
 * Offsets and lengths are in bytes.
 */

import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";

import { FormatError } from "../core/error.js";

/** What is read from: a FileHandle is one. */
export interface ReadableFile {
  read(into: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }>;
}

/** @throws FormatError for what is no regular file. */
export async function openRegular(
  path: string,
): Promise<{ readonly file: FileHandle; readonly size: number }> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const found = await file.stat();
    if (!found.isFile()) throw new FormatError(path, 0, "is not a regular file");
    return { file, size: found.size };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Fills `into` from the file's `position`; a read may return less than it was asked for. */
export async function readFully(
  file: ReadableFile,
  into: Uint8Array,
  position: number,
  where: string,
): Promise<void> {
  for (let done = 0; done < into.length;) {
    const { bytesRead } = await file.read(
      into,
      done,
      Math.min(into.length - done, MOST_AT_ONCE),
      position + done,
    );
    if (bytesRead === 0) {
      throw new FormatError(where, position + done, "ends early", {
        expected: `${position + into.length} bytes`,
        found: `${position + done}`,
      });
    }
    done += bytesRead;
  }
}

/** All of a file of at most `most` bytes. @throws FormatError */
export async function readWhole(path: string, most: number): Promise<Uint8Array<ArrayBuffer>> {
  const { file, size } = await openRegular(path);
  try {
    if (size > most) {
      throw new FormatError(path, 0, "too long for what it should be", {
        expected: `at most ${most} bytes`,
        found: `${size}`,
      });
    }
    const bytes = new Uint8Array(size);
    await readFully(file, bytes, 0, path);
    return bytes;
  } finally {
    await file.close();
  }
}

/** One read of the system takes 2 GiB at most. */
const MOST_AT_ONCE = 2 ** 30;
