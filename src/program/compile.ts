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
import { normalised, type Network } from "../models/layers.js";
import { bindArrange } from "./kinds/arrange.js";
import { kindOf, kinds, product } from "./kinds/kinds.js";
import { Scope, type FeatureMap } from "./kinds/scope.js";
import { planMemory } from "./plan-memory.js";
import {
  outputsOf,
  type Bucket,
  type Parameter,
  type Plane,
  type PlaneId,
  type Program,
  type Step,
  type Storage,
} from "./program.js";
import { verify } from "./verify.js";

export interface CompileOptions {
  /** Images per step. */
  readonly batch: number;
  /** Height and width of the network's input, in pixels. */
  readonly imageSize: number;
  readonly mode: "train" | "infer";
  /**
   * How planes and their gradients are stored; f32 unless told. Of bf16 planes both factors of a 1x1 convolution's products
   * are rounded to bf16, too; sums, statistics, weights and what lies behind the average stay as they are.
   */
  readonly storage?: Storage | undefined;
  /**
   * In training: everything up to this layer, as the network names it ("conv1", "stage4", "stage2.unit1"), runs as
   * inference does and keeps its bits; backward ends behind it.
   */
  readonly freeze?: { readonly through: string } | undefined;
  /**
   * In training: the statistics that normalise what trains, the batch's unless told. "moving" are those of inference, and stay
   * what they are: a batch of few kinds of pictures says little of all that weights were made for.
   */
  readonly statistics?: "batch" | "moving" | undefined;
  /** In training: the classifier's learning rate, as a multiple of the others'; 1 unless told. */
  readonly classifierRate?: number | undefined;
  /** In training: bytes of gradients that make a bucket; it ends with the first step that fills it. */
  readonly bucketBytes?: number | undefined;
  /** Layers whose maps stand until the end of a run; a run hands them out (`kept`). */
  readonly keep?: readonly string[] | undefined;
}

export function compile(network: Network, options: CompileOptions): Program {
  checkOptions(network, options);
  const { batch, imageSize, mode } = options;
  const bound = bind(network, imageSize, options.storage ?? "f32");
  const marked = markTraining(bound, options);
  const laidOut = layOutParameters(network, marked, options);
  const steps = markAccumulation(laidOut.steps);
  const kept = (options.keep ?? []).map((layer) => ({ layer, planes: mapOf(bound, layer) }));
  if (mode === "train" && options.statistics !== "moving") checkStatistics(bound.planes, batch);
  const program: Program = {
    mode,
    batch,
    imageSize,
    classes: network.classes,
    planes: laidOut.planes,
    steps,
    parameters: laidOut.parameters,
    parameterCount: laidOut.parameterCount,
    trainedCount: laidOut.trainedCount,
    buckets: laidOut.buckets,
    batchNorm: network.batchNorm,
    memory: planMemory({ mode, batch, planes: laidOut.planes, steps, kept }),
    kept,
  };
  verify(program);
  return program;
}

/** Steps and planes while weights have no place yet. */
interface Bound {
  readonly planes: readonly Plane[];
  readonly steps: readonly Step[];
  readonly maps: ReadonlyMap<string, FeatureMap>;
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
function bind(network: Network, imageSize: number, storage: Storage): Bound {
  const scope = new Scope(network, imageSize, storage);
  const steps: Step[] = [];
  while (scope.next !== undefined) {
    const { kind, name } = scope.next;
    if (bindArrange(scope)) continue;
    const step = bindStep(scope);
    if (step === undefined)
      throw new ShapeError(`layer "${name}" (${kind}) does not follow a layer it can be fused with`);
    steps.push(step);
  }
  return { planes: scope.planes, steps, maps: scope.maps };
}

function bindStep(scope: Scope): Step | undefined {
  for (const kind of Object.values(kinds)) {
    const step = kind.bind(scope);
    if (step !== undefined) return step;
  }
  return undefined;
}

/** Decides of each step whether it trains and whose statistics it uses. */
function markTraining(bound: Bound, { mode, freeze, statistics = "batch" }: CompileOptions): Bound {
  if (mode === "infer") {
    if (freeze !== undefined)
      throw new UsageError({
        what: "only training freezes layers",
        found: `freeze through "${freeze.through}"`,
      });
    return bound;
  }
  const frozen = freeze === undefined ? 0 : stepsThrough(bound, freeze.through);
  const steps = bound.steps.map((step, index) =>
    index < frozen ? step : { ...step, trains: true, statistics },
  );
  return { ...bound, steps };
}

/** How many steps there are up to the last one of a layer, or of a stage or unit of that name. */
function stepsThrough({ steps }: Bound, layer: string): number {
  const count = steps.findLastIndex(({ name }) => name === layer || name.startsWith(`${layer}.`)) + 1;
  if (count === 0) throw unknownLayer(layer, steps);
  if (count === steps.length) {
    throw new UsageError({
      what: "nothing would be left to train",
      where: `freeze through "${layer}"`,
      expected: `a layer before "${layer}"`,
      found: "the network's last layer",
    });
  }
  return count;
}

/** The map that a layer's readers see: a convolution's is that of its batch norm. */
function mapOf({ maps, steps }: Bound, layer: string): readonly PlaneId[] {
  const map = maps.get(layer) ?? maps.get(normalised(layer));
  if (map === undefined) throw unknownLayer(layer, steps);
  return map.planes;
}

function unknownLayer(layer: string, steps: readonly Step[]): UsageError {
  const names = steps.flatMap(({ name }) => {
    const parts = name.split(".");
    return parts.map((_, i) => parts.slice(0, i + 1).join("."));
  });
  return new UsageError({
    what: "the network has no such layer",
    expected: [...new Set(names)].filter((name) => !name.includes(".")).join(", ") + ", or a part of one",
    found: layer,
    hint: `for example ${[...new Set(names)].find((name) => name.startsWith(layer.split(".")[0] ?? "")) ?? "stage4"}`,
  });
}

interface LaidOut extends Bound {
  readonly trainedCount: number;
  readonly parameters: Parameter[];
  readonly parameterCount: number;
  readonly buckets: Bucket[];
}

/**
 * One flat array in the order in which backward finishes: of each step, last to first, its weight, bias, gammas and
 * betas. So whoever communicates gradients while backward goes on sends neighbours, and what is frozen, which is at
 * the network's beginning, lies at the end.
 *
 * The parameter table is in the network's order instead, and a tensor's random draws go by its place there.
 */
function layOutParameters(
  network: Network,
  bound: Bound,
  { classifierRate = 1, bucketBytes = BUCKET_BYTES }: CompileOptions,
): LaidOut {
  const planes = [...bound.planes];
  const steps: Step[] = [];
  const tables: Parameter[][] = [];
  const buckets: Bucket[] = [];
  let end = 0;
  let trainedCount = 0;
  let bucketBegin = 0;
  for (let index = bound.steps.length - 1; index >= 0; index--) {
    const step = bound.steps[index] as Step;
    const table: Parameter[] = [];
    const place = (name: string, role: Parameter["role"], shape: readonly number[], plane?: PlaneId) => {
      const offset = end;
      const decay = network.decays.includes(role);
      const rate = step.kind === "head" ? classifierRate : 1;
      const entry = { name: `${step.name}.${name}`, shape, offset, size: product(shape), decay, rate, role };
      table.push(plane === undefined ? entry : { ...entry, plane });
      end += entry.size;
      return offset;
    };
    const offsets = { weight: 0, bias: -1 };
    for (const { name, role, shape } of kindOf(step).tensors(step)) offsets[name] = place(name, role, shape);
    if (step.count > 0) {
      const gamma = place("gamma", "gamma", [step.count], step.first);
      const beta = place("beta", "beta", [step.count], step.first);
      for (const [i, plane] of outputsOf(step).entries())
        planes[plane] = { ...(planes[plane] as Plane), gamma: gamma + i, beta: beta + i };
    }
    steps.unshift({ ...step, weights: offsets.weight, bias: offsets.bias });
    tables.unshift(table);
    if (!step.trains) continue;
    trainedCount = end;
    if (4 * (end - bucketBegin) >= bucketBytes || bound.steps[index - 1]?.trains !== true) {
      buckets.push({ begin: bucketBegin, end, afterStep: index });
      bucketBegin = end;
    }
  }
  return { ...bound, planes, steps, parameters: tables.flat(), parameterCount: end, trainedCount, buckets };
}

/**
 * Unless told, a bucket ends with the first step that makes it a quarter of a megabyte. A link of 1 Gbit/s needs 2 ms for that, twenty
 * times the 0.1 ms that a message costs whatever its length; and the last bucket, whose way backward cannot hide, is no larger.
 */
const BUCKET_BYTES = 2 ** 18;

/**
 * Backward, the last reader of a plane runs first and writes its gradient; earlier ones add to it. What a frozen step
 * wrote has none.
 */
function markAccumulation(steps: readonly Step[]): Step[] {
  const written = new Set<PlaneId>();
  const trained = new Set(steps.filter(({ trains }) => trains).flatMap((step) => outputsOf(step)));
  return [...steps]
    .reverse()
    .map((step) => {
      const accumulates = step.inputs.map((plane) => trained.has(plane) && written.has(plane));
      for (const plane of step.inputs) written.add(plane);
      return { ...step, accumulates };
    })
    .reverse();
}
