/**
 * A program for people: one line a step as text, and rows of numbers for tables.
 *
 * The text is what reviewers compare when the compiler changes; it leaves out nothing but memory offsets,
 * which verify.ts checks instead.
 */

import { kindOf, product, weightCount } from "./kinds/kinds.js";
import { outputsOf, type Plane, type PlaneId, type Program, type Step } from "./program.js";

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

export interface Totals extends Pick<StepRow, "parameters" | "multiplyAdds" | "bytes"> {
  /** Bytes of the arena that holds all planes. */
  readonly arenaBytes: number;
}

export function describe(program: Program): StepRow[] {
  return program.steps.map((step) => ({
    name: step.name,
    kind: step.kind,
    outputShape: kindOf(step).outputShape(step, program.planes),
    parameters: parameterCount(step),
    multiplyAdds: weightCount(step) * kindOf(step).uses(step, program.planes),
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
    arenaBytes: program.memory.size,
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
    `${planes.length} planes, ${parameterCount} parameters`;
  return [heading, ...program.steps.map((step, index) => printStep(program, step, index))].join("\n") + "\n";
}

function parameterCount(step: Step): number {
  const own = kindOf(step).tensors(step);
  return own.reduce((sum, { shape }) => sum + product(shape), 0) + 2 * step.count;
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
  const inputs = elements(step.inputs);
  const outputs = elements(outputsOf(step));
  const weights = weightCount(step);
  const pictures = program.batch * kindOf(step).pictureBytes(step);
  const forward = 4 * (inputs + outputs + weights) + pictures;
  if (!step.trains) return forward;
  const added = step.inputs.filter((_, i) => step.accumulates[i]);
  return forward + 4 * (2 * outputs + 2 * inputs + elements(added) + 2 * weights) + pictures;
}

function printStep(program: Program, step: Step, index: number): string {
  const text = kindOf(step).print(step, {
    inputs: printInputs(step),
    outputs: printOutputs(program, step),
    weights: `weights @${step.weights}`,
  });
  const frozen = program.mode === "train" && !step.trains ? ", frozen" : "";
  return `${String(index).padStart(2)} ${step.kind.padEnd(9)} ${step.name}: ${text}${frozen}`;
}

function printOutputs({ planes }: Program, step: Step): string {
  const plane = planes[step.first];
  if (plane === undefined) return "";
  const { height, width, relu, gamma, beta } = plane;
  return `${printPlanes(outputsOf(step))} ${height}x${width}${relu ? " relu" : ""} gamma @${gamma} beta @${beta}`;
}

function printInputs(step: Step): string {
  const added = step.inputs.filter((_, i) => step.accumulates[i]);
  if (added.length === 0) return printPlanes(step.inputs);
  return added.length === step.inputs.length
    ? `${printPlanes(step.inputs)} +`
    : `${printPlanes(step.inputs)} (+ ${printPlanes(added)})`;
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
