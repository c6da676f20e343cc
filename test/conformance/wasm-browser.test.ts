/** A page trains to the bits of SSE2, on the threads that it may have and on one where it may have none. */

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { test } from "node:test";

import { nativeBackend } from "../../src/backends/native/index.js";
import { nodeWasmBackend } from "../../src/backends/wasm/node.js";
import { isBuilt } from "../../src/core/addon.js";
import { useBrowser } from "../support/browser.js";
import { repository } from "../support/paths.js";
import { twelveSteps } from "../support/twelve-steps.js";

const browser = useBrowser();

const pages: Readonly<Record<string, string>> = {
  "/": `<!doctype html><link rel="icon" href="data:,"><script>
    const worker = new Worker("/engine.js", { type: "module" });
    window.answer = new Promise((resolve) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = ({ message }) => resolve({ failure: message });
    });
  </script>`,
  "/engine.js": `
    import { wasmBackend } from "/dist/src/backends/wasm/index.js";
    import { unshared } from "/dist/src/core/wasm-module.js";
    import { twelveSteps } from "/dist/test/support/twelve-steps.js";
    const bytes = new Uint8Array(await (await fetch("/native/wasm/riffle.wasm")).arrayBuffer());
    const isShared = self.crossOriginIsolated;
    let threads = 1;
    const host = {
      module: await WebAssembly.compile(isShared ? bytes : unshared(bytes)),
      isShared,
      cores: 2,
      startThread(start) {
        threads++;
        const worker = new Worker("/thread.js", { type: "module" });
        worker.postMessage(start);
        return () => undefined;
      },
      breathe: () => new Promise((resolve) => setTimeout(resolve)),
    };
    try {
      const numbers = await twelveSteps(wasmBackend(host), { threads: 0 });
      postMessage({ threads, numbers });
    } catch (error) {
      postMessage({ failure: String(error?.stack ?? error) });
    }`,
  "/thread.js": `
    import { work } from "/dist/src/backends/wasm/instance.js";
    onmessage = ({ data }) => work(data);`,
};

/** @param isolated whether pages may share memory */
async function answerOf(isolated: boolean): Promise<unknown> {
  const headers = isolated
    ? { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" }
    : {};
  const server = createServer((request, response) => {
    const { url = "" } = request;
    const type = url === "/" ? "text/html" : url.endsWith(".wasm") ? "application/wasm" : "text/javascript";
    void (pages[url] === undefined ? readFile(join(repository, url)) : Promise.resolve(pages[url])).then(
      (body) => response.writeHead(200, { ...headers, "Content-Type": type }).end(body),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const { page } = await browser.open(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    return await page.evaluate("window.answer");
  } finally {
    server.close();
  }
}

for (const isolated of [true, false]) {
  test(
    `a page ${isolated ? "with two threads" : "that may not share memory"} trains and infers to the bits of SSE2`,
    browser.needed,
    async () => {
      const isNative = isBuilt() && process.arch === "x64";
      const expected = isNative
        ? await twelveSteps(nativeBackend, { threads: 2, isa: "sse2" })
        : await twelveSteps(nodeWasmBackend(), { threads: 1 });
      const { threads, ...rest } = (await answerOf(isolated)) as { readonly threads?: number };
      assert.deepEqual(rest, { numbers: expected });
      assert.ok(isolated ? (threads ?? 0) > 1 : threads === 1);
    },
  );
}
