/**
 * network -> program: layers become steps over planes, with every offset decided.
 *
 * After this nothing is looked up by name again: a backend sees plane ids and numbers only, and memory
 * use is known to the element before the first step runs.
 *
 *     layers --fuse--> blocks --bindPlanes--> steps, planes --layOutParameters--> offsets
 *            --markAccumulation--> --planMemory--> program --verify--> program
 *
 * Sizes are in pixels or elements, never bytes.
 */

import { ShapeError, UsageError } from "../core/error.js";
import type { Network } from "../models/layers.js";
import { bindArrange } from "./kinds/arrange.js";
import { kindOf, kinds, product } from "./kinds/kinds.js";
import { Scope } from "./kinds/scope.js";
import { planMemory } from "./plan-memory.js";
import type { Parameter, Plane, PlaneId, Program, Step } from "./program.js";
import { verify } from "./verify.js";

export interface CompileOptions {
  /** Images per step. */
  readonly batch: number;
  /** Height and width of the network's input, in pixels. */
  readonly imageSize: number;
  readonly mode: "train" | "infer";
}

export function compile(network: Network, options: CompileOptions): Program {
  checkOptions(network, options);
  const bound = bind(network, options.imageSize);
  const laidOut = layOutParameters(network, bound);
  const steps = markAccumulation(laidOut.steps);
  const { batch, imageSize, mode } = options;
  if (mode === "train") checkStatistics(bound.planes, batch);
  const program: Program = {
    mode,
    batch,
    imageSize,
    classes: network.classes,
    planes: bound.planes,
    steps,
    parameters: laidOut.parameters,
    parameterCount: laidOut.parameterCount,
    gamma: laidOut.gamma,
    beta: laidOut.beta,
    batchNorm: network.batchNorm,
    memory: planMemory({ mode, batch, planes: bound.planes, steps }),
  };
  verify(program);
  return program;
}

/** Steps and planes while weights have no place yet. */
interface Bound {
  readonly planes: readonly Plane[];
  readonly steps: readonly Step[];
}

function checkOptions(network: Network, { batch, imageSize, mode }: CompileOptions): void {
  if (!Number.isInteger(batch) || batch < 1) {
    throw new UsageError({
      what: "impossible batch size",
      expected: "a whole number from 1",
      found: `${batch}`,
    });
  }
  if (!Number.isInteger(imageSize) || imageSize < network.smallestImage) {
    throw new UsageError({
      what: `impossible image size for ${network.name}`,
      expected: `a whole number of pixels from ${network.smallestImage}`,
      found: `${imageSize}`,
      ...(mode === "train" ? { hint: "train at 96 px or more for photographs" } : {}),
    });
  }
}

/** A variance of one value says nothing, and its n / (n - 1) has no value. */
function checkStatistics(planes: readonly Plane[], batch: number): void {
  if (batch === 1 && planes.some(({ height, width }) => height * width === 1)) {
    throw new UsageError({
      what: "batch norm has only one value per channel to learn from",
      expected: "a batch of 2 or a larger image",
      found: "batch 1, and planes of 1x1 pixel",
    });
  }
}

/** Each kind in turn takes the layers that begin a step of its own. */
function bind(network: Network, imageSize: number): Bound {
  const scope = new Scope(network, imageSize);
  const steps: Step[] = [];
  while (scope.next !== undefined) {
    const { kind, name } = scope.next;
    if (bindArrange(scope)) continue;
    const step = bindStep(scope);
    if (step === undefined)
      throw new ShapeError(`layer "${name}" (${kind}) does not follow a layer it can be fused with`);
    steps.push(step);
  }
  return { planes: scope.planes, steps };
}

function bindStep(scope: Scope): Step | undefined {
  for (const kind of Object.values(kinds)) {
    const step = kind.bind(scope);
    if (step !== undefined) return step;
  }
  return undefined;
}

interface LaidOut {
  readonly steps: Step[];
  readonly parameters: Parameter[];
  readonly parameterCount: number;
  readonly gamma: number;
  readonly beta: number;
}

/**
 * One flat array: the weights of the steps in order, the classifier's bias, all gammas by plane, all betas.
 *
 * The parameter table keeps the network's order instead (weight, gamma, beta of each layer), which is the
 * order people know from other programs.
 */
function layOutParameters(network: Network, bound: Bound): LaidOut {
  const parameters: Parameter[] = [];
  const sizes = bound.steps.map((step) =>
    kindOf(step)
      .tensors(step)
      .map(({ shape }) => product(shape)),
  );
  const gamma = sizes.flat().reduce((sum, size) => sum + size, 0);
  const beta = gamma + bound.planes.length;
  const biases = sizes.reduce((sum, [weight = 0]) => sum + weight, 0);

  const add = (name: string, role: Parameter["role"], shape: readonly number[], offset: number): void => {
    const decay = network.decays.includes(role);
    parameters.push({ name, shape, offset, size: product(shape), decay, role });
  };
  const ends = { weight: 0, bias: biases };
  const steps = bound.steps.map((step) => {
    const offsets = { weight: 0, bias: -1 };
    for (const { name, role, shape } of kindOf(step).tensors(step)) {
      offsets[name] = ends[name];
      ends[name] += product(shape);
      add(`${step.name}.${name}`, role, shape, offsets[name]);
    }
    if (step.count > 0) {
      add(`${step.name}.gamma`, "gamma", [step.count], gamma + step.first);
      add(`${step.name}.beta`, "beta", [step.count], beta + step.first);
    }
    return { ...step, weights: offsets.weight, bias: offsets.bias };
  });
  return { steps, parameters, parameterCount: beta + bound.planes.length, gamma, beta };
}

/** Backward, the last reader of a plane runs first and writes its gradient; earlier ones add to it. */
function markAccumulation(steps: readonly Step[]): Step[] {
  const written = new Set<PlaneId>();
  return [...steps]
    .reverse()
    .map((step) => {
      const accumulates = step.inputs.map((plane) => written.has(plane));
      for (const plane of step.inputs) written.add(plane);
      return { ...step, accumulates };
    })
    .reverse();
}
