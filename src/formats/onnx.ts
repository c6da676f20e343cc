/**
 * Writes `.onnx`: one graph of operators with its constants, as protobuf. onnx-constants.ts finds the constants again in what was
 * written, so that an export can be held against its file.
 *
 * Lengths are in bytes, shapes in elements; numbers of tensors lie row-major and little-endian.
 *
 * Source: github.com/onnx/onnx @ v1.12.0, onnx/onnx.proto (field numbers) and docs/IR.md (rules of names).
 */

import { ProtobufWriter } from "./protobuf-writer.js";

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
export const onnxFields = {
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
export const dataTypes = { F32: { code: 1, bytes: 4 }, I64: { code: 7, bytes: 8 } } as const;

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
    writer.integer(fields.irVersion, model.irVersion);
    writer.text(fields.producerName, model.producer.name);
    writer.text(fields.producerVersion, model.producer.version);
    writer.message(fields.opsetImport, (into) => into.integer(opset.version, model.opset));
    for (const [key, value] of model.metadata) {
      writer.message(fields.metadata, (into) => {
        into.text(entry.key, key);
        into.text(entry.value, value);
      });
    }
    writer.length(fields.graph, lengthOf(graph));
  });
  const pieces = [head, ...graph];
  if (lengthOf(pieces) > MAX_FILE_BYTES) {
    throw new RangeError(`a model of ${lengthOf(pieces)} bytes: protobuf ends at ${MAX_FILE_BYTES}`);
  }
  return pieces;
}

export function floatTensor(shape: readonly number[], data: Float32Array): OnnxTensor {
  return { dtype: "F32", shape, bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
}

/** A list of whole numbers. */
export function integerTensor(values: readonly number[]): OnnxTensor {
  const bytes = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
  return { dtype: "I64", shape: [values.length], bytes };
}

function graphPieces(graph: OnnxGraph): Uint8Array[] {
  const fields = onnxFields.graph;
  const pieces: Uint8Array[] = [];
  pieces.push(
    message((writer) => {
      for (const node of graph.nodes) writer.message(fields.node, (into) => writeNode(into, node));
      writer.text(fields.name, graph.name);
    }),
  );
  for (const [name, tensor] of graph.initializers) {
    const [head, data] = tensorPieces(name, tensor);
    const length = head.length + data.length;
    pieces.push(
      message((writer) => writer.length(fields.initializer, length)),
      head,
      data,
    );
  }
  pieces.push(
    message((writer) => {
      for (const value of graph.inputs) writer.message(fields.input, (into) => writeValue(into, value));
      for (const value of graph.outputs) writer.message(fields.output, (into) => writeValue(into, value));
    }),
  );
  return pieces;
}

function writeNode(writer: ProtobufWriter, node: OnnxNode): void {
  const fields = onnxFields.node;
  for (const name of node.inputs) writer.text(fields.input, name);
  for (const name of node.outputs) writer.text(fields.output, name);
  writer.text(fields.name, node.name);
  writer.text(fields.operator, node.operator);
  for (const [name, attribute] of node.attributes) {
    writer.message(fields.attribute, (into) => writeAttribute(into, name, attribute));
  }
}

function writeAttribute(writer: ProtobufWriter, name: string, { kind, value }: OnnxAttribute): void {
  const fields = onnxFields.attribute;
  writer.text(fields.name, name);
  if (kind === "float") writer.float(fields.float, value);
  else if (kind === "int") writer.integer(fields.int, value);
  else for (const one of value) writer.integer(fields.ints, one);
  writer.integer(fields.type, attributeTypes[kind]);
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
    for (const length of shape) writer.integer(fields.dimension, length);
    writer.integer(fields.dataType, dataTypes[dtype].code);
    writer.text(fields.name, name);
    writer.length(fields.raw, bytes.length);
  });
  return [head, bytes];
}

function writeValue(writer: ProtobufWriter, { name, shape }: OnnxValue): void {
  const fields = onnxFields;
  writer.text(fields.value.name, name);
  writer.message(fields.value.type, (type) => {
    type.message(fields.type.tensor, (tensor) => {
      tensor.integer(fields.tensorType.element, dataTypes.F32.code);
      tensor.message(fields.tensorType.shape, (into) => {
        for (const axis of shape) {
          into.message(fields.shape.dimension, (dimension) => {
            if (typeof axis === "string") dimension.text(fields.dimension.name, axis);
            else dimension.integer(fields.dimension.value, axis);
          });
        }
      });
    });
  });
}

function message(write: (writer: ProtobufWriter) => void): Uint8Array {
  const writer = new ProtobufWriter();
  write(writer);
  return writer.finish();
}

function lengthOf(pieces: readonly Uint8Array[]): number {
  return pieces.reduce((sum, piece) => sum + piece.length, 0);
}
