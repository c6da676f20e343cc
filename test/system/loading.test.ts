import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";
import { fileURLToPath } from "node:url";

import sharp, { type Sharp } from "sharp";

import { DataError, ResourceError } from "../../src/core/error.js";
import { decodingMemoryOf } from "../../src/data/loader.js";
import { openDatasets } from "../../src/data/sets.js";
import { unreadable } from "../../src/data/unreadable.js";
import { encodeExample } from "../../src/formats/tf-example.js";
import { frameRecord } from "../../src/formats/tfrecord.js";

const scratch = mkdtempSync(join(tmpdir(), "riffle-loading-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

const picture = (width: number, height: number): Sharp =>
  sharp({ create: { width, height, channels: 3, background: "#4a7" } });
const jpeg = await picture(16, 16).jpeg().toBuffer();

interface Loaded {
  readonly images: number;
  readonly bad: number;
  readonly said: number;
  readonly taken: number;
  readonly exitCode: number;
  readonly error: string | null;
}

/** What loading a folder comes to in a process that may open `files` files. */
function load(folder: string, batch: number, files: number, ...more: string[]): Loaded {
  const child = fileURLToPath(new URL("../support/loading-child.js", import.meta.url));
  const output = execFileSync(
    "sh",
    ["-c", `ulimit -S -n ${files}; exec "$@"`, "sh", process.execPath, child, folder, String(batch), ...more],
    { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] },
  );
  return JSON.parse(output) as Loaded;
}

/** A folder of two classes with these files in each. */
function classes(name: string, files: number, bytes: Uint8Array, extension: string): string {
  const folder = join(scratch, name);
  for (const each of ["a", "b"]) {
    mkdirSync(join(folder, each), { recursive: true });
    for (let i = 0; i < files; i++) writeFileSync(join(folder, each, `${i}.${extension}`), bytes);
  }
  return folder;
}

function shards(name: string, count: number): string {
  const folder = join(scratch, name);
  mkdirSync(folder);
  for (let i = 0; i < count; i++) {
    const example = encodeExample([
      ["image", { kind: "bytes", values: [jpeg] }],
      ["label", { kind: "ints", values: [BigInt(i % 2)] }],
    ]);
    writeFileSync(join(folder, `shard-${String(i).padStart(4, "0")}.tfrecords`), frameRecord(example));
  }
  return folder;
}

suite("H4: an error of the machine is never a bad picture", () => {
  test("3,000 shards are read by a process that may open 256 files", () => {
    const { images, bad, error } = load(shards("many", 3000), 100, 256);
    assert.deepEqual({ images, bad, error }, { images: 3000, bad: 0, error: null });
  });

  for (const [kind, folder] of [
    ["files", classes("files", 20, jpeg, "jpg")],
    ["shards", shards("few", 40)],
  ] as const) {
    test(`where no more may be opened, reading ${kind} ends with 6 and counts none as bad`, () => {
      const { bad, exitCode, error } = load(folder, 8, 96, "exhaust");
      assert.deepEqual({ bad, exitCode }, { bad: 0, exitCode: 6 }, error ?? "");
      assert.match(error ?? "", /may open no more files.*ulimit -n/);
    });
  }

  test("a failing disk, a share that is gone and no memory are the machine's; a missing file is not", () => {
    const coded = (code: string): Error => Object.assign(new Error(code), { code });
    for (const code of ["EIO", "ESTALE", "ENOMEM", "EMFILE", "ENFILE", "ENODEV", "EBADMSG"]) {
      assert.ok(unreadable("x.jpg", coded(code)) instanceof ResourceError, code);
    }
    for (const code of ["ENOENT", "ENOTDIR", "EACCES", "ELOOP", "EISDIR"]) {
      assert.ok(unreadable("x.jpg", coded(code)) instanceof DataError, code);
    }
    const bug = new TypeError("a bug of ours");
    assert.equal(unreadable("x.jpg", bug), bug);
  });
});

suite("H7: what is said of memory is what is taken", () => {
  test("large PNGs take no more than a fifth above it, however many a group has", async () => {
    const png = await picture(4000, 3000).png({ compressionLevel: 1 }).toBuffer();
    const { said, taken, images, error } = load(classes("png", 16, png, "png"), 32, 256);
    assert.deepEqual([images, error], [32, null]);
    assert.ok(taken <= 1.2 * said, `${taken} bytes taken, ${said} said`);
    assert.ok(said <= 600e6, `${said} said`);
  });

  test("small pictures add next to nothing to it", async () => {
    const { train } = await openDatasets(join(scratch, "files"), { seed: 1 });
    assert.ok((await decodingMemoryOf(train)) < 1e6);
  });
});
