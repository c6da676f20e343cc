/**
 * A text file that lines are appended to, each whole. A disk that refuses does not stop training: lines that could not
 * be written are counted, and the next that can be says how many are missing.
 *
 * Half a line, which a full disk or a kill leaves at the end, is cut before the next one is written.
 */

import { type FileHandle, open } from "node:fs/promises";

export class LineLog {
  #pending: string[] = [];
  #lost = 0;
  /** Whether the file is known to end with a whole line. */
  #whole = false;

  /** @param missing the line that stands for lines that could not be written */
  constructor(
    private readonly path: string,
    private readonly missing: (lines: number) => string,
  ) {}

  add(...lines: readonly string[]): void {
    this.#pending.push(...lines);
  }

  /** Writes what was added. @returns why it could not be, the first of several times in a row */
  async flush(): Promise<string | undefined> {
    const lines = this.#pending;
    if (lines.length === 0) return undefined;
    this.#pending = [];
    const note = this.#lost === 0 ? [] : [this.missing(this.#lost)];
    let file: FileHandle | undefined;
    let end: number | undefined;
    try {
      file = await open(this.path, "a+");
      if (!(await file.stat()).isFile()) throw new Error(`${this.path} is not a regular file`);
      if (!this.#whole) await cutHalfLine(file);
      end = (await file.stat()).size;
      this.#whole = false;
      await file.appendFile([...note, ...lines].map((line) => `${line}\n`).join(""));
      this.#whole = true;
      this.#lost = 0;
      return undefined;
    } catch (error) {
      if (end !== undefined) await file?.truncate(end).catch(() => undefined);
      const first = this.#lost === 0;
      this.#lost += lines.length;
      return first ? String(error) : undefined;
    } finally {
      await file?.close().catch(() => undefined);
    }
  }
}

const NEWLINE = 0x0a;

/** Leaves a file that is empty or ends with a line break. */
async function cutHalfLine(file: FileHandle): Promise<void> {
  const { size } = await file.stat();
  const piece = Buffer.alloc(4096);
  for (let end = size; end > 0;) {
    const begin = Math.max(0, end - piece.length);
    const { bytesRead } = await file.read(piece, 0, end - begin, begin);
    const at = piece.subarray(0, bytesRead).lastIndexOf(NEWLINE);
    if (at < 0) {
      end = begin;
      continue;
    }
    if (begin + at + 1 < size) await file.truncate(begin + at + 1);
    return;
  }
  if (size > 0) await file.truncate(0);
}
