import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";

import { needsKernelLocks, needsNative } from "../../test/support/native.js";
import { flock, type FlockAnswer, flockByCommand } from "./flock.js";
import { type Holder, type Lock, LOCK_FILE, tryLock } from "./lock.js";

const base = mkdtempSync(join(tmpdir(), "lock-"));
after(() => rmSync(base, { recursive: true }));

function newFolder(): string {
  return mkdtempSync(join(base, "f-"));
}

async function locked(folder: string): Promise<Lock> {
  const lock = await tryLock(folder, "a test");
  assert.ok("release" in lock, "the lock was held");
  return lock;
}

async function refused(folder: string): Promise<Holder> {
  const lock = await tryLock(folder, "a test");
  assert.ok("words" in lock, "the lock was free");
  return lock;
}

/** A process that takes the folder's lock and keeps it until it is killed. */
async function holder(folder: string): Promise<ChildProcess> {
  const module = new URL("./lock.js", import.meta.url).href;
  const script =
    `const { tryLock } = await import(${JSON.stringify(module)});` +
    `const lock = await tryLock(${JSON.stringify(folder)}, "another test");` +
    `console.log("release" in lock); setInterval(() => {}, 1e6);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  assert.ok(child.stdout);
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  assert.equal(line.toString(), "true\n");
  return child;
}

suite("a folder's lock", needsKernelLocks(), () => {
  test("is had once, names who has it, and leaves nothing when it is let go", async () => {
    const folder = newFolder();
    const lock = await locked(folder);
    assert.equal(lock.warning, undefined);
    assert.match((await refused(folder)).words, new RegExp(`^process ${process.pid} on .+, a test since 2`));
    await lock.release();
    assert.deepEqual(readdirSync(folder), []);
    await (await locked(folder)).release();
  });

  test("H3: is the kernel's: another container with the same host name and process number is refused", async () => {
    const folder = newFolder();
    const other = await holder(folder);
    try {
      // What such a container would have written: our own name and number, begun at another time.
      const words = JSON.parse(readFileSync(join(folder, LOCK_FILE), "utf8")) as object;
      writeFileSync(
        join(folder, LOCK_FILE),
        `${JSON.stringify({ ...words, pid: process.pid, started: "1" })}\n`,
      );
      assert.match((await refused(folder)).words, new RegExp(`process ${process.pid} on`));
    } finally {
      other.kill("SIGKILL");
    }
  });

  test("H3: ends with its process: a restarted container with another host name goes on without a hand", async () => {
    const folder = newFolder();
    const other = await holder(folder);
    const words = JSON.parse(readFileSync(join(folder, LOCK_FILE), "utf8")) as object;
    writeFileSync(join(folder, LOCK_FILE), JSON.stringify({ ...words, host: "its-old-name", pid: 1 }));
    await refused(folder);
    const ended = once(other, "exit");
    other.kill("SIGKILL");
    await ended;
    assert.deepEqual(readdirSync(folder), [LOCK_FILE], "the kill left the file");
    await (await locked(folder)).release();
    assert.deepEqual(readdirSync(folder), []);
  });

  for (const [left, text] of [
    ["an earlier version", `{"pid":1,"host":"elsewhere","started":"123"}\n`],
    ["a kill before anything was written", ""],
    ["something else", "not JSON"],
  ] as const) {
    test(`H3: is not held by a file that ${left} left`, async () => {
      const folder = newFolder();
      writeFileSync(join(folder, LOCK_FILE), text);
      await (await locked(folder)).release();
    });
  }

  test("passes from hand to hand among many without two ever having it", async () => {
    const folder = newFolder();
    let inside = 0;
    let turns = 0;
    const worker = async (): Promise<void> => {
      while (turns < 50) {
        const lock = await tryLock(folder, "a test");
        if ("words" in lock) continue;
        assert.equal(++inside, 1);
        turns++;
        await Promise.resolve();
        inside--;
        await lock.release();
      }
    };
    await Promise.all(Array.from({ length: 8 }, worker));
    assert.deepEqual(readdirSync(folder), []);
  });
});

suite("a folder's lock where the kernel has none", () => {
  const none = "ENOLCK";

  test("H3: is a file, and says so", async () => {
    const folder = newFolder();
    const lock = await tryLock(folder, "a test", () => ({ none }));
    assert.ok("release" in lock);
    assert.match(lock.warning ?? "", /no locks of the kernel \(ENOLCK\)/);
    const second = await tryLock(folder, "a test", () => ({ none }));
    assert.ok("words" in second);
    assert.equal(second.file, join(folder, ".lock-held"));
    await lock.release();
    const third = await tryLock(folder, "a test", () => ({ none }));
    assert.ok("release" in third);
    await third.release();
  });

  test("H3: is taken over from a process of this host that is gone, and from no other", async () => {
    const folder = newFolder();
    const lock = await tryLock(folder, "a test", () => ({ none }));
    assert.ok("release" in lock);
    const path = join(folder, ".lock-held");
    const words = JSON.parse(readFileSync(path, "utf8")) as object;
    // Numbers of processes end far below this one.
    writeFileSync(path, JSON.stringify({ ...words, pid: 999999999, host: "elsewhere" }));
    assert.ok("words" in (await tryLock(folder, "a test", () => ({ none }))));
    writeFileSync(path, JSON.stringify({ ...words, pid: 999999999 }));
    assert.ok("release" in (await tryLock(folder, "a test", () => ({ none }))));
  });

  for (const name of [LOCK_FILE, `${LOCK_FILE}-held`]) {
    test(`a pipe called ${name} is refused, not waited at`, { timeout: 10_000 }, async (context) => {
      const folder = newFolder();
      if (spawnSync("mkfifo", [join(folder, name)]).status !== 0)
        return context.skip("there is no mkfifo here");
      await assert.rejects(
        tryLock(folder, "a test", () => ({ none })),
        /\.lock(-held)?: no plain file/,
      );
      assert.deepEqual(
        readdirSync(folder).filter((file) => file !== LOCK_FILE),
        name === LOCK_FILE ? [] : [name],
      );
    });
  }
});

suite("locks with an addon, without one, and without a kernel's", () => {
  const hasCommand = spawnSync("flock", ["--version"]).error === undefined || "needs the command flock";

  test("the command's lock and the addon's are one", needsNative(hasCommand), () => {
    const path = join(newFolder(), "file");
    for (const [first, second] of [
      [flock, flockByCommand],
      [flockByCommand, flock],
      [flockByCommand, flockByCommand],
    ] as const) {
      const [a, b] = [openSync(path, "w"), openSync(path, "w")];
      assert.equal(first(a), "ours");
      assert.equal(second(b), "theirs");
      closeSync(a);
      assert.equal(second(b), "ours");
      closeSync(b);
    }
  });

  const kinds = {
    "the kernel's": (): FlockAnswer => "ours",
    "a file": (): FlockAnswer => ({ none: "ENOLCK" }),
  };
  for (const [first, second] of [
    ["the kernel's", "a file"],
    ["a file", "the kernel's"],
  ] as const) {
    test(`H3: whoever has ${first} keeps out who would have ${second}, until it is gone`, async () => {
      const folder = newFolder();
      const lock = await tryLock(folder, "a test", kinds[first]);
      assert.ok("release" in lock);
      const other = await tryLock(folder, "a test", kinds[second]);
      assert.ok("words" in other, "both have it");
      assert.equal(other.file, join(folder, first === "a file" ? ".lock-held" : ".lock"));
      await lock.release();
      const later = await tryLock(folder, "a test", kinds[second]);
      assert.ok("release" in later);
      await later.release();
    });

    test(`H3: what a kill left of ${first} is in nobody's way here, and on another host named`, async () => {
      const folder = newFolder();
      const lock = await tryLock(folder, "a test", kinds[first]);
      assert.ok("release" in lock);
      const path = join(folder, first === "a file" ? ".lock-held" : ".lock");
      const words = JSON.parse(readFileSync(path, "utf8")) as object;
      writeFileSync(path, JSON.stringify({ ...words, pid: 999999999, host: "elsewhere" }));
      const refusal = await tryLock(folder, "a test", kinds[second]);
      assert.ok("words" in refusal && refusal.file === path);
      writeFileSync(path, JSON.stringify({ ...words, pid: 999999999 }));
      assert.ok("release" in (await tryLock(folder, "a test", kinds[second])));
    });
  }
});
