import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";

const script =
  `const { userCache } = await import(${JSON.stringify(new URL("./user-cache.js", import.meta.url).href)});` +
  `console.log(userCache());`;

function ask(env: Record<string, string>, before: readonly string[] = []): string {
  const [command = "", ...args] = [...before, process.execPath, "--input-type=module", "-e", script];
  return spawnSync(command, args, {
    encoding: "utf8",
    env: { PATH: process.env["PATH"], ...env },
  }).stdout.trim();
}

test("the user's caches lie where XDG_CACHE_HOME says, else below HOME", () => {
  assert.equal(ask({ XDG_CACHE_HOME: "/x", HOME: "/h" }), "/x/riffle");
  assert.equal(ask({ XDG_CACHE_HOME: "relative", HOME: "/h" }), "/h/.cache/riffle");
});

const isRoot = process.getuid?.() === 0 && spawnSync("setpriv", ["--version"]).status === 0;
test("H9: a user without HOME and without an entry in the list of users has none", { skip: !isRoot }, () => {
  const nobody = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"];
  assert.equal(ask({}, nobody), "undefined");
});
