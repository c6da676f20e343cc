/**
 * Riffle's engine in WebAssembly beside ONNX Runtime's and tfjs's, in Node and in headless Chromium: rounds in turn, this machine.
 *
 *     node scripts/web-peers.mjs --rounds 5 --batch 8 --threads 1 --peers FOLDER --output rounds.jsonl
 *
 * FOLDER/node_modules holds tfjs (npm install @tensorflow/tfjs-core @tensorflow/tfjs-backend-cpu @tensorflow/tfjs-backend-wasm); without it
 * tfjs is left out. In Node tfjs has one thread. Chromium is what RIFFLE_CHROMIUM names, else /usr/bin/chromium; its page is isolated.
 */

import { spawnSync } from "node:child_process";
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join, normalize, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

import { chromium } from "playwright-core";

import { timed } from "./web-contestants.mjs";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    batch: { type: "string", default: "8" },
    threads: { type: "string", default: "1" },
    seconds: { type: "string", default: "4" },
    peers: { type: "string" },
    output: { type: "string" },
    one: { type: "string" },
  },
});
const here = fileURLToPath(import.meta.url);
const repository = join(here, "..", "..");

if (values.one !== undefined) {
  // A contestant in Node, in a process of its own.
  console.log(JSON.stringify(await timed(JSON.parse(values.one))));
  process.exit(0);
}

const folder = mkdtempSync(join(tmpdir(), "riffle-peers-"));
const files = { repository, peers: resolve(values.peers ?? folder), model: folder };
const server = createServer((request, response) => {
  const [, place, path = ""] = /^\/(\w+)\/(.*)$/.exec(new URL(request.url, "http://x").pathname) ?? [];
  response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
  response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
  if (place === undefined) return response.setHeader("Content-Type", "text/html").end("<!doctype html>");
  try {
    const types = { ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm" };
    const bytes = readFileSync(join(files[place], normalize(`/${decodeURI(path)}`)));
    response.setHeader("Content-Type", types[extname(path)] ?? "application/octet-stream").end(bytes);
  } catch {
    response.writeHead(404).end();
  }
});

try {
  const { exportRun, train } = await import("../dist/src/index.js");
  const log_dir = join(folder, "run");
  await train({ synthetic: true, log_dir, width: 1, num_classes: 1000, image_size: 224, batch_size: 4, max_train_steps: 1, report: false }); // prettier-ignore
  await exportRun(log_dir, { format: "onnx", output: join(folder, "model.onnx") });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  await compare();
} finally {
  server.close();
  server.closeAllConnections();
  rmSync(folder, { recursive: true, force: true });
}

async function compare() {
  const names = ["riffle", "onnxruntime", ...(values.peers === undefined ? [] : ["tfjs"])];
  const given = {
    batch: Number(values.batch),
    threads: Number(values.threads),
    seconds: Number(values.seconds),
  };
  const rates = new Map();
  for (let round = 1; round <= Number(values.rounds); round++) {
    for (const [place, time] of Object.entries({ node: inNode, chromium: inChromium })) {
      for (const name of names) {
        const rate = await time({ name, ...given });
        const row = { round, place, contestant: name, ...given, images_per_second: rate };
        if (values.output !== undefined) appendFileSync(values.output, `${JSON.stringify(row)}\n`);
        console.log(`${round} ${place.padEnd(9)} ${name.padEnd(12)} ${rate.median.toFixed(1)} images/s`);
        rates.set(`${place} ${name}`, [...(rates.get(`${place} ${name}`) ?? []), rate.median]);
      }
    }
  }
  const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];
  for (const place of ["node", "chromium"]) {
    for (const name of names.slice(1)) {
      const ratios = rates.get(`${place} riffle`).map((own, i) => own / rates.get(`${place} ${name}`)[i]);
      console.log(`${place}: riffle over ${name} ${median(ratios).toFixed(2)} (${ratios.map((r) => r.toFixed(2)).join(", ")})`); // prettier-ignore
    }
  }
}

function inNode(given) {
  const [root, peers] = [repository, files.peers].map((path) => `${pathToFileURL(path)}/`);
  const model = String(pathToFileURL(join(folder, "model.onnx")));
  const asked = JSON.stringify({ ...given, root, peers, model });
  const { stdout, stderr, status } = spawnSync(process.execPath, [here, "--one", asked], {
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout.trim().split("\n").at(-1));
}

async function inChromium(given) {
  const at = `http://127.0.0.1:${server.address().port}/`;
  const asked = { ...given, root: `${at}repository/`, peers: `${at}peers/`, model: `${at}model/model.onnx` };
  const browser = await chromium.launch({
    executablePath: process.env.RIFFLE_CHROMIUM ?? "/usr/bin/chromium",
  });
  try {
    const page = await browser.newPage();
    await page.goto(at);
    // In a worker: the page's own thread must not wait.
    return await page.evaluate((asked) => {
      const text = `import { timed } from "${asked.root}scripts/web-contestants.mjs";
        timed(${JSON.stringify(asked)}).then((rate) => postMessage({ rate }), (error) => postMessage({ error: String(error) }));`;
      const worker = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })), { type: "module" }); // prettier-ignore
      return new Promise((resolve, reject) => {
        worker.onmessage = ({ data }) => (data.rate ? resolve(data.rate) : reject(new Error(data.error)));
        worker.onerror = ({ message }) => reject(new Error(message));
      });
    }, asked);
  } finally {
    await browser.close();
  }
}
