/**
 * Numbers and names as a reader at a terminal wants them.
 *
 * The terminal makes what it prints printable; a name that is measured for a column is made so before.
 */

import { printable, shellWord } from "../core/printable.js";
import { duration } from "../report/figures.js";

export { duration, shellWord };

/** 2400 -> "2,400"; `digits` decimals. */
export function count(value: number, digits = 0): string {
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** "1 picture", "2,400 pictures". */
export function several(number: number, noun: string): string {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** 0.9891 -> "98.9 %". */
export function percent(fraction: number, digits = 1): string {
  return `${(100 * fraction).toFixed(digits)} %`;
}

/** 352042 -> "352,042"; 7600000 -> "7.6 M"; 146000000 -> "146 M". */
export function millions(value: number): string {
  if (value < 1e6) return count(value);
  return `${count(value / 1e6, value < 1e8 ? 1 : 0)} M`;
}

/** Bytes in decimal units, as disks and downloads are counted: "1.4 MB". */
export function bytes(value: number): string {
  for (const [unit, size] of [
    ["GB", 1e9],
    ["MB", 1e6],
    ["kB", 1e3],
  ] as const) {
    if (value >= size) return `${(value / size).toFixed(1)} ${unit}`;
  }
  return `${value} bytes`;
}

/** A rate in four significant figures at most: 4310.2 -> "4,310", 61.27 -> "61.3". */
export function rate(perSecond: number): string {
  return count(perSecond, perSecond < 10 ? 2 : perSecond < 100 ? 1 : 0);
}

/** One object as one line of JSON that no terminal acts upon. */
export function jsonLine(object: unknown): string {
  // JSON.stringify escapes C0 itself; what is left stands inside strings, where \uXXXX means the same.
  return printable(JSON.stringify(object));
}
