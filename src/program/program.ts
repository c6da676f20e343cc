/**
 * A compiled network: the steps a backend executes, over planes.
 *
 * A plane is one channel of one activation for the whole batch: batch x height x width contiguous
 * values, image after image. It stores the raw convolution output z. Every plane is normalised by a
 * batch norm of its own (plane id = batch-norm channel id), lazily: whoever reads plane p uses
 *
 *     y = relu?(scale[p] * z + shift[p]),   scale = gamma / sqrt(variance + epsilon),
 *                                           shift = beta - mean * scale
 *
 * A plane's gradient g is the gradient with respect to scale*z + shift, already masked by the ReLU.
 * Backward, the gradient with respect to z is a*g + b*z + c with three numbers per plane.
 *
 * Sizes of maps are in pixels; offsets into the flat parameter array count its f32 elements; places in the arena are
 * in bytes.
 */

export type PlaneId = number;

/** How a plane's values are stored in the arena. Tables, parameters and logits are always f32 or f64. */
export type Storage = "f32" | "bf16";

export const bytesPerElement: { readonly [S in Storage]: number } = { f32: 4, bf16: 2 };

export interface Plane {
  readonly height: number;
  readonly width: number;
  readonly storage: Storage;
  /** Whether readers apply max(0, .) after normalising. */
  readonly relu: boolean;
  /** Offsets of its gamma and beta in the flat parameter array. */
  readonly gamma: number;
  readonly beta: number;
}

/** Where a trainable tensor lies in the flat parameter array. */
export interface Parameter {
  /** For example "stage2.unit1.main.before.weight", or "….gamma". */
  readonly name: string;
  /** [out, in, kh, kw] for convolutions ([channels, 1, 3, 3] depthwise), [classes, features], or [n]. */
  readonly shape: readonly number[];
  readonly offset: number;
  readonly size: number;
  /** Whether weight decay applies (the variant's rule). */
  readonly decay: boolean;
  /** What the update multiplies the learning rate by; 1 unless the program was compiled otherwise. */
  readonly rate: number;
  readonly role: "convolution" | "depthwise" | "gamma" | "beta" | "linear" | "bias";
  /** The plane of a gamma's or beta's first element; its others follow. */
  readonly plane?: PlaneId;
}

/** Neighbouring parameters whose gradients are final together. */
export interface Bucket {
  /** Elements begin .. end-1 of the flat parameter array. */
  readonly begin: number;
  readonly end: number;
  /** The step whose backward completes them. */
  readonly afterStep: number;
}

/** Padding before the first row and column; what is needed after follows from the sizes. */
export interface WindowGeometry {
  readonly inputHeight: number;
  readonly inputWidth: number;
  readonly outputHeight: number;
  readonly outputWidth: number;
  readonly stride: 1 | 2;
  readonly padTop: number;
  readonly padLeft: number;
}

/** What all steps have. */
interface StepBase {
  readonly name: string;
  /** Planes it reads; the stem reads the picture and none. */
  readonly inputs: readonly PlaneId[];
  /**
   * Backward, per input: true when another step's backward has run before this one and its gradient
   * stands in the plane already, so this one adds to it.
   */
  readonly accumulates: readonly boolean[];
  /** Planes it writes: first .. first+count-1; the head writes none. */
  readonly first: PlaneId;
  readonly count: number;
  /** Offset of its weights. */
  readonly weights: number;
  /** Offset of its bias, or -1 when it has none. */
  readonly bias: number;
  /** Whether backward runs through it and the update changes its parameters; false in inference. */
  readonly trains: boolean;
  /** Whose mean and variance normalise its outputs: the batch's, which then move the moving ones, or the moving ones. */
  readonly statistics: "batch" | "moving";
}

/**
 * 3x3 stride-2 convolution of the 8-bit image, batch norm, ReLU and 3x3 stride-2 max pooling in one.
 *
 * The network's input value for image channel c is `inputScale[c] * byte + inputShift[c]`, and 0 in the
 * padding. The planes keep the raw z of each pooling window's winner (the largest z, the smallest where the scale
 * is negative; the first in row-major order when equal); pooling ignores its padding. Batch-norm statistics are
 * those of the whole convolution output, not of the winners. Weights are [count, 3, 3, 3].
 */
export interface StemStep extends StepBase {
  readonly kind: "stem";
  readonly convolution: WindowGeometry;
  readonly pooling: WindowGeometry;
  /** The network's input channel i is the image's channel channelOrder[i] (RGB images; [2,1,0] for BGR networks). */
  readonly channelOrder: readonly [number, number, number];
  readonly inputScale: readonly [number, number, number];
  readonly inputShift: readonly [number, number, number];
}

/** 1x1 convolution: z[first + o] = sum over i of W[o, i] * y[inputs[i]]; W is [count, inputs.length]. */
export interface PointwiseStep extends StepBase {
  readonly kind: "pointwise";
}

/** Depthwise 3x3 convolution: z[first + i] = W[i] * y[inputs[i]], W [count, 3, 3]; zero padding (of y, not of z). */
export interface DepthwiseStep extends StepBase {
  readonly kind: "depthwise";
  readonly geometry: WindowGeometry;
}

/**
 * Global average of the normalised inputs, dropout (training), linear classifier [classes, inputs.length], softmax
 * cross-entropy. Backward it writes the gradient of every input plane.
 */
export interface HeadStep extends StepBase {
  readonly kind: "head";
  readonly classes: number;
  /** Share of features dropped in training, 0 for none. */
  readonly dropout: number;
}

export type Step = StemStep | PointwiseStep | DepthwiseStep | HeadStep;

/** Where planes lie in the arena, in bytes; -1 where a plane has no such buffer. */
export interface MemoryPlan {
  readonly value: Float64Array;
  readonly gradient: Float64Array;
  /** Bytes of the whole arena. */
  readonly size: number;
}

export interface Program {
  readonly mode: "train" | "infer";
  readonly batch: number;
  readonly imageSize: number;
  readonly classes: number;
  readonly planes: readonly Plane[];
  /** Forward order; training runs them backward in reverse. The stem is first, the head last. */
  readonly steps: readonly Step[];
  /** In the network's order (weight, gamma, beta of each layer), which people know and files keep. */
  readonly parameters: readonly Parameter[];
  /**
   * Elements of the flat parameter array, which lies in the order in which backward finishes: the last step's weight,
   * bias, gammas and betas first, the stem's last.
   */
  readonly parameterCount: number;
  /** Elements of its beginning that train: what is frozen lies behind them. 0 in inference. */
  readonly trainedCount: number;
  /** What trains, in pieces, first to last, each final as early as its neighbours allow. */
  readonly buckets: readonly Bucket[];
  /** Moving mean of plane p is statistics[p], moving variance statistics[planes.length + p]. */
  readonly batchNorm: { readonly epsilon: number; readonly momentum: number };
  readonly memory: MemoryPlan;
  /** Maps whose planes stand until the end of a run, to be handed out after it. */
  readonly kept: readonly KeptMap[];
}

export interface KeptMap {
  /** As it was asked for. */
  readonly layer: string;
  /** All of one size. */
  readonly planes: readonly PlaneId[];
}

/** @throws RangeError when the program was not compiled to keep this layer. */
export function keptPlanes({ kept }: Program, layer: string): readonly PlaneId[] {
  const map = kept.find((each) => each.layer === layer);
  if (map === undefined) throw new RangeError(`the program does not keep "${layer}"`);
  return map.planes;
}

/** Whether what trains is normalised by the moving statistics too, which no step moves then. */
export function keepsStatistics({ mode, steps }: Pick<Program, "mode" | "steps">): boolean {
  return mode === "train" && steps.every(({ statistics }) => statistics === "moving");
}

/** Index of the first step that trains; all behind it do. The number of steps where none does. */
export function firstTraining({ steps }: Pick<Program, "steps">): number {
  const first = steps.findIndex(({ trains }) => trains);
  return first < 0 ? steps.length : first;
}

/** Bytes that places in the arena are multiples of: a cache line. */
export const ALIGNMENT = 64;

/**
 * Bytes a plane takes in the arena: whole pairs of cache lines, and one line more so planes do not alias in cache.
 * native/runtime/program.cc computes the same (PlaneBytes).
 */
export function planeBytes(
  { height, width, storage }: Pick<Plane, "height" | "width" | "storage">,
  batch: number,
): number {
  const bytes = batch * height * width * bytesPerElement[storage];
  return Math.ceil(bytes / (2 * ALIGNMENT)) * (2 * ALIGNMENT) + ALIGNMENT;
}

export function outputsOf({ first, count }: Step): readonly PlaneId[] {
  return Array.from({ length: count }, (_, i) => first + i);
}
