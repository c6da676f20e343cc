/**
 * Networks in use: weights by name in every command that takes weights, pictures from addresses, and the files that predict
 * writes. Nothing is fetched but from this machine.
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

import { parse } from "csv-parse/sync";
import sharp from "sharp";

import { CheckpointError, UsageError } from "../../src/core/error.js";
import type { Prediction, Refused } from "../../src/inference/predict.js";
import { PREDICTION_MARK } from "../../src/prepare/prediction-sheet.js";
import { type Published, published } from "../../src/weights/published.js";
import { inProcess } from "../support/in-process.js";
import { drawnPictures, writePictures } from "../support/one-step-run.js";
import { drawnWeights, scratch } from "../support/tiny-run.js";

const folder = scratch();
process.env["XDG_CACHE_HOME"] = join(folder, "caches");
process.env["NO_PROXY"] = "*";

let run = "";
let pictures: readonly string[] = [];
const asked: string[] = [];
/** What the server has, by the last part of its address. */
const kept = new Map<string, Buffer>();
const server = createServer(({ url = "" }, response) => {
  const name = url.split("/").at(-1) ?? "";
  asked.push(name);
  const bytes = kept.get(name);
  if (bytes === undefined) response.writeHead(404).end();
  else response.end(bytes);
});
let address = "";
const usual = published[0.5];

before(async () => {
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  run = await drawnWeights(folder);
  const drawn = await drawnPictures(3);
  pictures = writePictures(folder, drawn);
  kept.set("a.jpg", drawn[0] as Buffer);
  // Weights of the test's own in the place of torchvision's: nobody else has bytes with the published checksum.
  const weights = readFileSync(join(run, "best", "weights.safetensors"));
  const sha256 = createHash("sha256").update(weights).digest("hex");
  (published as Record<0.5, Published>)[0.5] = {
    ...usual,
    sha256: sha256.slice(0, 10),
    bytes: weights.length,
  };
  kept.set(usual.file, weights);
  process.env["RIFFLE_TEST_WEIGHTS_URL"] = `${address}/models/`;
});
after(() => {
  (published as Record<0.5, Published>)[0.5] = usual;
  server.close();
  server.closeAllConnections();
});

suite("weights by name", () => {
  const name = "torchvision/0.5x";
  const commands = (): Record<string, string[]> => {
    const data = join(folder, "tiny.npz");
    return {
      predict: ["predict", name, ...pictures],
      evaluate: ["evaluate", name, data],
      inspect: ["inspect", name],
      export: ["export", name, "--format", "safetensors", "--output", join(folder, "out.safetensors")],
      import: ["import", name, "--log_dir", join(folder, "imported")],
    };
  };

  test("are not fetched with --offline, by any command", async () => {
    for (const argv of [...Object.values(commands()), ["serve", name, "--port", "0"]]) {
      await assert.rejects(inProcess([...argv, "--offline"]), (error) => {
        assert.ok(error instanceof CheckpointError, `${argv[0]}: ${String(error)}`);
        assert.match(
          error.problem.hint ?? "",
          /^Leave --offline out, give .* --from FILE\), or put the file there: curl /,
        );
        assert.equal(error.problem.table, undefined, "runs near by are no answer to a name");
        return true;
      });
    }
    assert.deepEqual(asked, []);
  });

  test("are not fetched where something else is wrong", async () => {
    await assert.rejects(inProcess(["evaluate", name]), /does not say what to evaluate on/);
    await assert.rejects(inProcess(["inspect", name, "--width", "1.0"]), /that width: torchvision\/1\.0x/);
    await assert.rejects(inProcess(["predict", "torchvision/3x", ...pictures]), /publishes no weights/);
    const converted = ["export", name, "--format", "tf-checkpoint"];
    await assert.rejects(inProcess(converted), /riffle-vision import torchvision\/0\.5x --log_dir NEW/);
    assert.deepEqual(asked, []);
  });

  test("are fetched by the first command and known to the others, said with licence and checksum", async () => {
    for (const [command, argv] of Object.entries(commands())) {
      const { code, stderr } = await inProcess(argv);
      assert.equal(code, 0, stderr);
      assert.deepEqual(asked, [usual.file], command);
      if (command === "export") continue;
      assert.match(stderr, /^Weights +ShuffleNet V2 0\.5x of torchvision/m, command);
      assert.match(stderr, /SHA-256 [0-9a-f]{10}… as published/, command);
      assert.match(stderr, /BSD-3-Clause/, command);
    }
    assert.ok(existsSync(join(folder, "out.safetensors")));
  });

  test("mean themselves where a folder has their name, which is said", async () => {
    const here = process.cwd();
    try {
      process.chdir(folder);
      mkdirSync("torchvision/0.5x", { recursive: true });
      const { stderr } = await inProcess(["inspect", name]);
      assert.match(stderr, /^warning: torchvision\/0\.5x means .* write \.\/torchvision\/0\.5x$/m);
      assert.match(stderr, /^Weights +ShuffleNet V2 0\.5x of torchvision/m);
    } finally {
      process.chdir(here);
    }
  });
});

suite("pictures at addresses", () => {
  test("are not opened unless that is asked for in words, nor is that asked for idly", async () => {
    asked.length = 0;
    await assert.rejects(inProcess(["predict", run, `${address}/a.jpg`]), (error) => {
      assert.ok(error instanceof UsageError);
      assert.match(error.problem.hint ?? "", /--allow_url$/);
      return true;
    });
    await assert.rejects(inProcess(["predict", run, ...pictures, "--allow_url"]), /no address to fetch/);
    assert.deepEqual(asked, []);
  });

  test("are seen as the same files are, in their place; one that is not there is named", async () => {
    const [file = "", other = ""] = pictures;
    const given = [file, `${address}/a.jpg`, `${address}/missing.jpg`, other];
    const { code, stdout } = await inProcess(["predict", run, ...given, "--allow_url", "--json"]);
    assert.equal(code, 3);
    const results = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Prediction | Refused);
    assert.deepEqual(
      results.map((result) => result.file),
      given,
    );
    const [first, fetched, missing] = results;
    assert.deepEqual(fetched, { ...first, file: given[1] });
    assert.equal((missing as Refused).error, "the server answered 404");
  });
});

suite("files that predict writes", () => {
  const out = join(folder, "out", "deep");
  const text = join(folder, "text.jpg");
  const write = async (...options: string[]): Promise<string> => {
    writeFileSync(text, "no picture");
    const { code, stdout } = await inProcess(["predict", run, ...pictures, text, ...options]);
    assert.equal(code, 3);
    return stdout;
  };

  test("are lines, an array, a line an object, a table, by their endings", async () => {
    const lines = await write("--output", join(out, "a.txt"), "--csv", join(out, "b.table"));
    const shown = readFileSync(join(out, "a.txt"), "utf8");
    assert.deepEqual(
      shown.split("\n").map((line) => line.replace(/ {2,}/g, " ")),
      lines.split("\n").map((line) => line.replace(/ {2,}/g, " ")),
    );
    await write("--output", join(out, "a.json"), "--logits");
    const array = JSON.parse(readFileSync(join(out, "a.json"), "utf8")) as (Prediction | Refused)[];
    assert.deepEqual(
      array.map(({ file }) => file),
      [...pictures, text],
    );
    assert.equal((array[0] as Prediction).logits?.length, 3);
    await write("--output", join(out, "a.jsonl"));
    await write("--output", join(out, "a.CSV"));
    const objects = readFileSync(join(out, "a.jsonl"), "utf8").trimEnd().split("\n");
    const { file, top } = array[0] as Prediction;
    assert.deepEqual(JSON.parse(objects[0] ?? ""), { file, top });
    const tables = ["b.table", "a.CSV"].map((name) => readFileSync(join(out, name), "utf8"));
    assert.equal(tables[0], tables[1]);
    const rows = parse<Record<string, string>>(tables[0] ?? "", { columns: true });
    assert.equal(rows.length, 4);
    assert.equal(rows[0]?.["class_1"], (array[0] as Prediction).top[0]?.name);
    assert.match(rows[3]?.["error"] ?? "", /text/);
  });

  test("replace nothing unless that is asked for, and are refused before anything is done", async () => {
    const there = join(out, "a.json");
    const before = readFileSync(there, "utf8");
    for (const option of ["--output", "--csv", "--sheet"])
      await assert.rejects(write(option, there), /there is a file of this name.*--overwrite/);
    assert.equal(readFileSync(there, "utf8"), before);
    await write("--output", there, "--overwrite", "--top", "1");
    assert.notEqual(readFileSync(there, "utf8"), before);
    await assert.rejects(write("--output", out, "--overwrite"), /something that is no file/);
    await assert.rejects(write("--overwrite"), /--overwrite is for files/);
    await assert.rejects(write("--output", "x.csv", "--csv", "x.csv"), /name one file/);
    await assert.rejects(write("--logits", "--output", "x.csv"), /--output FILE\.json/);
    await assert.rejects(write("--sheet", "x.jpg"), /written as PNG/);
  });

  test("may be a sheet: every picture in its place, and which file could not be shown", async () => {
    const sheet = join(out, "sheet.png");
    await write("--sheet", sheet);
    const { width, height, exif } = await sharp(sheet).metadata();
    assert.deepEqual([width, height], [22 + 4 * 190, 54 + 168 + 58 + 22]);
    assert.ok(exif?.includes(PREDICTION_MARK));
    for (const [i, picture] of pictures.entries()) {
      const tile = { left: 22 + i * 190 + 40, top: 54 + 40, width: 88, height: 88 };
      const [shown, own] = await Promise.all([
        sharp(await sharp(sheet).extract(tile).toBuffer()).stats(),
        sharp(picture).stats(),
      ]);
      for (const [c, { mean }] of own.channels.entries())
        assert.ok(Math.abs((shown.channels[c]?.mean ?? 0) - mean) < 15, `${picture}: channel ${c}`);
    }
    // The last tile is white but for a few words in red.
    const refused = { left: 22 + 3 * 190, top: 54, width: 168, height: 168 };
    const [red, green] = (await sharp(await sharp(sheet).extract(refused).toBuffer()).stats()).channels;
    assert.ok((green?.mean ?? 0) > 240 && (green?.min ?? 0) < 120 && (red?.min ?? 0) > 150);
  });
});
