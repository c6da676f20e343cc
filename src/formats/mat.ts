/**
 * Reads MATLAB's `.mat` files, version 5: numbers, text, cells and structs, as far as ImageNet's devkit and files like it
 * go. Sparse matrices, complex numbers, MATLAB's own objects and the other versions of the format are refused by name.
 *
 * A file is a row of elements, each a type, a length and data; a matrix is an element made of elements. Its parts may be
 * compressed, and what they unpack to is bounded before it is allocated. Everything is checked against what is left of
 * the element around it. Matrices are in column order, as MATLAB keeps them; offsets inside a compressed element count
 * from the beginning of what it unpacked to.
 *
 * Source: "MAT-File Format", MathWorks, R2024a, chapter 1 (level 5).
 */

import { inflateSync } from "node:zlib";

import { errorCode, FormatError } from "../core/error.js";
import { utf8Of } from "./utf8.js";

export type MatValue = MatNumbers | MatText | MatStruct | MatCell;

/** Numbers of any type, as f64; 64-bit integers that f64 cannot hold are refused. */
interface MatNumbers {
  readonly kind: "numbers";
  readonly shape: readonly number[];
  /** In column order. */
  readonly data: Float64Array;
}

/** A matrix of characters: a string is one row. */
interface MatText {
  readonly kind: "text";
  readonly shape: readonly number[];
  readonly rows: readonly string[];
}

/** An array of structs: every field has one value per struct. */
interface MatStruct {
  readonly kind: "struct";
  readonly shape: readonly number[];
  readonly fields: ReadonlyMap<string, readonly MatValue[]>;
}

interface MatCell {
  readonly kind: "cell";
  readonly shape: readonly number[];
  readonly items: readonly MatValue[];
}

/** The devkit's unpacks to 1 MB. */
const MAX_UNPACKED_BYTES = 2 ** 26;

/**
 * The variables in the file's bytes.
 *
 * @throws FormatError with the byte at which the file stops being one that we read.
 */
export function parseMat(bytes: Uint8Array, where: string): Map<string, MatValue> {
  const littleEndian = checkHeader(bytes, where);
  const variables = new Map<string, MatValue>();
  const file = new Elements(bytes, HEADER_BYTES, bytes.length, {
    where,
    littleEndian,
    budget: { left: MAX_UNPACKED_BYTES },
  });
  while (file.more()) {
    const element = file.next();
    const matrix = element.type === COMPRESSED ? inflate(element) : element;
    const { name, value } = readMatrix(matrix, 0);
    if (variables.has(name)) throw element.error(`the variable ${JSON.stringify(name)} twice`);
    variables.set(name, value);
  }
  return variables;
}

const HEADER_BYTES = 128;
const COMPRESSED = 15;
const MATRIX = 14;
/** Structs in structs; the devkit has one level. */
const MAX_DEPTH = 16;
/** A byte of deflate yields at most 1,032. */
const MAX_DEFLATE_RATIO = 1032;

interface NumberType {
  /** Of one number. */
  readonly bytes: number;
  readonly read: (view: DataView, at: number, littleEndian: boolean) => number | bigint;
}

/** Types of data elements that are numbers. */
const NUMBERS: ReadonlyMap<number, NumberType> = new Map<number, NumberType>([
  [1, { bytes: 1, read: (view, at) => view.getInt8(at) }],
  [2, { bytes: 1, read: (view, at) => view.getUint8(at) }],
  [3, { bytes: 2, read: (view, at, little) => view.getInt16(at, little) }],
  [4, { bytes: 2, read: (view, at, little) => view.getUint16(at, little) }],
  [5, { bytes: 4, read: (view, at, little) => view.getInt32(at, little) }],
  [6, { bytes: 4, read: (view, at, little) => view.getUint32(at, little) }],
  [7, { bytes: 4, read: (view, at, little) => view.getFloat32(at, little) }],
  [9, { bytes: 8, read: (view, at, little) => view.getFloat64(at, little) }],
  [12, { bytes: 8, read: (view, at, little) => view.getBigInt64(at, little) }],
  [13, { bytes: 8, read: (view, at, little) => view.getBigUint64(at, little) }],
]);
const UTF8 = 16;
const UTF16 = 17;
const UTF32 = 18;

/** Classes of matrices. */
const CELL = 1;
const STRUCT = 2;
const CHAR = 4;
const REFUSED: ReadonlyMap<number, string> = new Map([
  [3, "an object of MATLAB's"],
  [5, "a sparse matrix"],
  [16, "a function"],
  [17, "an object of MATLAB's"],
]);

/** Shared: eight bytes of a file make one. */
const EMPTY: MatNumbers = { kind: "numbers", shape: [0, 0], data: new Float64Array(0) };

interface Context {
  readonly where: string;
  readonly littleEndian: boolean;
  /** What all compressed elements may still unpack to together. */
  readonly budget: { left: number };
}

/** One element: its type and where its data stand in `bytes`. */
class Element {
  constructor(
    readonly bytes: Uint8Array,
    readonly type: number,
    readonly start: number,
    readonly end: number,
    readonly context: Context,
  ) {}

  get length(): number {
    return this.end - this.start;
  }

  get view(): DataView {
    return new DataView(this.bytes.buffer, this.bytes.byteOffset + this.start, this.length);
  }

  error(what: string, expected?: string, found?: string): FormatError {
    return new FormatError(this.context.where, this.start, what, { expected, found });
  }
}

/** The elements that stand in a range of bytes, one after another. */
class Elements {
  constructor(
    private readonly bytes: Uint8Array,
    private at: number,
    private readonly end: number,
    private readonly context: Context,
  ) {}

  /** Room for another; fewer bytes than a tag are padding. */
  more(): boolean {
    return this.end - this.at >= 8;
  }

  get left(): number {
    return this.end - this.at;
  }

  next(): Element {
    const { where, littleEndian } = this.context;
    const at = this.at;
    if (!this.more())
      throw new FormatError(where, at, "ends where another element should begin", {
        expected: "8 bytes",
        found: `${this.left}`,
      });
    const view = new DataView(this.bytes.buffer, this.bytes.byteOffset + at, 8);
    const first = view.getUint32(0, littleEndian);
    // Up to four bytes of data fit into the tag: then its upper half is their length.
    const isSmall = first >>> 16 !== 0;
    const type = isSmall ? first & 0xffff : first;
    const length = isSmall ? first >>> 16 : view.getUint32(4, littleEndian);
    const start = at + (isSmall ? 4 : 8);
    if (isSmall && length > 4) {
      throw new FormatError(where, at, "an element in short form holds too much", {
        expected: "at most 4 bytes",
        found: `${length}`,
      });
    }
    if (length > this.end - start) {
      throw new FormatError(where, at, "an element is longer than what is left", {
        expected: `${length} bytes`,
        found: `${this.end - start}`,
      });
    }
    // Elements begin at multiples of 8, except after compressed ones.
    const next = isSmall ? at + 8 : start + (type === COMPRESSED ? length : Math.ceil(length / 8) * 8);
    this.at = Math.min(next, this.end);
    return new Element(this.bytes, type, start, start + length, this.context);
  }
}

function checkHeader(bytes: Uint8Array, where: string): boolean {
  if (bytes.length < HEADER_BYTES) {
    throw new FormatError(where, 0, "no MAT file: shorter than its header", {
      expected: `${HEADER_BYTES} bytes`,
      found: `${bytes.length}`,
    });
  }
  const mark = String.fromCharCode(...bytes.subarray(126, 128));
  if (mark !== "IM" && mark !== "MI") {
    const text = String.fromCharCode(...bytes.subarray(0, 10));
    if (text === "MATLAB 7.3")
      throw new FormatError(where, 0, "a MAT file of version 7.3 (HDF5), which is not read", {
        expected: "version 5",
      });
    throw new FormatError(where, 126, "no MAT file of version 5", {
      expected: '"IM" or "MI"',
      found: JSON.stringify(mark),
    });
  }
  const littleEndian = mark === "IM";
  const version = new DataView(bytes.buffer, bytes.byteOffset).getUint16(124, littleEndian);
  if (version !== 0x0100)
    throw new FormatError(where, 124, "unknown version of the MAT format", {
      expected: "0x100",
      found: `0x${version.toString(16)}`,
    });
  return littleEndian;
}

function inflate(element: Element): Element {
  const { where, budget } = element.context;
  const limit = Math.min(budget.left, Math.max(1, element.length * MAX_DEFLATE_RATIO));
  const packed = element.bytes.subarray(element.start, element.end);
  let unpacked: Uint8Array;
  try {
    unpacked = inflateSync(packed, { maxOutputLength: Math.max(1, limit) });
  } catch (error) {
    if (errorCode(error) === "ERR_BUFFER_TOO_LARGE") {
      throw element.error("a compressed element unpacks to too much", `at most ${limit} bytes`);
    }
    throw element.error(
      `a compressed element cannot be unpacked: ${error instanceof Error ? error.message : "damaged"}`,
    );
  }
  budget.left -= unpacked.length;
  const inside = new Elements(unpacked, 0, unpacked.length, {
    ...element.context,
    where: `${where}, unpacked from byte ${element.start}`,
  });
  const matrix = inside.next();
  if (inside.more()) throw matrix.error("a compressed element holds more than one matrix");
  return matrix;
}

function readMatrix(element: Element, depth: number): { readonly name: string; readonly value: MatValue } {
  if (element.type !== MATRIX) {
    throw element.error("a matrix is expected here", `type ${MATRIX}`, `type ${element.type}`);
  }
  if (depth > MAX_DEPTH) throw element.error(`matrices nested more than ${MAX_DEPTH} deep`);
  // An empty place in a cell or struct.
  if (element.length === 0) return { name: "", value: EMPTY };
  const parts = new Elements(element.bytes, element.start, element.end, element.context);

  const flags = parts.next();
  if (flags.type !== 6 || flags.length !== 8) throw flags.error("a matrix without its flags");
  const word = flags.view.getUint32(0, element.context.littleEndian);
  const kind = word & 0xff;
  if ((word & 0x0800) !== 0) throw flags.error("complex numbers are not read");
  const shape = readShape(parts.next());
  const nameElement = parts.next();
  if (nameElement.type !== 1) throw nameElement.error("a matrix without a name");
  const name = latin1(nameElement);
  const count = shape.reduce((product, length) => product * length, 1);

  if (kind === CELL) return { name, value: { kind: "cell", shape, items: readMany(parts, count, depth) } };
  if (kind === STRUCT)
    return { name, value: { kind: "struct", shape, fields: readFields(parts, count, depth) } };
  if (kind === CHAR) return { name, value: readText(parts.next(), shape, count) };
  const refused = REFUSED.get(kind);
  if (refused !== undefined) throw flags.error(`${refused} is not read`);
  if (kind < 6 || kind > 15) throw flags.error("unknown class of matrix", undefined, `${kind}`);
  return { name, value: { kind: "numbers", shape, data: readNumbers(parts.next(), count) } };
}

function readShape(element: Element): number[] {
  if (element.type !== 5 || element.length % 4 !== 0 || element.length < 8 || element.length > 4 * 32) {
    throw element.error("a matrix without its dimensions");
  }
  const { view } = element;
  const shape: number[] = [];
  for (let at = 0; at < element.length; at += 4) {
    const length = view.getInt32(at, element.context.littleEndian);
    if (length < 0) throw element.error("a negative dimension", undefined, `${length}`);
    shape.push(length);
  }
  return shape;
}

/** `count` matrices without names of their own. */
function readMany(parts: Elements, count: number, depth: number): MatValue[] {
  const values: MatValue[] = [];
  // Each takes a tag at least, so this loop ends with the bytes, whatever the count.
  while (values.length < count) values.push(readMatrix(parts.next(), depth + 1).value);
  return values;
}

function readFields(parts: Elements, count: number, depth: number): Map<string, MatValue[]> {
  const lengthElement = parts.next();
  if (lengthElement.type !== 5 || lengthElement.length !== 4) {
    throw lengthElement.error("a struct without the length of its field names");
  }
  const width = lengthElement.view.getInt32(0, lengthElement.context.littleEndian);
  const namesElement = parts.next();
  if (namesElement.type !== 1 || width < 1 || namesElement.length % width !== 0) {
    throw namesElement.error(
      "the field names of a struct are not of one length",
      `a multiple of ${width}`,
      `${namesElement.length}`,
    );
  }
  const text = latin1(namesElement);
  const fields = new Map<string, MatValue[]>();
  for (let at = 0; at < text.length; at += width) {
    const [name = ""] = text.slice(at, at + width).split("\0");
    if (name === "" || fields.has(name))
      throw namesElement.error("a field without a name, or twice", undefined, JSON.stringify(name));
    fields.set(name, []);
  }
  if (fields.size === 0) return fields;
  // All fields of the first struct, then all of the second.
  for (let i = 0; i < count; i++) {
    for (const values of fields.values()) values.push(readMatrix(parts.next(), depth + 1).value);
  }
  return fields;
}

function readText(element: Element, shape: readonly number[], count: number): MatText {
  const characters = readCharacters(element);
  if (characters.length !== count) {
    throw element.error(
      "text of another length than its dimensions",
      `${count} characters`,
      `${characters.length}`,
    );
  }
  if (shape.length !== 2) throw element.error("text in more than two dimensions, which is not read");
  const [height = 0, width = 0] = shape;
  if (height === 1) return { kind: "text", shape, rows: [characters.join("")] };
  if (width === 0) return { kind: "text", shape, rows: [] };
  const rows = Array.from({ length: height }, (_, y) =>
    Array.from({ length: width }, (_, x) => characters[x * height + y]).join(""),
  );
  return { kind: "text", shape, rows };
}

/** Characters as MATLAB counts them, which are UTF-16 units. */
function readCharacters(element: Element): string[] {
  const { type, length, view } = element;
  const { littleEndian } = element.context;
  if (type === UTF8) {
    const bytes = element.bytes.subarray(element.start, element.end);
    const text = utf8Of(bytes);
    if (text === undefined) throw element.error("text that is not UTF-8");
    return text.split("");
  }
  if (type === UTF32) throw element.error("text in UTF-32, which is not read");
  const size = type === UTF16 ? 2 : NUMBERS.get(type)?.bytes;
  // Older files store characters as unsigned integers.
  if (size === undefined || (type !== UTF16 && type !== 1 && type !== 2 && type !== 4)) {
    throw element.error("text stored as something else", undefined, `type ${type}`);
  }
  if (length % size !== 0) throw element.error("text that ends inside a character");
  const characters: string[] = [];
  for (let at = 0; at < length; at += size) {
    characters.push(String.fromCharCode(size === 1 ? view.getUint8(at) : view.getUint16(at, littleEndian)));
  }
  return characters;
}

/** MATLAB stores numbers in the smallest type that holds them, so the class says nothing of the bytes. */
function readNumbers(element: Element, count: number): Float64Array {
  const type = NUMBERS.get(element.type);
  if (type === undefined)
    throw element.error("numbers stored as something else", undefined, `type ${element.type}`);
  if (count * type.bytes !== element.length) {
    throw element.error(
      "numbers of another length than their dimensions",
      `${count} of ${type.bytes} bytes`,
      `${element.length} bytes`,
    );
  }
  const { view } = element;
  const numbers = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const value = type.read(view, i * type.bytes, element.context.littleEndian);
    numbers[i] = Number(value);
    if (typeof value === "bigint" && !Number.isSafeInteger(numbers[i])) {
      throw element.error("an integer beyond 2^53", undefined, `${value}`);
    }
  }
  return numbers;
}

function latin1(element: Element): string {
  const { bytes, start, length } = element;
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, length).toString("latin1");
}
