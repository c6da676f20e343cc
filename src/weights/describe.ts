/**
 * What a network needs besides its weights, or its user has to know: how pictures are prepared for it, the names of its
 * classes, and what was done or assumed on the way.
 */

import { UsageError } from "../core/error.js";
import { orientationRules } from "../data/pictures/orientation.js";
import { evaluationDecodings, evaluationSide } from "../data/pictures/augment.js";
import { challengeClasses } from "../prepare/imagenet/challenge-classes.js";
import type { ModelDescription } from "../run/checkpoint-state.js";
import type { ClassNames } from "./class-names.js";
import { listOf, type Recognised } from "./match.js";
import type { WeightsFile } from "./weights-file.js";

/** What the user says of a network; the rest is as the file has it, or as is usual. */
export interface Said {
  /** A name for each output; outputs beyond them have none. */
  readonly classNames?: readonly string[] | undefined;
  /** Pixels: 224. */
  readonly imageSize?: number | undefined;
  /** Pixels of the shorter side in evaluation: 256 for 224. */
  readonly evalResize?: number | undefined;
}

/** How the classifier came about. */
interface Outputs {
  readonly classes: number;
  /** It is new, from `seed`. */
  readonly drawn: boolean;
  readonly seed: number;
}

/**
 * The network in full, and a sentence for each thing done beyond copying, or assumed. Each variant with the pictures it was
 * trained on: its lineage's decoder and resize, or Pillow's as torchvision has it.
 *
 * @throws UsageError when there are more names than outputs, or one twice.
 */
export function describe(
  file: WeightsFile,
  recognised: Recognised,
  outputs: Outputs,
  said: Said,
): { readonly model: ModelDescription; readonly notices: readonly string[] } {
  const { variant, width } = recognised;
  const { classes } = outputs;
  const named = namesOf(file, recognised, outputs, said.classNames);
  refuseNames(said.classNames, classes);
  // Only files of ours say; of another size of pictures the same share is seen by the usual rule.
  const recorded = pixelsIn(file, "image_size");
  const imageSize = said.imageSize ?? recorded ?? 224;
  const evalResize = imageSize === recorded ? pixelsIn(file, "eval_resize") : undefined;
  const pipeline = pipelines.find((name) => name === file.metadata.get("pipeline"));
  const orientation = orientationRules.find((rule) => rule === file.metadata.get("exif_orientation"));
  return {
    model: {
      variant,
      width,
      classes,
      image_size: imageSize,
      eval_resize: said.evalResize ?? evalResize ?? evaluationSide(imageSize),
      pipeline: pipeline ?? (variant === "tensorflow" ? "tensorflow" : "torchvision"),
      ...(orientation === undefined ? {} : { exif_orientation: orientation }),
      class_names: named.names,
    },
    notices: [
      ...file.notices,
      ...noticesOf(recognised, outputs),
      ...named.notices,
      ...leftOut(file, recognised),
    ],
  };
}

const pipelines = Object.keys(evaluationDecodings) as ModelDescription["pipeline"][];

/** A number of pixels that the file carries; undefined where there is none that a picture has. */
function pixelsIn(file: WeightsFile, key: string): number | undefined {
  const value = Number(file.metadata.get(key) ?? NaN);
  return Number.isInteger(value) && value >= 32 && value <= 8192 ? value : undefined;
}

/**
 * The names of the classes, and what is to be said of them: those that were given, else those of the file or beside it that are
 * as many as its outputs, else ImageNet's for 1,000 outputs of the networks that were published for it.
 */
function namesOf(
  file: WeightsFile,
  { scheme, classes: found }: Recognised,
  { classes, drawn }: Outputs,
  given: readonly string[] | undefined,
): { readonly names: readonly string[]; readonly notices: readonly string[] } {
  if (given !== undefined) return { names: given, notices: [] };
  if (drawn) return { names: [], notices: [] };
  // Our own files name as many classes as were given names, which may be fewer than the outputs.
  const isOurs = file.metadata.get("format") === "riffle";
  const fitting: ClassNames[] = [];
  const notices: string[] = [];
  for (const list of file.classNames) {
    const { names, from } = list;
    const isTwice = new Set(names).size < names.length;
    if (isTwice) notices.push(`${from} names a class twice and was not used`);
    else if (names.length === found || isOurs) fitting.push(list);
    else
      notices.push(
        `${from} names ${names.length} classes where there are ${found} outputs, and was not used`,
      );
  }
  const [first, ...others] = fitting;
  if (first !== undefined) {
    const other = others.find(({ names }) => names.some((name, i) => name !== first.names[i]));
    if (!isOurs) notices.push(`the classes are named as ${first.from} says`);
    if (other !== undefined) notices.push(`${other.from} names them otherwise and was not used`);
    return { names: first.names.slice(0, classes), notices };
  }
  const isImageNet = found === challengeClasses.length && scheme !== "canonical" && scheme !== "tensorflow";
  if (!isImageNet) return { names: [], notices };
  notices.push(
    "the outputs are named by ImageNet's WordNet ids in order; npx riffle-vision import --classes FILE names them otherwise",
  );
  return { names: challengeClasses.slice(0, classes), notices };
}

function refuseNames(names: readonly string[] = [], classes: number): void {
  const seen = new Set<string>();
  const twice = names.find((name) => seen.size === seen.add(name).size);
  if (names.length <= classes && twice === undefined) return;
  throw new UsageError({
    what: twice === undefined ? "more names than outputs" : "the same class name twice",
    where: "option --classes",
    expected: twice === undefined ? `at most ${classes}` : `${classes} different names`,
    found: twice ?? `${names.length}`,
    safe: "Nothing was written",
  });
}

function noticesOf(
  { prefix, averages, classes: found, found: tensors, choices }: Recognised,
  { classes, drawn, seed }: Outputs,
): string[] {
  const classifier = tensors.find(([{ canonical }]) => canonical === "classifier.weight");
  const isNested =
    classifier !== undefined && classifier[1].replace(/:0$/, "") !== `${prefix}${classifier[0].name}`;
  return [
    ...(prefix === "" ? [] : [`every name begins with ${JSON.stringify(prefix)}, which was passed over`]),
    ...choices,
    ...(averages
      ? ["the averages of the weights were taken; --weights raw takes what they were averaged from"]
      : []),
    ...(drawn
      ? [`the classifier is new, ${classes} outputs drawn from seed ${seed}: train before you predict`]
      : []),
    ...(drawn || found === classes ? [] : [`the classifier had ${found} outputs and has ${classes} now`]),
    ...(isNested && !drawn && !averages ? [`the classifier is ${classifier[1]}`] : []),
  ];
}

/** What else the file holds. */
function leftOut(file: WeightsFile, { leftOver }: Recognised): string[] {
  const objects = [...file.objects].map(([place, made]) => `${place === "" ? "the whole" : place} (${made})`);
  return [
    ...(leftOver.length > 0 ? [`left out, as no part of this network: ${listOf(leftOver)}`] : []),
    ...(objects.length > 0 ? [`left as they are, never made: ${listOf(objects)}`] : []),
  ];
}
