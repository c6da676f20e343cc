import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";

import { DataError } from "../../core/error.js";
import { encodeMetadata, justName, type PictureRow, readMetadata } from "./metadata.js";

const folder = mkdtempSync(join(tmpdir(), "riffle-metadata-"));
after(() => rmSync(folder, { recursive: true }));
const path = join(folder, "list.csv");

function read(text: string | Uint8Array): Promise<PictureRow[]> {
  writeFileSync(path, text);
  return readMetadata(path);
}

suite("readMetadata", () => {
  const row = { path: "train/n1/n1_2.JPEG", wordnetId: "n1", justName: "n1_2" };

  test("reads both kinds of file; just_name follows from the path where it is missing", async () => {
    assert.deepEqual(await read("path,wordnet_id,just_name\ntrain/n1/n1_2.JPEG,n1,n1_2\n"), [row]);
    assert.deepEqual(await read("path,wordnet_id\ntrain/n1/n1_2.JPEG,n1"), [row]);
  });

  test("reads columns in any order, with others between, a byte order mark and line ends of Windows", async () => {
    assert.deepEqual(await read("\ufeff__proto__,wordnet_id,path\r\nx,n1,train/n1/n1_2.JPEG\r\n"), [row]);
  });

  test("reads over blank lines and rows of commas behind the last", async () => {
    assert.deepEqual(await read("path,wordnet_id\r\ntrain/n1/n1_2.JPEG,n1\r\n,\r\n\r\n  \r\n"), [row]);
  });

  test("what encodeMetadata wrote is read as it was, whatever stands in a name", async () => {
    const names = ["a,b.JPEG", 'quo"te.JPEG', "new\nline.JPEG", "tar.tar::n1.tar::é.JPEG", "\ufffd.JPEG"];
    const rows = names.map((name) => ({
      path: name,
      wordnetId: "n1",
      justName: justName(name),
    }));
    assert.deepEqual(await read(encodeMetadata(rows, "training")), rows);
    assert.deepEqual(await read(encodeMetadata(rows, "validation")), rows);
  });

  const refused: readonly (readonly [string, string | Uint8Array, RegExp])[] = [
    ["an empty file", "", /lists no pictures/],
    ["a header alone", "path,wordnet_id\n", /lists no pictures/],
    ["other columns", "file,label\na,1\n", /line 1: has no column path and none wordnet_id/],
    ["a column twice", "path,path,wordnet_id\na,b,n1\n", /has the column path twice/],
    ["a short row", "path,wordnet_id\na,n1\nb\n", /line 3: no CSV file: .*length is 2, got 1/],
    ["an open quote", 'path,wordnet_id\n"a,n1\n', /no CSV file/],
    ["a row without a path", "path,wordnet_id\n,n1\n", /line 2: a row without a path/],
    ["a row without a class", "path,wordnet_id\na,\n", /line 2: a row without a class/],
    [
      "bytes that are no UTF-8",
      Buffer.concat([Buffer.from("path,wordnet_id\n"), Buffer.of(0xff), Buffer.from(",n1\n")]),
      /line 2: holds bytes that are no UTF-8/,
    ],
    ["a zero byte", "path,wordnet_id\na\0,n1\n", /line 2: holds a zero byte/],
  ];
  for (const [name, text, words] of refused) {
    test(`refuses ${name}`, async () => {
      await assert.rejects(read(text), (error: unknown) => {
        assert.ok(error instanceof DataError, String(error));
        assert.match(error.message, words);
        return true;
      });
    });
  }

  test("refuses a file that is not there", async () => {
    await assert.rejects(readMetadata(join(folder, "none.csv")), /none\.csv: there is no such file/);
  });
});

test("justName is the file's or member's name without extension", () => {
  assert.equal(justName("a/b.c/n01440764_10026.JPEG"), "n01440764_10026");
  assert.equal(justName("train.tar::n01440764.tar::n01440764_1.JPEG"), "n01440764_1");
  assert.equal(justName("noextension"), "noextension");
});
