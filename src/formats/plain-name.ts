/**
 * Names that come out of files. They are printed, so a terminal must not obey them; they become keys of Maps, never of
 * objects, and never paths.
 */

/** Characters that steer a terminal or hide others: control, format, half of a surrogate pair, line and paragraph separators. */
const steering = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** No tensor's, array's or key's name comes near this; bytes. */
const LONGEST = 1024;

/** Whether a name can be printed as it is. */
export function isPlainName(name: string): boolean {
  return name !== "" && new TextEncoder().encode(name).length <= LONGEST && name.search(steering) < 0;
}

/** Names that other readers, in languages or libraries that use objects for maps, would stumble over. */
export function isObjectProperty(name: string): boolean {
  return ["__proto__", "constructor", "prototype"].includes(name);
}

/** Any name for a message: quoted, escaped and short. */
export function quoted(name: string): string {
  const short = name.length > 80 ? `${name.slice(0, 80)}…` : name;
  return JSON.stringify(short).replace(steering, (c) => `\\u{${c.codePointAt(0)!.toString(16)}}`);
}
