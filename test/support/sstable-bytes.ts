/** Sorted tables made by hand, so that tests can write what TensorFlow would not, with checksums that fit. */

import { maskedCrc32c } from "../../src/formats/crc32c.js";
import { TABLE_MAGIC } from "../../src/formats/sstable.js";

/** A table around one data block given as stored; `index` overrides the index block that fits it. */
export function tableOf(
  block: ArrayLike<number>,
  { type = 0, last = "~", index = [] as number[] } = {},
): Buffer {
  const sealed = (contents: readonly number[], kind: number): Buffer => {
    const covered = Buffer.from([...contents, kind]);
    const crc = Buffer.alloc(4);
    crc.writeUInt32LE(maskedCrc32c(covered));
    return Buffer.concat([covered, crc]);
  };
  const data = sealed(Array.from(block), type);
  const empty = sealed(restarts([0]), 0);
  const handles = index.length > 0 ? index : blockOf([[0, last, [0, block.length]]]);
  const indexBlock = sealed(handles, 0);
  const footer = Buffer.alloc(48);
  Buffer.from([
    ...[...varint(data.length), ...varint(8)],
    ...[...varint(data.length + empty.length), ...varint(handles.length)],
  ]).copy(footer);
  footer.set(TABLE_MAGIC, 40);
  return Buffer.concat([data, empty, indexBlock, footer]);
}

/** Entries (shared, unshared key, value), one restart at 0. */
export function blockOf(
  entries: readonly (readonly [number, string, readonly number[]])[],
  at = [0],
): number[] {
  const bytes = entries.flatMap(([shared, key, value]) => {
    const packed = value.flatMap(varint);
    return [...varint(shared), key.length, packed.length, ...Buffer.from(key, "latin1"), ...packed];
  });
  return [...bytes, ...restarts(at)];
}

export function restarts(at: readonly number[]): number[] {
  return [...at, at.length].flatMap((n) => [n & 255, (n >> 8) & 255, (n >> 16) & 255, (n >> 24) & 255]);
}

export function varint(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) | 128, ...varint(Math.floor(value / 128))];
}
