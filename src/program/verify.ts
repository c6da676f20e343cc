/**
 * Checks what a backend relies on, and says which step or plane breaks it.
 *
 * A program that passes can be executed without a bounds check: whatever a step reads was written before and
 * not written over since, and every offset lies inside its array. Every compilation ends here.
 */

import { kindOf, product } from "./kinds/kinds.js";
import { check, ProgramError } from "./program-error.js";
import {
  ALIGNMENT,
  firstTraining,
  keepsStatistics,
  outputsOf,
  planeBytes,
  type PlaneId,
  type Program,
  type Step,
} from "./program.js";

export function verify(program: Program): void {
  verifyOrder(program);
  verifyTraining(program);
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

/** What trains is the end of the network and the beginning of the array; all of it does where nothing is frozen. */
function verifyTraining(program: Program): void {
  const { steps, mode } = program;
  const first = firstTraining(program);
  const ofTrained = keepsStatistics(program) ? "moving" : "batch";
  check(
    steps.every(
      ({ trains, statistics }, i) => trains === i >= first && statistics === (trains ? ofTrained : "moving"),
    ),
    "a step behind one that trains does not, or uses other statistics than those behind it",
  );
  check((mode === "train") === first < steps.length, `in mode "${mode}" the first step to train is ${first}`);
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

/** The flat array is the steps' tensors, last step first, each in its table entry; buckets tile it. */
function verifyParameters(program: Program): void {
  const { steps, parameters, parameterCount, planes, buckets, trainedCount } = program;
  const table = new Map(parameters.map((p) => [p.name, p]));
  const first = firstTraining(program);
  let end = 0;
  let bucket = 0;
  for (let index = steps.length - 1; index >= 0; index--) {
    const step = steps[index] as Step;
    const expect = (tensor: string, offset: number | undefined, shape: readonly number[]): void => {
      const p = table.get(`${step.name}.${tensor}`);
      const size = product(shape);
      check(
        p?.offset === offset && p?.size === size && product(p.shape) === size,
        `"${step.name}.${tensor}" is not ${size} elements at ${offset}`,
      );
      check(offset === end, `parameter "${step.name}.${tensor}" begins at ${offset}, expected ${end}`);
      end += size;
    };
    for (const { name, shape } of kindOf(step).tensors(step))
      expect(name, name === "bias" ? step.bias : step.weights, shape);
    for (const tensor of step.count > 0 ? (["gamma", "beta"] as const) : []) {
      const begin = end;
      expect(tensor, planes[step.first]?.[tensor], [step.count]);
      outputsOf(step).forEach((plane, i) => {
        check(planes[plane]?.[tensor] === begin + i, `${tensor} of plane ${plane} is not at ${begin + i}`);
      });
    }
    if (index === first) check(trainedCount === end, `${trainedCount} parameters train, not ${end}`);
    if (buckets[bucket]?.afterStep !== index) continue;
    const { begin = NaN, end: last = NaN } = buckets[bucket] ?? {};
    const expected = buckets[bucket - 1]?.end ?? 0;
    check(
      begin === expected && last === end,
      `bucket ${bucket} is ${begin}..${last}, not ${expected}..${end}`,
    );
    bucket++;
  }
  check(end === parameterCount, `parameters end at ${end}, the array at ${parameterCount}`);
  check(
    bucket === buckets.length && (buckets.at(-1)?.end ?? 0) === trainedCount,
    `${bucket} of ${buckets.length} buckets follow a step`,
  );
  const total = parameters.reduce((sum, { size }) => sum + size, 0);
  check(total === end, `the table has ${total} parameters, the steps ${end}`);
}

/** Backward, the first to reach a plane writes and all others add; every plane of a step that trains is reached. */
function verifyAccumulation({ steps, planes, mode }: Program): void {
  if (mode === "infer") return;
  const written = new Set<PlaneId>();
  const frozen = new Set(steps.filter(({ trains }) => !trains).flatMap((step) => outputsOf(step)));
  for (const step of [...steps].reverse()) {
    for (const plane of outputsOf(step))
      check(written.has(plane), `nothing reads plane ${plane} of "${step.name}"`);
    step.inputs.forEach((plane, i) => {
      const adds = step.accumulates[i] as boolean;
      if (frozen.has(plane)) {
        check(!adds, `"${step.name}": plane ${plane} accumulates, but is frozen`);
        written.add(plane);
        return;
      }
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
 * Plays a run on a map of the arena that knows, between any two places where a buffer begins or ends, which buffer was
 * last written there. What a step reads must still stand when the step has written: this asks the steps, not the planner.
 */
function verifyMemory(program: Program): void {
  const { memory, planes, batch, steps, kept } = program;
  const sizes = planes.map((plane) => planeBytes(plane, batch));
  const bounds = new Set<number>();
  const trained = new Set(steps.filter(({ trains }) => trains).flatMap((step) => outputsOf(step)));
  for (const what of ["value", "gradient"] as const)
    memory[what].forEach((offset, plane) => {
      if (what === "value" || trained.has(plane)) bounds.add(offset).add(offset + (sizes[plane] as number));
      else check(offset === -1, `plane ${plane} does not train, but has room for a gradient`);
    });
  const places = new Map([...Float64Array.from(bounds).sort()].map((at, i) => [at, i]));
  const lastWriter = new Int32Array(places.size).fill(-1);
  const pieces = (plane: PlaneId, what: Buffer): [number, number] => {
    const offset = memory[what][plane] as number;
    const end = offset + (sizes[plane] as number);
    check(
      offset >= 0 && offset % ALIGNMENT === 0 && end <= memory.size,
      `${what} of plane ${plane} at ${offset}..${end} of ${memory.size}`,
    );
    return [places.get(offset) as number, places.get(end) as number];
  };
  const write = (list: readonly PlaneId[], what: Buffer): void => {
    for (const plane of list) lastWriter.fill(identify(plane, what), ...pieces(plane, what));
  };
  const read = (step: Step, list: readonly PlaneId[], what: Buffer): void => {
    for (const plane of list) {
      const [start, end] = pieces(plane, what);
      const own = identify(plane, what);
      let piece = start;
      while (piece < end && lastWriter[piece] === own) piece++;
      if (piece === end) continue;
      const stranger = lastWriter[piece] as number;
      throw new ProgramError(`"${step.name}" needs ${name(own)}, but ${name(stranger)} was written over it`);
    }
  };
  for (const step of steps) {
    write(outputsOf(step), "value");
    read(step, outputsOf(step), "value");
    read(step, step.inputs, "value");
  }
  for (const step of [...steps].reverse().filter(({ trains }) => trains)) {
    const reached = step.inputs.filter((plane) => trained.has(plane));
    write(
      reached.filter((plane) => step.accumulates[step.inputs.indexOf(plane)] === false),
      "gradient",
    );
    for (const [what, inputs] of [["value", step.inputs] as const, ["gradient", reached] as const]) {
      read(step, outputsOf(step), what);
      read(step, inputs, what);
    }
  }
  for (const { layer, planes: list } of kept) {
    for (const plane of list) {
      const [start, end] = pieces(plane, "value");
      const stands = lastWriter.subarray(start, end).every((writer) => writer === identify(plane, "value"));
      check(stands, `plane ${plane} of "${layer}" does not stand until the end`);
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
