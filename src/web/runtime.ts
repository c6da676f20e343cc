/**
 * What runs the network in a browser: the one file of an exported page that knows how, and the one to replace for another way.
 *
 * This one is ONNX Runtime's WebAssembly, from the files beside it.
 */

import type * as OnnxRuntime from "onnxruntime-web";

/** Loads a file that lies beside this one. */
export type LoadBytes = (name: string) => Promise<ArrayBuffer>;

/** A network ready to run. */
export interface WebRuntime {
  /** Logits [classes] of one picture's input [1, 3, size, size]. Calls must not overlap. */
  run(input: Float32Array, size: number): Promise<Float32Array>;
}

/** @throws Error in words for people */
export async function openRuntime(load: LoadBytes): Promise<WebRuntime> {
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
  return {
    run: async (input, size) => {
      const { logits } = await session.run({ image: new ort.Tensor("float32", input, [1, 3, size, size]) });
      return (logits as OnnxRuntime.Tensor).data as Float32Array;
    },
  };
}

function beside(name: string): string {
  return new URL(name, import.meta.url).href;
}
