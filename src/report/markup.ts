/** Text from files in HTML and in Markdown: it is shown as it is, whatever it holds. */

import { printable } from "../core/printable.js";

const entities: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** For HTML's text and quoted attributes. */
export function html(text: string): string {
  return printable(text).replace(/[&<>"']/g, (c) => entities[c] ?? c);
}

/** For a line or a cell of Markdown: no mark of it, and no HTML, begins in the text. */
export function markdown(text: string): string {
  return (
    printable(text)
      .replace(/[&<>]/g, (c) => entities[c] ?? c)
      // A colon within a word begins an address or an emoji, "www." an address.
      .replace(/[\\`*_[\]|~@$^]|:(?=\S)/g, (c) => `\\${c}`)
      .replace(/www\./gi, (www) => `&#119;${www.slice(1)}`)
  );
}
