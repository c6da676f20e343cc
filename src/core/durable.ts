/**
 * Writing folders that are either wholly there or not there at all, whatever ends the process.
 *
 * A folder is written under another name beside its place, every file flushed to the disk, then renamed,
 * then the parent flushed: a kill, a power cut or a full disk at any point leaves the old one or the new
 * one. What such an end leaves lying about is put right by `recoverFolders` at the next start.
 *
 * Names of its own, all in the parent folder: `.saving-NAME` is being written, `.replaced-NAME` is the
 * old one while the new takes its place, `.deleting-NAME` is on its way out. Sizes are in bytes.
 */

import {
  type FileHandle,
  mkdir,
  open,
  readdir,
  rename,
  rm,
  rmdir,
  stat,
  statfs,
  unlink,
} from "node:fs/promises";
import { basename, dirname, join } from "node:path";

import { ResourceError } from "./error.js";

/** The files of a folder: name, and the pieces of its content in order. */
export type FolderContent = ReadonlyMap<string, readonly Uint8Array[]>;

/**
 * Writes `parent/name` with exactly these files, replacing it whole where it exists.
 *
 * @throws ResourceError when the disk is full or refuses; then the old folder stands as it was.
 */
export async function replaceFolder(parent: string, name: string, content: FolderContent): Promise<void> {
  const target = join(parent, name);
  const temporary = join(parent, `.saving-${name}`);
  const replaced = join(parent, `.replaced-${name}`);
  try {
    await refuseForeign(target, content);
    await refuseFullDisk(parent, contentBytes(content), target);
    await rm(temporary, { recursive: true, force: true });
    await mkdir(temporary);
    for (const [file, pieces] of content) await writeFlushed(join(temporary, file), pieces);
    await flushFolder(temporary);
    if (await exists(target)) {
      await rm(replaced, { recursive: true, force: true });
      await rename(target, replaced);
    }
    await rename(temporary, target);
    await flushFolder(parent);
  } catch (cause) {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    if (!(await exists(target)) && (await exists(replaced))) await rename(replaced, target);
    if (cause instanceof ResourceError) throw cause;
    throw new ResourceError(
      {
        what: `cannot be written: ${reason(cause)}`,
        where: target,
        safe: "Earlier checkpoints are untouched",
        hint: "Free space on the disk or check the folder's permissions",
      },
      cause,
    );
  }
  // The new one is committed; a leftover goes at the next start.
  await rm(replaced, { recursive: true, force: true }).catch(() => undefined);
}

/**
 * Writes one file, replacing it whole where it exists: as `.saving-NAME` beside it, flushed, then renamed.
 *
 * @throws ResourceError when the disk is full or refuses; then the old file stands as it was.
 */
export async function replaceFile(path: string, pieces: readonly Uint8Array[]): Promise<void> {
  const temporary = join(dirname(path), `.saving-${basename(path)}`);
  try {
    await refuseFullDisk(dirname(path), contentBytes(new Map([["", pieces]])), path);
    await writeFlushed(temporary, pieces);
    await rename(temporary, path);
    await flushFolder(dirname(path));
  } catch (cause) {
    await unlink(temporary).catch(() => undefined);
    if (cause instanceof ResourceError) throw cause;
    throw new ResourceError(
      {
        what: `cannot be written: ${reason(cause)}`,
        where: path,
        safe: "What stood there before is untouched",
        hint: "Free space on the disk or check the folder's permissions",
      },
      cause,
    );
  }
}

/**
 * Removes a folder that holds nothing but `files`; returns false, and leaves it, when it holds more.
 * Renamed first, so a kill midway leaves no half of it under its name.
 */
export async function removeFolder(parent: string, name: string, files: readonly string[]): Promise<boolean> {
  const held = await readdir(join(parent, name));
  if (held.some((file) => !files.includes(file))) return false;
  const doomed = join(parent, `.deleting-${name}`);
  await rename(join(parent, name), doomed);
  for (const file of held) await unlink(join(doomed, file));
  await rmdir(doomed);
  return true;
}

/** Puts right what a kill left: names that `isOurs` accepts only. Call it while no one else writes here. */
export async function recoverFolders(parent: string, isOurs: (name: string) => boolean): Promise<void> {
  for (const entry of await readdir(parent)) {
    const [, what, name = ""] = /^\.(saving|replaced|deleting)-(.+)$/.exec(entry) ?? [];
    if (what === undefined || !isOurs(name)) continue;
    if (what === "replaced" && !(await exists(join(parent, name)))) {
      await rename(join(parent, entry), join(parent, name));
    } else {
      await rm(join(parent, entry), { recursive: true, force: true });
    }
  }
}

/**
 * Creates a folder, and proves that files can be made in it, flushed, renamed and removed.
 *
 * @throws ResourceError whose hint names `option` as the way to another folder.
 */
export async function probeFolder(folder: string, option = "--log_dir"): Promise<void> {
  const probe = join(folder, `.probe-${process.pid}`);
  try {
    await makeFolder(folder);
    await writeFlushed(probe, [Buffer.from("probe")]);
    await rename(probe, `${probe}-renamed`);
    await unlink(`${probe}-renamed`);
  } catch (cause) {
    // On a full disk an empty file may have been made.
    for (const left of [probe, `${probe}-renamed`]) await unlink(left).catch(() => undefined);
    throw new ResourceError(
      {
        what: `the output folder cannot be written: ${reason(cause)}`,
        where: folder,
        expected: "a folder in which files can be created",
        found: reason(cause),
        safe: "Nothing was written",
        hint: `Name another folder with ${option}`,
      },
      cause,
    );
  }
}

/** Writes a whole file and flushes it to the disk. */
export async function writeFlushed(path: string, pieces: readonly Uint8Array[]): Promise<void> {
  const file = await open(path, "w");
  try {
    let written = 0;
    for (const piece of pieces) {
      await writeFully(file, piece, written);
      written += piece.length;
    }
    await file.sync();
    // A write may end short without an error on a full disk, so the size is what counts.
    const { size } = await file.stat();
    if (size !== written) throw new Error(`${size} of ${written} bytes were written; is the disk full?`);
  } finally {
    await file.close();
  }
}

export async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (errorCode(error) === "ENOENT" || errorCode(error) === "ENOTDIR") return false;
    throw error;
  }
}

/** The `code` of a system error, such as ENOSPC. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error ? String(error.code) : undefined;
}

/**
 * Makes a folder and those above it, one by one: the recursive form of Node 20 never returns where a
 * folder exists in which none can be made and the system answers ENOENT, such as /proc.
 */
export async function makeFolder(folder: string): Promise<void> {
  if (await exists(folder)) {
    if ((await stat(folder)).isDirectory()) return;
    throw new Error("it is a file");
  }
  const above = dirname(folder);
  if (above !== folder) await makeFolder(above);
  await mkdir(folder).catch(async (error: unknown) => {
    // Another process may have made it meanwhile.
    if (errorCode(error) !== "EEXIST" || !(await stat(folder)).isDirectory()) throw error;
  });
}

/** One piece may be longer than a single write takes (2 GiB). */
async function writeFully(file: FileHandle, piece: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < piece.length;) {
    const length = Math.min(piece.length - done, 2 ** 30);
    const { bytesWritten } = await file.write(piece, done, length, position + done);
    if (bytesWritten === 0) throw new Error("nothing more could be written; is the disk full?");
    done += bytesWritten;
  }
}

async function flushFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** What stands under the name must be a folder of ours: nothing else is ever replaced. */
async function refuseForeign(target: string, content: FolderContent): Promise<void> {
  if (!(await exists(target))) return;
  const held = (await stat(target)).isDirectory() ? await readdir(target) : undefined;
  const foreign = held?.find((file) => !content.has(file));
  if (held !== undefined && foreign === undefined) return;
  throw new ResourceError({
    what: "something else stands in the place of a checkpoint",
    where: target,
    expected: `a folder with ${[...content.keys()].join(", ")} or nothing`,
    found: foreign ?? "a file",
    safe: "It was left as it is, and so were earlier checkpoints",
    hint: "Move it away, or name another folder with --log_dir",
  });
}

/** The exact need is known, so a disk too full is found before anything is written. */
async function refuseFullDisk(parent: string, bytes: number, target: string): Promise<void> {
  const { bavail, bsize } = await statfs(parent);
  const needed = Math.ceil(bytes * 1.1);
  const free = bavail * bsize;
  if (free >= needed) return;
  throw new ResourceError({
    what: "too little room on the disk",
    where: target,
    expected: `${needed} bytes free`,
    found: `${free}`,
    safe: "What stood there before is untouched",
    hint: "Free space, or name a folder on another disk",
  });
}

function contentBytes(content: FolderContent): number {
  let bytes = 0;
  for (const pieces of content.values()) for (const piece of pieces) bytes += piece.length;
  return bytes;
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
