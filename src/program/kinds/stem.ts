/** conv 3x3 of the picture, norm + relu, max pool -> one step. */

import { ShapeError } from "../../core/error.js";
import { IMAGE } from "../../models/layers.js";
import { check } from "../program-error.js";
import { encodeWindow, inputSize, outputSize, printWindow, verifyWindow, windowGeometry } from "../window.js";
import type { StemStep } from "../program.js";
import { planesShape, unplaced, type Kind } from "./kind.js";

export const stem: Kind<StemStep> = {
  place: "first",
  code: 0,

  bind(scope) {
    const convolution = scope.take("convolution", ({ kernel }) => kernel === 3);
    if (convolution === undefined) return undefined;
    const norm = scope.expect("batchNorm", convolution.name);
    const pool = scope.expect("maxPool", norm.name);
    if (convolution.input !== IMAGE || !norm.relu || convolution.stride !== 2) {
      throw new ShapeError(
        `"${convolution.name}": a 3x3 convolution must read the image at stride 2, with ReLU`,
      );
    }
    const window = windowGeometry(scope.imageSize, 2, convolution.padding);
    const pooling = windowGeometry(window.outputHeight, 2, pool.padding);
    const { channelOrder, scale, shift } = scope.network.input;
    return {
      kind: "stem",
      name: convolution.name,
      inputs: [],
      first: scope.addPlanes(pool.name, convolution.channels, pooling.outputHeight, true),
      count: convolution.channels,
      ...unplaced,
      convolution: window,
      pooling,
      channelOrder,
      inputScale: scale,
      inputShift: shift,
    };
  },

  tensors: ({ count }) => [{ name: "weight", role: "convolution", shape: [count, 3, 3, 3] }],
  outputShape: planesShape,

  /** At every pixel before pooling. */
  uses: ({ convolution }) => convolution.outputHeight * convolution.outputWidth,
  pictureBytes: ({ convolution }) => convolution.inputHeight * convolution.inputWidth * 3,

  print: ({ convolution, pooling, channelOrder }, { outputs, weights }) =>
    `image -> ${outputs}, convolution ${printWindow(convolution)}, ` +
    `pooling ${printWindow(pooling)}, channels ${channelOrder.join("")}, ${weights}`,

  verify({ name, convolution, pooling }, sizes, { imageSize }) {
    verifyWindow(name, convolution);
    verifyWindow(name, pooling);
    check(
      inputSize(convolution) === `${imageSize}x${imageSize}`,
      `"${name}" reads another size than the image's ${imageSize}`,
    );
    check(inputSize(pooling) === outputSize(convolution), `"${name}" pools another size than it convolves`);
    sizes.expectAll(sizes.outputs, outputSize(pooling), "output");
  },

  encode: ({ convolution, pooling, channelOrder, inputScale, inputShift }) => [
    ...encodeWindow(convolution),
    ...encodeWindow(pooling),
    ...channelOrder,
    ...inputScale,
    ...inputShift,
  ],
};
