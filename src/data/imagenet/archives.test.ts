import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";

import { tarBytes } from "../../../test/tar-bytes.js";
import { DataError } from "../../core/error.js";
import { pictureReader } from "./archives.js";

const folder = mkdtempSync(join(tmpdir(), "riffle-archives-"));
const reader = pictureReader();
after(() => {
  reader.close();
  rmSync(folder, { recursive: true });
});

const fish = tarBytes([
  { name: "n01440764_1.JPEG", data: Buffer.from("one") },
  { name: "n01440764_2.JPEG", data: Buffer.from("second") },
]);
const train = join(folder, "train.tar");
writeFileSync(
  train,
  tarBytes([
    { name: "n01440764.tar", data: fish },
    { name: "notes", data: Buffer.from("n") },
  ]),
);
writeFileSync(join(folder, "plain.JPEG"), "plain");

suite("pictureReader", () => {
  test("reads files, members, and members of archives in archives", () => {
    const text = (path: string) => Buffer.from(reader.read(path)).toString();
    assert.equal(text(join(folder, "plain.JPEG")), "plain");
    assert.equal(text(`${train}::notes`), "n");
    assert.equal(text(`${train}::n01440764.tar::n01440764_2.JPEG`), "second");
    assert.equal(reader.size(`${train}::n01440764.tar::n01440764_1.JPEG`), 3);
    assert.equal(reader.size(join(folder, "plain.JPEG")), 5);
  });

  mkdirSync(join(folder, "sub"));
  const missing: readonly (readonly [string, RegExp])[] = [
    [join(folder, "no.JPEG"), /there is no such file/],
    ["no-such-folder/no.JPEG", /Relative paths count from the working directory/],
    [join(folder, "sub"), /no plain file/],
    ["/dev/zero", /no plain file/],
    [join(folder, "no.tar::x"), /no such file/],
    [
      `${train}::n01440764.tar::n01440764_3.JPEG`,
      /train\.tar::n01440764\.tar: has no member "n01440764_3\.JPEG"/,
    ],
    [`${train}::n99.tar::x`, /train\.tar: has no member "n99\.tar"/],
    [`${train}::notes::x`, /train\.tar::notes, byte \d+: the archive ends/],
    [`${join(folder, "plain.JPEG")}::x`, /plain\.JPEG, byte 0: the archive ends/],
  ];
  for (const [path, words] of missing) {
    test(`says what is wrong with ${path.replace(folder, "DIR")}`, () => {
      assert.throws(
        () => reader.read(path),
        (error: unknown) => error instanceof DataError && words.test(error.message),
      );
    });
  }

  test("refuses an archive that holds a name twice", () => {
    const twice = join(folder, "twice.tar");
    writeFileSync(twice, tarBytes([{ name: "a" }, { name: "a" }]));
    assert.throws(() => reader.read(`${twice}::a`), /holds "a" twice/);
  });
});
