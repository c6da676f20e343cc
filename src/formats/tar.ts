/**
 * Finds the members of tar archives without unpacking them: where each begins and how long it is.
 *
 * An archive is read from header to header, and what lies between is passed over, so ImageNet's 138 GB cost a read of
 * 512 bytes per picture. An archive in another archive is a range of the same file. Compressed archives cannot be passed
 * over and are streamed. Nothing is ever written, and a name in an archive is never used as a path.
 *
 * Read are v7, ustar, GNU (long names, base-256 lengths) and pax. Links, devices and sparse files are left out, with
 * the reason. Offsets and lengths are in bytes.
 *
 * Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
 */

import { constants, createReadStream, closeSync, fstatSync, openSync, readSync } from "node:fs";
import { createGunzip } from "node:zlib";

import { DataError, errorCode, FormatError } from "../core/error.js";
import { utf8Of } from "./utf8.js";

/** A file in an archive: its name as stored, less a leading "./", and where its bytes stand. */
export interface TarMember {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
}

export interface SkippedMember {
  readonly name: string;
  readonly reason: string;
}

/** Bytes of the archive's file from `at`; fewer than `length` only where the file ends. */
type ReadAt = (at: number, length: number) => Uint8Array;

/** The range of a file in which an archive stands: the whole file, or a member of an archive around it. */
export interface TarRange {
  readonly start: number;
  readonly end: number;
}

/** A file open for reading, with its length. */
export interface OpenFile {
  readonly size: number;
  readonly readAt: ReadAt;
  close(): void;
}

/**
 * The members of the archive in `range`, in its order; `skipped` is told what is left out.
 *
 * @throws FormatError where a header is damaged, or the archive ends before its end mark.
 */
export function* tarMembers(
  readAt: ReadAt,
  range: TarRange,
  where: string,
  skipped: (member: SkippedMember) => void = () => {},
): Generator<TarMember, void> {
  const walk = walkTar(range, where);
  let step = walk.next();
  while (step.done !== true) {
    const wish = step.value;
    if (wish.kind === "read") {
      step = walk.next(readAt(wish.at, Math.max(0, Math.min(wish.length, range.end - wish.at))));
    } else {
      if (wish.kind === "member") yield wish.member;
      else skipped(wish.member);
      step = walk.next(NOTHING);
    }
  }
}

/** A member with its content. */
interface TarContent {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/**
 * The contents of those members that `wants` picks, one after another, from an archive that may be gzipped.
 *
 * @throws FormatError as {@link tarMembers}, and where a wanted member is longer than `maxBytes`.
 */
export async function* tarContents(
  path: string,
  wants: (name: string) => boolean,
  maxBytes: number,
): AsyncGenerator<TarContent, void> {
  const file = openFile(path);
  try {
    if (!isGzip(file.readAt(0, 2))) {
      for (const member of tarMembers(file.readAt, { start: 0, end: file.size }, path)) {
        if (!wants(member.name)) continue;
        yield { name: member.name, bytes: file.readAt(member.offset, checkSize(member, maxBytes, path)) };
      }
      return;
    }
  } finally {
    file.close();
  }
  yield* gzippedContents(path, wants, maxBytes);
}

/** Opens a file that is one: a pipe or device would block for ever. */
export function openFile(path: string): OpenFile {
  let file: number;
  try {
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    const what =
      errorCode(error) === "ENOENT"
        ? "there is no such file"
        : `cannot be opened: ${(error as Error).message}`;
    throw new DataError({ where: path, what }, error);
  }
  const status = fstatSync(file);
  if (!status.isFile()) {
    closeSync(file);
    throw new DataError({
      where: path,
      what: status.isDirectory() ? "a folder, where a file is expected" : "no plain file",
    });
  }
  return {
    size: status.size,
    readAt(at, length) {
      const bytes = Buffer.allocUnsafeSlow(length);
      let done = 0;
      while (done < length) {
        const read = readSync(file, bytes, done, length - done, at + done);
        if (read === 0) break;
        done += read;
      }
      return bytes.subarray(0, done);
    },
    close: () => closeSync(file),
  };
}

const BLOCK = 512;
const NOTHING = new Uint8Array(0);
/** A name, or the pairs of a pax header; both are read whole. */
const MAX_EXTRA_BYTES = 2 ** 20;
/** Behind the end mark; tar fills up to a record, which is 10 kB as a rule. */
const MAX_PADDING_BYTES = 2 ** 20;

type Wish =
  | { readonly kind: "read"; readonly at: number; readonly length: number }
  | { readonly kind: "member"; readonly member: TarMember }
  | { readonly kind: "skipped"; readonly member: SkippedMember };

/**
 * The walk itself, apart from where bytes come from: asks for bytes, always further on, and tells of members. Between
 * a member and the next step its own bytes may be read.
 */
function* walkTar({ start, end }: TarRange, where: string): Generator<Wish, void, Uint8Array> {
  let at = start;
  /** What headers before a member say of it. */
  let longName: string | undefined;
  let pax = new Map<string, string>();

  for (;;) {
    const block = yield { kind: "read", at, length: BLOCK };
    if (at === start && isGzip(block)) throw compressed(where, at);
    if (block.length < BLOCK) throw cut(where, at, block.length);
    if (block.every((byte) => byte === 0)) return;
    const header = parseHeader(block, where, at);
    at += BLOCK;
    const { type } = header;

    if (type === "L" || type === "K" || type === "x" || type === "g") {
      if (header.size > MAX_EXTRA_BYTES) {
        throw new FormatError(where, at - BLOCK, "a name or pax header is too long", {
          expected: `at most ${MAX_EXTRA_BYTES}`,
          found: `${header.size}`,
        });
      }
      const extra = yield { kind: "read", at, length: header.size };
      if (extra.length < header.size) throw cut(where, at, extra.length);
      if (type === "L") longName = utf8Of(extra.subarray(0, zeroIn(extra)));
      if (type === "x") pax = parsePax(extra, where, at);
      at += padded(header.size);
      continue;
    }

    let size = header.size;
    const paxSize = pax.get("size");
    if (paxSize !== undefined) {
      if (!/^[0-9]{1,15}$/.test(paxSize)) {
        throw new FormatError(where, at - BLOCK, "no length", {
          found: JSON.stringify(paxSize.slice(0, 40)),
        });
      }
      size = Number(paxSize);
    }
    const stored = pax.has("path") ? pax.get("path") : (longName ?? header.name);
    const sparse = [...pax.keys()].some((key) => key.startsWith("GNU.sparse."));
    longName = undefined;
    pax = new Map();

    if (type === "S") {
      // Old GNU sparse files: maps that did not fit follow in blocks of their own.
      let more = block[482] === 1;
      while (more) {
        const map = yield { kind: "read", at, length: BLOCK };
        if (map.length < BLOCK) throw cut(where, at, map.length);
        more = map[504] === 1;
        at += BLOCK;
      }
    }
    const hasData = type === "0" || type === "7" || type === "S" || !KNOWN.has(type);
    if (!hasData) size = 0;
    if (size > end - at) throw cut(where, at, end - at, stored, size);

    const reason = sparse
      ? KNOWN.get("S")
      : KNOWN.has(type)
        ? KNOWN.get(type)
        : `of the unknown type ${JSON.stringify(type)}`;
    const name = stored?.replace(/^(\.\/+)+/, "");
    if (name === undefined) yield skip("(a name)", "a name that is not UTF-8");
    else if (reason !== undefined) yield skip(name, reason);
    else if (type === "5" || name.endsWith("/")) {
      // A folder; what it holds has members of its own.
    } else if (name === "" || name.includes("\0")) yield skip(name, "an empty name, or one with a zero byte");
    else yield { kind: "member", member: { name, offset: at, size } };
    at += padded(size);
  }
}

/** Types that are met, and why they are left out; undefined for files and folders. */
const KNOWN: ReadonlyMap<string, string | undefined> = new Map([
  ["0", undefined],
  ["7", undefined],
  ["5", undefined],
  ["1", "a hard link"],
  ["2", "a symbolic link"],
  ["3", "a device"],
  ["4", "a device"],
  ["6", "a pipe"],
  ["S", "a sparse file"],
  ["V", "a volume's label"],
  ["D", "a list of a folder"],
]);

function skip(name: string, reason: string): Wish {
  return { kind: "skipped", member: { name, reason } };
}

interface Header {
  /** undefined where it is not UTF-8. */
  readonly name: string | undefined;
  readonly size: number;
  readonly type: string;
}

function parseHeader(block: Uint8Array, where: string, at: number): Header {
  const refuse = (what: string, expected?: string, found?: string) =>
    new FormatError(where, at, what, {
      expected,
      found,
      hint: "Is the archive complete, and is it a tar archive?",
    });
  // The sum of all bytes, those of the sum itself counted as spaces.
  let sum = 0;
  for (let i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? 0x20 : (block[i] as number);
  const declared = octal(block.subarray(148, 156));
  if (declared !== sum) {
    throw refuse(
      "no header of a tar archive: its checksum is wrong",
      `${sum}`,
      declared === undefined ? "no number" : `${declared}`,
    );
  }
  const size = length(block.subarray(124, 136));
  if (size === undefined) throw refuse("no length in the header");
  const code = block[156] as number;
  const short = block.subarray(0, 100);
  let name = utf8Of(short.subarray(0, zeroIn(short)));
  // POSIX continues long names in another field, which GNU uses for times; the byte after "ustar" tells them apart.
  const isPosix = String.fromCharCode(...block.subarray(257, 263)) === "ustar\0";
  const prefix = block.subarray(345, 500);
  if (isPosix && prefix[0] !== 0 && name !== undefined) {
    const folder = utf8Of(prefix.subarray(0, zeroIn(prefix)));
    name = folder === undefined ? undefined : `${folder}/${name}`;
  }
  return { name, size, type: code === 0 ? "0" : String.fromCharCode(code) };
}

/** `30 mtime=1350244992.023960108\n`: the length counts itself. */
function parsePax(bytes: Uint8Array, where: string, offset: number): Map<string, string> {
  const pairs = new Map<string, string>();
  for (let at = 0; at < bytes.length;) {
    const space = bytes.indexOf(0x20, at);
    const digits = space < 0 || space - at > 8 ? "" : String.fromCharCode(...bytes.subarray(at, space));
    const end = at + Number(digits);
    if (!/^[0-9]+$/.test(digits) || end > bytes.length || end <= space + 1 || bytes[end - 1] !== 0x0a) {
      throw new FormatError(where, offset + at, "a damaged pax header");
    }
    const equals = bytes.indexOf(0x3d, space);
    if (equals < 0 || equals >= end) throw new FormatError(where, offset + at, "a pax header without =");
    const key = utf8Of(bytes.subarray(space + 1, equals));
    const value = utf8Of(bytes.subarray(equals + 1, end - 1));
    if (key !== undefined && (value !== undefined || key === "path")) {
      // A path that is not UTF-8 stands in for the header's, so it must not be passed over.
      if (value === undefined) throw new FormatError(where, offset + at, "a path that is not UTF-8");
      pairs.set(key, value);
    }
    at = end;
  }
  return pairs;
}

/** Octal digits, or a number in base 256 marked by its first bit. */
function length(field: Uint8Array): number | undefined {
  const [first = 0] = field;
  if ((first & 0x80) === 0) return octal(field);
  // 0xff begins a negative number.
  if (first !== 0x80) return undefined;
  const value = field.subarray(1).reduce((total, byte) => total * 256 + byte, 0);
  return Number.isSafeInteger(value) ? value : undefined;
}

function octal(field: Uint8Array): number | undefined {
  const [, digits] = /^[ ]*([0-7]*)[\0 ]*$/.exec(String.fromCharCode(...field)) ?? [];
  return digits === undefined ? undefined : digits === "" ? 0 : parseInt(digits, 8);
}

function padded(size: number): number {
  return Math.ceil(size / BLOCK) * BLOCK;
}

function zeroIn(bytes: Uint8Array): number {
  const at = bytes.indexOf(0);
  return at < 0 ? bytes.length : at;
}

function cut(where: string, at: number, found: number, name?: string, size = BLOCK): FormatError {
  return new FormatError(
    where,
    at,
    name === undefined
      ? "the archive ends without its end mark"
      : `the archive ends inside ${JSON.stringify(name)}`,
    {
      expected: `${size} more bytes`,
      found: `${found}`,
      hint: "Is the archive complete? Compare its length and checksum with the place it came from",
    },
  );
}

function checkSize(member: TarMember, maxBytes: number, where: string): number {
  if (member.size <= maxBytes) return member.size;
  throw new FormatError(`${where}::${member.name}`, member.offset, "longer than what it should hold", {
    expected: `at most ${maxBytes} bytes`,
    found: `${member.size}`,
  });
}

/** RFC 1952. No name in a header begins so: it would not be UTF-8. */
function isGzip([first, second]: Uint8Array): boolean {
  return first === 0x1f && second === 0x8b;
}

function compressed(where: string, at: number): FormatError {
  const unpacked = `${where.replace(/(\.tar)?\.t?gz$/i, "")}.tar`;
  // An archive inside another stands further on, and is no file.
  const isFile = at === 0;
  return new FormatError(where, at, "compressed with gzip, so members cannot be read by their place", {
    expected: "a tar archive that is not compressed",
    hint: isFile
      ? `Unpack it once, and give that file: gunzip < ${where} > ${unpacked}`
      : "Unpack the archive around it, and give the folder",
  });
}

async function* gzippedContents(
  path: string,
  wants: (name: string) => boolean,
  maxBytes: number,
): AsyncGenerator<TarContent, void> {
  const source = createReadStream(path, { highWaterMark: 2 ** 18 });
  const gunzip = createGunzip();
  source.on("error", (error) => gunzip.destroy(error));
  const bytes = new ForwardReader(source.pipe(gunzip));
  try {
    // What is unpacked has no known end; the stream tells it.
    const walk = walkTar({ start: 0, end: Number.MAX_SAFE_INTEGER }, path);
    let step = walk.next();
    while (step.done !== true) {
      const wish = step.value;
      if (wish.kind === "read") {
        step = walk.next(await bytes.readAt(wish.at, wish.length));
        continue;
      }
      if (wish.kind === "member" && wants(wish.member.name)) {
        const { name, offset, size } = wish.member;
        const content = await bytes.readAt(offset, checkSize(wish.member, maxBytes, path));
        if (content.length < size) throw cut(path, offset, content.length, name, size);
        yield { name, bytes: content };
      }
      step = walk.next(NOTHING);
    }
    // To the end, where gzip keeps the checksum of what was given out.
    await bytes.drain(MAX_PADDING_BYTES, path);
  } catch (error) {
    if (!(error instanceof Error && "code" in error) || error instanceof DataError) throw error;
    throw new DataError(
      { where: path, what: `cannot be unpacked: ${error.message}`, hint: "Is the file complete?" },
      error,
    );
  } finally {
    source.destroy();
    gunzip.destroy();
  }
}

/** Reads a stream at places that only go forward; what is passed over is dropped. */
class ForwardReader {
  readonly #chunks: AsyncIterator<Buffer>;
  #chunk: Uint8Array = NOTHING;
  /** Where the chunk begins in the stream. */
  #position = 0;

  constructor(stream: AsyncIterable<Buffer>) {
    this.#chunks = stream[Symbol.asyncIterator]();
  }

  async readAt(at: number, length: number): Promise<Uint8Array> {
    const pieces: Uint8Array[] = [];
    let missing = length;
    for (let next = at; missing > 0;) {
      const inside = next - this.#position;
      if (inside >= this.#chunk.length) {
        const chunk = await this.#chunks.next();
        if (chunk.done === true) break;
        this.#position += this.#chunk.length;
        this.#chunk = chunk.value;
        continue;
      }
      const piece = this.#chunk.subarray(inside, inside + missing);
      pieces.push(piece);
      missing -= piece.length;
      next += piece.length;
    }
    return pieces.length === 1 ? (pieces[0] as Uint8Array) : Buffer.concat(pieces);
  }

  /** Reads to the end, which may not be more than `maxBytes` away. */
  async drain(maxBytes: number, where: string): Promise<void> {
    for (let left = maxBytes; ;) {
      const chunk = await this.#chunks.next();
      if (chunk.done === true) return;
      left -= chunk.value.length;
      if (left < 0) throw new DataError({ where, what: "goes on long after the archive's end mark" });
    }
  }
}
