/** docs/serve.md: its commands and examples run as they stand, but for the port, against a server of a run. */

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, suite, test } from "node:test";
import { fileURLToPath } from "node:url";

import ts from "typescript";

import { openPredictor, type Prediction, type Predictor } from "../../src/inference/predict.js";
import { Metrics } from "../../src/serve/metrics.js";
import { type RunningServer, startServer } from "../../src/serve/server.js";
import { drawnPictures, oneStepRun } from "../support/one-step-run.js";
import { program, repository } from "../support/paths.js";
import { scratch } from "../support/tiny-run.js";

const page = readFileSync(join(repository, "docs", "serve.md"), "utf8");
const blocks = (language: string): string[] =>
  [...page.matchAll(new RegExp("^```" + language + "\\n(.*?)^```$", "gms"))].map(([, code = ""]) => code);
const folder = scratch();
let predictor: Predictor;
let server: RunningServer;
let expected: Prediction["top"];

before(async () => {
  mkdirSync(join(folder, "runs"));
  renameSync(await oneStepRun(folder), join(folder, "runs", "a"));
  const [photo] = await drawnPictures(1);
  writeFileSync(join(folder, "photo.jpg"), photo as Buffer);
  predictor = await openPredictor(join(folder, "runs", "a"), { eval_batch_size: 4 });
  expected = ((await predictor.predictOne(photo as Buffer)) as Prediction).top;
  server = await startServer(predictor, {
    host: "127.0.0.1",
    port: 0,
    names: [],
    token: undefined,
    top: 5,
    maxBody: 2 ** 20,
    maxPixels: 1e6,
    timeout: 30_000,
    maxQueue: 8,
    metrics: new Metrics(),
  });
});
after(async () => {
  await server.close();
  await predictor.close();
});

/** Runs it in the folder of the run and the photo, and returns what it prints. */
async function output(command: string, argv: readonly string[]): Promise<string> {
  const child = spawn(command, argv, { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const [code] = (await once(child, "close")) as [number | null];
  assert.equal(code, 0, `${argv.join(" ")}\n${stderr}`);
  return stdout;
}

const here = (text: string): string => text.replaceAll("127.0.0.1:8080", `127.0.0.1:${server.port}`);

suite("docs/serve.md", () => {
  test("has curl commands that work as they stand", async (context) => {
    const lines = (blocks("sh")[0] ?? "").trimEnd().split("\n");
    assert.equal(lines.length, 5);
    if (spawnSync("curl", ["--version"]).error !== undefined) return context.skip("curl is not installed");
    const answers = await Promise.all(lines.map((line) => output("sh", ["-c", here(line)])));
    assert.deepEqual(JSON.parse(answers[0] ?? ""), { top: expected });
    assert.deepEqual(JSON.parse(answers[1] ?? ""), { top: expected.slice(0, 1) });
    assert.deepEqual(JSON.parse(answers[2] ?? ""), { status: "ok" });
    assert.equal((JSON.parse(answers[3] ?? "") as { classes: string[] }).classes.length, expected.length);
    for (const [, name = ""] of page.matchAll(/`(riffle_[a-z_]+)`/g)) {
      assert.ok(answers[4]?.includes(`\n# TYPE ${name} `), name);
    }
  });

  test("has an example of a client that works as it stands", async () => {
    const [example = ""] = blocks("js");
    const file = join(folder, "client.mjs");
    writeFileSync(file, here(example));
    assert.equal(
      await output(process.execPath, [file]),
      `${expected.map(({ name, probability }) => `${name} ${probability}`).join("\n")}\n`,
    );
  });

  test("has an example of a program that runs as it stands; readme.test.ts looks at its types", async () => {
    const [example = ""] = blocks("ts");
    // Inside the package, so that "riffle-vision" means this package.
    const script = join(dirname(fileURLToPath(import.meta.url)), "serve-example.js");
    after(() => rmSync(script, { force: true }));
    const compilation = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 };
    writeFileSync(script, ts.transpileModule(example, { compilerOptions: compilation }).outputText);
    const row = expected.map(({ name, probability }) => `${name} ${probability}`);
    assert.equal(
      await output(process.execPath, [script]),
      [row.join(", "), row[0], "photo.jpg", "#1", ""].join("\n"),
    );
  });

  test("has commands of riffle predict that work as they stand", async () => {
    const lines = (blocks("sh")[1] ?? "").trimEnd().split("\n");
    assert.equal(lines.length, 3);
    const printed = await Promise.all(
      lines.map((line) => {
        assert.match(line, /^npx riffle-vision predict /);
        return output("sh", ["-c", line.replace("npx riffle-vision", `"${process.execPath}" "${program}"`)]);
      }),
    );
    assert.match(printed[0] ?? "", new RegExp(`^- +${expected[0]?.name} [\\d.]+ %`));
    assert.equal(readFileSync(join(folder, "predictions.png")).toString("latin1", 1, 4), "PNG");
    const table = readFileSync(join(folder, "predictions.csv"), "utf8").trimEnd().split("\n");
    assert.deepEqual(table, [
      `file,${expected.map((_, i) => `class_${i + 1},probability_${i + 1}`).join(",")},error`,
      `photo.jpg,${expected.map(({ name, probability }) => `${name},${probability}`).join(",")},`,
    ]);
  });
});
