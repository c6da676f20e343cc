/**
 * The page to teach with, as `riffle serve --teach` gives it to a browser: a network learns drawn shapes, is stopped, found again
 * after a reload and goes on; the camera; what is downloaded; and that nothing is asked of anybody else.
 */

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import { predict, type Prediction } from "../../src/inference/predict.js";
import { useBrowser, type Visit } from "../support/browser.js";
import { serve } from "../support/serve-child.js";
import { scratch } from "../support/tiny-run.js";

const folder = scratch();
const browser = useBrowser();

/** Milliseconds; the training alone may take 60,000. */
const LONG = 60_000;

/** A name that is markup, wherever it is shown. */
const NAME = `<b title="x">star`;

/** Its header alone: of 900 million pixels. */
function hugePng(): Buffer {
  const header = Buffer.from("89504e470d0a1a0a0000000d49484452000000000000000008020000000000000000", "hex");
  header.writeUInt32BE(30_000, 16);
  header.writeUInt32BE(30_000, 20);
  return header;
}

async function press({ page }: Visit, name: string): Promise<void> {
  await page.getByRole("button", { name, exact: true }).click();
}

async function download({ page }: Visit, what: string): Promise<string> {
  const [file] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: `Download ${what} of shapes` }).click(),
  ]);
  const path = join(folder, file.suggestedFilename());
  await file.saveAs(path);
  return path;
}

/** The processor time of the page's longest task while `work` is done: what a busy machine adds to it is not the page's. */
async function longestTask({ page }: Visit, work: () => Promise<void>): Promise<number> {
  const chromium = page.context().browser();
  assert.ok(chromium !== null);
  await chromium.startTracing(page, { categories: ["toplevel"] });
  await work();
  interface TraceEvent {
    readonly [key: string]: unknown;
    readonly name: string;
    readonly pid: number;
    readonly tid: number;
    readonly tdur?: number;
    readonly args: { readonly name?: string };
  }
  const { traceEvents } = JSON.parse((await chromium.stopTracing()).toString("utf8")) as {
    traceEvents: TraceEvent[];
  };
  const main = traceEvents.find(({ name, args }) => name === "thread_name" && args.name === "CrRendererMain");
  const tasks = traceEvents.filter(
    ({ pid, tid, tdur }) => pid === main?.pid && tid === main.tid && (tdur ?? 0) > 0,
  );
  assert.ok(tasks.length > 100, `${tasks.length} tasks seen`);
  return Math.max(...tasks.map(({ tdur = 0 }) => tdur)) / 1000;
}

suite("the page to teach with", () => {
  test(
    "learns drawn shapes, goes on after a reload, and gives them back as files",
    browser.needed,
    async () => {
      const { url, child, ended } = await serve("--teach", "--json");
      const visit = await browser.open(`${url}/`);
      const { page, foreign, problems } = visit;
      await press(visit, "Train");
      assert.match(
        (await page.textContent("#train-problem")) ?? "",
        /nothing to tell apart yet\. Give pictures/,
      );

      await press(visit, "Draw shapes for me");
      await page.waitForSelector("#draw:enabled", { timeout: LONG });
      assert.deepEqual(await page.locator(".count").allInnerTexts(), Array<string>(4).fill("100 pictures"));
      await page.getByRole("textbox", { name: "Name of the class" }).nth(2).fill(NAME);
      await page
        .locator(".class input[multiple]")
        .first()
        .setInputFiles([
          { name: "text.png", mimeType: "image/png", buffer: Buffer.from("no picture") },
          { name: "huge.png", mimeType: "image/png", buffer: hugePng() },
        ]);
      const refusals = await page.locator(".class .problem:not([hidden])").innerText();
      assert.match(refusals, /^Left out:\ntext\.png: .*\n[^]*huge\.png: 30000 x 30000 pixels are more/);
      await page.fill("#run-name", "shapes");
      await page.fill("#epochs", "20");

      const began = performance.now();
      const longest = await longestTask(visit, async () => {
        await press(visit, "Train");
        await page.locator("#examples article").first().waitFor({ timeout: LONG });
      });
      assert.ok(longest <= 50, `a task took ${longest} ms of processor time`);
      await press(visit, "Stop");
      await page.getByText(/^Stopped after \d+ steps; all is saved/).waitFor({ timeout: LONG });
      const trained = performance.now() - began;
      assert.equal(await page.locator("#notes").isVisible(), false, "no picture was left out");

      await page.reload();
      const run = page.getByRole("group", { name: "shapes", exact: true });
      assert.match((await run.textContent()) ?? "", /of 200 steps, <b title="x">star, dots, ring, stripes/);
      const again = performance.now();
      await press(visit, "Go on with shapes");
      const done = await page.getByText(/^Done, /).textContent({ timeout: LONG });
      const seconds = (trained + performance.now() - again) / 1000;
      assert.ok(seconds < 60, `${seconds} s`);
      const [, score] = /^Done, ([\d.]+) % of the held-out/.exec(done ?? "") ?? [];
      assert.ok(Number(score) >= 90, done ?? "");
      assert.deepEqual(await page.locator(".count").allInnerTexts(), Array<string>(4).fill("100 pictures"));

      const photo = join(folder, "photo.png");
      const drawn = await page.evaluate(`import("/drawn.js").then(async ({ drawShape }) => {
      const bytes = new Uint8Array(await (await drawShape("star", 500)).arrayBuffer());
      return btoa(String.fromCharCode(...bytes));
    })`);
      const buffer = Buffer.from(drawn as string, "base64");
      await page.setInputFiles("#try-files", [
        { name: "star.png", mimeType: "image/png", buffer },
        { name: "note.png", mimeType: "image/png", buffer: Buffer.from("no picture") },
      ]);
      const cards = page.locator("#results article");
      await cards.nth(1).locator("li").first().waitFor();
      const [refused = "", seen = ""] = await cards.allInnerTexts();
      assert.match(refused, /note\.png/);
      assert.match(refused, /picture/);
      assert.match(seen, /^star\.png\n+<b title="x">star\n[\d.]+ %/);

      writeFileSync(photo, buffer);
      const [likeliest, share] = seen.split(/\n+/).slice(1);
      const safetensors = await download(visit, "safetensors");
      const [prediction] = (await predict(safetensors, [photo])) as [Prediction];
      assert.equal(prediction.top[0]?.name, likeliest);
      assert.equal(`${(100 * (prediction.top[0]?.probability ?? 0)).toFixed(1)} %`, share);
      assert.ok(readFileSync(await download(visit, "ONNX")).length > 1e6);

      await page.check("#looks");
      await page.locator("#examples canvas[width='64']").last().waitFor();
      await visit.screenshot("teach-light");
      await visit.look({ scheme: "dark" });
      await visit.screenshot("teach-dark");
      assert.deepEqual([foreign, problems], [[], []]);
      child.kill("SIGTERM");
      assert.equal(await ended, 0);
    },
  );

  test(
    "takes pictures while a button is held, and shows what the camera is taken for and where it looks",
    browser.needed,
    async () => {
      const { url } = await serve("--teach", "--json");
      const visit = await browser.open(`${url}/`, { width: 375, scheme: "dark" });
      const { page, foreign, problems } = visit;
      await press(visit, "Use the camera");
      for (const [i, name] of ["one", "two"].entries()) {
        const card = page.locator(".class").nth(i);
        await card.locator("input").first().fill(name);
        const hold = card.getByRole("button", { name: "Hold to take" });
        if (i === 0) {
          await hold.hover();
          await page.mouse.down();
        } else {
          await hold.focus();
          await page.keyboard.down(" ");
        }
        await card.getByText(/^\d\d pictures/).waitFor();
        if (i === 0) await page.mouse.up();
        else await page.keyboard.up(" ");
      }
      await page.selectOption("#image-size", "32");
      await page.fill("#epochs", "2");
      await press(visit, "Train");
      await page.getByText(/^Done/).waitFor({ timeout: LONG });
      await page.check("#heat");
      await page.check("#live");
      await page.locator("#seen li").first().waitFor();
      assert.match((await page.locator("#seen").innerText()) ?? "", /^(one|two)\n[\d.]+ %\n/);
      assert.match(
        (await page.locator("#seen canvas").getAttribute("aria-label")) ?? "",
        /^Where it looks for (one|two)/,
      );
      await visit.screenshot("teach-camera-narrow-dark");
      assert.equal(await page.evaluate("document.documentElement.scrollWidth"), 375);
      await press(visit, "Camera off");
      await page.locator("#seen").waitFor({ state: "hidden" });
      assert.deepEqual([foreign, problems], [[], []]);
    },
  );
});
