/**
 * Zip archives whose members are stored, as PyTorch writes them: where each member's bytes lie, and that they are whole.
 *
 * Nothing may be compressed, encrypted, twice there, overlapping, or described in two ways: what one reader of zips takes from the
 * directory another takes from the local headers. Bytes behind the archive's end belong to nobody; they are counted and passed over.
 * Members are only named here, never unpacked to a disk, so a name may hold a colon.
 *
 * Offsets and lengths are in bytes.
 *
 * Source: PKWARE APPNOTE 6.3, sections 4.3 and 4.4.
 */

import { FormatError } from "../core/error.js";
import { crc32 } from "./crc32.js";
import { isPlainName } from "./plain-name.js";
import { utf8Of } from "./utf8.js";

/** An archive's members by name. */
export class StoredZip {
  readonly #verified = new Set<Member>();

  private constructor(
    private readonly bytes: Uint8Array,
    private readonly where: string,
    private readonly members: ReadonlyMap<string, Member>,
    /** Bytes of the file behind the archive's end. */
    readonly trailing: number,
  ) {}

  /**
   * @param meet is called with each name before anything else of the member is looked at.
   * @throws FormatError
   */
  static open(bytes: Uint8Array, where: string, meet: (name: string) => void): StoredZip {
    const { members, end } = readDirectory(bytes, where, meet);
    return new StoredZip(bytes.subarray(0, end), where, members, bytes.length - end);
  }

  get names(): string[] {
    return [...this.members.keys()];
  }

  /** Where a member begins; 0 where there is none. */
  begin(name: string): number {
    return this.members.get(name)?.begin ?? 0;
  }

  /** A member's bytes, a view; undefined where there is none. @throws FormatError where they are damaged. */
  content(name: string): Uint8Array | undefined {
    const member = this.members.get(name);
    if (member === undefined) return undefined;
    const content = this.bytes.subarray(member.begin, member.end);
    if (!this.#verified.has(member)) {
      const crc = crc32(content);
      if (crc !== member.crc) {
        const hex = (sum: number): string => `0x${sum.toString(16).padStart(8, "0")}`;
        const numbers = { expected: hex(member.crc), found: hex(crc) };
        const what = "damaged: wrong CRC-32";
        throw new FormatError(`${this.where}/${name}`, member.begin, what, numbers);
      }
      this.#verified.add(member);
    }
    return content;
  }
}

interface Member {
  readonly begin: number;
  readonly end: number;
  readonly crc: number;
}

interface Member {
  readonly begin: number;
  readonly end: number;
  readonly crc: number;
}

/** What the directory says of a member. */
interface Entry {
  readonly name: string;
  readonly rawName: Uint8Array;
  readonly flags: number;
  readonly method: number;
  readonly crc: number;
  readonly compressed: number;
  readonly size: number;
  /** Of the local header. */
  readonly at: number;
}

const DIRECTORY_END = 0x06054b50;
const END_BYTES = 22;
const LOCATOR_64 = 0x07064b50;
const DIRECTORY_END_64 = 0x06064b50;
const ENTRY = 0x02014b50;
const ENTRY_BYTES = 46;
const LOCAL_HEADER = 0x04034b50;
const LOCAL_BYTES = 30;
/** Stands for a number that is elsewhere, in 64 bits. */
const ELSEWHERE = 0xffffffff;
/** Of the extra field that has it. */
const ZIP64 = 1;
const ENCRYPTED = 1;
const UTF8_NAMES = 1 << 11;
/** Sum and lengths stand behind the data. */
const SAID_BEHIND = 8;

/** @returns the members in the order of the directory, and where the archive ends */
function readDirectory(
  bytes: Uint8Array,
  where: string,
  meet: (name: string) => void,
): { readonly members: Map<string, Member>; readonly end: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { count, begin, end, stop } = directoryOf(view, where);
  const members = new Map<string, Member>();
  let at = begin;
  for (let i = 0; i < count; i++) {
    const entry = entryAt(bytes, view, at, stop, where);
    at = entry.next;
    const refuse = (what: string): FormatError =>
      new FormatError(`${where}/${JSON.stringify(entry.name.slice(0, 80)).slice(1, -1)}`, entry.at, what);
    meet(entry.name);
    refuseUnfit(entry, refuse);
    if (members.has(entry.name)) throw refuse("the name stands twice");
    const start = dataStart(bytes, view, entry, refuse);
    members.set(entry.name, { begin: start, end: start + entry.compressed, crc: entry.crc });
  }
  if (at !== stop)
    throw unreadable(where, at, `the directory ends ${stop - at} bytes before the place that it says`);
  let reached = 0;
  for (const [name, { begin: first, end: last }] of [...members].sort(([, a], [, b]) => a.begin - b.begin)) {
    if (first < reached) throw new FormatError(`${where}/${name}`, first, "overlaps the member before it");
    reached = last;
  }
  return { members, end };
}

/** The directory: its entries, where it begins and stops, and where the archive ends, behind its comment. */
function directoryOf(view: DataView, where: string) {
  let at = view.byteLength - END_BYTES;
  while (at >= 0 && view.getUint32(at, true) !== DIRECTORY_END) at--;
  if (at < 0) throw unreadable(where, 0, "there is no directory");
  const end = Math.min(view.byteLength, at + END_BYTES + view.getUint16(at + 20, true));
  const small = { count: view.getUint16(at + 10, true), begin: view.getUint32(at + 16, true) };
  const size = view.getUint32(at + 12, true);
  const isElsewhere = small.count === 0xffff || small.begin === ELSEWHERE || size === ELSEWHERE;
  const { count, begin, bytes } = isElsewhere ? directory64(view, at, where) : { ...small, bytes: size };
  const stop = begin + bytes;
  if (stop > at) throw unreadable(where, at, "the directory is not where its end says");
  return { count, begin, end, stop };
}

function directory64(view: DataView, end: number, where: string) {
  const locator = end - 20;
  if (locator < 0 || view.getUint32(locator, true) !== LOCATOR_64)
    throw unreadable(where, end, "the place of its 64-bit directory is missing");
  const at = integer64(view, locator + 8);
  if (at + 56 > locator || view.getUint32(at, true) !== DIRECTORY_END_64)
    throw unreadable(where, locator, "its 64-bit directory is not where it says");
  return {
    count: integer64(view, at + 32),
    bytes: integer64(view, at + 40),
    begin: integer64(view, at + 48),
  };
}

/** One beyond 2^53 is beyond the file, too. */
function integer64(view: DataView, at: number): number {
  return Number(view.getBigUint64(at, true));
}

function entryAt(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  stop: number,
  where: string,
): Entry & { readonly next: number } {
  if (at + ENTRY_BYTES > stop || view.getUint32(at, true) !== ENTRY)
    throw unreadable(where, at, "the directory is damaged");
  const nameEnd = at + ENTRY_BYTES + view.getUint16(at + 28, true);
  const extraEnd = nameEnd + view.getUint16(at + 30, true);
  const next = extraEnd + view.getUint16(at + 32, true);
  if (next > stop) throw unreadable(where, at, "an entry leaves the directory");
  const flags = view.getUint16(at + 8, true);
  const rawName = bytes.subarray(at + ENTRY_BYTES, nameEnd);
  const isPlain = (flags & UTF8_NAMES) === 0;
  const name = isPlain ? String.fromCharCode(...rawName.subarray(0, LONGEST)) : utf8Of(rawName);
  if (name === undefined) throw unreadable(where, at, "a name that is not UTF-8");
  const [size, compressed, place] = wide(view, nameEnd, extraEnd, [
    view.getUint32(at + 24, true),
    view.getUint32(at + 20, true),
    view.getUint32(at + 42, true),
  ]) as [number, number, number];
  return {
    name,
    rawName,
    flags,
    method: view.getUint16(at + 10, true),
    crc: view.getUint32(at + 16, true),
    compressed,
    size,
    at: place,
    next,
  };
}

/** A name of more is refused in any case. */
const LONGEST = 4096;

/** Numbers that are elsewhere, in the order in which the extra field has them. */
function wide(view: DataView, begin: number, end: number, said: readonly number[]): number[] {
  for (let at = begin; at + 4 <= end;) {
    const next = at + 4 + view.getUint16(at + 2, true);
    if (next > end) break;
    if (view.getUint16(at, true) === ZIP64) {
      let from = at + 4;
      return said.map((value) => {
        if (value !== ELSEWHERE || from + 8 > next) return value;
        from += 8;
        return integer64(view, from - 8);
      });
    }
    at = next;
  }
  return [...said];
}

function refuseUnfit(
  { name, flags, method, compressed, size }: Entry,
  refuse: (what: string) => FormatError,
): void {
  if (/^\/|\\/.test(name)) throw refuse("absolute path, or a backslash in a name");
  if (name.split("/").includes("..")) throw refuse("invalid relative path");
  if (!isPlainName(name)) throw refuse("the member's name is empty, too long or not printable");
  if ((flags & ENCRYPTED) !== 0) throw refuse("encrypted, which is not read");
  if (method !== 0) throw refuse(`compressed by method ${method}; PyTorch stores, and only that is read`);
  if (compressed !== size) throw refuse(`stored, yet ${compressed} bytes are said to be ${size}`);
}

/** Where a member's bytes begin, by its local header, which must say what the directory says. */
function dataStart(
  bytes: Uint8Array,
  view: DataView,
  entry: Entry,
  refuse: (what: string) => FormatError,
): number {
  const { at, compressed, rawName } = entry;
  if (at + LOCAL_BYTES > bytes.length || view.getUint32(at, true) !== LOCAL_HEADER) {
    throw refuse("the directory points to no local header");
  }
  const nameLength = view.getUint16(at + 26, true);
  const begin = at + LOCAL_BYTES + nameLength + view.getUint16(at + 28, true);
  if (begin + compressed > bytes.length) throw refuse("ends past the end of the file");
  const flags = view.getUint16(at + 6, true);
  // With bit 3 sum and lengths follow the data and are 0 here; 2^32 - 1 stands for a length in the extra field.
  const said = flags & SAID_BEHIND ? [] : [14, 18, 22].map((offset) => view.getUint32(at + offset, true));
  const known = [entry.crc, compressed, entry.size];
  const name = bytes.subarray(at + LOCAL_BYTES, at + LOCAL_BYTES + nameLength);
  const agrees =
    view.getUint16(at + 8, true) === entry.method &&
    (flags & ENCRYPTED) === 0 &&
    name.length === rawName.length &&
    name.every((byte, i) => byte === rawName[i]) &&
    said.every((value, i) => value === known[i] || (i > 0 && value === ELSEWHERE));
  if (!agrees) throw refuse("its local header and the directory contradict each other");
  return begin;
}

function unreadable(where: string, at: number, reason: string): FormatError {
  return new FormatError(where, at, `not readable as a zip file: ${reason}`);
}
