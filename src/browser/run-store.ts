/**
 * Runs in the browser's own files (OPFS): found, read, written, one writer at a time.
 *
 * Whatever is written goes under a new name and is flushed; then `run.json` is replaced, which the browser does as a whole, and
 * last what it no longer names is removed. So a page that is closed at any moment, or a disk that fills up, leaves the run as it
 * was said to be.
 */

import { CheckpointError, ResourceError, UsageError } from "../core/error.js";
import { type FileEntry, parseRecord, recordFile, type RunRecord } from "./run-record.js";
import { browser, type Folder } from "./scope.js";

/** Of all runs. */
const ROOT = "riffle-runs";
const PREFIX = "run-";
const LONGEST_NAME = 80;

/** The folder of one run. */
export class RunFolder {
  private constructor(
    readonly name: string,
    readonly key: string,
    private readonly folder: Folder | undefined,
  ) {}

  /** @throws UsageError for a name that is none; ResourceError where the browser keeps nothing */
  static async at(name: string): Promise<RunFolder> {
    if (typeof name !== "string" || name.trim() === "" || name.length > LONGEST_NAME) {
      throw new UsageError({
        what: "a run needs a name",
        expected: `1 to ${LONGEST_NAME} characters`,
        found: JSON.stringify(name) ?? "none",
      });
    }
    const key = `${PREFIX}${(await sha256(new TextEncoder().encode(name))).slice(0, 32)}`;
    const root = await rootFolder();
    const folder = await root.getDirectoryHandle(key).catch(notFound);
    return new RunFolder(name, key, folder);
  }

  /** The same, made where it is missing. */
  async made(): Promise<RunFolder> {
    const root = await rootFolder();
    return new RunFolder(this.name, this.key, await root.getDirectoryHandle(this.key, { create: true }));
  }

  /** Undefined where there is no run. @throws CheckpointError for one that cannot be read */
  async record(): Promise<RunRecord | undefined> {
    const file = await this.folder?.getFileHandle(recordFile).catch(notFound);
    if (file === undefined) return undefined;
    return parseRecord(await (await file.getFile()).text(), this.#where(recordFile));
  }

  /** @throws UsageError where there is no run of this name */
  async recordOf(): Promise<RunRecord> {
    const record = await this.record();
    if (record !== undefined) return record;
    const names = (await allRecords()).map(({ name }) => name);
    throw new UsageError({
      what: "there is no such run",
      where: this.#where(),
      expected: names.length === 0 ? "a run that was trained or imported here" : names.slice(0, 8).join(", "),
      found: this.name,
    });
  }

  /** @throws CheckpointError where it is not what was written */
  async read(entry: FileEntry): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = await this.file(entry).then((file) => file.arrayBuffer());
    const content = new Uint8Array(bytes);
    if (entry.sha256 !== undefined && (await sha256(content)) !== entry.sha256)
      throw this.#damaged(entry, "its bytes are not those that were saved");
    return content;
  }

  /** The file, of the length that was written. @throws CheckpointError */
  async file(entry: FileEntry): Promise<Blob> {
    const handle = await this.folder?.getFileHandle(entry.name).catch(notFound);
    if (handle === undefined) throw this.#damaged(entry, "it is not there");
    const file = await handle.getFile();
    if (file.size !== entry.bytes)
      throw this.#damaged(entry, `it has ${file.size} bytes, not ${entry.bytes}`);
    return file;
  }

  /**
   * Writes a new file and flushes it; one that is there already was of a save that did not end.
   *
   * @throws ResourceError when the browser refuses; nothing is left of it then
   */
  async write(name: string, pieces: readonly Uint8Array[], summed = true): Promise<FileEntry> {
    const folder = this.#writable();
    try {
      const access = await (await folder.getFileHandle(name, { create: true })).createSyncAccessHandle();
      let bytes = 0;
      try {
        access.truncate(0);
        for (const piece of pieces) {
          // What is shared with threads is not taken by the browser.
          const written = access.write(piece, { at: bytes });
          if (written !== piece.length) throw new DOMException("short write", "QuotaExceededError");
          bytes += written;
        }
        access.flush();
      } finally {
        access.close();
      }
      return { name, bytes, ...(summed ? { sha256: await sha256(joined(pieces)) } : {}) };
    } catch (error) {
      await folder.removeEntry(name).catch(() => undefined);
      throw storageError(error, this.#where(name));
    }
  }

  /** From now on the run is this. @throws ResourceError; then it is what it was */
  async commit(record: RunRecord): Promise<void> {
    const folder = this.#writable();
    try {
      const writable = await (await folder.getFileHandle(recordFile, { create: true })).createWritable();
      try {
        await writable.write(JSON.stringify(record));
      } catch (error) {
        await writable.abort().catch(() => undefined);
        throw error;
      }
      await writable.close();
    } catch (error) {
      throw storageError(error, this.#where(recordFile));
    }
  }

  /** Removes what the record does not name. What cannot be removed stays, and goes another time. */
  async prune(record: RunRecord): Promise<void> {
    const { last, best, pictures } = record.files;
    const kept = [recordFile, last.name, best?.name, pictures?.pixels.name, pictures?.index.name];
    await this.removeOthers(kept);
  }

  async removeOthers(kept: readonly (string | undefined)[]): Promise<void> {
    if (this.folder === undefined) return;
    const names: string[] = [];
    for await (const { name } of this.folder.values()) if (!kept.includes(name)) names.push(name);
    for (const name of names) await this.folder.removeEntry(name).catch(() => undefined);
  }

  /** The record first: without it the rest is no run. */
  async remove(): Promise<void> {
    await this.folder?.removeEntry(recordFile).catch(notFound);
    await (await rootFolder()).removeEntry(this.key, { recursive: true }).catch(notFound);
  }

  /** While `work` is going on nobody else writes. @throws UsageError where somebody does already */
  alone<T>(work: () => Promise<T>): Promise<T> {
    const { locks } = browser.navigator;
    if (locks === undefined) return work();
    return locks.request(`riffle:${this.key}`, { ifAvailable: true }, (lock) => {
      if (lock !== null) return work();
      throw new UsageError({
        what: "the run is being trained or written already",
        where: this.#where(),
        found: "another page or call that has it",
        safe: "It was left as it is",
        hint: "Wait until that has ended, or close the other page",
      });
    });
  }

  #writable(): Folder {
    if (this.folder === undefined) throw new Error("the run's folder was not made");
    return this.folder;
  }

  #where(file?: string): string {
    return `run ${JSON.stringify(this.name)}${file === undefined ? "" : `, ${file}`}`;
  }

  #damaged({ name }: FileEntry, what: string): CheckpointError {
    return new CheckpointError({
      what: `a file of the run is damaged: ${what}`,
      where: this.#where(name),
      safe: "It was left as it is",
      hint: "Import a download of the run under another name, or remove it",
    });
  }
}

/** Of all runs that can be read, the newest first. */
export async function allRecords(): Promise<RunRecord[]> {
  const records: RunRecord[] = [];
  for await (const folder of (await rootFolder()).values()) {
    if (folder.kind !== "directory" || !folder.name.startsWith(PREFIX)) continue;
    try {
      const file = await folder.getFileHandle(recordFile);
      records.push(parseRecord(await (await file.getFile()).text(), folder.name));
    } catch {
      // Begun and never committed, being removed, or of another version: no run for this one.
    }
  }
  return records.sort((a, b) => b.created - a.created);
}

/** What the browser says is left, in bytes; undefined where it does not. */
export async function bytesLeft(): Promise<number | undefined> {
  const { quota, usage } = (await browser.navigator.storage?.estimate?.().catch(() => undefined)) ?? {};
  return quota === undefined || usage === undefined ? undefined : Math.max(0, quota - usage);
}

export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(sum, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function joined(pieces: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

async function rootFolder(): Promise<Folder> {
  try {
    const { storage } = browser.navigator;
    if (storage?.getDirectory === undefined) throw new Error("navigator.storage.getDirectory is missing");
    if (!replacesFiles()) throw new Error("FileSystemFileHandle.createWritable is missing");
    return await (await storage.getDirectory()).getDirectoryHandle(ROOT, { create: true });
  } catch (error) {
    throw new ResourceError(
      {
        what: "this browser keeps no files for the page",
        expected:
          "a page over https or from localhost, in Chrome or Edge of 2023, Firefox of 2023, Safari 26 or newer, not in a private window that forbids it",
        found: error instanceof Error ? error.message : String(error),
      },
      error,
    );
  }
}

/** Whether a file can be replaced as a whole: Safari can from 26 on (MDN, FileSystemFileHandle.createWritable). */
function replacesFiles(): boolean {
  const { FileSystemFileHandle } = globalThis as {
    readonly FileSystemFileHandle?: { readonly prototype: object };
  };
  return FileSystemFileHandle !== undefined && "createWritable" in FileSystemFileHandle.prototype;
}

function notFound(error: unknown): undefined {
  if (nameOf(error) === "NotFoundError") return undefined;
  throw error;
}

/** What the browser refused, in words. */
function storageError(error: unknown, where: string): unknown {
  const safe = "What was said to be saved stays as it was";
  if (nameOf(error) === "QuotaExceededError" || nameOf(error) === "NotEnoughMemoryError") {
    return new ResourceError(
      {
        what: "the browser has no room left for this page's files",
        where,
        safe,
        hint: "Remove runs that are not needed, or download them first; or free space on the disk",
      },
      error,
    );
  }
  if (!(error instanceof DOMException)) return error;
  return new ResourceError({ what: "the browser does not write", where, found: error.message, safe }, error);
}

function nameOf(error: unknown): string {
  return error instanceof Error || error instanceof DOMException ? error.name : "";
}
