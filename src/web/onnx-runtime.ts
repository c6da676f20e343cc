/**
 * The `runtime.js` of a page that was exported with `--runtime onnx`, in place of runtime.ts: ONNX Runtime's WebAssembly, from the files
 * beside it.
 */

import type * as OnnxRuntime from "onnxruntime-web";

import { type PagePreprocessing, pixelsOf } from "./pixels.js";
import { networkInput } from "./preprocess.js";
import type { LoadBytes, WebRuntime } from "./runtime.js";

/** @throws Error in words for people */
export async function openRuntime(load: LoadBytes, preprocessing: PagePreprocessing): Promise<WebRuntime> {
  const [model, wasmBinary, ort] = await Promise.all([
    load("model.onnx"),
    load("onnxruntime/ort-wasm-simd-threaded.wasm"),
    import(beside("onnxruntime/ort.wasm.min.js")) as Promise<typeof OnnxRuntime>,
  ]);
  // Given here, so that a server may call the file's content what it likes; the other is a name that servers know.
  ort.env.wasm.wasmBinary = wasmBinary;
  ort.env.wasm.wasmPaths = { mjs: beside("onnxruntime/ort-wasm-simd-threaded.js") };
  ort.env.logLevel = "error";
  const session = await ort.InferenceSession.create(new Uint8Array(model), { executionProviders: ["wasm"] });
  const { crop } = preprocessing;
  return {
    run: async (picture) => {
      const input = networkInput(await pixelsOf(picture, preprocessing), preprocessing);
      const { logits } = await session.run({ image: new ort.Tensor("float32", input, [1, 3, crop, crop]) });
      return (logits as OnnxRuntime.Tensor).data as Float32Array;
    },
  };
}

function beside(name: string): string {
  return new URL(name, import.meta.url).href;
}
