import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";

import { encodeExample } from "../../formats/tf-example.js";
import { frameRecord } from "../../formats/tfrecord.js";
import { needs, sharedPath } from "../../../test/support/shared.js";
import { DataError } from "../../core/error.js";
import { openRecords } from "../../data/records/record-dataset.js";
import { readLabels } from "./labels.js";
import { MAX_CLASSES } from "../../data/records/record-classes.js";

const folder = mkdtempSync(join(tmpdir(), "riffle-labels-"));
after(() => rmSync(folder, { recursive: true }));

function read(text: string): Promise<Map<string, number>> {
  const path = join(folder, "labels.json");
  writeFileSync(path, text);
  return readLabels(path);
}

suite("readLabels", () => {
  const original = sharedPath("tf-reference", "records", "integer_encoding.json");
  test("reads the original's file", needs("tf-reference", "records", "integer_encoding.json"), async () => {
    const labels = await readLabels(original);
    assert.deepEqual([labels.size, labels.get("n02119789")], [1000, 0]);
    assert.deepEqual(
      [...labels.values()].sort((a, b) => a - b),
      [...Array(1000).keys()],
    );
  });

  test("takes labels with gaps, from 1 on, and up to the last that training takes", async () => {
    const labels = await read(`{"n1": 1, "n2": 7, "n\\u00e9": ${MAX_CLASSES - 1}}`);
    assert.deepEqual([...labels], [["n1", 1], ["n2", 7], ["n\u00e9", 999_999]]); // prettier-ignore
  });

  test("takes names that mean something to JavaScript or JSON", async () => {
    const names = ["__proto__", "constructor", 'a": 1, "a', "a\\", "{", "2", "1"];
    const text = `{${names.map((name, label) => `${JSON.stringify(name)}: ${label}`).join()}}`;
    assert.deepEqual(new Set(await read(text)), new Set(names.map((name, label) => [name, label] as const)));
  });

  const refused: readonly (readonly [string, string, RegExp])[] = [
    ["no JSON", "n1: 0", /cannot be read/],
    ["a list", "[0, 1]", /holds no labels by class/],
    ["nothing in it", "{}", /holds no labels/],
    ["a label in letters", '{"n1": "0", "n2": 1}', /label of "n1" .*\(expected 0 \.\. 999999, found "0"\)/],
    ["a negative label", '{"n1": -1, "n2": 1}', /label of "n1" .*found -1/],
    ["a label between two", '{"n1": 0.5}', /label of "n1" .*found 0\.5/],
    ["a label that training refuses", `{"n1": ${MAX_CLASSES}}`, /label of "n1" .*found 1000000/],
    ["a label of 33 bits", '{"n1": 4294967296}', /label of "n1" .*found 4294967296/],
    ["a label of an object", '{"n1": {"n": 1}, "n2": {"n": 1}}', /label of "n1" .*found no number/],
    ["a label of no end", `{"n1": ${"[".repeat(1e6)}${"]".repeat(1e6)}}`, /label of "n1" .*found no number/],
    ["a label of a text", '{"n1": "a", ":": 1}', /label of "n1" .*found "a"/],
    [
      "two classes of one label",
      '{"n1": 3, "n2": 1, "n3": 3}',
      /label of "n3" .*expected .*own.*found 3, .*"n1"/,
    ],
    ["a class twice", '{"n1": 0, "n2": 1, "n1": 2}', /names "n1" twice/],
    ["a class twice, once with an escape", '{"n1": 0, "n\\u0031": 1}', /names "n1" twice/],
    ["a class twice, once without a label", '{"n1": "n2", "n2": 1, "n1": 0}', /names "n1" twice/],
    ["a class without a name", '{"": 0}', /a name of 0 characters.*expected 1 to 1024/],
    ["a name that no manifest holds", `{"${"n".repeat(1025)}": 0}`, /a name of 1025 characters/],
  ];
  for (const [name, text, words] of refused) {
    test(`refuses ${name}`, async () => {
      await assert.rejects(read(text), (error: unknown) => {
        assert.ok(error instanceof DataError, String(error));
        assert.match(error.message, words);
        assert.match(error.message, /labels\.json: .*Nothing was written/);
        return true;
      });
    });
  }

  test("refuses a file that is not there", async () => {
    await assert.rejects(readLabels(join(folder, "none.json")), /none\.json: there is no such file/);
  });
});

test("training takes labels below MAX_CLASSES, and none beyond", async () => {
  const shard = join(folder, "shard.tfrecords");
  const open = (label: number): ReturnType<typeof openRecords> => {
    const values = [BigInt(label)];
    const example = encodeExample([
      ["image", { kind: "bytes", values: [Buffer.from("no picture")] }],
      ["label", { kind: "ints", values }],
    ]);
    writeFileSync(shard, frameRecord(example));
    return openRecords(shard);
  };
  await assert.rejects(open(MAX_CLASSES), /label is no class \(expected 0 \.\. 999999, found 1000000\)/);
  // The label passed, so the picture is looked at.
  await assert.rejects(open(MAX_CLASSES - 1), /not a picture/);
});
