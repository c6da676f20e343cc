/**
 * Writes `.onnx`: one graph of operators with its constants, as protobuf; and finds the constants again in what was
 * written, so that an export can be held against its file.
 *
 * Lengths are in bytes, shapes in elements; numbers of tensors lie row-major and little-endian.
 *
 * Source: github.com/onnx/onnx @ v1.12.0, onnx/onnx.proto (field numbers) and docs/IR.md (rules of names).
 */

import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

import { FormatError } from "../core/error.js";
import { type Fields, ProtobufWalker } from "./protobuf.js";

export interface OnnxTensor {
  /** As safetensors calls them. */
  readonly dtype: "F32" | "I64";
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** An input or output of the graph, of f32; an axis without a fixed length has a name ("N"). */
export interface OnnxValue {
  readonly name: string;
  readonly shape: readonly (number | string)[];
}

export type OnnxAttribute =
  | { readonly kind: "int"; readonly value: number }
  | { readonly kind: "ints"; readonly value: readonly number[] }
  | { readonly kind: "float"; readonly value: number };

export interface OnnxNode {
  readonly name: string;
  /** "Conv", "Relu", ... */
  readonly operator: string;
  /** Names of values. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: ReadonlyMap<string, OnnxAttribute>;
}

interface OnnxGraph {
  readonly name: string;
  /** In an order in which they can be run. */
  readonly nodes: readonly OnnxNode[];
  readonly initializers: ReadonlyMap<string, OnnxTensor>;
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
}

export interface OnnxModel {
  readonly irVersion: number;
  /** Version of ONNX's own operators. */
  readonly opset: number;
  readonly producer: { readonly name: string; readonly version: string };
  readonly metadata: ReadonlyMap<string, string>;
  readonly graph: OnnxGraph;
}

/** Numbers of the fields that are written, by message of onnx.proto. */
const onnxFields = {
  model: { irVersion: 1, producerName: 2, producerVersion: 3, graph: 7, opsetImport: 8, metadata: 14 },
  opset: { version: 2 },
  entry: { key: 1, value: 2 },
  graph: { node: 1, name: 2, initializer: 5, input: 11, output: 12 },
  node: { input: 1, output: 2, name: 3, operator: 4, attribute: 5 },
  attribute: { name: 1, float: 2, int: 3, ints: 8, type: 20 },
  tensor: { dimension: 1, dataType: 2, name: 8, raw: 9 },
  value: { name: 1, type: 2 },
  type: { tensor: 1 },
  tensorType: { element: 1, shape: 2 },
  shape: { dimension: 1 },
  dimension: { value: 1, name: 2 },
} as const;

/** AttributeProto.AttributeType. */
const attributeTypes = { float: 1, int: 2, ints: 7 } as const;

/** TensorProto.DataType, and bytes of an element. */
const dataTypes = { F32: { code: 1, bytes: 4 }, I64: { code: 7, bytes: 8 } } as const;

/** protobuf's own limit on a message, and so on a model in one file. */
const MAX_FILE_BYTES = 2 ** 31 - 1;

/**
 * The file's bytes in pieces, in order; no copy of the tensors is made.
 *
 * @throws RangeError for a tensor whose bytes are not its shape's, and for a model of 2 GiB or more.
 */
export function encodeOnnx(model: OnnxModel): Uint8Array[] {
  const { model: fields, entry, opset } = onnxFields;
  const graph = graphPieces(model.graph);
  const head = message((writer) => {
    writer.tag(fields.irVersion, WireType.Varint).int64(model.irVersion);
    writeText(writer, fields.producerName, model.producer.name);
    writeText(writer, fields.producerVersion, model.producer.version);
    writeMessage(writer, fields.opsetImport, (into) =>
      into.tag(opset.version, WireType.Varint).int64(model.opset),
    );
    for (const [key, value] of model.metadata) {
      writeMessage(writer, fields.metadata, (into) => {
        writeText(into, entry.key, key);
        writeText(into, entry.value, value);
      });
    }
    writer.tag(fields.graph, WireType.LengthDelimited).uint32(lengthOf(graph));
  });
  const pieces = [head, ...graph];
  if (lengthOf(pieces) > MAX_FILE_BYTES) {
    throw new RangeError(`a model of ${lengthOf(pieces)} bytes: protobuf ends at ${MAX_FILE_BYTES}`);
  }
  return pieces;
}

/**
 * The constants of a model that was written here, by name; their bytes are views of the file's.
 *
 * @throws FormatError where it is not one of ours.
 */
export function readInitializers(file: Uint8Array, where: string): Map<string, OnnxTensor> {
  const walker = new ProtobufWalker(
    file,
    (what, at) => new FormatError(where, at, `no ONNX model of ours: ${what}`),
  );
  const { model, graph, tensor } = onnxFields;
  const found = new Map<string, OnnxTensor>();
  const others = (message: Readonly<Record<string, number>>): Fields =>
    Object.fromEntries(Object.values(message).map((field) => [field, () => walker.skip("a field")]));
  const readTensor = (): void => {
    let name = "";
    let dtype: OnnxTensor["dtype"] | undefined;
    let bytes: Uint8Array = new Uint8Array(0);
    const shape: number[] = [];
    walker.message(
      "a constant",
      {
        [tensor.dimension]: () => shape.push(walker.count("an axis")),
        [tensor.dataType]: () => (dtype = dtypeOf(walker.count("a data type"))),
        [tensor.name]: () => (name = walker.text("a name")),
        [tensor.raw]: () => (bytes = walker.bytesOf("elements")),
      },
      [tensor.dimension],
    );
    if (dtype === undefined) return walker.fail("a constant of another type");
    if (found.has(name)) walker.fail(`the constant ${JSON.stringify(name)} comes twice`);
    found.set(name, { dtype, shape, bytes });
  };
  walker.whole(
    "the model",
    {
      ...others(model),
      [model.graph]: () =>
        walker.message(
          "the graph",
          { ...others(graph), [graph.initializer]: readTensor },
          Object.values(graph),
        ),
    },
    [model.opsetImport, model.metadata],
  );
  return found;
}

export function floatTensor(shape: readonly number[], data: Float32Array): OnnxTensor {
  return { dtype: "F32", shape, bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
}

/** A list of whole numbers. */
export function integerTensor(values: readonly number[]): OnnxTensor {
  const bytes = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
  return { dtype: "I64", shape: [values.length], bytes };
}

function dtypeOf(code: number): OnnxTensor["dtype"] | undefined {
  return (["F32", "I64"] as const).find((dtype) => dataTypes[dtype].code === code);
}

function graphPieces(graph: OnnxGraph): Uint8Array[] {
  const fields = onnxFields.graph;
  const pieces: Uint8Array[] = [];
  pieces.push(
    message((writer) => {
      for (const node of graph.nodes) writeMessage(writer, fields.node, (into) => writeNode(into, node));
      writeText(writer, fields.name, graph.name);
    }),
  );
  for (const [name, tensor] of graph.initializers) {
    const [head, data] = tensorPieces(name, tensor);
    const length = head.length + data.length;
    pieces.push(
      message((writer) => writer.tag(fields.initializer, WireType.LengthDelimited).uint32(length)),
      head,
      data,
    );
  }
  pieces.push(
    message((writer) => {
      for (const value of graph.inputs) writeMessage(writer, fields.input, (into) => writeValue(into, value));
      for (const value of graph.outputs)
        writeMessage(writer, fields.output, (into) => writeValue(into, value));
    }),
  );
  return pieces;
}

function writeNode(writer: BinaryWriter, node: OnnxNode): void {
  const fields = onnxFields.node;
  for (const name of node.inputs) writeText(writer, fields.input, name);
  for (const name of node.outputs) writeText(writer, fields.output, name);
  writeText(writer, fields.name, node.name);
  writeText(writer, fields.operator, node.operator);
  for (const [name, attribute] of node.attributes) {
    writeMessage(writer, fields.attribute, (into) => writeAttribute(into, name, attribute));
  }
}

function writeAttribute(writer: BinaryWriter, name: string, { kind, value }: OnnxAttribute): void {
  const fields = onnxFields.attribute;
  writeText(writer, fields.name, name);
  if (kind === "float") writer.tag(fields.float, WireType.Bit32).float(value);
  else if (kind === "int") writer.tag(fields.int, WireType.Varint).int64(value);
  else for (const one of value) writer.tag(fields.ints, WireType.Varint).int64(one);
  writer.tag(fields.type, WireType.Varint).int32(attributeTypes[kind]);
}

/** All but the elements, and the elements. */
function tensorPieces(
  name: string,
  { dtype, shape, bytes }: OnnxTensor,
): [head: Uint8Array, data: Uint8Array] {
  const fields = onnxFields.tensor;
  if (shape.reduce((product, length) => product * length, dataTypes[dtype].bytes) !== bytes.length) {
    throw new RangeError(`tensor ${name}: shape [${shape.join(", ")}] ${dtype} is not ${bytes.length} bytes`);
  }
  const head = message((writer) => {
    for (const length of shape) writer.tag(fields.dimension, WireType.Varint).int64(length);
    writer.tag(fields.dataType, WireType.Varint).int32(dataTypes[dtype].code);
    writeText(writer, fields.name, name);
    writer.tag(fields.raw, WireType.LengthDelimited).uint32(bytes.length);
  });
  return [head, bytes];
}

function writeValue(writer: BinaryWriter, { name, shape }: OnnxValue): void {
  const fields = onnxFields;
  writeText(writer, fields.value.name, name);
  writeMessage(writer, fields.value.type, (type) => {
    writeMessage(type, fields.type.tensor, (tensor) => {
      tensor.tag(fields.tensorType.element, WireType.Varint).int32(dataTypes.F32.code);
      writeMessage(tensor, fields.tensorType.shape, (into) => {
        for (const axis of shape) {
          writeMessage(into, fields.shape.dimension, (dimension) => {
            if (typeof axis === "string") writeText(dimension, fields.dimension.name, axis);
            else dimension.tag(fields.dimension.value, WireType.Varint).int64(axis);
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
