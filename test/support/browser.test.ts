/** The browser of other tests sees what a page wants from elsewhere and what goes wrong in it, or those tests prove nothing. */

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { pathToFileURL } from "node:url";

import { useBrowser } from "./browser.js";
import { serveFolder } from "./static-server.js";
import { scratch } from "./tiny-run.js";

const folder = scratch();
const browser = useBrowser();

suite("the browser of the tests", () => {
  test("tells what is fetched from elsewhere, by a page and by its workers", browser.needed, async () => {
    const site = join(folder, "site");
    mkdirSync(site);
    const worker = `fetch("http://worker.example/c").catch(() => undefined).then(() => postMessage("done"));`;
    writeFileSync(join(site, "worker.js"), worker);
    writeFileSync(
      join(site, "index.html"),
      `<link rel="icon" href="data:,"><link rel="stylesheet" href="https://fonts.example/a.css"><img src="own.png">
      <script>
        new WebSocket("ws://socket.example/b").onerror = () => {};
        new Worker("worker.js").onmessage = () => (document.title = "worker done");
        setTimeout(() => { throw new Error("nobody catches me"); });
      </script>`,
    );
    const { page, foreign, problems } = await browser.open(await serveFolder(site, "/below/"));
    await page.waitForFunction(`document.title === "worker done"`);
    assert.deepEqual([...foreign].sort(), [
      "http://worker.example/c",
      "https://fonts.example/a.css",
      "ws://socket.example/b",
    ]);
    const text = problems.join("\n");
    assert.match(text, /nobody catches me/);
    assert.match(text, /404/, "own.png is not there");
  });

  test("shows a file in light and dark, on paper and on a screen", browser.needed, async () => {
    const file = join(folder, "page.html");
    writeFileSync(
      file,
      `<style>
        p::before { content: "light"; } p::after { content: "screen"; }
        @media (prefers-color-scheme: dark) { p::before { content: "dark"; } }
        @media print { p::after { content: "print"; } }
      </style><p>`,
    );
    const { page, foreign, problems, look } = await browser.open(pathToFileURL(file).href, {
      scheme: "dark",
      width: 400,
    });
    const seen = (): Promise<unknown> =>
      page.evaluate(`["::before", "::after"].map((at) => getComputedStyle(document.querySelector("p"), at).content)
        .concat(innerWidth)`);
    assert.deepEqual(await seen(), ['"dark"', '"screen"', 400]);
    await look({ scheme: "light", media: "print" });
    assert.deepEqual(await seen(), ['"light"', '"print"', 400]);
    assert.deepEqual([foreign, problems], [[], []]);
  });
});
