/**
 * The files that a page of `--runtime onnx` runs a network with (src/web/onnx-runtime.ts): ONNX Runtime's WebAssembly, from its package, which
 * is not installed with this one (docs/adr/0016).
 */

import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

import { ResourceError } from "../core/error.js";

/**
 * By their names in the exported folder, what they hold. The others of the package's 139 MB are for graphics processors and for programs
 * that put themselves together in other ways.
 *
 * @throws ResourceError where the package is missing, or does not have them.
 */
export function onnxRuntimeFiles(): Record<string, string | Uint8Array> {
  let dist: string;
  try {
    dist = dirname(createRequire(import.meta.url).resolve("onnxruntime-web"));
  } catch (error) {
    throw absent(
      "the package of ONNX Runtime, which is to run the network in the page, is not installed",
      {},
      error,
    );
  }
  const read = (name: string): Uint8Array => {
    const file = join(dist, name);
    if (existsSync(file)) return readFileSync(file);
    throw absent("ONNX Runtime's package does not have what the page needs", {
      expected: file,
      found: "no such file: it is another version",
    });
  };
  return {
    // Names that every server knows to be scripts.
    "onnxruntime/ort.wasm.min.js": read("ort.wasm.min.mjs"),
    "onnxruntime/ort-wasm-simd-threaded.js": read("ort-wasm-simd-threaded.mjs"),
    "onnxruntime/ort-wasm-simd-threaded.wasm": read("ort-wasm-simd-threaded.wasm"),
    "onnxruntime/LICENSE.txt": licence,
  };
}

function absent(what: string, more: { expected?: string; found?: string }, cause?: unknown): ResourceError {
  const where = "package onnxruntime-web";
  const safe = "Nothing was written";
  return new ResourceError(
    { what, where, ...more, safe, hint: "npm install onnxruntime-web@1, or leave out --runtime onnx" },
    cause,
  );
}

/** Its package has none; this is github.com/microsoft/onnxruntime's. */
const licence = `MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
`;
