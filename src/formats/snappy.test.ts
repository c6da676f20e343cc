import assert from "node:assert/strict";
import { suite, test } from "node:test";

import fc from "fast-check";

import { CheckpointError } from "../core/error.js";
import { uncompressSnappy } from "./snappy.js";

const LIMIT = 1000;

function uncompress(...bytes: number[]): string {
  const block = { where: "x.index", offset: 100, limit: LIMIT };
  return Buffer.from(uncompressSnappy(Uint8Array.from(bytes), block)).toString("latin1");
}

function refused(what: RegExp, ...bytes: number[]): void {
  assert.throws(
    () => uncompress(...bytes),
    (error: unknown) => error instanceof CheckpointError && what.test(error.message),
  );
}

/** Tags: length - 1 above two bits of kind (0 literal, 1 to 3 copies). */
const literal = (text: string): number[] => [(text.length - 1) << 2, ...Buffer.from(text)];
const copy2 = (back: number, length: number): number[] => [((length - 1) << 2) | 2, back & 255, back >> 8];

suite("uncompressSnappy", () => {
  test("gives what literals and the three kinds of copies say", () => {
    assert.equal(uncompress(0), "");
    assert.equal(uncompress(3, ...literal("abc")), "abc");
    assert.equal(uncompress(8, ...literal("abcd"), 0x01, 4), "abcdabcd"); // 4 bytes from 4 back
    assert.equal(uncompress(6, ...literal("abcd"), ...copy2(4, 2)), "abcdab");
    assert.equal(uncompress(6, ...literal("abcd"), 0x07, 3, 0, 0, 0), "abcdbc"); // 2 bytes from 3 back
  });

  test("repeats a pattern where a copy overlaps what it writes", () => {
    assert.equal(uncompress(11, ...literal("ab"), ...copy2(2, 9)), "abababababa");
  });

  test("reads long literals, whose length follows the tag", () => {
    const text = "x".repeat(300);
    assert.equal(uncompress(0xac, 0x02, 61 << 2, 299 & 255, 299 >> 8, ...Buffer.from(text)), text);
  });

  test("gives any bytes back that were written as literals and copies", () => {
    const bytes = fc.uint8Array({ minLength: 1, maxLength: 60 });
    fc.assert(
      fc.property(bytes, fc.integer({ min: 1, max: 60 }), fc.nat(), (head, length, place) => {
        const back = 1 + (place % head.length);
        const expected = [...head];
        for (let i = 0; i < length; i++) expected.push(expected[expected.length - back] as number);
        const block = [expected.length, (head.length - 1) << 2, ...head, ...copy2(back, length)];
        assert.equal(uncompress(...block), Buffer.from(expected).toString("latin1"));
      }),
    );
  });

  test("refuses copies from before the beginning, and from nowhere", () => {
    refused(/from 5 bytes back, where 4 are there/, 8, ...literal("abcd"), ...copy2(5, 4));
    refused(/from 0 bytes back/, 8, ...literal("abcd"), ...copy2(0, 4));
    refused(/from 1 bytes back, where 0 are there/, 4, ...copy2(1, 4));
  });

  test("refuses more and less than it declares", () => {
    refused(/more than the 4 bytes it declares/, 4, ...literal("abcd"), ...copy2(4, 1));
    refused(/more than the 2 bytes it declares/, 2, ...literal("abc"));
    refused(/3 bytes come out, it declares 9/, 9, ...literal("abc"));
  });

  test("refuses what is cut off, naming the byte in the file", () => {
    refused(/byte 100.*ends inside an element/);
    refused(/byte 102.*a literal of 5 bytes leaves it/, 5, 4 << 2, 97);
    refused(/ends inside an element/, 8, ...literal("abcd"), 0x02, 1);
  });

  test("refuses a declared length beyond the limit, and beyond what the bytes can stand for", () => {
    refused(/declares 1001 bytes, at most 1000/, 0xe9, 0x07, ...literal("a".repeat(60)));
    refused(/declares 500 bytes, at most 88/, 0xf4, 0x03, ...literal("a"));
    refused(/declares 4294967295 bytes/, 0xff, 0xff, 0xff, 0xff, 0x0f, ...literal("a"));
    refused(/more than five bytes/, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01);
  });
});
