/**
 * Reads and writes `.onnx`: one graph of operators with its constants, as protobuf.
 *
 * A file comes from anywhere, so it is read strictly: no length is believed before it is checked against
 * what is left, nothing outside the file is ever opened (external data is refused: its paths have led out
 * of folders before), and a name that is defined twice or used before it is defined ends the reading.
 * Subgraphs, functions, sequences and strings are refused, since no network of this family has them.
 *
 * Lengths are in bytes, shapes in elements; numbers of tensors lie row-major and little-endian.
 *
 * Source: github.com/onnx/onnx @ v1.12.0, onnx/onnx.proto (field numbers) and docs/IR.md (rules of names).
 */

import { open } from "node:fs/promises";

import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

import { DataError, FormatError } from "../core/error.js";
import { readFully } from "./npy.js";
import type { SafetensorsDtype } from "./safetensors.js";

/** Safetensors' names for the types of elements that both formats have. */
export type OnnxDtype = Exclude<SafetensorsDtype, "F8_E5M2" | "F8_E4M3">;

export interface OnnxTensor {
  readonly dtype: OnnxDtype;
  readonly shape: readonly number[];
  /** The elements; a view of the file where it holds them so. */
  readonly bytes: Uint8Array;
}

/** An input or output of the graph; an axis without a fixed length has a name ("N"), or "?" where it has none. */
export interface OnnxValue {
  readonly name: string;
  readonly dtype: OnnxDtype;
  readonly shape: readonly (number | string)[];
}

export type OnnxAttribute =
  | { readonly kind: "int"; readonly value: number }
  | { readonly kind: "ints"; readonly value: readonly number[] }
  | { readonly kind: "float"; readonly value: number }
  | { readonly kind: "floats"; readonly value: readonly number[] }
  | { readonly kind: "string"; readonly value: string }
  | { readonly kind: "tensor"; readonly value: OnnxTensor };

export interface OnnxNode {
  readonly name: string;
  /** "Conv", "Relu", ... */
  readonly operator: string;
  /** Whose operator; "" for ONNX's own. */
  readonly domain?: string;
  /** Names of values; "" for an optional one left out. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: ReadonlyMap<string, OnnxAttribute>;
}

export interface OnnxGraph {
  readonly name: string;
  /** In an order in which they can be run. */
  readonly nodes: readonly OnnxNode[];
  readonly initializers: ReadonlyMap<string, OnnxTensor>;
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
}

export interface OnnxModel {
  readonly irVersion: number;
  /** Version of the operators, by domain ("" is ONNX's own). */
  readonly opsets: ReadonlyMap<string, number>;
  readonly producer: { readonly name: string; readonly version: string };
  readonly metadata: ReadonlyMap<string, string>;
  readonly graph: OnnxGraph;
}

/** protobuf's own limit on a message, and so on a model in one file. */
const maxFileBytes = 2 ** 31 - 1;

/**
 * The file's bytes in pieces, in order; no copy of the tensors is made.
 *
 * @throws RangeError for a tensor whose bytes are not its shape's, and for a model of 2 GiB or more.
 */
export function encodeOnnx(model: OnnxModel): Uint8Array[] {
  const graph = graphPieces(model.graph);
  const head = message((writer) => {
    writer.tag(modelField.irVersion, WireType.Varint).int64(model.irVersion);
    writeText(writer, modelField.producerName, model.producer.name);
    writeText(writer, modelField.producerVersion, model.producer.version);
    for (const [domain, version] of model.opsets) {
      writeMessage(writer, modelField.opsetImport, (opset) => {
        if (domain !== "") writeText(opset, opsetField.domain, domain);
        opset.tag(opsetField.version, WireType.Varint).int64(version);
      });
    }
    for (const [key, value] of model.metadata) {
      writeMessage(writer, modelField.metadata, (entry) => {
        writeText(entry, entryField.key, key);
        writeText(entry, entryField.value, value);
      });
    }
    writer.tag(modelField.graph, WireType.LengthDelimited).uint32(lengthOf(graph));
  });
  const pieces = [head, ...graph];
  if (lengthOf(pieces) > maxFileBytes) {
    throw new RangeError(`a model of ${lengthOf(pieces)} bytes: protobuf ends at ${maxFileBytes}`);
  }
  return pieces;
}

/**
 * Reads a whole file.
 *
 * @throws FormatError with the offset at which it stops being a model that is read here.
 */
export async function readOnnx(path: string): Promise<OnnxModel> {
  const file = await open(path);
  try {
    const found = await file.stat();
    if (!found.isFile()) throw new FormatError({ where: path, what: "is not a regular file" }, 0);
    if (found.size > maxFileBytes) {
      throw new FormatError(
        {
          where: path,
          what: "too long for an ONNX model in one file",
          expected: `at most ${maxFileBytes} bytes`,
          found: `${found.size}`,
        },
        0,
      );
    }
    const bytes = new Uint8Array(found.size);
    await readFully(file, bytes, 0, path);
    return decodeOnnx(bytes, path);
  } finally {
    await file.close();
  }
}

/** @throws FormatError */
export function decodeOnnx(bytes: Uint8Array, where: string): OnnxModel {
  return new ModelReader(bytes, where).read();
}

/** The elements as floats. @throws RangeError for another type. */
export function floatsOf({ dtype, bytes }: OnnxTensor): Float32Array {
  if (dtype !== "F32") throw new RangeError(`a tensor of ${dtype} where F32 is expected`);
  return new Float32Array(new Uint8Array(bytes).buffer);
}

/** The elements as whole numbers. @throws RangeError for another type than I64, DataError beyond 2^53. */
export function integersOf({ dtype, bytes }: OnnxTensor): number[] {
  if (dtype !== "I64") throw new RangeError(`a tensor of ${dtype} where I64 is expected`);
  return Array.from(new BigInt64Array(new Uint8Array(bytes).buffer), (value) => {
    if (value !== BigInt(Number(value))) throw new DataError({ what: `the number ${value} is beyond 2^53` });
    return Number(value);
  });
}

export function floatTensor(shape: readonly number[], data: Float32Array): OnnxTensor {
  return { dtype: "F32", shape, bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
}

/** A list of whole numbers. */
export function integerTensor(values: readonly number[]): OnnxTensor {
  const bytes = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
  return { dtype: "I64", shape: [values.length], bytes };
}

const modelField = {
  irVersion: 1,
  producerName: 2,
  producerVersion: 3,
  domain: 4,
  modelVersion: 5,
  doc: 6,
  graph: 7,
  opsetImport: 8,
  metadata: 14,
} as const;
const opsetField = { domain: 1, version: 2 } as const;
const entryField = { key: 1, value: 2 } as const;
const graphField = {
  node: 1,
  name: 2,
  initializer: 5,
  doc: 10,
  input: 11,
  output: 12,
  valueInfo: 13,
  quantization: 14,
  metadata: 16,
} as const;
const nodeField = {
  input: 1,
  output: 2,
  name: 3,
  operator: 4,
  attribute: 5,
  doc: 6,
  domain: 7,
  metadata: 9,
} as const;
const attributeField = {
  name: 1,
  float: 2,
  int: 3,
  string: 4,
  tensor: 5,
  floats: 7,
  ints: 8,
  doc: 13,
  type: 20,
} as const;
/** AttributeProto.AttributeType. */
const attributeType = { float: 1, int: 2, string: 3, tensor: 4, floats: 6, ints: 7 } as const;
const tensorField = {
  dimension: 1,
  dataType: 2,
  segment: 3,
  floats: 4,
  int32s: 5,
  int64s: 7,
  name: 8,
  raw: 9,
  doubles: 10,
  doc: 12,
  external: 13,
  location: 14,
  metadata: 16,
} as const;
const valueField = { name: 1, type: 2, doc: 3, metadata: 4 } as const;
const typeField = { tensor: 1, denotation: 6 } as const;
const tensorTypeField = { element: 1, shape: 2 } as const;
const shapeField = { dimension: 1 } as const;
const dimensionField = { value: 1, name: 2, denotation: 3 } as const;

/** TensorProto.DataType and bytes of an element; `list` is the field that holds such elements where they do not lie raw. */
const dataTypes: {
  readonly [K in OnnxDtype]: { readonly code: number; readonly bytes: number; readonly list?: number };
} = {
  F32: { code: 1, bytes: 4, list: tensorField.floats },
  U8: { code: 2, bytes: 1, list: tensorField.int32s },
  I8: { code: 3, bytes: 1, list: tensorField.int32s },
  U16: { code: 4, bytes: 2, list: tensorField.int32s },
  I16: { code: 5, bytes: 2, list: tensorField.int32s },
  I32: { code: 6, bytes: 4, list: tensorField.int32s },
  I64: { code: 7, bytes: 8, list: tensorField.int64s },
  BOOL: { code: 9, bytes: 1, list: tensorField.int32s },
  F16: { code: 10, bytes: 2, list: tensorField.int32s },
  F64: { code: 11, bytes: 8, list: tensorField.doubles },
  U32: { code: 12, bytes: 4 },
  U64: { code: 13, bytes: 8 },
  BF16: { code: 16, bytes: 2, list: tensorField.int32s },
};

function graphPieces(graph: OnnxGraph): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  pieces.push(
    message((writer) => {
      for (const node of graph.nodes) writeMessage(writer, graphField.node, (into) => writeNode(into, node));
      writeText(writer, graphField.name, graph.name);
    }),
  );
  for (const [name, tensor] of graph.initializers) {
    const [head, data] = tensorPieces(name, tensor);
    const length = head.length + data.length;
    pieces.push(
      message((writer) => writer.tag(graphField.initializer, WireType.LengthDelimited).uint32(length)),
      head,
      data,
    );
  }
  pieces.push(
    message((writer) => {
      for (const value of graph.inputs)
        writeMessage(writer, graphField.input, (into) => writeValue(into, value));
      for (const value of graph.outputs)
        writeMessage(writer, graphField.output, (into) => writeValue(into, value));
    }),
  );
  return pieces;
}

function writeNode(writer: BinaryWriter, node: OnnxNode): void {
  for (const name of node.inputs) writeText(writer, nodeField.input, name);
  for (const name of node.outputs) writeText(writer, nodeField.output, name);
  writeText(writer, nodeField.name, node.name);
  writeText(writer, nodeField.operator, node.operator);
  for (const [name, attribute] of node.attributes) {
    writeMessage(writer, nodeField.attribute, (into) => writeAttribute(into, name, attribute));
  }
  if (node.domain !== undefined) writeText(writer, nodeField.domain, node.domain);
}

function writeAttribute(writer: BinaryWriter, name: string, { kind, value }: OnnxAttribute): void {
  writeText(writer, attributeField.name, name);
  switch (kind) {
    case "int":
      writer.tag(attributeField.int, WireType.Varint).int64(value);
      break;
    case "ints":
      for (const one of value) writer.tag(attributeField.ints, WireType.Varint).int64(one);
      break;
    case "float":
      writer.tag(attributeField.float, WireType.Bit32).float(value);
      break;
    case "floats":
      for (const one of value) writer.tag(attributeField.floats, WireType.Bit32).float(one);
      break;
    case "string":
      writeText(writer, attributeField.string, value);
      break;
    case "tensor":
      writer.tag(attributeField.tensor, WireType.LengthDelimited);
      writer.bytes(Buffer.concat(tensorPieces("", value)));
  }
  writer.tag(attributeField.type, WireType.Varint).int32(attributeType[kind]);
}

/** All but the elements, and the elements. */
function tensorPieces(
  name: string,
  { dtype, shape, bytes }: OnnxTensor,
): [head: Uint8Array, data: Uint8Array] {
  const { code, bytes: each } = dataTypes[dtype];
  if (shape.reduce((product, length) => product * length, each) !== bytes.length) {
    throw new RangeError(`tensor ${name}: shape [${shape.join(", ")}] ${dtype} is not ${bytes.length} bytes`);
  }
  const head = message((writer) => {
    for (const length of shape) writer.tag(tensorField.dimension, WireType.Varint).int64(length);
    writer.tag(tensorField.dataType, WireType.Varint).int32(code);
    if (name !== "") writeText(writer, tensorField.name, name);
    writer.tag(tensorField.raw, WireType.LengthDelimited).uint32(bytes.length);
  });
  return [head, bytes];
}

function writeValue(writer: BinaryWriter, { name, dtype, shape }: OnnxValue): void {
  writeText(writer, valueField.name, name);
  writeMessage(writer, valueField.type, (type) => {
    writeMessage(type, typeField.tensor, (tensor) => {
      tensor.tag(tensorTypeField.element, WireType.Varint).int32(dataTypes[dtype].code);
      writeMessage(tensor, tensorTypeField.shape, (into) => {
        for (const axis of shape) {
          writeMessage(into, shapeField.dimension, (dimension) => {
            if (typeof axis === "string") writeText(dimension, dimensionField.name, axis);
            else dimension.tag(dimensionField.value, WireType.Varint).int64(axis);
          });
        }
      });
    });
  });
}

function writeText(writer: BinaryWriter, field: number, text: string): void {
  writer.tag(field, WireType.LengthDelimited).string(text);
}

function writeMessage(writer: BinaryWriter, field: number, write: (into: BinaryWriter) => void): void {
  writer.tag(field, WireType.LengthDelimited).fork();
  write(writer);
  writer.join();
}

function message(write: (writer: BinaryWriter) => void): Uint8Array {
  const writer = new BinaryWriter();
  write(writer);
  return writer.finish();
}

function lengthOf(pieces: readonly Uint8Array[]): number {
  return pieces.reduce((sum, piece) => sum + piece.length, 0);
}

const maxNameBytes = 1024;
const maxRank = 16;
/** Names, numbers and messages in all: a few bytes of a file may not become a gigabyte of objects. */
const maxObjects = 2 ** 20;

/** What is done at a field of a message; the reader stands behind its tag. */
type Fields = Readonly<Record<number, () => void>>;

/** Where elements lie that are not raw, and how they are written. */
interface ElementList {
  readonly field: number;
  readonly wire: WireType;
  readonly begin: number;
  readonly end: number;
}

/** One walk over a file, from outside in; messages are ranges of the same bytes. */
class ModelReader {
  readonly #reader: BinaryReader;
  #wire = WireType.Varint;
  #objects = 0;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly where: string,
  ) {
    this.#reader = new BinaryReader(bytes);
  }

  read(): OnnxModel {
    try {
      return this.#model();
    } catch (error) {
      // BinaryReader throws plain errors for bytes that are no protobuf; anything else is a mistake of ours.
      if (error instanceof RangeError || (error instanceof Error && error.constructor === Error)) {
        this.#fail(`no whole protobuf message: ${error.message}`);
      }
      throw error;
    }
  }

  #model(): OnnxModel {
    let irVersion: number | undefined;
    let graph: OnnxGraph | undefined;
    const producer = { name: "", version: "" };
    const opsets = new Map<string, number>();
    const metadata = new Map<string, string>();
    this.#fields(
      this.bytes.length,
      "the model",
      {
        [modelField.irVersion]: () => (irVersion = this.#integer()),
        [modelField.producerName]: () => (producer.name = this.#name("the producer's name")),
        [modelField.producerVersion]: () => (producer.version = this.#name("the producer's version")),
        [modelField.domain]: () => this.#skip(),
        [modelField.modelVersion]: () => void this.#integer(),
        [modelField.doc]: () => this.#skip(),
        [modelField.graph]: () => (graph = this.#graph()),
        [modelField.opsetImport]: () => this.#opset(opsets),
        [modelField.metadata]: () => this.#entry(metadata),
      },
      [modelField.opsetImport, modelField.metadata],
    );
    if (irVersion === undefined || irVersion < 3) {
      return this.#fail(`IR version ${irVersion ?? "is missing"}; from 3 are read`);
    }
    if (graph === undefined) return this.#fail("it has no graph");
    if (!opsets.has("")) return this.#fail("it names no version of ONNX's operators");
    return { irVersion, opsets, producer, metadata, graph };
  }

  #opset(into: Map<string, number>): void {
    let domain = "";
    let version = 0;
    this.#fields(this.#end("a set of operators"), "a set of operators", {
      [opsetField.domain]: () => (domain = this.#name("a domain")),
      [opsetField.version]: () => (version = this.#integer()),
    });
    // docs/IR.md: "ai.onnx" and the empty text are the same.
    if (domain === "ai.onnx") domain = "";
    if (into.has(domain)) this.#fail(`the domain ${show(domain)} comes twice`);
    if (version < 1) this.#fail(`version ${version} of the operators of ${show(domain)}`);
    into.set(domain, version);
  }

  #entry(into: Map<string, string>): void {
    let key = "";
    let value = "";
    this.#fields(this.#end("an entry"), "an entry of the metadata", {
      [entryField.key]: () => (key = this.#name("a key")),
      [entryField.value]: () => (value = this.#text("a value")),
    });
    if (into.has(key)) this.#fail(`the metadata key ${show(key)} comes twice`);
    into.set(key, value);
  }

  #graph(): OnnxGraph {
    let name = "";
    const nodes: OnnxNode[] = [];
    const initializers = new Map<string, OnnxTensor>();
    const inputs: OnnxValue[] = [];
    const outputs: OnnxValue[] = [];
    this.#fields(
      this.#end("the graph"),
      "the graph",
      {
        [graphField.node]: () => nodes.push(this.#node()),
        [graphField.name]: () => (name = this.#name("the graph's name")),
        [graphField.initializer]: () => {
          const { name: of, tensor } = this.#tensor();
          if (of === "") this.#fail("a constant without a name");
          if (initializers.has(of)) this.#fail(`the constant ${show(of)} comes twice`);
          initializers.set(of, tensor);
        },
        [graphField.doc]: () => this.#skip(),
        [graphField.input]: () => inputs.push(this.#value()),
        [graphField.output]: () => outputs.push(this.#value()),
        // Hints that change no number.
        [graphField.valueInfo]: () => this.#skip(),
        [graphField.quantization]: () => this.#skip(),
        [graphField.metadata]: () => this.#skip(),
      },
      [
        graphField.node,
        graphField.initializer,
        graphField.input,
        graphField.output,
        graphField.valueInfo,
        graphField.quantization,
        graphField.metadata,
      ],
    );
    const graph = { name, nodes, initializers, inputs, outputs };
    this.#checkNames(graph);
    return graph;
  }

  /** docs/IR.md: every name is defined once, and before it is used. */
  #checkNames({ nodes, initializers, inputs, outputs }: OnnxGraph): void {
    const defined = new Set<string>();
    const define = (name: string): void => {
      if (defined.has(name)) this.#fail(`the value ${show(name)} is defined twice`);
      defined.add(name);
    };
    const use = (name: string, by: string): void => {
      if (!defined.has(name)) this.#fail(`${by} uses ${show(name)} before anything defines it`);
    };
    for (const { name } of inputs) define(name);
    // An input may have a constant as its default.
    for (const name of initializers.keys()) defined.add(name);
    for (const node of nodes) {
      for (const name of node.inputs) if (name !== "") use(name, `the node ${show(node.name)}`);
      for (const name of node.outputs) if (name !== "") define(name);
    }
    const wanted = new Set<string>();
    for (const { name } of outputs) {
      use(name, "the graph's output");
      if (wanted.has(name)) this.#fail(`the output ${show(name)} comes twice`);
      wanted.add(name);
    }
  }

  #node(): OnnxNode {
    let name = "";
    let operator = "";
    let domain = "";
    const inputs: string[] = [];
    const outputs: string[] = [];
    const attributes = new Map<string, OnnxAttribute>();
    this.#fields(
      this.#end("a node"),
      "a node",
      {
        [nodeField.input]: () => inputs.push(this.#name("a node's input")),
        [nodeField.output]: () => outputs.push(this.#name("a node's output")),
        [nodeField.name]: () => (name = this.#name("a node's name")),
        [nodeField.operator]: () => (operator = this.#name("an operator")),
        [nodeField.attribute]: () => this.#attribute(attributes),
        [nodeField.doc]: () => this.#skip(),
        [nodeField.domain]: () => (domain = this.#name("a domain")),
        [nodeField.metadata]: () => this.#skip(),
      },
      [nodeField.input, nodeField.output, nodeField.attribute, nodeField.metadata],
    );
    if (operator === "") this.#fail(`the node ${show(name)} has no operator`);
    return {
      name,
      operator,
      ...(domain === "" || domain === "ai.onnx" ? {} : { domain }),
      inputs,
      outputs,
      attributes,
    };
  }

  #attribute(into: Map<string, OnnxAttribute>): void {
    let name = "";
    let type: number | undefined;
    const found = new Map<number, OnnxAttribute>();
    const ints: number[] = [];
    const floats: number[] = [];
    const keep = (attribute: OnnxAttribute): void => void found.set(attributeType[attribute.kind], attribute);
    this.#fields(
      this.#end("an attribute"),
      "an attribute",
      {
        [attributeField.name]: () => (name = this.#name("an attribute's name")),
        [attributeField.float]: () => keep({ kind: "float", value: this.#float() }),
        [attributeField.int]: () => keep({ kind: "int", value: this.#integer() }),
        [attributeField.string]: () => keep({ kind: "string", value: this.#text("a text") }),
        [attributeField.tensor]: () => keep({ kind: "tensor", value: this.#tensor().tensor }),
        [attributeField.floats]: () => this.#packed(WireType.Bit32, () => floats.push(this.#float())),
        [attributeField.ints]: () => this.#packed(WireType.Varint, () => ints.push(this.#integer())),
        [attributeField.doc]: () => this.#skip(),
        [attributeField.type]: () => (type = this.#integer()),
      },
      [attributeField.floats, attributeField.ints],
    );
    // Empty lists leave no trace in the file but the type.
    if (floats.length > 0 || type === attributeType.floats) keep({ kind: "floats", value: floats });
    if (ints.length > 0 || type === attributeType.ints) keep({ kind: "ints", value: ints });
    const [value] = found.values();
    if (found.size !== 1 || value === undefined || type !== attributeType[value.kind]) {
      return this.#fail(
        `the attribute ${show(name)} of type ${type ?? "(none)"} holds ${found.size} values of the types that are read`,
      );
    }
    if (name === "" || into.has(name)) this.#fail(`the attribute ${show(name)} has no name or comes twice`);
    into.set(name, value);
  }

  #tensor(): { name: string; tensor: OnnxTensor } {
    let name = "";
    let code: number | undefined;
    let raw: ElementList | undefined;
    const shape: number[] = [];
    const lists: ElementList[] = [];
    const list = (field: number): void => void lists.push(this.#elements(field));
    this.#fields(
      this.#end("a tensor"),
      "a tensor",
      {
        [tensorField.dimension]: () => this.#packed(WireType.Varint, () => shape.push(this.#length())),
        [tensorField.dataType]: () => (code = this.#integer()),
        [tensorField.floats]: () => list(tensorField.floats),
        [tensorField.int32s]: () => list(tensorField.int32s),
        [tensorField.int64s]: () => list(tensorField.int64s),
        [tensorField.doubles]: () => list(tensorField.doubles),
        [tensorField.name]: () => (name = this.#name("a tensor's name")),
        [tensorField.raw]: () => (raw = this.#elements(tensorField.raw)),
        [tensorField.segment]: () => this.#fail("a tensor in segments; whole ones are read"),
        [tensorField.doc]: () => this.#skip(),
        [tensorField.external]: () => this.#fail("a tensor in another file; nothing outside is ever opened"),
        [tensorField.location]: () => {
          if (this.#integer() !== 0) this.#fail("a tensor in another file; nothing outside is ever opened");
        },
        [tensorField.metadata]: () => this.#skip(),
      },
      [
        tensorField.dimension,
        tensorField.floats,
        tensorField.int32s,
        tensorField.int64s,
        tensorField.doubles,
        tensorField.metadata,
      ],
    );
    const dtype = (Object.keys(dataTypes) as OnnxDtype[]).find((type) => dataTypes[type].code === code);
    if (dtype === undefined) {
      return this.#fail(`the tensor ${show(name)} has data type ${code ?? "(none)"}, which is not read`);
    }
    if (shape.length > maxRank) this.#fail(`the tensor ${show(name)} has ${shape.length} axes`);
    return { name, tensor: { dtype, shape, bytes: this.#data(name, dtype, shape, raw, lists) } };
  }

  #data(
    name: string,
    dtype: OnnxDtype,
    shape: readonly number[],
    raw: ElementList | undefined,
    lists: readonly ElementList[],
  ): Uint8Array {
    const { bytes: each, list } = dataTypes[dtype];
    const count = shape.reduce((product, length) => product * length, 1);
    const given = raw === undefined ? lists : [raw, ...lists];
    const present = given.reduce((sum, { begin, end }) => sum + end - begin, 0);
    const wrong = (): never =>
      this.#fail(
        `the tensor ${show(name)}: shape [${shape.join(", ")}] ${dtype} is ${count} elements of ${each} bytes, ` +
          `and ${present} bytes of elements are there`,
      );
    if (raw !== undefined) {
      if (lists.length > 0 || present !== count * each) wrong();
      return this.bytes.subarray(raw.begin, raw.end);
    }
    if (lists.some(({ field }) => field !== list)) wrong();
    // A listed element takes a byte at least.
    if (count > present) wrong();
    return list === tensorField.floats || list === tensorField.doubles
      ? this.#fixed(lists, count * each, wrong)
      : this.#varints(lists, each, count, wrong);
  }

  #fixed(lists: readonly ElementList[], size: number, wrong: () => never): Uint8Array {
    if (lists.reduce((sum, { begin, end }) => sum + end - begin, 0) !== size) wrong();
    const [only] = lists;
    if (only !== undefined && lists.length === 1) return this.bytes.subarray(only.begin, only.end);
    return Buffer.concat(lists.map(({ begin, end }) => this.bytes.subarray(begin, end)));
  }

  /** Whole numbers of `each` bytes; bits beyond must repeat the sign or be none. */
  #varints(lists: readonly ElementList[], each: number, count: number, wrong: () => never): Uint8Array {
    const data = new Uint8Array(count * each);
    const view = new DataView(data.buffer);
    const behind = this.#reader.pos;
    let i = 0;
    for (const { begin, end } of lists) {
      this.#reader.pos = begin;
      while (this.#reader.pos < end) {
        const value = BigInt(this.#reader.int64());
        if (this.#reader.pos > end || i === count) wrong();
        const bits = 8 * each;
        if (value !== BigInt.asIntN(bits, value) && value !== BigInt.asUintN(bits, value)) {
          this.#fail(`the number ${value} in a list of elements of ${each} bytes`);
        }
        if (each === 8) view.setBigInt64(8 * i, value, true);
        else if (each === 4) view.setInt32(4 * i, Number(BigInt.asIntN(32, value)), true);
        else if (each === 2) view.setInt16(2 * i, Number(BigInt.asIntN(16, value)), true);
        else view.setInt8(i, Number(BigInt.asIntN(8, value)));
        i++;
      }
    }
    this.#reader.pos = behind;
    return i === count ? data : wrong();
  }

  /** Where the elements of a list lie: many packed ones, or a single one. */
  #elements(field: number): ElementList {
    this.#count();
    const wire = this.#wire;
    if (wire === WireType.LengthDelimited) {
      const end = this.#end("a tensor's elements");
      const begin = this.#reader.pos;
      this.#reader.pos = end;
      return { field, wire, begin, end };
    }
    const single = { [tensorField.floats]: WireType.Bit32, [tensorField.doubles]: WireType.Bit64 };
    if (
      field === tensorField.raw ||
      wire !== ((single as Record<number, WireType>)[field] ?? WireType.Varint)
    ) {
      this.#fail(`a tensor's elements of wire type ${wire}`);
    }
    const begin = this.#reader.pos;
    if (wire === WireType.Varint) this.#reader.int64();
    else this.#reader.pos += wire === WireType.Bit32 ? 4 : 8;
    if (this.#reader.pos > this.bytes.length) this.#fail("an element leaves the file");
    return { field, wire, begin, end: this.#reader.pos };
  }

  #value(): OnnxValue {
    let name = "";
    let type: Omit<OnnxValue, "name"> | undefined;
    this.#fields(
      this.#end("a value"),
      "a value",
      {
        [valueField.name]: () => (name = this.#name("a value's name")),
        [valueField.type]: () => (type = this.#type()),
        [valueField.doc]: () => this.#skip(),
        [valueField.metadata]: () => this.#skip(),
      },
      [valueField.metadata],
    );
    if (name === "" || type === undefined) this.#fail(`the value ${show(name)} has no name or no type`);
    return { name, ...type };
  }

  #type(): Omit<OnnxValue, "name"> {
    let code: number | undefined;
    let shape: (number | string)[] | undefined;
    this.#fields(this.#end("a type"), "a type (tensors are read)", {
      [typeField.denotation]: () => this.#skip(),
      [typeField.tensor]: () =>
        this.#fields(this.#end("a tensor's type"), "a tensor's type", {
          [tensorTypeField.element]: () => (code = this.#integer()),
          [tensorTypeField.shape]: () => (shape = this.#shape()),
        }),
    });
    const dtype = (Object.keys(dataTypes) as OnnxDtype[]).find((type) => dataTypes[type].code === code);
    if (dtype === undefined || shape === undefined) {
      return this.#fail(
        `a value of data type ${code ?? "(none)"} ${shape === undefined ? "without a shape" : ""}`,
      );
    }
    return { dtype, shape };
  }

  #shape(): (number | string)[] {
    const shape: (number | string)[] = [];
    this.#fields(
      this.#end("a shape"),
      "a shape",
      {
        [shapeField.dimension]: () => {
          let axis: number | string = "?";
          this.#fields(this.#end("an axis"), "an axis", {
            [dimensionField.value]: () => (axis = this.#length()),
            [dimensionField.name]: () => (axis = this.#name("an axis's name")),
            [dimensionField.denotation]: () => this.#skip(),
          });
          shape.push(axis);
        },
      },
      [shapeField.dimension],
    );
    if (shape.length > maxRank) this.#fail(`a shape of ${shape.length} axes`);
    return shape;
  }

  /** Does what `fields` says behind each tag up to `end`; a field not in `repeated` may come once. */
  #fields(end: number, name: string, fields: Fields, repeated: readonly number[] = []): void {
    this.#count();
    const seen = new Set<number>();
    while (this.#reader.pos < end) {
      const [field, wire] = this.#reader.tag();
      const read = fields[field];
      if (read === undefined) this.#fail(`${name} has a field ${field}, which is not read`);
      if (seen.has(field) && !repeated.includes(field)) this.#fail(`${name} has field ${field} twice`);
      seen.add(field);
      this.#wire = wire;
      read();
    }
    if (this.#reader.pos !== end) this.#fail(`a field leaves ${name}, which ends at byte ${end}`);
  }

  /** A repeated number, one by one or packed; `read` takes one that lies behind a tag of type `wire`. */
  #packed(wire: WireType, read: () => void): void {
    if (this.#wire !== WireType.LengthDelimited) {
      this.#count();
      return read();
    }
    const end = this.#end("a list");
    while (this.#reader.pos < end) {
      this.#count();
      this.#wire = wire;
      read();
    }
    if (this.#reader.pos !== end) this.#fail("a list ends inside a number");
  }

  #integer(): number {
    if (this.#wire !== WireType.Varint) this.#fail(`a whole number of wire type ${this.#wire}`);
    const value = BigInt(this.#reader.int64());
    if (BigInt(Number(value)) !== value) this.#fail(`the number ${value}, beyond 2^53`);
    return Number(value);
  }

  /** Of an axis. */
  #length(): number {
    const value = this.#integer();
    if (value < 0 || value > maxFileBytes) this.#fail(`an axis of length ${value}`);
    return value;
  }

  #float(): number {
    if (this.#wire !== WireType.Bit32) this.#fail(`a float of wire type ${this.#wire}`);
    return this.#reader.float();
  }

  /** A text that cannot disturb a terminal, a path or an object. */
  #name(what: string): string {
    this.#count();
    const text = this.#text(what, maxNameBytes);
    if (/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(text)) this.#fail(`${what} holds control characters`);
    if (["__proto__", "constructor", "prototype"].includes(text)) this.#fail(`${what} is ${show(text)}`);
    return text;
  }

  #text(what: string, longest = Infinity): string {
    const end = this.#end(what);
    const begin = this.#reader.pos;
    if (end - begin > longest) this.#fail(`${what} of ${end - begin} bytes`);
    this.#reader.pos = end;
    try {
      return utf8.decode(this.bytes.subarray(begin, end));
    } catch {
      return this.#fail(`${what} is not UTF-8`);
    }
  }

  #skip(): void {
    this.#reader.pos = this.#end("a field");
  }

  /** Reads a length and gives the byte where the range ends, which lies in the file. */
  #end(name: string): number {
    if (this.#wire !== WireType.LengthDelimited) this.#fail(`${name} of wire type ${this.#wire}, expected 2`);
    const start = this.#reader.pos;
    const length = this.#reader.uint32();
    // BinaryReader drops bits beyond 32, so 2^32 + 5 would read as 5.
    const size = this.#reader.pos - start;
    if (size > 5 || (size === 5 && (this.bytes[start + 4] as number) > 0x0f)) {
      this.#fail(`${name} of 4 GiB or more`);
    }
    const end = this.#reader.pos + length;
    if (end > this.bytes.length) {
      this.#fail(`${name} of ${length} bytes, of which ${this.bytes.length - this.#reader.pos} are there`);
    }
    return end;
  }

  #count(): void {
    if (++this.#objects > maxObjects) this.#fail(`more than ${maxObjects} names, numbers and messages`);
  }

  #fail(what: string): never {
    const at = Math.min(this.#reader.pos, this.bytes.length);
    throw new FormatError({ where: this.where, what: `no ONNX model that is read here: ${what}` }, at);
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A name for a message: quoted and short; `#name` let no control characters in. */
function show(name: string): string {
  return JSON.stringify(name.length > 60 ? `${name.slice(0, 60)}…` : name);
}
