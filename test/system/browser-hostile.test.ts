/** Pictures that are none, a tab that is closed, a disk that is full: what a page is told, and what stays. In headless Chromium. */

import assert from "node:assert/strict";
import { test } from "node:test";

import type { Page } from "playwright-core";

import { useBrowser } from "../support/browser.js";
import { repository } from "../support/paths.js";
import { ISOLATED, serveFolder } from "../support/static-server.js";

const browser = useBrowser();

async function open() {
  const address = `${await serveFolder(repository, "/", ISOLATED)}test/support/training-page.html`;
  const visit = await browser.open(address);
  await visit.page.waitForFunction("window.isReady");
  return { ...visit, address };
}

/** The value of an asynchronous block in the page. */
function ask<T>(page: Page, block: string): Promise<T> {
  return page.evaluate<T>(`(async () => {${block}})()`);
}

interface Outcome {
  readonly name?: string;
  readonly message?: string;
  readonly problem?: { readonly what: string; readonly safe?: string };
}

/** Six steps of small pictures. */
const SMALL = `imageSize: 32, batchSize: 4, epochs: 3, validation: []`;

test(
  "what is no picture is left out by name, and what cannot be trained is refused",
  browser.needed,
  async () => {
    const { page, problems } = await open();
    const { told, outcomes } = await ask<{ told: string[]; outcomes: Record<string, Outcome> }>(
      page,
      `const good = await files(12, 40);
     const png = (width, height, length = 64) => {
       const bytes = new Uint8Array(length);
       bytes.set([137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82]);
       new DataView(bytes.buffer).setUint32(16, width);
       new DataView(bytes.buffer).setUint32(20, height);
       bytes.set([8, 2], 24);
       return bytes;
     };
     const broken = new Uint8Array(await good[0].picture.arrayBuffer());
     broken.fill(7, 60);
     // A pixel, twice: 1 x 1, with a second frame and the word that it repeats.
     const gif = Uint8Array.from([..."GIF89a"].map((c) => c.charCodeAt(0)).concat([1, 0, 1, 0, 128, 0, 0, 255, 0, 0, 0, 0, 0,
       33, 255, 11], [..."NETSCAPE2.0"].map((c) => c.charCodeAt(0)), [3, 1, 0, 0, 0],
       [44, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 68, 1, 0], [44, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 68, 1, 0, 59]));
     const bad = {
       "huge.png": png(60000, 60000),
       "large.png": png(9000, 9000, 300000),
       "broken.png": broken,
       "text.png": "no picture at all",
       "empty.png": "",
       "page.html": "<!doctype html>",
       "frames.gif": gif,
     };
     const told = [];
     const onEvent = (event) => {
       if (event.event === "left out") told.push(event.name + ": " + event.problem.what);
       if (event.event === "note") told.push(event.what);
     };
     const hostile = Object.entries(bad).map(([name, bytes]) => ({ picture: new File([bytes], name), label: "disc" }));
     const options = { pictures: [...good, ...hostile], ${SMALL} };
     const run = (more) => outcome(() => riffle.train({ name: "hostile", replace: true, ...options, ...more }));
     const outcomes = {
       trained: await outcome(async () => (await riffle.train({ name: "hostile", ...options, onEvent })).step),
       again: await outcome(() => riffle.train({ name: "hostile", ...options })),
       gone: await run({ pictures: [...good, { picture: new Blob(["x"]), label: "other" }] }),
       notWeights: await run({ from: new Blob(["not weights"]) }),
       otherWeights: await run({ from: new Blob([Uint8Array.of(12, 0, 0, 0, 0, 0, 0, 0), '{"a":{"dtype'], { type: "x" }) }),
       notRun: await outcome(() => riffle.importRun(new File(["PK"], "a.zip"))),
       busy: await outcome(async () => {
         const both = await Promise.all([1, 2].map(() => outcome(() => riffle.train({ name: "busy", pictures: good, ${SMALL} }))));
         await riffle.openRun("busy").then((run) => run.remove());
         return both.map(({ problem }) => problem?.what ?? "trained").sort();
       }),
       noRun: await outcome(() => riffle.openRun("nothing")),
       answers: await outcome(() => riffle.predict("hostile", [good[0].picture, new File(["x"], "x.png")])),
       odd: await outcome(() => riffle.predict("hostile", [42])),
       kept: await outcome(async () => (await riffle.listRuns()).map(({ name, step }) => name + " " + step)),
     };
     outcomes.answers = { answer: outcomes.answers.answer.map((one) => one.problem?.what ?? one.top.length) };
     return { told, outcomes };`,
    );
    const answers = Object.fromEntries(
      Object.entries(outcomes).map(([name, { problem, ...rest }]) => [
        name,
        "answer" in rest ? rest.answer : `${rest.name}: ${problem?.what}`,
      ]),
    );
    assert.deepEqual(told, [
      "huge.png: 60000 x 60000 pixels are more than is decoded",
      "large.png: 9000 x 9000 pixels are more than is decoded in a page",
      "broken.png: this browser cannot read it as a picture",
      "text.png: a text file, not a picture; JPEG, PNG, WebP, GIF, TIFF and AVIF are read",
      "empty.png: an empty file: 0 bytes",
      "page.html: a text file, not a picture; JPEG, PNG, WebP, GIF, TIFF and AVIF are read",
      "frames.gif: it is animated: its first frame is used",
    ]);
    assert.deepEqual(answers, {
      trained: 9,
      again: "UsageError: there is a run of this name already",
      gone: 'DataError: none of the pictures of class "other" can be trained on',
      notWeights: "CheckpointError: is no file of weights that is read here",
      otherWeights:
        "CheckpointError: the weights cannot be read: a string does not end, or holds an escape or character JSON forbids",
      notRun: "CheckpointError: is no run: not readable as a zip file: there is no directory",
      busy: ["the run is being trained or written already", "trained"],
      noRun: "UsageError: there is no such run",
      answers: [3, "a text file, not a picture; JPEG, PNG, WebP, GIF, TIFF and AVIF are read"],
      odd: "DataError: is no picture that a page has",
      kept: ["hostile 9"],
    });
    assert.deepEqual(problems, []);
  },
);

test(
  "a tab that is closed while it trains and saves loses nothing that was said to be saved",
  browser.needed,
  async () => {
    const { page, address } = await open();
    const context = page.context();
    let at = page;
    let said = 0;
    let pause = 0;
    await context.exposeFunction("hear", (step: number) => (said = step));
    await context.exposeFunction("leave", () => setTimeout(() => void at.close(), pause));
    // The last one is left as soon as it has heard of a save.
    for (const [when, milliseconds] of [
      ["evaluation", 0],
      ["evaluation", 40],
      ["saved", 0],
    ] as const) {
      pause = milliseconds;
      const isFirst = at === page;
      const closed = at.waitForEvent("close");
      // Each time best weights are found all is saved; the page is left while that goes on.
      const training = ask(
        at,
        `const onEvent = ({ event, step }) => {
           if (event === "saved") hear(step);
           if (event === "${when}" && step > 0) leave();
         };
         const validation = await files(9, 40, 99);
         const options = { validation, imageSize: 32, batchSize: 4, epochs: 60, learningRate: 0.01, onEvent };
         if (${isFirst}) await riffle.train({ name: "tab", pictures: await files(24, 40), ...options });
         else await (await riffle.openRun("tab")).resume({ onEvent });`,
      );
      await assert.rejects(training, /closed/);
      await closed;
      at = await context.newPage();
      await at.goto(address);
      await at.waitForFunction("window.isReady");
      const [step, guesses] = await ask<[number, number]>(
        at,
        `const run = await riffle.openRun("tab");
       const [{ top }] = await run.predict([(await files(1, 40))[0].picture]);
       run.close();
       return [run.step, top.length];`,
      );
      assert.ok(step >= said, `step ${step} stands, ${said} was said to be saved`);
      assert.equal(guesses, 3);
    }
    assert.ok(said > 0);
  },
);

test(
  "without room a save is told and the last good checkpoint stays; with room again the run goes on",
  browser.needed,
  async () => {
    const { page, address } = await open();
    const session = await page.context().newCDPSession(page);
    const { origin } = new URL(address);
    const quota = (quotaSize?: number): Promise<unknown> =>
      session.send("Storage.overrideQuotaForOrigin", {
        origin,
        ...(quotaSize === undefined ? {} : { quotaSize }),
      });
    await page.exposeFunction("fill", async () => {
      const { usage } = await session.send("Storage.getUsageAndQuota", { origin });
      await quota(Math.ceil(usage) + 100_000);
    });
    const { full, step, standing, guesses } = await ask<{
      full: Outcome;
      step: number;
      standing: number;
      guesses: number;
    }>(
      page,
      `const stop = new AbortController();
     const onEvent = async ({ event, step }) => {
       if (event === "step" && step === 3) { await fill(); stop.abort(); }
     };
     const full = await outcome(() => riffle.train({ name: "full", pictures: pictures, ${SMALL}, signal: stop.signal, onEvent }));
     const run = await riffle.openRun("full");
     const [{ top }] = await run.predict([pictures[0].picture]);
     return { full, step: run.step, standing: run.steps, guesses: top.length };`.replace(
        "const stop",
        "const pictures = await files(12, 40); const stop",
      ),
    );
    assert.equal(
      full.problem?.what,
      "the browser has no room left for this page's files",
      JSON.stringify(full),
    );
    assert.equal(full.problem?.safe, "The run stands as it was saved at step 0");
    assert.deepEqual([step, standing, guesses], [0, 9, 3]);
    const refused = await ask<Outcome>(
      page,
      `const pictures = await files(12, 40); return outcome(() => riffle.train({ name: "more", pictures, ${SMALL} }));`,
    );
    // By its own estimate, or when it writes.
    assert.match(refused.problem?.what ?? "", /^the browser has no room left for/);
    await quota();
    const end = await ask<[number, string[]]>(
      page,
      `const { step } = await (await riffle.openRun("full")).resume();
     return [step, (await riffle.listRuns()).map(({ name }) => name)];`,
    );
    assert.deepEqual(end, [9, ["full"]]);
  },
);
