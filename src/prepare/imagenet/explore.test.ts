import assert from "node:assert/strict";
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
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, suite, test } from "node:test";
import { gzipSync } from "node:zlib";

import { needs, sharedPath } from "../../../test/support/shared.js";
import { tarBytes } from "../../../test/support/tar-bytes.js";
import { DataError, ResourceError, UsageError } from "../../core/error.js";
import { PictureReader } from "./archives.js";
import { readBoxes } from "./boxes.js";
import { explore, type ExploreSettings } from "./explore.js";
import { readMetadata } from "./metadata.js";

const folder = mkdtempSync(join(tmpdir(), "riffle-explore-"));
after(() => rmSync(folder, { recursive: true }));

let places = 0;
/** A new folder with these files. */
function place(files: Readonly<Record<string, string | Uint8Array>>): string {
  const root = join(folder, `${places++}`);
  mkdirSync(root);
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), content);
  }
  return root;
}

const at = (path: string) => ({ kind: "folder", path }) as const;
const tar = (path: string) => ({ kind: "archive", path }) as const;

function run(root: string, settings: Partial<ExploreSettings> = {}): ReturnType<typeof explore> {
  return explore({
    train: at(join(root, "train")),
    output: join(root, "out"),
    overwrite: false,
    ...settings,
  });
}

function xml(
  name: string,
  boxes: readonly (readonly [number, number, number, number])[],
  size = [200, 100],
): string {
  const objects = boxes.map(([xmin, ymin, xmax, ymax]) => {
    const box = `<xmin>${xmin}</xmin><ymin>${ymin}</ymin><xmax>${xmax}</xmax><ymax>${ymax}</ymax>`;
    return `<object><name>${name}</name><bndbox>${box}</bndbox></object>`;
  });
  return `<annotation><filename>f</filename><size><width>${size[0]}</width><height>${size[1]}</height></size>${objects.join("")}</annotation>`;
}

suite("explore on ImageNet's own files", () => {
  const records = (name: string) => sharedPath("tf-reference", "records", name);
  const material = needs("tf-reference", "records", "sources.tsv");

  /** The tree that the lineage's run had, by links. */
  function stage(): string {
    const root = place({});
    for (const line of readFileSync(records("sources.tsv"), "utf8").trimEnd().split("\n").slice(1)) {
      const [, , path = "", source = ""] = line.split("\t");
      mkdirSync(join(root, dirname(path)), { recursive: true });
      symlinkSync(sharedPath(source), join(root, path));
    }
    return root;
  }

  test("gives the labels, rows and boxes of the lineage's run, value for value", material, async () => {
    const root = stage();
    const result = await run(root, {
      devkit: sharedPath("imagenet-devkit"),
      annotations: at(sharedPath("imagenet-boxes")),
    });
    const output = (name: string) => readFileSync(join(root, "out", name));

    // Byte for byte, where nothing depends on the order of a file system.
    assert.deepEqual(output("integer_encoding.json"), readFileSync(records("integer_encoding.json")));
    const decoder = Object.entries(
      JSON.parse(output("wordnet_decoder.json").toString()) as Record<string, string>,
    );
    assert.equal(decoder.length, 1000);
    assert.deepEqual(decoder[0], ["n02119789", "kit fox, Vulpes macrotis"]);

    // The original's rows stand in the order of its file system; ours are sorted, and their paths begin with `root`.
    const rows = (text: string) => text.trimEnd().split("\n");
    const [header, ...ours] = rows(output("training_metadata.csv").toString().replaceAll(`${root}/`, ""));
    const [theirHeader, ...theirs] = rows(readFileSync(records("training_metadata.csv"), "utf8"));
    assert.equal(header, theirHeader);
    assert.deepEqual(ours, theirs.sort());

    const boxes = await readBoxes(join(root, "out", "boxes.npy"));
    const reference = await readBoxes(records("boxes.npy"));
    assert.equal(reference.size, 2079);
    const sorted = (map: Map<string, Float32Array>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));
    assert.deepEqual(sorted(boxes), sorted(reference));

    assert.equal(result.training_pictures_expected, 1_281_167);
    assert.deepEqual(result.boxes, {
      files: 2079,
      files_saved: 2079,
      boxes_saved: 2485,
      files_skipped: 0,
      boxes_skipped: 0,
      without_picture: 2055,
      named_differently: 0,
      skipped: [],
    });
  });

  test("gives each of 50,000 validation pictures its class from the ground truth", material, async () => {
    const root = stage();
    const names = Array.from(
      { length: 50_000 },
      (_, i) => `ILSVRC2012_val_${String(i + 1).padStart(8, "0")}.JPEG`,
    );
    const val = join(root, "val.tar");
    // In another order than that of their numbers.
    writeFileSync(val, tarBytes(names.reverse().map((name) => ({ name }))));
    await run(root, { devkit: sharedPath("imagenet-devkit"), validation: tar(val) });
    const rows = await readMetadata(join(root, "out", "validation_metadata.csv"));
    assert.equal(rows.length, 50_000);
    // The first lines of the ground truth: 490, 361, 171.
    const encoding = JSON.parse(readFileSync(records("integer_encoding.json"), "utf8")) as Record<
      string,
      number
    >;
    assert.deepEqual(
      rows.slice(0, 3).map(({ path, wordnetId }) => [path, encoding[wordnetId]]),
      [1, 2, 3].map((n, i) => [`${val}::ILSVRC2012_val_0000000${n}.JPEG`, [489, 360, 170][i]]),
    );
  });

  test("takes a class folder without pictures, since the devkit numbers the classes", material, async () => {
    const root = place({ "train/n02119789/1.jpg": "", "train/n01440764/.keep": "" });
    const result = await run(root, { devkit: sharedPath("imagenet-devkit") });
    assert.deepEqual([result.classes, result.classes_with_pictures], [1000, 1]);
  });

  test(
    "reads the same from archives, the devkit and boxes gzipped, the pictures packed by class",
    material,
    async () => {
      const root = place({});
      const classes = ["n01440764", "n01443537"];
      const folders = classes.map((name) => [name, sharedPath("imagenet-boxes", name)] as const);
      const inner = classes.map((name) => ({
        name: `${name}.tar`,
        data: tarBytes([{ name: `${name}_2.JPEG`, data: Buffer.from(name) }, { name: `${name}_10.JPEG` }]),
      }));
      writeFileSync(join(root, "train.tar"), tarBytes(inner));
      const xmls = folders.flatMap(([name, path]) =>
        readdirSync(path).map((file) => ({ name: `${name}/${file}`, data: readFileSync(join(path, file)) })),
      );
      writeFileSync(join(root, "boxes.tar.gz"), gzipSync(tarBytes([{ name: "./", type: "5" }, ...xmls])));
      const kit = ["meta.mat", "ILSVRC2012_validation_ground_truth.txt"].map((name) => ({
        name: `ILSVRC2012_devkit_t12/data/${name}`,
        data: readFileSync(sharedPath("imagenet-devkit", name)),
      }));
      writeFileSync(join(root, "devkit.tar.gz"), gzipSync(tarBytes(kit)));
      const result = await run(root, {
        train: tar(join(root, "train.tar")),
        devkit: join(root, "devkit.tar.gz"),
        annotations: tar(join(root, "boxes.tar.gz")),
      });
      assert.equal(result.classes_with_pictures, 2);
      assert.deepEqual(
        readFileSync(join(root, "out/integer_encoding.json")),
        readFileSync(records("integer_encoding.json")),
      );

      const rows = await readMetadata(join(root, "out", "training_metadata.csv"));
      assert.deepEqual(
        rows.map(({ justName }) => justName),
        ["n01440764_10", "n01440764_2", "n01443537_10", "n01443537_2"],
      );
      const pictures = new PictureReader();
      assert.equal(Buffer.from(pictures.read(rows[1]?.path ?? "")).toString(), "n01440764");
      pictures.close();

      const reference = await readBoxes(records("boxes.npy"));
      const boxes = await readBoxes(join(root, "out", "boxes.npy"));
      assert.equal(boxes.size, xmls.length);
      for (const [name, rows] of boxes) assert.deepEqual(rows, reference.get(name));
    },
  );
});

suite("explore on any folder of classes", () => {
  const files = {
    "train/dog/1.jpg": "",
    "train/Cat/2.jpg": "",
    "train/dog/3.png": "",
    "train/README.md": "",
  };

  test("numbers the classes by their sorted names", async () => {
    const root = place({ ...files, "val/dog/9.jpg": "" });
    const result = await run(root, { validation: at(join(root, "val")) });
    assert.equal(result.encoding, "sorted names");
    const output = (name: string) => readFileSync(join(root, "out", name), "utf8").replaceAll(`${root}/`, "");
    assert.equal(output("integer_encoding.json"), '{\n"Cat": 0,\n"dog": 1\n}');
    assert.equal(output("wordnet_decoder.json"), '{\n"Cat": "Cat",\n"dog": "dog"\n}');
    assert.equal(
      output("training_metadata.csv"),
      "path,wordnet_id,just_name\ntrain/Cat/2.jpg,Cat,2\ntrain/dog/1.jpg,dog,1\ntrain/dog/3.png,dog,3\n",
    );
    assert.equal(output("validation_metadata.csv"), "path,wordnet_id\nval/dog/9.jpg,dog\n");
    assert.equal(existsSync(join(root, "out", "boxes.npy")), false);
  });

  test("writes names beyond ASCII as Python's json.dump does", async () => {
    const root = place({ "train/caf\u00e9/1.jpg": "", "train/\u{1f40d}/2.jpg": "" });
    await run(root);
    const text = readFileSync(join(root, "out", "integer_encoding.json"), "utf8");
    assert.equal(text, '{\n"caf\\u00e9": 0,\n"\\ud83d\\udc0d": 1\n}');
  });

  test("drops and counts boxes of another class, without a side, and with swapped corners, as the original", async () => {
    const root = place({
      ...files,
      "boxes/dog/1.xml": xml("dog", [[20, 10, 100, 50], [-20, 10, 300, 90]]), // prettier-ignore
      "boxes/dog/3.xml": xml("dog", [[100, 10, 20, 50], [20, 50, 100, 10]]), // prettier-ignore
      "boxes/dog/4.xml": xml("dog", [[250, 10, 300, 50], [20, 10, 20, 50]]), // prettier-ignore
      "boxes/Cat/2.xml": xml("dog", [[20, 10, 100, 50]]),
      "boxes/Cat/5.xml": xml("Cat", []),
      "boxes/Cat/6.xml": xml("Cat", [[20, 10, 100, 50]], [0, 100]),
      "boxes/cow/7.xml": xml("cow", [[20, 10, 100, 50]]),
    });
    const { boxes } = await run(root, { annotations: at(join(root, "boxes")) });
    assert.deepEqual(await readBoxes(join(root, "out", "boxes.npy")), new Map([
      ["1", Float32Array.of(0.1, 0.1, 0.5, 0.5, 0, 0.1, 1, 0.9)],
    ])); // prettier-ignore
    const counts = Object.fromEntries(boxes?.skipped.map(({ reason, count }) => [reason, count]) ?? []);
    assert.deepEqual(counts, {
      "an object of another class": 1,
      "a file without an object": 1,
      "the file gives the picture no size": 1,
      "a class that is not among the classes": 1,
      "corners swapped": 2,
      "a side without length inside the picture": 2,
    });
    assert.deepEqual(
      [boxes?.files, boxes?.files_saved, boxes?.boxes_saved, boxes?.boxes_skipped],
      [7, 1, 2, 7],
    );
  });

  test("run again, finds its files as they are; other content is replaced only when asked", async () => {
    const root = place(files);
    await run(root);
    await run(root);
    writeFileSync(join(root, "out", "training_metadata.csv"), "mine");
    await assert.rejects(
      run(root),
      (error: unknown) => error instanceof UsageError && /stands there already/.test(error.message),
    );
    assert.equal(readFileSync(join(root, "out", "training_metadata.csv"), "utf8"), "mine");
    await run(root, { overwrite: true });
    assert.match(readFileSync(join(root, "out", "training_metadata.csv"), "utf8"), /^path,/);
    assert.deepEqual(readdirSync(join(root, "out")).sort(), [
      "integer_encoding.json",
      "training_metadata.csv",
      "wordnet_decoder.json",
    ]);
  });
});

suite("explore refuses, and writes nothing", () => {
  type Case = readonly [
    string,
    Readonly<Record<string, string | Uint8Array>>,
    (root: string) => Partial<ExploreSettings>,
    RegExp,
  ];
  const train = { "train/a/1.jpg": "", "train/b/2.jpg": "" };
  const boxes = (root: string) => ({ annotations: at(join(root, "boxes")) });
  const val = (root: string) => ({ validation: at(join(root, "val")) });
  const one = xml("a", [[20, 10, 100, 50]]);
  const cases: readonly Case[] = [
    ["no training folder", {}, () => ({}), /train: there is no such folder/],
    ["a file for a folder", { train: "" }, () => ({}), /train: a file, where a folder is expected/],
    ["an empty folder", { "train/.x": "" }, () => ({}), /train: holds no pictures/],
    [
      "a picture beside the classes",
      { ...train, "train/3.jpg": "" },
      () => ({}),
      /3\.jpg: lies beside the class folders/,
    ],
    [
      "a folder in a class",
      { ...train, "train/a/b/3.jpg": "" },
      () => ({}),
      /a folder inside a class folder/,
    ],
    ["no XML", { ...train, "boxes/a/1.txt": "" }, boxes, /boxes: holds no box files/],
    ["no annotations folder", train, boxes, /boxes: there is no such folder/],
    [
      "a damaged XML",
      { ...train, "boxes/a/1.xml": `${one}\n<` },
      boxes,
      /1\.xml, line 2, column \d+: no well-formed XML/,
    ],
    [
      "two XMLs of one name",
      { ...train, "boxes/a/1.xml": one, "boxes/b/1.xml": one },
      boxes,
      /boxes of "1" a second time/,
    ],
    [
      "two pictures of one name, with boxes",
      { ...train, "train/a/1.png": "", "boxes/a/1.xml": one },
      boxes,
      /has the name of another picture/,
    ],
    [
      "numbered validation without a devkit",
      { ...train, "val/ILSVRC2012_val_00000001.JPEG": "" },
      val,
      /no list of their classes/,
    ],
    [
      "an unknown validation class",
      { ...train, "val/c/1.jpg": "" },
      val,
      /a validation class that training does not have/,
    ],
    [
      "a devkit that is not there",
      train,
      () => ({ devkit: "no-such-devkit" }),
      /no-such-devkit: there is no such devkit/,
    ],
    [
      "a devkit without meta.mat",
      { ...train, "kit/data/x": "" },
      (root) => ({ devkit: join(root, "kit") }),
      /holds no meta\.mat/,
    ],
    [
      "an archive that is none",
      { "train.tar": "no archive".repeat(100) },
      (root) => ({ train: tar(join(root, "train.tar")) }),
      /train\.tar, byte 0: no header of a tar archive/,
    ],
    [
      "a gzipped archive",
      { "train.tar.gz": gzipSync(tarBytes([{ name: "a/1.jpg" }])) },
      (root) => ({ train: tar(join(root, "train.tar.gz")) }),
      /train\.tar\.gz, byte 0: compressed with gzip.*gunzip < \S+train\.tar\.gz > \S+train\.tar$/,
    ],
    [
      "a class folder that reads like an archive",
      { ...train, "train/x::y.tar::z/1.jpg": "" },
      () => ({}),
      /x::y\.tar::z.*: a path with :: in it/,
    ],
    [
      "a picture that reads like a member",
      { ...train, "train/a/x.tar::y.jpg": "" },
      () => ({}),
      /a\/x\.tar::y\.jpg: a path with :: in it/,
    ],
    [
      "a folder of pictures that reads like an archive",
      { "x.tar::y/a/1.jpg": "" },
      (root) => ({ train: at(join(root, "x.tar::y")) }),
      /a path with :: in it/,
    ],
    [
      "an archive whose name reads like a member",
      { "x::y.tar": tarBytes([{ name: "a/1.jpg" }]) },
      (root) => ({ train: tar(join(root, "x::y.tar")) }),
      /x::y\.tar: a path with :: in it/,
    ],
    [
      "a numbered validation picture that reads like a member",
      { ...train, "val/x::y_1.JPEG": "" },
      val,
      /val\/x::y_1\.JPEG: a path with :: in it/,
    ],
    [
      "a class without pictures",
      { ...train, "train/c/.keep": "" },
      () => ({}),
      /train\/c: a class without pictures/,
    ],
    [
      "a class whose archive is empty",
      {
        "train.tar": tarBytes([
          { name: "a.tar", data: tarBytes([{ name: "1.jpg" }]) },
          { name: "b.tar", data: tarBytes([]) },
        ]),
      },
      (root) => ({ train: tar(join(root, "train.tar")) }),
      /train\.tar::b\.tar: a class without pictures/,
    ],
  ];
  for (const [name, files, settings, words] of cases) {
    test(name, async () => {
      const root = place(files);
      await assert.rejects(run(root, settings(root)), (error: unknown) => {
        assert.ok(error instanceof DataError, String(error));
        assert.equal(error.exitCode, 3);
        assert.match(error.message, words);
        return true;
      });
      assert.equal(existsSync(join(root, "out")), false);
    });
  }

  for (const [name, path] of [
    ["a picture", "train/a/caf\xe9.jpg"],
    ["a class folder", "train/caf\xe9/1.jpg"],
  ] as const) {
    test(`${name} whose name is not UTF-8, which no list can hold`, async (t) => {
      const root = place({ ...train });
      const bytes = Buffer.from(join(root, path), "latin1");
      try {
        mkdirSync(bytes.subarray(0, bytes.lastIndexOf("/")), { recursive: true });
        writeFileSync(bytes, "");
      } catch {
        return t.skip("this file system takes UTF-8 names only");
      }
      await assert.rejects(
        run(root),
        (error: unknown) =>
          error instanceof DataError && /a name that is not UTF-8 .*found caf\\xe9/.test(error.message),
      );
    });
  }

  test("an output that cannot be written, before anything is read", async () => {
    const root = place({ file: "", "holds/file": "" });
    for (const output of ["file", "file/below", "holds/file/far/below"]) {
      await assert.rejects(run(root, { output: join(root, output) }), (error: unknown) => {
        assert.ok(error instanceof ResourceError, String(error));
        assert.match(error.message, /cannot be written.*Nothing was read or written.*--output/);
        return error.problem.where === join(root, output);
      });
    }
    assert.deepEqual(readdirSync(root).sort(), ["file", "holds"]);
    await assert.rejects(run(root, { output: "/proc/riffle" }), ResourceError);
  });

  const numbered = { "train/n02119789/1.jpg": "", "val/x_1.JPEG": "", "val/x_2.JPEG": "" };
  const truths: readonly (readonly [string, string | Uint8Array, RegExp])[] = [
    ["a list of another length", "1\n", /lists 1 labels but .*val holds 2 pictures/],
    ["a label out of range", "1\n1001\n", /line 2: no label \(expected 1 to 1000, found "1001"\)/],
    ["a label of zero", "0\n1\n", /line 1: no label/],
    ["a label in letters", "1\nfox\n", /line 2: no label.*"fox"/],
    ["an empty line", "1\n\n2\n", /line 2: no label/],
  ];
  for (const [name, truth, words] of truths) {
    test(`a ground truth with ${name}`, needs("imagenet-devkit", "meta.mat"), async () => {
      const root = place({ ...numbered, "kit/ILSVRC2012_validation_ground_truth.txt": truth });
      symlinkSync(sharedPath("imagenet-devkit", "meta.mat"), join(root, "kit", "meta.mat"));
      await assert.rejects(run(root, { ...val(root), devkit: join(root, "kit") }), words);
    });
  }

  for (const [name, files, words] of [
    ["a number twice", { "val/x_1.JPEG": "", "val/y_1.JPEG": "" }, /the number 1 a second time/],
    ["a number missing", { "val/x_1.JPEG": "", "val/x_3.JPEG": "" }, /no picture has the number 2/],
    ["a name without a number", { "val/x.JPEG": "", "val/x_2.JPEG": "" }, /no number in the name/],
  ] as const) {
    test(`validation pictures with ${name}`, needs("imagenet-devkit", "meta.mat"), async () => {
      const root = place({
        "train/n02119789/1.jpg": "",
        ...files,
        "kit/ILSVRC2012_validation_ground_truth.txt": "1\n2\n",
      });
      symlinkSync(sharedPath("imagenet-devkit", "meta.mat"), join(root, "kit", "meta.mat"));
      await assert.rejects(run(root, { ...val(root), devkit: join(root, "kit") }), words);
    });
  }

  test("a class folder that the devkit does not know", needs("imagenet-devkit", "meta.mat"), async () => {
    await assert.rejects(
      run(place(train), { devkit: sharedPath("imagenet-devkit") }),
      /a class folder that the devkit does not know/,
    );
  });
});
