/** `riffle serve` as a process of its own, on a port of loopback that is free. */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { after } from "node:test";

import { program } from "./paths.js";

export interface Served {
  readonly child: ChildProcess;
  /** Without the slash at its end. */
  readonly url: string;
  readonly output: { stdout: string; stderr: string };
  /** The exit code. */
  readonly ended: Promise<number | null>;
}

/** Resolves when it answers; ended with the file's tests at the latest. */
export async function serve(run: string, ...more: string[]): Promise<Served> {
  const child = spawn(process.execPath, [program, "serve", run, "--port", "0", ...more], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push(child);
  const output = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output.stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (output.stderr += text));
  const ended = once(child, "exit").then(([code]) => code as number | null);
  const isUp = (async () => {
    while (!/^Next /m.test(output.stdout) && !/"serving"/.test(output.stdout))
      await once(child.stdout, "data");
  })();
  await Promise.race([isUp, ended.then((code) => assert.fail(`ended with ${code}: ${output.stderr}`))]);
  const [, url = ""] = /(http:\/\/[^/]+)\//.exec(output.stdout) ?? [];
  return { child, url, output, ended };
}

const children: ChildProcess[] = [];
after(() => {
  for (const child of children) child.kill("SIGKILL");
});
