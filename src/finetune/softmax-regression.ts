/**
 * Multinomial logistic regression with an L2 penalty, solved to its one minimum: a classifier on features that stay as they are.
 *
 *     f(W, b) = sum of w_i * cross-entropy_i / sum of w_i  +  penalty / 2 * sum of W^2
 *
 * over rows x_i [features], logits W x_i + b; biases are free, or zero. All sums are f64 and in one order, and the rule to stop is
 * fixed, so the same rows give the same bits.
 */

/** Rows to learn from. */
export interface Rows {
  readonly features: number;
  readonly classes: number;
  /** [rows, features] */
  readonly values: Float32Array;
  /** [rows], 0 .. classes - 1 */
  readonly labels: Int32Array;
  /** [rows]: how much each counts, from 0; not all of them 0. */
  readonly weights: Float64Array;
  /** Whether there are biases; they are 0 where not. */
  readonly biased: boolean;
}

/** [classes, features], then [classes] biases. */
export type Solution = Float64Array;

export interface Solved {
  readonly solution: Solution;
  /** Whether the gradient fell to the tolerance, rather than the iterations came to their end. */
  readonly converged: boolean;
  readonly iterations: number;
}

export interface SolveOptions {
  /** Where to begin: zeros unless told, or the solution at another penalty; the minimum is the same. */
  readonly from?: Solution | undefined;
  /** Largest entry of the gradient at the end; of a mean cross-entropy of standardised rows it is of the order of 1 at the beginning. */
  readonly tolerance?: number;
  /** Iterations at most. */
  readonly most?: number;
  /** Is awaited before every iteration; ends the work by throwing. */
  readonly pause?: () => Promise<void>;
}

const TOLERANCE = 1e-6;

/** Where features are nearly the same, the last digits take very long, and say nothing about pictures. */
const MOST_ITERATIONS = 500;

/** Pairs of steps and changes of the gradient that stand for the curvature. */
const HISTORY = 20;

export async function solve(
  rows: Rows,
  penalty: number,
  { from, tolerance = TOLERANCE, most = MOST_ITERATIONS, pause = () => Promise.resolve() }: SolveOptions = {},
): Promise<Solved> {
  const size = rows.classes * (rows.features + 1);
  let at = from?.slice() ?? new Float64Array(size);
  let gradient = new Float64Array(size);
  let value = evaluate(rows, penalty, at, gradient);
  const pairs: Pair[] = [];
  for (let iterations = 0; ; iterations++) {
    await pause();
    if (largest(gradient) <= tolerance) return { solution: at, converged: true, iterations };
    if (iterations === most) return { solution: at, converged: false, iterations };
    const direction = descent(gradient, pairs);
    const slope = dot(direction, gradient);
    const next = new Float64Array(size);
    const nextGradient = new Float64Array(size);
    // The first step has no curvature to go by.
    let length = pairs.length === 0 ? Math.min(1, 1 / norm(gradient)) : 1;
    let nextValue = value;
    for (let halvings = 0; ; halvings++) {
      for (let i = 0; i < size; i++) next[i] = (at[i] as number) + length * (direction[i] as number);
      nextValue = evaluate(rows, penalty, next, nextGradient);
      if (nextValue <= value + 1e-4 * length * slope) break;
      // No step of any length is lower in f64: this is the minimum as far as f64 can tell.
      if (halvings === 40) return { solution: at, converged: true, iterations };
      length /= 2;
    }
    const step = next.map((x, i) => x - (at[i] as number));
    const change = nextGradient.map((g, i) => g - (gradient[i] as number));
    const curvature = dot(step, change);
    if (curvature > 0) pairs.push({ step, change, curvature });
    if (pairs.length > HISTORY) pairs.shift();
    [at, gradient, value] = [next, nextGradient, nextValue];
  }
}

/** f, and its gradient into `gradient`. */
export function evaluate(rows: Rows, penalty: number, solution: Solution, gradient: Float64Array): number {
  const { features, classes, values, labels, weights, biased } = rows;
  gradient.fill(0);
  const biases = classes * features;
  const p = new Float64Array(classes);
  let total = 0;
  let loss = 0;
  for (let row = 0; row < labels.length; row++) {
    const weight = weights[row] as number;
    if (weight === 0) continue;
    const begin = row * features;
    let highest = -Infinity;
    for (let k = 0; k < classes; k++) {
      const z = rowTimes(values, begin, solution, k * features, features) + (solution[biases + k] as number);
      p[k] = z;
      if (z > highest) highest = z;
    }
    let sum = 0;
    const label = labels[row] as number;
    const own = p[label] as number;
    for (let k = 0; k < classes; k++) {
      const e = Math.exp((p[k] as number) - highest);
      p[k] = e;
      sum += e;
    }
    loss += weight * (Math.log(sum) + highest - own);
    total += weight;
    for (let k = 0; k < classes; k++) {
      const g = weight * ((p[k] as number) / sum - (k === label ? 1 : 0));
      addRow(gradient, k * features, g, values, begin, features);
      gradient[biases + k] = (gradient[biases + k] as number) + g;
    }
  }
  if (!biased) gradient.fill(0, biases);
  let squares = 0;
  for (let i = 0; i < gradient.length; i++) {
    const w = i < biases ? (solution[i] as number) : 0;
    gradient[i] = (gradient[i] as number) / total + penalty * w;
    squares += w * w;
  }
  return loss / total + (penalty / 2) * squares;
}

/** Logits of a row: [classes]. */
export function logitsOf({ features, classes, values }: Rows, row: number, solution: Solution): Float64Array {
  return Float64Array.from({ length: classes }, (_, k) => {
    const bias = solution[classes * features + k] as number;
    return rowTimes(values, row * features, solution, k * features, features) + bias;
  });
}

interface Pair {
  readonly step: Float64Array;
  readonly change: Float64Array;
  readonly curvature: number;
}

/** L-BFGS: minus the gradient times the inverse curvature as the pairs have it. Source: Nocedal and Wright, algorithm 7.4. */
function descent(gradient: Float64Array, pairs: readonly Pair[]): Float64Array {
  const q = gradient.map((g) => -g);
  const newestFirst = [...pairs].reverse();
  const shares = newestFirst.map(({ step, change, curvature }) => {
    const share = dot(step, q) / curvature;
    add(q, -share, change);
    return share;
  });
  const [newest] = newestFirst;
  if (newest !== undefined) {
    const scale = newest.curvature / dot(newest.change, newest.change);
    for (let i = 0; i < q.length; i++) q[i] = (q[i] as number) * scale;
  }
  pairs.forEach(({ step, change, curvature }, i) => {
    const share = shares[pairs.length - 1 - i] as number;
    add(q, share - dot(change, q) / curvature, step);
  });
  return q;
}

/** In four sums, which a processor adds at the same time. */
export function rowTimes(
  x: Float32Array,
  xBegin: number,
  w: Float64Array,
  wBegin: number,
  length: number,
): number {
  let [a, b, c, d] = [0, 0, 0, 0];
  const fours = length - (length % 4);
  for (let i = 0; i < fours; i += 4) {
    a += (x[xBegin + i] as number) * (w[wBegin + i] as number);
    b += (x[xBegin + i + 1] as number) * (w[wBegin + i + 1] as number);
    c += (x[xBegin + i + 2] as number) * (w[wBegin + i + 2] as number);
    d += (x[xBegin + i + 3] as number) * (w[wBegin + i + 3] as number);
  }
  for (let i = fours; i < length; i++) a += (x[xBegin + i] as number) * (w[wBegin + i] as number);
  return a + b + (c + d);
}

export function addRow(
  out: Float64Array,
  outBegin: number,
  times: number,
  x: Float32Array,
  xBegin: number,
  length: number,
): void {
  for (let i = 0; i < length; i++) {
    out[outBegin + i] = (out[outBegin + i] as number) + times * (x[xBegin + i] as number);
  }
}

function add(out: Float64Array, times: number, x: Float64Array): void {
  for (let i = 0; i < out.length; i++) out[i] = (out[i] as number) + times * (x[i] as number);
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] as number) * (b[i] as number);
  return sum;
}

function norm(a: Float64Array): number {
  return Math.sqrt(dot(a, a));
}

function largest(a: Float64Array): number {
  return a.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
}
