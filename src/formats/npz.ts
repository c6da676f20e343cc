/**
 * Reads NumPy's `.npz` archives one array at a time: a zip file whose members are `.npy` files, stored or deflated.
 *
 * An archive comes from anywhere, so nothing it declares is believed before it is checked against the file: an
 * array is allocated only when its header's shape, the directory's length and what deflate could at most yield
 * agree, and never above `maxBytes`. Each member's CRC-32 is verified.
 *
 * Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3 (layout) and 4.5.3 (ZIP64).
 */

import { type FileHandle, open } from "node:fs/promises";
import { constants, createInflateRaw, inflateRawSync } from "node:zlib";

import { FormatError } from "../core/error.js";
import {
  MAX_HEADER_BYTES,
  type NpyArray,
  type NpyHeader,
  parseNpy,
  parseNpyHeader,
  readFully,
} from "./npy.js";

/** An archive whose directory has been read. */
export interface Npz {
  /** Array names, as `numpy.load` gives them (without `.npy`), in the order of the file. */
  readonly names: readonly string[];
  /** Type and shape of an array, without its numbers. */
  header(name: string): Promise<NpyHeader>;
  /** Reads one array; nothing is kept. */
  read(name: string): Promise<NpyArray>;
}

/** 4 GiB: the longest typed array of Node 20. */
const DEFAULT_MAX_BYTES = 2 ** 32;

/**
 * Opens an archive; arrays larger than `maxBytes` are refused.
 *
 * @throws FormatError when it is no zip file, or its directory contradicts itself or the file's length.
 */
export async function openNpz(path: string, options: { readonly maxBytes?: number } = {}): Promise<Npz> {
  const maxBytes = options.maxBytes ?? DEFAULT_MAX_BYTES;
  const members = await withFile(path, (file, size) => readDirectory(file, size, path));
  const member = (name: string): Member => {
    const found = members.get(name);
    if (found) return found;
    const names = [...members.keys()].slice(0, 12).join(", ");
    throw new FormatError({ where: path, what: `has no array "${name}"`, found: names || "no arrays" }, 0);
  };
  return {
    names: [...members.keys()],
    header: (name) => withFile(path, (file, size) => readHeader(file, size, member(name), maxBytes)),
    read: (name) => withFile(path, (file, size) => readMember(file, size, member(name), maxBytes)),
  };
}

/** All arrays of an archive, or those in `names`. For files known to be small; {@link openNpz} reads one by one. */
export async function readNpz(path: string, names?: readonly string[]): Promise<Map<string, NpyArray>> {
  const npz = await openNpz(path);
  const arrays = new Map<string, NpyArray>();
  for (const name of names ?? npz.names) arrays.set(name, await npz.read(name));
  return arrays;
}

interface Member {
  /** `file.npz/name`, for errors. */
  readonly where: string;
  readonly method: 0 | 8;
  readonly crc: number;
  readonly compressedBytes: number;
  readonly bytes: number;
  /** Of the member's local header. */
  readonly offset: number;
}

const STORED = 0;
const DEFLATED = 8;
const END_BYTES = 22;
const ENTRY_BYTES = 46;
const LOCAL_BYTES = 30;
const MAX_DIRECTORY_BYTES = 64 * 2 ** 20;
/** Deflate turns one byte into at most 1032 (zlib.net/zlib_tech.html). */
const MAX_DEFLATE_RATIO = 1032;

async function withFile<T>(path: string, use: (file: FileHandle, size: number) => Promise<T>): Promise<T> {
  const file = await open(path);
  try {
    return await use(file, (await file.stat()).size);
  } finally {
    await file.close();
  }
}

async function readHeader(
  file: FileHandle,
  size: number,
  member: Member,
  maxBytes: number,
): Promise<NpyHeader> {
  return (await locate(file, size, member, maxBytes)).header;
}

async function readMember(
  file: FileHandle,
  size: number,
  member: Member,
  maxBytes: number,
): Promise<NpyArray> {
  const { start } = await locate(file, size, member, maxBytes);
  const bytes = new Uint8Array(member.bytes);
  if (member.method === STORED) await readFully(file, bytes, start, member.where);
  else await inflateInto(bytes, file, start, member);
  const crc = crc32(bytes);
  if (crc !== member.crc) {
    throw new FormatError(
      { where: member.where, what: "damaged: wrong CRC-32", expected: hex(member.crc), found: hex(crc) },
      start,
    );
  }
  return parseNpy(bytes, member.where);
}

/** Finds the member's data and reads its array header; after this its declared length can be allocated. */
async function locate(
  file: FileHandle,
  size: number,
  member: Member,
  maxBytes: number,
): Promise<{ readonly start: number; readonly header: NpyHeader }> {
  const { where, offset } = member;
  const local = await readAt(file, size, offset, LOCAL_BYTES, where);
  if (local.getUint32(0, true) !== 0x04034b50) {
    throw new FormatError({ where, what: "the directory points to something that is no zip member" }, offset);
  }
  const start = offset + LOCAL_BYTES + local.getUint16(26, true) + local.getUint16(28, true);
  if (start + member.compressedBytes > size) {
    throw new FormatError(
      { where, what: "cut short", expected: `${start + member.compressedBytes} bytes`, found: `${size}` },
      size,
    );
  }
  // Deflate may need a few bytes more than the header's own length to give it all.
  const peek = new Uint8Array(Math.min(member.compressedBytes, MAX_HEADER_BYTES));
  await readFully(file, peek, start, where);
  const header = parseNpyHeader(member.method === STORED ? peek : inflateStart(peek, member, start), where);
  const declared = header.dataOffset + header.dataBytes;
  if (declared !== member.bytes) {
    throw new FormatError(
      {
        where,
        what: `shape [${header.shape.join(", ")}] and the zip directory disagree about its length`,
        expected: `${declared} bytes`,
        found: `${member.bytes}`,
      },
      start,
    );
  }
  if (declared > maxBytes) {
    throw new FormatError(
      {
        where,
        what: "larger than this reader allows",
        expected: `at most ${maxBytes} bytes`,
        found: `${declared}`,
      },
      start,
    );
  }
  return { start, header };
}

/** As much as the first compressed bytes give; at most 4 MiB, by deflate's ratio. */
function inflateStart(bytes: Uint8Array, member: Member, start: number): Uint8Array {
  try {
    return inflateRawSync(bytes, { finishFlush: constants.Z_SYNC_FLUSH });
  } catch (error) {
    throw notDeflated(member, start, error);
  }
}

async function inflateInto(into: Uint8Array, file: FileHandle, start: number, member: Member): Promise<void> {
  const inflate = createInflateRaw({ chunkSize: 1 << 18 });
  const source = file.createReadStream({
    start,
    end: start + member.compressedBytes - 1,
    autoClose: false,
    highWaterMark: 1 << 18,
  });
  source.on("error", (error) => inflate.destroy(error));
  source.pipe(inflate);
  let done = 0;
  try {
    for await (const chunk of inflate as AsyncIterable<Buffer>) {
      if (done + chunk.length > into.length) {
        throw new FormatError(
          {
            where: member.where,
            what: "inflates to more than it declares",
            expected: `${into.length} bytes`,
          },
          start,
        );
      }
      into.set(chunk, done);
      done += chunk.length;
    }
  } catch (error) {
    throw error instanceof FormatError ? error : notDeflated(member, start, error);
  } finally {
    source.destroy();
  }
  if (done !== into.length) {
    throw new FormatError(
      {
        where: member.where,
        what: "inflates to less than it declares",
        expected: `${into.length} bytes`,
        found: `${done}`,
      },
      start,
    );
  }
}

function notDeflated(member: Member, start: number, error: unknown): FormatError {
  const reason = error instanceof Error ? error.message : String(error);
  return new FormatError({ where: member.where, what: `damaged: deflate says "${reason}"` }, start);
}

/** The members by array name, from the directory at the end of the file. */
async function readDirectory(file: FileHandle, size: number, path: string): Promise<Map<string, Member>> {
  const { entries, bytes, offset } = await readEnd(file, size, path);
  if (offset + bytes > size || bytes > MAX_DIRECTORY_BYTES || entries * ENTRY_BYTES > bytes) {
    throw new FormatError(
      {
        where: path,
        what: `a zip directory of ${entries} entries in ${bytes} bytes does not fit at byte ${offset}`,
      },
      Math.min(offset, size),
    );
  }
  const view = await readAt(file, size, offset, bytes, path);
  const members = new Map<string, Member>();
  let at = 0;
  for (let i = 0; i < entries; i++) {
    const broken = (what: string) => new FormatError({ where: path, what }, offset + at);
    if (at + ENTRY_BYTES > bytes || view.getUint32(at, true) !== 0x02014b50) {
      throw broken(`entry ${i} of the zip directory is damaged`);
    }
    const nameBytes = view.getUint16(at + 28, true);
    const extraBytes = view.getUint16(at + 30, true);
    const next = at + ENTRY_BYTES + nameBytes + extraBytes + view.getUint16(at + 32, true);
    if (next > bytes) throw broken(`entry ${i} of the zip directory is cut short`);
    const name = memberName(
      new Uint8Array(view.buffer, view.byteOffset + at + ENTRY_BYTES, nameBytes),
      broken,
    );
    const where = `${path}/${name}`;
    const flags = view.getUint16(at + 8, true);
    if (flags & 1) throw broken(`${name} is encrypted, which is not read`);
    const method = view.getUint16(at + 10, true);
    if (method !== STORED && method !== DEFLATED) {
      throw broken(`${name} is compressed by method ${method}; stored (0) and deflated (8) are read`);
    }
    const wide = zip64Extra(view, at, nameBytes, extraBytes, broken);
    const member = { where, method, crc: view.getUint32(at + 16, true), ...wide } as const;
    if (member.offset + LOCAL_BYTES + member.compressedBytes > size) {
      throw broken(`${name} would reach past the end of the file`);
    }
    const most = method === STORED ? member.compressedBytes : member.compressedBytes * MAX_DEFLATE_RATIO;
    if (member.bytes > most || (method === STORED && member.bytes !== most)) {
      throw broken(`${name} declares ${member.bytes} bytes, which its ${member.compressedBytes} cannot hold`);
    }
    if (members.has(name)) throw broken(`${name} twice`);
    members.set(name, member);
    at = next;
  }
  return members;
}

/** Names are printed, so control characters are refused; they are never used as paths. */
function memberName(bytes: Uint8Array, broken: (what: string) => FormatError): string {
  let name: string;
  try {
    name = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw broken("a member's name is not UTF-8");
  }
  if (!/^[^\0-\x1f\x7f]{1,1024}$/u.test(name))
    throw broken("a member's name is empty, too long or not printable");
  if (!name.endsWith(".npy")) throw broken(`${name} is not a .npy file, so this is no .npz archive`);
  return name.slice(0, -".npy".length);
}

/** Sizes and offset of an entry, from the ZIP64 field where the entry's own are all ones (4.5.3). */
function zip64Extra(
  view: DataView,
  at: number,
  nameBytes: number,
  extraBytes: number,
  broken: (what: string) => FormatError,
): { readonly bytes: number; readonly compressedBytes: number; readonly offset: number } {
  const narrow = [24, 20, 42].map((field) => view.getUint32(at + field, true));
  const wide: number[] = [];
  const end = at + ENTRY_BYTES + nameBytes + extraBytes;
  for (let field = end - extraBytes; field + 4 <= end;) {
    const length = view.getUint16(field + 2, true);
    if (field + 4 + length > end) throw broken("a zip extra field is cut short");
    if (view.getUint16(field, true) === 1) {
      for (let i = 0; i + 8 <= length; i += 8)
        wide.push(safe(view.getBigUint64(field + 4 + i, true), broken));
    }
    field += 4 + length;
  }
  const [bytes, compressedBytes, offset] = narrow.map((value) => {
    if (value !== 0xffffffff) return value;
    const found = wide.shift();
    if (found === undefined) throw broken("a ZIP64 length is missing");
    return found;
  }) as [number, number, number];
  return { bytes, compressedBytes, offset };
}

/** The directory's place, from the end record, or the ZIP64 one before it (numpy writes either). */
async function readEnd(
  file: FileHandle,
  size: number,
  path: string,
): Promise<{ readonly entries: number; readonly bytes: number; readonly offset: number }> {
  const tailStart = Math.max(0, size - END_BYTES - 0xffff);
  const tail = await readAt(file, size, tailStart, size - tailStart, path);
  let at = tail.byteLength - END_BYTES;
  while (at >= 0 && tail.getUint32(at, true) !== 0x06054b50) at--;
  if (at < 0) {
    throw new FormatError(
      { where: path, what: "not an .npz archive: it has no zip directory; is the file complete?" },
      size,
    );
  }
  const end = {
    entries: tail.getUint16(at + 10, true),
    bytes: tail.getUint32(at + 12, true),
    offset: tail.getUint32(at + 16, true),
  };
  if (end.entries !== 0xffff && end.bytes !== 0xffffffff && end.offset !== 0xffffffff) return end;
  const broken = (what: string) => new FormatError({ where: path, what }, tailStart + at);
  if (at < 20 || tail.getUint32(at - 20, true) !== 0x07064b50) throw broken("the ZIP64 directory is missing");
  const place = safe(tail.getBigUint64(at - 12, true), broken);
  const wide = await readAt(file, size, place, 56, path);
  if (wide.getUint32(0, true) !== 0x06064b50) throw broken("the ZIP64 directory is missing");
  return {
    entries: safe(wide.getBigUint64(32, true), broken),
    bytes: safe(wide.getBigUint64(40, true), broken),
    offset: safe(wide.getBigUint64(48, true), broken),
  };
}

async function readAt(
  file: FileHandle,
  size: number,
  offset: number,
  length: number,
  where: string,
): Promise<DataView> {
  if (offset + length > size) {
    throw new FormatError(
      { where, what: "ends early", expected: `${offset + length} bytes`, found: `${size}` },
      size,
    );
  }
  const bytes = new Uint8Array(length);
  await readFully(file, bytes, offset, where);
  return new DataView(bytes.buffer);
}

function safe(value: bigint, broken: (what: string) => FormatError): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw broken(`${value} is no length of a file`);
  return number;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let c = byte;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

/** CRC-32 as zip defines it (4.4.7); `zlib.crc32` comes only with Node 20.15. */
function crc32(bytes: Uint8Array): number {
  let c = 0xffffffff;
  for (let i = 0; i < bytes.length; i++)
    c = (CRC_TABLE[(c ^ (bytes[i] as number)) & 0xff] as number) ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, "0")}`;
}
