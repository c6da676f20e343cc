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
import {
  IMAGE,
  type ArrangeLayer,
  type BatchNormLayer,
  type ConvolutionLayer,
  type DepthwiseLayer,
  type GlobalAveragePoolLayer,
  type Layer,
  type LinearLayer,
  type MaxPoolLayer,
  type Network,
  type Padding,
} from "../models/layers.js";
import { planMemory } from "./plan-memory.js";
import type { Parameter, Plane, PlaneId, Program, Step, WindowGeometry } from "./program.js";
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
  const bound = bindPlanes(network, fuse(network.layers), options);
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

/** Where a 3x3 window lands on a square map of `size` pixels a side. */
export function windowGeometry(size: number, stride: 1 | 2, padding: Padding): WindowGeometry {
  const output = Math.ceil(size / stride);
  const total = Math.max((output - 1) * stride + 3 - size, 0);
  const before = padding === "one" ? 1 : Math.floor(total / 2);
  return {
    inputHeight: size,
    inputWidth: size,
    outputHeight: output,
    outputWidth: output,
    stride,
    padTop: before,
    padLeft: before,
  };
}

/** What one step will do, still in terms of maps: layers that a backend runs in one go. */
type Block =
  | { kind: "stem"; convolution: ConvolutionLayer; norm: BatchNormLayer; pool: MaxPoolLayer }
  | { kind: "pointwise"; convolution: ConvolutionLayer; norm: BatchNormLayer }
  | { kind: "depthwise"; convolution: DepthwiseLayer; norm: BatchNormLayer }
  | { kind: "arrange"; arrange: ArrangeLayer }
  | { kind: "head"; pool: GlobalAveragePoolLayer; linear: LinearLayer };

/** A feature map as planes, all of one size. */
interface BoundMap {
  readonly planes: readonly PlaneId[];
  /** Pixels a side. */
  readonly size: number;
}

/** A step before its weights have a place. */
type Bound<S extends Step> = S extends Step ? Omit<S, "weights" | "bias" | "accumulates"> : never;
type BoundStep = Bound<Step>;

interface BoundNetwork {
  readonly planes: readonly Plane[];
  readonly steps: readonly BoundStep[];
  readonly classifierBias: boolean;
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

/**
 * Groups layers into what a step does:
 *
 *     conv 3x3, norm+relu, max pool  ->  stem
 *     conv 1x1, norm                 ->  pointwise
 *     depthwise, norm                ->  depthwise
 *     average pool, linear           ->  head
 */
function fuse(layers: readonly Layer[]): Block[] {
  const blocks: Block[] = [];
  let next = 0;
  const take = (): Layer | undefined => layers[next++];
  for (let layer = take(); layer !== undefined; layer = take()) {
    switch (layer.kind) {
      case "convolution":
        if (layer.kernel === 3) {
          const norm = expectLayer(take(), "batchNorm", layer.name);
          const pool = expectLayer(take(), "maxPool", norm.name);
          blocks.push({ kind: "stem", convolution: layer, norm, pool });
        } else {
          blocks.push({
            kind: "pointwise",
            convolution: layer,
            norm: expectLayer(take(), "batchNorm", layer.name),
          });
        }
        break;
      case "depthwise":
        blocks.push({
          kind: "depthwise",
          convolution: layer,
          norm: expectLayer(take(), "batchNorm", layer.name),
        });
        break;
      case "arrange":
        blocks.push({ kind: "arrange", arrange: layer });
        break;
      case "globalAveragePool":
        blocks.push({ kind: "head", pool: layer, linear: expectLayer(take(), "linear", layer.name) });
        break;
      case "batchNorm":
      case "maxPool":
      case "linear":
        throw new ShapeError(
          `layer "${layer.name}" (${layer.kind}) does not follow a layer it can be fused with`,
        );
    }
  }
  return blocks;
}

function expectLayer<K extends Layer["kind"]>(
  layer: Layer | undefined,
  kind: K,
  input: string,
): Extract<Layer, { kind: K }> {
  if (layer?.kind !== kind || !("input" in layer) || layer.input !== input) {
    throw new ShapeError(
      `"${input}" must be followed by its ${kind}, found ${layer ? `${layer.kind} "${layer.name}"` : "the end"}`,
    );
  }
  return layer as Extract<Layer, { kind: K }>;
}

/** Gives every batch-norm channel a plane and every map its list of planes. */
function bindPlanes(network: Network, blocks: readonly Block[], options: CompileOptions): BoundNetwork {
  const planes: Plane[] = [];
  const steps: BoundStep[] = [];
  const maps = new Map<string, BoundMap>();
  let classifierBias = false;

  const read = (name: string, reader: string): BoundMap => {
    const map = maps.get(name);
    if (map === undefined)
      throw new ShapeError(`layer "${reader}" reads "${name}", which no earlier layer defines`);
    return map;
  };
  const define = (name: string, map: BoundMap): void => {
    if (maps.has(name)) throw new ShapeError(`two layers define the map "${name}"`);
    maps.set(name, map);
  };
  /** New planes, and the first one's id. */
  const addPlanes = (name: string, count: number, size: number, relu: boolean): PlaneId => {
    const first = planes.length;
    for (let i = 0; i < count; i++) planes.push({ height: size, width: size, relu });
    define(name, { planes: range(first, count), size });
    return first;
  };

  for (const block of blocks) {
    switch (block.kind) {
      case "stem": {
        const { convolution, norm, pool } = block;
        if (convolution.input !== IMAGE || !norm.relu || convolution.stride !== 2) {
          throw new ShapeError(
            `"${convolution.name}": a 3x3 convolution must read the image at stride 2, with ReLU`,
          );
        }
        const window = windowGeometry(options.imageSize, 2, convolution.padding);
        const pooling = windowGeometry(window.outputHeight, 2, pool.padding);
        steps.push({
          kind: "stem",
          name: convolution.name,
          first: addPlanes(pool.name, convolution.channels, pooling.outputHeight, true),
          count: convolution.channels,
          convolution: window,
          pooling,
          channelOrder: network.input.channelOrder,
          inputScale: network.input.scale,
          inputShift: network.input.shift,
        });
        break;
      }
      case "pointwise": {
        const { convolution, norm } = block;
        const input = read(convolution.input, convolution.name);
        if (convolution.stride !== 1)
          throw new ShapeError(`"${convolution.name}": a 1x1 convolution has stride 1`);
        steps.push({
          kind: "pointwise",
          name: convolution.name,
          inputs: input.planes,
          first: addPlanes(norm.name, convolution.channels, input.size, norm.relu),
          count: convolution.channels,
        });
        break;
      }
      case "depthwise": {
        const { convolution, norm } = block;
        const input = read(convolution.input, convolution.name);
        const geometry = windowGeometry(input.size, convolution.stride, convolution.padding);
        steps.push({
          kind: "depthwise",
          name: convolution.name,
          inputs: input.planes,
          first: addPlanes(norm.name, input.planes.length, geometry.outputHeight, norm.relu),
          geometry,
        });
        break;
      }
      case "arrange": {
        const { name, channels } = block.arrange;
        const sizes = new Set(channels.map((channel) => read(channel.map, name).size));
        if (sizes.size !== 1)
          throw new ShapeError(`"${name}" joins maps of sizes ${[...sizes].join(" and ")}`);
        const list = channels.map(({ map, channel }) => {
          const plane = read(map, name).planes[channel];
          if (plane === undefined)
            throw new ShapeError(`"${name}" takes channel ${channel} of "${map}", which has fewer`);
          return plane;
        });
        define(name, { planes: list, size: [...sizes][0] as number });
        break;
      }
      case "head": {
        const { pool, linear } = block;
        steps.push({
          kind: "head",
          name: linear.name,
          inputs: read(pool.input, pool.name).planes,
          classes: linear.classes,
          dropout: linear.dropout,
        });
        classifierBias = linear.bias;
        break;
      }
    }
  }
  return { planes, steps, classifierBias };
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
function layOutParameters(network: Network, bound: BoundNetwork): LaidOut {
  const steps: Step[] = [];
  const parameters: Parameter[] = [];
  const weightTotal = bound.steps.reduce((sum, step) => sum + product(weightShape(step)), 0);
  const head = bound.steps.at(-1);
  const biasCount = bound.classifierBias && head?.kind === "head" ? head.classes : 0;
  const gamma = weightTotal + biasCount;
  const beta = gamma + bound.planes.length;

  const add = (name: string, role: Parameter["role"], shape: readonly number[], offset: number): void => {
    parameters.push({
      name,
      shape,
      offset,
      size: product(shape),
      decay: network.decays.includes(role),
      role,
    });
  };
  let weights = 0;
  for (const step of bound.steps) {
    const shape = weightShape(step);
    const offset = weights;
    weights += product(shape);
    const role = (
      { stem: "convolution", pointwise: "convolution", depthwise: "depthwise", head: "linear" } as const
    )[step.kind];
    add(`${step.name}.weight`, role, shape, offset);
    if (step.kind === "head") {
      const bias = biasCount > 0 ? weightTotal : -1;
      if (bias >= 0) add(`${step.name}.bias`, "bias", [step.classes], bias);
      steps.push({ ...step, weights: offset, bias });
      continue;
    }
    const outputs = step.kind === "depthwise" ? step.inputs.length : step.count;
    add(`${step.name}.gamma`, "gamma", [outputs], gamma + step.first);
    add(`${step.name}.beta`, "beta", [outputs], beta + step.first);
    steps.push(
      step.kind === "stem" ? { ...step, weights: offset } : { ...step, weights: offset, accumulates: [] },
    );
  }
  return { steps, parameters, parameterCount: beta + bound.planes.length, gamma, beta };
}

/** [out, in, kh, kw] or [classes, features]. */
function weightShape(step: BoundStep): number[] {
  switch (step.kind) {
    case "stem":
      return [step.count, 3, 3, 3];
    case "pointwise":
      return [step.count, step.inputs.length, 1, 1];
    case "depthwise":
      return [step.inputs.length, 1, 3, 3];
    case "head":
      return [step.classes, step.inputs.length];
  }
}

/** Backward, the last reader of a plane runs first and writes its gradient; earlier ones add to it. */
function markAccumulation(steps: readonly Step[]): Step[] {
  const written = new Set<PlaneId>();
  return [...steps]
    .reverse()
    .map((step) => {
      if (step.kind === "stem") return step;
      const accumulates = step.inputs.map((plane) => written.has(plane));
      for (const plane of step.inputs) written.add(plane);
      return step.kind === "head" ? step : { ...step, accumulates };
    })
    .reverse();
}

function range(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}

function product(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}
