/**
 * Pictures by path, whether they are files or members of tar archives that nobody unpacked.
 *
 * A member is written ARCHIVE.tar::member, one in an archive inside that ARCHIVE.tar::n01440764.tar::member. An archive
 * is indexed when it is first named, an archive inside only when one of its members is: 1.3 million pictures take about
 * 150 MB of memory and, on a cold disk, a read each.
 *
 * Reading is synchronous: it is meant for a thread of its own.
 */

import { accessSync, constants, readFileSync, statSync } from "node:fs";

import { DataError, errorCode } from "../../core/error.js";
import { atHome } from "../../core/home.js";
import { inItsForm } from "../../core/name-forms.js";
import { unreadable } from "../../data/unreadable.js";
import { openFile, type OpenFile, tarMembers, type TarRange } from "../../formats/tar.js";

/** Between an archive and a member of it. */
export const MEMBER = "::";

/** A picture of more is none; it bounds what a mistaken path can cost. */
const MAX_PICTURE_BYTES = 2 ** 28;

/** Keeps the archives open that it was asked for. */
export class PictureReader {
  readonly #archives = new Map<string, Archive>();

  /**
   * The bytes of a file or member.
   *
   * @throws DataError when there is no such file or member, it is no plain file, or it cannot be read.
   */
  read(path: string): Uint8Array {
    return this.#look(path, readPlain, (archive, names) => archive.read(names));
  }

  /** How many bytes that are, without reading them; refuses what {@link read} would not be let to. */
  size(path: string): number {
    return this.#look(path, plainSize, (archive, names) => archive.size(names));
  }

  close(): void {
    for (const { file } of this.#archives.values()) file.close();
    this.#archives.clear();
  }

  /** What the system refuses becomes a problem of this picture or of the machine. */
  #look<T>(path: string, plain: (path: string) => T, member: (archive: Archive, names: string[]) => T): T {
    const [listed, ...names] = path.split(MEMBER) as [string, ...string[]];
    try {
      const outer = whereItIs(listed);
      if (names.length === 0) return plain(outer);
      let archive = this.#archives.get(outer);
      if (archive === undefined) this.#archives.set(outer, (archive = new Archive(outer)));
      return member(archive, names);
    } catch (error) {
      const found = unreadable(path, error);
      const hint = hintOf(errorCode(error), path);
      throw hint && found instanceof DataError ? new DataError({ ...found.problem, hint }, error) : found;
    }
  }
}

/** An open archive, with the indices of those archives in it that were asked for. */
class Archive {
  readonly file: OpenFile;
  /** By the names that lead to them, joined; "" is the archive itself. */
  readonly #indices = new Map<string, Index>();

  constructor(private readonly path: string) {
    this.file = openFile(path);
  }

  read(names: readonly string[]): Uint8Array {
    const range = this.find(names);
    const size = checkSize(range.end - range.start, [this.path, ...names].join(MEMBER));
    const bytes = this.file.readAt(range.start, size);
    if (bytes.length === size) return bytes;
    throw DataError.at(
      [this.path, ...names].join(MEMBER),
      "ends early: the archive became shorter while it was read",
      { expected: `${size} bytes`, found: `${bytes.length}` },
    );
  }

  size(names: readonly string[]): number {
    const { start, end } = this.find(names);
    return end - start;
  }

  find(names: readonly string[]): TarRange {
    const name = names.at(-1) ?? "";
    const around = names.slice(0, -1);
    const range = this.#index(around).find(name);
    if (range !== undefined) return range;
    throw DataError.at([this.path, ...around].join(MEMBER), `has no member ${JSON.stringify(name)}`, {
      hint: "Was the archive changed since it was listed?",
    });
  }

  #index(names: readonly string[]): Index {
    const key = names.join(MEMBER);
    let index = this.#indices.get(key);
    if (index === undefined) {
      const range = names.length === 0 ? { start: 0, end: this.file.size } : this.find(names);
      index = new Index(this.file, range, [this.path, ...names].join(MEMBER));
      this.#indices.set(key, index);
    }
    return index;
  }
}

/** Names of an archive's members and where they stand: a map from name to number, and two numbers each. */
class Index {
  readonly #numbers = new Map<string, number>();
  readonly #ranges: Float64Array;

  constructor(file: OpenFile, range: TarRange, where: string) {
    const ranges: number[] = [];
    for (const { name, offset, size } of tarMembers(file.readAt, range, where)) {
      if (this.#numbers.has(name)) {
        throw DataError.at(where, `holds ${JSON.stringify(name)} twice`, {
          hint: "Which is meant cannot be told",
        });
      }
      this.#numbers.set(name, this.#numbers.size);
      ranges.push(offset, offset + size);
    }
    this.#ranges = Float64Array.from(ranges);
  }

  find(name: string): TarRange | undefined {
    const forms = [name, name.normalize("NFC"), name.normalize("NFD")];
    const number = forms.map((form) => this.#numbers.get(form)).find((found) => found !== undefined);
    if (number === undefined) return undefined;
    return { start: this.#ranges[2 * number] as number, end: this.#ranges[2 * number + 1] as number };
  }
}

/** A path of a list: its `~`, and the form in which the file system writes its names, are the reader's. */
function whereItIs(path: string): string {
  return inItsForm(atHome(path));
}

function readPlain(path: string): Uint8Array {
  checkPlain(path);
  return readFileSync(path);
}

function plainSize(path: string): number {
  const size = checkPlain(path);
  accessSync(path, constants.R_OK);
  return size;
}

function checkPlain(path: string): number {
  const status = statSync(path);
  if (!status.isFile()) throw DataError.at(path, "no plain file");
  return checkSize(status.size, path);
}

function hintOf(code: string | undefined, path: string): string | undefined {
  if (code === "ENOENT" && !path.startsWith("/"))
    return "Relative paths count from the working directory: run this where riffle explore-imagenet ran";
  if (code === "EACCES") return "Check the permissions of the file and of the folders that it lies in";
  return undefined;
}

function checkSize(size: number, where: string): number {
  if (size <= MAX_PICTURE_BYTES) return size;
  throw DataError.at(where, "too long for a picture", {
    expected: `at most ${MAX_PICTURE_BYTES} bytes`,
    found: `${size}`,
  });
}
