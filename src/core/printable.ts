/**
 * Names as they may be printed and pasted: a file or a class may be called anything, and a terminal acts upon some of it.
 */

/** Control characters and the marks that reverse the direction of text, written as \uXXXX. */
export function printable(text: string): string {
  return text.replace(
    // C0, DEL and C1; line and paragraph separators; bidirectional controls (Unicode TR 9); what XML cannot hold.
    /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** A word of a command line, quoted for a POSIX shell where it needs to be. */
export function shellWord(word: string): string {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word;
  if (printable(word) === word) return `'${word.replaceAll("'", `'\\''`)}'`;
  // What cannot be printed, as bytes that bash, zsh and ksh read back.
  const bytes = [...new TextEncoder().encode(word)].map((byte) =>
    byte >= 0x20 && byte < 0x7f && byte !== 0x27 && byte !== 0x5c
      ? String.fromCharCode(byte)
      : `\\${byte.toString(8).padStart(3, "0")}`,
  );
  return `$'${bytes.join("")}'`;
}
