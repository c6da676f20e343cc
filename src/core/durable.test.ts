import assert from "node:assert/strict";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { type FileHandle, open, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, mock, suite, test } from "node:test";

import { needsKernelLocks } from "../../test/support/native.js";
import { ResourceError, systemError } from "./error.js";
import {
  makeWholeFolder,
  probeFolder,
  recoverFolders,
  removeFolder,
  replaceFile,
  replaceFolder,
  writeWhole,
} from "./durable.js";

const base = mkdtempSync(join(tmpdir(), "durable-"));
after(() => rmSync(base, { recursive: true }));
let count = 0;

function newParent(): string {
  const parent = join(base, String(count++));
  mkdirSync(parent);
  return parent;
}

const content = (text: string): ReadonlyMap<string, readonly Uint8Array[]> =>
  new Map([
    ["a", [Buffer.from(text), Buffer.from("!")]],
    ["b", []],
  ]);

function put(parent: string, name: string, text: string): void {
  mkdirSync(join(parent, name));
  writeFileSync(join(parent, name, "a"), text);
}

const isOurs = (name: string): boolean => name === "x";

suite("probeFolder", () => {
  test("makes the folder and leaves nothing in it", async () => {
    const folder = join(newParent(), "a", "b");
    await probeFolder(folder);
    assert.deepEqual(readdirSync(folder), []);
  });

  test("names the option that leads to another folder, and leaves nothing where it fails half-way", async () => {
    const parent = newParent();
    // Renaming onto a folder fails after the file was written, as a full disk may.
    mkdirSync(join(parent, ".riffle-probe"));
    await assert.rejects(probeFolder(parent, "--cache_dir"), /cannot be written.*--cache_dir/);
    assert.deepEqual(readdirSync(parent), [".riffle-probe"]);
  });
});

suite("replaceFolder", () => {
  test("writes a folder, and replaces it whole, leaving nothing else", async () => {
    const parent = newParent();
    await replaceFolder(parent, "x", content("one"));
    await replaceFolder(parent, "x", content("two"));
    assert.deepEqual(readdirSync(parent), ["x"]);
    assert.deepEqual(readdirSync(join(parent, "x")).sort(), ["a", "b"]);
    assert.equal(readFileSync(join(parent, "x", "a"), "utf8"), "two!");
  });

  test("starts over what a kill left half written", async () => {
    const parent = newParent();
    put(parent, ".saving-x", "half");
    await replaceFolder(parent, "x", content("whole"));
    assert.equal(readFileSync(join(parent, "x", "a"), "utf8"), "whole!");
  });

  test("does not replace what is not ours", async () => {
    const parent = newParent();
    writeFileSync(join(parent, "x"), "a file");
    await assert.rejects(replaceFolder(parent, "x", content("new")), ResourceError);
    assert.equal(readFileSync(join(parent, "x"), "utf8"), "a file");
    assert.deepEqual(readdirSync(parent), ["x"]);
  });

  test("refuses what the disk has no room for before writing it", async () => {
    const parent = newParent();
    const huge = { length: 2 ** 60 } as Uint8Array;
    await assert.rejects(replaceFolder(parent, "x", new Map([["a", [huge]]])), (error) => {
      assert.ok(error instanceof ResourceError);
      assert.match(error.problem.expected ?? "", /^\d+ bytes free$/);
      assert.match(error.problem.found ?? "", /^\d+$/);
      return true;
    });
    assert.deepEqual(readdirSync(parent), []);
  });
});

suite("replaceFile", () => {
  test(
    "writes a file, and replaces it, over what a kill left, leaving nothing else",
    needsKernelLocks(),
    async () => {
      const parent = newParent();
      writeFileSync(join(parent, ".saving-x"), "half");
      await replaceFile(join(parent, "x"), [Buffer.from("one")]);
      await replaceFile(join(parent, "x"), [Buffer.from("tw"), Buffer.from("o")]);
      assert.deepEqual(readdirSync(parent), ["x"]);
      assert.equal(readFileSync(join(parent, "x"), "utf8"), "two");
    },
  );

  test("leaves what stands there where it cannot be replaced", async () => {
    const parent = newParent();
    put(parent, "x", "a folder");
    await assert.rejects(replaceFile(join(parent, "x"), [Buffer.from("new")]), ResourceError);
    await assert.rejects(replaceFile(join(parent, "none", "x"), [Buffer.from("new")]), ResourceError);
    assert.deepEqual(readdirSync(parent), ["x"]);
    assert.deepEqual(readdirSync(join(parent, "x")), ["a"]);
  });
});

suite("writeWhole", () => {
  test("gives the file its name only at the end, and nothing stays of one that fails", async () => {
    const parent = newParent();
    const path = join(parent, "x");
    writeFileSync(path, "old");
    const stop = new Error("stop");
    const failing = writeWhole(path, async (file) => {
      await file.write(Buffer.from("new"));
      assert.equal(readFileSync(path, "utf8"), "old");
      throw stop;
    });
    await assert.rejects(failing, (error) => error === stop);
    assert.deepEqual(readdirSync(parent), ["x"]);
    assert.equal(readFileSync(path, "utf8"), "old");
  });

  test("by two at once mixes nothing: the last one stands, whole", async () => {
    const parent = newParent();
    const path = join(parent, "x");
    const texts = ["a", "b", "c"].map((letter) => letter.repeat(100_000));
    await Promise.all(
      texts.map((text) =>
        writeWhole(path, async (file) => {
          for (let at = 0; at < text.length; at += 1000)
            await file.write(Buffer.from(text.slice(at, at + 1000)));
        }),
      ),
    );
    assert.deepEqual(readdirSync(parent), ["x"]);
    assert.ok(texts.includes(readFileSync(path, "utf8")));
  });

  test("does not write through a link that somebody has put in its way", async () => {
    const parent = newParent();
    writeFileSync(join(parent, "theirs"), "theirs");
    symlinkSync("theirs", join(parent, ".saving-x"));
    await assert.rejects(replaceFile(join(parent, "x"), [Buffer.from("new")]), ResourceError);
    assert.equal(readFileSync(join(parent, "theirs"), "utf8"), "theirs");
  });
});

suite("makeWholeFolder", () => {
  test("makes a folder with those above it, over what a kill left; nothing stays of one that fails", async () => {
    const parent = newParent();
    put(parent, ".saving-x", "half");
    const fill = (folder: string): Promise<void> => writeFile(join(folder, "a"), "whole");
    await makeWholeFolder(join(parent, "x"), fill, {});
    await makeWholeFolder(join(parent, "y", "z"), fill, {});
    assert.deepEqual(readdirSync(join(parent, "x")), ["a"]);
    const full = async (folder: string): Promise<void> => {
      await fill(folder);
      throw systemError("ENOSPC", "no space left on device");
    };
    await assert.rejects(makeWholeFolder(join(parent, "v"), full, {}), ResourceError);
    assert.deepEqual(readdirSync(parent), ["x", "y"]);
  });
});

suite("a file system that cannot flush folders", () => {
  /** Runs `act` where flushing a folder fails with the code. */
  async function where(code: string, act: () => Promise<void>): Promise<void> {
    const handle = await open(base);
    const methods = Object.getPrototypeOf(handle) as FileHandle;
    await handle.close();
    const original = Reflect.get<FileHandle, "sync">(methods, "sync");
    const refusing = mock.method(methods, "sync", async function (this: FileHandle): Promise<void> {
      if ((await this.stat()).isDirectory()) throw systemError(code, `${code}: fsync`);
      return original.call(this);
    });
    try {
      await act();
      assert.ok(refusing.mock.callCount() > 0);
    } finally {
      refusing.mock.restore();
    }
  }

  for (const code of ["EINVAL", "ENOTSUP", "EPERM", "EISDIR", "ENOSYS"]) {
    test(`H9: is written to all the same: ${code}`, () =>
      where(code, async () => {
        const parent = newParent();
        await replaceFolder(parent, "x", content("one"));
        await replaceFolder(parent, "x", content("two"));
        await replaceFile(join(parent, "y"), [Buffer.from("y")]);
        assert.deepEqual(readdirSync(parent), ["x", "y"]);
      }));
  }

  test("is not one whose disk fails", () =>
    where("EIO", async () => {
      await assert.rejects(replaceFolder(newParent(), "x", content("one")), ResourceError);
    }));
});

/** Every state that a kill can leave, in the order of replaceFolder and removeFolder. */
suite("recoverFolders after a kill", () => {
  test("while writing: the old one stands, the half is gone", async () => {
    const parent = newParent();
    put(parent, "x", "old");
    put(parent, ".saving-x", "half");
    await recoverFolders(parent, isOurs);
    assert.deepEqual(readdirSync(parent), ["x"]);
    assert.equal(readFileSync(join(parent, "x", "a"), "utf8"), "old");
  });

  test("between the two renames: the old one is back in its place", async () => {
    const parent = newParent();
    put(parent, ".replaced-x", "old");
    put(parent, ".saving-x", "whole, but not yet in place");
    await recoverFolders(parent, isOurs);
    assert.deepEqual(readdirSync(parent), ["x"]);
    assert.equal(readFileSync(join(parent, "x", "a"), "utf8"), "old");
  });

  test("before the old one was cleared away: the new one stands", async () => {
    const parent = newParent();
    put(parent, ".replaced-x", "old");
    put(parent, "x", "new");
    await recoverFolders(parent, isOurs);
    assert.deepEqual(readdirSync(parent), ["x"]);
    assert.equal(readFileSync(join(parent, "x", "a"), "utf8"), "new");
  });

  test("while removing: the rest is removed", async () => {
    const parent = newParent();
    put(parent, ".deleting-x", "rest");
    await recoverFolders(parent, isOurs);
    assert.deepEqual(readdirSync(parent), []);
  });

  test("touches no name that is not ours", async () => {
    const parent = newParent();
    for (const name of [".saving-y", ".replaced-y", ".deleting-y", ".saving-", "saving-x"])
      put(parent, name, "");
    await recoverFolders(parent, isOurs);
    assert.equal(readdirSync(parent).length, 5);
  });
});

suite("removeFolder", () => {
  test("removes a folder of known files", async () => {
    const parent = newParent();
    put(parent, "x", "");
    assert.equal(await removeFolder(parent, "x", ["a", "b"]), true);
    assert.deepEqual(readdirSync(parent), []);
  });

  test("leaves a folder that holds one more", async () => {
    const parent = newParent();
    put(parent, "x", "");
    writeFileSync(join(parent, "x", "mine"), "");
    assert.equal(await removeFolder(parent, "x", ["a", "b"]), false);
    assert.deepEqual(readdirSync(join(parent, "x")).sort(), ["a", "mine"]);
  });
});
