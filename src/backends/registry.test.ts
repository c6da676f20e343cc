import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { isBuilt } from "../core/addon.js";
import { UsageError } from "../core/error.js";
import { chooseBackend } from "./registry.js";

const before = process.env["RIFFLE_BACKEND"];
afterEach(() => {
  if (before === undefined) delete process.env["RIFFLE_BACKEND"];
  else process.env["RIFFLE_BACKEND"] = before;
});

test("the engine that is asked for goes before the one of the environment, and that before the usual one", async () => {
  process.env["RIFFLE_BACKEND"] = "reference";
  assert.equal((await chooseBackend("wasm")).name, "wasm");
  assert.equal((await chooseBackend()).name, "reference");
  delete process.env["RIFFLE_BACKEND"];
  assert.equal((await chooseBackend()).name, isBuilt() ? "native" : "wasm");
});

test("an engine that there is not is refused", async () => {
  process.env["RIFFLE_BACKEND"] = "cuda";
  await assert.rejects(chooseBackend(), (error: unknown) => {
    assert.ok(error instanceof UsageError);
    assert.match(error.message, /RIFFLE_BACKEND.*expected native, wasm, reference.*found cuda/);
    return true;
  });
});
