/**
 * The engine's module, native/wasm/riffle.wasm: what an instance of it needs, and what it offers beside the engine
 * (backends/wasm): pictures resized, checksums. Nothing here needs Node or a page.
 */

import { WebAssembly, type WasmMemory, type WasmModule } from "./web-assembly.js";

const PAGE = 65536;
/** What 32 bits can name but the last page, as the module was linked (scripts/build-wasm.mjs). */
const MOST_PAGES = 65535;
/** Below this nothing is worth trying. */
const FEWEST_PAGES = 1024;
/** The module's own beginning: its stack and constants (1 MiB and some kilobytes). */
const FIRST_PAGES = 32;

/** Bytes that an instance may have in all. */
export const MOST_MEMORY = MOST_PAGES * PAGE;

/** An engine's memory that could not grow, or not be had at all; src/core/error.ts knows the code. */
export class MemoryError extends Error {
  readonly code = "RIFFLE_MEMORY";
}

/** @param origin `performance.timeOrigin` of the thread whose clock is that of all instances on this memory */
export function instantiate(module: WasmModule, memory: WasmMemory, origin = performance.timeOrigin): object {
  const ahead = performance.timeOrigin - origin;
  const riffle = {
    now: () => (ahead + performance.now()) * 1e6,
    refuse(place: number, length: number): never {
      // A copy: what is shared is not decoded.
      throw new TypeError(new TextDecoder().decode(new Uint8Array(memory.buffer, place, length).slice()));
    },
    failForMemory(): never {
      throw new MemoryError("the engine's memory cannot grow");
    },
  };
  return new WebAssembly.Instance(module, { env: { memory }, riffle }).exports;
}

/** As much as may be asked for; only what is used is taken from the system. */
export function memoryFor(shared: boolean): WasmMemory {
  for (let maximum = MOST_PAGES; maximum >= FEWEST_PAGES; maximum = Math.floor(maximum / 2)) {
    try {
      return new WebAssembly.Memory({ initial: FIRST_PAGES, maximum, shared });
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
  }
  throw new MemoryError("there is no memory for the engine");
}

/**
 * The module for a memory that is not shared, for pages that may not have one: the same code, whose one import of a memory says
 * whether it is shared by a bit (WebAssembly core specification, binary format, limits).
 */
export function unshared(module: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = Uint8Array.from(module);
  bytes[sharedFlagOf(bytes)] = 1;
  return bytes;
}

/** Where the flags of the imported memory's limits are. */
function sharedFlagOf(bytes: Uint8Array): number {
  let at = 8;
  const number = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++] ?? 0;
      value |= (byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  const skip = (length: number): void => void (at += length);
  while (at < bytes.length) {
    const section = number();
    const length = number();
    if (section !== 2) {
      skip(length);
      continue;
    }
    for (let imports = number(); imports > 0; imports--) {
      skip(number());
      skip(number());
      const kind = number();
      if (kind === 2) return at;
      // A function's type; there are no tables and globals.
      number();
    }
  }
  throw new TypeError("the module imports no memory");
}

/** What native/decode/resize.h is told of a picture: the part of data/pictures/augment.ts's `Transform` that it needs. */
export interface WasmTransform {
  readonly box: { readonly x: number; readonly y: number; readonly width: number; readonly height: number };
  readonly resized: { readonly width: number; readonly height: number };
  readonly window: { readonly x: number; readonly y: number };
  readonly size: number;
  readonly filter: (typeof filters)[number];
  readonly flip: boolean;
  /** Added to each channel, as a share of full scale. */
  readonly shift: readonly [red: number, green: number, blue: number];
  readonly grayscale: boolean;
}

/** In the order of `enum class Filter` (native/decode/resize.h). */
const filters = ["tensorflow", "pillow", "pillow-bytes"] as const;

interface PictureExports {
  _initialize(): void;
  allocate(bytes: number): number;
  release(place: number): void;
  resize(
    transform: number,
    pixels: number,
    width: number,
    height: number,
    channels: number,
    out: number,
  ): void;
  crc32c(bytes: number, length: number, previous: number): number;
}

/** Resizes and sums in an instance of its own; its memory grows with the largest picture and is not shared. */
export class WasmPictures {
  readonly #memory: WasmMemory;
  readonly #exports: PictureExports;

  /** @param bytes the file */
  constructor(bytes: Uint8Array) {
    this.#memory = memoryFor(false);
    this.#exports = instantiate(
      new WebAssembly.Module(unshared(bytes)),
      this.#memory,
    ) as unknown as PictureExports;
    this.#exports._initialize();
  }

  /**
   * Writes [size, size, 3] bytes, as native/decode/resize.cc does for the addon.
   *
   * @param pixels [height, width, channels], of 1 or 3 channels; the box lies within
   */
  resize(
    { box, resized, window, size, filter, flip, shift, grayscale }: WasmTransform,
    pixels: Uint8Array,
    [width, height, channels]: readonly [width: number, height: number, channels: number],
    out: Uint8Array,
  ): void {
    const inside = box.x >= 0 && box.y >= 0 && box.x + box.width <= width && box.y + box.height <= height;
    if (!inside || pixels.length !== width * height * channels || out.length !== size * size * 3) {
      throw new TypeError("the box lies within the picture, and the result is a square of RGB");
    }
    const places = [
      this.#put(
        Float64Array.of(
          ...[box.x, box.y, box.width, box.height, resized.width, resized.height, window.x, window.y],
          ...[size, filters.indexOf(filter), Number(flip), ...shift, Number(grayscale)],
        ),
      ),
      this.#put(pixels),
      this.#exports.allocate(out.length),
    ] as const;
    this.#exports.resize(places[0], places[1], width, height, channels, places[2]);
    out.set(new Uint8Array(this.#memory.buffer, places[2], out.length));
    for (const place of places) this.#exports.release(place);
  }

  /** `previous` continues a sum over the bytes before these. */
  crc32c(bytes: Uint8Array, previous = 0): number {
    const place = this.#put(bytes);
    const sum = this.#exports.crc32c(place, bytes.length, previous) >>> 0;
    this.#exports.release(place);
    return sum;
  }

  #put(values: ArrayBufferView): number {
    const place = this.#exports.allocate(values.byteLength);
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    new Uint8Array(this.#memory.buffer, place, bytes.length).set(bytes);
    return place;
  }
}
