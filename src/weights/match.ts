/**
 * Which network an open file of weights holds, and which of its names is which tensor.
 *
 * Names are recognised by their first convolution (models/tensor-names.ts has the schemes), whatever prefix stands before it
 * ("module.", "state_dict.", "model.backbone."), and the network's variant, width and classes by the shapes.
 */

import { CheckpointError } from "../core/error.js";
import type { ParameterTable } from "../models/initialise.js";
import { type VariantName, variantNames, type Width, widths } from "../models/variants.js";
import { type Scheme, tensorsOf, type WeightTensor } from "../models/tensor-names.js";
import { sameShape } from "../run/checkpoint-tensors.js";
import { layoutOf } from "./fill.js";
import type { WeightsFile } from "./open.js";

/** Moving averages of the weights where the file keeps them, or the weights as the last update left them. */
export const weightChoices = ["average", "raw"] as const;
export type WeightChoice = (typeof weightChoices)[number];

/** Tensors of a network, with their names in the file. A classifier is found whatever its size. */
interface Match {
  readonly found: readonly (readonly [WeightTensor, string])[];
  readonly missing: readonly WeightTensor[];
  /** Of another shape than the network's. */
  readonly wrong: readonly (readonly [WeightTensor, string])[];
}

/** A network found in a file. */
export interface Recognised {
  readonly scheme: Scheme;
  /** What stands before every name. */
  readonly prefix: string;
  readonly averages: boolean;
  readonly variant: VariantName;
  readonly width: Width;
  /** Outputs of the classifier in the file; undefined where it has none. */
  readonly classes: number | undefined;
  /** Its tensors, and the names they have in the file. */
  readonly found: readonly (readonly [WeightTensor, string])[];
  /** Tensors of the network that the file does not have. */
  readonly missing: readonly WeightTensor[];
  /** Names of the file that are neither a tensor of the network nor one of training it. */
  readonly leftOver: readonly string[];
}

/**
 * Which network a file holds.
 *
 * @throws CheckpointError saying what was found instead.
 */
export function recognise(
  file: WeightsFile,
  wanted: { readonly variant?: VariantName | undefined; readonly weights?: WeightChoice | undefined } = {},
): Recognised {
  const place = findPlace(file, wanted.weights);
  const stated = variantIn(file.metadata);
  const natural = place.scheme === "canonical" ? stated : place.scheme;
  const tried: Recognised[] = [];
  for (const variant of likely(natural, wanted.variant)) {
    for (const width of widths) {
      const match = matchWith(file, place, { variant, width });
      if (match.wrong.length > 0) continue;
      // A network without its head (a detector's backbone) is recognised by the rest.
      if (match.missing.every(({ canonical }) => isHead(canonical))) tried.push(match);
    }
    if (tried.length > 0 && variant === natural) break;
  }
  const [first, second] = tried;
  if (first === undefined) throw notThisFamily(file, place, wanted.variant);
  if (second !== undefined && second.variant !== first.variant) {
    throw new CheckpointError({
      what: "the tensors fit more than one variant, which compute different things with them",
      where: file.path,
      expected: "--variant",
      found: tried.map(({ variant }) => variant).join(", "),
    });
  }
  return first;
}

/** The tensors of one network, wherever in the file they are. @throws CheckpointError where no names are known. */
export function matchNetwork(file: WeightsFile, layout: ParameterTable): Match & { readonly scheme: Scheme } {
  // A checkpoint of ours goes on as it was trained; its averages are for use.
  const place = findPlace(file, file.isOwn ? "raw" : "average");
  return { scheme: place.scheme, ...matchLayout(file, place, layout) };
}

/** Whether a tensor belongs to what follows the stages: conv5 and the classifier. */
export function isHead(canonical: string): boolean {
  return /^(conv5|classifier)\./.test(canonical);
}

export function isClassifier(canonical: string): boolean {
  return canonical.startsWith("classifier.");
}

/** Whose names the tensors have, and what stands before and after them. */
interface Place {
  readonly scheme: Scheme;
  readonly prefix: string;
  /** Names of averages end so; tensors that are not averaged go without. */
  readonly suffix: string;
  readonly averages: boolean;
}

/** The first convolution's weights under each scheme: no two can be taken for each other. */
const anchors: readonly (readonly [Scheme, string])[] = [
  ["tensorflow", "ShuffleNetV2/Conv1/weights"],
  ["torchvision", "conv1.0.weight"],
  ["megvii", "first_conv.0.weight"],
  ["canonical", "conv1.weight"],
];
const averageSuffix = "/ExponentialMovingAverage";
/** A file may name hundreds of things like a first convolution; a network is among the first. */
const MOST_PLACES = 8;

/** Of several networks in a file the averages where they are asked for or nothing is, then the largest. */
function findPlace(file: WeightsFile, wanted: WeightChoice = "average"): Place {
  const places: Place[] = [];
  for (const name of file.tensors.keys()) {
    for (const [scheme, anchor] of anchors) {
      const averaged = name.endsWith(averageSuffix);
      const plain = averaged ? name.slice(0, -averageSuffix.length) : name;
      if (!plain.endsWith(anchor)) continue;
      const prefix = plain.slice(0, -anchor.length);
      if (prefix !== "" && !/[./]$/.test(prefix)) continue;
      // A momentum has its weight's name and shape.
      if (/(^|[./])(momentum|optimizer|optimizer_state)[./]/i.test(prefix)) continue;
      const averages = averaged || /(^|[._/])(ema|averages?)[._/]/i.test(prefix);
      places.push({ scheme, prefix, suffix: averaged ? averageSuffix : "", averages });
    }
    if (places.length >= MOST_PLACES) break;
  }
  const names = [...file.tensors.keys()];
  const sizes = new Map(places.map((p) => [p, names.filter((name) => name.startsWith(p.prefix)).length]));
  const asWanted = (p: Place): number => Number(p.averages === (wanted === "average"));
  const [best] = places.sort(
    (a, b) => asWanted(b) - asWanted(a) || (sizes.get(b) as number) - (sizes.get(a) as number),
  );
  if (best !== undefined) return best;
  throw new CheckpointError({
    what: "holds no ShuffleNet V2 under names that are known here",
    where: file.path,
    expected: `a tensor ${anchors.map(([, anchor]) => anchor).join(" or ")}, whatever stands before it`,
    found: `${names.length} tensors: ${names.slice(0, 3).join(", ")}${names.length > 3 ? ", ..." : ""}`,
  });
}

function matchLayout(file: WeightsFile, place: Place, layout: ParameterTable): Match {
  const found: [WeightTensor, string][] = [];
  const missing: WeightTensor[] = [];
  const wrong: [WeightTensor, string][] = [];
  for (const tensor of tensorsOf(layout, place.scheme)) {
    const name = nameIn(file, place, tensor.name);
    if (name === undefined) missing.push(tensor);
    else if (isClassifier(tensor.canonical) || sameShape(file.tensors.get(name)?.shape ?? [], tensor.shape)) {
      found.push([tensor, name]);
    } else wrong.push([tensor, name]);
  }
  return { found, missing, wrong };
}

function matchWith(
  file: WeightsFile,
  place: Place,
  { variant, width }: { readonly variant: VariantName; readonly width: Width },
): Recognised & Match {
  const match = matchLayout(file, place, layoutOf(variant, width, 2));
  const classifier = match.found.find(([{ canonical }]) => canonical === "classifier.weight");
  const shape = classifier && file.tensors.get(classifier[1])?.shape;
  const used = new Set(match.found.map(([, name]) => name));
  const known = new Set([
    "global_step",
    ...used,
    ...match.found.map(([{ name }]) => `${place.prefix}${name}`),
  ]);
  const leftOver = [...file.tensors.keys()].filter((name) => !known.has(name) && !known.has(weightOf(name)));
  return {
    ...place,
    ...match,
    variant,
    width,
    classes: shape?.[place.scheme === "tensorflow" ? 1 : 0],
    leftOver,
  };
}

/** The name in the file of a scheme's tensor; megvii's units are also found as a list for each stage. */
function nameIn(file: WeightsFile, { prefix, suffix, scheme }: Place, name: string): string | undefined {
  const spellings = [`${prefix}${name}${suffix}`, `${prefix}${name}`];
  if (scheme === "megvii") {
    const staged = name.replace(/^features\.(\d+)\./, (_, unit: string) => stagedUnit(Number(unit)));
    spellings.push(`${prefix}${staged}`);
  }
  // Checkpoints of ours keep averages beside the weights; moving statistics are not averaged and stand once.
  if (scheme === "canonical" && prefix.endsWith("averages/") && /\.moving_(mean|variance)$/.test(name)) {
    spellings.push(`${prefix.slice(0, -"averages/".length)}${name}`);
  }
  return spellings.find((spelling) => file.tensors.has(spelling));
}

function stagedUnit(unit: number): string {
  const [stage, first] = unit < 4 ? [2, 0] : unit < 12 ? [3, 4] : [4, 12];
  return `stage${stage}.${unit - first}.`;
}

/** The weight that a tensor of training belongs to: an average, a momentum, a count of batches. */
function weightOf(name: string): string {
  const plain = name
    .replace(/^(optimizer|momentum|averages)\//, "")
    .replace(/\/(ExponentialMovingAverage|Momentum)$/, "");
  return plain.replace(/\.num_batches_tracked$/, ".weight");
}

/** The variant that our own weights say they are of. */
function variantIn(metadata: ReadonlyMap<string, string>): VariantName | undefined {
  const stated = /\((\w+)\)$/.exec(metadata.get("network") ?? "")?.[1];
  return variantNames.find((name) => name === stated);
}

/** The variant that is wanted, or all of them, the natural one first. */
function likely(natural: Scheme | undefined, wanted: VariantName | undefined): readonly VariantName[] {
  if (wanted !== undefined) return [wanted];
  return [...variantNames].sort((a, b) => Number(b === natural) - Number(a === natural));
}

/** The nearest network, and the first tensor that sets the file apart from it. */
function notThisFamily(file: WeightsFile, place: Place, variant: VariantName | undefined): CheckpointError {
  const matches = likely(place.scheme, variant).flatMap((v) =>
    widths.map((width) => matchWith(file, place, { variant: v, width })),
  );
  const nearest = matches.reduce((best, match) => (match.found.length > best.found.length ? match : best));
  const all = nearest.found.length + nearest.missing.length + nearest.wrong.length;
  const [wrong] = nearest.wrong;
  const missing = nearest.missing.find(({ canonical }) => !isHead(canonical));
  const nearestName = `shufflenet-v2 ${nearest.width.toFixed(1)}x (${nearest.variant})`;
  return new CheckpointError({
    what:
      `is no network of this family: of ${nearestName}, the nearest, ` +
      `${nearest.found.length} of ${all} tensors are there in ${place.scheme} names`,
    where: file.path,
    ...(wrong === undefined
      ? { expected: `a tensor ${place.prefix}${missing?.name}`, found: "no such tensor" }
      : {
          expected: `${wrong[1]} of shape [${wrong[0].shape.join(", ")}]`,
          found: `[${file.tensors.get(wrong[1])?.shape.join(", ")}]`,
        }),
  });
}
