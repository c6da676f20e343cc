/**
 * Reads NumPy's `.npz` archives one array at a time: a zip file whose members are `.npy` files, stored or deflated.
 *
 * yauzl reads the zip. An archive comes from anywhere, so nothing it declares is believed before it is checked
 * against the file: an array is allocated only when its header's shape, the directory's length and what deflate
 * could at most yield agree, and never above `maxBytes`; all members together are no longer than the file. Each member's CRC-32 is verified, which yauzl leaves to us.
 */

import type { FileHandle } from "node:fs/promises";
import { Readable } from "node:stream";
import { crc32 } from "node:zlib";

import { type Entry, fromRandomAccessReaderPromise, RandomAccessReader, type ZipFile } from "yauzl";

import { FormatError } from "../core/error.js";
import { hex32 } from "./crc32c.js";
import { MAX_HEADER_BYTES, type NpyArray, type NpyHeader, parseNpy, parseNpyHeader } from "./npy.js";
import { isPlainName } from "./plain-name.js";
import { openRegular, readFully } from "./read-file.js";

/** An archive whose directory has been read. */
export interface Npz {
  /** Array names, as `numpy.load` gives them (without `.npy`), in the order of the file. */
  readonly names: readonly string[];
  /** Members that are no arrays: a README, say. */
  readonly others: readonly string[];
  /** Type and shape of an array, without its numbers. */
  header(name: string): Promise<NpyHeader>;
  /** Reads one array; nothing is kept. */
  read(name: string): Promise<NpyArray>;
  /** Reads an array of bytes of any length. */
  readRows(name: string): Promise<ByteRows>;
}

/** An array of bytes in pieces, since one buffer may be too short for all of it. */
export interface ByteRows {
  readonly header: NpyHeader;
  /** Entry `i` of the first axis; shares the piece's memory. */
  readonly row: (i: number) => Uint8Array;
}

export interface NpzOptions {
  readonly maxBytes?: number;
  /** Of an array that is read by rows: what one buffer holds at most. */
  readonly pieceBytes?: number;
}

/** 4 GiB: the longest typed array of Node 20. */
const DEFAULT_MAX_BYTES = 2 ** 32;
const DEFAULT_PIECE_BYTES = 2 ** 31;

/**
 * Opens an archive; arrays larger than `maxBytes` are refused.
 *
 * @throws FormatError when it is no zip file, or its directory contradicts itself or the file's length.
 */
export async function openNpz(
  path: string,
  { maxBytes = DEFAULT_MAX_BYTES, pieceBytes = DEFAULT_PIECE_BYTES }: NpzOptions = {},
): Promise<Npz> {
  const { members, others } = await withZip(path, path, (zip, size) => readDirectory(zip, path, size));
  const withMember = async <T>(
    name: string,
    use: (zip: ZipFile, member: Member) => Promise<T>,
  ): Promise<T> => {
    const member = members.get(name);
    if (member) return withZip(path, member.where, (zip) => use(zip, member));
    const names = [...members.keys()].slice(0, 12).join(", ");
    throw new FormatError(path, 0, `has no array "${name}"`, { found: names || "no arrays" });
  };
  return {
    names: [...members.keys()],
    others,
    header: (name) => withMember(name, (zip, member) => readHeader(zip, member, Infinity)),
    read: (name) => withMember(name, (zip, member) => readArray(zip, member, maxBytes)),
    readRows: (name) => withMember(name, (zip, member) => readByteRows(zip, member, pieceBytes)),
  };
}

interface Member {
  /** `file.npz/name`, for errors. */
  readonly where: string;
  readonly entry: Entry;
}

const STORED = 0;
const ENTRY_BYTES = 46;
const MAX_DIRECTORY_BYTES = 64 * 2 ** 20;
/** Deflate turns one byte into at most 1032 (zlib.net/zlib_tech.html). */
const MAX_DEFLATE_RATIO = 1032;
const CHUNK_BYTES = 2 ** 18;

/** Opens the archive for one use; what yauzl throws becomes a FormatError at the byte last asked for. */
async function withZip<T>(
  path: string,
  where: string,
  use: (zip: ZipFile, size: number) => Promise<T>,
): Promise<T> {
  const { file, size } = await openRegular(path);
  try {
    const reader = new ArchiveReader(file, size, path);
    try {
      const zip = await fromRandomAccessReaderPromise(reader, size, {
        autoClose: false,
        strictFileNames: true,
      });
      return await use(zip, size);
    } catch (error) {
      if (error instanceof FormatError) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      throw new FormatError(where, reader.position, `not readable as an .npz archive: ${reason}`);
    }
  } finally {
    await file.close();
  }
}

/** yauzl's view of the file. It refuses reads outside, for which fs throws where nobody catches. */
class ArchiveReader extends RandomAccessReader {
  /** Where the last read began, in bytes. */
  position = 0;

  constructor(
    private readonly file: FileHandle,
    private readonly size: number,
    private readonly path: string,
  ) {
    super();
  }

  override read(
    buffer: Buffer,
    offset: number,
    length: number,
    position: number,
    callback: (error: Error | null) => void,
  ): void {
    this.fill(buffer.subarray(offset, offset + length), position).then(() => callback(null), callback);
  }

  override _readStreamForRange(start: number, end: number): Readable {
    return Readable.from(this.chunks(start, end), { objectMode: false });
  }

  private async *chunks(start: number, end: number): AsyncGenerator<Buffer> {
    for (let at = start; at < end; at += CHUNK_BYTES) {
      const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, end - at));
      await this.fill(chunk, at);
      yield chunk;
    }
  }

  private async fill(into: Uint8Array, position: number): Promise<void> {
    const end = position + into.length;
    if (end > this.size) {
      throw new FormatError(this.path, this.position, "points past the end of the file; is it complete?", {
        expected: `${end} bytes`,
        found: `${this.size}`,
      });
    }
    this.position = position;
    await readFully(this.file, into, position, this.path);
  }
}

/** The members by array name. */
async function readDirectory(
  zip: ZipFile,
  path: string,
  size: number,
): Promise<{ readonly members: Map<string, Member>; readonly others: readonly string[] }> {
  const members = new Map<string, Member>();
  const others: string[] = [];
  let bytes = 0;
  let packed = 0;
  for await (const entry of zip.eachEntry()) {
    const name = arrayName(entry.fileName);
    if (name === undefined) {
      others.push(entry.fileName);
      bytes = directoryBytes(bytes, entry);
      continue;
    }
    if (!entry.canDecodeFileData()) {
      throw new Error(
        entry.isEncrypted()
          ? `${name} is encrypted, which is not read`
          : `${name} is compressed by method ${entry.compressionMethod}; stored (0) and deflated (8) are read`,
      );
    }
    const { compressedSize, uncompressedSize } = entry;
    const most = compressedSize * (entry.compressionMethod === STORED ? 1 : MAX_DEFLATE_RATIO);
    if (uncompressedSize > most) {
      throw new Error(`${name} declares ${uncompressedSize} bytes, which its ${compressedSize} cannot hold`);
    }
    if (members.has(name)) throw new Error(`${name} twice`);
    // Members that share their bytes would unpack to far more than a file of this length can hold.
    packed += compressedSize;
    if (packed > size) throw new Error(`${name} and those before it take more bytes than the file has`);
    bytes = directoryBytes(bytes, entry);
    members.set(name, { where: `${path}/${name}`, entry });
  }
  return { members, others };
}

/** The directory's length with one entry more. */
function directoryBytes(before: number, entry: Entry): number {
  const bytes =
    before + ENTRY_BYTES + entry.fileNameLength + entry.extraFieldLength + entry.fileCommentLength;
  if (bytes > MAX_DIRECTORY_BYTES)
    throw new Error(`its directory is longer than ${MAX_DIRECTORY_BYTES} bytes`);
  return bytes;
}

/** undefined for a member that is no array: a README, a folder. */
function arrayName(fileName: string): string | undefined {
  if (!isPlainName(fileName)) throw new Error("a member's name is empty, too long or not printable");
  return fileName.endsWith(".npy") ? fileName.slice(0, -".npy".length) : undefined;
}

/** The array's header; after this its declared length can be allocated. */
async function readHeader(zip: ZipFile, { entry, where }: Member, maxBytes: number): Promise<NpyHeader> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of await content(zip, entry)) {
    chunks.push(chunk);
    length += chunk.length;
    if (length >= MAX_HEADER_BYTES) break;
  }
  const header = parseNpyHeader(Buffer.concat(chunks), where);
  const declared = header.dataOffset + header.dataBytes;
  if (declared !== entry.uncompressedSize) {
    const what = `shape [${header.shape.join(", ")}] and the zip directory disagree about its length`;
    throw new FormatError(where, entry.relativeOffsetOfLocalHeader, what, {
      expected: `${declared} bytes`,
      found: `${entry.uncompressedSize}`,
    });
  }
  if (declared > maxBytes) {
    const what = "larger than this reader allows";
    throw new FormatError(where, entry.relativeOffsetOfLocalHeader, what, {
      expected: `at most ${maxBytes} bytes`,
      found: `${declared}`,
    });
  }
  return header;
}

async function readArray(zip: ZipFile, member: Member, maxBytes: number): Promise<NpyArray> {
  await readHeader(zip, member, maxBytes);
  const { entry, where } = member;
  const bytes = new Uint8Array(entry.uncompressedSize);
  let done = 0;
  let crc = 0;
  // yauzl ends the stream with an error where it holds more or fewer bytes than declared.
  for await (const chunk of await content(zip, entry)) {
    bytes.set(chunk, done);
    done += chunk.length;
    crc = crc32(chunk, crc);
  }
  if (crc !== entry.crc32) throw wrongCrc(entry, where, crc);
  return parseNpy(bytes, where);
}

async function readByteRows(zip: ZipFile, member: Member, pieceBytes: number): Promise<ByteRows> {
  const header = await readHeader(zip, member, Infinity);
  const { entry, where } = member;
  const { shape, dtype, dataOffset, dataBytes, fortran } = header;
  const rowBytes = dataBytes / (shape[0] ?? 1);
  if (dtype !== "u1") throw new FormatError(where, 0, "holds no bytes", { expected: "u1", found: dtype });
  if (entry.uncompressedSize <= pieceBytes || shape.length < 2) {
    const { data } = (await readArray(zip, member, pieceBytes)) as { readonly data: Uint8Array };
    return { header, row: (i) => data.subarray(i * rowBytes, (i + 1) * rowBytes) };
  }
  if (fortran || rowBytes > pieceBytes) {
    throw new FormatError(
      where,
      0,
      fortran ? "too long to be read in Fortran order" : "one entry is too long",
      {
        expected: `at most ${pieceBytes} bytes`,
        found: `${fortran ? dataBytes : rowBytes}`,
        ...(fortran ? { hint: "Save it with numpy.ascontiguousarray" } : {}),
      },
    );
  }
  const rows = Math.floor(pieceBytes / rowBytes);
  const pieces: Uint8Array[] = [];
  let at = -dataOffset;
  let crc = 0;
  for await (const chunk of await content(zip, entry)) {
    crc = crc32(chunk, crc);
    for (let from = Math.max(0, -at); from < chunk.length;) {
      const place = at + from;
      const piece = Math.floor(place / (rows * rowBytes));
      const start = piece * rows * rowBytes;
      pieces[piece] ??= new Uint8Array(Math.min(rows * rowBytes, dataBytes - start));
      const part = chunk.subarray(from, from + (pieces[piece].length - (place - start)));
      pieces[piece].set(part, place - start);
      from += part.length;
    }
    at += chunk.length;
  }
  if (crc !== entry.crc32) throw wrongCrc(entry, where, crc);
  return {
    header,
    row(i) {
      const piece = pieces[Math.floor(i / rows)] as Uint8Array;
      const start = (i % rows) * rowBytes;
      return piece.subarray(start, start + rowBytes);
    },
  };
}

function wrongCrc(entry: Entry, where: string, crc: number): FormatError {
  return new FormatError(where, entry.relativeOffsetOfLocalHeader, "damaged: wrong CRC-32", {
    expected: `0x${hex32(entry.crc32)}`,
    found: `0x${hex32(crc)}`,
  });
}

async function content(zip: ZipFile, entry: Entry): Promise<AsyncIterable<Buffer>> {
  return zip.openReadStreamPromise(entry);
}
