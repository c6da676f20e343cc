/**
 * Reads NumPy's `.npy` arrays, so that data sets, reference outputs and bounding boxes come in as typed arrays.
 *
 * Numbers, booleans and text, of either byte order; what was saved in Fortran order comes in C order. Object arrays hold Python pickles; npy-object.ts reads those,
 * and nothing in a file is ever run. The header is a Python dict literal; it is scanned, never evaluated.
 *
 * Offsets and lengths are in bytes, shapes in elements.
 *
 * Source: numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
 */

import { FormatError } from "../core/error.js";

/** What `data` is, by NumPy's type code. Booleans are bytes 0 and 1; `text` is NumPy's fixed-width "U". */
interface NpyData {
  readonly bool: Uint8Array;
  readonly u1: Uint8Array;
  readonly i1: Int8Array;
  readonly u2: Uint16Array;
  readonly i2: Int16Array;
  readonly u4: Uint32Array;
  readonly i4: Int32Array;
  readonly u8: BigUint64Array;
  readonly i8: BigInt64Array;
  readonly f4: Float32Array;
  readonly f8: Float64Array;
  readonly text: readonly string[];
}
type NpyDtype = keyof NpyData;

/** An array; `dtype` decides the type of `data`. A scalar has the shape []. */
export type NpyArray = {
  readonly [K in NpyDtype]: {
    readonly dtype: K;
    readonly shape: readonly number[];
    readonly data: NpyData[K];
  };
}[NpyDtype];

/** What stands before the numbers. */
export interface NpyHeader {
  readonly dtype: NpyDtype;
  readonly shape: readonly number[];
  readonly bigEndian: boolean;
  /** Whether the first index runs fastest in the file. */
  readonly fortran: boolean;
  /** Bytes of one element; for text 4 times its width in characters. */
  readonly elementBytes: number;
  /** Where the numbers begin. */
  readonly dataOffset: number;
  /** How long they are. */
  readonly dataBytes: number;
}

/** No header of a plain array comes near this; it bounds what is read before the header is understood. */
export const MAX_HEADER_BYTES = 4096;

/**
 * The array in `bytes`; `where` names it in errors. The result shares the memory of `bytes` where alignment allows.
 *
 * @throws FormatError with the byte at which the file stops being an array we read.
 */
export function parseNpy(bytes: Uint8Array, where: string): NpyArray {
  const header = parseNpyHeader(bytes, where);
  checkLength(header, bytes.length, where);
  const data = inOrder(bytes.subarray(header.dataOffset, header.dataOffset + header.dataBytes), header);
  const { dtype, shape } = header;
  if (dtype === "text") return { dtype, shape, data: decodeText(data, header, where) };
  const View = VIEWS[dtype];
  // Views need aligned memory; NumPy pads headers to 64 bytes, so the copy is for foreign writers only.
  const aligned = data.byteOffset % header.elementBytes === 0 ? data : new Uint8Array(data);
  const count = header.dataBytes / header.elementBytes;
  return {
    dtype,
    shape,
    data: new View(aligned.buffer as ArrayBuffer, aligned.byteOffset, count),
  } as NpyArray;
}

/** The header alone; `bytes` need hold no more than the first {@link MAX_HEADER_BYTES} of the file. */
export function parseNpyHeader(bytes: Uint8Array, where: string): NpyHeader {
  const { descr, shape, fortran, textOffset, dataOffset } = scanNpyHeader(bytes, where);
  const { dtype, elementBytes, bigEndian } = elementType(descr, where, textOffset);
  const dataBytes = shape.reduce((total, length) => total * length, elementBytes);
  if (!Number.isSafeInteger(dataBytes)) {
    throw new FormatError(where, textOffset, `shape [${shape.join(", ")}] is more than can be addressed`);
  }
  return { dtype, shape, bigEndian, fortran, elementBytes, dataOffset, dataBytes };
}

/** The bytes as a little-endian machine saves an array in C order; a copy where they are not so already. */
function inOrder(
  data: Uint8Array,
  { dtype, shape, bigEndian, fortran, elementBytes }: NpyHeader,
): Uint8Array {
  // One dimension, or none, is the same in both.
  const turned =
    fortran && shape.filter((length) => length > 1).length > 1 ? inCOrder(data, shape, elementBytes) : data;
  if (!bigEndian) return turned;
  const swapped = turned === data ? data.slice() : turned;
  const unit = dtype === "text" ? 4 : elementBytes;
  for (let at = 0; at < swapped.length; at += unit) swapped.subarray(at, at + unit).reverse();
  return swapped;
}

/** Copies elements of `size` bytes so that the last index runs fastest instead of the first. */
function inCOrder(data: Uint8Array, shape: readonly number[], size: number): Uint8Array {
  const out = new Uint8Array(data.length);
  const strides = shape.map((_, axis) =>
    shape.slice(0, axis).reduce((product, length) => product * length, size),
  );
  const index = shape.map(() => 0);
  let from = 0;
  for (let to = 0; to < out.length; to += size) {
    for (let i = 0; i < size; i++) out[to + i] = data[from + i] as number;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += strides[axis] as number;
      index[axis] = (index[axis] as number) + 1;
      if ((index[axis] as number) < (shape[axis] as number)) break;
      from -= (strides[axis] as number) * (shape[axis] as number);
      index[axis] = 0;
    }
  }
  return out;
}

/** The header as it is written, whatever its element type; `textOffset` is where its dict begins. */
export function scanNpyHeader(
  bytes: Uint8Array,
  where: string,
): {
  readonly descr: string;
  readonly shape: readonly number[];
  readonly fortran: boolean;
  readonly textOffset: number;
  readonly dataOffset: number;
} {
  const magic = String.fromCharCode(...bytes.subarray(0, 6));
  if (magic !== "\x93NUMPY") {
    throw new FormatError(where, 0, "not a NumPy array: it does not begin with \\x93NUMPY");
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const major = bytes[6];
  if (major !== 1 && major !== 2 && major !== 3) {
    throw new FormatError(where, 6, "unknown .npy version", {
      expected: "1, 2 or 3",
      found: String(major ?? "the end of the file"),
    });
  }
  const lengthBytes = major === 1 ? 2 : 4;
  const textOffset = 8 + lengthBytes;
  if (bytes.length < textOffset) throw cut(where, textOffset, bytes.length);
  const textBytes = major === 1 ? view.getUint16(8, true) : view.getUint32(8, true);
  const dataOffset = textOffset + textBytes;
  if (dataOffset > MAX_HEADER_BYTES) {
    throw new FormatError(where, 8, "the header is longer than a plain array's", {
      expected: `at most ${MAX_HEADER_BYTES} bytes`,
      found: `${dataOffset}`,
    });
  }
  if (bytes.length < dataOffset) throw cut(where, dataOffset, bytes.length);
  const text = Array.from(bytes.subarray(textOffset, dataOffset), (c) => String.fromCharCode(c)).join("");
  return { ...new HeaderScanner(text, where, textOffset).scan(), textOffset, dataOffset };
}

/**
 * The numbers as f64.
 *
 * @throws FormatError for text, and for 64-bit integers beyond 2^53 that f64 cannot hold.
 */
export function toFloat64(array: NpyArray, where: string): Float64Array {
  if (array.dtype === "text") throw new FormatError(where, 0, "holds text, not numbers");
  if (array.dtype !== "i8" && array.dtype !== "u8") return Float64Array.from(array.data);
  return Float64Array.from(array.data as ArrayLike<bigint>, (value, i) => {
    const number = Number(value);
    if (!Number.isSafeInteger(number)) {
      throw new FormatError(where, i * 8, `element ${i} is ${value}, beyond 2^53`);
    }
    return number;
  });
}

/** The typed array of each type of numbers. */
export const VIEWS = {
  bool: Uint8Array,
  u1: Uint8Array,
  i1: Int8Array,
  u2: Uint16Array,
  i2: Int16Array,
  u4: Uint32Array,
  i4: Int32Array,
  u8: BigUint64Array,
  i8: BigInt64Array,
  f4: Float32Array,
  f8: Float64Array,
} as const;

/** The type of numbers by NumPy's code, such as "f4"; undefined for one that is not read. */
export function numericType(code: string): keyof typeof VIEWS | undefined {
  if (code === "b1") return "bool";
  return code !== "bool" && Object.hasOwn(VIEWS, code) ? (code as keyof typeof VIEWS) : undefined;
}

function elementType(
  descr: string,
  where: string,
  offset: number,
): { readonly dtype: NpyDtype; readonly elementBytes: number; readonly bigEndian: boolean } {
  const refuse = (what: string, hint?: string) =>
    new FormatError(where, offset, what, { found: `'${descr}'`, hint });
  if (/^\|?O/.test(descr)) {
    throw refuse("an array of Python objects, where numbers are expected", "Save it with a number type");
  }
  const [, order, kind, size] = /^([<>|=])([a-zA-Z])([0-9]{1,6})$/.exec(descr) ?? [];
  if (kind === undefined || size === undefined) throw refuse("unknown element type");
  const bytes = Number(size);
  const bigEndian = order === ">" && (bytes > 1 || kind === "U");
  if (kind === "U" && bytes > 0) return { dtype: "text", elementBytes: 4 * bytes, bigEndian };
  const dtype = numericType(`${kind}${bytes}`);
  if (dtype === undefined) {
    throw refuse(
      "this element type is not read",
      "Read are b1, u1, i1, u2, i2, u4, i4, u8, i8, f4, f8 and U",
    );
  }
  return { dtype, elementBytes: VIEWS[dtype].BYTES_PER_ELEMENT, bigEndian };
}

function checkLength(header: NpyHeader, size: number, where: string): void {
  const needed = header.dataOffset + header.dataBytes;
  if (size === needed) return;
  const shape = `[${header.shape.join(", ")}] ${header.dtype}`;
  throw new FormatError(
    where,
    Math.min(size, needed),
    size < needed ? `cut short: shape ${shape} needs more bytes` : `bytes left over after shape ${shape}`,
    { expected: `${needed} bytes`, found: `${size}` },
  );
}

function decodeText(data: Uint8Array, header: NpyHeader, where: string): string[] {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const texts: string[] = [];
  for (let at = 0; at < data.length; at += header.elementBytes) {
    let text = "";
    for (let i = at; i < at + header.elementBytes; i += 4) {
      const code = view.getUint32(i, true);
      if (code > 0x10ffff) {
        throw new FormatError(where, header.dataOffset + i, `${code} is no Unicode character`);
      }
      text += String.fromCodePoint(code);
    }
    texts.push(text.replace(/\0+$/, ""));
  }
  return texts;
}

function cut(where: string, needed: number, found: number): FormatError {
  return new FormatError(where, found, "ends inside the header", {
    expected: `${needed} bytes`,
    found: `${found}`,
  });
}

/**
 * Scans `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }` followed by spaces and a newline: these
 * three keys, each once, in any order, and nothing else.
 */
class HeaderScanner {
  #at = 0;

  constructor(
    private readonly text: string,
    private readonly where: string,
    private readonly offset: number,
  ) {}

  scan(): { readonly descr: string; readonly shape: readonly number[]; readonly fortran: boolean } {
    let descr: string | undefined;
    let order: string | undefined;
    let shape: number[] | undefined;
    this.#take(/\s*\{\s*/y, "{");
    while (this.#try(/\}\s*$/y) === undefined) {
      const [, key] = this.#take(
        /'(descr|fortran_order|shape)'\s*:\s*/y,
        "'descr', 'fortran_order' or 'shape'",
      );
      if (key === "descr" && descr === undefined) {
        if (this.#try(/(?=\[)/y)) throw this.#error("a structured array (named fields), which is not read");
        descr = this.#take(/'([^'\\]{1,16})'/y, "an element type in quotes")[1];
      } else if (key === "fortran_order" && order === undefined) {
        order = this.#take(/True|False/y, "True or False")[0];
      } else if (key === "shape" && shape === undefined) {
        shape = this.#shape();
      } else {
        throw this.#error(`'${key}' twice`);
      }
      if (this.#try(/\s*,\s*/y) === undefined) this.#take(/\s*(?=\})/y, ", or }");
    }
    if (descr === undefined || order === undefined || shape === undefined) {
      throw this.#error("one of 'descr', 'fortran_order' and 'shape' is missing");
    }
    return { descr, shape, fortran: order === "True" };
  }

  /** `()`, `(3,)`, `(3, 4)`, with Python 2's `3L` too. */
  #shape(): number[] {
    const [, list = ""] = this.#take(
      /\(((?:\s*[0-9]{1,16}L?\s*,)*(?:\s*[0-9]{1,16}L?)?)\s*\)/y,
      "a tuple of lengths",
    );
    if (list.trim() !== "" && !list.includes(",")) throw this.#error("a shape that is not a tuple");
    const shape = (list.match(/[0-9]+/g) ?? []).map(Number);
    if (shape.length > 32) throw this.#error(`${shape.length} dimensions, more than NumPy's 32`);
    return shape;
  }

  #try(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.text);
    if (match) this.#at = pattern.lastIndex;
    return match ?? undefined;
  }

  #take(pattern: RegExp, expected: string): RegExpExecArray {
    const match = this.#try(pattern);
    if (match === undefined) throw this.#error("the header is not the dict that NumPy writes", expected);
    return match;
  }

  #error(what: string, expected?: string): FormatError {
    const found = JSON.stringify(this.text.slice(this.#at, this.#at + 24));
    return new FormatError(this.where, this.offset + this.#at, what, { found, expected });
  }
}
