/**
 * A file that arrives over a network, perhaps in several commands: what has come of it lies beside its place, with a note
 * of what it is the beginning of, until all of it is there and the file gets its name.
 *
 * Names of its own, both beside the place: `.fetching-NAME` holds the bytes, `.fetching-NAME.json` the note. Whoever writes
 * holds the kernel's lock on the bytes; a second process at the same time takes `.fetching-1-NAME` and fetches for itself.
 * Where there are no such locks the names are of that process alone, so nothing is gone on with.
 */

import { createHash, randomUUID } from "node:crypto";
import { constants, type FileHandle, open, readFile, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

import { z } from "zod";

import { asResourceError, makeFolder, replaceFile } from "../core/durable.js";
import { errorCode } from "../core/error.js";
import { flock, standsAt } from "../core/flock.js";
import { renameOver } from "../core/rename-over.js";

const noteSchema = z.object({
  url: z.string(),
  /** HTTP's validator, ETag or Last-Modified: the server goes on only with the file that has it. */
  validator: z.string().optional(),
  /** Bytes of the whole. */
  total: z.int().positive().optional(),
});

/** What the bytes are the beginning of. */
export type PartialNote = z.infer<typeof noteSchema>;

/** Its calls must not overlap. @throws ResourceError for what the system refuses. */
export class PartialFile {
  private constructor(
    /** Where the whole will stand. */
    readonly path: string,
    private readonly temporary: string,
    private readonly file: FileHandle,
    private readonly isFound: boolean,
    /** Written so far. */
    public bytes: number,
    /** Undefined where nothing is written yet, or nothing is known of it. */
    public note: PartialNote | undefined,
  ) {}

  /** With what an earlier command has left. */
  static async begin(path: string): Promise<PartialFile> {
    return told(path, async () => {
      await makeFolder(dirname(path));
      for (let i = 0; ; i++) {
        const temporary = beside(path, i === 0 ? "" : `${i}-`);
        const file = await open(temporary, CREATE, 0o666);
        const answer = flock(file.fd);
        if (answer === "ours" && (await standsAt(file, temporary))) {
          const note = await noteOf(temporary);
          const { size } = await file.stat();
          return new PartialFile(path, temporary, file, true, note === undefined ? 0 : size, note);
        }
        await file.close();
        if (typeof answer !== "object") continue;
        const own = beside(path, `${randomUUID()}-`);
        const handle = await open(own, CREATE | constants.O_EXCL, 0o666);
        return new PartialFile(path, own, handle, false, 0, undefined);
      }
    });
  }

  /** Forgets what is there and begins anew. */
  async restart(note?: PartialNote): Promise<void> {
    await told(this.path, async () => {
      // The note first: without it nothing is gone on with.
      await removed(`${this.temporary}.json`);
      await this.file.truncate(0);
      this.bytes = 0;
      this.note = note;
      if (note !== undefined)
        await replaceFile(`${this.temporary}.json`, [Buffer.from(JSON.stringify(note))]);
    });
  }

  async write(piece: Uint8Array): Promise<void> {
    await told(this.path, async () => {
      for (let done = 0; done < piece.length;) {
        const { bytesWritten } = await this.file.write(piece, done, piece.length - done, this.bytes);
        done += bytesWritten;
        this.bytes += bytesWritten;
      }
    });
  }

  /** Of all bytes as they stand on the disk, in hexadecimal. */
  async sha256(): Promise<string> {
    return told(this.path, async () => {
      const hash = createHash("sha256");
      const buffer = Buffer.alloc(2 ** 20);
      for (let position = 0; position < this.bytes;) {
        const { bytesRead } = await this.file.read(buffer, 0, buffer.length, position);
        if (bytesRead === 0) break;
        hash.update(buffer.subarray(0, bytesRead));
        position += bytesRead;
      }
      return hash.digest("hex");
    });
  }

  /** Brings it to the disk and gives it its name. */
  async commit(): Promise<void> {
    await told(this.path, async () => {
      await this.file.sync();
      await renameOver(this.temporary, this.path);
      await removed(`${this.temporary}.json`);
    });
    await this.#close();
  }

  /** Leaves it for the next command, where that would find it. Never throws. */
  async keep(): Promise<void> {
    if (this.bytes === 0 || !this.isFound) return this.discard();
    await this.#close();
  }

  /** Nothing stays of it. Never throws. */
  async discard(): Promise<void> {
    this.bytes = 0;
    await removed(`${this.temporary}.json`).catch(() => undefined);
    await removed(this.temporary).catch(() => undefined);
    await this.#close();
  }

  async #close(): Promise<void> {
    await this.file.close().catch(() => undefined);
  }
}

/** Not through a link, and not waiting at a FIFO. */
const CREATE = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;

function beside(path: string, which: string): string {
  return join(dirname(path), `.fetching-${which}${basename(path)}`);
}

async function noteOf(temporary: string): Promise<PartialNote | undefined> {
  try {
    return noteSchema.parse(JSON.parse(await readFile(`${temporary}.json`, "utf8")));
  } catch {
    return undefined;
  }
}

async function removed(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
  }
}

async function told<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw asResourceError(error, path, {
      hint: "Free space on the disk or check the folder's permissions, or name another folder of caches: XDG_CACHE_HOME",
    });
  }
}
