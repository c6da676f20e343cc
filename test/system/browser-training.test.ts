/**
 * A page trains, is reloaded and goes on, and hands out what Node reads: in headless Chromium, by src/browser/.
 *
 * Expressions are the page's; test/support/training-page.html has what they use.
 */

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";

import { unzipSync } from "fflate";
import type { Page } from "playwright-core";

import { evaluate, openPredictor, train } from "../../src/index.js";
import { useBrowser } from "../support/browser.js";
import { runOnnx } from "../support/onnx-run.js";
import { decodeOnnx } from "../support/onnx-reader.js";
import { repository } from "../support/paths.js";
import { ISOLATED, serveFolder } from "../support/static-server.js";

const browser = useBrowser();
const folder = mkdtempSync(join(tmpdir(), "riffle-page-"));
after(() => rmSync(folder, { recursive: true, force: true }));

async function open(headers: Readonly<Record<string, string>> = ISOLATED) {
  const address = `${await serveFolder(repository, "/", headers)}test/support/training-page.html`;
  const visit = await browser.open(address);
  await visit.page.waitForFunction("window.isReady");
  return { ...visit, address };
}

/** The value of an asynchronous block in the page. */
function ask<T>(page: Page, block: string): Promise<T> {
  return page.evaluate<T>(`(async () => {${block}})()`);
}

/** By the engine of the page, so that bits can be compared. */
async function logitsOf(run: string, files: readonly string[]): Promise<number[]> {
  const predictor = await openPredictor(run, { backend: "wasm" });
  const logits: number[] = [];
  for await (const one of predictor.predict(files, { logits: true }))
    if ("logits" in one) logits.push(...(one.logits ?? []));
  await predictor.close();
  return logits;
}

const SHORT = `{ imageSize: 32, batchSize: 8, epochs: 6, seed: 3, validation: await files(9, 40, 99) }`;

test(
  "shapes are learnt in a minute, the page stays free, and the network says where it looks",
  browser.needed,
  async () => {
    const { page, foreign, problems } = await open();
    const { top1, seconds, moved, heat, longest, events, guesses } = await ask<{
      top1: number;
      seconds: number;
      moved: number;
      heat: number;
      longest: number;
      events: string[];
      guesses: string[];
    }>(
      page,
      `const events = [];
     const onEvent = (event) => events.push(event.event);
     // Drawing is the test's own work, and is over before the page is watched.
     const drawn = await pictures(150, 64);
     await new Promise((resolve) => setTimeout(resolve, 200));
     longest.task = 0;
     const begun = performance.now();
     const { run, best } = await riffle.train({ name: "shapes", pictures: drawn, imageSize: 48, batchSize: 16, epochs: 36, onEvent });
     const seconds = (performance.now() - begun) / 1000;
     const task = longest.task;
     const others = await pictures(6, 200, 1234);
     const seen = await run.predict(others.map(({ picture }) => picture));
     const { heat } = await run.explain(others[0].picture);
     // A new classifier on the network as it is, of other classes and fewer pictures.
     const some = (await pictures(24, 64, 55)).map((one) => ({ ...one, label: "a " + one.label }));
     const from = await run.exportAs("safetensors");
     const moved = await riffle.train({ name: "moved", pictures: some, validation: [], from, epochs: 0 });
     moved.scores = await moved.run.evaluate((await pictures(12, 64, 77)).map((one) => ({ ...one, label: "a " + one.label })));
     return {
       top1: best.top1,
       seconds,
       guesses: seen.map(({ top }, i) => others[i].label === top[0].name ? "right" : "wrong"),
       heat: Math.max(...heat),
       moved: moved.scores.top1,
       longest: task,
       events: [...new Set(events)],
     };`,
    );
    assert.ok(top1 >= 0.9, `top-1 ${top1}`);
    assert.ok(seconds < 60, `${seconds} s`);
    assert.ok(moved >= 0.75, `top-1 ${moved} of a classifier that was solved`);
    assert.ok(guesses.filter((guess) => guess === "right").length >= 5, guesses.join(", "));
    assert.equal(heat, 1);
    assert.ok(longest <= 50, `a task of ${longest} ms on the page's thread`);
    assert.deepEqual(events, ["preparing", "plan", "saved", "step", "evaluation"]);
    assert.deepEqual([foreign, problems], [[], []]);
  },
);

test(
  "a run goes on after a reload, in another page and in Node, to the bits of one that was not stopped",
  browser.needed,
  async () => {
    const { page } = await open();
    const sums = `const sum = async (blob) => (await base64(blob)).length + ":" + Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()))).join();`;
    const whole = await ask<{
      sum: string;
      logits: number[];
      plain: number[];
      plainLogits: number[];
      zip: string;
      safetensors: string;
      onnx: string;
      pictures: string[];
    }>(
      page,
      `${sums}
     const { run } = await riffle.train({ name: "whole", pictures: await files(48, 64), ...${SHORT} });
     const stop = new AbortController();
     const onEvent = (event) => event.step === 3 && stop.abort();
     const cut = await riffle.train({ name: "cut/../näme", pictures: await files(48, 64), ...${SHORT}, signal: stop.signal, onEvent });
     if (cut.step < 3 || cut.step > 35 || !cut.stopped) throw new Error("it stopped at " + cut.step);
     const some = await files(3, 90, 5);
     const seen = await run.predict(some.map(({ picture }) => picture), { logits: true });
     const pixels = shapes(1, 32, 11)[0].canvas.getContext("2d").getImageData(0, 0, 32, 32);
     return {
       sum: await sum(await run.exportAs("safetensors")),
       logits: seen.flatMap(({ logits }) => [...logits]),
       plain: Array.from({ length: 3 * 32 * 32 }, (_, i) => pixels.data[(i % 1024) * 4 + Math.floor(i / 1024)]),
       plainLogits: [...(await run.predict([pixels], { logits: true }))[0].logits],
       zip: await base64(await cut.run.exportAs("run")),
       safetensors: await base64(await run.exportAs("safetensors")),
       onnx: await base64(await run.exportAs("onnx")),
       pictures: await Promise.all(some.map(({ picture }) => base64(picture))),
     };`,
    );
    await page.reload();
    await page.waitForFunction("window.isReady");
    const resumed = await ask<{ names: string[]; sum: string; imported: string; step: number }>(
      page,
      `${sums}
     const cut = await riffle.openRun("cut/../näme");
     const copy = await riffle.importRun(await cut.exportAs("run"), "copy");
     const { run, step } = await cut.resume({ threads: 1 });
     const other = await copy.resume();
     return {
       names: (await riffle.listRuns()).map(({ name }) => name).sort(),
       sum: await sum(await run.exportAs("safetensors")),
       imported: await sum(await other.run.exportAs("safetensors")),
       step,
     };`,
    );
    assert.deepEqual(resumed.names, ["copy", "cut/../näme", "whole"]);
    assert.equal(resumed.step, 36);
    assert.equal(resumed.sum, whole.sum);
    assert.equal(resumed.imported, whole.sum);

    // A page without shared memory.
    const plain = await open({});
    const alone = await ask<{ sum: string; threads: number }>(
      plain.page,
      `${sums}
     let threads;
     const { run } = await riffle.train({
       name: "alone", pictures: await files(48, 64), ...${SHORT},
       onEvent: (event) => { if (event.event === "plan") threads = event.threads + (event.isolated ? 100 : 0); },
     });
     return { sum: await sum(await run.exportAs("safetensors")), threads };`,
    );
    assert.deepEqual(alone, { sum: whole.sum, threads: 1 });

    const weights = join(folder, "whole.safetensors");
    writeFileSync(weights, Buffer.from(whole.safetensors, "base64"));
    const files = whole.pictures.map((text, i) => {
      const file = join(folder, `${i}.png`);
      writeFileSync(file, Buffer.from(text, "base64"));
      return file;
    });
    assert.deepEqual(await logitsOf(weights, files), whole.logits);

    const model = decodeOnnx(Buffer.from(whole.onnx, "base64"), "whole.onnx");
    // Of a picture that is seen as it is: no filter stands between it and the graph.
    const [out] = runOnnx(
      model,
      new Map([["image", { shape: [1, 3, 32, 32], data: Float64Array.from(whole.plain) }]]),
    ).values();
    whole.plainLogits.forEach((logit, i) => assert.ok(Math.abs(logit - (out?.data[i] ?? NaN)) < 1e-3));

    const members = unzipSync(Buffer.from(whole.zip, "base64"));
    for (const [name, content] of Object.entries(members)) {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      writeFileSync(join(folder, name), content);
    }
    const run = join(folder, "cut-..-näme");
    const result = await train({ resume: run, data_dir: join(run, "data"), backend: "wasm", report: false });
    assert.equal(result.step, 36);
    assert.deepEqual(await logitsOf(run, files), whole.logits);
    const scores = await evaluate(run, { backend: "wasm" });
    assert.equal(scores.images, 9);
  },
);
