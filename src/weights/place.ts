/**
 * Where in a file networks lie: whose names the tensors have, and what stands before and after them.
 *
 * A network is found by its first convolution, whatever prefix stands before it ("module.", "state_dict.", "_orig_mod.",
 * "model.backbone."). A file may hold several: weights, their averages, a teacher.
 */

import type { Scheme, WeightTensor } from "../models/tensor-names.js";
import type { WeightsFile } from "./weights-file.js";

export interface Place {
  readonly scheme: Scheme;
  /** What stands before every name. */
  readonly prefix: string;
  /** Names of averages end so; tensors that are not averaged go without. */
  readonly suffix: string;
  /** ":0", as TensorFlow names a variable's value, where the names were taken from there. */
  readonly output: string;
  readonly averages: boolean;
}

/** The first convolution's weights under each scheme: no two can be taken for each other. */
export const anchors: readonly (readonly [Scheme, string])[] = [
  ["tensorflow", "ShuffleNetV2/Conv1/weights"],
  ["torchvision", "conv1.0.weight"],
  ["megvii", "first_conv.0.weight"],
  ["canonical", "conv1.weight"],
];
const averageSuffix = "/ExponentialMovingAverage";
/** A file may name hundreds of things like a first convolution; a network is among the first. */
const MOST_PLACES = 8;

/** The largest first. */
export function placesIn(file: WeightsFile): Place[] {
  const places: Place[] = [];
  for (const name of file.tensors.keys()) {
    const place = placeOf(name);
    if (place !== undefined) places.push(place);
    if (places.length >= MOST_PLACES) break;
  }
  const names = [...file.tensors.keys()];
  const sizes = new Map(places.map((p) => [p, names.filter((name) => name.startsWith(p.prefix)).length]));
  return places.sort((a, b) => (sizes.get(b) as number) - (sizes.get(a) as number));
}

/** The network that a tensor is the first convolution of. */
export function placeOf(name: string): Place | undefined {
  const output = name.endsWith(":0") ? ":0" : "";
  const value = name.slice(0, name.length - output.length);
  const averaged = value.endsWith(averageSuffix);
  const plain = averaged ? value.slice(0, -averageSuffix.length) : value;
  for (const [scheme, anchor] of anchors) {
    if (!plain.endsWith(anchor)) continue;
    const prefix = plain.slice(0, -anchor.length);
    if (prefix !== "" && !/[./]$/.test(prefix)) continue;
    // A momentum has its weight's name and shape.
    if (/(^|[./])(momentum|optimizer|optimizer_state)[./]/i.test(prefix)) continue;
    const averages = averaged || /(^|[._/])(ema|swa|averages?)[._/]/i.test(prefix);
    return { scheme, prefix, suffix: averaged ? averageSuffix : "", output, averages };
  }
  return undefined;
}

/** The name in the file of a scheme's tensor; megvii's units are also found as a list for each stage. */
export function nameIn(file: WeightsFile, place: Place, { name, array }: WeightTensor): string | undefined {
  const { prefix, suffix, output, scheme } = place;
  const spellings = [`${prefix}${name}${suffix}${output}`];
  // Moving statistics are not averaged and stand once, in TensorFlow's checkpoints as in ours. Of weights the plain name would be
  // another set than was asked for.
  if (array === "statistics") {
    spellings.push(`${prefix}${name}${output}`);
    if (scheme === "canonical" && prefix.endsWith("averages/")) {
      spellings.push(`${prefix.slice(0, -"averages/".length)}${name}`);
    }
  }
  if (scheme === "megvii") {
    const staged = name.replace(/^features\.(\d+)\./, (_, unit: string) => stagedUnit(Number(unit)));
    spellings.push(`${prefix}${staged}`);
  }
  return spellings.find((spelling) => file.tensors.has(spelling));
}

/** Where a network lies, for a sentence. */
export function shownPlace({ prefix, suffix }: Place): string {
  if (suffix !== "") return `named …${suffix}`;
  return prefix === "" ? "without a prefix" : `under ${JSON.stringify(prefix)}`;
}

function stagedUnit(unit: number): string {
  const [stage, first] = unit < 4 ? [2, 0] : unit < 12 ? [3, 4] : [4, 12];
  return `stage${stage}.${unit - first}.`;
}
