/** `riffle serve` as a process, asked over loopback: its answers are those of `riffle predict`, and it ends as it should. */

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import { runRiffle } from "../../src/cli/riffle.js";
import { openTerminal, type Stream } from "../../src/cli/terminal.js";
import { RiffleError } from "../../src/core/error.js";
import { predict, type Prediction } from "../../src/inference/predict.js";
import { drawnPictures, oneStepRun, writePictures } from "../support/one-step-run.js";
import { serve } from "../support/serve-child.js";
import { scratch } from "../support/tiny-run.js";

const folder = scratch();
let run: string;
let pictures: Buffer[];
let expected: Prediction["top"][];

before(async () => {
  run = await oneStepRun(folder);
  pictures = await drawnPictures(32);
  const results = await predict(run, writePictures(folder, pictures), { top: 3 });
  expected = results.map((result) => (result as Prediction).top);
});

async function post(url: string, bytes: Buffer): Promise<Prediction["top"]> {
  const response = await fetch(`${url}/predict`, { method: "POST", body: new Uint8Array(bytes) });
  assert.equal(response.status, 200);
  return ((await response.json()) as { top: Prediction["top"] }).top;
}

suite("riffle serve", () => {
  test("answers in batches with the bits of riffle predict, and told to stop in the middle of a request finishes it", async () => {
    const { child, url, output, ended } = await serve(
      run,
      "--top",
      "3",
      "--max_wait",
      "50",
      "--batch_size",
      "8",
      "--json",
    );
    assert.match(url, /^http:\/\/127\.0\.0\.1:\d+$/, "loopback unless told otherwise");
    for (const [i, bytes] of pictures.slice(0, 3).entries()) {
      assert.deepEqual(await post(url, bytes), expected[i]);
    }
    assert.deepEqual(await Promise.all(pictures.map((bytes) => post(url, bytes))), expected);
    const metrics = await (await fetch(`${url}/metrics`)).text();
    assert.match(metrics, /^riffle_batch_size_sum 35$/m);
    const batches = Number(/^riffle_batch_size_count (\d+)$/m.exec(metrics)?.[1]);
    assert.ok(batches >= 7 && batches < 20, `${batches} batches`);
    assert.match(metrics, /^riffle_requests_total\{route="\/predict",status="200"\} 35$/m);

    const { port } = new URL(url);
    const bytes = pictures[1] as Buffer;
    const socket = connect(Number(port), "127.0.0.1");
    let back = "";
    socket.setEncoding("utf8").on("data", (text: string) => (back += text));
    socket.write(
      `POST /predict HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Length: ${bytes.length}\r\n\r\n`,
    );
    socket.write(bytes.subarray(0, 100));
    while (!/^riffle_uploads 1$/m.test(await (await fetch(`${url}/metrics`)).text()));
    child.kill("SIGTERM");
    while (!output.stderr.includes("Stopping")) await once(child.stderr as NodeJS.ReadableStream, "data");
    await assert.rejects(fetch(`${url}/health`), "it takes no more");
    socket.write(bytes.subarray(100));
    await once(socket, "close");
    assert.match(back, /^HTTP\/1\.1 200 /);
    assert.deepEqual((JSON.parse(back.split("\r\n\r\n")[1] ?? "") as { top: unknown }).top, expected[1]);
    assert.equal(await ended, 0, output.stderr);
    assert.match(output.stdout, /"event":"stopped"/);
  });

  test("takes the token of a file, and prints a curl command with it that works to the letter", async () => {
    const file = join(folder, "token.txt");
    writeFileSync(file, "a-token-of-20-letters\n");
    const { child, url, output, ended } = await serve(run, "--top", "3", "--token_file", file);
    assert.match(output.stdout, /\/#token=a-token-of-20-letters /);
    assert.equal((await fetch(`${url}/model`)).status, 401);
    const [, command = ""] = /^Next +(curl .*)$/m.exec(output.stdout) ?? [];
    assert.match(command, /-H "Authorization: Bearer a-token-of-20-letters" /);
    if (spawnSync("curl", ["--version"]).error === undefined) {
      writeFileSync(join(folder, "photo.jpg"), pictures[0] as Buffer);
      const curl = spawn("sh", ["-c", command], { cwd: folder, stdio: ["ignore", "pipe", "ignore"] });
      let answer = "";
      curl.stdout.setEncoding("utf8").on("data", (text: string) => (answer += text));
      await once(curl, "close");
      assert.deepEqual((JSON.parse(answer) as { top: unknown }).top, expected[0]);
    } else console.log("curl is not installed: its command was not run");
    child.kill("SIGINT");
    assert.equal(await ended, 0, output.stderr);
  });

  test("refuses what it cannot do, and says how to do it", async (context) => {
    const silent = { write: () => true, on: () => undefined } as unknown as Stream;
    const terminal = openTerminal(false, { stdout: silent, stderr: silent });
    const failing = async (...more: string[]): Promise<RiffleError> => {
      const error = await runRiffle(["serve", run, ...more], terminal).catch((thrown: unknown) => thrown);
      assert.ok(error instanceof RiffleError, `${more.join(" ")}: ${String(error)}`);
      return error;
    };
    const other = createServer().listen(0, "127.0.0.1");
    context.after(() => other.close());
    await once(other, "listening");
    const taken = await failing("--port", String((other.address() as AddressInfo).port));
    assert.equal(taken.exitCode, 6);
    assert.match(taken.message, /taken by another program.*--port 0/);
    for (const more of [
      ["--port", "70000"],
      ["--host", "example.org"],
      ["--max_body", "0"],
      ["--timeout", "-1"],
      ["--max_wait", "x"],
      ["--token_file", join(folder, "none.txt")],
      ["--token_file", folder],
      ["--allow_host", "a b"],
    ]) {
      assert.equal((await failing(...more)).exitCode, 2, more.join(" "));
    }
  });
});
