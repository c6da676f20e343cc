/**
 * The tensors in the object that a PyTorch file holds: views (offset, shape, strides) of storages, found in nested dicts.
 *
 * What else stands there is left inert and listed by its place and its class: Python's objects of every kind, whose classes are
 * never looked for and whose functions are never called. A tensor that such an object makes, or of a type that is not read, is
 * refused when it is asked for, and no sooner.
 *
 * Each view is checked against its storage before anything is allocated, and all tensors together may be at most
 * {@link MOST_SHARING} times as long as the file, so strides of 0 cannot make a bomb.
 *
 * Offsets and strides of tensors are in elements, everything else in bytes.
 *
 * Source: pytorch/pytorch, torch/_utils.py.
 */

import { FormatError } from "../core/error.js";
import { isCode } from "./code-names.js";
import { bfloat16ToFloat, float16ToFloat } from "./half.js";
import { Call, Global, Other, type PickleValue, readPickle, Tuple } from "./pickle.js";
import { isPlainName, quoted } from "./plain-name.js";

export interface TorchCheckpoint {
  readonly container: "zip" | "legacy" | "unzipped";
  /** By name; a tensor in nested dicts is named through them, "state_dict.conv1.0.weight". */
  readonly tensors: ReadonlyMap<string, TorchTensor>;
  /** Python's objects that are not known here, each by its first place, "args.path", and its class or function. */
  readonly objects: ReadonlyMap<string, string>;
  /** All that the file holds, as it was saved. */
  readonly value: PickleValue;
  /** Bytes behind the end of what was saved. */
  readonly trailing: number;
}

interface TorchTensor {
  /** PyTorch's name of the type as it lies in the file. */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** The elements, row-major, in new memory; float16 and bfloat16 widened to f32. @throws FormatError for other types */
  read(): TorchArray;
}

type TorchArray =
  Float32Array | Float64Array | BigInt64Array | Int32Array | Int16Array | Int8Array | Uint8Array;

interface Dtype {
  readonly bytes: 1 | 2 | 4 | 8 | 16;
  /** From bytes that begin at the beginning of their buffer; undefined for types that are listed only. */
  readonly decode?: (bytes: Uint8Array<ArrayBuffer>) => TorchArray;
}

export const dtypes = {
  float64: { bytes: 8, decode: (b) => new Float64Array(b.buffer) },
  float32: { bytes: 4, decode: (b) => new Float32Array(b.buffer) },
  float16: { bytes: 2, decode: (b) => float16ToFloat(new Uint16Array(b.buffer)) },
  bfloat16: { bytes: 2, decode: (b) => bfloat16ToFloat(new Uint16Array(b.buffer)) },
  int64: { bytes: 8, decode: (b) => new BigInt64Array(b.buffer) },
  int32: { bytes: 4, decode: (b) => new Int32Array(b.buffer) },
  int16: { bytes: 2, decode: (b) => new Int16Array(b.buffer) },
  int8: { bytes: 1, decode: (b) => new Int8Array(b.buffer) },
  uint8: { bytes: 1, decode: (b) => b },
  bool: { bytes: 1, decode: (b) => b },
  complex32: { bytes: 4 },
  complex64: { bytes: 8 },
  complex128: { bytes: 16 },
  uint16: { bytes: 2 },
  uint32: { bytes: 4 },
  uint64: { bytes: 8 },
  float8_e4m3fn: { bytes: 1 },
  float8_e4m3fnuz: { bytes: 1 },
  float8_e5m2: { bytes: 1 },
  float8_e5m2fnuz: { bytes: 1 },
  float8_e8m0fnu: { bytes: 1 },
  qint8: { bytes: 1 },
  quint8: { bytes: 1 },
  qint32: { bytes: 4 },
  quint4x2: { bytes: 1 },
  quint2x4: { bytes: 1 },
} as const satisfies Readonly<Record<string, Dtype>>;
type TorchDtype = keyof typeof dtypes;

/** A storage as the pickle refers to it; `key` is its name in the file. */
export interface Storage {
  readonly key: string;
  readonly dtype: TorchDtype;
  readonly elements: number;
  /** Where it begins in the root storage of this key, in elements; legacy files may share that way. */
  readonly start: number;
}

/** The bytes of a storage by its key; each file form has its own. */
export type Storages = (storage: Storage, where: string) => Uint8Array;

/** Functions that Python would make a view of a storage with, a parameter of a view, and a tensor with attributes of it. */
const tensorBuilders: ReadonlySet<string> = new Set([
  "torch._utils._rebuild_tensor",
  "torch._utils._rebuild_tensor_v2",
  "torch._utils._rebuild_tensor_v3",
]);
const parameterBuilders: ReadonlySet<string> = new Set([
  "torch._utils._rebuild_parameter",
  "torch._utils._rebuild_parameter_with_state",
]);

const TYPED_BUILDER = "torch._tensor._rebuild_from_type_v2";
/** Classes of a tensor that mean no more than its elements. */
const plainTensors: ReadonlySet<string> = new Set(["torch.Tensor", "torch.nn.parameter.Parameter"]);

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
  ["torch.ComplexFloatStorage", "complex64"],
  ["torch.ComplexDoubleStorage", "complex128"],
  ["torch.QInt8Storage", "qint8"],
  ["torch.QUInt8Storage", "quint8"],
  ["torch.QInt32Storage", "qint32"],
  ["torch.QUInt4x2Storage", "quint4x2"],
  ["torch.QUInt2x4Storage", "quint2x4"],
  // Bytes without a type: the tensor states one (_rebuild_tensor_v3).
  ["torch.storage.UntypedStorage", "uint8"],
  ["torch.UntypedStorage", "uint8"],
]);

/**
 * All names that are known. The last rows stand beside the weights in training checkpoints (arguments, scores); they
 * are passed over, and like everything here never called.
 */
const torchNames: ReadonlyMap<string, "object" | "dict"> = new Map<string, "object" | "dict">([
  ["collections.OrderedDict", "dict"],
  ...[...tensorBuilders, ...parameterBuilders, TYPED_BUILDER, ...plainTensors, ...storageTypes.keys()].map(
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
const MAX_NAME = 1024;
/** Objects that are listed; what else a file may hold is of the same kinds. */
const MOST_OBJECTS = 1000;
const MAX_DEPTH = 32;
const MAX_DIMENSIONS = 16;

interface Source {
  readonly container: TorchCheckpoint["container"];
  readonly trailing: number;
  readonly where: string;
  /** Length of the file. */
  readonly bytes: number;
  readonly storages: Storages;
}

/** Persistent ids: ("storage", type, key, device, elements), and in legacy files (root's key, start, elements) or None. */
export class StorageReferences {
  readonly roots = new Map<string, Storage>();
  constructor(private readonly where: string) {}

  read(id: PickleValue): Storage {
    const items = id instanceof Tuple ? id.items : [];
    if (typeof id === "string")
      throw this.error(
        "refers to its storages by text, as pickles of protocol 0 do; PyTorch cannot load it either",
      );
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
    return new FormatError(this.where, 0, what);
  }
}

/** Without `refs` the pickle may refer to no storage. */
export function readTorchPickle(
  bytes: Uint8Array,
  where: string,
  refs: StorageReferences | undefined,
  start = 0,
): { readonly value: PickleValue; readonly end: number } {
  const persistent =
    refs && ((id: PickleValue): Reference | Global => moduleClass(id) ?? new Reference(refs.read(id)));
  const inert = (name: string): boolean => !isCode(name);
  return readPickle(bytes, where, { allowed: torchNames, inert, ...(persistent && { persistent }) }, start);
}

/** Legacy files refer to a class of modules with its source, ("module", class, file, source): the class, by its name alone. */
function moduleClass(id: PickleValue): Global | undefined {
  const [tag, type] = id instanceof Tuple ? id.items : [];
  return tag === "module" && type instanceof Global && !torchNames.has(type.fullName) ? type : undefined;
}

/** A class, so that no set or other value can be taken for one. */
class Reference {
  constructor(readonly storage: Storage) {}
}

/** Every tensor in nested dicts, lists and tuples; each of those is visited once, wherever else it is referred to. */
export function collect(top: PickleValue, source: Source): TorchCheckpoint {
  const tensors = new Map<string, TorchTensor>();
  const objects = new Map<string, string>();
  const visited = new Set<unknown>();
  let total = 0;
  const refuse = (what: string): FormatError => new FormatError(source.where, 0, what);
  const waiting: { value: PickleValue; path: string; depth: number }[] = [{ value: top, path: "", depth: 0 }];
  for (let item = waiting.pop(); item !== undefined; item = waiting.pop()) {
    const { value, path, depth } = item;
    const call = tensorCall(value);
    if (call !== undefined) {
      if (!isPlainName(path))
        throw refuse(`a tensor's name is empty, too long or not printable: ${quoted(path)}`);
      if (tensors.has(path)) throw refuse(`two tensors are named ${quoted(path)}`);
      const tensor = tensorOf(call, path, source);
      total += tensor.bytes;
      if (total > MOST_SHARING * source.bytes) {
        const most = `${MOST_SHARING} times the file, ${MOST_SHARING * source.bytes} bytes`;
        throw new FormatError(source.where, 0, "its tensors are longer than the file can mean", {
          expected: `at most ${most}`,
        });
      }
      tensors.set(path, tensor);
      continue;
    }
    const children = childrenOf(value);
    const object = unknownName(value);
    if ((children ?? object) === undefined || visited.has(value)) continue;
    visited.add(value);
    if (object !== undefined && objects.size < MOST_OBJECTS && (path === "" || isPlainName(path))) {
      objects.set(path, object);
    }
    if (children === undefined) continue;
    if (depth >= MAX_DEPTH) throw refuse(`nested more than ${MAX_DEPTH} deep`);
    // Last first, so that they come off in the order of the file.
    for (const [key, child] of children.reverse()) {
      const name = path === "" ? key : `${path}.${key}`;
      if (name.length <= MAX_NAME) waiting.push({ value: child, path: name, depth: depth + 1 });
      else if (tensorCall(child) !== undefined) throw refuse(`a tensor's name is longer than ${MAX_NAME}`);
    }
  }
  return { container: source.container, trailing: source.trailing, tensors, objects, value: top };
}

/** The class or function of a value that is not known, as it can be printed. */
function unknownName(value: PickleValue): string | undefined {
  const global = value instanceof Call ? value.callee : value;
  if (!(global instanceof Global)) return undefined;
  // A tensor made by a function, or of a class, of its own: what its elements mean is not known.
  const isTyped = value instanceof Call && global.fullName === TYPED_BUILDER;
  const [builder, type] = isTyped ? value.args : [];
  const unknown = [type, builder, global].find(
    (made) => made instanceof Global && !torchNames.has(made.fullName),
  );
  const { fullName } = (unknown as Global | undefined) ?? global;
  if (unknown === undefined && !isTyped) return undefined;
  return isPlainName(fullName) && fullName.length <= 200 ? fullName : quoted(fullName);
}

function childrenOf(value: PickleValue): [string, PickleValue][] | undefined {
  // What was set on an inert dict or appended to an inert list is data; what its class was called with is its own affair.
  const dict = value instanceof Call ? (value.entries ?? value.items) : value;
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

/** The call that makes a tensor, through those that give it attributes or make a parameter of it. */
function tensorCall(value: PickleValue): Call | undefined {
  let found: PickleValue | undefined = value;
  if (found instanceof Call && found.callee.fullName === TYPED_BUILDER) {
    const [builder, type, args] = found.args;
    const isPlain = type instanceof Global && plainTensors.has(type.fullName);
    if (!isPlain || !(builder instanceof Global && args instanceof Tuple)) return undefined;
    if (found.state !== undefined) return undefined;
    found = new Call(builder, args.items, undefined);
  }
  // A parameter of a parameter does not happen; a loop of them could be written.
  if (found instanceof Call && parameterBuilders.has(found.callee.fullName)) found = found.args[0];
  return found instanceof Call && tensorBuilders.has(found.callee.fullName) ? found : undefined;
}

function tensorOf(call: Call, name: string, source: Source): TorchTensor & { readonly bytes: number } {
  const where = `tensor ${quoted(name)}`;
  const refuse = (what: string, expected?: string, found?: string): FormatError =>
    new FormatError(`${source.where}, ${where}`, 0, what, { expected, found });
  if (call.state !== undefined) throw refuse("the pickle changes it after making it, which is not read");
  const isTyped = call.callee.name === "_rebuild_tensor_v3";
  const [reference, offset, size, strides, , , ...last] = call.args;
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
  const dtype = isTyped ? dtypeNamed(last[0]) : storage.dtype;
  if (dtype === undefined) {
    const name = last[0] instanceof Global ? last[0].fullName : "unknown";
    const read = (): never => {
      throw refuse("is of a type that is not known", "floats or integers", name);
    };
    return { dtype: name, shape, bytes: 0, read };
  }
  const { bytes: width, decode }: Dtype = dtypes[dtype];
  const negated = negation(last[isTyped ? 1 : 0]);
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
    read: () => {
      if (decode === undefined) throw refuse("is of a type that is not read", "floats or integers", dtype);
      if (negated === undefined)
        throw refuse("says more of itself than is known here, so its elements may mean another");
      const values = decode(gather(content, { width, offset, shape, stride, elements }));
      // In place: an integer's own type takes its negative, and a bigint stays one.
      if (negated) for (let i = 0; i < values.length; i++) values[i] = -(values[i] as number);
      return values;
    },
  };
}

/**
 * Whether the elements are the negatives of what lies in the storage (the imaginary part of a conjugate is such a view);
 * undefined where a tensor's further flags say what is not known.
 */
function negation(flags: PickleValue | undefined): boolean | undefined {
  if (flags === undefined || flags === null) return false;
  if (!(flags instanceof Map)) return undefined;
  const known = [...flags].every(([name, on]) => name === "neg" || (name === "conj" && on === false));
  return known ? flags.get("neg") === true : undefined;
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
