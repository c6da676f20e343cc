/**
 * A program as one flat array of numbers, the form the engine reads (native/runtime/program.cc, in the same order).
 */

import { kindOf } from "../../program/kinds/kinds.js";
import { keepsStatistics, type Program, type Step, type Storage } from "../../program/program.js";
import type { Cut } from "../backend.js";

/** Changes whenever the order below does; the engine refuses any other. */
const FORMAT = 7;

const STORAGE: { readonly [S in Storage]: number } = { f32: 0, bf16: 1 };

/** What no step's cut says, the engine chooses. */
const AS_USUAL: Cut = { blockColumns: 0, rowParts: 0, runs: 0 };

/** @param cuts of every step; the engine's own choice where there are none. */
export function encodeProgram(program: Program, cuts: readonly Cut[] = []): Float64Array {
  const words: number[] = [
    FORMAT,
    Number(program.mode === "train"),
    program.batch,
    program.imageSize,
    program.classes,
    program.parameterCount,
    program.trainedCount,
    program.planes.length,
    program.batchNorm.epsilon,
    program.batchNorm.momentum,
    Number(keepsStatistics(program)),
    program.memory.size,
  ];
  program.planes.forEach((plane, id) => {
    const value = program.memory.value[id] ?? -1;
    const gradient = program.memory.gradient[id] ?? -1;
    words.push(plane.height, plane.width, STORAGE[plane.storage], Number(plane.relu), value, gradient);
    words.push(plane.gamma, plane.beta);
  });
  const segments = updateSegments(program);
  words.push(segments.length);
  for (const segment of segments) words.push(segment.end, Number(segment.decay), segment.rate);
  words.push(program.steps.length);
  program.steps.forEach((step, i) => words.push(...encodeStep(step, cuts[i] ?? AS_USUAL)));
  words.push(program.buckets.length);
  for (const bucket of program.buckets) words.push(bucket.end, bucket.afterStep);
  return Float64Array.from(words);
}

function encodeStep(step: Step, { blockColumns, rowParts, runs }: Cut): number[] {
  const kind = kindOf(step);
  const words = [kind.code, step.inputs.length];
  step.inputs.forEach((plane, i) => words.push(plane, Number(step.accumulates[i] ?? false)));
  words.push(step.first, step.count, step.weights, step.bias, Number(step.trains), ...kind.encode(step));
  words.push(blockColumns, rowParts, runs);
  return words;
}

interface Segment {
  end: number;
  readonly decay: boolean;
  readonly rate: number;
}

/** What trains of the parameter array, as runs that the update treats alike; gaps do not decay. */
function updateSegments(program: Program): Segment[] {
  const segments: Segment[] = [];
  const extend = (end: number, decay: boolean, rate: number) => {
    const last = segments.at(-1);
    if (end <= (last?.end ?? 0)) return;
    if (last?.decay === decay && last.rate === rate) last.end = end;
    else segments.push({ end, decay, rate });
  };
  for (const parameter of [...program.parameters].sort((a, b) => a.offset - b.offset)) {
    if (parameter.offset >= program.trainedCount) break;
    extend(parameter.offset, false, 1);
    extend(parameter.offset + parameter.size, parameter.decay, parameter.rate);
  }
  extend(program.trainedCount, false, 1);
  return segments;
}
