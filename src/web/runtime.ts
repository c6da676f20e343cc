/**
 * What runs the network in a browser: the one file of an exported page that knows how, and the one to replace for another way.
 *
 * This one is Riffle's engine (engine.ts) in a worker, so the page stays free while a picture is decoded and looked at.
 */

import type { EngineStart, WorkerAnswer } from "./engine-worker.js";
import type { PagePreprocessing } from "./pixels.js";

/** Loads a file that lies beside this one. */
export type LoadBytes = (name: string) => Promise<ArrayBuffer>;

/** A network ready to run. */
export interface WebRuntime {
  /**
   * Logits [classes] of a picture's file. Calls must not overlap.
   *
   * @throws Error in words for people
   */
  run(picture: Blob): Promise<Float32Array>;
}

/** @throws Error in words for people */
export async function openRuntime(load: LoadBytes, preprocessing: PagePreprocessing): Promise<WebRuntime> {
  const ask = startWorker();
  const [wasm, weights, program] = await Promise.all([
    load("riffle.wasm"),
    load("model.safetensors"),
    load("program.json"),
  ]);
  await ask({ wasm, weights, program, preprocessing }, [wasm, weights, program]);
  return { run: (picture) => ask(picture) };
}

type Ask = (message: EngineStart | Blob, moved?: readonly ArrayBuffer[]) => Promise<Float32Array>;

function startWorker(): Ask {
  const { Worker } = globalThis as unknown as BrowserParts;
  const worker = new Worker(new URL("engine-worker.js", import.meta.url), { type: "module" });
  const broken = new Promise<never>((_, reject) => {
    worker.onerror = () =>
      reject(
        new Error(
          "engine-worker.js did not run: is the folder there whole, and the browser of 2023 or newer?",
        ),
      );
  });
  // Said to whoever asks, which may be later.
  broken.catch(() => undefined);
  return (message, moved = []) => {
    const answer = new Promise<Float32Array>((resolve, reject) => {
      worker.onmessage = ({ data }) => {
        if ("error" in data) reject(new Error(data.error));
        else resolve(data.logits);
      };
    });
    worker.postMessage(message, moved);
    return Promise.race([answer, broken]);
  };
}

/** What of a browser is used here; Node's types do not have it. */
interface BrowserParts {
  readonly Worker: new (script: URL, options: { type: "module" }) => BrowserWorker;
}
interface BrowserWorker {
  onmessage: (event: { readonly data: WorkerAnswer }) => void;
  onerror: () => void;
  postMessage(message: EngineStart | Blob, moved: readonly ArrayBuffer[]): void;
}
