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

import { crc32 } from "node:zlib";

import { type Entry, fromBufferPromise, getFileNameLowLevel } from "yauzl";

import { FormatError } from "../core/error.js";
import { hex32 } from "./crc32c.js";
import { isPlainName } from "./plain-name.js";

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
  static async open(bytes: Uint8Array, where: string, meet: (name: string) => void): Promise<StoredZip> {
    const archive = bytes.subarray(0, endOf(bytes));
    const members = await readDirectory(archive, where, meet);
    return new StoredZip(archive, where, members, bytes.length - archive.length);
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
        const numbers = { expected: `0x${hex32(member.crc)}`, found: `0x${hex32(crc)}` };
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

/** Behind the last end-of-directory record and its comment; where there is none, the reader of the directory says so. */
function endOf(bytes: Uint8Array): number {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const record = buffer.lastIndexOf(Buffer.from("PK\x05\x06", "latin1"));
  if (record < 0 || record + END_BYTES > bytes.length) return bytes.length;
  return Math.min(bytes.length, record + END_BYTES + buffer.readUInt16LE(record + END_BYTES - 2));
}

/** The record without its comment, whose length is its last field. */
const END_BYTES = 22;

async function readDirectory(
  bytes: Uint8Array,
  where: string,
  meet: (name: string) => void,
): Promise<Map<string, Member>> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const members = new Map<string, Member>();
  const nameOf = ({ generalPurposeBitFlag, fileNameRaw, extraFields }: Entry): string =>
    getFileNameLowLevel(generalPurposeBitFlag, fileNameRaw, extraFields, true);
  const refuse = (entry: Entry, what: string): FormatError =>
    new FormatError(
      `${where}/${JSON.stringify(nameOf(entry).slice(0, 80)).slice(1, -1)}`,
      entry.relativeOffsetOfLocalHeader,
      what,
    );
  try {
    const zip = await fromBufferPromise(buffer, { decodeStrings: false });
    for await (const entry of zip.eachEntry()) {
      const { compressionMethod, compressedSize, uncompressedSize } = entry;
      const fileName = nameOf(entry);
      meet(fileName);
      if (/^\/|\\/.test(fileName)) throw refuse(entry, "absolute path, or a backslash in a name");
      if (fileName.split("/").includes("..")) throw refuse(entry, "invalid relative path");
      if (!isPlainName(fileName))
        throw refuse(entry, "the member's name is empty, too long or not printable");
      if (entry.isEncrypted()) throw refuse(entry, "encrypted, which is not read");
      if (compressionMethod !== 0) {
        throw refuse(
          entry,
          `compressed by method ${compressionMethod}; PyTorch stores, and only that is read`,
        );
      }
      if (compressedSize !== uncompressedSize) {
        throw refuse(entry, `stored, yet ${compressedSize} bytes are said to be ${uncompressedSize}`);
      }
      if (members.has(fileName)) throw refuse(entry, "the name stands twice");
      const begin = dataStart(buffer, entry, refuse);
      members.set(fileName, { begin, end: begin + compressedSize, crc: entry.crc32 });
    }
  } catch (error) {
    if (error instanceof FormatError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new FormatError(where, 0, `not readable as a zip file: ${reason}`);
  }
  let reached = 0;
  for (const [name, { begin, end }] of [...members].sort(([, a], [, b]) => a.begin - b.begin)) {
    if (begin < reached) {
      throw new FormatError(`${where}/${name}`, begin, "overlaps the member before it");
    }
    reached = end;
  }
  return members;
}

/** Where a member's bytes begin, by its local header, which must say what the directory says. */
function dataStart(file: Buffer, entry: Entry, refuse: (entry: Entry, what: string) => FormatError): number {
  const at = entry.relativeOffsetOfLocalHeader;
  if (at + 30 > file.length || file.readUInt32LE(at) !== 0x04034b50) {
    throw refuse(entry, "the directory points to no local header");
  }
  const nameLength = file.readUInt16LE(at + 26);
  const begin = at + 30 + nameLength + file.readUInt16LE(at + 28);
  if (begin + entry.compressedSize > file.length) throw refuse(entry, "ends past the end of the file");
  const flags = file.readUInt16LE(at + 6);
  // With bit 3 crc and lengths follow the data and are 0 here; 2^32 - 1 stands for a length in the extra field.
  const said = flags & 8 ? [] : [14, 18, 22].map((offset) => file.readUInt32LE(at + offset));
  const known = [entry.crc32, entry.compressedSize, entry.uncompressedSize];
  const agrees =
    file.readUInt16LE(at + 8) === entry.compressionMethod &&
    (flags & 1) === 0 &&
    entry.fileNameRaw.equals(file.subarray(at + 30, at + 30 + nameLength)) &&
    said.every((value, i) => value === known[i] || (i > 0 && value === 0xffffffff));
  if (!agrees) throw refuse(entry, "its local header and the directory contradict each other");
  return begin;
}
