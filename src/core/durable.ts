/**
 * Writing files and folders that are either wholly there or not there at all, whatever ends the process.
 *
 * Each is written under another name beside its place, flushed to the disk, then renamed, then the folder
 * above flushed: a kill, a power cut or a full disk at any point leaves the old one or the new one.
 *
 * Names of its own, all beside the place: `.saving-NAME` is being written (`.saving-1-NAME` by a second process at the
 * same time), `.replaced-NAME` is the old folder while the new takes its place, `.deleting-NAME` is on its way out.
 * The next writer of the same name takes over a `.saving-NAME` that nobody writes any more; `recoverFolders`
 * puts right the rest. Nothing else is ever removed or replaced. Sizes are in bytes.
 */

import { createHash } from "node:crypto";
import { type Stats, statSync } from "node:fs";
import {
  constants,
  type FileHandle,
  mkdir,
  open,
  readdir,
  rm,
  rmdir,
  stat,
  statfs,
  unlink,
} from "node:fs/promises";
import { basename, dirname, join } from "node:path";

import { errorCode, isSystemError, ResourceError, systemError } from "./error.js";
import { flock, standsAt } from "./flock.js";
import { renameOver } from "./rename-over.js";

/** What a failed write tells the user besides what failed. */
export interface Assurance {
  readonly safe?: string;
  readonly hint?: string;
}

/** The files of a folder: name, and the pieces of its content in order. */
type FolderContent = ReadonlyMap<string, readonly Uint8Array[]>;

/**
 * Writes one file, replacing it whole where it exists.
 *
 * @throws ResourceError when the disk is full or refuses; then the old file stands as it was.
 */
export async function replaceFile(
  path: string,
  pieces: readonly Uint8Array[],
  words?: Assurance,
): Promise<void> {
  await writeWhole(
    path,
    async (file) => {
      await refuseFullDisk(dirname(path), bytesOf(pieces), path);
      for (const piece of gathered(pieces)) await file.write(piece);
    },
    words,
  );
}

/**
 * Writes one file piece by piece: it gets its name when `fill` has ended well, and nothing stays of it otherwise.
 *
 * @throws ResourceError for what the system refuses; whatever else `fill` throws is passed on.
 */
export async function writeWhole<T>(
  path: string,
  fill: (file: WholeFile) => Promise<T>,
  words: Assurance = {},
): Promise<T> {
  let file: WholeFile | undefined;
  try {
    file = await WholeFile.begin(path);
    const filled = await fill(file);
    await file.commit();
    return filled;
  } catch (error) {
    await file?.discard();
    throw asResourceError(error, path, { safe: "What stood there before is untouched", ...words });
  }
}

/** A file while it is written. Its calls must not overlap. Errors are the system's, untranslated. */
export class WholeFile {
  /** Written so far. */
  bytes = 0;
  #flushed = -1;
  #open = true;

  private constructor(
    readonly path: string,
    /** Where its bytes lie until it gets its name. */
    readonly temporary: string,
    private readonly file: FileHandle,
  ) {}

  /**
   * Whoever writes holds the kernel's lock on the temporary file, so one that is free is what a kill left. Without such locks
   * only one that was made just now is free.
   */
  static async begin(path: string): Promise<WholeFile> {
    for (let i = 0; ; i++) {
      const temporary = join(
        dirname(path),
        `.saving-${i === 0 ? "" : `${i}-`}${passingName(basename(path))}`,
      );
      const { file, isNew } = await openOrMake(temporary);
      try {
        const answer = flock(file.fd);
        const isOurs = typeof answer === "object" ? isNew : answer === "ours";
        if (isOurs && (await standsAt(file, temporary))) {
          await file.truncate(0);
          return new WholeFile(path, temporary, file);
        }
      } catch (error) {
        await closeQuietly(file);
        throw error;
      }
      await closeQuietly(file);
    }
  }

  async write(piece: Uint8Array): Promise<void> {
    await writeFully(this.file, piece, this.bytes);
    this.bytes += piece.length;
  }

  /** Brings what was written to the disk. */
  async flush(): Promise<void> {
    if (this.#flushed === this.bytes) return;
    await flushWritten(this.file, this.bytes);
    this.#flushed = this.bytes;
  }

  /** Flushes it and gives it its name. */
  async commit(): Promise<void> {
    await this.flush();
    await renameOver(this.temporary, this.path);
    await this.#close();
    await flushFolder(dirname(this.path));
  }

  /** Nothing stays of it; after `commit` this does nothing. Never throws. */
  async discard(): Promise<void> {
    if (!this.#open) return;
    await unlink(this.temporary).catch(() => undefined);
    await this.#close();
  }

  async #close(): Promise<void> {
    this.#open = false;
    await closeQuietly(this.file);
  }
}

/**
 * Writes `parent/name` with exactly these files, replacing it whole where it exists.
 *
 * @throws ResourceError when the disk is full or refuses; then the old folder stands as it was.
 */
export async function replaceFolder(parent: string, name: string, content: FolderContent): Promise<void> {
  const target = join(parent, name);
  const temporary = join(parent, `.saving-${passingName(name)}`);
  const replaced = join(parent, `.replaced-${passingName(name)}`);
  try {
    await refuseForeign(target, content);
    await refuseFullDisk(parent, bytesOf([...content.values()].flat()), target);
    await rm(temporary, { recursive: true, force: true });
    await mkdir(temporary);
    for (const [file, pieces] of content) await writeFlushed(join(temporary, file), pieces);
    await flushFolder(temporary);
    if (await exists(target)) {
      await rm(replaced, { recursive: true, force: true });
      await renameOver(target, replaced);
    }
    await renameOver(temporary, target);
    await flushFolder(parent);
  } catch (error) {
    // What cannot be put right now is put right at the next start.
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    await putBack(replaced, target).catch(() => undefined);
    throw asResourceError(error, target, {
      safe: "Earlier checkpoints are untouched",
      hint: "Free space on the disk or check the folder's permissions",
    });
  }
  // The new one is committed; a leftover goes at the next start.
  await rm(replaced, { recursive: true, force: true }).catch(() => undefined);
}

/**
 * Makes a folder that is not there yet: it gets its name when `fill` has written into the one it is given. Its files are
 * not flushed one by one, so this is for what can be made again.
 *
 * @throws ResourceError for what the system refuses; whatever else `fill` throws is passed on. Then nothing stays.
 */
export async function makeWholeFolder(
  path: string,
  fill: (temporary: string) => Promise<void>,
  words: Assurance,
): Promise<void> {
  const temporary = join(dirname(path), `.saving-${passingName(basename(path))}`);
  try {
    await rm(temporary, { recursive: true, force: true });
    await makeFolder(temporary);
    await fill(temporary);
    await renameOver(temporary, path);
    await flushFolder(dirname(path));
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    throw asResourceError(error, path, words);
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
  await renameOver(join(parent, name), doomed);
  for (const file of held) await unlink(join(doomed, file));
  await rmdir(doomed);
  return true;
}

/** Puts right what a kill left, of files and folders whose names `isOurs` accepts. Call it while no one else writes here. */
export async function recoverFolders(parent: string, isOurs: (name: string) => boolean): Promise<void> {
  for (const entry of await readdir(parent)) {
    const [, what, name = ""] = /^\.(saving|replaced|deleting)-(?:\d+-)?(.+)$/.exec(entry) ?? [];
    if (what === undefined || !isOurs(name)) continue;
    if (what === "replaced") await putBack(join(parent, entry), join(parent, name));
    await rm(join(parent, entry), { recursive: true, force: true });
  }
}

/**
 * Creates a folder, and proves that files can be made in it, flushed, renamed and removed.
 *
 * @returns what takes away again the folders that it made, as far as they are empty: for a start that fails
 * @throws ResourceError whose hint names `option` as the way to another folder; nothing is left then.
 */
export async function probeFolder(folder: string, option = "--log_dir"): Promise<() => Promise<void>> {
  const probe = join(folder, PROBE_FILE);
  const made: string[] = [];
  try {
    await makeFolders(folder, made);
    await writeWhole(probe, (file) => file.write(Buffer.from("probe")));
    await rm(probe, { force: true });
    return () => removeEmpty(made);
  } catch (error) {
    await removeEmpty(made);
    const cause = error instanceof ResourceError ? error.cause : error;
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

/** Whether a name in a folder is one that is there only while something is written, or that a kill left. */
export function isTemporary(name: string): boolean {
  return /^\.(saving|replaced|deleting)-/.test(name) || name === PROBE_FILE;
}

async function openOrMake(path: string): Promise<{ readonly file: FileHandle; readonly isNew: boolean }> {
  try {
    return { file: await open(path, CREATE | constants.O_EXCL, 0o666), isNew: true };
  } catch (error) {
    if (errorCode(error) !== "EEXIST") throw error;
    return { file: await open(path, CREATE, 0o666), isNew: false };
  }
}

/** Writes a new file and flushes it to the disk. */
async function writeFlushed(path: string, pieces: readonly Uint8Array[]): Promise<void> {
  const file = await open(path, "w");
  try {
    let written = 0;
    for (const piece of gathered(pieces)) {
      await writeFully(file, piece, written);
      written += piece.length;
    }
    await flushWritten(file, written);
  } finally {
    await closeQuietly(file);
  }
}

export async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (isNotThere(error)) return false;
    throw error;
  }
}

/** What a path leads to; undefined where it leads to nothing, one that goes through a file among them: Node throws for that. */
export function statIfThere(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch (error) {
    if (isNotThere(error)) return undefined;
    throw error;
  }
}

function isNotThere(error: unknown): boolean {
  return errorCode(error) === "ENOENT" || errorCode(error) === "ENOTDIR";
}

/**
 * Makes a folder and those above it, one by one: the recursive form of Node 20 never returns where a
 * folder exists in which none can be made and the system answers ENOENT, such as /proc.
 */
export async function makeFolder(folder: string): Promise<void> {
  await makeFolders(folder, []);
}

/** Notes those that it made, from the top. */
async function makeFolders(folder: string, made: string[]): Promise<void> {
  if (await exists(folder)) {
    if ((await stat(folder)).isDirectory()) return;
    throw systemError("ENOTDIR", "it is a file");
  }
  const above = dirname(folder);
  if (above !== folder) await makeFolders(above, made);
  try {
    await mkdir(folder);
    made.push(folder);
  } catch (error) {
    // Another process may have made it meanwhile.
    if (errorCode(error) !== "EEXIST" || !(await stat(folder)).isDirectory()) throw error;
  }
}

/** Takes folders away again as far as nothing lies in them. */
async function removeEmpty(made: readonly string[]): Promise<void> {
  for (const folder of made.toReversed()) {
    try {
      await rmdir(folder);
    } catch {
      return;
    }
  }
}

/** Brings the names in a folder to the disk, where the file system can: exFAT, SMB and some of FUSE cannot. */
async function flushFolder(path: string): Promise<void> {
  let folder: FileHandle | undefined;
  try {
    folder = await open(path, "r");
    await folder.sync();
  } catch (error) {
    if (!NO_FLUSH.has(errorCode(error) ?? "")) throw error;
  } finally {
    if (folder !== undefined) await closeQuietly(folder);
  }
}

/** A system's error in the words of whoever writes `where`; anything else as it is. */
export function asResourceError(error: unknown, where: string, words: Assurance): unknown {
  if (!isSystemError(error)) return error;
  return new ResourceError(
    {
      what: `cannot be written: ${reason(error)}`,
      where,
      hint: "Free space on the disk or check the folder's permissions",
      ...words,
    },
    error,
  );
}

const PROBE_FILE = ".riffle-probe";

/** Not through a link, and not waiting at a FIFO; locked before it is emptied. */
const CREATE = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** What file systems answer that have no such thing as flushing a folder. */
const NO_FLUSH: ReadonlySet<string> = new Set([
  "EINVAL",
  "ENOTSUP",
  "EOPNOTSUPP",
  "ENOSYS",
  "EPERM",
  "EACCES",
  "EISDIR",
  "EBADF",
]);

/** The same bytes with small pieces put together: a file of hundreds of tensors takes few writes. */
function* gathered(pieces: readonly Uint8Array[]): Generator<Uint8Array> {
  let small: Uint8Array[] = [];
  let bytes = 0;
  for (const piece of pieces) {
    if (bytes + piece.length > GATHERED_BYTES) {
      yield Buffer.concat(small);
      small = [];
      bytes = 0;
    }
    if (piece.length > GATHERED_BYTES) yield piece;
    else {
      small.push(piece);
      bytes += piece.length;
    }
  }
  yield Buffer.concat(small);
}

const GATHERED_BYTES = 2 ** 20;

/** One piece may be longer than a single write takes (2 GiB). */
async function writeFully(file: FileHandle, piece: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < piece.length;) {
    const length = Math.min(piece.length - done, 2 ** 30);
    const { bytesWritten } = await file.write(piece, done, length, position + done);
    if (bytesWritten === 0) throw systemError("ENOSPC", "nothing more could be written; is the disk full?");
    done += bytesWritten;
  }
}

/** A write may end short without an error on a full disk, so the size is what counts. */
async function flushWritten(file: FileHandle, bytes: number): Promise<void> {
  await file.sync();
  const { size } = await file.stat();
  if (size !== bytes)
    throw systemError("ENOSPC", `${size} of ${bytes} bytes were written; is the disk full?`);
}

/** What was to be kept is on the disk already, or has failed already. */
async function closeQuietly(file: FileHandle): Promise<void> {
  await file.close().catch(() => undefined);
}

/** Gives a folder that was moved aside its name back, unless another stands there. */
async function putBack(aside: string, target: string): Promise<void> {
  if ((await exists(aside)) && !(await exists(target))) await renameOver(aside, target);
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
  const { bavail, bsize, blocks } = await statfs(parent);
  const needed = Math.ceil(bytes * 1.1);
  const free = bavail * bsize;
  // Some file systems in user space do not count.
  if (blocks === 0 || free >= needed) return;
  throw new ResourceError({
    what: "too little room on the disk",
    where: target,
    expected: `${needed} bytes free`,
    found: `${free}`,
    safe: "What stood there before is untouched",
    hint: "Free space, or name a folder on another disk",
  });
}

function bytesOf(pieces: readonly Uint8Array[]): number {
  return pieces.reduce((sum, { length }) => sum + length, 0);
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A name of which no other may be made by putting something before it: 255 bytes are the most. */
function passingName(name: string): string {
  if (Buffer.byteLength(name) <= LONGEST_TO_EXTEND) return name;
  return createHash("sha256").update(name).digest("hex");
}

const LONGEST_TO_EXTEND = 230;
