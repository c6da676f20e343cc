import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, suite, test } from "node:test";

import sharp from "sharp";

import { Draws, streams } from "../../src/core/random.js";
import { decodeExample } from "../../src/formats/tf-example.js";
import { RecordReader } from "../../src/formats/tfrecord.js";
import { needs, sharedPath } from "../support/shared.js";
import { program } from "../support/paths.js";

const scratch = mkdtempSync(join(tmpdir(), "riffle-records-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

function riffle(cwd: string, ...argv: string[]) {
  return spawnSync(process.execPath, [program, ...argv], { cwd, encoding: "utf8" });
}

/** Every file of a folder by name. */
function contents(folder: string): Map<string, string> {
  const names = readdirSync(folder).sort();
  return new Map(names.map((name) => [name, readFileSync(join(folder, name), "latin1")]));
}

interface Record {
  readonly image: Buffer;
  readonly label: bigint;
  readonly boxes: readonly (readonly number[])[];
}

async function recordsIn(folder: string): Promise<Record[]> {
  const records: Record[] = [];
  const names = readdirSync(folder).filter((name) => name.endsWith(".tfrecords"));
  for (const name of names.sort()) {
    const reader = await RecordReader.open(join(folder, name));
    for await (const { payload } of reader) {
      const example = decodeExample(payload.slice());
      const values = (key: string): readonly unknown[] => [...(example.get(key)?.values ?? [])];
      records.push({
        image: Buffer.from(values("image")[0] as Uint8Array),
        label: values("label")[0] as bigint,
        boxes: ["xmin", "ymin", "xmax", "ymax"].map((side) => values(side) as number[]),
      });
    }
    await reader.close();
  }
  return records;
}

interface Source {
  readonly path: string;
  readonly result: string;
  readonly label: bigint;
  readonly bytes: Buffer;
}

/** The lineage's sources where its metadata has them, as links. */
function layOut(folder: string): Source[] {
  const [, ...lines] = readFileSync(sharedPath("tf-reference", "records", "sources.tsv"), "utf8")
    .trimEnd()
    .split("\n");
  return lines.map((line) => {
    const [, , path = "", source = "", result = "", label = ""] = line.split("\t");
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    symlinkSync(sharedPath(source), join(folder, path));
    return { path, result, label: BigInt(label), bytes: readFileSync(sharedPath(source)) };
  });
}

suite(
  "create-tfrecords and the lineage's create_tfrecords.py",
  needs("tf-reference", "records", "sources.tsv"),
  () => {
    const reference = sharedPath("tf-reference", "records");

    test("from the same sources come the same pictures, labels and boxes", async () => {
      const cwd = join(scratch, "lineage");
      const sources = layOut(cwd);
      const inputs = ["-l", join(reference, "integer_encoding.json"), "-b", join(reference, "boxes.npy")];
      const outcome = riffle(
        cwd,
        "create-tfrecords",
        "-m",
        join(reference, "training_metadata.csv"),
        "-o",
        "out",
        ...inputs,
        "-s",
        "3",
      );
      assert.equal(outcome.status, 0, outcome.stderr);
      assert.match(outcome.stdout, /63 written, 5 of them from grayscale; 2 skipped/);
      const skipped = sources.filter(({ result }) => result === "skipped").map(({ path }) => path);
      const csv = readFileSync(join(cwd, "out", "skipped.csv"), "utf8");
      assert.equal(skipped.length, 2);
      for (const path of skipped) assert.ok(csv.includes(path), path);

      const [ours, theirs] = [await recordsIn(join(cwd, "out")), await recordsIn(reference)];
      assert.deepEqual([ours.length, theirs.length], [63, 63]);
      // The shuffle is another, the counts of the shards are not.
      const sizes = (records: readonly Record[]): number[] => records.map(({ image }) => image.length);
      assert.notDeepEqual(sizes(ours), sizes(theirs));

      const key = ({ image }: Record): string => image.toString("latin1");
      const unmatched = new Map(ours.map((record) => [key(record), record]));
      assert.equal(unmatched.size, 63);
      const reencoded: Record[] = [];
      for (const their of theirs) {
        const our = unmatched.get(key(their));
        if (our === undefined) {
          reencoded.push(their);
          continue;
        }
        unmatched.delete(key(their));
        assert.deepEqual([our.label, our.boxes], [their.label, their.boxes]);
      }
      // What is left are the grayscale pictures: other bytes, the same pixels.
      const left = [...unmatched.values()];
      assert.deepEqual([reencoded.length, left.length], [5, 5]);
      for (const their of reencoded) {
        let [best, worst] = [Infinity, Infinity];
        for (const our of left.filter(({ label }) => label === their.label)) {
          const { mean, most } = await difference(our.image, their.image);
          if (mean < best) [best, worst] = [mean, most];
        }
        // Both decode and encode with libjpeg's accurate DCT and the standard tables at quality 75.
        assert.ok(best <= GRAY_TOLERANCE.mean && worst <= GRAY_TOLERANCE.most, `mean ${best}, most ${worst}`);
      }
    });

    test("shards hold as many records as theirs, since pictures are counted before any is left out", async () => {
      const cwd = join(scratch, "lineage");
      for (const shard of [0, 1, 2]) {
        const name = `shard-000${shard}.tfrecords`;
        const [ours, theirs] = await Promise.all(
          [join(cwd, "out", name), join(reference, name)].map(countRecords),
        );
        assert.equal(ours, theirs, name);
      }
    });
  },
);

/** Levels of 255, over all samples of a re-encoded grayscale picture. Measured: 0; another libjpeg may round otherwise. */
const GRAY_TOLERANCE = { mean: 0.1, most: 2 };

async function countRecords(path: string): Promise<number> {
  const reader = await RecordReader.open(path);
  let records = 0;
  for (let found = await reader.next(); found !== undefined; found = await reader.next()) records++;
  await reader.close();
  return records;
}

/** Between the pixels of two JPEGs; infinite where their sizes differ. */
async function difference(a: Buffer, b: Buffer): Promise<{ mean: number; most: number }> {
  const [x, y] = await Promise.all(
    [a, b].map((bytes) => sharp(bytes).raw().toBuffer({ resolveWithObject: true })),
  );
  if (
    x?.info.width !== y?.info.width ||
    x?.info.height !== y?.info.height ||
    x?.data.length !== y?.data.length
  ) {
    return { mean: Infinity, most: Infinity };
  }
  let [sum, most] = [0, 0];
  x?.data.forEach((value, i) => {
    const d = Math.abs(value - (y?.data[i] as number));
    sum += d;
    most = Math.max(most, d);
  });
  return { mean: sum / (x?.data.length ?? 1), most };
}

suite("verify-data on the command line", needs("tf-reference", "records", "sources.tsv"), () => {
  const cwd = join(scratch, "lineage");

  test("a good set ends with 0, a damaged one with 3 and the place, as a table and as JSON", () => {
    const good = riffle(cwd, "verify-data", "out");
    assert.equal(good.status, 0, good.stderr);
    assert.match(
      good.stdout,
      /3, with a manifest[^]*29 of 1,000 have pictures[^]*No problem found in 63 pictures/,
    );

    const file = join(cwd, "out", "shard-0001.tfrecords");
    const bytes = readFileSync(file);
    bytes[5000] = (bytes[5000] ?? 0) ^ 4;
    writeFileSync(file, bytes);
    const bad = riffle(cwd, "verify-data", "out");
    assert.equal(bad.status, 3);
    assert.match(bad.stdout, /^record +out\/shard-0001\.tfrecords record 0, byte 0: .*wrong data CRC/m);
    const lines = riffle(cwd, "verify-data", "out", "--json").stdout.trimEnd().split("\n");
    const events = lines.map((line) => JSON.parse(line) as { event: string; ok?: boolean });
    assert.deepEqual(
      events.map(({ event }) => event),
      ["problem", "part", "end"],
    );
    assert.equal(events.at(-1)?.ok, false);
  });
});

suite("create-tfrecords, ended by force", () => {
  /** Rows naming the same few pictures again and again: enough work for a kill to fall into. */
  const ROWS = 3000;
  const SHARDS = 40;
  const KILLS = Number(process.env["RIFFLE_KILLS"] ?? 6);
  const cwd = join(scratch, "killed");
  const argv = (output: string, ...more: string[]): string[] => [
    "create-tfrecords",
    ...["-m", "metadata.csv", "-l", "labels.json", "-o", output, "-s", `${SHARDS}`, ...more],
  ];

  async function prepare(): Promise<void> {
    mkdirSync(cwd);
    const files: string[] = [];
    for (let i = 0; i < 40; i++) {
      const picture = sharp({
        create: {
          width: 64,
          height: 64,
          channels: 3,
          background: "gray",
          noise: { type: "gaussian", mean: 128, sigma: i + 1 },
        },
      });
      files.push(`${i}.JPEG`);
      writeFileSync(join(cwd, `${i}.JPEG`), await (i === 3 ? picture.png() : picture.jpeg()).toBuffer());
    }
    const rows = Array.from({ length: ROWS }, (_, i) => `${files[i % files.length]},n1`);
    writeFileSync(join(cwd, "metadata.csv"), `path,wordnet_id\n${rows.join("\n")}\n`);
    writeFileSync(join(cwd, "labels.json"), '{"n1": 0}');
  }

  test("at any moment: no shard under its name is partial, and the same command finishes to the same bytes", async () => {
    await prepare();
    assert.equal(riffle(cwd, ...argv("whole")).status, 0);
    const whole = contents(join(cwd, "whole"));
    assert.ok(whole.has("manifest.json") && whole.has("shard-0038.tfrecords"));

    // One that came to its end before its kill is looked at too, but does not count.
    for (let [kill, interrupted] = [0, 0]; interrupted < KILLS; kill++) {
      const output = `killed-${kill}`;
      const folder = join(cwd, output);
      const child = spawn(process.execPath, [program, ...argv(output)], { cwd, stdio: "ignore" });
      const draws = new Draws(1, streams.draw, 0, kill);
      // Evenly over the run: from the first shard's beginning to the last ones.
      const shards = Math.floor((interrupted / KILLS) * (SHARDS - 3));
      await killedAfter(child, () => shardsIn(folder) >= shards, draws.below(20));
      const left = existsSync(folder) ? contents(folder) : new Map<string, string>();
      for (const [name, bytes] of left) {
        if (/^shard-.*\.tfrecords$/.test(name)) assert.ok(bytes === whole.get(name), `${output}/${name}`);
      }
      if (!left.has("manifest.json")) interrupted++;
      const again = riffle(cwd, ...argv(output, "--jobs", `${1 + (kill % 3)}`));
      assert.equal(again.status, 0, again.stderr);
      assert.deepEqual(contents(folder), whole);
      rmSync(folder, { recursive: true });
    }
  });

  test("Ctrl-C ends after a shard, says how to go on, and exits with 130", async () => {
    const child = spawn(process.execPath, [program, ...argv("stopped")], {
      cwd,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let [stdout, stderr] = ["", ""];
    let asked = false;
    child.stdout.on("data", (text) => (stdout += String(text)));
    child.stderr.on("data", (text) => {
      stderr += String(text);
      // Once: a second one would end it at once.
      if (!asked) asked = stderr.includes("measuring") && child.kill("SIGINT");
    });
    const [code] = (await once(child, "close")) as [number];
    assert.equal(code, 130, stderr);
    assert.match(stderr, /Stopping after the shard being written/);
    const [, command = ""] = /^Go on +npx riffle-vision (.*)$/m.exec(stdout) ?? [];
    assert.equal(riffle(cwd, ...command.split(" ")).status, 0);
    assert.deepEqual(contents(join(cwd, "stopped")), contents(join(cwd, "whole")));
  });
});

suite("verify-data, stopped or on copies", () => {
  const cwd = join(scratch, "killed");

  test("Ctrl-C ends with 130, and what was not looked at to its end is not called good", async () => {
    const argv = [program, "verify-data", "whole", "--json"];
    const child = spawn(process.execPath, argv, { cwd, stdio: ["ignore", "pipe", "pipe"] });
    let [stdout, stderr] = ["", ""];
    let asked = false;
    child.stdout.on("data", (text) => (stdout += String(text)));
    child.stderr.on("data", (text) => {
      stderr += String(text);
      // Once: a second one would end it at once.
      if (!asked) asked = / [0-9,]+\/[0-9,]+/.test(stderr) && child.kill("SIGINT");
    });
    const [code] = (await once(child, "close")) as [number];
    assert.equal(code, 130, stdout + stderr);
    const end = JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "") as { ok: boolean; stopped: boolean };
    assert.deepEqual([end.ok, end.stopped], [false, true]);
    for (const [, done, total] of stderr.matchAll(/ ([0-9,]+)\/([0-9,]+) /g)) assert.notEqual(done, total);
  });

  test("copies are named: a few in text, more as JSON; they are no problem", () => {
    // 3000 rows of 40 pictures, one of which is a PNG that was kept.
    const { status, stdout } = riffle(cwd, "verify-data", "whole");
    assert.equal(status, 0);
    const named = stdout.split("\n").filter((line) => line.startsWith("copy "));
    assert.equal(named.length, 3);
    assert.match(
      named[0] ?? "",
      /^copy +whole\/shard-\d+\.tfrecords record \d+, byte \d+: the picture of whole/,
    );
    assert.match(stdout, /\.\.\. 2,960 copies in all; --json lists the first 100$/m);
    const events = riffle(cwd, "verify-data", "whole", "--json")
      .stdout.trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { event: string; duplicates?: number });
    assert.equal(events.filter(({ event }) => event === "copy").length, 100);
    assert.equal(events.find(({ event }) => event === "part")?.duplicates, 2960);
  });
});

/** Kills the process some milliseconds after it is `due`, unless it ended before. */
async function killedAfter(child: ChildProcess, due: () => boolean, milliseconds: number): Promise<void> {
  const ended = once(child, "exit");
  while (child.exitCode === null && !due()) await sleep(2);
  await sleep(milliseconds);
  child.kill("SIGKILL");
  await ended;
}

function shardsIn(folder: string): number {
  return existsSync(folder)
    ? readdirSync(folder).filter((name) => /^shard-.*\.tfrecords$/.test(name)).length
    : 0;
}
