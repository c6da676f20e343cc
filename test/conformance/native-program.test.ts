/** Both sides of the engine's door agree on what a plane takes: the last buffer of a plan ends where its arena does. */

// Needs the native engine.

import assert from "node:assert/strict";
import { test } from "node:test";

import { nativeBackend } from "../../src/backends/native/index.js";
import { normalised } from "../../src/models/layers.js";
import { compile } from "../../src/program/compile.js";
import type { Program } from "../../src/program/program.js";
import { tinyNetwork } from "../support/tiny-network.js";

const network = tinyNetwork({ padding: "same", classes: 3, stem: 2 }, (net) => {
  net.depthwise("halved", "pool1", 2, true);
  net.pointwise("last", normalised("halved"), 3);
});

for (const imageSize of [8, 31, 44, 45, 64]) {
  for (const batch of [1, 2, 3, 8]) {
    test(`${imageSize} px, batch ${batch}: the engine takes the arena that was planned and none a line shorter`, () => {
      const program = compile(network, { batch, imageSize, mode: "infer" });
      const open = (size: number): void => {
        const shortened: Program = { ...program, memory: { ...program.memory, size } };
        // One thread a picture: programs are not cut into portions.
        nativeBackend.infer(shortened, { threads: 8 }).close();
      };
      open(program.memory.size);
      assert.throws(() => open(program.memory.size - 64), /plane value/);
    });
  }
}
