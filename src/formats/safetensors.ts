/**
 * Reads and writes `.safetensors`: named tensors behind a JSON header.
 *
 * A file comes from anywhere, so the header is read by a scanner that knows this one form: nothing is
 * allocated before its length is checked against the file, and every byte of the data belongs to
 * exactly one tensor. Stricter than the reference reader in refusing unknown keys, headers above
 * 16 MiB and unprintable names.
 *
 *     8 bytes   length N of the header, little-endian
 *     N bytes   {"__metadata__": {text: text}, name: {"dtype", "shape", "data_offsets": [begin, end]}, …}
 *     the rest  the tensors' bytes, row-major, little-endian, without holes
 *
 * Source: github.com/huggingface/safetensors, README "Format" and safetensors/src/tensor.rs.
 */

import { FormatError } from "../core/error.js";
import { bfloat16ToFloat, float16ToFloat } from "./half.js";
import { isObjectProperty, isPlainName, quoted } from "./plain-name.js";
import { utf8Of } from "./utf8.js";

/** Bytes of one element; types of less than a byte lie packed. */
const elementBytes = {
  BOOL: 1,
  F4: 0.5,
  F6_E2M3: 0.75,
  F6_E3M2: 0.75,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  F8_E5M2FNUZ: 1,
  F8_E4M3FNUZ: 1,
  F8_E8M0: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  F64: 8,
  I64: 8,
  U64: 8,
  C64: 8,
} as const;
type SafetensorsDtype = keyof typeof elementBytes;

/** One tensor as the header describes it; begin and end in bytes from the start of the file. */
export interface TensorEntry {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
}

/** An open file; `close` it. */
export interface SafetensorsFile extends SafetensorsHeader {
  /** The numbers of a tensor of F16, BF16, F32 or F64, as f32. @throws FormatError for other types */
  readFloat32(name: string): Promise<Float32Array>;
  close(): Promise<void>;
}

/** A tensor to be written. */
export interface Float32Tensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

const SPACE = 0x20;

/** A network of this family needs 60 KB; a header above this is an attack or a mistake. */
const maxHeaderBytes = 16 * 2 ** 20;

/**
 * The file's bytes in pieces, in order; no copy of the data is made. The header is padded with spaces
 * to a multiple of 8 bytes so that readers can map the tensors.
 */
export function encodeSafetensors(
  tensors: readonly Float32Tensor[],
  metadata: ReadonlyMap<string, string>,
): Uint8Array[] {
  const fields: string[] = [];
  if (metadata.size > 0) {
    const pairs = [...metadata].map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
    fields.push(`"__metadata__":{${pairs.join(",")}}`);
  }
  let begin = 0;
  for (const { name, shape, data } of tensors) {
    if (shape.reduce((product, length) => product * length, 1) !== data.length) {
      throw new RangeError(`tensor ${name}: shape [${shape.join(", ")}] is not ${data.length} elements`);
    }
    const end = begin + data.byteLength;
    fields.push(
      `${JSON.stringify(name)}:{"dtype":"F32","shape":[${shape.join(",")}],"data_offsets":[${begin},${end}]}`,
    );
    begin = end;
  }
  const json = new TextEncoder().encode(`{${fields.join(",")}}`);
  const header = new Uint8Array(8 + Math.ceil(json.length / 8) * 8).fill(SPACE);
  new DataView(header.buffer).setBigUint64(0, BigInt(header.length - 8), true);
  header.set(json, 8);
  return [
    header,
    ...tensors.map(({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength)),
  ];
}

/**
 * The header of a file of `fileBytes` bytes from `bytes`, which begin at the file's byte 8.
 *
 * @throws FormatError
 */
export function parseSafetensorsHeader(
  bytes: Uint8Array,
  fileBytes: number,
  where: string,
): SafetensorsHeader {
  const text = utf8Of(bytes);
  if (text === undefined) throw new FormatError(where, 8, "the header is not UTF-8");
  const scanner = new HeaderScanner(text, where);
  const metadata = new Map<string, string>();
  const tensors = new Map<string, TensorEntry>();
  let seenMetadata = false;
  scanner.object((name, at) => {
    if (name === "__metadata__") {
      if (seenMetadata) scanner.fail("the key __metadata__ appears twice", at);
      seenMetadata = true;
      scanner.object((key, keyAt) => {
        if (metadata.has(key)) scanner.fail(`the metadata key ${quoted(key)} appears twice`, keyAt);
        metadata.set(key, scanner.text());
      });
      return;
    }
    if (!isPlainName(name) || isObjectProperty(name))
      scanner.fail(`the tensor name ${quoted(name)} is not allowed`, at);
    if (tensors.has(name)) scanner.fail(`the tensor ${quoted(name)} appears twice`, at);
    tensors.set(name, readEntry(scanner, name, at, 8 + bytes.length, fileBytes));
  });
  scanner.end();
  refuseHoles(tensors, 8 + bytes.length, fileBytes, where);
  return { metadata, tensors };
}

/** The length of the header of a file of `fileBytes` bytes, by its first 8. @throws FormatError */
export function headerLength(prefix: Uint8Array, fileBytes: number, where: string): number {
  if (fileBytes < 8) {
    throw new FormatError(where, 0, "is no safetensors file", {
      expected: "at least 8 bytes",
      found: `${fileBytes}`,
    });
  }
  const length = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  const limit = Math.min(fileBytes - 8, maxHeaderBytes);
  if (length > BigInt(limit)) {
    throw new FormatError(where, 0, "the header's length is wrong, or the file is cut short", {
      expected: `at most ${limit} bytes of header in a file of ${fileBytes}`,
      found: `${length}`,
    });
  }
  return Number(length);
}

/** A tensor of F16, BF16, F32 or F64 that is to be read as f32, and how its bytes become that. @throws FormatError for other types */
export function floatEntry(
  { tensors }: SafetensorsHeader,
  name: string,
  where: string,
): { readonly entry: TensorEntry; readonly widen: (bytes: ArrayBuffer) => Float32Array } {
  const entry = tensors.get(name);
  if (entry === undefined) throw new FormatError(where, 8, `has no tensor ${quoted(name)}`);
  const widen = floats.get(entry.dtype);
  if (widen === undefined) {
    throw new FormatError(where, entry.begin, `tensor ${quoted(name)} has another type`, {
      expected: [...floats.keys()].join(", "),
      found: entry.dtype,
    });
  }
  return { entry, widen };
}

/** A file whose bytes are all in memory. @throws FormatError with the offset of the first byte that is wrong. */
export function readSafetensors(bytes: Uint8Array, where: string): SafetensorsFile {
  const length = headerLength(bytes.subarray(0, 8), bytes.length, where);
  const header = parseSafetensorsHeader(bytes.subarray(8, 8 + length), bytes.length, where);
  return {
    ...header,
    // A promise also of what throws.
    readFloat32: async (name) => {
      const { entry, widen } = floatEntry(header, name, where);
      return Promise.resolve(widen(bytes.slice(entry.begin, entry.end).buffer));
    },
    close: () => Promise.resolve(),
  };
}

/** Types that are read, each as f32: halves exactly, doubles rounded to the nearest. */
const floats: ReadonlyMap<string, (bytes: ArrayBuffer) => Float32Array> = new Map([
  ["F32", (bytes) => new Float32Array(bytes)],
  ["F64", (bytes) => Float32Array.from(new Float64Array(bytes))],
  ["F16", (bytes) => float16ToFloat(new Uint16Array(bytes))],
  ["BF16", (bytes) => bfloat16ToFloat(new Uint16Array(bytes))],
]);

/** `{"dtype": …, "shape": […], "data_offsets": [begin, end]}`, each key once, in any order. */
function readEntry(
  scanner: HeaderScanner,
  name: string,
  at: number,
  dataStart: number,
  fileBytes: number,
): TensorEntry {
  const fail = (what: string): never => scanner.fail(`tensor ${quoted(name)}${what}`, at);
  let dtype: string | undefined;
  let shape: number[] | undefined;
  let offsets: number[] | undefined;
  scanner.object((key, keyAt) => {
    if (key === "dtype" && dtype === undefined) dtype = scanner.text();
    else if (key === "shape" && shape === undefined) shape = scanner.integers();
    else if (key === "data_offsets" && offsets === undefined) offsets = scanner.integers();
    else scanner.fail(`tensor ${quoted(name)} has an unknown or repeated key ${quoted(key)}`, keyAt);
  });
  if (dtype === undefined || shape === undefined || offsets === undefined) {
    return fail(" lacks dtype, shape or data_offsets");
  }
  if (!Object.hasOwn(elementBytes, dtype)) {
    return fail(` has an unknown type ${quoted(dtype)}`);
  }
  const type = dtype as SafetensorsDtype;
  const [begin, end] = offsets;
  if (offsets.length !== 2 || begin === undefined || end === undefined || begin > end) {
    return fail(" has no range [begin, end] in data_offsets");
  }
  let bytes: number = elementBytes[type];
  for (const length of shape) {
    bytes *= length;
    if (!Number.isSafeInteger(bytes)) fail(" is larger than 2^53 bytes");
  }
  if (bytes !== end - begin) {
    const needed = `shape [${shape.join(", ")}] ${type} needs ${bytes} bytes`;
    fail(`: ${needed}, data_offsets give ${end - begin}`);
  }
  if (dataStart + end > fileBytes) {
    fail(` ends at byte ${dataStart + end}, the file has ${fileBytes}; is it complete?`);
  }
  return { dtype: type, shape, begin: dataStart + begin, end: dataStart + end };
}

/** Tensors lie back to back from the first byte of data to the last: no overlap, no hole, no tail. */
function refuseHoles(
  tensors: ReadonlyMap<string, TensorEntry>,
  dataStart: number,
  fileBytes: number,
  where: string,
): void {
  const inOrder = [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let reached = dataStart;
  for (const [name, { begin, end }] of inOrder) {
    if (begin !== reached) {
      const what = begin < reached ? "overlaps the one before it" : "leaves a hole before it";
      throw new FormatError(where, begin, `tensor ${quoted(name)} ${what}`, {
        expected: `begin ${reached}`,
        found: `${begin}`,
      });
    }
    reached = end;
  }
  if (reached !== fileBytes) {
    throw new FormatError(where, reached, "bytes follow the last tensor", {
      expected: `${reached} bytes`,
      found: `${fileBytes} bytes`,
    });
  }
}

/** A scanner for the header's form of JSON: objects, strings, arrays of whole numbers. No recursion on input. */
class HeaderScanner {
  readonly #text: string;
  readonly #where: string;
  #at = 0;

  constructor(text: string, where: string) {
    this.#text = text;
    this.#where = where;
    if (!text.startsWith("{")) this.fail("the header does not begin with {", 0);
  }

  /** Reads an object; `member` is called with each key and its place, and must read the value. */
  object(member: (key: string, at: number) => void): void {
    this.#expect("{");
    if (this.#take("}")) return;
    do {
      this.#space();
      const at = this.#at;
      const key = this.text();
      this.#expect(":");
      member(key, at);
    } while (this.#take(","));
    this.#expect("}");
  }

  /** An array of whole numbers from 0 to 2^53 - 1. */
  integers(): number[] {
    const values: number[] = [];
    this.#expect("[");
    if (this.#take("]")) return values;
    do {
      this.#space();
      const digits = /(?:0|[1-9][0-9]{0,15})(?![0-9.eE])/y;
      digits.lastIndex = this.#at;
      const found = digits.exec(this.#text)?.[0];
      const value = Number(found);
      if (found === undefined || !Number.isSafeInteger(value)) {
        return this.fail("expected a whole number from 0 to 2^53 - 1", this.#at);
      }
      values.push(value);
      this.#at += found.length;
    } while (this.#take(","));
    this.#expect("]");
    return values;
  }

  text(): string {
    this.#space();
    const start = this.#at;
    if (this.#text[start] !== '"') return this.fail("expected a string", start);
    let end = start + 1;
    while (end < this.#text.length && this.#text[end] !== '"') end += this.#text[end] === "\\" ? 2 : 1;
    this.#at = end + 1;
    const value = unquote(this.#text.slice(start, end + 1));
    if (value === undefined) {
      return this.fail("a string does not end, or holds an escape or character JSON forbids", start);
    }
    if (/\p{Cs}/u.test(value)) return this.fail("a string holds half of a surrogate pair", start);
    return value;
  }

  /** Only the padding of spaces may follow. */
  end(): void {
    this.#space();
    if (this.#at !== this.#text.length) this.fail("text follows the header's closing brace", this.#at);
  }

  /** `at` counts UTF-16 units of the header; the reported offset is that of the byte. */
  fail(what: string, at: number): never {
    const offset = 8 + new TextEncoder().encode(this.#text.slice(0, at)).length;
    throw new FormatError(this.#where, offset, what);
  }

  #expect(token: string): void {
    if (!this.#take(token)) this.fail(`expected ${token}`, this.#at);
  }

  #take(token: string): boolean {
    this.#space();
    if (this.#text[this.#at] !== token) return false;
    this.#at++;
    return true;
  }

  #space(): void {
    while (/^[ \t\r\n]$/.test(this.#text[this.#at] ?? "")) this.#at++;
  }
}

/** The text of one quoted string: JSON.parse can only decode its escapes or refuse them. */
function unquote(quoted: string): string | undefined {
  try {
    return JSON.parse(quoted) as string;
  } catch {
    return undefined;
  }
}
