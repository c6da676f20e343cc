import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";

import { FormatError } from "../core/error.js";
import { readNpyObject } from "./npy-object.js";
import { openNpz } from "./npz.js";
import { openRegular, readFully, readWhole } from "./read-file.js";
import { openSafetensors } from "./safetensors-file.js";
import { openFile } from "./tar.js";
import { readBundle } from "./tf-bundle.js";
import { RecordReader } from "./tfrecord.js";
import { openTorchCheckpoint } from "./torch-checkpoint-file.js";

const scratch = mkdtempSync(join(tmpdir(), "riffle-read-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

suite("a file", () => {
  const path = join(scratch, "ten");
  writeFileSync(
    path,
    Uint8Array.from({ length: 10 }, (_, i) => i),
  );

  test("is read whole, and refused where it is longer than it may be", async () => {
    assert.deepEqual([...(await readWhole(path, 10))], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    await assert.rejects(readWhole(path, 9), /at most 9 bytes, found 10/);
  });

  test("is read by place, in as many reads as it takes, or said to end early", async () => {
    const bytes = Buffer.from("abcdef");
    const oneByOne = {
      read: (into: Uint8Array, offset: number, _: number, position: number) => {
        const byte = bytes[position];
        if (byte !== undefined) into[offset] = byte;
        return Promise.resolve({ bytesRead: byte === undefined ? 0 : 1 });
      },
    };
    const into = Buffer.alloc(4);
    await readFully(oneByOne, into, 1, "x");
    assert.equal(into.toString(), "bcde");
    await assert.rejects(
      readFully(oneByOne, into, 4, "x"),
      (error: unknown) =>
        error instanceof FormatError && error.offset === 6 && /ends early/.test(error.message),
    );
  });

  test("that is a folder is refused", async () => {
    await assert.rejects(openRegular(scratch), /not a regular file/);
  });
});

suite("H9: a pipe under a file's name is refused, and never waited for,", () => {
  const pipe = join(scratch, "pipe");
  const made = spawnSync("mkfifo", [pipe, `${pipe}.index`]).status === 0;
  const readers: Readonly<Record<string, (path: string) => unknown>> = {
    openNpz,
    readNpyObject,
    openSafetensors,
    openTorchCheckpoint,
    readBundle,
    openFile,
    "RecordReader.open": (path) => RecordReader.open(path),
  };
  for (const [name, read] of Object.entries(readers)) {
    // The runner's own limit ends a reader that waits.
    test(`by ${name}`, { skip: made ? false : "there is no mkfifo here", timeout: 60_000 }, async () => {
      await assert.rejects(() => Promise.resolve(pipe).then(read), /regular file|no plain file/);
    });
  }
});
