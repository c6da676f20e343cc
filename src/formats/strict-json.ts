/**
 * JSON to the letter of RFC 8259, where what is wrong has to be found by a person in an editor: by line and column. What
 * JSON.parse lets pass, a key that is there twice, is refused, and nesting is bounded.
 *
 * Lines and columns count from 1, columns in characters of UTF-16 as editors do.
 */

import { DataError } from "../core/error.js";
import { quoted } from "./plain-name.js";
import { utf8Of } from "./utf8.js";

/** Objects are Maps: their keys come out of files. */
export type Json = null | boolean | number | string | readonly Json[] | ReadonlyMap<string, Json>;

/** Arrays and objects within each other. */
const DEEPEST = 32;

/** @throws DataError with line and column, for comments, trailing commas, byte order marks and the like too. */
export function parseStrictJson(bytes: Uint8Array, where: string): Json {
  const text = utf8Of(bytes);
  if (text === undefined) throw DataError.at(where, "holds bytes that are no UTF-8 text");
  if (text.startsWith("\ufeff")) {
    throw DataError.at(where, "begins with a byte order mark, which JSON does not have", {
      hint: "Save it as UTF-8 without BOM",
    });
  }
  return new Parser(text, where).whole();
}

class Parser {
  readonly #text: string;
  readonly #where: string;
  #at = 0;

  constructor(text: string, where: string) {
    this.#text = text;
    this.#where = where;
  }

  whole(): Json {
    const value = this.#value(0);
    if (this.#next() !== undefined) this.#fail("something follows the end of the JSON");
    return value;
  }

  #value(depth: number): Json {
    const character = this.#next();
    if (character === "{" || character === "[") {
      if (depth === DEEPEST) this.#fail(`is nested more than ${DEEPEST} deep`);
      return character === "{" ? this.#object(depth) : this.#array(depth);
    }
    if (character === '"') return this.#string();
    TOKEN.lastIndex = this.#at;
    const token = TOKEN.exec(this.#text)?.[0] ?? "";
    if (!LITERAL.test(token))
      this.#fail(token === "" ? "is no JSON" : `${quoted(token)} is no value of JSON`);
    this.#at += token.length;
    return JSON.parse(token) as null | boolean | number;
  }

  #object(depth: number): ReadonlyMap<string, Json> {
    const members = new Map<string, Json>();
    this.#list("}", () => {
      if (this.#next() !== '"') this.#fail("a key in quotes is missing");
      const begin = this.#at;
      const key = this.#string();
      if (members.has(key)) this.#fail(`the key ${quoted(key)} is there twice`, begin);
      if (this.#next() !== ":") this.#fail(`a colon is missing behind the key ${quoted(key)}`);
      this.#at++;
      members.set(key, this.#value(depth + 1));
    });
    return members;
  }

  #array(depth: number): Json[] {
    const values: Json[] = [];
    this.#list("]", () => values.push(this.#value(depth + 1)));
    return values;
  }

  /** From an opening bracket through its closing one. */
  #list(closing: "}" | "]", element: () => void): void {
    this.#at++;
    if (this.#next() === closing) {
      this.#at++;
      return;
    }
    for (;;) {
      element();
      const character = this.#next();
      if (character === closing) {
        this.#at++;
        return;
      }
      if (character !== ",") this.#fail(`a comma or ${closing} is missing`);
      const comma = this.#at++;
      if (this.#next() === closing) this.#fail(`a comma stands before ${closing}`, comma);
    }
  }

  #string(): string {
    let end = this.#at + 1;
    while (end < this.#text.length && !'"\n'.includes(this.#text[end] as string)) {
      end += this.#text[end] === "\\" ? 2 : 1;
    }
    if (this.#text[end] !== '"') {
      const isLast = this.#text.slice(end).trim() === "";
      return this.#fail("a string does not end on its line", isLast ? this.#text.length : this.#at);
    }
    try {
      const value = JSON.parse(this.#text.slice(this.#at, end + 1)) as string;
      this.#at = end + 1;
      return value;
    } catch {
      return this.#fail("a string holds a character or an escape that JSON does not have");
    }
  }

  /** The character behind white space; undefined at the end. */
  #next(): string | undefined {
    SPACE.lastIndex = this.#at;
    this.#at += SPACE.exec(this.#text)?.[0].length ?? 0;
    const character = this.#text[this.#at];
    if (character === "/" || character === "#") this.#fail("JSON has no comments");
    return character;
  }

  #fail(what: string, at = this.#at): never {
    const before = this.#text.slice(0, at).split(/\r\n|\n|\r/);
    const column = (before.at(-1) as string).length + 1;
    const ends = at >= this.#text.trimEnd().length;
    throw DataError.at(
      `${this.#where}, line ${before.length}, column ${column}`,
      ends ? "ends early; is it complete?" : what,
    );
  }
}

const SPACE = /[ \t\r\n]*/y;
/** What a value that is no string, array or object reaches to. */
const TOKEN = /[^\s,:"[\]{}/#]*/y;
const LITERAL = /^(?:null|true|false|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)$/;
