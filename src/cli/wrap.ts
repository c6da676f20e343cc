/** Lines made to fit a terminal without a word being cut. Widths are in columns. */

import { columnsOf } from "../core/columns.js";

/**
 * A line as lines no wider than `width`, broken between words; what follows the first stands under where its text began:
 * behind the title of "Saved     runs/a", else two columns further than the line.
 *
 * A command to paste begins a line where it does not fit, and is broken as a shell would have it, with a backslash.
 */
export function wrapped(line: string, width: number): string[] {
  if (columnsOf(line) <= width) return [line];
  const [, lead = "", text = line] = LEAD.exec(line) ?? [];
  const indent = " ".repeat(lead.trim() === "" && lead.length < TITLE ? lead.length + 2 : lead.length);
  const { index: at = text.length } = COMMAND.exec(text) ?? {};
  const lines: string[] = [];
  let current = lead;
  let isEmpty = true;
  const add = (word: string): void => {
    if (!isEmpty && columnsOf(`${current} ${word}`) > width) {
      lines.push(current.trimEnd());
      [current, isEmpty] = [indent, true];
      if (word === "") return;
    }
    current += isEmpty ? word : ` ${word}`;
    isEmpty = false;
  };
  for (const word of text.slice(0, at).trimEnd().split(" ")) if (word !== "" || !isEmpty) add(word);
  if (at === text.length) return [...lines, current];
  const command = text.slice(at);
  if (!isEmpty && columnsOf(`${current} ${command}`) > width) {
    lines.push(current);
    [current, isEmpty] = [indent, true];
  }
  const [first = "", ...words] = command.match(SHELL_WORD) ?? [];
  current += isEmpty ? first : ` ${first}`;
  for (const word of words) {
    if (columnsOf(`${current} ${word} \\`) > width) {
      lines.push(`${current} \\`);
      current = `${indent}  ${word}`;
    } else current += ` ${word}`;
  }
  return [...lines, current];
}

/** Columns of a title and the space behind it (report-run.ts). */
const TITLE = 10;

/** A title, or the blanks that a line begins with. */
const LEAD = /^((?:[A-Z]\S*(?: \S+)? {2,}|[A-Z]\S{8} )(?<=^.{10})|\s*)(.*)$/su;

/** What begins a command line in what we print. */
const COMMAND = /(?<=^|\s)(?:npx|npm|mpirun|curl|python3?|openssl|bash|mv) \S/u;

/** What a shell takes for one word, quotes and all. */
const SHELL_WORD = /(?:'[^']*'|"(?:[^"\\]|\\.)*"|\\.|[^\s'"\\])+/gsu;
