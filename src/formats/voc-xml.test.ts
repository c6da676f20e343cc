import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { DataError } from "../core/error.js";
import { parseVocXml } from "./voc-xml.js";

const size = "<size><width>500</width><height>375</height><depth>3</depth></size>";
const box = "<bndbox><xmin>64</xmin><ymin>103</ymin><xmax>369</xmax><ymax>277</ymax></bndbox>";
const object = `<object><name>n01440764</name><pose>Unspecified</pose>${box}</object>`;

function annotation(...parts: string[]): string {
  return `<annotation>\n<filename>n01440764_10040</filename>\n${parts.join("\n")}\n</annotation>`;
}

function parse(text: string | Uint8Array): ReturnType<typeof parseVocXml> {
  return parseVocXml(typeof text === "string" ? Buffer.from(text) : text, "test.xml");
}

suite("parseVocXml", () => {
  const expected = { name: "n01440764", xmin: 64, ymin: 103, xmax: 369, ymax: 277 };

  test("reads the size and a box per object", () => {
    const { filename, width, height, objects } = parse(annotation(size, object, object));
    assert.deepEqual([filename, width, height], ["n01440764_10040", 500, 375]);
    assert.deepEqual(objects, [expected, expected]);
  });

  test("reads an XML declaration, a byte order mark, comments, CDATA and decimals", () => {
    const text = `\ufeff<?xml version="1.0"?>${annotation("<!-- seen -->", size, object)}`
      .replace("64", "<![CDATA[64]]>")
      .replace("277", " 277.5\n");
    assert.deepEqual(parse(text).objects, [{ ...expected, ymax: 277.5 }]);
  });

  test("parts of an object, with boxes of their own, are passed over", () => {
    const part = `<part><name>head</name>${box}</part>`;
    assert.deepEqual(parse(annotation(size, object.replace("</object>", `${part}</object>`))).objects, [
      expected,
    ]);
  });

  test("a file without objects has none", () => assert.deepEqual(parse(annotation(size)).objects, []));

  const refused: readonly (readonly [string, string | Uint8Array, RegExp])[] = [
    ["nothing", "", /well-formed|no <annotation>/],
    ["text", "boxes", /line 1, column \d+: no well-formed XML/],
    ["an end too early", annotation(size, object).slice(0, 200), /no well-formed XML: unclosed tag/],
    ["tags that cross", "<annotation><size></annotation></size>", /line 1, column \d+: no well-formed XML/],
    ["another document", "<html></html>", /no file of boxes \(expected <annotation>, found <html>\)/],
    [
      "an entity from outside",
      `<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>${annotation(size)}`,
      /line 1, column \d+: a DOCTYPE/,
    ],
    [
      "a billion laughs",
      '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>',
      /a DOCTYPE/,
    ],
    [
      "an entity of nobody's",
      annotation(size, "&xxe;"),
      /line 4, column \d+: no well-formed XML: undefined entity/,
    ],
    [
      "a processing instruction",
      annotation("<?php run()?>", size),
      /line 3, column \d+: a processing instruction.*"php"/,
    ],
    ["no size", annotation(object), /no <size><width>/],
    [
      "a width of text",
      annotation(size.replace("500", "wide")),
      /<size><width> is no number of pixels \(found "wide"\)/,
    ],
    ["a width of 1e3", annotation(size.replace("500", "1e3")), /no number of pixels/],
    ["two widths", annotation(size, size), /line 4, column \d+: <size\/width> twice/],
    [
      "an object without a name",
      annotation(size, object.replace(/<name>.*<\/name>/, "")),
      /line 4, column \d+: an object without a name/,
    ],
    [
      "an object without a corner",
      annotation(size, object.replace("<xmax>369</xmax>", "")),
      /line 4, column \d+: no <bndbox><xmax>/,
    ],
    ["two boxes in an object", annotation(size, object.replace(box, box + box)), /<bndbox\/xmin> twice/],
    ["elements in a number", annotation(size.replace("500", "5<b>0</b>")), /<width> holds elements/],
    ["elements nested 100 deep", `<annotation>${"<a>".repeat(100)}`, /nested more than 32 deep/],
    ["bytes that are no UTF-8", Uint8Array.of(0x3c, 0xff), /no UTF-8 text/],
    ["two megabytes", new Uint8Array(2 ** 21), /too long for a file of boxes/],
  ];
  for (const [name, text, words] of refused) {
    test(`refuses ${name}, with its place`, () => {
      assert.throws(
        () => parse(text),
        (error: unknown) => {
          assert.ok(error instanceof DataError, String(error));
          assert.match(error.message, words);
          return true;
        },
      );
    });
  }
});
