/**
 * `riffle export --format web`, opened in a browser: it sees in pictures what `riffle predict` sees, asks nobody else for anything,
 * and looks well. The pictures are noise, so a wrong pixel shows in the logits. What the page's engine computes for other networks:
 * test/conformance/page-engine.test.ts.
 */

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, statSync, truncateSync } from "node:fs";
import { get, type IncomingMessage } from "node:http";
import { join } from "node:path";
import { before, suite, test } from "node:test";
import { pathToFileURL } from "node:url";

import sharp from "sharp";

import { pictureAlone } from "../../src/inference/evaluate.js";
import { openPredictor, type Prediction } from "../../src/inference/predict.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import { compile } from "../../src/program/compile.js";
import { findCheckpoint } from "../../src/run/find-checkpoint.js";
import type { ModelDescription } from "../../src/run/checkpoint-state.js";
import { Metrics } from "../../src/serve/metrics.js";
import { startServer } from "../../src/serve/server.js";
import { exportRun } from "../../src/weights/export-run.js";
import { writeWebFolder } from "../../src/weights/web-folder.js";
import { useBrowser, type Visit } from "../support/browser.js";
import { heldJpeg } from "../support/exif.js";
import { drawnPictures, writePictures } from "../support/one-step-run.js";
import { program } from "../support/paths.js";
import { serveFolder } from "../support/static-server.js";
import { scratch } from "../support/tiny-run.js";
import { insects, untrainedRun } from "../support/untrained-run.js";

/** Of the largest logit. Engine and ONNX Runtime sum in f32, each in its order (also in scripts/judge-onnx.mjs). */
const ROUNDING = 1e-5;

const folder = scratch();
const browser = useBrowser();
const web = join(folder, "a page");
let run: string;
let model: ModelDescription;
let said: { readonly status: number | null; readonly stdout: string; readonly stderr: string };

before(async () => {
  run = await untrainedRun(join(folder, "run"));
  const argv = [program, "export", "run", "--format", "web", "--output", "a page"];
  said = spawnSync(process.execPath, argv, { cwd: folder, encoding: "utf8" });
  assert.equal(said.status, 0, said.stderr);
});

/** What `riffle predict` makes of pictures. */
async function predicted(pictures: readonly Uint8Array[], backend?: "wasm"): Promise<Prediction[]> {
  const predictor = await openPredictor(run, {
    eval_batch_size: 4,
    ...(backend === undefined ? {} : { backend }),
  });
  const results: Prediction[] = [];
  for await (const result of predictor.predict(pictures, { logits: true }))
    results.push(result as Prediction);
  model = predictor.model;
  await predictor.close();
  return results;
}

interface Seen {
  readonly logits: number[];
  /** What the network sees where the rule of turning is this or that. */
  readonly bytes: Record<"apply" | "ignore", number[]>;
}

/** What a page of one's own gets of the folder's modules. */
async function seenIn({ page }: Visit, pictures: readonly Buffer[]): Promise<Seen[]> {
  return page.evaluate(`(async () => {
    const modules = ["classifier.js", "pixels.js", "preprocess.js"];
    const [{ openClassifier }, { pixelsOf }, { croppedBytes }] = await Promise.all(
      modules.map((name) => import(new URL(name, document.baseURI).href)));
    const preprocessing = await (await fetch("preprocessing.json")).json();
    const { logits } = await openClassifier();
    const pictures = ${JSON.stringify(pictures.map((bytes) => bytes.toString("base64")))};
    return Promise.all(pictures.map(async (text) => {
      const picture = new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]);
      const bytes = {};
      for (const exif_orientation of ["apply", "ignore"])
        bytes[exif_orientation] = Array.from(croppedBytes(await pixelsOf(picture, { exif_orientation }), preprocessing));
      return { logits: Array.from(await logits(picture)), bytes };
    }));
  })()`);
}

/** Pictures of all kinds, some see-through, deep, or turned by their EXIF. */
async function manyPictures(): Promise<Buffer[]> {
  const [jpeg, png, webp] = (await drawnPictures(3)) as [Buffer, Buffer, Buffer];
  const held = (type: "png" | "webp"): Promise<Buffer> =>
    sharp(png).withMetadata({ orientation: 8 }).toFormat(type, { lossless: true }).toBuffer();
  return [
    ...[png, jpeg, webp, heldJpeg(jpeg, 6), heldJpeg(jpeg, 4)],
    await sharp(png).greyscale().png().toBuffer(),
    await sharp(png).ensureAlpha(0).png().toBuffer(),
    await sharp(png).ensureAlpha(0.3).webp({ lossless: true }).toBuffer(),
    await sharp(png).png({ palette: true }).toBuffer(),
    await sharp(png).toColourspace("rgb16").png().toBuffer(),
    await sharp(png).withIccProfile("p3").png().toBuffer(),
    await held("png"),
    await held("webp"),
  ];
}

/** Classes and shares on the page's cards. */
async function shownIn({ page }: Visit): Promise<string[]> {
  const rows = await page.locator("#results li").allInnerTexts();
  return rows.map((text) => text.split("\n").join(" "));
}

/** The same of predictions; the newest card stands first. */
function wordsOf(predictions: readonly Prediction[]): string[] {
  return predictions
    .toReversed()
    .flatMap(({ top }) => top.map(({ name, probability }) => `${name} ${(100 * probability).toFixed(1)} %`));
}

function largest(numbers: readonly number[]): number {
  return Math.max(...numbers.map(Math.abs));
}

function apart(a: readonly number[], b: readonly number[] = []): number {
  return largest(a.map((value, i) => value - (b[i] as number))) / largest(b);
}

suite("the folder of riffle export --format web", () => {
  test("holds what the page needs and nothing of other machines; the next command shows it", async () => {
    assert.match(said.stdout, /^Saved +'a page', [\d.]+ MB$/m);
    const [outside = ""] = readdirSync(join(run, "best"));
    assert.notEqual(outside, "");
    const [, next = ""] = /^Next +(node .*)$/m.exec(said.stdout) ?? [];
    const child = spawn("sh", ["-c", `exec ${next}`], { cwd: folder, stdio: ["ignore", "pipe", "inherit"] });
    try {
      const [line] = (await once(child.stdout.setEncoding("utf8"), "data")) as [string];
      const [, url = ""] = /Open (http:\/\/127\.0\.0\.1:\d+\/) /.exec(line) ?? [];
      for (const name of readdirSync(web)) {
        const response = await fetch(new URL(name, url));
        assert.equal(response.status, 200, name);
        assert.deepEqual(Buffer.from(await response.arrayBuffer()), readFileSync(join(web, name)), name);
      }
      assert.match(await (await fetch(url)).text(), /^<!doctype html>/);
      // As they are sent: fetch would take the dots away.
      for (const other of [`/../run/best/${outside}`, `/%2e%2e/run/best/${outside}`, "/none.js"]) {
        const [response] = (await once(get({ port: new URL(url).port, path: other }), "response")) as [
          IncomingMessage,
        ];
        assert.equal(response.resume().statusCode, 404, other);
      }
    } finally {
      child.kill();
    }
  });

  test("is made whole or not at all, and never in the place of another", async () => {
    await assert.rejects(
      exportRun(run, { format: "web", output: web, overwrite: true }),
      /is a folder.*Remove it/,
    );
    await assert.rejects(
      exportRun(run, { format: "web", output: join(folder, "x"), input: "pixels" }),
      /--input/,
    );
    await assert.rejects(
      exportRun(run, { format: "onnx", output: join(folder, "x"), runtime: "onnx" }),
      /option --runtime/,
    );
    const network = shuffleNetV2({ variant: "torchvision", width: 0.5, classes: insects.length });
    const program = compile(network, { batch: 1, imageSize: 64, mode: "infer" });
    const { state } = await findCheckpoint(run);
    const full = new Error("the disk is full");
    await assert.rejects(
      writeWebFolder(join(folder, "x"), { state, network, program }, "riffle", () => Promise.reject(full)),
      full,
    );
    assert.equal(existsSync(join(folder, "x")), false);
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.startsWith(".")),
      [],
    );
  });

  test("is 1.7 MB at most for 0.5x, ten classes and 224 pixels", async () => {
    const names = Array.from({ length: 10 }, (_, i) => `a class of pictures, ${i}`);
    const ten = await untrainedRun(join(folder, "ten"), "torchvision", { names, size: 224 });
    const output = join(folder, "ten.web");
    const { bytes } = await exportRun(ten, { format: "web", output });
    const sizes = readdirSync(output).map((name) => statSync(join(output, name)).size);
    assert.equal(
      sizes.reduce((sum, size) => sum + size),
      bytes,
    );
    assert.ok(bytes <= 1.7e6, `${bytes} bytes`);
  });
});

suite("the exported page", () => {
  test(
    "sees what riffle predict sees, at an address below another, and asks nobody else",
    browser.needed,
    async () => {
      const pictures = await drawnPictures(3);
      const expected = await predicted(pictures);
      const visit = await browser.open(await serveFolder(web, "/some/where/"));
      const { page, foreign, problems } = visit;
      await page.getByText(`Riffle knows 6 classes here: ${insects.join(", ")}.`).waitFor();
      await page.setInputFiles("#files", writePictures(folder, pictures));
      await page.locator("#results ol").nth(2).waitFor();
      assert.deepEqual(await shownIn(visit), wordsOf(expected));
      assert.equal(page.workers().length, 1, "the page itself is free");

      await visit.screenshot("web-light");
      await visit.look({ scheme: "dark" });
      await visit.screenshot("web-dark");
      await visit.look({ scheme: "light", media: "print" });
      await visit.screenshot("web-print");
      await visit.look({ media: "screen" });
      await page.setViewportSize({ width: 400, height: 700 });
      assert.equal(
        await page.evaluate("document.documentElement.scrollWidth <= innerWidth"),
        true,
        "nothing is cut off",
      );
      await visit.screenshot("web-400");

      await page.click("#start");
      await page.click("#take");
      await page.check("#live");
      await page.waitForSelector("#seen li");
      await page.locator("#results ol").nth(3).waitFor();
      await visit.screenshot("web-camera");
      await page.click("#stop");

      const broken = { name: "broken.jpg", mimeType: "image/jpeg", buffer: Buffer.from("no picture") };
      await page.setInputFiles("#files", broken);
      await page.locator("#results").getByText("this browser cannot read it as a picture").waitFor();
      await page.setInputFiles("#files", writePictures(folder, pictures.slice(0, 1)));
      await page.locator("#results ol").nth(4).waitFor();
      assert.deepEqual([foreign, problems], [[], []]);
    },
  );

  test(
    "gives the network the engine's bytes, turned as the run turns them, and has its logits to the bit",
    browser.needed,
    async () => {
      const pictures = await manyPictures();
      const expected = await predicted(pictures, "wasm");
      const visit = await browser.open(await serveFolder(web));
      for (const [i, { logits, bytes }] of (await seenIn(visit, pictures)).entries()) {
        for (const exif_orientation of ["apply", "ignore"] as const) {
          const what = `picture ${i}, ${exif_orientation}`;
          const engines = await pictureAlone(pictures[i] as Buffer, what, { ...model, exif_orientation });
          assert.deepEqual(Uint8Array.from(bytes[exif_orientation]), engines, what);
        }
        assert.deepEqual(logits, expected[i]?.logits, `picture ${i}`);
      }
      // Chromium has something to say of pixels that are read from textures.
      assert.deepEqual(visit.foreign, []);
    },
  );

  test("has the logits to f32 rounding with ONNX Runtime, by request", browser.needed, async () => {
    const output = join(folder, "onnx");
    await exportRun(run, { format: "web", output, runtime: "onnx" });
    const pictures = (await manyPictures()).slice(0, 4);
    const expected = await predicted(pictures);
    const visit = await browser.open(await serveFolder(output));
    for (const [i, { logits }] of (await seenIn(visit, pictures)).entries()) {
      const difference = apart(logits, expected[i]?.logits);
      assert.ok(difference <= ROUNDING, `picture ${i}: ${difference} of the largest logit apart`);
    }
    assert.deepEqual([visit.foreign, visit.problems], [[], []]);
  });

  test("opened as a file says what to do", browser.needed, async () => {
    const { page, screenshot } = await browser.open(pathToFileURL(join(web, "index.html")).href);
    await screenshot("web-file");
    assert.match((await page.textContent("#network")) ?? "", /from a web server only.*node serve\.mjs/);
  });

  test("says which file is missing, or cut short", browser.needed, async () => {
    const torn = join(folder, "torn");
    cpSync(web, torn, { recursive: true });
    const address = await serveFolder(torn);
    const says = async (pattern: RegExp): Promise<void> => {
      const { page } = await browser.open(address);
      await page.waitForSelector("#network.problem");
      assert.match((await page.textContent("#network")) ?? "", pattern);
    };
    truncateSync(join(torn, "model.safetensors"), 1_000_000);
    await says(/^model\.safetensors is cut short: 1000000 of \d+ bytes are there\. Copy the exported folder/);
    rmSync(join(torn, "engine.js"));
    await says(/^engine-worker\.js did not run: is the folder there whole/);
    rmSync(join(torn, "model.safetensors"));
    await says(/^model\.safetensors was not loaded: the server says 404/);
  });
});

suite("the page of riffle serve", () => {
  test("shows what the server answers, and asks nobody else", browser.needed, async (context) => {
    const pictures = await drawnPictures(2);
    const expected = await predicted(pictures);
    const predictor = await openPredictor(run, { eval_batch_size: 4 });
    const server = await startServer(predictor, {
      ...{ host: "127.0.0.1", port: 0, names: [], token: "a-token-of-20-letters", top: 5 },
      ...{ maxBody: 2 ** 20, maxPixels: 1e6, timeout: 30_000, maxQueue: 8, metrics: new Metrics() },
    });
    context.after(async () => {
      await server.close();
      await predictor.close();
    });
    const visit = await browser.open(`${server.url}#token=a-token-of-20-letters`);
    const { page, foreign, problems } = visit;
    await page.getByText(`Riffle knows 6 classes here: ${insects.join(", ")}.`).waitFor();
    await page.setInputFiles("#files", writePictures(folder, pictures));
    await page.locator("#results ol").nth(1).waitFor();
    assert.deepEqual(await shownIn(visit), wordsOf(expected));
    await visit.screenshot("serve-page");
    assert.deepEqual([foreign, problems], [[], []]);
  });
});
