import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

import sharp from "sharp";

import { DataError, ResourceError, RiffleError, UsageError } from "../../core/error.js";
import { tryLock } from "../../core/lock.js";
import { decodeExample, type Feature } from "../../formats/tf-example.js";
import { RecordReader } from "../../formats/tfrecord.js";
import { encodeBoxes } from "../imagenet/boxes.js";
import { openRecords } from "../../data/records/record-dataset.js";
import { readManifest } from "../../data/records/record-manifest.js";
import { createRecords, type CreateResult, type CreateSettings } from "./create-records.js";
import { PLAN_FILE } from "../../data/records/record-manifest.js";
import { SHARD_LOG, shardName, SKIPPED_FILE } from "./record-plan.js";

const scratch = mkdtempSync(join(tmpdir(), "riffle-create-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

/** 90 rows: 86 colour JPEGs, one grayscale, one CMYK, a PNG named .JPEG and a JPEG named .png. */
const ROWS = 90;
const SKIPPED = 2;
const metadata = join(scratch, "metadata.csv");
const labels = join(scratch, "labels.json");
const boxes = join(scratch, "boxes.npy");
const rowsOf = new Map<string, Buffer>();

before(async () => {
  mkdirSync(join(scratch, "pictures"));
  const lines = ["path,wordnet_id,just_name"];
  for (let i = 0; i < ROWS; i++) {
    const picture = sharp({
      create: {
        width: 24,
        height: 16,
        channels: 3,
        background: { r: i, g: 2 * i, b: 255 - i },
        noise: { type: "gaussian", mean: 100 + i, sigma: 30 },
      },
    });
    const kinds = new Map([
      [7, () => picture.toColourspace("b-w").jpeg()],
      [20, () => picture.toColourspace("cmyk").jpeg()],
      [41, () => picture.png()],
    ]);
    const bytes = await (kinds.get(i)?.() ?? picture.jpeg()).toBuffer();
    const path = join(scratch, "pictures", `picture, ${i}.${i === 50 ? "png" : "JPEG"}`);
    writeFileSync(path, bytes);
    rowsOf.set(path, bytes);
    lines.push(`"${path}",${i % 2 === 0 ? "n1" : "n2"},name_${i}`);
  }
  writeFileSync(metadata, `${lines.join("\n")}\n`);
  writeFileSync(labels, '{"n2": 0, "n1": 1}');
  const drawn: [string, Float32Array][] = [
    ["name_3", Float32Array.of(0, 0.25, 0.5, 1)],
    ["name_4", Float32Array.of(0.125, 0.25, 0.5, 0.75, 0, 0, 1, 1)],
  ];
  writeFileSync(boxes, Buffer.concat(encodeBoxes(drawn)));
});

let outputs = 0;

function create(
  given: Partial<CreateSettings> = {},
  hooks?: Parameters<typeof createRecords>[1],
): Promise<CreateResult> {
  const output = join(scratch, `out-${outputs++}`);
  return createRecords(
    { metadata, labels, output, shards: 4, seed: 5, verify: false, formats: "jpeg", jobs: 1, ...given },
    hooks,
  );
}

/** Every file of a folder by name. */
function contents(folder: string): Map<string, string> {
  return new Map(
    readdirSync(folder)
      .sort()
      .map((name) => [name, readFileSync(join(folder, name), "latin1")]),
  );
}

async function examples(folder: string): Promise<ReadonlyMap<string, Feature>[]> {
  const found: ReadonlyMap<string, Feature>[] = [];
  for (const name of readdirSync(folder)
    .filter((n) => n.endsWith(".tfrecords"))
    .sort()) {
    const reader = await RecordReader.open(join(folder, name));
    for await (const { payload } of reader) found.push(decodeExample(payload.slice()));
    await reader.close();
  }
  return found;
}

type Values<K extends Feature["kind"]> = Extract<Feature, { readonly kind: K }>["values"];

/** The list under a key, which is of this kind. */
function only<K extends Feature["kind"]>(
  example: ReadonlyMap<string, Feature>,
  key: string,
  kind: K,
): Values<K> {
  const feature = example.get(key);
  assert.equal(feature?.kind, kind, key);
  return feature?.values as Values<K>;
}

async function refused(
  outcome: Promise<unknown>,
  kind: new (...a: never[]) => RiffleError,
  words: RegExp,
): Promise<RiffleError> {
  try {
    await outcome;
  } catch (error) {
    assert.ok(error instanceof kind, String(error));
    assert.match(error.message, words);
    return error;
  }
  assert.fail("was not refused");
}

suite("create-tfrecords of other formats than JPEG", () => {
  /** A list of pictures, three of class a, and two PNGs of class b. */
  async function listOf(a: string, b: string): Promise<Pick<CreateSettings, "metadata" | "labels">> {
    const folder = mkdtempSync(join(scratch, "formats-"));
    const lines = ["path,wordnet_id,just_name"];
    for (const [i, label] of [a, a, a, b, b].entries()) {
      const picture = sharp({ create: { width: 9 + i, height: 8, channels: 4, background: "#12345678" } });
      const path = join(folder, label === a ? `${i}.jpg` : `${i}.png`);
      writeFileSync(path, await (label === a ? picture.jpeg() : picture.png()).toBuffer());
      lines.push(`${path},${label},${i}`);
    }
    const list = { metadata: join(folder, "list.csv"), labels: join(folder, "labels.json") };
    writeFileSync(list.metadata, `${lines.join("\n")}\n`);
    writeFileSync(list.labels, JSON.stringify({ [a]: 0, [b]: 1 }));
    return list;
  }

  test("keeps them byte for byte, and trains on their pixels", async () => {
    const list = await listOf("cat", "dog");
    const { output, records, skipped } = await create({ ...list, formats: undefined, shards: 1 });
    assert.equal(records, 5);
    assert.deepEqual(skipped, []);
    const kept = (await examples(output)).map((example) => only(example, "image", "bytes")[0] as Uint8Array);
    const rows = readFileSync(list.metadata, "utf8").trim().split("\n").slice(1);
    const stored = rows.map((row) => readFileSync(row.split(",")[0] as string).toString("hex"));
    assert.deepEqual(kept.map((bytes) => Buffer.from(bytes).toString("hex")).sort(), stored.sort());
    const set = await openRecords(output);
    assert.deepEqual(set.classes, ["cat", "dog"]);
    await set.close();
  });

  test("leaves them out as the original does where the classes are ImageNet's, but never a whole class", async () => {
    const list = await listOf("n01440764", "n01443537");
    const error = await refused(
      create({ ...list, formats: undefined, shards: 1 }),
      DataError,
      /no picture of the class "n01443537" can be used/,
    );
    assert.equal(error.problem.found, "a PNG, not a JPEG");
    // What the hint says, to the letter.
    assert.match(error.problem.hint ?? "", /--formats all, and another --output/);
    assert.equal((await create({ ...list, formats: "all", shards: 1 })).records, 5);
  });
});

suite("create-tfrecords", () => {
  test("keeps colour JPEGs byte for byte, whatever their names, with their labels", async () => {
    const { output } = await create();
    const found = await examples(output);
    assert.equal(found.length, ROWS - SKIPPED);
    const byBytes = new Map([...rowsOf].map(([path, bytes], i) => [bytes.toString("latin1"), { path, i }]));
    let kept = 0;
    for (const example of found) {
      assert.deepEqual([...example.keys()], ["image", "label"]);
      const [image] = only(example, "image", "bytes");
      const source = byBytes.get(Buffer.from(image as Uint8Array).toString("latin1"));
      if (source === undefined) continue;
      kept++;
      assert.deepEqual(only(example, "label", "ints"), [source.i % 2 === 0 ? 1n : 0n], source.path);
    }
    assert.equal(kept, ROWS - SKIPPED - 1);
  });

  test("makes a grayscale picture colour, within 3 levels of what it was", async () => {
    const { output, reencoded } = await create();
    assert.equal(reencoded, 1);
    const gray = [...rowsOf.values()][7] as Buffer;
    const before = await sharp(gray).toColourspace("b-w").raw().toBuffer();
    const known = new Set([...rowsOf.values()].map((bytes) => bytes.toString("latin1")));
    const images = (await examples(output)).map((example) =>
      Buffer.from(only(example, "image", "bytes")[0] as Uint8Array),
    );
    const [colour, ...more] = images.filter((bytes) => !known.has(bytes.toString("latin1")));
    assert.ok(colour !== undefined && more.length === 0);
    const { data, info } = await sharp(colour).raw().toBuffer({ resolveWithObject: true });
    assert.deepEqual([info.width, info.height, info.channels], [24, 16, 3]);
    // Noise at quality 80, then again at 75: what the second quantisation may move, on average.
    let sum = 0;
    data.forEach((value, i) => (sum += Math.abs(value - (before[Math.floor(i / 3)] as number))));
    assert.ok(sum / data.length < 8, `mean difference ${sum / data.length}`);
    for (let i = 0; i < data.length; i += 3) {
      assert.ok(data[i] === data[i + 1] && data[i] === data[i + 2], `pixel ${i / 3} has a colour`);
    }
  });

  test("writes boxes as four lists, empty ones where a picture has none", async () => {
    const { output } = await create({ boxes });
    const found = await examples(output);
    const counts = found.map((example) => {
      assert.deepEqual([...example.keys()], ["image", "label", "xmax", "xmin", "ymax", "ymin"]);
      return only(example, "xmin", "floats").length;
    });
    assert.deepEqual(counts.filter((n) => n > 0).sort(), [1, 2]);
    const two = found[counts.indexOf(2)] as ReadonlyMap<string, Feature>;
    const sides = ["xmin", "ymin", "xmax", "ymax"].map((side) => [...only(two, side, "floats")]);
    assert.deepEqual(sides, [
      [0.125, 0],
      [0.25, 0],
      [0.5, 1],
      [0.75, 1],
    ]);
  });

  test("lists what it left out with the reasons, and counts the shards before leaving anything out", async () => {
    const { output, skipped, records, shards } = await create();
    assert.deepEqual(
      skipped.map(({ reason }) => reason),
      ["a CMYK JPEG", "a PNG, not a JPEG"],
    );
    const csv = readFileSync(join(output, SKIPPED_FILE), "utf8").split("\n");
    assert.equal(csv[0], "path,reason");
    assert.equal(csv[1], `"${skipped[0]?.path}",a CMYK JPEG`);
    const manifest = await readManifest(output);
    // ceil(90 / 4) = 23 to a shard; the two that are missing are missing from the last.
    assert.deepEqual(
      manifest?.shards.map((shard) => shard.records),
      [23, 23, 23, 19],
    );
    assert.deepEqual([records, shards, manifest.records], [88, 4, 88]);
    assert.deepEqual(manifest.classes, ["n2", "n1"]);
  });

  test("shuffles by the seed", async () => {
    const [a, b, c] = [await create(), await create(), await create({ seed: 6 })];
    const order = (result: CreateResult): string[] =>
      [...contents(result.output)].filter(([name]) => name.startsWith("shard-")).map(([, bytes]) => bytes);
    assert.deepEqual(order(a), order(b));
    assert.notDeepEqual(order(a), order(c));
  });

  test("the number of threads changes nothing", async () => {
    const [one, ...others] = [await create(), await create({ jobs: 2 }), await create({ jobs: 4 })];
    for (const other of others) assert.deepEqual(contents(other.output), contents(one?.output ?? ""));
  });

  test("one shard takes all; more shards than pictures take one each", async () => {
    const one = await create({ shards: 1 });
    assert.deepEqual([one.shards, one.records], [1, 88]);
    const many = await create({ shards: 1000 });
    assert.deepEqual([many.shards, many.records], [88, 88]);
    assert.ok(existsSync(join(many.output, "shard-0087.tfrecords")));
  });

  test("--verify leaves out what does not decode; without it header and end decide", async () => {
    const path = [...rowsOf.keys()][3] as string;
    const bytes = rowsOf.get(path) as Buffer;
    writeFileSync(path, Buffer.concat([bytes.subarray(0, bytes.length - 100), Buffer.of(0xff, 0xd9)]));
    try {
      assert.equal((await create()).records, 88);
      const { records, skipped } = await create({ verify: true });
      assert.equal(records, 87);
      assert.match(
        skipped.find((s) => s.path === path)?.reason ?? "",
        /premature end|does not decode: it is damaged/,
      );
    } finally {
      writeFileSync(path, bytes);
    }
  });

  test("running a finished command again changes nothing", async () => {
    const first = await create();
    const before = contents(first.output);
    const again = await create({ output: first.output });
    assert.deepEqual([again.foundShards, again.written, again.records], [4, 0, 88]);
    assert.deepEqual(contents(first.output), before);
  });

  test("a shard that was removed is written again, to the same bytes", async () => {
    const { output } = await create();
    const before = contents(output);
    rmSync(join(output, shardName(1)));
    rmSync(join(output, shardName(3)));
    const again = await create({ output });
    assert.deepEqual([again.foundShards, again.skipped.length], [2, 2]);
    assert.deepEqual(contents(output), before);
  });

  test("asked to stop, it stops after a shard, and goes on from there", async () => {
    const whole = contents((await create({ shards: 30 })).output);
    const stop = new AbortController();
    const stopped = await create(
      { shards: 30 },
      { signal: stop.signal, progress: ({ phase }) => phase === "measuring" && stop.abort() },
    );
    assert.ok(stopped.stopped && stopped.shards > 0 && stopped.shards < 30, `${stopped.shards}`);
    assert.ok(!existsSync(join(stopped.output, "manifest.json")));
    const rest = await create({ shards: 30, output: stopped.output });
    assert.equal(rest.foundShards, stopped.shards);
    assert.deepEqual(contents(stopped.output), whole);
  });

  test("a torn line in the log of shards costs that shard only", async () => {
    const { output } = await create();
    const before = contents(output);
    const log = join(output, SHARD_LOG);
    writeFileSync(log, readFileSync(log, "utf8").slice(0, -20));
    assert.equal((await create({ output })).foundShards, 3);
    assert.deepEqual(contents(output), before);
  });
});

suite("create-tfrecords refuses", () => {
  test("a folder of other files, and leaves them alone", async () => {
    const output = join(scratch, "holiday");
    mkdirSync(output);
    writeFileSync(join(output, "photo.jpg"), "mine");
    await refused(create({ output }), UsageError, /holds files of something else.*photo\.jpg/);
    assert.deepEqual([...contents(output)], [["photo.jpg", "mine"]]);
  });

  test("a folder of another run, naming the difference", async () => {
    const { output } = await create();
    const before = contents(output);
    await refused(create({ output, seed: 6 }), UsageError, /"seed": 6.*"seed": 5/);
    await refused(create({ output, boxes }), UsageError, /boxes_sha256/);
    assert.deepEqual(contents(output), before);
  });

  test("an output that is a file, or that cannot be made", async () => {
    await refused(create({ output: labels }), ResourceError, /the output is a file/);
    await refused(create({ output: join(labels, "below") }), ResourceError, /cannot be written/);
    await refused(create({ output: "/proc/riffle" }), ResourceError, /cannot be written/);
  });

  test("nothing because of what a killed process of ours left: that is removed, and only that", async () => {
    const output = join(scratch, "left");
    mkdirSync(output);
    // Numbers of processes end far below this one.
    for (const name of [
      ".writing-999999999",
      ".probe-999999999",
      ".writing-999999999-shard-0000.tfrecords",
      ".saving-shard-0000.tfrecords",
      ".saving-1-shards.jsonl",
      ".lock",
    ]) {
      writeFileSync(join(output, name), "half");
    }
    await create({ output });
    writeFileSync(join(output, ".writing-999999999-shard-0000.tfrecords"), "half");
    writeFileSync(join(output, "notes.txt"), "mine");
    await create({ output });
    assert.deepEqual(
      readdirSync(output)
        .filter((name) => !name.startsWith("shard-"))
        .sort(),
      ["manifest.json", "notes.txt", "plan.json", "shards.jsonl", "skipped.csv"],
    );
  });

  test("a folder in which another process writes", async () => {
    const { output } = await create();
    const lock = await tryLock(output, "a test");
    assert.ok("release" in lock);
    const before = contents(output);
    await refused(
      create({ output }),
      ResourceError,
      /another process writes.*process \d+ on .*, a test since/,
    );
    assert.deepEqual(contents(output), before);
    await lock.release();
    await create({ output });
  });

  test("a class without a label, before anything is written", async () => {
    const file = join(scratch, "few.json");
    writeFileSync(file, '{"n1": 0}');
    const output = join(scratch, "unwritten");
    await refused(create({ labels: file, output }), DataError, /no label for the class "n2"/);
    assert.ok(!existsSync(output));
  });

  test("labels that are none, before anything is written", async () => {
    const file = join(scratch, "bad.json");
    const output = join(scratch, "unlabelled");
    writeFileSync(file, '{"n1": 0, "n2": 0}');
    await refused(create({ labels: file, output }), DataError, /bad\.json.*Nothing was written/);
    assert.ok(!existsSync(output));
  });

  test("a picture under two classes; a row that is only repeated becomes another record, and is told", async () => {
    const rows = readFileSync(metadata, "utf8");
    const first = rows.split("\n")[1] as string;
    const file = join(scratch, "repeated.csv");
    writeFileSync(file, `${rows}${first.replace(",n1,", ",n2,")}\n`);
    await refused(
      create({ metadata: file }),
      DataError,
      /picture, 0\.JPEG is listed twice, under two classes/,
    );
    writeFileSync(file, `${rows}${first}\n`);
    const notes: string[] = [];
    const { records } = await create({ metadata: file }, { note: (line) => notes.push(line) });
    assert.deepEqual([records, notes.length], [89, 1]);
    assert.match(notes[0] ?? "", /^1 rows .* repeat a picture/);
  });

  test("a picture that is missing, before anything is written", async () => {
    const path = [...rowsOf.keys()][60] as string;
    const output = join(scratch, "missing");
    rmSync(path);
    try {
      await refused(create({ output }), DataError, /picture, 60\.JPEG: there is no such file/);
      assert.deepEqual(readdirSync(output).sort(), [PLAN_FILE, SHARD_LOG]);
    } finally {
      writeFileSync(path, rowsOf.get(path) as Buffer);
    }
    assert.equal((await create({ output })).records, 88);
  });

  test("a picture that vanishes meanwhile: it is named, finished shards stay, and the rest can follow", async () => {
    const path = [...rowsOf.keys()][60] as string;
    const whole = contents((await create({ shards: 30 })).output);
    const output = join(scratch, "vanishing");
    try {
      const gone = create(
        { shards: 30, output },
        { progress: ({ phase }) => phase === "measuring" && rmSync(path, { force: true }) },
      );
      await refused(gone, DataError, /picture, 60\.JPEG/);
    } finally {
      writeFileSync(path, rowsOf.get(path) as Buffer);
    }
    for (const [name, bytes] of contents(output)) {
      assert.ok(!name.startsWith("."), name);
      if (name.startsWith("shard-")) assert.ok(bytes === whole.get(name), name);
    }
    await create({ shards: 30, output });
    assert.deepEqual(contents(output), whole);
  });

  const unreadable = "/proc/self/mem";
  test(
    "H4: a picture that the disk does not give, as the machine's fault",
    { skip: !existsSync(unreadable) },
    async () => {
      const file = join(scratch, "unreadable.csv");
      writeFileSync(file, `${readFileSync(metadata, "utf8")}${unreadable},n1,name\n`);
      await refused(create({ metadata: file }), ResourceError, /^\/proc\/self\/mem: cannot be read/);
    },
  );

  test("pictures of which none can be used", async () => {
    const file = join(scratch, "none.csv");
    const rows = readFileSync(metadata, "utf8").split("\n");
    writeFileSync(file, [rows[0], rows[21], rows[42], ""].join("\n"));
    await refused(create({ metadata: file }), DataError, /none of its 2 pictures can be used/);
  });
});
