import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { DataError } from "../core/error.js";
import { type Json, parseStrictJson } from "./strict-json.js";

function parse(text: string): Json {
  return parseStrictJson(Buffer.from(text), "x.json");
}

/** Maps as objects, to compare with what JSON.parse gives. */
function plain(value: Json): unknown {
  if (value instanceof Map) {
    return Object.fromEntries([...(value as ReadonlyMap<string, Json>)].map(([key, v]) => [key, plain(v)]));
  }
  return Array.isArray(value) ? (value as readonly Json[]).map(plain) : value;
}

suite("parseStrictJson", () => {
  for (const text of [
    "null",
    " true ",
    "-0.5e+3",
    '"a\\u00e9\\n\\"\\\\/"',
    "[]",
    "{}",
    '\t{"a": [1, 2, {"b": null}], "": false,\r\n "c": "//#" }\n',
  ]) {
    test(`reads ${JSON.stringify(text)} as JSON.parse does`, () => {
      assert.deepEqual(plain(parse(text)), JSON.parse(text));
    });
  }

  test("keeps a key that would be a property of every object as any other", () => {
    assert.deepEqual(parse('{"__proto__": 1}'), new Map([["__proto__", 1]]));
  });

  const refused: Readonly<Record<string, readonly [text: string, message: RegExp]>> = {
    nothing: ["", /line 1, column 1: ends early/],
    "a text that ends early": ['{"a": [1, 2', /line 1, column 12: ends early; is it complete\?/],
    "a string that ends early": ['{\n "a": "b', /line 2, column 9: ends early/],
    "a key that is there twice": [
      '{\n  "a": 1,\n  "\\u0061": 2}',
      /line 3, column 3: the key "a" is there twice/,
    ],
    "a comma before a brace": ['{"a": 1,\n}', /line 1, column 8: a comma stands before }/],
    "a comma before a bracket": ["[1, 2, ]", /line 1, column 6: a comma stands before \]/],
    "a comment of two slashes": ["[1, // one\n2]", /line 1, column 5: JSON has no comments/],
    "a comment of a star": ["/* x */ []", /line 1, column 1: JSON has no comments/],
    "a comment of a hash": ["# x\n[]", /line 1, column 1: JSON has no comments/],
    "a key without quotes": ["{a: 1}", /line 1, column 2: a key in quotes is missing/],
    "single quotes": ["['a']", /line 1, column 2: "'a'" is no value of JSON/],
    "a missing colon": ['{"a" 1}', /line 1, column 6: a colon is missing behind the key "a"/],
    "a missing comma": ["[1 2]", /line 1, column 4: a comma or \] is missing/],
    "the wrong bracket": ["[1}", /line 1, column 3: a comma or \] is missing/],
    "numbers that JSON does not have": ["[01]", /line 1, column 2: "01" is no value of JSON/],
    "hexadecimal numbers": ["[0x1]", /"0x1" is no value of JSON/],
    NaN: ["[NaN]", /"NaN" is no value of JSON/],
    "a line break in a string": ['["a\nb"]', /line 1, column 2: a string does not end on its line/],
    "a control character in a string": ['["a\u0001"]', /a character or an escape that JSON does not have/],
    "an escape that JSON does not have": ['["\\x41"]', /a character or an escape that JSON does not have/],
    "a second value": ["{} {}", /line 1, column 4: something follows the end/],
    "a byte order mark": ["\ufeff{}", /begins with a byte order mark/],
    "33 arrays within each other": ["[".repeat(33) + "]".repeat(33), /nested more than 32 deep/],
  };
  for (const [what, [text, message]] of Object.entries(refused)) {
    test(`refuses ${what}`, () => {
      assert.throws(
        () => parse(text),
        (error: unknown) => {
          assert.ok(error instanceof DataError);
          assert.match(error.message, /^x\.json/);
          assert.match(error.message, message);
          return true;
        },
      );
    });
  }

  test("reads 32 arrays within each other, and refuses a million without running out of stack", () => {
    parse("[".repeat(32) + "]".repeat(32));
    assert.throws(() => parse("[".repeat(1e6)), DataError);
  });

  test("refuses bytes that are no UTF-8", () => {
    for (const bytes of [
      [0x22, 0xff, 0x22],
      [0xff, 0xfe, 0x7b, 0, 0x7d, 0],
    ]) {
      assert.throws(() => parseStrictJson(Uint8Array.from(bytes), "x.json"), /no UTF-8 text/);
    }
  });

  test("reads a string of 16 MB, all of it escapes", () => {
    assert.equal((parse(`"${"\\\\".repeat(8e6)}"`) as string).length, 8e6);
  });
});
