/** depthwise 3x3, norm -> one step. */

import { check } from "../program-error.js";
import { encodeWindow, inputSize, outputSize, printWindow, verifyWindow, windowGeometry } from "../window.js";
import type { DepthwiseStep } from "../program.js";
import { outputPixels, planesShape, unplaced, type Kind } from "./kind.js";

export const depthwise: Kind<DepthwiseStep> = {
  place: "between",
  code: 2,

  bind(scope) {
    const convolution = scope.take("depthwise");
    if (convolution === undefined) return undefined;
    const norm = scope.expect("batchNorm", convolution.name);
    const input = scope.read(convolution.input, convolution.name);
    const geometry = windowGeometry(input.size, convolution.stride, convolution.padding);
    const count = input.planes.length;
    return {
      kind: "depthwise",
      name: convolution.name,
      inputs: input.planes,
      first: scope.addPlanes(norm.name, count, geometry.outputHeight, norm.relu),
      count,
      ...unplaced,
      geometry,
    };
  },

  tensors: ({ count }) => [{ name: "weight", role: "depthwise", shape: [count, 1, 3, 3] }],
  outputShape: planesShape,
  uses: outputPixels,
  pictureBytes: () => 0,
  print: ({ geometry }, { inputs, outputs, weights }) =>
    `${inputs} -> ${outputs}, ${printWindow(geometry)}, ${weights}`,

  verify({ name, inputs, count, geometry }, sizes) {
    check(inputs.length === count, `"${name}" reads ${inputs.length} planes and writes ${count}`);
    verifyWindow(name, geometry);
    sizes.expectAll(sizes.inputs, inputSize(geometry), "input");
    sizes.expectAll(sizes.outputs, outputSize(geometry), "output");
  },

  encode: ({ geometry }) => encodeWindow(geometry),
};
