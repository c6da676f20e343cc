/**
 * Writes a zip archive whose members are stored: stored-zip.ts reads it, and so does every other reader of zips.
 *
 * Names are UTF-8, times 1980-01-01, so the same members are the same bytes.
 *
 * Source: PKWARE APPNOTE 6.3, sections 4.3 and 4.4.
 */

import { crc32 } from "./crc32.js";

export interface ZipMember {
  /** With "/" between folders. */
  readonly name: string;
  readonly content: Uint8Array<ArrayBuffer>;
}

const UTF8_NAMES = 1 << 11;
const VERSION = 20;
/** 1980-01-01 as MS-DOS says it. */
const FIRST_DAY = 33;
/** What 32 bits can say. */
const MOST_BYTES = 0xfffffffe;
const MOST_MEMBERS = 0xfffe;

/**
 * The archive in pieces, in order; no copy of the members is made.
 *
 * @throws RangeError where it is more than 4 GiB or 65,534 members
 */
export function encodeStoredZip(members: readonly ZipMember[]): Uint8Array<ArrayBuffer>[] {
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  const directory: Uint8Array<ArrayBuffer>[] = [];
  let at = 0;
  for (const { name, content } of members) {
    const rawName = new TextEncoder().encode(name);
    const sum = crc32(content);
    const common = [UTF8_NAMES, 0, 0, FIRST_DAY] as const;
    const sizes = [sum, content.length, content.length] as const;
    directory.push(
      record(
        [4, 0x02014b50],
        [2, VERSION],
        [2, VERSION],
        ...common.map((v) => [2, v] as const),
        ...sizes.map((v) => [4, v] as const),
        [2, rawName.length],
        [2, 0],
        [2, 0],
        [2, 0],
        [2, 0],
        [4, 0],
        [4, at],
      ),
      rawName,
    );
    const local = record(
      [4, 0x04034b50],
      [2, VERSION],
      ...common.map((v) => [2, v] as const),
      ...sizes.map((v) => [4, v] as const),
      [2, rawName.length],
      [2, 0],
    );
    pieces.push(local, rawName, content);
    at += local.length + rawName.length + content.length;
  }
  const size = directory.reduce((sum, { length }) => sum + length, 0);
  if (at + size > MOST_BYTES || members.length > MOST_MEMBERS) {
    throw new RangeError(
      `${members.length} members of ${at + size} bytes are more than a zip archive of 32 bits holds`,
    );
  }
  const end = record(
    [4, 0x06054b50],
    [2, 0],
    [2, 0],
    [2, members.length],
    [2, members.length],
    [4, size],
    [4, at],
    [2, 0],
  );
  return [...pieces, ...directory, end];
}

/** Numbers of so many bytes each, little-endian. */
function record(...fields: readonly (readonly [bytes: number, value: number])[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(fields.reduce((sum, [bytes]) => sum + bytes, 0));
  let at = 0;
  for (const [bytes, value] of fields)
    for (let i = 0; i < bytes; i++) out[at++] = Math.floor(value / 256 ** i) & 0xff;
  return out;
}
