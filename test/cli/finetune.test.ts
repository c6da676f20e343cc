/**
 * `riffle finetune`, and what is said where weights that are named cannot be had. Nothing is fetched but from this machine. That
 * it trains, and which commands come next: test/docs/your-own-photos.test.ts.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

import { weightsLines } from "../../src/cli/report-run.js";
import { RiffleError } from "../../src/core/error.js";
import { drawFolder } from "../../src/prepare/draw/draw-folder.js";
import { type Published, published } from "../../src/weights/published.js";
import { inProcess } from "../support/in-process.js";
import { program } from "../support/paths.js";
import { drawnWeights, scratch } from "../support/tiny-run.js";

const folder = scratch();
const photos = join(folder, "photos");
const run = join(folder, "run");
const kept = join(folder, "caches", "riffle", "weights");
process.env["XDG_CACHE_HOME"] = join(folder, "caches");
process.env["NO_PROXY"] = "*";

before(() => drawFolder({ folder: photos, seed: 4, size: 40, train: 20, validation: 10 }));

/** As a process of its own, while the test's server answers from this one. */
function riffle(argv: readonly string[]): Promise<{ readonly code: number | null; readonly stderr: string }> {
  const child = spawn(process.execPath, [program, ...argv], { stdio: ["ignore", "ignore", "pipe"] });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  return new Promise((ended) => child.on("close", (code) => ended({ code, stderr })));
}

suite("riffle finetune", () => {
  test("wants a folder, once", async () => {
    await assert.rejects(
      inProcess(["finetune"]),
      /no pictures to learn from.*riffle-vision finetune photos$/,
    );
    await assert.rejects(inProcess(["finetune", "photos", "--data_dir", "photos"]), /two answers/);
  });

  test("shows the defaults of its recipe", async () => {
    const { stdout } = await inProcess(["finetune", "--help"]);
    assert.match(stdout, /^ {2}npx riffle-vision finetune photos$/m);
    assert.match(stdout, /Defaults are those of recipe fine-tune\./);
    assert.match(stdout, /--init_from <path>[^]*?default: imagenet/);
    assert.match(stdout, /--batch_size <n>[^]*?default: 32 images \(recipe fine-tune\)/);
  });
});

suite("weights that are named", () => {
  const servers: Server[] = [];
  after(() => servers.forEach((server) => server.close().closeAllConnections()));

  async function serve(
    status: number,
    bytes: string | Uint8Array = "other bytes",
  ): Promise<{ readonly asked: string[] }> {
    const asked: string[] = [];
    const server = createServer((request, response) => {
      asked.push(request.url ?? "");
      response.writeHead(status).end(bytes);
    });
    servers.push(server);
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    const { port } = server.address() as AddressInfo;
    process.env["RIFFLE_TEST_WEIGHTS_URL"] = `http://127.0.0.1:${port}/models/`;
    return { asked };
  }

  /** Leaves neither a run nor a file among the caches. */
  async function refusedWith(code: number, words: RegExp, argv: readonly string[]): Promise<void> {
    await assert.rejects(inProcess(["finetune", ...argv, "--log_dir", run]), (error) => {
      assert.ok(error instanceof RiffleError);
      assert.deepEqual([error.exitCode, words.test(error.message)], [code, true], error.message);
      return true;
    });
    expectNothing();
  }

  function expectNothing(): void {
    assert.ok(!existsSync(run));
    assert.deepEqual(existsSync(kept) ? readdirSync(kept) : [], []);
  }

  test("are imagenet's unless others are named; a server without them is code 6, and nothing is left", async () => {
    const { asked } = await serve(404);
    await refusedWith(6, /the weights could not be fetched.*found the server answered 404.*--from FILE/, [
      photos,
    ]);
    assert.deepEqual(asked, [`/models/${published[1].file}`]);
  });

  test("with other bytes than are published are code 4, for train --init_from too", async () => {
    const { asked } = await serve(200);
    const argv = ["train", "--data_dir", photos, "--init_from", "torchvision/0.5x", "--log_dir", run];
    const { code, stderr } = await riffle(argv);
    assert.equal(code, 4, stderr);
    assert.match(stderr, /a SHA-256 that begins with f707e7126e/);
    assert.deepEqual(asked, [`/models/${published[0.5].file}`]);
    expectNothing();
  });

  test("are not fetched where something else is wrong, or with --offline", async () => {
    const { asked } = await serve(200);
    await refusedWith(4, /--offline keeps them from being fetched/, [photos, "--offline"]);
    await refusedWith(2, /that width: torchvision\/0\.5x/, [photos, "--width", "0.5"]);
    await refusedWith(2, /publishes no weights called/, [photos, "--from", "torchvision/3x"]);
    await refusedWith(2, /warm-up/, [photos, "--warmup_epochs", "9", "--max_epochs", "3"]);
    await refusedWith(3, /nowhere/, [join(folder, "nowhere")]);
    assert.deepEqual(asked, []);
  });

  test("are fetched, said in the header, and trained from; the run goes on under their name", async (context) => {
    const weights = readFileSync(join(await drawnWeights(folder), "best", "weights.safetensors"));
    const sha256 = createHash("sha256").update(weights).digest("hex");
    // Weights of the test's own in the place of torchvision's: nobody else has bytes with the published checksum.
    const table = published as Record<0.5, Published>;
    const usual = table[0.5];
    context.after(() => (table[0.5] = usual));
    table[0.5] = { ...usual, sha256: sha256.slice(0, 10), bytes: weights.length };
    const { asked } = await serve(200, weights);
    const options = ["--image_size", "32", "--max_epochs", "2", "--log_dir", run];
    const { stderr } = await inProcess([
      "finetune",
      photos,
      "--from",
      "torchvision/0.5x",
      ...options,
      "--max_train_steps",
      "1",
    ]);
    assert.match(stderr, /^fetching .* kB/m);
    assert.match(
      stderr,
      new RegExp(`^Weights .*\\n +fetched, SHA-256 ${sha256.slice(0, 10)}… as published`, "m"),
    );
    assert.match(stderr, /^Network +shufflenet-v2 0\.5x \(torchvision\)/m);
    assert.deepEqual(readdirSync(kept), [usual.file]);
    const { settings } = JSON.parse(readFileSync(join(run, "recipe.json"), "utf8")) as {
      settings: { init_from: string };
    };
    assert.equal(settings.init_from, "torchvision/0.5x");
    await inProcess(["train", "--resume", run, "--max_train_steps", "2"]);
    assert.ok(existsSync(join(run, "step-2")));
    assert.equal(asked.length, 1);
  });

  test("are said in a header of 80 columns", () => {
    for (const { width, name, file, top1, licence, sha256 } of Object.values(published)) {
      const lines = weightsLines({
        event: "weights",
        name,
        network: `ShuffleNet V2 ${width.toFixed(1)}x of torchvision`,
        top1,
        bytes: 29_814_000,
        sha256: sha256.padEnd(64, "0"),
        published_sha256: sha256,
        fetched: true,
        path: file,
        source: `https://download.pytorch.org/models/${file}`,
        licence,
      });
      assert.match(
        lines[0] ?? "",
        /^Weights {3}ShuffleNet V2 .* of torchvision, \d\d\.\d % on ImageNet · 29\.8 MB$/,
      );
      assert.match(lines.join("\n"), /BSD-3-Clause[^]*https:/);
      for (const line of lines) assert.ok(line.length <= 80, line);
    }
  });
});
