/**
 * A program for people: one line a step as text, and rows of numbers for tables.
 *
 * The text is what reviewers compare when the compiler changes; it leaves out nothing but memory offsets,
 * which verify.ts checks instead.
 */

import { inputsOf, outputsOf } from "./plan-memory.js";
import type { Plane, PlaneId, Program, Step, WindowGeometry } from "./program.js";

/** What one step is and costs. */
export interface StepRow {
  readonly name: string;
  readonly kind: Step["kind"];
  /** [channels, height, width], or [classes]. */
  readonly outputShape: readonly number[];
  /** Trained numbers, gamma and beta among them. */
  readonly parameters: number;
  /** Of one image, forward. */
  readonly multiplyAdds: number;
  /**
   * Memory traffic of one step of the program (all images, training both ways), in bytes: each plane and
   * weight counted once per pass that reads or writes it.
   */
  readonly bytes: number;
}

export interface Totals {
  readonly parameters: number;
  readonly multiplyAdds: number;
  readonly bytes: number;
  /** Bytes of the arena that holds all planes. */
  readonly arenaBytes: number;
}

export function describe(program: Program): StepRow[] {
  return program.steps.map((step) => ({
    name: step.name,
    kind: step.kind,
    outputShape: outputShape(program, step),
    parameters: weightCount(step) + 2 * outputsOf(step).length + biasCount(step),
    multiplyAdds: multiplyAdds(program, step),
    bytes: bytesMoved(program, step),
  }));
}

export function totals(program: Program): Totals {
  const rows = describe(program);
  const sum = (field: "parameters" | "multiplyAdds" | "bytes"): number =>
    rows.reduce((n, row) => n + row[field], 0);
  return {
    parameters: sum("parameters"),
    multiplyAdds: sum("multiplyAdds"),
    bytes: sum("bytes"),
    arenaBytes: 4 * program.memory.size,
  };
}

/**
 * The program as text: a heading, then index, kind, name, input planes -> output planes, sizes, weights. A
 * plane whose gradient the step adds to, instead of writing it, has a plus sign behind it.
 */
export function print(program: Program): string {
  const { mode, batch, imageSize, classes, planes, parameterCount } = program;
  const heading =
    `${mode} batch ${batch}, image ${imageSize}x${imageSize}, ${classes} classes, ` +
    `${planes.length} planes, ${parameterCount} parameters (gamma @${program.gamma}, beta @${program.beta})`;
  return [heading, ...program.steps.map((step, index) => printStep(program, step, index))].join("\n") + "\n";
}

/** Weights of a step, without gamma, beta and bias. */
export function weightCount(step: Step): number {
  switch (step.kind) {
    case "stem":
      return step.count * 27;
    case "pointwise":
      return step.count * step.inputs.length;
    case "depthwise":
      return step.inputs.length * 9;
    case "head":
      return step.classes * step.inputs.length;
  }
}

function biasCount(step: Step): number {
  return step.kind === "head" && step.bias >= 0 ? step.classes : 0;
}

function outputShape({ planes }: Program, step: Step): number[] {
  if (step.kind === "head") return [step.classes];
  const { height, width } = planes[step.first] as Plane;
  return [outputsOf(step).length, height, width];
}

/** Every weight is used once per output pixel; the stem's pixels are those before pooling. */
function multiplyAdds({ planes }: Program, step: Step): number {
  if (step.kind === "head") return weightCount(step);
  const { height, width } =
    step.kind === "stem"
      ? { height: step.convolution.outputHeight, width: step.convolution.outputWidth }
      : (planes[step.first] as Plane);
  return weightCount(step) * height * width;
}

/**
 * Forward: read inputs and weights, write outputs. Backward: read z and g of the outputs, z of the inputs
 * and the weights; write the weights' gradients and g of the inputs (and read it where it accumulates).
 */
function bytesMoved(program: Program, step: Step): number {
  const elements = (list: readonly PlaneId[]): number =>
    list.reduce((n, plane) => {
      const { height, width } = program.planes[plane] as Plane;
      return n + program.batch * height * width;
    }, 0);
  const inputs = elements(inputsOf(step));
  const outputs = elements(outputsOf(step));
  const weights = weightCount(step);
  const pictures = step.kind === "stem" ? program.batch * program.imageSize ** 2 * 3 : 0;
  const forward = 4 * (inputs + outputs + weights) + pictures;
  if (program.mode === "infer") return forward;
  const added =
    step.kind === "pointwise" || step.kind === "depthwise"
      ? step.inputs.filter((_, i) => step.accumulates[i])
      : [];
  return forward + 4 * (2 * outputs + 2 * inputs + elements(added) + 2 * weights) + pictures;
}

function printStep(program: Program, step: Step, index: number): string {
  const start = `${String(index).padStart(2)} ${step.kind.padEnd(9)} ${step.name}: `;
  const weights = `weights @${step.weights}`;
  if (step.kind === "head") {
    const bias = step.bias < 0 ? "no bias" : `bias @${step.bias}`;
    return `${start}${printPlanes(step.inputs)} -> ${step.classes} logits, ${weights}, ${bias}, dropout ${step.dropout}`;
  }
  const outputs = outputsOf(step);
  const { height, width, relu } = program.planes[step.first] as Plane;
  const result = `${printPlanes(outputs)} ${height}x${width}${relu ? " relu" : ""}`;
  switch (step.kind) {
    case "stem":
      return (
        `${start}image -> ${result}, convolution ${printWindow(step.convolution)}, ` +
        `pooling ${printWindow(step.pooling)}, channels ${step.channelOrder.join("")}, ${weights}`
      );
    case "pointwise":
      return `${start}${printInputs(step)} -> ${result}, ${weights}`;
    case "depthwise":
      return `${start}${printInputs(step)} -> ${result}, ${printWindow(step.geometry)}, ${weights}`;
  }
}

function printInputs(step: {
  readonly inputs: readonly PlaneId[];
  readonly accumulates: readonly boolean[];
}): string {
  const added = step.inputs.filter((_, i) => step.accumulates[i]);
  if (added.length === 0) return printPlanes(step.inputs);
  return added.length === step.inputs.length
    ? `${printPlanes(step.inputs)} +`
    : `${printPlanes(step.inputs)} (+ ${printPlanes(added)})`;
}

function printWindow(w: WindowGeometry): string {
  return `${w.inputHeight}x${w.inputWidth}/${w.stride} pad ${w.padTop},${w.padLeft}`;
}

/** Runs of equal steps: 0..5 for neighbours, 3..9:2 for every second. */
function printPlanes(planes: readonly PlaneId[]): string {
  const runs: string[] = [];
  for (let i = 0; i < planes.length;) {
    const first = planes[i] as number;
    const step = (planes[i + 1] ?? first) - first;
    let end = i + 1;
    while (end < planes.length && (planes[end] as number) - (planes[end - 1] as number) === step) end++;
    const last = planes[end - 1] as number;
    if (end - i < 3) {
      runs.push(`${first}`);
      i++;
    } else {
      runs.push(step === 1 ? `${first}..${last}` : `${first}..${last}:${step}`);
      i = end;
    }
  }
  return `[${runs.join(" ")}]`;
}
