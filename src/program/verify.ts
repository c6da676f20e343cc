/**
 * Checks what a backend relies on, and says which step or plane breaks it.
 *
 * A program that passes can be executed without a bounds check: whatever a step reads was written before and
 * not written over since, and every offset lies inside its array. Linear in the size of the program and its
 * arena, so every compilation ends here.
 */

import { inputsOf, outputsOf } from "./plan-memory.js";
import { weightCount } from "./print.js";
import {
  planeStride,
  type Plane,
  type PlaneId,
  type Program,
  type Step,
  type WindowGeometry,
} from "./program.js";

/** Elements that buffers start on: a cache line of f32. */
const ALIGNMENT = 16;

/** Thrown by `verify`: a mistake in the compiler or in a hand-made program, never in a user's input. */
export class ProgramError extends Error {
  override readonly name = "ProgramError";
}

export function verify(program: Program): void {
  verifyOrder(program);
  verifyShapes(program);
  verifyParameters(program);
  verifyAccumulation(program);
  verifyMemory(program);
}

/** Stem first, head last, planes produced once in ascending order and before they are read. */
function verifyOrder({ steps, planes }: Program): void {
  check(steps[0]?.kind === "stem", "the first step is not the stem");
  check(steps.at(-1)?.kind === "head", "the last step is not the head");
  let produced = 0;
  steps.forEach((step, index) => {
    const ends =
      (step.kind === "stem") === (index === 0) && (step.kind === "head") === (index === steps.length - 1);
    check(ends, `step ${index} ("${step.name}") is a ${step.kind} in the wrong place`);
    const inputs = inputsOf(step);
    for (const plane of inputs)
      check(plane < produced, `"${step.name}" reads plane ${plane} before it is written`);
    check(new Set(inputs).size === inputs.length, `"${step.name}" reads a plane twice`);
    if (step.kind === "head") return;
    check(step.first === produced, `"${step.name}" writes from plane ${step.first}, expected ${produced}`);
    produced += outputsOf(step).length;
  });
  check(produced === planes.length, `${planes.length} planes, but the steps write ${produced}`);
}

function verifyShapes(program: Program): void {
  for (const step of program.steps) {
    const inputs = inputsOf(step).map((plane) => sizeOf(program, plane));
    const outputs = outputsOf(step).map((plane) => sizeOf(program, plane));
    const expectAll = (sizes: string[], expected: string, what: string): void => {
      const wrong = sizes.find((size) => size !== expected);
      check(wrong === undefined, `"${step.name}": an ${what} plane is ${wrong}, expected ${expected}`);
    };
    switch (step.kind) {
      case "stem":
        verifyWindow(step.name, step.convolution);
        verifyWindow(step.name, step.pooling);
        check(
          step.convolution.inputHeight === program.imageSize &&
            step.convolution.inputWidth === program.imageSize,
          `"${step.name}" reads another size than the image's ${program.imageSize}`,
        );
        check(
          inputSize(step.pooling) === outputSize(step.convolution),
          `"${step.name}" pools another size than it convolves`,
        );
        expectAll(outputs, outputSize(step.pooling), "output");
        break;
      case "pointwise":
        check(inputs.length > 0, `"${step.name}" has no inputs`);
        expectAll([...inputs, ...outputs], inputs[0] as string, "input or output");
        break;
      case "depthwise":
        verifyWindow(step.name, step.geometry);
        expectAll(inputs, inputSize(step.geometry), "input");
        expectAll(outputs, outputSize(step.geometry), "output");
        break;
      case "head":
        check(
          step.classes === program.classes,
          `"${step.name}" has ${step.classes} classes, the program ${program.classes}`,
        );
        expectAll(inputs, inputs[0] as string, "input");
        break;
    }
  }
}

/** Every output pixel's window begins at most one pixel outside and touches the input. */
function verifyWindow(name: string, w: WindowGeometry): void {
  const fits = (input: number, output: number, pad: number): boolean =>
    output >= 1 &&
    pad >= 0 &&
    pad <= 1 &&
    (output - 1) * w.stride - pad < input &&
    Math.ceil(input / w.stride) === output;
  check(
    fits(w.inputHeight, w.outputHeight, w.padTop),
    `"${name}": rows ${w.inputHeight} -> ${w.outputHeight} do not fit`,
  );
  check(
    fits(w.inputWidth, w.outputWidth, w.padLeft),
    `"${name}": columns ${w.inputWidth} -> ${w.outputWidth} do not fit`,
  );
}

/** The table covers the flat array exactly once, and the steps point at their own entries. */
function verifyParameters(program: Program): void {
  const byOffset = [...program.parameters].sort((a, b) => a.offset - b.offset);
  let end = 0;
  for (const p of byOffset) {
    check(p.offset === end, `parameter "${p.name}" begins at ${p.offset}, expected ${end}`);
    check(
      p.shape.reduce((a, b) => a * b, 1) === p.size,
      `parameter "${p.name}" has ${p.size} elements, not its shape's`,
    );
    end += p.size;
  }
  check(end === program.parameterCount, `parameters end at ${end}, the array at ${program.parameterCount}`);
  const table = new Map(program.parameters.map((p) => [p.name, p]));
  for (const step of program.steps) {
    const expectAt = (name: string, offset: number, size: number): void => {
      const p = table.get(name);
      check(p?.offset === offset && p.size === size, `"${name}" is not ${size} elements at ${offset}`);
    };
    expectAt(`${step.name}.weight`, step.weights, weightCount(step));
    if (step.kind === "head") {
      if (step.bias >= 0) expectAt(`${step.name}.bias`, step.bias, step.classes);
      continue;
    }
    expectAt(`${step.name}.gamma`, program.gamma + step.first, outputsOf(step).length);
    expectAt(`${step.name}.beta`, program.beta + step.first, outputsOf(step).length);
  }
}

/** Backward, the first to reach a plane writes and all others add; every plane is reached. */
function verifyAccumulation({ steps, planes }: Program): void {
  const written = new Set<PlaneId>();
  for (const step of [...steps].reverse()) {
    for (const plane of outputsOf(step))
      check(written.has(plane), `nothing reads plane ${plane} of "${step.name}"`);
    inputsOf(step).forEach((plane, i) => {
      const adds = accumulates(step, i);
      check(
        adds === written.has(plane),
        `"${step.name}": plane ${plane} accumulates=${adds}, expected ${!adds}`,
      );
      written.add(plane);
    });
  }
  check(written.size === planes.length, `${planes.length} planes, ${written.size} have a gradient`);
}

/**
 * Plays a run on a map of the arena that knows, for each cache line, which buffer was last written there.
 * What a step reads must still stand when the step has written: this asks the steps, not the planner.
 */
function verifyMemory(program: Program): void {
  const { memory, planes, batch, steps, mode } = program;
  const lastWriter = new Int32Array(Math.ceil(memory.size / ALIGNMENT)).fill(-1);
  const lines = (plane: PlaneId, what: Buffer): [number, number] => {
    const offset = memory[what][plane] as number;
    const end = offset + planeStride(planes[plane] as Plane, batch);
    check(
      offset >= 0 && offset % ALIGNMENT === 0 && end <= memory.size,
      `${what} of plane ${plane} at ${offset}..${end} of ${memory.size}`,
    );
    return [offset / ALIGNMENT, Math.ceil(end / ALIGNMENT)];
  };
  const write = (list: readonly PlaneId[], what: Buffer): void => {
    for (const plane of list) lastWriter.fill(identify(plane, what), ...lines(plane, what));
  };
  const read = (step: Step, list: readonly PlaneId[], what: Buffer): void => {
    for (const plane of list) {
      const [start, end] = lines(plane, what);
      const own = identify(plane, what);
      let line = start;
      while (line < end && lastWriter[line] === own) line++;
      if (line === end) continue;
      const stranger = lastWriter[line] as number;
      throw new ProgramError(`"${step.name}" needs ${name(own)}, but ${name(stranger)} was written over it`);
    }
  };
  for (const step of steps) {
    write(outputsOf(step), "value");
    read(step, outputsOf(step), "value");
    read(step, inputsOf(step), "value");
  }
  if (mode === "infer") {
    check(
      memory.gradient.every((offset) => offset === -1),
      "an inference program has room for gradients",
    );
    return;
  }
  for (const step of [...steps].reverse()) {
    const written = inputsOf(step).filter((_, i) => !accumulates(step, i));
    write(written, "gradient");
    for (const what of ["value", "gradient"] as const) {
      read(step, outputsOf(step), what);
      read(step, inputsOf(step), what);
    }
  }
}

type Buffer = "value" | "gradient";

/** One number per buffer; `name` is its inverse. */
function identify(plane: PlaneId, what: Buffer): number {
  return 2 * plane + (what === "gradient" ? 1 : 0);
}

function name(buffer: number): string {
  return buffer < 0 ? "nothing" : `the ${buffer % 2 === 1 ? "gradient" : "value"} of plane ${buffer >> 1}`;
}

/** Whether a step's backward adds to the gradient of its input i. */
function accumulates(step: Step, i: number): boolean {
  return step.kind === "pointwise" || step.kind === "depthwise" ? (step.accumulates[i] as boolean) : false;
}

function sizeOf(program: Program, plane: PlaneId): string {
  const p = program.planes[plane];
  return p === undefined ? "missing" : `${p.height}x${p.width}`;
}

function inputSize(w: WindowGeometry): string {
  return `${w.inputHeight}x${w.inputWidth}`;
}

function outputSize(w: WindowGeometry): string {
  return `${w.outputHeight}x${w.outputWidth}`;
}

function check(holds: boolean, problem: string): asserts holds {
  if (!holds) throw new ProgramError(`the program is wrong: ${problem}`);
}
