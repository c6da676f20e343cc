/**
 * Lists and JSON as people's editors, spreadsheets and shells save them: a byte order mark before the text, line ends of
 * Windows, blank lines at the end; PowerShell writes UTF-16. None of that is part of a name.
 */

import { utf8Of } from "./utf8.js";

/** A file's text: UTF-8, or UTF-16 where its mark says so; without the mark. Undefined for anything else. */
export function plainText(bytes: Uint8Array): string | undefined {
  const [first, second] = bytes;
  if (first === 0xff && second === 0xfe) return utf16(bytes, "utf-16le");
  if (first === 0xfe && second === 0xff) return utf16(bytes, "utf-16be");
  return utf8Of(bytes)?.replace(/^\ufeff/, "");
}

/** The lines of a text without their ends, and without blank ones behind the last. */
export function linesOf(text: string): string[] {
  const lines = text.split(/\r\n|\n|\r/);
  while (lines.length > 0 && (lines.at(-1) as string).trim() === "") lines.pop();
  return lines;
}

function utf16(bytes: Uint8Array, encoding: "utf-16le" | "utf-16be"): string | undefined {
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
