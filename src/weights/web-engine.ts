/**
 * What a page has beside the weights to run a network on Riffle's engine (src/web/engine.ts): the engine itself, and the network's program,
 * so that the page needs no compiler of networks.
 */

import { readFileSync } from "node:fs";
import { deflateSync } from "node:zlib";

import { encodeProgram } from "../backends/engine/encode.js";
import { ResourceError } from "../core/error.js";
import { unshared } from "../core/wasm-module.js";
import { type Scheme, tensorsOf } from "../models/tensor-names.js";
import type { Program } from "../program/program.js";
import { type PackedWords, type PageProgram, WORDS_BACK } from "../web/engine.js";

/** From dist/src/weights. */
const FILE = new URL("../../../native/wasm/riffle.wasm", import.meta.url);

/** Whose names the weights have that the page reads. */
const SCHEME: Scheme = "canonical";

/** The engine for a memory that is not shared, for only pages that are isolated may share some. @throws ResourceError where it is missing. */
export function engineFile(): Uint8Array {
  try {
    return unshared(readFileSync(FILE));
  } catch (error) {
    throw new ResourceError(
      {
        what: "the engine in WebAssembly cannot be read",
        where: FILE.pathname,
        found: (error as Error).message,
        safe: "Nothing was written",
        hint: "Install riffle-vision again, or use --runtime onnx",
      },
      error,
    );
  }
}

/** program.json for an inference program; `bytes` of riffle.wasm and model.safetensors. */
export function pageProgram(
  program: Program,
  bytes: { readonly engine: number; readonly model: number },
): string {
  const tensors = tensorsOf(program, SCHEME);
  const offsets = (array: "parameters" | "statistics"): Record<string, number> =>
    Object.fromEntries(
      tensors.filter((tensor) => tensor.array === array).map(({ name, offset }) => [name, offset]),
    );
  const page: PageProgram = {
    files: { "riffle.wasm": bytes.engine, "model.safetensors": bytes.model },
    image_size: program.imageSize,
    classes: program.classes,
    parameters: offsets("parameters"),
    statistics: offsets("statistics"),
    words: packWords(encodeProgram(program)),
  };
  return `${JSON.stringify(page)}\n`;
}

/** The reverse of unpackWords (src/web/engine.ts). */
export function packWords(words: Float64Array): PackedWords {
  const integers = Int32Array.from(words, (word) => (isInteger(word) ? word : 0));
  const differences = integers.map((word, i) => word - (integers[i - WORDS_BACK] ?? 0));
  const deflated = deflateSync(new Uint8Array(differences.buffer), { level: 9 });
  return {
    differences: deflated.toString("base64"),
    others: [...words].flatMap((word, i) => (isInteger(word) ? [] : [[i, word] as const])),
  };
}

/** One that 32 bits hold. */
function isInteger(word: number): boolean {
  return Object.is(word | 0, word);
}
