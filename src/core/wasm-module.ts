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
    floats: number,
  ): void;
  crc32c(bytes: number, length: number, previous: number): number;
}

/** What an instance for pictures may keep: one of 80 megapixels. One that grew larger is not used again. */
const KEPT_BYTES = 256 * 2 ** 20;

/** Resizes and sums in an instance of its own, whose memory is not shared. */
export class WasmPictures {
  readonly #module: WasmModule;
  #instance: { readonly memory: WasmMemory; readonly exports: PictureExports };

  /** @param bytes the file */
  constructor(bytes: Uint8Array) {
    this.#module = new WebAssembly.Module(unshared(bytes));
    this.#instance = this.#open();
  }

  /**
   * Writes size x size x 3 values from `offset`, 0..255 into bytes and 0..1 into floats, as native/decode/resize.cc does for the addon.
   *
   * @param pixels [height, width, channels], of 1 or 3 channels
   * @throws TypeError before anything is written where box, window, pixels and output do not fit together, as the addon does
   */
  resize(
    transform: WasmTransform,
    pixels: Uint8Array,
    [width, height, channels]: readonly [width: number, height: number, channels: number],
    out: Uint8Array | Float32Array,
    offset = 0,
  ): void {
    refuseMisfits(transform, pixels, [width, height, channels], out, offset);
    const { box, resized, window, size, filter, flip, shift, grayscale } = transform;
    const inFloats = out instanceof Float32Array;
    const room = 3 * size * size * out.BYTES_PER_ELEMENT;
    const { memory, exports } = this.#instance;
    try {
      const places = [
        this.#put(
          Float64Array.of(
            ...[box.x, box.y, box.width, box.height, resized.width, resized.height, window.x, window.y],
            ...[size, filters.indexOf(filter), Number(flip), ...shift, Number(grayscale)],
          ),
        ),
        this.#put(pixels),
        exports.allocate(room),
      ] as const;
      exports.resize(places[0], places[1], width, height, channels, places[2], Number(inFloats));
      const made = new Uint8Array(memory.buffer, places[2], room);
      new Uint8Array(out.buffer, out.byteOffset + offset * out.BYTES_PER_ELEMENT, room).set(made);
      for (const place of places) exports.release(place);
    } catch (error) {
      // Nothing of it was given back.
      this.#instance = this.#open();
      throw error;
    }
    this.#dropLarge();
  }

  /** `previous` continues a sum over the bytes before these. */
  crc32c(bytes: Uint8Array, previous = 0): number {
    const { exports } = this.#instance;
    const place = this.#put(bytes);
    const sum = exports.crc32c(place, bytes.length, previous) >>> 0;
    exports.release(place);
    this.#dropLarge();
    return sum;
  }

  #open(): { readonly memory: WasmMemory; readonly exports: PictureExports } {
    const memory = memoryFor(false);
    const exports = instantiate(this.#module, memory) as unknown as PictureExports;
    exports._initialize();
    return { memory, exports };
  }

  #put(values: ArrayBufferView): number {
    const { memory, exports } = this.#instance;
    const place = exports.allocate(values.byteLength);
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    new Uint8Array(memory.buffer, place, bytes.length).set(bytes);
    return place;
  }

  /** Memory of WebAssembly never shrinks. */
  #dropLarge(): void {
    if (this.#instance.memory.buffer.byteLength > KEPT_BYTES) this.#instance = this.#open();
  }
}

function refuseMisfits(
  { box, resized, window, size, filter }: WasmTransform,
  pixels: Uint8Array,
  [width, height, channels]: readonly [width: number, height: number, channels: number],
  out: Uint8Array | Float32Array,
  offset: number,
): void {
  const refuse = (what: string): never => {
    throw new TypeError(`transform: ${what}`);
  };
  if (!(out instanceof Uint8Array || out instanceof Float32Array))
    refuse("the output is neither a Uint8Array nor a Float32Array");
  const wholes = [resized.width, resized.height, window.x, window.y, size, offset];
  if (!wholes.every((value) => Number.isSafeInteger(value) && value >= 0) || size < 1)
    refuse("a size or place is no whole number");
  if (window.x + size > resized.width || window.y + size > resized.height)
    refuse("the window leaves the resized picture");
  if (out.length - offset < 3 * size * size) refuse("the output buffer is too short");
  if ((channels !== 1 && channels !== 3) || pixels.length !== width * height * channels)
    refuse("the pixels are not width * height * channels bytes");
  const sides = [box.x, box.y, box.width, box.height];
  if (filter !== "pillow" && !sides.every(Number.isInteger)) refuse("this filter takes boxes in whole pixels"); // prettier-ignore
  const isInside = box.x >= 0 && box.y >= 0 && box.width > 0 && box.height > 0;
  if (!isInside || box.x + box.width > width || box.y + box.height > height)
    refuse("the box leaves the picture");
}
