/**
 * Checks what a backend relies on, and says which step or plane breaks it.
 *
 * A program that passes can be executed without a bounds check: whatever a step reads was written before and
 * not written over since, and every offset lies inside its array. Linear in the size of the program and its
 * arena, so every compilation ends here.
 */

import { kindOf, product } from "./kinds/kinds.js";
import { check, ProgramError } from "./program-error.js";
import { outputsOf, planeStride, type Plane, type PlaneId, type Program, type Step } from "./program.js";

/** Elements that buffers start on: a cache line of f32. */
const ALIGNMENT = 16;

export function verify(program: Program): void {
  verifyOrder(program);
  verifyShapes(program);
  verifyParameters(program);
  verifyAccumulation(program);
  verifyMemory(program);
}

/** Each kind in its place, planes produced once in ascending order and before they are read. */
function verifyOrder({ steps, planes }: Program): void {
  check(steps[0] !== undefined && kindOf(steps[0]).place === "first", "the first step is not the stem");
  check(kindOf(steps.at(-1) as Step).place === "last", "the last step is not the head");
  let produced = 0;
  steps.forEach((step, index) => {
    const { place } = kindOf(step);
    const stands =
      (place === "first") === (index === 0) && (place === "last") === (index === steps.length - 1);
    check(stands, `step ${index} ("${step.name}") is a ${step.kind} in the wrong place`);
    for (const plane of step.inputs)
      check(plane < produced, `"${step.name}" reads plane ${plane} before it is written`);
    check(new Set(step.inputs).size === step.inputs.length, `"${step.name}" reads a plane twice`);
    check(step.first === produced, `"${step.name}" writes from plane ${step.first}, expected ${produced}`);
    produced += step.count;
  });
  check(produced === planes.length, `${planes.length} planes, but the steps write ${produced}`);
}

function verifyShapes(program: Program): void {
  const sizeOf = (plane: PlaneId): string => {
    const found = program.planes[plane];
    return found === undefined ? "missing" : `${found.height}x${found.width}`;
  };
  for (const step of program.steps) {
    const sizes = {
      inputs: step.inputs.map(sizeOf),
      outputs: outputsOf(step).map(sizeOf),
      expectAll(list: readonly string[], expected: string, what: string): void {
        const wrong = list.find((size) => size !== expected);
        check(wrong === undefined, `"${step.name}": an ${what} plane is ${wrong}, expected ${expected}`);
      },
    };
    kindOf(step).verify(step, sizes, program);
  }
}

/** The table covers the flat array exactly once, and the steps point at their own entries. */
function verifyParameters(program: Program): void {
  const byOffset = [...program.parameters].sort((a, b) => a.offset - b.offset);
  let end = 0;
  for (const p of byOffset) {
    check(p.offset === end, `parameter "${p.name}" begins at ${p.offset}, expected ${end}`);
    check(product(p.shape) === p.size, `parameter "${p.name}" has ${p.size} elements, not its shape's`);
    end += p.size;
  }
  check(end === program.parameterCount, `parameters end at ${end}, the array at ${program.parameterCount}`);
  const table = new Map(program.parameters.map((p) => [p.name, p]));
  for (const step of program.steps) {
    const expectAt = (name: string, offset: number, size: number): void => {
      const p = table.get(name);
      check(p?.offset === offset && p.size === size, `"${name}" is not ${size} elements at ${offset}`);
    };
    for (const { name, shape } of kindOf(step).tensors(step))
      expectAt(`${step.name}.${name}`, name === "bias" ? step.bias : step.weights, product(shape));
    if (step.count === 0) continue;
    expectAt(`${step.name}.gamma`, program.gamma + step.first, step.count);
    expectAt(`${step.name}.beta`, program.beta + step.first, step.count);
  }
}

/** Backward, the first to reach a plane writes and all others add; every plane is reached. */
function verifyAccumulation({ steps, planes }: Program): void {
  const written = new Set<PlaneId>();
  for (const step of [...steps].reverse()) {
    for (const plane of outputsOf(step))
      check(written.has(plane), `nothing reads plane ${plane} of "${step.name}"`);
    step.inputs.forEach((plane, i) => {
      const adds = step.accumulates[i] as boolean;
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
    read(step, step.inputs, "value");
  }
  if (mode === "infer") {
    check(
      memory.gradient.every((offset) => offset === -1),
      "an inference program has room for gradients",
    );
    return;
  }
  for (const step of [...steps].reverse()) {
    const written = step.inputs.filter((_, i) => !step.accumulates[i]);
    write(written, "gradient");
    for (const what of ["value", "gradient"] as const) {
      read(step, outputsOf(step), what);
      read(step, step.inputs, what);
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
