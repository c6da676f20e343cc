/**
 * The pages of Riffle opened in a browser, as people see them: a run's report, the dashboard, the page of serve. Nothing is
 * fetched from elsewhere, nothing goes wrong in the console, pictures appear, hover and sorting work, in light, dark and print.
 */

import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { pathToFileURL } from "node:url";

import type { Page } from "playwright-core";

import { openPredictor, type Predictor } from "../../src/inference/predict.js";
import { startDashboard } from "../../src/serve/dashboard.js";
import { Metrics } from "../../src/serve/metrics.js";
import type { RunningServer } from "../../src/serve/route-server.js";
import { startServer } from "../../src/serve/server.js";
import { train } from "../../src/train/trainer.js";
import { useBrowser, type Visit } from "../support/browser.js";
import { evaluationLine, startLine, stepLine, textOf } from "../support/log-lines.js";
import { drawnPictures, writePictures } from "../support/one-step-run.js";
import { scratch, tinySettings, writeTinySet } from "../support/tiny-run.js";

const folder = scratch();
const run = join(folder, "runs", "trained");
const browser = useBrowser();
const servers: RunningServer[] = [];
let predictor: Predictor | undefined;

before(async () => {
  if (browser.needed.skip !== false) return;
  mkdirSync(join(folder, "runs"));
  await train({ ...tinySettings(writeTinySet(folder), run), report: true });
});
after(async () => {
  await Promise.all(servers.map((server) => server.close()));
  await predictor?.close();
});

/** A4 between its margins, at 96 pixels an inch. */
const PAPER = { width: 720, height: 1000 };

const loopback = { host: "127.0.0.1", port: 0, names: [], token: undefined } as const;

async function dashboardOf(...runs: readonly string[]): Promise<string> {
  const server = await startDashboard({ ...loopback, find: () => runs });
  servers.push(server);
  return server.url;
}

/** A run by its log alone. */
function told(name: string, ...lines: readonly object[]): string {
  const path = join(folder, "runs", name);
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, "events.jsonl"), textOf(...lines));
  // As a training in this process leaves it.
  const owner = { pid: process.pid, host: hostname(), started: "" };
  writeFileSync(join(path, ".lock"), `${JSON.stringify(owner)}\n`);
  return path;
}

/** Names that a page must not act upon. */
const evil = `<img src=x onerror="document.title='owned'">`;

function course(last: number, gain: number): object[] {
  return Array.from({ length: last }, (_, i) => i + 1).flatMap((step) => [
    { ...stepLine(step, 3 * Math.exp(-gain * step)), top1: 1 - Math.exp(-gain * step) },
    ...(step % 4 === 0 ? [evaluationLine(step, 0.95 - Math.exp(-gain * step), true)] : []),
  ]);
}

/** Whether nothing is wider than the window. */
async function fits({ page }: Visit): Promise<boolean> {
  return (await page.evaluate("document.documentElement.scrollWidth <= innerWidth")) === true;
}

/** Where an element's middle is seen, after scrolling to it. */
async function middle({ page }: Visit, selector: string): Promise<{ x: number; y: number }> {
  const found = page.locator(selector).first();
  await found.scrollIntoViewIfNeeded();
  const box = await found.boundingBox();
  assert.ok(box, selector);
  return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
}

function column({ page }: Visit, table: string, index: number): Promise<unknown> {
  return page.evaluate(
    `[...document.querySelector(${JSON.stringify(table)}).tBodies[0].rows].map((row) => row.cells[${index}].textContent)`,
  );
}

/** Waits in here, as the page's policy lets nothing be evaluated in it again and again. */
async function until(page: Page, expression: string): Promise<void> {
  for (const began = performance.now(); (await page.evaluate(expression)) !== true;) {
    assert.ok(performance.now() - began < 15_000, `it did not come to hold: ${expression}`);
    await page.waitForTimeout(20);
  }
}

function assertClean({ foreign, problems }: Visit): void {
  assert.deepEqual([foreign, problems], [[], []]);
}

suite("the report in a browser", () => {
  const address = (): string => pathToFileURL(join(run, "report.html")).href;

  test("shows its pictures, says what is under the pointer, sorts", browser.needed, async () => {
    const visit = await browser.open(address());
    const { page } = visit;
    assert.equal(await page.evaluate("document.images.length"), 12);
    const hasAll = `[...document.images].every((image) => image.complete && image.naturalWidth > 0)`;
    for (const image of await page.locator("img").all()) await image.scrollIntoViewIfNeeded();
    await until(page, hasAll);

    assert.equal(await page.isVisible(".says"), false);
    const { x, y } = await middle(visit, ".chart g.strip rect");
    await page.mouse.move(x, y);
    await page.locator(".says").waitFor({ state: "visible" });
    assert.match((await page.textContent(".says")) ?? "", /training, epoch [\d.]+, step \d+: loss [\d.]+/);
    await visit.screenshot("report-light");
    await page.mouse.move(1, 1);
    assert.equal(await page.isVisible(".says"), false);

    const table = "table.sortable";
    const head = page.locator(`${table} th button`);
    const rising = (await column(visit, table, 0)) as string[];
    assert.equal(rising.length, 3);
    await head.nth(0).click();
    assert.deepEqual(await column(visit, table, 0), [...rising].sort());
    await head.nth(0).click();
    assert.deepEqual(await column(visit, table, 0), [...rising].sort().reverse());
    await head.nth(5).click();
    const named = ((await column(visit, table, 5)) as string[]).map(Number);
    assert.deepEqual(
      named,
      [...named].sort((a, b) => b - a),
    );
    assertClean(visit);
  });

  test("is as wide as a telephone, dark or on paper where the reader is", browser.needed, async () => {
    const dark = await browser.open(address(), { scheme: "dark", width: 400 });
    assert.ok(await fits(dark));
    const cut = `[...document.querySelectorAll(".wide")].filter((each) => each.scrollWidth > each.clientWidth).length`;
    assert.equal(await dark.page.evaluate(cut), 0, "no table has columns beyond the edge");
    const paper = (): Promise<unknown> =>
      dark.page.evaluate("getComputedStyle(document.body).backgroundColor");
    assert.equal(await paper(), "rgb(21, 24, 28)");
    await dark.screenshot("report-dark-400");
    await dark.page.setViewportSize(PAPER);
    await dark.look({ scheme: "dark", media: "print" });
    assert.equal(await paper(), "rgb(255, 255, 255)");
    await dark.screenshot("report-print");
    assertClean(dark);
  });
});

suite("the dashboard in a browser", () => {
  test("follows a run as it goes on, without being loaded again", browser.needed, async () => {
    const live = told("live", startLine(), ...course(8, 0.1), { event: "warning", what: evil });
    const url = await dashboardOf(live);
    const visit = await browser.open(url);
    const { page } = visit;
    assert.match((await page.textContent(".figures")) ?? "", /of 40 steps, epoch 4 of 20/);
    assert.match((await page.textContent(".remark")) ?? "", /onerror/);
    // The other way round than it comes.
    for (let i = 0; i < 2; i++) await page.locator("#evaluations th button").first().click();
    await page.evaluate("(window.stays = true)");
    appendFileSync(join(live, "events.jsonl"), textOf(...course(12, 0.1).slice(-5)));
    await until(page, `document.querySelector(".figures").textContent.includes("epoch 6 of 20")`);
    assert.equal(await page.evaluate("window.stays"), true);
    assert.deepEqual(await column(visit, "#evaluations table", 0), ["2", "4", "6"], "sorted as it was");
    assert.notEqual(await page.title(), "owned");

    const { x, y } = await middle(visit, "#curves g.strip rect");
    await page.mouse.move(x, y);
    assert.match((await page.textContent(".says")) ?? "", /training, epoch 0.5, step 1: loss/);
    await visit.screenshot("dashboard-light");
    await visit.look({ scheme: "dark" });
    await visit.screenshot("dashboard-dark");
    await visit.page.setViewportSize(PAPER);
    await visit.look({ scheme: "dark", media: "print" });
    await visit.screenshot("dashboard-print");

    await visit.look({ scheme: "light", media: "screen" });
    appendFileSync(
      join(live, "events.jsonl"),
      textOf({ event: "end", step: 40, epoch: 20, images_per_second: 9 }),
    );
    await page.waitForSelector(".badge.ended");
    await servers.at(-1)?.close();
    await page.waitForSelector("#contact.lost");
    assert.match((await page.textContent("#contact")) ?? "", /does not answer.*What stands here is of/);
    assert.deepEqual(visit.foreign, []);
    assert.ok(
      visit.problems.every((problem) => problem.includes("ERR_CONNECTION_REFUSED")),
      String(visit.problems),
    );
  });

  test("compares runs, and leaves one out when its name is pressed", browser.needed, async () => {
    const settings = (lr: number): object => ({
      settings: { lr, batch_size: 4, schedule: "cosine", weight_decay: 0, data_dir: "photos", seed: 1 },
    });
    const runs = [
      run,
      told("slow", startLine(settings(0.1)), ...course(20, 0.05)),
      told(`${evil.replaceAll("/", "")}`, startLine(settings(0.2)), ...course(30, 0.1)),
      told("failed", startLine(settings(9)), ...course(6, 0.02), {
        event: "failed",
        step: 6,
        epoch: 3,
        code: 5,
        what: "the loss is not finite",
      }),
    ];
    const url = await dashboardOf(...runs);
    const visit = await browser.open(url, { width: 1280 });
    const { page } = visit;
    assert.equal(await page.textContent("h1"), "4 runs");
    assert.equal(await page.evaluate("document.images.length"), 0);
    const drawn = (): Promise<number> => page.locator("#curves path.run-2").count();
    assert.equal(await drawn(), 6);
    await page.mouse.move(
      ...(Object.values(await middle(visit, "#curves g.strip:nth-of-type(30) rect")) as [number, number]),
    );
    assert.match((await page.textContent(".says")) ?? "", /slow.*: loss/);
    await visit.screenshot("dashboard-several-light");
    await page.locator("#now .toggle.run-2").click();
    await until(page, `document.querySelectorAll("#curves path.run-2").length === 0`);
    assert.match(page.url(), /\?hide=2$/);
    assert.equal(await page.getAttribute("#now .toggle.run-2", "aria-pressed"), "false");
    await page.reload();
    assert.equal(await drawn(), 0);
    await page.locator("#now .toggle.run-2").click();
    await until(page, `document.querySelectorAll("#curves path.run-2").length > 0`);
    await page.locator("#now th button").nth(9).click();
    const best = ((await column(visit, "#now table", 9)) as string[]).map(Number.parseFloat);
    assert.deepEqual(
      best.slice(0, 3),
      best.slice(0, 3).sort((a, b) => b - a),
    );
    assertClean(visit);
    const small = await browser.open(url, { width: 400, scheme: "dark" });
    assert.ok(await fits(small));
    await small.screenshot("dashboard-several-dark-400");
    await small.page.setViewportSize(PAPER);
    await small.look({ media: "print" });
    await small.screenshot("dashboard-several-print");
    assertClean(small);
  });
});

suite("the page of serve in a browser", () => {
  test("says what is in a picture that is chosen", browser.needed, async () => {
    predictor = await openPredictor(run, { eval_batch_size: 2 });
    const limits = { maxBody: 2 ** 20, maxPixels: 1e6, timeout: 20_000, maxQueue: 8 };
    const server = await startServer(predictor, { ...loopback, ...limits, top: 3, metrics: new Metrics() });
    servers.push(server);
    const visit = await browser.open(server.url);
    const { page } = visit;
    await until(page, `document.getElementById("network").textContent.includes("3 classes")`);
    const pictures = writePictures(folder, await drawnPictures(2));
    await page.setInputFiles("#files", pictures);
    await until(page, `document.querySelectorAll("#results ol li").length === 6`);
    await until(page, `[...document.images].every((image) => image.naturalWidth > 0)`);
    const shares = (await page.locator("#results ol li span:last-child").allTextContents()).filter(Boolean);
    assert.ok(
      shares.every((share) => /^[\d.]+ %$/.test(share)),
      String(shares),
    );
    await visit.screenshot("serve-light");
    await visit.look({ scheme: "dark" });
    await visit.screenshot("serve-dark");
    await visit.page.setViewportSize(PAPER);
    await visit.look({ scheme: "light", media: "print" });
    await visit.screenshot("serve-print");
    assertClean(visit);
    const small = await browser.open(server.url, { width: 400, scheme: "dark" });
    assert.ok(await fits(small));
    assertClean(small);
  });
});
