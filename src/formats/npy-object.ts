/**
 * Reads and writes `.npy` files of Python objects: dicts, lists and arrays, as `numpy.save` leaves them.
 *
 * The objects are a pickle (pickle.ts), which is read without running anything: of all that a pickle may name, only
 * the few functions by which NumPy rebuilds its own arrays are understood. Files of Python 2 come out as
 * `numpy.load(..., allow_pickle=True, encoding="latin1")` gives them.
 *
 * Lengths are in bytes, shapes in elements. Arrays come out in C order.
 *
 * Source: numpy.org, numpy.ndarray.__reduce__ and numpy/_core/src/multiarray/methods.c (array_setstate).
 */

import { FormatError } from "../core/error.js";
import { type NpyArray, numericType, scanNpyHeader, VIEWS } from "./npy.js";
import { Call, Global, type PickleValue, readPickle, Tuple } from "./pickle.js";
import { EntryStream, type Writable, writePickle } from "./pickle-writer.js";
import { readWhole } from "./read-file.js";

/** What an object array holds. Python's lists and tuples are both arrays here. */
export type NumpyValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | readonly NumpyValue[]
  | NumpyDict
  | NpyArray
  | ObjectArray;
type NumpyDict = ReadonlyMap<NumpyValue, NumpyValue>;

/** An array of objects, in C order; `numpy.save` of a dict makes one of shape [] with the dict in it. */
export class ObjectArray {
  constructor(
    readonly shape: readonly number[],
    readonly items: readonly NumpyValue[],
  ) {}
}

/** Half a million boxes take 60 MB; this bounds what a mistaken path can cost. */
const MAX_FILE_BYTES = 2 ** 30;

/** Reads a file of objects; numbers alone are read by npy.ts. */
export async function readNpyObject(path: string): Promise<ObjectArray> {
  return parseNpyObject(await readWhole(path, MAX_FILE_BYTES), path);
}

/**
 * The objects in the file's bytes.
 *
 * @throws FormatError where the file is cut short, is not of objects, or holds anything but data.
 */
export function parseNpyObject(bytes: Uint8Array, where: string): ObjectArray {
  const { descr, shape, fortran, textOffset, dataOffset } = scanNpyHeader(bytes, where);
  if (fortran && shape.length > 1)
    throw new FormatError(where, textOffset, "objects in Fortran order, which are not read");
  if (!/^\|?O8?$/.test(descr)) {
    throw new FormatError(where, textOffset, "an array of numbers, where Python objects are expected", {
      found: `'${descr}'`,
    });
  }
  const { value, end } = readPickle(bytes, where, { allowed: ALLOWED }, dataOffset);
  if (end !== bytes.length) {
    throw new FormatError(where, end, `${bytes.length - end} bytes left over after the pickle`);
  }
  const array = new Converter(where, dataOffset, bytes.length).convert(value);
  const fits = array instanceof ObjectArray && array.shape.join() === shape.join();
  if (!fits) {
    throw new FormatError(
      where,
      dataOffset,
      "the pickle is not the array of objects that the header declares",
    );
  }
  return array;
}

/**
 * A dict of rows of f32, `width` to a row, as `numpy.save(path, dict)` writes it: the file's bytes, in pieces.
 * `numpy.load(path, allow_pickle=True).item()` is that dict.
 */
export function encodeNpyDict(
  entries: Iterable<readonly [string, Float32Array]>,
  width: number,
): Uint8Array[] {
  // The module's old name: NumPy 1 knows no other, and NumPy 2 keeps it for pickles.
  const reconstruct = new Global("numpy.core.multiarray", "_reconstruct");
  const ndarray = new Global("numpy", "ndarray");
  const dtype = new Global("numpy", "dtype");
  const empty = new Tuple([0]);
  const kind = Buffer.from("b");
  const float32 = new Call(dtype, ["f4", false, true], undefined);
  float32.state = new Tuple([3, "<", null, null, null, -1, -1, 0]);
  const object = new Call(dtype, ["O8", false, true], undefined);
  object.state = new Tuple([3, "|", null, null, null, -1, -1, 63]);

  function* arrays(): Iterable<readonly [PickleValue, Writable]> {
    for (const [name, rows] of entries) {
      const call = new Call(reconstruct, [ndarray, empty, kind], undefined);
      const bytes = new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength);
      call.state = new Tuple([1, new Tuple([rows.length / width, width]), float32, false, bytes]);
      yield [name, call];
    }
  }
  const whole = new Call(reconstruct, [ndarray, empty, kind], undefined);
  const items: Writable[] = [new EntryStream(arrays())];
  whole.state = new Tuple([1, new Tuple([]), object, false, items as PickleValue[]]);
  const shared = new Set<object>([reconstruct, ndarray, dtype, empty, kind, float32, object]);
  return [objectHeader("()"), ...writePickle(whole, shared)];
}

const ALLOWED: ReadonlyMap<string, "object"> = new Map(
  [
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.core.numeric._frombuffer",
    "numpy._core.numeric._frombuffer",
    "numpy.ndarray",
    "numpy.dtype",
    "_codecs.encode",
  ].map((name) => [name, "object"]),
);

/** Nesting of containers; what NumPy's users save has three levels. */
const MAX_DEPTH = 64;

/** Gives a pickle's calls their meaning. Each container is converted once, so shared parts cost nothing extra. */
class Converter {
  readonly #done = new Map<object, NumpyValue>();
  /** Containers being converted; one that is met inside itself has no end. */
  readonly #open = new Set<object>();

  /** What may still be copied: a thousand arrays may all name the same bytes, but NumPy writes none twice. */
  #budget: number;

  constructor(
    private readonly where: string,
    private readonly offset: number,
    fileBytes: number,
  ) {
    // Twice: text is made bytes before it is made numbers.
    this.#budget = 2 * fileBytes;
  }

  convert(value: PickleValue): NumpyValue {
    if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
    const done = this.#done.get(value);
    if (done !== undefined) return done;
    if (this.#open.has(value)) throw this.#error("an object that contains itself");
    if (this.#open.size >= MAX_DEPTH) throw this.#error(`objects nested more than ${MAX_DEPTH} deep`);
    this.#open.add(value);
    const converted = this.#container(value);
    this.#open.delete(value);
    this.#done.set(value, converted);
    return converted;
  }

  #container(value: object): NumpyValue {
    if (Array.isArray(value)) return (value as PickleValue[]).map((item) => this.convert(item));
    if (value instanceof Tuple) return value.items.map((item) => this.convert(item));
    if (value instanceof Map) {
      const dict = new Map<NumpyValue, NumpyValue>();
      for (const [key, item] of value as ReadonlyMap<PickleValue, PickleValue>) {
        dict.set(this.convert(key), this.convert(item));
      }
      return dict;
    }
    if (value instanceof Call) return this.#call(value);
    throw this.#error("a set or a bare name, which are no data of NumPy's");
  }

  #call(call: Call): NumpyValue {
    switch (call.callee.name) {
      case "_reconstruct":
        return this.#array(call);
      case "scalar": {
        const [dtype, bytes] = call.args;
        const { data } = this.#numbers(dtype, [], this.#bytesOf(bytes), false);
        const [scalar] = data;
        return scalar as NumpyValue;
      }
      case "_frombuffer": {
        const [bytes, dtype, shape, order] = call.args;
        return this.#numbers(dtype, this.#shape(shape), this.#bytesOf(bytes), order === "F");
      }
      case "encode":
        return this.#bytesOf(call);
      default:
        throw this.#error(`a ${call.callee.fullName} object by itself`);
    }
  }

  /** `_reconstruct(ndarray, (0,), b"b")` with the state (version, shape, dtype, is Fortran order, data). */
  #array({ args, state }: Call): NumpyValue {
    const [type] = args;
    if (!(type instanceof Global && type.name === "ndarray")) throw this.#error("rebuilds no ndarray");
    if (!(state instanceof Tuple) || state.items.length !== 5)
      throw this.#error("an array without its state");
    const [version, shapeTuple, dtype, fortran, data] = state.items;
    if (version !== 1) throw this.#error("an unknown version of an array's state");
    const shape = this.#shape(shapeTuple);
    if (!Array.isArray(data)) return this.#numbers(dtype, shape, this.#bytesOf(data), truth(fortran));
    if (this.#code(dtype) !== "O8" && this.#code(dtype) !== "O4") {
      throw this.#error("an array of numbers whose data is a list");
    }
    if (data.length !== elements(shape)) {
      throw this.#error(`shape [${shape.join(", ")}] with ${data.length} objects`);
    }
    this.#spend(data.length);
    if (truth(fortran) && shape.length > 1) throw this.#error("objects in Fortran order, which are not read");
    return new ObjectArray(
      shape,
      data.map((item) => this.convert(item)),
    );
  }

  #numbers(
    dtype: PickleValue | undefined,
    shape: readonly number[],
    bytes: Uint8Array,
    fortran: boolean,
  ): NumericArray {
    const code = this.#code(dtype);
    const type = numericType(code);
    if (type === undefined) throw this.#error(`element type ${JSON.stringify(code)} is not read`);
    if (elements(shape) * VIEWS[type].BYTES_PER_ELEMENT !== bytes.length) {
      throw this.#error(`shape [${shape.join(", ")}] of ${code} with ${bytes.length} bytes`);
    }
    this.#spend(bytes.length);
    const own = new Uint8Array(bytes);
    const data = new VIEWS[type](own.buffer);
    return {
      dtype: type,
      shape,
      data: fortran && shape.length > 1 ? toC(data, shape) : data,
    } as NumericArray;
  }

  /** "f4" of `dtype("f4", False, True)` with the state (3, "<", ...). */
  #code(dtype: PickleValue | undefined): string {
    if (!(dtype instanceof Call && dtype.callee.name === "dtype"))
      throw this.#error("an array without an element type");
    const [code] = dtype.args;
    const order = dtype.state instanceof Tuple ? dtype.state.items[1] : undefined;
    if (typeof code !== "string" || code.length > 16) throw this.#error("an element type without a name");
    if (order === ">") throw this.#error("big-endian numbers are not read");
    if (order !== "<" && order !== "|" && order !== "=")
      throw this.#error("an element type without a byte order");
    return code;
  }

  #shape(value: PickleValue | undefined): number[] {
    if (!(value instanceof Tuple) || value.items.length > 32) throw this.#error("an array without a shape");
    return value.items.map((length) => {
      if (typeof length !== "number" || !Number.isInteger(length) || length < 0) {
        throw this.#error("a length in a shape that is no whole number");
      }
      return length;
    });
  }

  /** Bytes as they are in Python 3, as text in Python 2, and as `encode(text, "latin1")` in protocols before 3. */
  #bytesOf(value: PickleValue | undefined): Uint8Array {
    if (value instanceof Uint8Array) return value;
    let text: PickleValue | undefined = value;
    if (value instanceof Call && value.callee.name === "encode") {
      const [inner, encoding] = value.args;
      if (encoding !== "latin1") throw this.#error("bytes in an encoding other than latin1");
      text = inner;
    }
    if (typeof text !== "string") throw this.#error("an array without bytes");
    this.#spend(text.length);
    // The characters are bytes; anything above 255 would lose its upper half in silence.
    if (/[^\0-\xff]/.test(text)) throw this.#error("text where bytes are expected");
    return Buffer.from(text, "latin1");
  }

  #spend(amount: number): void {
    this.#budget -= amount;
    if (this.#budget < 0) throw this.#error("arrays that share bytes to become larger than the file");
  }

  #error(what: string): FormatError {
    return new FormatError(this.where, this.offset, `the pickle holds ${what}`);
  }
}

type NumericArray = Exclude<NpyArray, { readonly dtype: "text" }>;
type Numbers = NumericArray["data"];

function truth(value: PickleValue | undefined): boolean {
  return value === true || value === 1;
}

function elements(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}

/** Elements in C order; in Fortran order the first axis is the fast one. */
function toC(data: Numbers, shape: readonly number[]): Numbers {
  const out = data.slice();
  // Along each axis: how far apart neighbours lie in the Fortran order.
  const strides = shape.map((_, axis) => elements(shape.slice(0, axis)));
  const index = shape.map(() => 0);
  let from = 0;
  for (let to = 0; to < out.length; to++) {
    out[to] = data[from] as never;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const stride = strides[axis] as number;
      from += stride;
      if (++(index[axis] as number) < (shape[axis] as number)) break;
      from -= stride * (shape[axis] as number);
      index[axis] = 0;
    }
  }
  return out;
}

/** Version 1.0, padded so that the data begins at a multiple of 64. */
function objectHeader(shape: string): Uint8Array {
  const dict = `{'descr': '|O', 'fortran_order': False, 'shape': ${shape}, }`;
  const length = Math.ceil((10 + dict.length + 1) / 64) * 64 - 10;
  const head = Buffer.from(`\x93NUMPY\x01\x00\0\0${dict.padEnd(length - 1)}\n`, "latin1");
  head.writeUInt16LE(length, 8);
  return head;
}
