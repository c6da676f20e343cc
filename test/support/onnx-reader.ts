/**
 * Reads the ONNX models that exports write, so that tests can look at their graphs and run them. The numbers of the fields
 * stand here once more, as onnx.proto has them, and not as the writer has them.
 *
 * Source: github.com/onnx/onnx @ v1.12.0, onnx/onnx.proto.
 */

import { readFileSync } from "node:fs";

import { WireType } from "@bufbuild/protobuf/wire";

import { DataError } from "../../src/core/error.js";
import type { OnnxAttribute, OnnxModel, OnnxNode, OnnxTensor, OnnxValue } from "../../src/formats/onnx.js";
import { ProtobufWalker } from "../../src/formats/protobuf.js";

export function readOnnx(path: string): OnnxModel {
  return decodeOnnx(readFileSync(path), path);
}

/** @throws DataError where anything stands in it that an export does not write. */
export function decodeOnnx(bytes: Uint8Array, where: string): OnnxModel {
  const walker = new ProtobufWalker(
    bytes,
    (what, at) => new DataError({ where, what: `no exported ONNX model, at byte ${at}: ${what}` }),
  );
  return new ModelReader(walker).read();
}

export function floatsOf({ dtype, bytes }: OnnxTensor): Float32Array {
  if (dtype !== "F32") throw new RangeError(`a tensor of ${dtype} where F32 is expected`);
  return new Float32Array(new Uint8Array(bytes).buffer);
}

export function integersOf({ dtype, bytes }: OnnxTensor): number[] {
  if (dtype !== "I64") throw new RangeError(`a tensor of ${dtype} where I64 is expected`);
  return Array.from(new BigInt64Array(new Uint8Array(bytes).buffer), Number);
}

class ModelReader {
  constructor(private readonly walker: ProtobufWalker) {}

  read(): OnnxModel {
    const { walker } = this;
    const model = { irVersion: 0, opset: 0, producer: { name: "", version: "" } };
    const metadata = new Map<string, string>();
    let graph: OnnxModel["graph"] | undefined;
    walker.whole(
      "the model",
      {
        1: () => (model.irVersion = walker.count("a version")),
        2: () => (model.producer.name = walker.text("a name")),
        3: () => (model.producer.version = walker.text("a version")),
        7: () => (graph = this.#graph()),
        8: () => walker.message("operators", { 2: () => (model.opset = walker.count("a version")) }),
        14: () => {
          let [key, value] = ["", ""];
          walker.message("metadata", {
            1: () => (key = walker.text("a key")),
            2: () => (value = walker.text("a value")),
          });
          metadata.set(key, value);
        },
      },
      [14],
    );
    if (graph === undefined) return walker.fail("no graph");
    this.#checkNames(graph);
    return { ...model, metadata, graph };
  }

  #graph(): OnnxModel["graph"] {
    let name = "";
    const nodes: OnnxNode[] = [];
    const initializers = new Map<string, OnnxTensor>();
    const inputs: OnnxValue[] = [];
    const outputs: OnnxValue[] = [];
    this.walker.message(
      "the graph",
      {
        1: () => nodes.push(this.#node()),
        2: () => (name = this.walker.text("a name")),
        5: () => initializers.set(...this.#tensor()),
        11: () => inputs.push(this.#value()),
        12: () => outputs.push(this.#value()),
      },
      [1, 5, 11, 12],
    );
    return { name, nodes, initializers, inputs, outputs };
  }

  /** docs/IR.md: every name is defined once, and before it is used. */
  #checkNames({ nodes, initializers, inputs, outputs }: OnnxModel["graph"]): void {
    const defined = new Set([...inputs.map(({ name }) => name), ...initializers.keys()]);
    const use = (name: string): void => {
      if (!defined.has(name)) this.walker.fail(`"${name}" is used before anything defines it`);
    };
    for (const node of nodes) {
      node.inputs.forEach(use);
      for (const name of node.outputs) {
        if (defined.has(name)) this.walker.fail(`"${name}" is defined twice`);
        defined.add(name);
      }
    }
    for (const { name } of outputs) use(name);
  }

  #node(): OnnxNode {
    const { walker } = this;
    let [name, operator] = ["", ""];
    const [inputs, outputs]: [string[], string[]] = [[], []];
    const attributes = new Map<string, OnnxAttribute>();
    walker.message(
      "a node",
      {
        1: () => inputs.push(walker.text("an input")),
        2: () => outputs.push(walker.text("an output")),
        3: () => (name = walker.text("a name")),
        4: () => (operator = walker.text("an operator")),
        5: () => attributes.set(...this.#attribute()),
      },
      [1, 2, 5],
    );
    return { name, operator, inputs, outputs, attributes };
  }

  #attribute(): [string, OnnxAttribute] {
    const { walker } = this;
    let [name, type, float, int] = ["", 0, 0, 0];
    const ints: number[] = [];
    walker.message(
      "an attribute",
      {
        1: () => (name = walker.text("a name")),
        2: () => (float = walker.float("a float")),
        3: () => (int = walker.integer("an int")),
        8: () => walker.packed("ints", WireType.Varint, () => ints.push(walker.integer("an int"))),
        20: () => (type = walker.count("a type")),
      },
      [8],
    );
    if (type === 1) return [name, { kind: "float", value: float }];
    if (type === 2) return [name, { kind: "int", value: int }];
    if (type === 7) return [name, { kind: "ints", value: ints }];
    return walker.fail(`an attribute of type ${type}`);
  }

  #tensor(): [string, OnnxTensor] {
    const { walker } = this;
    let [name, type] = ["", 0];
    let bytes: Uint8Array = new Uint8Array(0);
    const shape: number[] = [];
    walker.message(
      "a tensor",
      {
        1: () => walker.packed("axes", WireType.Varint, () => shape.push(walker.count("an axis"))),
        2: () => (type = walker.count("a type")),
        8: () => (name = walker.text("a name")),
        9: () => (bytes = walker.bytesOf("elements")),
      },
      [1],
    );
    const dtype = ({ 1: "F32", 7: "I64" } as const)[type];
    if (dtype === undefined) return walker.fail(`a tensor of type ${type}`);
    if (shape.reduce((product, length) => product * length, dtype === "F32" ? 4 : 8) !== bytes.length) {
      walker.fail(`a tensor [${shape.join(", ")}] of ${bytes.length} bytes`);
    }
    return [name, { dtype, shape, bytes }];
  }

  #value(): OnnxValue {
    const { walker } = this;
    let name = "";
    const shape: (number | string)[] = [];
    const axis = (): void =>
      walker.message("an axis", {
        1: () => shape.push(walker.count("a length")),
        2: () => shape.push(walker.text("a name")),
      });
    walker.message("a value", {
      1: () => (name = walker.text("a name")),
      2: () =>
        walker.message("a type", {
          1: () =>
            walker.message("a tensor's type", {
              1: () => walker.integer("a type") === 1 || walker.fail("a value that is not of f32"),
              2: () => walker.message("a shape", { 1: axis }, [1]),
            }),
        }),
    });
    return { name, shape };
  }
}
