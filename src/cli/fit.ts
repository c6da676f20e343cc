/**
 * Text and columns: how wide a text is on a terminal, and how it is made to fit without a word being cut.
 *
 * Widths are in columns: a Chinese character takes two, a combining mark none.
 */

import stringWidth from "string-width";

/** Columns that a text takes; colours take none. */
export function columnsOf(text: string): number {
  return stringWidth(text);
}

/** "photos/a-very-long-name.jpg" -> "photos/a-…name.jpg": the beginning and the end of a name, at most `width` columns. */
export function shortened(name: string, width: number): string {
  if (columnsOf(name) <= width) return name;
  const characters = [...name];
  const room = Math.max(0, width - 1);
  // A little more of the end, which tells files of one folder apart.
  const end = upTo(characters.toReversed(), Math.ceil(room / 2)).toReversed();
  const start = upTo(characters, room - columnsOf(end.join("")));
  return `${start.join("")}…${end.join("")}`;
}

/** As `padEnd`, in columns. */
export function padded(text: string, width: number): string {
  return text + " ".repeat(Math.max(0, width - columnsOf(text)));
}

/**
 * A line as lines no wider than `width`, broken between words; what follows the first stands under where its text began:
 * behind the title of "Saved     runs/a", else two columns further than the line.
 *
 * A command to paste is never broken: it begins a line where it does not fit, and the terminal carries it over.
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
  if (at < text.length) add(text.slice(at));
  return [...lines, current];
}

/** Columns of a title and the space behind it (report-run.ts). */
const TITLE = 10;

/** A title, or the blanks that a line begins with. */
const LEAD = /^((?:[A-Z]\S*(?: \S+)? {2,}|[A-Z]\S{8} )(?<=^.{10})|\s*)(.*)$/su;

/** What begins a command line in what we print. */
const COMMAND = /(?<=^|\s)(?:npx|npm|mpirun|curl|python3?|openssl|bash|mv) \S/u;

/** The first characters that fit. */
function upTo(characters: readonly string[], width: number): string[] {
  let used = 0;
  const end = characters.findIndex((character) => (used += columnsOf(character)) > width);
  return end < 0 ? [...characters] : characters.slice(0, end);
}
