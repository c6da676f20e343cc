/**
 * Which network an open file of weights holds, and which of its names is which tensor.
 *
 * Names are recognised by their first convolution (place.ts; models/tensor-names.ts has the schemes), the network's variant, width
 * and classes by the shapes. Of several sets of weights one is taken whole, and which is said.
 */

import { CheckpointError } from "../core/error.js";
import type { ParameterTable } from "../models/initialise.js";
import { type VariantName, variantNames, type Width, widths } from "../models/variants.js";
import { type Scheme, tensorsOf, type WeightTensor } from "../models/tensor-names.js";
import { sameShape } from "../run/checkpoint-tensors.js";
import { layoutOf } from "./fill.js";
import { brokenHead, type Head, headOf, missingWord, unfitHead } from "./head.js";
import type { WeightsFile } from "./weights-file.js";
import { anchors, nameIn, type Place, placeOf, placesIn, shownPlace } from "./place.js";

/** Moving averages of the weights where the file keeps them, or the weights as the last update left them. */
export const weightChoices = ["average", "raw"] as const;
export type WeightChoice = (typeof weightChoices)[number];

/** A network and where it lies. */
type At = Recognised & Match & Place;

/** Tensors of a network, with their names in the file. A classifier is found whatever its size. */
interface Match {
  readonly found: readonly (readonly [WeightTensor, string])[];
  readonly missing: readonly WeightTensor[];
  /** Of another shape than the network's. */
  readonly wrong: readonly (readonly [WeightTensor, string])[];
  /** Why the file's classifier cannot be kept, where that is so. */
  readonly unfit: CheckpointError | undefined;
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
  /** Why the file's classifier cannot be kept, where that is so. */
  readonly unfit: CheckpointError | undefined;
  /** Names of the file that are neither a tensor of the network nor one of training it. */
  readonly leftOver: readonly string[];
  /** What was taken of several, and why: a sentence each. */
  readonly choices: readonly string[];
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
  const places = placesOf(file);
  const at = (place: Place, statistics?: Place): At | undefined =>
    recogniseAt(file, places, place, wanted.variant, statistics);
  const chosen = choose(file, places, wanted.weights, at);
  if (chosen === undefined) throw notThisFamily(file, preferred(places, wanted.weights), wanted.variant);
  const broken = brokenHead(file, chosen.match.prefix, chosen.match);
  if (broken !== undefined) throw broken;
  return { ...chosen.match, choices: chosen.choices };
}

/**
 * The tensors of one network, wherever in the file they are.
 *
 * @throws CheckpointError where no names are known, or what follows the stages is there in part.
 */
export function matchNetwork(
  file: WeightsFile,
  layout: ParameterTable,
): Match & { readonly scheme: Scheme; readonly choices: readonly string[] } {
  const places = placesOf(file);
  // A checkpoint of ours goes on as it was trained; its averages are for use.
  const wanted = file.isOwn ? "raw" : undefined;
  const at = (place: Place, statistics?: Place): (Match & Place) | undefined => {
    const match = matchLayout(file, place, layout, statistics);
    return isWhole(match) ? { ...place, ...match } : undefined;
  };
  const place = preferred(places, wanted);
  const { match, choices } = choose(file, places, wanted, at) ?? {
    match: { ...place, ...matchLayout(file, place, layout) },
    choices: [],
  };
  const broken = brokenHead(file, match.prefix, match);
  if (broken !== undefined) throw broken;
  return { ...match, choices };
}

/** Whether a tensor belongs to what follows the stages: conv5 and the classifier. */
export function isHead(canonical: string): boolean {
  return /^(conv5|classifier)\./.test(canonical);
}

export function isClassifier(canonical: string): boolean {
  return canonical.startsWith("classifier.");
}

/** @throws CheckpointError where no names are known. */
function placesOf(file: WeightsFile): readonly Place[] {
  const places = placesIn(file);
  if (places.length > 0) return places;
  const names = [...file.tensors.keys()];
  const objects = [...file.objects].map(([name, made]) => `${name === "" ? "" : `${name}, `}a ${made}`);
  const made = [...file.objects].find(([name]) => placeOf(name) !== undefined);
  throw new CheckpointError({
    what:
      made === undefined
        ? "holds no ShuffleNet V2 under names that are known here"
        : `the weights ${made[0]} are what ${made[1]} would make, which is not read`,
    where: file.path,
    expected: `a tensor ${anchors.map(([, anchor]) => anchor).join(" or ")}, whatever stands before it`,
    found: [
      `${names.length} tensors: ${listOf(names)}`,
      ...(objects.length > 0 ? [listOf(objects)] : []),
    ].join("; "),
    ...((made !== undefined || (names.length === 0 && objects.length > 0)) && {
      safe: "Nothing of the file was run",
      hint: "Load it in Python, and save the state_dict() of the network with torch.save",
    }),
  });
}

/** The place that is wanted, or where nothing is asked for the averages, then the largest. */
function preferred(places: readonly Place[], wanted: WeightChoice = "average"): Place {
  return places.find(({ averages }) => averages === (wanted === "average")) ?? (places[0] as Place);
}

/** The rest may lack its head: a detector's backbone does. */
function isWhole({ wrong, missing }: Match): boolean {
  return wrong.length === 0 && missing.every(({ canonical }) => isHead(canonical));
}

/**
 * Of several networks in a file the averages where they are asked for or nothing is, then the largest. Averages count where
 * all of the network is averaged: sets are never mixed unless that is asked for, and then said.
 *
 * @param at what a place holds, with the moving statistics of another where one is given; undefined where that is no network
 * @returns undefined where no place holds one
 */
function choose<T extends Match & Place>(
  file: WeightsFile,
  places: readonly Place[],
  wanted: WeightChoice | undefined,
  at: (place: Place, statistics?: Place) => T | undefined,
): { readonly match: T; readonly choices: readonly string[] } | undefined {
  const averaged = places.filter(({ averages }) => averages);
  if (wanted !== undefined && !places.some(({ averages }) => averages === (wanted === "average"))) {
    throw new CheckpointError({
      what: `--weights ${wanted} asks for what the file does not hold`,
      where: file.path,
      expected: wanted === "raw" ? "weights that are no averages" : "averages of the weights",
      found: places.map(shownPlace).join(", "),
    });
  }
  const plain = firstOf(
    places.filter(({ averages }) => !averages),
    (place) => at(place),
  );
  const choices: string[] = [];
  for (const place of wanted === "raw" ? [] : averaged) {
    const match = at(place);
    const absent = plain === undefined ? [] : absentAt(file, place, plain);
    if (match !== undefined && absent.length === 0) return { match, choices };
    if (plain === undefined) continue;
    const [plainWords, words] = [shownPlace(plain), shownPlace(place)];
    const notAveraged = absent.filter(({ array }) => array === "parameters").map(({ name }) => name);
    const mixed = notAveraged.length > 0 ? undefined : at(place, plain);
    if (mixed === undefined) {
      const names = notAveraged.length === 0 ? "a network of the same shapes" : listOf(notAveraged);
      if (wanted === "average") throw partlyAveraged(file, place, names);
      choices.push(
        `the averages ${words} lack ${names}, so the weights ${plainWords} were taken, none of the averages`,
      );
    } else if (wanted === "average") {
      choices.push(
        `the averages ${words} have no moving statistics: those of the weights ${plainWords} were taken`,
      );
      return { match: mixed, choices };
    } else {
      choices.push(
        `the averages ${words} have no moving statistics, so the weights ${plainWords} were taken; ` +
          "--weights average takes the averages, with those statistics",
      );
    }
  }
  if (plain === undefined) return undefined;
  const others = places.filter((place) => !place.averages && place.prefix !== plain.prefix);
  if (others.length > 0) {
    choices.push(
      `of several networks the one ${shownPlace(plain)} was taken, none ${others.map(shownPlace).join(", ")}`,
    );
  }
  return { match: plain, choices };
}

/** Tensors of a network that another place does not have. */
function absentAt(file: WeightsFile, place: Place, { found }: Match): WeightTensor[] {
  const head = headOf(file, place);
  return found.flatMap(([tensor]) => {
    const { canonical } = tensor;
    const name = isClassifier(canonical) ? inHead(head, canonical) : nameIn(file, place, tensor);
    return name === undefined ? [tensor] : [];
  });
}

function firstOf<T, U>(values: readonly T[], of: (value: T) => U | undefined): U | undefined {
  for (const value of values) {
    const found = of(value);
    if (found !== undefined) return found;
  }
  return undefined;
}

function partlyAveraged(file: WeightsFile, place: Place, names: string): CheckpointError {
  return new CheckpointError({
    what: "only some of the weights are averaged, and averages are not mixed with what they were taken of",
    where: file.path,
    expected: `averages ${shownPlace(place)} of all weights`,
    found: `none of ${names}`,
    safe: "Nothing was written",
    hint: "--weights raw takes the weights that are not averaged",
  });
}

/** @param statistics where moving statistics are looked for that do not stand beside the weights */
function matchLayout(file: WeightsFile, place: Place, layout: ParameterTable, statistics?: Place): Match {
  const found: [WeightTensor, string][] = [];
  const missing: WeightTensor[] = [];
  const wrong: [WeightTensor, string][] = [];
  const head = headOf(file, place);
  const tensors = tensorsOf(layout, place.scheme);
  for (const tensor of tensors) {
    const { canonical, array } = tensor;
    const borrowed = array === "statistics" && statistics !== undefined ? statistics : place;
    const name = isClassifier(canonical) ? inHead(head, canonical) : nameIn(file, borrowed, tensor);
    if (name === undefined) missing.push(tensor);
    else if (fits(file, tensor, name)) found.push([tensor, name]);
    else wrong.push([tensor, name]);
  }
  const classifier = tensors.find(({ canonical }) => canonical === "classifier.weight");
  const unfit = unfitHead(file, head, {
    hasBias: tensors.some(({ canonical }) => canonical === "classifier.bias"),
    outputAxis: classifier?.order.indexOf(0) ?? 0,
    variant: place.scheme,
  });
  return { found, missing, wrong, unfit };
}

/** Of a head of several layers none is this network's classifier. */
function inHead({ weight, bias, others }: Head, canonical: string): string | undefined {
  if (others.length > 0) return undefined;
  return canonical === "classifier.bias" ? bias : weight;
}

/** Of the network's shape; a classifier may have any number of outputs. */
function fits(file: WeightsFile, { canonical, shape, order }: WeightTensor, name: string): boolean {
  const theirs = file.tensors.get(name)?.shape ?? [];
  if (!isClassifier(canonical)) return sameShape(theirs, shape);
  return theirs.length === shape.length && theirs.every((n, axis) => order[axis] === 0 || n === shape[axis]);
}

/** The network at a place, if all of one is there. @throws CheckpointError where it may be one of several */
function recogniseAt(
  file: WeightsFile,
  places: readonly Place[],
  place: Place,
  variant: VariantName | undefined,
  statistics: Place | undefined,
): At | undefined {
  const stated = variantIn(file.metadata);
  const natural = place.scheme === "canonical" ? stated : place.scheme;
  const tried: At[] = [];
  for (const one of likely(natural, variant)) {
    for (const width of widths) {
      const match = matchWith(file, places, place, { variant: one, width }, statistics);
      if (isWhole(match)) tried.push(match);
    }
    if (tried.length > 0 && one === natural) break;
  }
  const [first, second] = tried;
  if (first !== undefined && second !== undefined && second.variant !== first.variant) {
    throw new CheckpointError({
      what: "the tensors fit more than one variant, which compute different things with them",
      where: file.path,
      expected: "--variant",
      found: tried.map((match) => match.variant).join(", "),
    });
  }
  return first;
}

function matchWith(
  file: WeightsFile,
  places: readonly Place[],
  place: Place,
  { variant, width }: { readonly variant: VariantName; readonly width: Width },
  statistics?: Place,
): At {
  const layout = layoutOf(variant, width, 2);
  const match = matchLayout(file, place, layout, statistics);
  const classifier = match.found.find(([{ canonical }]) => canonical === "classifier.weight");
  const known = new Set(["global_step", ...match.found.map(([, name]) => name)]);
  // The same tensors at the other places: raw weights beside their averages, and the other way round.
  for (const { prefix, scheme, output } of places) {
    for (const { name } of tensorsOf(layout, scheme)) known.add(`${prefix}${name}${output}`);
  }
  const leftOver = [...file.tensors.keys()].filter((name) => !known.has(name) && !known.has(weightOf(name)));
  return {
    ...place,
    ...match,
    variant,
    width,
    classes: classifier && file.tensors.get(classifier[1])?.shape[classifier[0].order.indexOf(0)],
    leftOver,
    choices: [],
  };
}

/** The weight that a tensor of training belongs to: an average, a momentum, a count of batches. */
function weightOf(name: string): string {
  const plain = name
    .replace(/:0$/, "")
    .replace(/^(optimizer|momentum|averages)\//, "")
    .replace(/\/(ExponentialMovingAverage|Momentum)$/, "");
  return plain.replace(/\.num_batches_tracked$/, ".weight");
}

/** A few names, and how many more there are. */
export function listOf(names: readonly string[]): string {
  const more = names.length > 5 ? ` and ${names.length - 5} more` : "";
  return names.slice(0, 5).join(", ") + more;
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
    widths.map((width) => matchWith(file, [place], place, { variant: v, width })),
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
      ? {
          expected: `a tensor ${place.prefix}${missing?.name}${place.suffix}`,
          found: missingWord(file, `${place.prefix}${missing?.name}`),
        }
      : {
          expected: `${wrong[1]} of shape [${wrong[0].shape.join(", ")}]`,
          found: `[${file.tensors.get(wrong[1])?.shape.join(", ")}]`,
        }),
  });
}
