/** A prediction as a line for people: the file, and what is seen in it. */

import { columnsOf, padded, shortened } from "../core/columns.js";
import { printable } from "../core/printable.js";
import type { Guess, Prediction, Refused } from "../inference/predict.js";
import { shownClass } from "../prepare/imagenet/challenge-classes.js";
import { wrapped } from "./wrap.js";
import { percent } from "./format.js";
import type { Terminal, Text } from "./terminal.js";

type Result = Prediction | Refused;

/** Names longer than that do not move the others' results to the right. */
const WIDEST_NAME = 40;
const NARROWEST_NAME = 12;
const GAP = "   ";

export interface LineFormat {
  /** Columns of the names. */
  readonly names: number;
  /** Of the terminal; Infinity for a file or a pipe. */
  readonly width: number;
  /** So many classes were asked for: those that have no room go on below, else they are left out. */
  readonly isTopAsked: boolean;
}

/** How wide the names of these files are shown. */
export function nameColumns(files: readonly string[], width: number): number {
  const longest = Math.max(0, ...files.map((file) => columnsOf(printable(file))));
  if (width === Infinity) return Math.min(WIDEST_NAME, longest);
  return Math.min(longest, WIDEST_NAME, Math.max(NARROWEST_NAME, Math.floor(width / 3)));
}

/** "photos/a.jpg   bees 99.2 %   ants 0.8 %", all of it. */
export function plainLine(result: Result, names: number): string {
  const file = padded(printable(result.file), names);
  if ("error" in result) return `${file}${GAP}not read: ${printable(result.error)}`;
  return [file, ...result.top.map((guess) => guessText(guess))].join(GAP);
}

/** The same as lines that fit a terminal: a long name is shortened in its middle, and no word is cut. */
export function resultLines(
  result: Result,
  { names, width, isTopAsked }: LineFormat,
  { red, bold }: Terminal["colour"],
): Text[][] {
  if (width === Infinity) return [[plainLine(result, names)]];
  const file = padded(shortened(printable(result.file), names), names) + GAP;
  const room = width - columnsOf(file);
  const indent = " ".repeat(columnsOf(file));
  if ("error" in result) {
    const [first = "", ...rest] = wrapped(
      `not read: ${printable(result.error)}`,
      Math.max(room, NARROWEST_NAME),
    );
    return [[file, red(first)], ...rest.map((line) => [indent + line.trimStart()])];
  }
  const lines: string[][] = [[]];
  for (const guess of result.top) {
    const text = guessText(guess, room);
    const last = lines.at(-1) as string[];
    if (last.length === 0 || columnsOf([...last, text].join(GAP)) <= room) last.push(text);
    else if (isTopAsked) lines.push([text]);
    else break;
  }
  return lines.map(([first = "", ...others], i) => [
    i === 0 ? file : indent,
    i === 0 ? bold(first) : first,
    ...others.map((text) => GAP + text),
  ]);
}

/** "bees 99.2 %"; a class too long for the room is shortened, its probability never. */
function guessText({ name, probability }: Guess, room = Infinity): string {
  const share = percent(probability);
  const words = printable(shownClass(name));
  return `${shortened(words, Math.max(NARROWEST_NAME, room - share.length - 1))} ${share}`;
}
