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
 * Sizes are in pixels or elements, never bytes; offsets count f32 elements.
 */

export type PlaneId = number;

export interface Plane {
  readonly height: number;
  readonly width: number;
  /** Whether readers apply max(0, .) after normalising. */
  readonly relu: boolean;
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
  readonly role: "convolution" | "depthwise" | "gamma" | "beta" | "linear" | "bias";
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

/** Where planes lie in the arena, in f32 elements; -1 where a plane has no such buffer. */
export interface MemoryPlan {
  readonly value: Int32Array;
  readonly gradient: Int32Array;
  /** Elements of the whole arena. */
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
  readonly parameters: readonly Parameter[];
  /** Elements of the flat parameter array. */
  readonly parameterCount: number;
  /** gamma of plane p is parameters[gamma + p], beta is parameters[beta + p]. */
  readonly gamma: number;
  readonly beta: number;
  /** Moving mean of plane p is statistics[p], moving variance statistics[planes.length + p]. */
  readonly batchNorm: { readonly epsilon: number; readonly momentum: number };
  readonly memory: MemoryPlan;
}

/** Elements a plane takes in the arena: whole 64-byte lines, and one line more so planes do not alias in cache. */
export function planeStride(plane: Plane, batch: number): number {
  return Math.ceil((batch * plane.height * plane.width) / 32) * 32 + 16;
}

export function outputsOf({ first, count }: Step): readonly PlaneId[] {
  return Array.from({ length: count }, (_, i) => first + i);
}
