/** Names and lists as people's machines write them. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { before, suite, test } from "node:test";

import sharp from "sharp";

import { openDatasets } from "../../src/data/sets.js";
import { noRemarks } from "../../src/data/remarks.js";
import { createRecords } from "../../src/prepare/records/create-records.js";
import { parseGroundTruth } from "../../src/prepare/imagenet/devkit.js";
import { predict } from "../../src/inference/predict.js";
import { train } from "../../src/train/trainer.js";
import { findFiles } from "../../src/cli/find-files.js";
import { program } from "../support/paths.js";
import { scratch, tinySettings, writeTinySet } from "../support/tiny-run.js";

const folder = scratch();
const picture = join(folder, "one.jpg");
/** "café" as keyboards write it, and as macOS stores it. */
const [NFC, NFD] = ["caf\u00e9", "cafe\u0301"];

before(async () => {
  const background = { r: 200, g: 40, b: 90 };
  await sharp({ create: { width: 40, height: 30, channels: 3, background } })
    .jpeg()
    .toFile(picture);
});

let folders = 0;
/** A folder of copies of one picture. */
function copies(...names: string[]): string {
  const root = join(folder, `set-${folders++}`);
  for (const name of names) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    cpSync(picture, join(root, name));
  }
  return root;
}

function riffle(home: string, ...argv: string[]) {
  const env = { ...process.env, HOME: home };
  return spawnSync(process.execPath, [program, ...argv], { cwd: home, env, encoding: "utf8" });
}

suite("files of systems, cameras and editors", () => {
  const junk = [
    "lost+found/x",
    "@eaDir/a.jpg@SynoEAStream",
    "#recycle/a.jpg",
    "$RECYCLE.BIN/a.jpg",
    "System Volume Information/x",
    "__MACOSX/a/._1.jpg",
    ".git/x",
    "a/.DS_Store",
    "a/._1.jpg",
    "a/Thumbs.db",
    "a/desktop.ini",
    "a/Icon\r",
    "a/IMG_1.AAE",
    "a/1.jpg~",
    "a/1.tmp",
    "a/.picasa.ini",
    "b/@eaDir/1.jpg",
  ];

  test("are passed over and counted in folders that are trained on, and notes among the pictures are named", async () => {
    const root = copies("a/1.jpg", "a/notes.txt", "a/clip.mp4", "b/1.jpg", ...junk);
    const remarks = noRemarks();
    const { train, classes } = await openDatasets(root, { seed: 1, remarks });
    assert.deepEqual(classes, ["a", "b"]);
    assert.deepEqual(
      [train.name(0), train.name(1), train.size],
      [join(root, "a/1.jpg"), join(root, "b/1.jpg"), 2],
    );
    assert.deepEqual(remarks, {
      system: junk.length,
      others: [join(root, "a/clip.mp4"), join(root, "a/notes.txt")],
      notices: [],
    });
  });

  test("are passed over and counted in folders that are predicted, which links may lead back to", () => {
    const root = copies("a/1.jpg", "a/notes.txt", "b/1.jpg", ...junk);
    symlinkSync(root, join(root, "b", "back"));
    symlinkSync("gone", join(root, "b", "dead.jpg"));
    const { files, remarks, refused } = findFiles([root]);
    assert.deepEqual(
      files,
      ["a/1.jpg", "b/1.jpg", "b/dead.jpg"].map((name) => join(root, name)),
    );
    assert.deepEqual([remarks.system, remarks.others.length], [junk.length, 1]);
    assert.match(refused.get(join(root, "b/dead.jpg")) ?? "", /broken link/);
  });

  test("do not take classes of their names away: mp4, a~ and tmp are classes", async () => {
    const root = copies("mp4/1.jpg", "a~/1.jpg", "tmp/1.jpg");
    assert.deepEqual((await openDatasets(root, { seed: 1 })).classes, ["a~", "mp4", "tmp"]);
  });
});

suite("a name that is not UTF-8", () => {
  const latin = (root: string, name: string): Buffer => Buffer.from(join(root, name), "latin1");

  test("is a picture that cannot be read, named with its bytes, in training and prediction", async (t) => {
    const root = copies("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg");
    try {
      renameSync(join(root, "a/2.jpg"), latin(root, "a/caf\xe9.jpg"));
    } catch {
      return t.skip("this file system takes UTF-8 names only");
    }
    const given = {
      ...tinySettings(root, join(folder, "latin")),
      batch_size: 2,
      max_epochs: 1,
      max_train_steps: 1,
    };
    await assert.rejects(train(given), /1 picture cannot be read: .*caf\\xe9\.jpg: a name that is not UTF-8/);
    await train({ ...given, max_bad_images: 1 });
    const { files, refused } = findFiles([root]);
    const results = await predict(join(folder, "latin"), files, { refused });
    assert.equal(results.length, 4);
    assert.match(
      results.map((one) => ("error" in one ? `${one.file}: ${one.error}` : "")).join(""),
      /caf\\xe9\.jpg: a name that is not/,
    );
    const [mangled] = await predict(join(folder, "latin"), [join(root, "a/caf\ufffd.jpg")]);
    assert.match(mangled !== undefined && "error" in mangled ? mangled.error : "", /not UTF-8/);
  });
});

suite("the two Unicode forms of a name", () => {
  test("are one class where training and validation differ in it, and two that differ in it alone are said", async () => {
    const root = copies(`train/${NFC}/1.jpg`, "train/b/1.jpg", `val/${NFD}/1.jpg`, "val/b/1.jpg");
    const { validation } = await openDatasets(root, { seed: 1 });
    assert.deepEqual([0, 1].map((i) => validation?.label(i)).sort(), [0, 1]);
    const remarks = noRemarks();
    await openDatasets(copies(`${NFC}/1.jpg`, `${NFD}/1.jpg`), { seed: 1, remarks });
    assert.match(remarks.notices.join(), /"cafe\\u0301" and "caf\\u00e9" look the same, and are two/);
  });

  test("are one where a list and the disk differ in it: a path, a class, a file given to predict", async () => {
    const root = copies(`${NFD}/${NFD}.jpg`, "b/1.jpg");
    const metadata = join(root, "metadata.csv");
    writeFileSync(
      metadata,
      `path,wordnet_id\n${join(root, NFC, `${NFC}.jpg`)},${NFC}\n${join(root, "b/1.jpg")},b\n`,
    );
    const labels = join(root, "labels.json");
    writeFileSync(labels, JSON.stringify({ b: 0, [NFD]: 1 }));
    const output = join(root, "shards");
    const { records } = await createRecords({
      metadata,
      labels,
      output,
      shards: 1,
      seed: 1,
      verify: true,
      jobs: 1,
    });
    assert.equal(records, 2);
    assert.deepEqual(findFiles([join(root, NFC, `${NFC}.jpg`)]).files, [join(root, NFD, `${NFD}.jpg`)]);
  });
});

test("names of 255 bytes are read and written, and control characters in a name are printed escaped", () => {
  const [name, output] = ["n".repeat(251), "o".repeat(250)];
  const root = copies(`a/${name}.jpg`, `${"c".repeat(255)}/1.jpg`, "a/new\nline\x1b[31m.jpg");
  const made = riffle(root, "show-data", root, "--output", `${output}.html`);
  assert.equal(made.status, 0, made.stderr);
  assert.ok(existsSync(join(root, `${output}.html`)));
  writeFileSync(join(root, "a/new\nline\x1b[31m.jpg"), "words");
  const { status, stderr } = riffle(root, "train", "--data_dir", root, "--log_dir", "r".repeat(255));
  assert.equal(status, 3, stderr);
  assert.match(stderr, /a\/new\\u000aline\\u001b\[31m\.jpg/);
});

suite("~", () => {
  test("is the home folder in options, arguments and lists, and no folder of that name is made", () => {
    const home = copies("data/a/1.jpg", "data/a/2.jpg", "data/b/1.jpg", "data/b/2.jpg");
    const tiny = ["--width", "0.5", "--image_size", "32", "--batch_size", "2", "--max_train_steps", "1"];
    const trained = riffle(home, "train", "--data_dir=~/data", "--log_dir=~/run", ...tiny);
    assert.equal(trained.status, 0, trained.stderr);
    const named = riffle(home, "predict", "~/run", "~/data/a/1.jpg");
    assert.equal(named.status, 0, named.stderr);
    writeFileSync(join(home, "list.csv"), "path,wordnet_id\n~/data/a/1.jpg,a\n~/data/b/1.jpg,b\n");
    writeFileSync(join(home, "labels.json"), '{"a": 0, "b": 1}');
    const lists = [
      "--metadata_file=~/list.csv",
      "--labels=~/labels.json",
      "--output=~/shards",
      "--num_shards=1",
    ];
    const written = riffle(home, "create-tfrecords", ...lists);
    assert.equal(written.status, 0, written.stderr);
    assert.deepEqual(readdirSync(home).sort(), ["data", "labels.json", "list.csv", "run", "shards"]);
  });
});

test("lists with a byte order mark, line ends of Windows and blank last lines make the same records", async () => {
  const root = copies("a/1.jpg", "b/1.jpg");
  const rows = ["path,wordnet_id", `${join(root, "a/1.jpg")},a`, `${join(root, "b/1.jpg")},b`];
  const write = async (name: string, csv: string, json: string) => {
    const [metadata, labels] = [join(root, `${name}.csv`), join(root, `${name}.json`)];
    writeFileSync(metadata, csv);
    writeFileSync(labels, json);
    const output = join(root, name);
    await createRecords({ metadata, labels, output, shards: 1, seed: 1, verify: false, jobs: 1 });
    return (await openDatasets(output, { seed: 1 })).classes;
  };
  assert.deepEqual(await write("plain", rows.join("\n"), '{"a": 0, "b": 1}'), ["a", "b"]);
  const windows = await write(
    "windows",
    `\ufeff${rows.join("\r\n")}\r\n\r\n \r\n`,
    '\ufeff{"a": 0,\r\n"b": 1}\r\n\r\n',
  );
  assert.deepEqual(windows, ["a", "b"]);
  assert.deepEqual(parseGroundTruth(Buffer.from("\ufeff2\r\n1\r\n\r\n"), 2, "list"), [1, 0]);
});

test("nothing of a run is left where its data is an array and its weights are none", async () => {
  const run = join(folder, "array-run");
  await assert.rejects(train({ ...tinySettings(writeTinySet(folder), run), init_from: picture }));
  assert.equal(existsSync(run), false);
});
