/** Finds the constants in an ONNX model that was written here (onnx.ts), so that an export can be held against its file. */

import { FormatError } from "../core/error.js";
import { dataTypes, onnxFields, type OnnxTensor } from "./onnx.js";
import { type Fields, ProtobufWalker } from "./protobuf.js";

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

function dtypeOf(code: number): OnnxTensor["dtype"] | undefined {
  return (["F32", "I64"] as const).find((dtype) => dataTypes[dtype].code === code);
}
