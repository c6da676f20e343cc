import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { linesOf, plainText } from "./plain-text.js";

const written = "bees\r\nants\r\n";
const utf16 = (text: string, swapped: boolean): Uint8Array => {
  const bytes = Buffer.from(`\ufeff${text}`, "utf16le");
  return swapped ? bytes.swap16() : bytes;
};

suite("plain text", () => {
  for (const [name, bytes] of [
    ["as it is", Buffer.from(written)],
    ["behind a byte order mark", Buffer.from(`\ufeff${written}`)],
    ["as PowerShell writes it, in UTF-16", utf16(written, false)],
    ["in big-endian UTF-16", utf16(written, true)],
  ] as const) {
    test(`is read ${name}`, () => {
      assert.deepEqual(linesOf(plainText(bytes) ?? ""), ["bees", "ants"]);
    });
  }

  test("is nothing else: no Latin-1, no half of a character", () => {
    assert.equal(plainText(Buffer.from("caf\xe9", "latin1")), undefined);
    assert.equal(plainText(utf16("bees", false).subarray(0, 9)), undefined);
  });

  test("loses blank lines at its end, not those in the middle", () => {
    assert.deepEqual(linesOf("a\n\nb\n\n \n\n"), ["a", "", "b"]);
    assert.deepEqual(linesOf("\n"), []);
  });
});
