/** conv 1x1, norm -> one step. */

import { ShapeError } from "../../core/error.js";
import { check } from "../program-error.js";
import type { PointwiseStep } from "../program.js";
import { outputPixels, planesShape, unplaced, type Kind } from "./kind.js";

export const pointwise: Kind<PointwiseStep> = {
  place: "between",
  code: 1,

  bind(scope) {
    const convolution = scope.take("convolution", ({ kernel }) => kernel === 1);
    if (convolution === undefined) return undefined;
    const norm = scope.expect("batchNorm", convolution.name);
    const input = scope.read(convolution.input, convolution.name);
    if (convolution.stride !== 1)
      throw new ShapeError(`"${convolution.name}": a 1x1 convolution has stride 1`);
    return {
      kind: "pointwise",
      name: convolution.name,
      inputs: input.planes,
      first: scope.addPlanes(norm.name, convolution.channels, input.size, norm.relu),
      count: convolution.channels,
      ...unplaced,
    };
  },

  tensors: ({ count, inputs }) => [
    { name: "weight", role: "convolution", shape: [count, inputs.length, 1, 1] },
  ],
  outputShape: planesShape,
  uses: outputPixels,
  pictureBytes: () => 0,
  print: (_, { inputs, outputs, weights }) => `${inputs} -> ${outputs}, ${weights}`,

  verify({ name }, sizes) {
    const [size] = sizes.inputs;
    check(size !== undefined, `"${name}" has no inputs`);
    sizes.expectAll([...sizes.inputs, ...sizes.outputs], size, "input or output");
  },

  encode: () => [],
};
