/**
 * A log that others append to, read on from where it was read to: whole lines only, as many as there are.
 *
 * It is opened for reading, for as long as that takes. Half a line at its end waits until it is whole. Where the file is another
 * than before, or was cut behind what was read (a full disk takes back what it took), it is read from its beginning.
 *
 * Lengths are in bytes.
 */

import { constants, type FileHandle, open } from "node:fs/promises";

import { errorCode } from "../core/error.js";
import { LONGEST_LINE } from "../report/run-log.js";

export interface Listener {
  /** A line; undefined for one that is too long. */
  hear(line: string | undefined): void;
  /** All that was heard is void. */
  startOver(): void;
}

/** So much is read at once, more than a line may have; whoever waits for more asks again. */
const MOST_AT_ONCE = 2 * LONGEST_LINE;
/** So much of what was read is compared with what stands there now. */
const REMEMBERED = 64;

export class LogTail {
  #id = "";
  /** Where the line begins that is read next. */
  #at = 0;
  /** What stood before it. */
  #before: Buffer = Buffer.alloc(0);
  /** Whether a line that is too long is being passed over. */
  #skips = false;
  #length = 0;
  #isRead = true;

  constructor(private readonly path: string) {}

  /** Of the file when it was looked at last; 0 where there is none. */
  get length(): number {
    return this.#length;
  }

  /** The share of the file that has been read; below 1 there is more to read at once. */
  get done(): number {
    return this.#isRead ? 1 : this.#at / this.#length;
  }

  /**
   * Reads on.
   *
   * @returns when the file was last written, in milliseconds since 1970; undefined where there is none
   * @throws what the system refuses else, an error where the path is no file
   */
  async read(listener: Listener): Promise<number | undefined> {
    let file: FileHandle;
    try {
      // Not waiting for whoever writes, should the path be a pipe.
      file = await open(this.path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (error) {
      if (errorCode(error) !== "ENOENT") throw error;
      this.#forget(listener);
      return undefined;
    }
    try {
      const found = await file.stat();
      if (!found.isFile()) throw new Error("it is not a regular file");
      const { dev, ino, size, mtimeMs } = found;
      const id = `${dev}:${ino}`;
      let bytes = id === this.#id ? await this.#next(file, size) : undefined;
      if (bytes === undefined) {
        this.#forget(listener);
        bytes = (await this.#next(file, size)) ?? Buffer.alloc(0);
      }
      this.#id = id;
      this.#length = size;
      this.#isRead = this.#at + bytes.length >= size;
      this.#take(bytes, listener);
      return mtimeMs;
    } finally {
      await file.close();
    }
  }

  /** What comes next; undefined where what was read before is no longer there. */
  async #next(file: FileHandle, size: number): Promise<Buffer | undefined> {
    if (size < this.#at) return undefined;
    const from = this.#at - this.#before.length;
    const wanted = Math.min(size - from, this.#before.length + MOST_AT_ONCE);
    const bytes = Buffer.allocUnsafe(wanted);
    let length = 0;
    while (length < wanted) {
      const { bytesRead } = await file.read(bytes, length, wanted - length, from + length);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    const isSame = bytes.subarray(0, Math.min(length, this.#before.length)).equals(this.#before);
    return isSame ? bytes.subarray(this.#before.length, length) : undefined;
  }

  #take(bytes: Buffer, listener: Listener): void {
    let from = 0;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, from)) {
      const isTooLong = this.#skips || end - from > LONGEST_LINE;
      listener.hear(isTooLong ? undefined : bytes.toString("utf8", from, end));
      this.#skips = false;
      from = end + 1;
    }
    if (bytes.length - from > LONGEST_LINE) {
      this.#skips = true;
      from = bytes.length;
    }
    if (from === 0) return;
    this.#at += from;
    const read = Buffer.concat([this.#before, bytes.subarray(Math.max(0, from - REMEMBERED), from)]);
    this.#before = read.subarray(-REMEMBERED);
  }

  #forget(listener: Listener): void {
    if (this.#at > 0) listener.startOver();
    this.#id = "";
    this.#at = 0;
    this.#before = Buffer.alloc(0);
    this.#skips = false;
    this.#length = 0;
    this.#isRead = true;
  }
}

const NEWLINE = 0x0a;
