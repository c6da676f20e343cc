import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";

import { tarBytes } from "../../../test/support/tar-bytes.js";
import { DataError, ResourceError } from "../../core/error.js";
import { PictureReader } from "./archives.js";

const folder = mkdtempSync(join(tmpdir(), "riffle-archives-"));
const reader = new PictureReader();
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

suite("PictureReader", () => {
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

  test("names a picture that may not be read", () => {
    const path = join(folder, "secret.JPEG");
    writeFileSync(path, "secret");
    chmodSync(path, 0);
    chmodSync(folder, 0o755);
    const refused = (look: () => unknown) =>
      assert.throws(
        look,
        (error: unknown) =>
          error instanceof DataError && /secret\.JPEG: cannot be read: no permission/.test(error.message),
      );
    asNobody(() => refused(() => reader.read(path)));
    // What would be let through is asked of the real user, who stays root above.
    if (process.getuid?.() !== 0) refused(() => reader.size(path));
  });

  // Its length and permissions are those of a file, but nothing is at its start.
  const unreadable = "/proc/self/mem";
  test(
    "H4: a disk that does not give a picture is the machine's fault, and names the picture",
    { skip: !existsSync(unreadable) },
    () => {
      assert.throws(
        () => reader.read(unreadable),
        (error: unknown) => error instanceof ResourceError && /self\/mem: cannot be read/.test(error.message),
      );
    },
  );

  test("refuses an archive that holds a name twice", () => {
    const twice = join(folder, "twice.tar");
    writeFileSync(twice, tarBytes([{ name: "a" }, { name: "a" }]));
    assert.throws(() => reader.read(`${twice}::a`), /holds "a" twice/);
  });
});

/** Without root's rights, which no permission binds. */
function asNobody(act: () => void): void {
  if (process.geteuid?.() !== 0) return act();
  process.seteuid?.(65534);
  try {
    act();
  } finally {
    process.seteuid?.(0);
  }
}
