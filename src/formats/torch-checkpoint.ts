/**
 * Reads what `torch.save` writes, without Python and without running anything: tensors by name, so that the weights
 * of a published network can be used here.
 *
 *     zip (since 1.6)   NAME/data.pkl, one pickle; NAME/data/K, the bytes of storage K; NAME/version, NAME/byteorder
 *     legacy            five pickles (magic, protocol, system, object, storage keys), then each storage: length, bytes
 *     tar (before 0.2)  recognised and refused
 *
 * A tensor is a view (offset, shape, strides) of a storage, and storages are shared. Each view is checked against its
 * storage, and each storage against the file, before anything is allocated; all tensors together may be at most
 * {@link MOST_SHARING} times as long as the file, so strides of 0 cannot make a bomb. Names outside a short list are refused by
 * name, as are TorchScript archives, compressed members (PyTorch stores), and whole pickled modules.
 *
 * Offsets and strides of tensors are in elements, everything else in bytes.
 *
 * Source: pytorch/pytorch, torch/serialization.py, torch/_utils.py and caffe2/serialize/inline_container.cc.
 */

import { crc32 } from "node:zlib";

import { type Entry, fromBufferPromise } from "yauzl";

import { FormatError } from "../core/error.js";
import { Call, Global, Other, type PickleValue, readPickle, Tuple } from "./pickle.js";
import { readWhole } from "./read-file.js";

export interface TorchCheckpoint {
  readonly container: "zip" | "legacy";
  /** By name; a tensor in nested dicts is named through them, "state_dict.conv1.0.weight". */
  readonly tensors: ReadonlyMap<string, TorchTensor>;
  /** The dicts that hold tensors, by path; "" is the outermost. */
  readonly dicts: readonly string[];
}

interface TorchTensor {
  /** PyTorch's name of the type as it lies in the file. */
  readonly dtype: TorchDtype;
  readonly shape: readonly number[];
  /** The elements, row-major, in new memory; float16 and bfloat16 widened to f32. */
  read(): TorchArray;
}

type TorchArray =
  Float32Array | Float64Array | BigInt64Array | Int32Array | Int16Array | Int8Array | Uint8Array;

interface Dtype {
  readonly bytes: 1 | 2 | 4 | 8;
  /** From bytes that begin at the beginning of their buffer. */
  readonly decode: (bytes: Uint8Array<ArrayBuffer>) => TorchArray;
}

const dtypes = {
  float64: { bytes: 8, decode: (b) => new Float64Array(b.buffer) },
  float32: { bytes: 4, decode: (b) => new Float32Array(b.buffer) },
  float16: { bytes: 2, decode: (b) => Float32Array.from(new Uint16Array(b.buffer), halfToFloat) },
  bfloat16: { bytes: 2, decode: (b) => bfloat16ToFloat(new Uint16Array(b.buffer)) },
  int64: { bytes: 8, decode: (b) => new BigInt64Array(b.buffer) },
  int32: { bytes: 4, decode: (b) => new Int32Array(b.buffer) },
  int16: { bytes: 2, decode: (b) => new Int16Array(b.buffer) },
  int8: { bytes: 1, decode: (b) => new Int8Array(b.buffer) },
  uint8: { bytes: 1, decode: (b) => b },
  bool: { bytes: 1, decode: (b) => b },
} as const satisfies Readonly<Record<string, Dtype>>;
type TorchDtype = keyof typeof dtypes;

const storageTypes: ReadonlyMap<string, TorchDtype> = new Map([
  ["torch.DoubleStorage", "float64"],
  ["torch.FloatStorage", "float32"],
  ["torch.HalfStorage", "float16"],
  ["torch.BFloat16Storage", "bfloat16"],
  ["torch.LongStorage", "int64"],
  ["torch.IntStorage", "int32"],
  ["torch.ShortStorage", "int16"],
  ["torch.CharStorage", "int8"],
  ["torch.ByteStorage", "uint8"],
  ["torch.BoolStorage", "bool"],
  // Bytes without a type: the tensor states one (_rebuild_tensor_v3).
  ["torch.storage.UntypedStorage", "uint8"],
  ["torch.UntypedStorage", "uint8"],
]);

/** How many leading arguments of each make a view of a storage. */
const tensorBuilders: ReadonlySet<string> = new Set([
  "torch._utils._rebuild_tensor",
  "torch._utils._rebuild_tensor_v2",
  "torch._utils._rebuild_tensor_v3",
]);
const parameterBuilders: ReadonlySet<string> = new Set([
  "torch._utils._rebuild_parameter",
  "torch._utils._rebuild_parameter_with_state",
]);

/**
 * All that may be named. The last rows stand beside the weights in training checkpoints (arguments, scores); they
 * are passed over, and like everything here never called.
 */
const allowed: ReadonlyMap<string, "object" | "dict"> = new Map<string, "object" | "dict">([
  ["collections.OrderedDict", "dict"],
  ...[...tensorBuilders, ...parameterBuilders, ...storageTypes.keys()].map(
    (name) => [name, "object"] as const,
  ),
  ...Object.keys(dtypes).map((name) => [`torch.${name}`, "object"] as const),
  ["torch.Size", "object"],
  ["torch.device", "object"],
  ["collections.defaultdict", "dict"],
  ["__builtin__.dict", "object"],
  ["builtins.dict", "object"],
  ["argparse.Namespace", "object"],
  ["numpy.dtype", "object"],
  ["numpy.core.multiarray.scalar", "object"],
  ["numpy._core.multiarray.scalar", "object"],
  ["_codecs.encode", "object"],
]);

/** All tensors together against the file: weights that are shared, and kept as averages too, stay below. */
export const MOST_SHARING = 4;
const MAX_FILE_BYTES = 2 ** 31;
const MAX_NAME = 1024;
const MAX_DEPTH = 32;
const MAX_DIMENSIONS = 16;
const LEGACY_MAGIC = 0x1950a86a20f9469cfc6cn;
const LEGACY_PROTOCOL = 1001;

/** Whether a file that begins so is one of {@link openTorchCheckpoint}'s; 265 bytes tell. */
export function isTorchCheckpoint(head: Uint8Array): boolean {
  return isZip(head) || isPickle(head) || isTar(head);
}

/** @throws FormatError */
export async function openTorchCheckpoint(path: string): Promise<TorchCheckpoint> {
  return parseTorchCheckpoint(await readWhole(path, MAX_FILE_BYTES), path);
}

/** The checkpoint in `bytes`, which the tensors go on reading. @throws FormatError */
export async function parseTorchCheckpoint(bytes: Uint8Array, where: string): Promise<TorchCheckpoint> {
  if (isZip(bytes)) return parseZip(bytes, where);
  if (isPickle(bytes)) return parseLegacy(bytes, where);
  if (isTar(bytes)) {
    const hint = "Load it with a PyTorch of its time and save it again";
    throw new FormatError({ where, what: "the tar form of PyTorch before 0.2, which is not read", hint }, 0);
  }
  const found = `bytes ${Buffer.from(bytes.subarray(0, 8)).toString("hex")}`;
  throw new FormatError(
    { where, what: "is no PyTorch checkpoint", expected: "a zip file or a pickle", found },
    0,
  );
}

function isZip(head: Uint8Array): boolean {
  return head[0] === 0x50 && head[1] === 0x4b && (head[2] === 3 || head[2] === 5);
}

/** A pickle of protocol 2 or later. */
function isPickle(head: Uint8Array): boolean {
  return head[0] === 0x80 && (head[1] as number) >= 2 && (head[1] as number) <= 5;
}

function isTar(head: Uint8Array): boolean {
  return Buffer.from(head.subarray(257, 262)).toString("latin1") === "ustar";
}

/** A storage as the pickle refers to it; `key` is its name in the file. */
interface Storage {
  readonly key: string;
  readonly dtype: TorchDtype;
  readonly elements: number;
  /** Where it begins in the root storage of this key, in elements; legacy files may share that way. */
  readonly start: number;
}

/** The bytes of a storage by its key; each file form has its own. */
type Storages = (storage: Storage, where: string) => Uint8Array;

// The zip form.

interface Member {
  readonly begin: number;
  readonly end: number;
  readonly crc: number;
}

async function parseZip(bytes: Uint8Array, where: string): Promise<TorchCheckpoint> {
  const members = await readDirectory(bytes, where);
  const verified = new Set<Member>();
  const contentOf = (name: string): Uint8Array | undefined => {
    const member = members.get(name);
    if (member === undefined) return undefined;
    const content = bytes.subarray(member.begin, member.end);
    if (!verified.has(member)) {
      const crc = crc32(content);
      if (crc !== member.crc) {
        const numbers = { expected: hex(member.crc), found: hex(crc) };
        const what = "damaged: wrong CRC-32";
        throw new FormatError({ where: `${where}/${name}`, what, ...numbers }, member.begin);
      }
      verified.add(member);
    }
    return content;
  };

  const pickles = [...members.keys()].filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  const [pickleName] = pickles;
  if (pickleName === undefined || pickles.length > 1) {
    const numbers = { expected: "one NAME/data.pkl", found: `${pickles.length}` };
    throw new FormatError({ where, what: "a zip file, but no PyTorch checkpoint", ...numbers }, 0);
  }
  const folder = pickleName.slice(0, -"data.pkl".length);
  const order = contentOf(`${folder}byteorder`);
  if (order !== undefined && Buffer.from(order).toString("latin1").trim() !== "little") {
    const found = JSON.stringify(Buffer.from(order.subarray(0, 16)).toString("latin1"));
    throw new FormatError({ where, what: "another byte order than is read", expected: "little", found }, 0);
  }

  const storages: Storages = (storage, tensor) => {
    const name = `${folder}data/${storage.key}`;
    const content = contentOf(name);
    const expected = storage.elements * dtypes[storage.dtype].bytes;
    if (content?.length === expected) return content;
    throw new FormatError(
      {
        where: `${where}, ${tensor}`,
        what: `its storage ${JSON.stringify(storage.key)} is missing or of another length`,
        expected: `${expected} bytes in ${JSON.stringify(name)}`,
        found: content === undefined ? "no such member" : `${content.length}`,
      },
      members.get(name)?.begin ?? 0,
    );
  };
  const refs = new StorageReferences(`${where}/${pickleName}`);
  const { value } = readTorchPickle(contentOf(pickleName) as Uint8Array, `${where}/${pickleName}`, refs);
  return collect(value, { container: "zip", where, bytes: bytes.length, storages });
}

/** Where each member lies. Nothing may be compressed, encrypted, twice there, or described in two ways. */
async function readDirectory(bytes: Uint8Array, where: string): Promise<Map<string, Member>> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const members = new Map<string, Member>();
  const refuse = (entry: Entry, what: string): FormatError =>
    new FormatError(
      { where: `${where}/${JSON.stringify(entry.fileName.slice(0, 80)).slice(1, -1)}`, what },
      entry.relativeOffsetOfLocalHeader,
    );
  try {
    const zip = await fromBufferPromise(buffer, { strictFileNames: true });
    for await (const entry of zip.eachEntry()) {
      const { fileName, compressionMethod, compressedSize, uncompressedSize } = entry;
      if (/^[^/]+\/(code\/|constants\.pkl$)/.test(fileName)) {
        const hint = "Save the state_dict of the module instead";
        throw new FormatError(
          { where, what: "a TorchScript archive, which holds code and is not read", hint },
          0,
        );
      }
      if (!isPlainName(fileName))
        throw refuse(entry, "the member's name is empty, too long or not printable");
      if (entry.isEncrypted()) throw refuse(entry, "encrypted, which is not read");
      if (compressionMethod !== 0) {
        throw refuse(
          entry,
          `compressed by method ${compressionMethod}; PyTorch stores, and only that is read`,
        );
      }
      if (compressedSize !== uncompressedSize) {
        throw refuse(entry, `stored, yet ${compressedSize} bytes are said to be ${uncompressedSize}`);
      }
      if (members.has(fileName)) throw refuse(entry, "the name stands twice");
      const begin = dataStart(buffer, entry, refuse);
      members.set(fileName, { begin, end: begin + compressedSize, crc: entry.crc32 });
    }
  } catch (error) {
    if (error instanceof FormatError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new FormatError({ where, what: `not readable as a zip file: ${reason}` }, 0);
  }
  let reached = 0;
  for (const [name, { begin, end }] of [...members].sort(([, a], [, b]) => a.begin - b.begin)) {
    if (begin < reached) {
      throw new FormatError({ where: `${where}/${name}`, what: "overlaps the member before it" }, begin);
    }
    reached = end;
  }
  return members;
}

/** Where a member's bytes begin, by its local header, which must say what the directory says. */
function dataStart(file: Buffer, entry: Entry, refuse: (entry: Entry, what: string) => FormatError): number {
  const at = entry.relativeOffsetOfLocalHeader;
  if (at + 30 > file.length || file.readUInt32LE(at) !== 0x04034b50) {
    throw refuse(entry, "the directory points to no local header");
  }
  const nameLength = file.readUInt16LE(at + 26);
  const begin = at + 30 + nameLength + file.readUInt16LE(at + 28);
  if (begin + entry.compressedSize > file.length) throw refuse(entry, "ends past the end of the file");
  const flags = file.readUInt16LE(at + 6);
  // With bit 3 crc and lengths follow the data and are 0 here; 2^32 - 1 stands for a length in the extra field.
  const said = flags & 8 ? [] : [14, 18, 22].map((offset) => file.readUInt32LE(at + offset));
  const known = [entry.crc32, entry.compressedSize, entry.uncompressedSize];
  const agrees =
    file.readUInt16LE(at + 8) === entry.compressionMethod &&
    (flags & 1) === 0 &&
    entry.fileNameRaw.equals(file.subarray(at + 30, at + 30 + nameLength)) &&
    said.every((value, i) => value === known[i] || (i > 0 && value === 0xffffffff));
  if (!agrees) throw refuse(entry, "its local header and the directory contradict each other");
  return begin;
}

// The legacy form.

function parseLegacy(bytes: Uint8Array, where: string): TorchCheckpoint {
  const plain = { allowed: new Map<string, "object">() };
  const magic = readPickle(bytes, where, { allowed }, 0);
  if (magic.value !== LEGACY_MAGIC) {
    const hint = "Save a state_dict with torch.save";
    throw new FormatError({ where, what: "a pickle, but not one of torch.save's", hint }, 0);
  }
  const protocol = readPickle(bytes, where, plain, magic.end);
  if (protocol.value !== LEGACY_PROTOCOL) {
    const numbers = {
      expected: `${LEGACY_PROTOCOL}`,
      found: typeof protocol.value === "number" ? `${protocol.value}` : "no number",
    };
    throw new FormatError({ where, what: "an unknown protocol", ...numbers }, magic.end);
  }
  const system = readPickle(bytes, where, plain, protocol.end);
  if (!(system.value instanceof Map) || system.value.get("little_endian") !== true) {
    const numbers = { expected: "little_endian", found: "something else" };
    throw new FormatError({ where, what: "another byte order than is read", ...numbers }, protocol.end);
  }
  const refs = new StorageReferences(where);
  const object = readTorchPickle(bytes, where, refs, system.end);
  const keys = readPickle(bytes, where, plain, object.end);
  const places = placeStorages(bytes, keys, refs, where);
  const storages: Storages = (storage) => {
    const width = dtypes[storage.dtype].bytes;
    const begin = (places.get(storage.key) as number) + storage.start * width;
    return bytes.subarray(begin, begin + storage.elements * width);
  };
  return collect(object.value, { container: "legacy", where, bytes: bytes.length, storages });
}

/** Where each storage's bytes begin; they lie one behind the other, each after its number of elements. */
function placeStorages(
  bytes: Uint8Array,
  keys: { readonly value: PickleValue; readonly end: number },
  refs: StorageReferences,
  where: string,
): Map<string, number> {
  const refuse = (what: string, at: number, expected?: string, found?: string): FormatError =>
    new FormatError({ where, what, ...(expected && found ? { expected, found } : {}) }, at);
  if (!Array.isArray(keys.value)) throw refuse("the list of storages is no list", keys.end);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const places = new Map<string, number>();
  let at = keys.end;
  for (const key of keys.value) {
    const root = typeof key === "string" ? refs.roots.get(key) : undefined;
    if (root === undefined) throw refuse("lists a storage that nothing refers to", keys.end);
    if (places.has(root.key)) throw refuse(`the storage ${JSON.stringify(root.key)} stands twice`, at);
    if (at + 8 > bytes.length)
      throw refuse("cut short before a storage", at, "8 more bytes", `${bytes.length - at}`);
    const elements = view.getBigUint64(at, true);
    if (elements !== BigInt(root.elements)) {
      throw refuse(
        `the storage ${JSON.stringify(root.key)} has another length`,
        at,
        `${root.elements}`,
        `${elements}`,
      );
    }
    places.set(root.key, at + 8);
    at += 8 + root.elements * dtypes[root.dtype].bytes;
    if (at > bytes.length)
      throw refuse("cut short in a storage", bytes.length, `${at} bytes`, `${bytes.length}`);
  }
  const missing = [...refs.roots.keys()].find((key) => !places.has(key));
  if (missing !== undefined) throw refuse(`the storage ${JSON.stringify(missing)} is not in the file`, at);
  if (at !== bytes.length)
    throw refuse("bytes follow the last storage", at, `${at} bytes`, `${bytes.length}`);
  return places;
}

// Both forms: the pickle, and the tensors in it.

/** Persistent ids: ("storage", type, key, device, elements), and in legacy files (root's key, start, elements) or None. */
class StorageReferences {
  readonly roots = new Map<string, Storage>();
  constructor(private readonly where: string) {}

  read(id: PickleValue): Storage {
    const items = id instanceof Tuple ? id.items : [];
    const [tag, type, key, , elements, view] = items;
    const dtype = type instanceof Global ? storageTypes.get(type.fullName) : undefined;
    if (tag !== "storage" || dtype === undefined || !isKey(key) || !isCount(elements)) {
      throw this.error("a reference to something else than a storage");
    }
    const known = this.roots.get(key);
    const root = known ?? { key, dtype, elements, start: 0 };
    if (root.dtype !== dtype || root.elements !== elements) {
      throw this.error(`the storage ${JSON.stringify(key)} is described in two ways`);
    }
    this.roots.set(key, root);
    if (view === undefined || view === null) return root;
    const [, start, length] = view instanceof Tuple ? view.items : [];
    if (!isCount(start) || !isCount(length) || start + length > elements) {
      throw this.error(`a part of storage ${JSON.stringify(key)} lies outside of it`);
    }
    return { key, dtype, elements: length, start };
  }

  private error(what: string): FormatError {
    return new FormatError({ where: this.where, what }, 0);
  }
}

function readTorchPickle(
  bytes: Uint8Array,
  where: string,
  refs: StorageReferences,
  start = 0,
): { readonly value: PickleValue; readonly end: number } {
  const persistent = (id: PickleValue): Reference => new Reference(refs.read(id));
  return readPickle(bytes, where, { allowed, persistent }, start);
}

/** A class, so that no set or other value can be taken for one. */
class Reference {
  constructor(readonly storage: Storage) {}
}

interface Source {
  readonly container: "zip" | "legacy";
  readonly where: string;
  /** Length of the file. */
  readonly bytes: number;
  readonly storages: Storages;
}

/** Every tensor in nested dicts, lists and tuples; each of those is visited once, wherever else it is referred to. */
function collect(top: PickleValue, source: Source): TorchCheckpoint {
  const tensors = new Map<string, TorchTensor>();
  const dicts = new Set<string>();
  const visited = new Set<unknown>();
  let total = 0;
  const refuse = (what: string): FormatError => new FormatError({ where: source.where, what }, 0);
  const waiting: { value: PickleValue; path: string; depth: number; dict: string }[] = [
    { value: top, path: "", depth: 0, dict: "" },
  ];
  for (let item = waiting.pop(); item !== undefined; item = waiting.pop()) {
    const { value, path, depth, dict } = item;
    const call = tensorCall(value);
    if (call !== undefined) {
      if (!isPlainName(path))
        throw refuse(`a tensor's name is empty, too long or not printable: ${shown(path)}`);
      if (tensors.has(path)) throw refuse(`two tensors are named ${shown(path)}`);
      const tensor = tensorOf(call, path, source);
      total += tensor.bytes;
      if (total > MOST_SHARING * source.bytes) {
        const most = `${MOST_SHARING} times the file, ${MOST_SHARING * source.bytes} bytes`;
        throw new FormatError(
          {
            where: source.where,
            what: "its tensors are longer than the file can mean",
            expected: `at most ${most}`,
          },
          0,
        );
      }
      tensors.set(path, tensor);
      dicts.add(dict);
      continue;
    }
    const children = childrenOf(value);
    if (children === undefined || visited.has(value)) continue;
    visited.add(value);
    if (depth >= MAX_DEPTH) throw refuse(`nested more than ${MAX_DEPTH} deep`);
    // Last first, so that they come off in the order of the file.
    for (const [key, child] of children.reverse()) {
      const name = path === "" ? key : `${path}.${key}`;
      if (name.length <= MAX_NAME) waiting.push({ value: child, path: name, depth: depth + 1, dict: path });
      else if (tensorCall(child) !== undefined) throw refuse(`a tensor's name is longer than ${MAX_NAME}`);
    }
  }
  return { container: source.container, tensors, dicts: [...dicts] };
}

function childrenOf(value: PickleValue): [string, PickleValue][] | undefined {
  const dict = value instanceof Call ? value.entries : value;
  if (dict instanceof Map) {
    return [...dict].flatMap(([key, child]) =>
      typeof key === "string" || typeof key === "number"
        ? [[String(key), child] as [string, PickleValue]]
        : [],
    );
  }
  const list = dict instanceof Tuple ? dict.items : dict;
  return Array.isArray(list) ? list.map((child: PickleValue, i) => [String(i), child]) : undefined;
}

/** The call that makes a tensor, through those that make a parameter of one. */
function tensorCall(value: PickleValue): Call | undefined {
  let found: PickleValue | undefined = value;
  // A parameter of a parameter does not happen; a loop of them could be written.
  if (found instanceof Call && parameterBuilders.has(found.callee.fullName)) found = found.args[0];
  return found instanceof Call && tensorBuilders.has(found.callee.fullName) ? found : undefined;
}

function tensorOf(call: Call, name: string, source: Source): TorchTensor & { readonly bytes: number } {
  const where = `tensor ${shown(name)}`;
  const refuse = (what: string, expected?: string, found?: string): FormatError =>
    new FormatError(
      { where: `${source.where}, ${where}`, what, ...(expected && found ? { expected, found } : {}) },
      0,
    );
  if (call.state !== undefined) throw refuse("the pickle changes it after making it, which is not read");
  const [reference, offset, size, strides, , , type] = call.args;
  if (!(reference instanceof Other) || !(reference.value instanceof Reference))
    throw refuse("is no view of a storage");
  const { storage } = reference.value;
  const shape = countsOf(size);
  const stride = countsOf(strides);
  if (!isCount(offset) || shape === undefined || stride === undefined || shape.length !== stride.length) {
    throw refuse(
      "its offset, shape or strides are no whole numbers from 0, or not as many of one as of the other",
    );
  }
  const dtype = call.callee.name === "_rebuild_tensor_v3" ? dtypeNamed(type) : storage.dtype;
  if (dtype === undefined) throw refuse("is of a type that is not read");
  const width = dtypes[dtype].bytes;
  const available = Math.floor((storage.elements * dtypes[storage.dtype].bytes) / width);
  const elements = shape.reduce((product, length) => product * length, 1);
  const reached =
    elements === 0 ? 0 : offset + 1 + shape.reduce((sum, n, i) => sum + (n - 1) * (stride[i] as number), 0);
  if (reached > available) {
    throw refuse("reaches past the end of its storage", `at most ${available} elements`, `${reached}`);
  }
  if (elements * width > source.bytes) {
    throw refuse(
      "is longer than the file, by strides that repeat elements",
      `at most ${source.bytes} bytes`,
      `${elements * width}`,
    );
  }
  // Asked for now, so that a file with a storage missing does not open.
  const content = source.storages(storage, where);
  return {
    dtype,
    shape,
    bytes: elements * width,
    read: () => dtypes[dtype].decode(gather(content, { width, offset, shape, stride, elements })),
  };
}

interface View {
  /** Bytes of an element. */
  readonly width: number;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly stride: readonly number[];
  readonly elements: number;
}

/** The elements of a view one behind the other, in new memory. */
function gather(
  content: Uint8Array,
  { width, offset, shape, stride, elements }: View,
): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(elements * width);
  if (elements === 0) return out;
  if (isContiguous(shape, stride)) {
    out.set(content.subarray(offset * width, (offset + elements) * width));
    return out;
  }
  const index = shape.map(() => 0);
  let from = offset;
  for (let i = 0; i < elements; i++) {
    for (let b = 0; b < width; b++) out[i * width + b] = content[from * width + b] as number;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += stride[axis] as number;
      if (++(index[axis] as number) < (shape[axis] as number)) break;
      from -= (shape[axis] as number) * (stride[axis] as number);
      index[axis] = 0;
    }
  }
  return out;
}

/** Row-major without gaps; the stride of an axis of length 1 says nothing. */
function isContiguous(shape: readonly number[], stride: readonly number[]): boolean {
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && stride[axis] !== expected) return false;
    expected *= shape[axis] as number;
  }
  return true;
}

function dtypeNamed(type: PickleValue | undefined): TorchDtype | undefined {
  const name = type instanceof Global && type.module === "torch" ? type.name : "";
  return Object.hasOwn(dtypes, name) ? (name as TorchDtype) : undefined;
}

/** A tuple of whole numbers, or a torch.Size of one. */
function countsOf(value: PickleValue | undefined): readonly number[] | undefined {
  const tuple = value instanceof Call && value.callee.fullName === "torch.Size" ? value.args[0] : value;
  if (!(tuple instanceof Tuple) || tuple.items.length > MAX_DIMENSIONS) return undefined;
  return tuple.items.every(isCount) ? tuple.items : undefined;
}

function isCount(value: PickleValue | undefined): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

/** Keys are numbers in text; legacy files have addresses. */
function isKey(key: PickleValue | undefined): key is string {
  return typeof key === "string" && /^[0-9a-zA-Z_]{1,64}$/.test(key);
}

/** Names are printed, never used as paths or as keys of objects. */
function isPlainName(name: string): boolean {
  return name.length > 0 && name.length <= MAX_NAME && !/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(name);
}

function shown(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}...` : name);
}

function halfToFloat(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

/** The upper half of an f32. */
function bfloat16ToFloat(values: Uint16Array): Float32Array {
  return new Float32Array(Uint32Array.from(values, (value) => value * 65536).buffer);
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, "0")}`;
}
