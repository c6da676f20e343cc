/**
 * How many columns a text takes on a terminal, and names made to fit: a Chinese character takes two, a combining mark and a
 * colour none.
 */

import stringWidth from "string-width";

export function columnsOf(text: string): number {
  return stringWidth(text);
}

/** "photos/a-very-long-name.jpg" -> "photos/a…name.jpg": the beginning and the end of a name, at most `width` columns. */
export function shortened(name: string, width: number): string {
  if (columnsOf(name) <= width) return name;
  const room = Math.max(0, width - 1);
  const end = lastOf(name, Math.ceil(room / 2));
  return `${firstOf(name, room - columnsOf(end))}…${end}`;
}

/** "…name.jpg" */
export function endOf(name: string, width: number): string {
  return columnsOf(name) <= width ? name : `…${lastOf(name, width - 1)}`;
}

/** "photos/a…" */
export function startOf(name: string, width: number): string {
  return columnsOf(name) <= width ? name : `${firstOf(name, width - 1)}…`;
}

/** As `padEnd`, in columns. */
export function padded(text: string, width: number): string {
  return text + " ".repeat(Math.max(0, width - columnsOf(text)));
}

function firstOf(text: string, width: number): string {
  return upTo([...text], width).join("");
}

function lastOf(text: string, width: number): string {
  return upTo([...text].toReversed(), width)
    .toReversed()
    .join("");
}

/** The first characters that fit. */
function upTo(characters: readonly string[], width: number): readonly string[] {
  let used = 0;
  const end = characters.findIndex((character) => (used += columnsOf(character)) > width);
  return end < 0 ? characters : characters.slice(0, end);
}
