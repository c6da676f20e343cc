/** docs/deploy.md: its commands and programs run as they stand, and print what `riffle predict` says. */

import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { after, before, suite, test } from "node:test";
import { fileURLToPath } from "node:url";

import { predict, type Prediction } from "../../src/inference/predict.js";
import { exportRun } from "../../src/weights/export-run.js";
import { useBrowser } from "../support/browser.js";
import { drawnPictures } from "../support/one-step-run.js";
import { program, repository } from "../support/paths.js";
import { serveFolder } from "../support/static-server.js";
import { scratch } from "../support/tiny-run.js";
import { untrainedRun } from "../support/untrained-run.js";

const page = readFileSync(join(repository, "docs", "deploy.md"), "utf8");
const folder = scratch();
const browser = useBrowser();
let expected: Prediction["top"];

/** The fenced blocks of a language. */
function blocks(language: string): string[] {
  return [...page.matchAll(new RegExp("^```" + language + "\\n(.*?)^```$", "gms"))].map(
    ([, code = ""]) => code,
  );
}

before(async () => {
  await untrainedRun(join(folder, "runs", "a"));
  const [, photo] = await drawnPictures(2);
  writeFileSync(join(folder, "photo.png"), photo as Buffer);
  const [result] = await predict(join(folder, "runs", "a"), [join(folder, "photo.png")]);
  expected = (result as Prediction).top;
  for (const block of [blocks("sh")[1] ?? "", blocks("sh")[2] ?? ""]) {
    const [command = ""] = block.split("\n");
    const [npx, name, ...argv] = command.split(" ");
    assert.deepEqual([npx, name, argv[0]], ["npx", "riffle-vision", "export"]);
    const { status, stderr } = spawnSync(process.execPath, [program, ...argv], {
      cwd: folder,
      encoding: "utf8",
    });
    assert.equal(status, 0, stderr);
  }
});

/** What a program prints: `0.512345 name` on each line. */
function assertPredicted(printed: string, top: Prediction["top"] = expected): void {
  const lines = printed.trimEnd().split("\n");
  assert.equal(lines.length, top.length, printed);
  top.forEach(({ name, probability }, i) => {
    const [found = "", ...words] = (lines[i] ?? "").trim().split(" ");
    assert.equal(words.join(" "), name);
    // Six digits, and logits that are f32 sums in another order.
    assert.ok(Math.abs(Number(found) - probability) <= 2e-6, `${found} is printed, ${probability} predicted`);
  });
}

function printed(command: string, ...argv: string[]): string {
  const { status, stdout, stderr } = spawnSync(command, argv, { cwd: folder, encoding: "utf8" });
  assert.equal(status, 0, stderr);
  return stdout;
}

/** Waits until a process has printed what matches. */
async function said({ stdout }: ChildProcess, pattern: RegExp): Promise<RegExpExecArray> {
  let text = "";
  (stdout as NodeJS.ReadableStream).setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
  for (;;) {
    const match = pattern.exec(text);
    if (match !== null) return match;
    await once(stdout as NodeJS.ReadableStream, "data");
  }
}

suite("docs/deploy.md", () => {
  test("names every file of the page's folder", () => {
    const names = readdirSync(join(folder, "web"));
    assert.deepEqual(
      names.filter((name) => !page.includes(`\`${name}\``)),
      [],
    );
  });

  test("has a program for Node that works", () => {
    // Inside the package, so that "riffle-vision" means this package.
    const script = join(dirname(fileURLToPath(import.meta.url)), "deploy-example.js");
    after(() => rmSync(script, { force: true }));
    writeFileSync(script, blocks("js")[0] ?? "");
    assertPredicted(printed(process.execPath, script));
  });

  test("has commands for a server that work, but for the port", async (context) => {
    const [serve = "", curl = ""] = (blocks("sh")[0] ?? "").trimEnd().split("\n");
    const argv = serve.replace(/^npx riffle-vision /, "").split(" ");
    const child = spawn(process.execPath, [program, ...argv, "--port", "0"], {
      cwd: folder,
      stdio: ["ignore", "pipe", "ignore"],
    });
    context.after(() => child.kill());
    const [, address = ""] = await said(child, /^Serving +http:\/\/([\d.:]+)\//m);
    if (spawnSync("curl", ["--version"]).error !== undefined) return context.skip("curl is not installed");
    const answer = printed("sh", "-c", curl.replace("127.0.0.1:8080", address));
    assert.deepEqual(JSON.parse(answer), { top: expected });
  });

  test("has a page that works", browser.needed, async () => {
    writeFileSync(join(folder, "page.html"), blocks("html")[0] ?? "");
    writeFileSync(join(folder, "favicon.ico"), "");
    const { page, foreign, problems } = await browser.open(`${await serveFolder(folder)}page.html`);
    await page.setInputFiles("#file", join(folder, "photo.png"));
    await page.locator("#seen").getByText("bee").waitFor();
    assertPredicted((await page.textContent("#seen")) ?? "");
    assert.deepEqual([foreign, problems], [[], []]);
  });

  test("has a program for onnxruntime-node that works", (context) => {
    const require = createRequire(join(process.env["RIFFLE_ONNXRUNTIME"] ?? repository, "package.json"));
    let runtime: string;
    try {
      runtime = require.resolve("onnxruntime-node");
    } catch {
      return context.skip(
        "onnxruntime-node is not installed (RIFFLE_ONNXRUNTIME=FOLDER where FOLDER/node_modules has it)",
      );
    }
    const modules = join(folder, "node_modules");
    mkdirSync(modules);
    symlinkSync(join(repository, "node_modules", "sharp"), join(modules, "sharp"));
    symlinkSync(packageOf(runtime), join(modules, "onnxruntime-node"));
    writeFileSync(join(folder, "classify.mjs"), blocks("js")[1] ?? "");
    assertPredicted(printed(process.execPath, "classify.mjs"));
  });

  for (const pipeline of ["torchvision", "tensorflow"] as const) {
    test(`has a program for Python that works, for pictures as ${pipeline} resizes them`, async (context) => {
      const python = process.env["RIFFLE_PYTHON"] ?? "python3";
      const { status } = spawnSync(python, ["-c", "import numpy, onnxruntime, PIL"]);
      if (status !== 0)
        return context.skip(
          "Python has no onnxruntime, numpy and Pillow (set RIFFLE_PYTHON to one that has)",
        );
      const run = await untrainedRun(join(folder, pipeline), pipeline);
      const output = join(folder, "onnx-web");
      rmSync(output, { recursive: true });
      await exportRun(run, { format: "web", runtime: "onnx", output });
      const [result] = await predict(run, [join(folder, "photo.png")]);
      writeFileSync(join(folder, "classify.py"), blocks("python")[0] ?? "");
      assertPredicted(printed(python, "classify.py"), (result as Prediction).top);
    });
  }
});

/** The package's folder, of a file in it. */
function packageOf(file: string): string {
  const above = dirname(file);
  return existsSync(join(above, "package.json")) ? above : packageOf(above);
}
