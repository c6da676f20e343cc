import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { DataError, ShapeError } from "../../src/core/error.js";
import { runOnnx, type RunValue } from "./onnx-run.js";
import { floatTensor, integerTensor, type OnnxAttribute, type OnnxTensor } from "../../src/formats/onnx.js";

interface OneNode {
  readonly operator: string;
  readonly x: RunValue;
  readonly constants?: readonly OnnxTensor[];
  readonly attributes?: Readonly<Record<string, OnnxAttribute>>;
  readonly outputs?: number;
  readonly opset?: number;
}

/** The outputs of a graph of one node, whose first input is x and whose others are constants. */
function run({ operator, x, constants = [], attributes = {}, outputs = 1, opset = 17 }: OneNode): RunValue[] {
  const names = Array.from({ length: outputs }, (_, i) => `y${i}`);
  const initializers = new Map(constants.map((tensor, i) => [`c${i}`, tensor]));
  const node = {
    name: "the node",
    operator,
    inputs: ["x", ...initializers.keys()],
    outputs: names,
    attributes: new Map(Object.entries(attributes)),
  };
  const results = runOnnx(
    {
      irVersion: 8,
      opset,
      producer: { name: "", version: "" },
      metadata: new Map(),
      graph: {
        name: "g",
        nodes: [node],
        initializers,
        inputs: [{ name: "x", shape: x.shape.map((axis, i) => (i === 0 ? "N" : axis)) }],
        outputs: names.map((name) => ({ name, shape: [] })),
      },
    },
    new Map([["x", x]]),
  );
  return [...results.values()];
}

const value = (shape: readonly number[], ...data: number[]): RunValue => ({
  shape,
  data: Float64Array.from(data),
});
const floats = (shape: readonly number[], ...data: number[]): OnnxTensor =>
  floatTensor(shape, Float32Array.from(data));
const ints = (...list: number[]): OnnxAttribute => ({ kind: "ints", value: list });
const int = (number: number): OnnxAttribute => ({ kind: "int", value: number });
const countUp = (shape: readonly number[]): RunValue =>
  value(shape, ...Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i));

suite("an operator computes what its definition says:", () => {
  const window = { kernel_shape: ints(3, 3), strides: ints(2, 2) };
  // Column by column: the operator, and its result worked out by hand.
  const cases: readonly (readonly [string, OneNode, readonly RunValue[]])[] = [
    [
      "Conv pads with zeros after the last pixel",
      {
        operator: "Conv",
        x: countUp([1, 1, 2, 2]),
        constants: [floats([1, 1, 3, 3], 1, 10, 100, 1000, 10000, 0, 0, 0, 0), floats([1], 0.5)],
        attributes: { ...window, pads: ints(0, 0, 1, 1) },
      },
      // Rows 0 1 and 2 3: 0*1 + 1*10 + 2*1000 + 3*10000.
      [value([1, 1, 1, 1], 32010.5)],
    ],
    [
      "Conv in groups keeps channels apart",
      {
        operator: "Conv",
        x: value([1, 2, 1, 2], 1, 2, 3, 4),
        constants: [floats([2, 1, 1, 1], 10, 100)],
        attributes: { kernel_shape: ints(1, 1), group: int(2) },
      },
      [value([1, 2, 1, 2], 10, 20, 300, 400)],
    ],
    [
      "MaxPool never takes the padding",
      {
        operator: "MaxPool",
        x: value([1, 1, 2, 2], -5, -6, -7, -8),
        attributes: { ...window, pads: ints(1, 1, 1, 1) },
      },
      [value([1, 1, 1, 1], -5)],
    ],
    [
      "BatchNormalization divides by the deviation",
      {
        operator: "BatchNormalization",
        x: value([1, 2, 1, 1], 5, 6),
        constants: [floats([2], 2, 1), floats([2], 1, 0), floats([2], 3, 0), floats([2], 3, 8)],
        attributes: { epsilon: { kind: "float", value: 1 } },
      },
      [value([1, 2, 1, 1], 3, 2)],
    ],
    ["Relu", { operator: "Relu", x: value([3], -1, 0, 2) }, [value([3], 0, 0, 2)]],
    [
      "GlobalAveragePool",
      { operator: "GlobalAveragePool", x: countUp([1, 2, 1, 2]) },
      [value([1, 2, 1, 1], 0.5, 2.5)],
    ],
    [
      "Flatten",
      { operator: "Flatten", x: countUp([1, 2, 1, 1]), attributes: { axis: int(1) } },
      [value([1, 2], 0, 1)],
    ],
    [
      "Gemm",
      {
        operator: "Gemm",
        x: value([1, 2], 1, 2),
        constants: [floats([3, 2], 1, 0, 0, 1, 1, 1), floats([3], 0, 0, 10)],
        attributes: { transB: int(1) },
      },
      [value([1, 3], 1, 2, 13)],
    ],
    [
      "Reshape keeps an axis where it is told 0",
      { operator: "Reshape", x: countUp([2, 2]), constants: [integerTensor([0, 1, 2])] },
      [value([2, 1, 2], 0, 1, 2, 3)],
    ],
    [
      "Transpose",
      { operator: "Transpose", x: countUp([1, 2, 3]), attributes: { perm: ints(0, 2, 1) } },
      [value([1, 3, 2], 0, 3, 1, 4, 2, 5)],
    ],
    [
      "Split gives each image its own parts",
      {
        operator: "Split",
        x: countUp([2, 3, 1]),
        constants: [integerTensor([1, 2])],
        attributes: { axis: int(1) },
        outputs: 2,
      },
      [value([2, 1, 1], 0, 3), value([2, 2, 1], 1, 2, 4, 5)],
    ],
    [
      "Concat",
      {
        operator: "Concat",
        x: value([1, 1, 1], 1),
        constants: [floats([1, 2, 1], 2, 3)],
        attributes: { axis: int(1) },
      },
      [value([1, 3, 1], 1, 2, 3)],
    ],
    [
      "Gather",
      {
        operator: "Gather",
        x: countUp([2, 3]),
        constants: [integerTensor([2, 0])],
        attributes: { axis: int(1) },
      },
      [value([2, 2], 2, 0, 5, 3)],
    ],
    [
      "Mul by a number a channel",
      { operator: "Mul", x: countUp([1, 2, 1, 2]), constants: [floats([1, 2, 1, 1], 1, 10)] },
      [value([1, 2, 1, 2], 0, 1, 20, 30)],
    ],
    [
      "Add a number a channel",
      { operator: "Add", x: countUp([1, 2, 1, 2]), constants: [floats([1, 2, 1, 1], 1, 10)] },
      [value([1, 2, 1, 2], 1, 2, 12, 13)],
    ],
  ];
  for (const [what, node, expected] of cases) test(what, () => assert.deepEqual(run(node), expected));
});

suite("refused is", () => {
  const x = countUp([1, 1, 4, 4]);
  const refused: readonly (readonly [string, OneNode, RegExp])[] = [
    ["an operator that is not run here", { operator: "Softmax", x }, /"Softmax" is not run here/],
    ["a name that every object has", { operator: "constructor", x }, /not run here/],
    [
      "an attribute that is not obeyed",
      { operator: "Relu", x, attributes: { alpha: int(1) } },
      /an attribute alpha/,
    ],
    ["another opset", { operator: "Relu", x, opset: 18 }, /opset 13 to 17, found 18/],
    [
      "a window larger than the image",
      { operator: "MaxPool", x, attributes: { kernel_shape: ints(9, 9) } },
      /9 x 9 does not fit 4 x 4/,
    ],
    [
      "padding as wide as the window",
      { operator: "MaxPool", x, attributes: { kernel_shape: ints(3, 3), pads: ints(0, 0, 2 ** 40, 0) } },
      /does not fit/,
    ],
    [
      "a shape of other elements",
      { operator: "Reshape", x, constants: [integerTensor([1, 17])] },
      /cannot make \[1, 17\]/,
    ],
    ["another axis", { operator: "Concat", x, attributes: { axis: int(2) } }, /axis 2 of 4; axis 1 is run/],
  ];
  for (const [what, node, words] of refused) {
    test(what, () => {
      assert.throws(
        () => run(node),
        (error: unknown) => error instanceof DataError && words.test(error.message),
      );
    });
  }

  test("an input of another shape", () => {
    const wrong = { shape: [1, 2], data: new Float64Array(3) };
    assert.throws(() => run({ operator: "Relu", x: wrong }), ShapeError);
  });
});
