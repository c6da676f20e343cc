/**
 * A program as one flat array of numbers, the form the engine reads (native/runtime/program.cc, in the same order).
 */

import type { Program, Step, WindowGeometry } from "../../program/program.js";

/** Changes whenever the order below does; the engine refuses any other. */
const FORMAT = 1;

const KIND = { stem: 0, pointwise: 1, depthwise: 2, head: 3 } as const satisfies Record<Step["kind"], number>;

export function encodeProgram(program: Program): Float64Array {
  const words: number[] = [
    FORMAT,
    Number(program.mode === "train"),
    program.batch,
    program.imageSize,
    program.classes,
    program.parameterCount,
    program.planes.length,
    program.gamma,
    program.beta,
    program.batchNorm.epsilon,
    program.batchNorm.momentum,
    program.memory.size,
  ];
  program.planes.forEach((plane, id) => {
    const value = program.memory.value[id] ?? -1;
    const gradient = program.memory.gradient[id] ?? -1;
    words.push(plane.height, plane.width, Number(plane.relu), value, gradient);
  });
  const segments = decaySegments(program);
  words.push(segments.length);
  for (const segment of segments) words.push(segment.end, Number(segment.decay));
  words.push(program.steps.length);
  for (const step of program.steps) words.push(...encodeStep(step));
  return Float64Array.from(words);
}

function encodeStep(step: Step): number[] {
  const inputs = step.kind === "stem" ? [] : step.inputs;
  const accumulates = step.kind === "pointwise" || step.kind === "depthwise" ? step.accumulates : [];
  const outputs = step.kind === "depthwise" ? inputs.length : step.kind === "head" ? 0 : step.count;
  const words = [KIND[step.kind], inputs.length];
  inputs.forEach((plane, i) => words.push(plane, Number(accumulates[i] ?? false)));
  words.push(step.kind === "head" ? 0 : step.first, outputs, step.weights);
  words.push(step.kind === "head" ? step.bias : -1);
  if (step.kind === "stem") {
    words.push(...encodeWindow(step.convolution), ...encodeWindow(step.pooling));
    words.push(...step.channelOrder, ...step.inputScale, ...step.inputShift);
  }
  if (step.kind === "depthwise") words.push(...encodeWindow(step.geometry));
  return words;
}

function encodeWindow(w: WindowGeometry): number[] {
  return [w.inputHeight, w.inputWidth, w.outputHeight, w.outputWidth, w.stride, w.padTop, w.padLeft];
}

/** The parameter array as runs of equal treatment by weight decay; gaps do not decay. */
function decaySegments(program: Program): { end: number; decay: boolean }[] {
  const segments: { end: number; decay: boolean }[] = [];
  const extend = (end: number, decay: boolean) => {
    const last = segments.at(-1);
    if (end <= (last?.end ?? 0)) return;
    if (last?.decay === decay) last.end = end;
    else segments.push({ end, decay });
  };
  for (const parameter of [...program.parameters].sort((a, b) => a.offset - b.offset)) {
    extend(parameter.offset, false);
    extend(parameter.offset + parameter.size, parameter.decay);
  }
  extend(program.parameterCount, false);
  return segments;
}
