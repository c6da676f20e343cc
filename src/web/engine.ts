/**
 * Riffle's engine for one picture at a time, for JavaScript anywhere: WebAssembly of the same C++ as `riffle predict --backend wasm`, and
 * its bits. It imports nothing.
 *
 *     const { infer } = await openEngine({ wasm, weights, program });   // the files riffle.wasm, model.safetensors, program.json
 *     const logits = infer(croppedBytes(picture, preprocessing));       // preprocess.js
 */

import type { Exports } from "../backends/wasm/instance.js";
import type { WebAssembly as Namespace, WasmMemory } from "../core/web-assembly.js";

/** What the files hold. */
export interface EngineFiles {
  readonly wasm: ArrayBuffer;
  readonly weights: ArrayBuffer;
  readonly program: ArrayBuffer;
}

export interface Engine {
  /**
   * Logits [classes] of a picture's bytes [size, size, 3] of RGB.
   *
   * @throws Error in words for people
   */
  readonly infer: (pixels: Uint8Array) => Float32Array;
}

/** What program.json holds: a network's program for the engine, for a batch of one, and where its weights go. */
export interface PageProgram {
  /** Bytes of the files that it was written with. */
  readonly files: Readonly<Record<"riffle.wasm" | "model.safetensors", number>>;
  readonly image_size: number;
  readonly classes: number;
  /** Where each tensor begins in the engine's two arrays, in floats. */
  readonly parameters: Readonly<Record<string, number>>;
  readonly statistics: Readonly<Record<string, number>>;
  readonly words: PackedWords;
}

/** A program's words (src/backends/engine/encode.ts), hundreds of kilobytes of which hardly any is news. */
export interface PackedWords {
  /** Each as its difference to the one {@link WORDS_BACK} before it, of 32 bits; deflated; in base64. */
  readonly differences: string;
  /** Those that are no integers of 32 bits: index and value. Their integer is 0. */
  readonly others: readonly (readonly [index: number, value: number])[];
}

/** A plane is so many words, and most words are of planes. */
export const WORDS_BACK = 8;

/** @throws Error in words for people */
export async function openEngine(files: EngineFiles): Promise<Engine> {
  const program = readProgram(files);
  const words = await unpackWords(program.words);
  const { exports, memory } = await instantiate(files.wasm);
  const put = (bytes: Uint8Array, place = exports.allocate(bytes.length)): number => {
    new Uint8Array(memory.buffer, place, bytes.length).set(bytes);
    return place;
  };
  const wordsPlace = put(new Uint8Array(words.buffer));
  exports.createRun(wordsPlace, words.length, 1, 0);
  exports.release(wordsPlace);
  for (const [name, bytes] of tensorsOf(files.weights)) {
    const which = name in program.parameters ? 0 : 1;
    const offset = which === 0 ? program.parameters[name] : program.statistics[name];
    if (offset === undefined) throw foreign("model.safetensors");
    put(bytes, exports.stateArray(which) + 4 * offset);
  }
  exports.prepare();
  const { image_size, classes } = program;
  const pixelsPlace = exports.allocate(3 * image_size ** 2);
  const logitsPlace = exports.allocate(4 * classes);
  let isBroken = false;
  return {
    infer: (pixels) => {
      if (isBroken) throw new Error("The engine failed at an earlier picture. Load the page again");
      if (pixels.length !== 3 * image_size ** 2) {
        throw new Error(`pictures of ${image_size} x ${image_size} x 3 bytes are expected`);
      }
      put(pixels, pixelsPlace);
      // Nothing is unwound when a call throws.
      isBroken = true;
      exports.infer(pixelsPlace, 1, logitsPlace);
      isBroken = false;
      return new Float32Array(memory.buffer, logitsPlace, classes).slice();
    },
  };
}

/** A file that lost its end on the way, or is of another export, is told before any of it is used. */
function readProgram({ wasm, weights, program }: EngineFiles): PageProgram {
  const read = parse<PageProgram>("program.json", new Uint8Array(program));
  for (const [name, { byteLength }] of Object.entries({
    "riffle.wasm": wasm,
    "model.safetensors": weights,
  })) {
    const expected = read.files[name as keyof PageProgram["files"]];
    if (byteLength < expected) throw cutShort(name, `${byteLength} of ${expected} bytes are there`);
    if (byteLength > expected) throw foreign(name);
  }
  return read;
}

function parse<T>(name: string, bytes: Uint8Array): T {
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as T;
  } catch {
    throw cutShort(name, "it does not end as it should");
  }
}

function cutShort(name: string, found: string): Error {
  return new Error(`${name} is cut short: ${found}. Copy the exported folder to the server again`);
}

function foreign(name: string): Error {
  return new Error(
    `${name} is of another export than program.json. Copy the exported folder to the server again`,
  );
}

/** Every tensor of a safetensors file, all of f32, and its bytes. */
function* tensorsOf(file: ArrayBuffer): Generator<[name: string, bytes: Uint8Array]> {
  const length = Number(new DataView(file).getBigUint64(0, true));
  type Header = Record<string, { readonly data_offsets: readonly [number, number] }>;
  const header = parse<Header>("model.safetensors", new Uint8Array(file, 8, length));
  for (const [name, { data_offsets }] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [begin, end] = data_offsets;
    yield [name, new Uint8Array(file, 8 + length + begin, end - begin)];
  }
}

/** The program's words as the engine takes them. */
export async function unpackWords({ differences, others }: PackedWords): Promise<Float64Array> {
  const deflated = Uint8Array.from(atob(differences), (letter) => letter.charCodeAt(0));
  const inflating = new Blob([deflated]).stream().pipeThrough(new DecompressionStream("deflate"));
  const integers = new Int32Array(await new Response(inflating).arrayBuffer());
  for (let i = WORDS_BACK; i < integers.length; i++) {
    integers[i] = (integers[i] as number) + (integers[i - WORDS_BACK] as number);
  }
  const words = Float64Array.from(integers);
  for (const [index, value] of others) words[index] = value;
  return words;
}

interface Instance {
  readonly exports: Exports;
  readonly memory: WasmMemory;
}

async function instantiate(wasm: ArrayBuffer): Promise<Instance> {
  const { WebAssembly } = globalThis as unknown as { readonly WebAssembly: typeof Namespace };
  const module = await WebAssembly.compile(new Uint8Array(wasm)).catch((error: Error) => {
    throw new Error(`riffle.wasm is refused by this browser: ${error.message}`);
  });
  const memory = memoryIn(WebAssembly);
  const riffle = {
    now: () => performance.now() * 1e6,
    refuse(place: number, length: number): never {
      throw new Error(new TextDecoder().decode(new Uint8Array(memory.buffer, place, length)));
    },
    failForMemory(): never {
      throw new Error("the browser has no more memory for the network");
    },
  };
  const instance = new WebAssembly.Instance(module, { env: { memory }, riffle });
  const exports = instance.exports as unknown as Exports;
  exports._initialize();
  return { exports, memory };
}

/** With room to grow as far as the browser has addresses for; what is not used costs nothing. Of 64 KiB each. */
function memoryIn(WebAssembly: typeof Namespace): WasmMemory {
  const [first, fewest] = [32, 1024];
  for (let maximum = 65535; maximum >= fewest; maximum >>= 1) {
    try {
      return new WebAssembly.Memory({ initial: first, maximum, shared: false });
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  }
  throw new Error("the browser has no memory for the network");
}
