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

/**
 * The last folder of a path and the name in it, which say more than its beginning. Where they do not fit, dots stand for what is
 * before the name's end; the whole path is under the pointer.
 */
export function fileLabel(path: string): string {
  const label = path.split("/").slice(-2).join("/");
  const [end] = /.{0,5}(\.\w{1,5})?$/su.exec(label) as RegExpExecArray;
  const begin = label.slice(0, label.length - end.length);
  return `<span class="file" title="${html(path)}"><span>${html(begin)}</span><span>${html(end)}</span></span>`;
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
