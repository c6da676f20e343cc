/**
 * The engine's module in Node: its file, read and compiled once.
 */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { ResourceError } from "./error.js";
import { WasmPictures } from "./wasm-module.js";
import { WebAssembly, type WasmModule } from "./web-assembly.js";

/** From dist/src/core. */
const FILE = fileURLToPath(new URL("../../../native/wasm/riffle.wasm", import.meta.url));

let compiled: WasmModule | undefined;
let pictures: WasmPictures | undefined;

/** @throws ResourceError when the file is not there or does not compile. */
export function wasmModule(): WasmModule {
  compiled ??= loaded((bytes) => new WebAssembly.Module(bytes));
  return compiled;
}

/** @throws ResourceError as above. */
export function wasmPictures(): WasmPictures {
  pictures ??= loaded((bytes) => new WasmPictures(bytes));
  return pictures;
}

function loaded<T>(use: (bytes: Uint8Array) => T): T {
  try {
    return use(readFileSync(FILE));
  } catch (error) {
    throw new ResourceError(
      {
        what: "the engine in WebAssembly does not load",
        where: FILE,
        found: error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error),
        hint: "Install riffle-vision again",
      },
      error,
    );
  }
}
