/**
 * The worker behind runtime.ts: first it is sent the network, then pictures one by one; it answers each with logits, or says why not.
 */

import { type Engine, type EngineFiles, openEngine } from "./engine.js";
import { type PagePreprocessing, pixelsOf } from "./pixels.js";
import { croppedBytes } from "./preprocess.js";

export interface EngineStart extends EngineFiles {
  readonly preprocessing: PagePreprocessing;
}

/** To what starts it, no logits. */
export type WorkerAnswer = { readonly logits: Float32Array } | { readonly error: string };

interface Network {
  readonly engine: Engine;
  readonly preprocessing: PagePreprocessing;
}

let network: Network | undefined;

async function answer(asked: EngineStart | Blob): Promise<WorkerAnswer> {
  try {
    return { logits: asked instanceof Blob ? await look(asked, network as Network) : await start(asked) };
  } catch (error) {
    return { error: (error as Error).message };
  }
}

async function start({ preprocessing, ...files }: EngineStart): Promise<Float32Array> {
  if (!("DecompressionStream" in globalThis && "OffscreenCanvas" in globalThis)) {
    throw new Error("This browser is too old for the page: it needs one of 2023 or newer.");
  }
  network = { engine: await openEngine(files), preprocessing };
  return new Float32Array();
}

async function look(picture: Blob, { engine, preprocessing }: Network): Promise<Float32Array> {
  return engine.infer(croppedBytes(await pixelsOf(picture, preprocessing), preprocessing));
}

/** What of a worker's scope is used here; Node's types do not have it. */
interface WorkerScope {
  onmessage: (event: { readonly data: EngineStart | Blob }) => void;
  postMessage(answer: WorkerAnswer): void;
}

const scope = globalThis as unknown as WorkerScope;
scope.onmessage = ({ data }) => void answer(data).then((answered) => scope.postMessage(answered));
