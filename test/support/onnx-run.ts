/**
 * Runs an ONNX graph as the operators' definitions say, in f64 and plain loops: the judge of an export.
 *
 * It knows the operators that our exports use and refuses every other one, and every attribute of theirs
 * that it does not obey, so a result is never that of another graph. It is for files that we wrote: a
 * stranger's graph could ask for more memory than there is. Slow beside any engine: a 1.0x
 * network at 224 pixels takes about a second an image.
 *
 * Values lie row-major, images as [images, channels, rows, columns].
 *
 * Source: github.com/onnx/onnx @ v1.12.0, docs/Operators.md (opset 17).
 */

import { DataError, ShapeError } from "../../src/core/error.js";
import type { OnnxModel, OnnxNode, OnnxTensor } from "../../src/formats/onnx.js";
import { floatsOf, integersOf } from "./onnx-reader.js";

/** A tensor while a graph runs. */
export interface RunValue {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/**
 * The graph's outputs by name.
 *
 * @throws DataError for an operator, attribute or shape that is not run here.
 */
export function runOnnx(
  { graph, opset }: OnnxModel,
  inputs: ReadonlyMap<string, RunValue>,
): Map<string, RunValue> {
  if (opset < oldestOpset || opset > newestOpset) {
    throw new DataError({
      what: "the operators are of a version that is not run here",
      expected: `opset ${oldestOpset} to ${newestOpset}`,
      found: `${opset}`,
    });
  }
  const values = new Map<string, RunValue>();
  for (const { name, shape } of graph.inputs) {
    const given = inputs.get(name);
    const fits =
      given?.shape.length === shape.length &&
      shape.every((axis, i) => typeof axis === "string" || axis === given.shape[i]) &&
      given.data.length === sizeOf(given.shape);
    if (given === undefined || !fits) {
      throw new ShapeError(
        `the input ${name} is [${shape.join(", ")}], given is [${given?.shape.join(", ") ?? "nothing"}]`,
      );
    }
    values.set(name, given);
  }
  const lastUse = new Map(graph.nodes.flatMap((node, i) => node.inputs.map((name) => [name, i] as const)));
  for (const { name } of graph.outputs) lastUse.set(name, Infinity);
  graph.nodes.forEach((node, i) => {
    const results = runNode(node, values, graph.initializers);
    if (results.length !== node.outputs.length) {
      refuse(node, `gives ${results.length} values, named are ${node.outputs.length}`);
    }
    node.outputs.forEach((name, k) => values.set(name, results[k] as RunValue));
    for (const name of node.inputs) if (lastUse.get(name) === i) values.delete(name);
  });
  return new Map(graph.outputs.map(({ name }) => [name, values.get(name) as RunValue]));
}

/** From 13 to 17 the operators below are the same for f32. */
const oldestOpset = 13;
const newestOpset = 17;

/** One operator: which attributes it obeys, and what it computes. */
interface Operator {
  readonly attributes: readonly string[];
  run(node: NodeInputs): RunValue[];
}

const operators: Readonly<Record<string, Operator>> = {
  Conv: { attributes: ["group", "kernel_shape", "pads", "strides"], run: (node) => [convolve(node)] },
  BatchNormalization: { attributes: ["epsilon"], run: (node) => [normalise(node)] },
  Relu: { attributes: [], run: (node) => [mapped(node.value(0), (x) => (x > 0 ? x : 0))] },
  MaxPool: { attributes: ["kernel_shape", "pads", "strides"], run: (node) => [maxPool(node)] },
  GlobalAveragePool: { attributes: [], run: (node) => [averagePixels(node)] },
  Flatten: { attributes: ["axis"], run: (node) => [flatten(node)] },
  Gemm: { attributes: ["transB"], run: (node) => [multiply(node)] },
  Reshape: { attributes: [], run: (node) => [reshape(node)] },
  Transpose: { attributes: ["perm"], run: (node) => [transpose(node)] },
  Concat: { attributes: ["axis"], run: (node) => [concatenate(node)] },
  Split: { attributes: ["axis"], run: split },
  Gather: { attributes: ["axis"], run: (node) => [gather(node)] },
  Mul: { attributes: [], run: (node) => [perChannel(node, (x, y) => x * y)] },
  Add: { attributes: [], run: (node) => [perChannel(node, (x, y) => x + y)] },
};

function runNode(
  node: OnnxNode,
  values: ReadonlyMap<string, RunValue>,
  constants: ReadonlyMap<string, OnnxTensor>,
): RunValue[] {
  const operator = Object.hasOwn(operators, node.operator) ? operators[node.operator] : undefined;
  if (operator === undefined) {
    return refuse(node, `is not run here; run are ${Object.keys(operators).join(", ")}`);
  }
  const unknown = [...node.attributes.keys()].find((name) => !operator.attributes.includes(name));
  if (unknown !== undefined) refuse(node, `has an attribute ${unknown}, which is not obeyed here`);
  return operator.run(new NodeInputs(node, values, constants));
}

/** What a node reads, by place, with the type that its operator wants. */
class NodeInputs {
  constructor(
    readonly node: OnnxNode,
    private readonly values: ReadonlyMap<string, RunValue>,
    private readonly constants: ReadonlyMap<string, OnnxTensor>,
  ) {}

  get count(): number {
    return this.node.inputs.length;
  }

  /** A computed value, or a constant of floats. */
  value(place: number): RunValue {
    const name = this.node.inputs[place] ?? "";
    const value = this.values.get(name);
    if (value !== undefined) return value;
    const constant = this.constants.get(name);
    if (constant?.dtype !== "F32") return refuse(this.node, `has no floats at input ${place}`);
    return { shape: constant.shape, data: Float64Array.from(floatsOf(constant)) };
  }

  /** A value of four axes. */
  images(place: number): { data: Float64Array; n: number; c: number; h: number; w: number } {
    const { shape, data } = this.value(place);
    if (shape.length !== 4) refuse(this.node, `wants four axes at input ${place}, got [${shape.join(", ")}]`);
    const [n, c, h, w] = shape as [number, number, number, number];
    return { data, n, c, h, w };
  }

  /** A list of `length` floats, zeros where the input is left out. */
  list(place: number, length: number): Float64Array {
    if ((this.node.inputs[place] ?? "") === "") return new Float64Array(length);
    const { shape, data } = this.value(place);
    if (shape.length !== 1 || shape[0] !== length) {
      refuse(this.node, `wants ${length} numbers at input ${place}, got [${shape.join(", ")}]`);
    }
    return data;
  }

  /** A constant list of whole numbers. */
  integers(place: number): number[] {
    const constant = this.constants.get(this.node.inputs[place] ?? "");
    if (constant?.dtype !== "I64" || constant.shape.length !== 1) {
      return refuse(this.node, `wants a constant list of whole numbers at input ${place}`);
    }
    return integersOf(constant);
  }

  int(name: string, fallback: number): number {
    const attribute = this.node.attributes.get(name);
    if (attribute === undefined) return fallback;
    return attribute.kind === "int" ? attribute.value : refuse(this.node, `wants a whole number ${name}`);
  }

  float(name: string, fallback: number): number {
    const attribute = this.node.attributes.get(name);
    if (attribute === undefined) return fallback;
    return attribute.kind === "float" ? attribute.value : refuse(this.node, `wants a number ${name}`);
  }

  ints(name: string, fallback: readonly number[]): readonly number[] {
    const attribute = this.node.attributes.get(name);
    if (attribute === undefined) return fallback;
    const { kind, value } = attribute;
    if (kind !== "ints" || value.length !== fallback.length || value.some((v) => v < 0)) {
      return refuse(this.node, `wants ${fallback.length} whole numbers ${name}`);
    }
    return value;
  }
}

/** Kernel, strides and padding of a window over rows and columns, and how many places it fits. */
function windowOf(inputs: NodeInputs, h: number, w: number) {
  const [kh = 0, kw = 0] = inputs.ints("kernel_shape", [0, 0]);
  const [strideY = 1, strideX = 1] = inputs.ints("strides", [1, 1]);
  const [top = 0, left = 0, bottom = 0, right = 0] = inputs.ints("pads", [0, 0, 0, 0]);
  const oh = Math.floor((top + h + bottom - kh) / strideY) + 1;
  const ow = Math.floor((left + w + right - kw) / strideX) + 1;
  const padded = Math.max(top, bottom) < kh && Math.max(left, right) < kw;
  if (!(padded && kw > 0 && strideY > 0 && strideX > 0 && oh > 0 && ow > 0)) {
    refuse(inputs.node, `its window of ${kh} x ${kw} does not fit ${h} x ${w} pixels`);
  }
  return { kh, kw, strideY, strideX, top, left, oh, ow };
}

/** y[n,m] = bias[m] + sum over the group's channels c and taps of w[m,c,ky,kx] * x[n,c], zeros around. */
function convolve(inputs: NodeInputs): RunValue {
  const x = inputs.images(0);
  const weights = inputs.images(1);
  const { kh, kw, strideY, strideX, top, left, oh, ow } = windowOf(inputs, x.h, x.w);
  const group = inputs.int("group", 1);
  const within = weights.c;
  const filters = weights.n;
  if (weights.h !== kh || weights.w !== kw || within * group !== x.c || filters % group !== 0) {
    refuse(inputs.node, `its weights do not fit ${x.c} channels in ${group} groups`);
  }
  const bias = inputs.list(2, filters);
  const data = new Float64Array(x.n * filters * oh * ow);
  for (let n = 0; n < x.n; n++) {
    for (let m = 0; m < filters; m++) {
      const out = data.subarray((n * filters + m) * oh * ow, (n * filters + m + 1) * oh * ow);
      out.fill(bias[m] as number);
      const first = Math.floor(m / (filters / group)) * within;
      for (let c = 0; c < within; c++) {
        const plane = x.data.subarray(
          (n * x.c + first + c) * x.h * x.w,
          (n * x.c + first + c + 1) * x.h * x.w,
        );
        for (let tap = 0; tap < kh * kw; tap++) {
          const weight = weights.data[(m * within + c) * kh * kw + tap] as number;
          addTap(out, plane, weight, {
            dy: Math.floor(tap / kw) - top,
            dx: (tap % kw) - left,
            strideY,
            strideX,
            h: x.h,
            w: x.w,
            oh,
            ow,
          });
        }
      }
    }
  }
  return { shape: [x.n, filters, oh, ow], data };
}

/** One tap of a window over a plane: out[oy,ox] += weight * plane[oy * strideY + dy, ox * strideX + dx]. */
function addTap(
  out: Float64Array,
  plane: Float64Array,
  weight: number,
  t: {
    dy: number;
    dx: number;
    strideY: number;
    strideX: number;
    h: number;
    w: number;
    oh: number;
    ow: number;
  },
): void {
  const whole =
    t.dy === 0 && t.dx === 0 && t.strideX === 1 && t.strideY === 1 && t.oh === t.h && t.ow === t.w;
  // One long row instead of many short ones.
  const [rows, columns] = whole ? [1, t.h * t.w] : [t.oh, t.ow];
  const begin = Math.max(0, Math.ceil(-t.dx / t.strideX));
  const end = whole ? columns : Math.min(columns, Math.ceil((t.w - t.dx) / t.strideX));
  for (let oy = 0; oy < rows; oy++) {
    const iy = oy * t.strideY + t.dy;
    if (iy < 0 || iy >= t.h) continue;
    let from = iy * t.w + begin * t.strideX + t.dx;
    for (let ox = begin; ox < end; ox++, from += t.strideX) {
      out[oy * columns + ox] = (out[oy * columns + ox] as number) + weight * (plane[from] as number);
    }
  }
}

function normalise(inputs: NodeInputs): RunValue {
  const { data, n, c, h, w } = inputs.images(0);
  const [gamma, beta, mean, variance] = [1, 2, 3, 4].map((place) => inputs.list(place, c)) as [
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  const epsilon = inputs.float("epsilon", 1e-5);
  const scale = gamma.map((g, i) => g / Math.sqrt((variance[i] as number) + epsilon));
  const result = data.map((x, i) => {
    const channel = Math.floor(i / (h * w)) % c;
    return (x - (mean[channel] as number)) * (scale[channel] as number) + (beta[channel] as number);
  });
  return { shape: [n, c, h, w], data: result };
}

/** Padding is never the maximum. */
function maxPool(inputs: NodeInputs): RunValue {
  const { data: x, n, c, h, w } = inputs.images(0);
  const { kh, kw, strideY, strideX, top, left, oh, ow } = windowOf(inputs, h, w);
  const data = new Float64Array(n * c * oh * ow);
  for (let i = 0; i < data.length; i++) {
    const plane = Math.floor(i / (oh * ow)) * h * w;
    const y = (Math.floor(i / ow) % oh) * strideY - top;
    const left0 = (i % ow) * strideX - left;
    let largest = -Infinity;
    for (let iy = Math.max(0, y); iy < Math.min(h, y + kh); iy++) {
      for (let ix = Math.max(0, left0); ix < Math.min(w, left0 + kw); ix++) {
        largest = Math.max(largest, x[plane + iy * w + ix] as number);
      }
    }
    data[i] = largest;
  }
  return { shape: [n, c, oh, ow], data };
}

function averagePixels(inputs: NodeInputs): RunValue {
  const { data: x, n, c, h, w } = inputs.images(0);
  const data = Float64Array.from({ length: n * c }, (_, i) => {
    let sum = 0;
    for (let p = i * h * w; p < (i + 1) * h * w; p++) sum += x[p] as number;
    return sum / (h * w);
  });
  return { shape: [n, c, 1, 1], data };
}

function flatten(inputs: NodeInputs): RunValue {
  const { shape, data } = inputs.value(0);
  const axis = inputs.int("axis", 1);
  if (axis < 0 || axis > shape.length) refuse(inputs.node, `has no axis ${axis}`);
  return { shape: [sizeOf(shape.slice(0, axis)), sizeOf(shape.slice(axis))], data };
}

/** A * B^T + C, C one row for all. */
function multiply(inputs: NodeInputs): RunValue {
  const a = inputs.value(0);
  const b = inputs.value(1);
  const [rows = 0, inner = 0] = a.shape;
  const [columns = 0, innerB] = b.shape;
  if (inputs.int("transB", 0) !== 1 || a.shape.length !== 2 || b.shape.length !== 2 || inner !== innerB) {
    refuse(
      inputs.node,
      `wants [n, k] and a transposed [m, k], got [${a.shape.join()}] and [${b.shape.join()}]`,
    );
  }
  const bias = inputs.list(2, columns);
  const data = Float64Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    let sum = bias[column] as number;
    for (let k = 0; k < inner; k++) {
      sum += (a.data[row * inner + k] as number) * (b.data[column * inner + k] as number);
    }
    return sum;
  });
  return { shape: [rows, columns], data };
}

/** A 0 keeps the input's length. */
function reshape(inputs: NodeInputs): RunValue {
  const { shape, data } = inputs.value(0);
  const wanted = inputs.integers(1).map((length, i) => (length === 0 ? (shape[i] ?? 0) : length));
  if (wanted.some((length) => length < 0) || sizeOf(wanted) !== data.length) {
    refuse(inputs.node, `cannot make [${wanted.join(", ")}] of [${shape.join(", ")}]`);
  }
  return { shape: wanted, data };
}

function transpose(inputs: NodeInputs): RunValue {
  const { shape, data } = inputs.value(0);
  const order = inputs.ints("perm", shape.map((_, i) => i).reverse());
  if (new Set(order).size !== shape.length || order.some((axis) => axis >= shape.length)) {
    refuse(inputs.node, `its order [${order.join(", ")}] is none of ${shape.length} axes`);
  }
  const strides = shape.map((_, axis) => sizeOf(shape.slice(axis + 1)));
  const wanted = order.map((axis) => shape[axis] as number);
  const steps = order.map((axis) => strides[axis] as number);
  const result = data.map((_, i) => {
    let rest = i;
    let from = 0;
    for (let axis = wanted.length - 1; axis >= 0; axis--) {
      from += (rest % (wanted[axis] as number)) * (steps[axis] as number);
      rest = Math.floor(rest / (wanted[axis] as number));
    }
    return data[from] as number;
  });
  return { shape: wanted, data: result };
}

function concatenate(inputs: NodeInputs): RunValue {
  const parts = Array.from({ length: inputs.count }, (_, place) => inputs.value(place));
  const [first] = parts as [RunValue];
  requireChannels(inputs, first.shape);
  const rest = ({ shape }: RunValue): string => shape.filter((_, axis) => axis !== 1).join();
  if (parts.some((part) => rest(part) !== rest(first)))
    refuse(inputs.node, "joins values of different shapes");
  const channels = parts.reduce((sum, { shape }) => sum + (shape[1] as number), 0);
  const shape = [first.shape[0] as number, channels, ...first.shape.slice(2)];
  const data = new Float64Array(sizeOf(shape));
  let at = 0;
  for (let n = 0; n < (shape[0] as number); n++) {
    for (const part of parts) {
      const size = sizeOf(part.shape.slice(1));
      data.set(part.data.subarray(n * size, (n + 1) * size), at);
      at += size;
    }
  }
  return { shape, data };
}

function split(inputs: NodeInputs): RunValue[] {
  const { shape, data } = inputs.value(0);
  requireChannels(inputs, shape);
  const sizes = inputs.integers(1);
  const [images = 0, channels = 0] = shape;
  if (sizes.some((size) => size < 0) || sizes.reduce((a, b) => a + b, 0) !== channels) {
    refuse(inputs.node, `cannot split ${channels} channels into ${sizes.join(" + ")}`);
  }
  const pixels = sizeOf(shape.slice(2));
  let before = 0;
  return sizes.map((size) => {
    const part = new Float64Array(images * size * pixels);
    for (let n = 0; n < images; n++) {
      const from = (n * channels + before) * pixels;
      part.set(data.subarray(from, from + size * pixels), n * size * pixels);
    }
    before += size;
    return { shape: [images, size, ...shape.slice(2)], data: part };
  });
}

function gather(inputs: NodeInputs): RunValue {
  const { shape, data } = inputs.value(0);
  requireChannels(inputs, shape);
  const indices = inputs.integers(1);
  const [images = 0, channels = 0] = shape;
  if (indices.some((index) => index < 0 || index >= channels)) {
    refuse(inputs.node, `takes channels that are not among ${channels}`);
  }
  const pixels = sizeOf(shape.slice(2));
  const result = new Float64Array(images * indices.length * pixels);
  for (let n = 0; n < images; n++) {
    indices.forEach((index, i) => {
      const from = (n * channels + index) * pixels;
      result.set(data.subarray(from, from + pixels), (n * indices.length + i) * pixels);
    });
  }
  return { shape: [images, indices.length, ...shape.slice(2)], data: result };
}

/** With one number a channel, [1, c, 1, 1]: the only broadcast that is run here. */
function perChannel(inputs: NodeInputs, combine: (x: number, y: number) => number): RunValue {
  const { data, n, c, h, w } = inputs.images(0);
  const { shape, data: numbers } = inputs.value(1);
  if (shape.join() !== [1, c, 1, 1].join())
    refuse(inputs.node, `wants [1, ${c}, 1, 1], got [${shape.join(", ")}]`);
  return {
    shape: [n, c, h, w],
    data: data.map((x, i) => combine(x, numbers[Math.floor(i / (h * w)) % c] as number)),
  };
}

/** The axis of channels is the only one along which values are joined and taken apart here. */
function requireChannels(inputs: NodeInputs, shape: readonly number[]): void {
  const axis = inputs.int("axis", 0);
  if (axis !== 1 || shape.length < 2)
    refuse(inputs.node, `works on axis ${axis} of ${shape.length}; axis 1 is run`);
}

function mapped({ shape, data }: RunValue, change: (x: number) => number): RunValue {
  return { shape, data: data.map(change) };
}

function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}

function refuse(node: OnnxNode, what: string): never {
  throw new DataError({
    what: `the operator ${JSON.stringify(node.operator)} ${what}`,
    where: `node ${JSON.stringify(node.name)}`,
  });
}
