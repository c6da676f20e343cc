/** The engine of an exported page, which runs in Node as in a browser, against the engine that `riffle predict` has. */

import assert from "node:assert/strict";
import { before, suite, test } from "node:test";

import type { Backend } from "../../src/backends/backend.js";
import { nativeBackend } from "../../src/backends/native/index.js";
import { nodeWasmBackend } from "../../src/backends/wasm/node.js";
import { encodeProgram } from "../../src/backends/engine/encode.js";
import { isBuilt } from "../../src/core/addon.js";
import { Draws, streams } from "../../src/core/random.js";
import { encodeSafetensors } from "../../src/formats/safetensors.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import { exportWeights } from "../../src/models/tensor-names.js";
import { variantNames } from "../../src/models/variants.js";
import { compile } from "../../src/program/compile.js";
import type { Program } from "../../src/program/program.js";
import { type EngineFiles, openEngine, unpackWords } from "../../src/web/engine.js";
import { engineFile, packWords, pageProgram } from "../../src/weights/web-engine.js";
import { unlikeWeights } from "../support/untrained-run.js";

const CLASSES = 3;
const PICTURES = 2;

function programOf(variant: (typeof variantNames)[number], imageSize: number, batch = 1): Program {
  const network = shuffleNetV2({ variant, width: 0.5, classes: CLASSES });
  return compile(network, { batch, imageSize, mode: "infer" });
}

/** What an export writes for it, with weights that are all unlike. */
function filesOf(program: Program): EngineFiles {
  const tensors = exportWeights(program, "canonical", unlikeWeights(program));
  const pieces = encodeSafetensors(
    [...tensors].map(([name, tensor]) => ({ name, ...tensor })),
    new Map([["format", "riffle"]]),
  );
  const weights = Buffer.concat(pieces);
  const wasm = engineFile();
  const text = pageProgram(program, { engine: wasm.length, model: weights.length });
  return { wasm: copied(wasm), weights: copied(weights), program: copied(Buffer.from(text)) };
}

function copied(bytes: Uint8Array): ArrayBuffer {
  return Uint8Array.from(bytes).buffer;
}

suite("the engine of an exported page", () => {
  const engines: [name: string, backend: Backend, isa?: string][] = [["wasm", nodeWasmBackend()]];
  if (isBuilt() && nativeBackend.machine().available.includes("sse2"))
    engines.push(["native, SSE2", nativeBackend, "sse2"]);

  // An odd side, so that the two ways to pad differ.
  const size = 97;
  for (const variant of variantNames) {
    test(`has the bits of the others: ${variant}`, async () => {
      const draws = new Draws(4, streams.draw, 0, 0);
      const picture = 3 * size * size;
      const images = Uint8Array.from({ length: PICTURES * picture }, () => draws.below(256));
      const { infer } = await openEngine(filesOf(programOf(variant, size)));
      assert.throws(() => infer(images), /pictures of 97 x 97 x 3 bytes are expected/);
      const logits = [images.subarray(0, picture), images.subarray(picture)].map((one) => infer(one));
      assert.notDeepEqual(logits[0], logits[1]);
      for (const [name, backend, isa] of engines) {
        const program = programOf(variant, size, PICTURES);
        const run = backend.infer(program, { threads: 1, ...(isa === undefined ? {} : { isa }) });
        await run.load(unlikeWeights(program));
        const expected = await run.infer(images, PICTURES);
        run.close();
        assert.deepEqual(Float32Array.from(logits.flatMap((each) => [...each])), expected, name);
      }
    });
  }
});

suite("the files of the engine of an exported page", () => {
  let files: EngineFiles;
  before(() => (files = filesOf(programOf("torchvision", 64))));

  test("give an engine that is not used again after it failed", async (context) => {
    const { WebAssembly } = globalThis as unknown as {
      WebAssembly: { Instance: new (...args: unknown[]) => { exports: object } };
    };
    const { Instance } = WebAssembly;
    context.after(() => (WebAssembly.Instance = Instance));
    let fails = true;
    WebAssembly.Instance = class {
      readonly exports: object;
      constructor(...args: unknown[]) {
        const infer = (): void => {
          if (fails) throw new Error("no more memory");
        };
        this.exports = { ...new Instance(...args).exports, infer };
      }
    };
    const { infer } = await openEngine(files);
    assert.throws(() => infer(new Uint8Array(3 * 64 * 64)), /no more memory/);
    fails = false;
    assert.throws(() => infer(new Uint8Array(3 * 64 * 64)), /failed at an earlier picture/);
  });

  test("are refused where the engine's is damaged", async () => {
    const wasm = files.wasm.slice(0);
    new Uint8Array(wasm)[20] = 255;
    await assert.rejects(openEngine({ ...files, wasm }), /riffle\.wasm is refused by this browser: /);
  });

  for (const [part, name] of [
    ["wasm", "riffle.wasm"],
    ["weights", "model.safetensors"],
    ["program", "program.json"],
  ] as const) {
    for (const left of [0, 1 / 2, 1]) {
      test(`${name} is refused where ${left === 1 ? "two bytes are" : `all behind ${left} is`} missing`, async () => {
        const end = Math.floor(files[part].byteLength * left) - (left === 1 ? 2 : 0);
        const cut = { ...files, [part]: files[part].slice(0, Math.max(end, 0)) };
        await assert.rejects(
          openEngine(cut),
          new RegExp(`^Error: ${name} is cut short: .*Copy the exported folder`),
        );
      });
    }
  }

  test("are refused where one is longer, of another export", async () => {
    const weights = copied(Buffer.concat([Buffer.from(files.weights), Buffer.alloc(4)]));
    await assert.rejects(
      openEngine({ ...files, weights }),
      /model\.safetensors is of another export than program\.json/,
    );
  });
});

suite("a program's words", () => {
  test("come back as they were", async () => {
    const words = encodeProgram(programOf("torchvision", 64));
    assert.deepEqual(await unpackWords(packWords(words)), words);
    const odd = Float64Array.of(
      2 ** 31 - 1,
      -(2 ** 31),
      2 ** 31,
      0.1,
      -1,
      1e300,
      0,
      7,
      -(2 ** 31),
      2 ** 31 - 1,
    );
    assert.deepEqual(await unpackWords(packWords(odd)), odd);
  });
});
