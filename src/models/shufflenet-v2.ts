/**
 * ShuffleNet V2, every variant and width, as a list of layers.
 *
 * A unit splits its channels in two, sends one half through pointwise, depthwise and pointwise
 * convolutions and passes the other untouched; a stage's first unit halves the image instead and sends
 * everything down two branches. All splitting, joining and shuffling is `arrange` layers, which cost
 * nothing.
 *
 * Source: Ma et al., "ShuffleNet V2" (ECCV 2018), figure 3 and table 5; differences in variants.ts.
 *
 * Names: conv1, stage{2,3,4}.unit{k}.{main.before, main.depthwise, main.after} and, in a stage's
 * first unit, side.{depthwise, after}; conv5; classifier.
 */

import {
  channelsOf,
  convolutionNorm,
  IMAGE,
  interleave,
  normalised,
  type Channel,
  type Layer,
  type Network,
} from "./layers.js";
import { variants, type Variant, type VariantName, type Width } from "./variants.js";

interface ShuffleNetV2Options {
  readonly variant: VariantName;
  readonly width: Width;
  readonly classes: number;
}

/** Five halvings: below 32 px the last stage would see less than one pixel of its own. */
const SMALLEST_IMAGE = 32;

export function shuffleNetV2(options: ShuffleNetV2Options): Network {
  const variant = variants[options.variant];
  const { stages, conv5 } = variant.widths[options.width];
  const layers: Layer[] = [...stem(variant)];
  let features: Features = { map: "pool1", channels: variant.stem };
  stages.forEach((channels, index) => {
    const built = stage(variant, {
      name: `stage${index + 2}`,
      input: features,
      channels,
      units: variant.repeats[index] as number,
    });
    layers.push(...built.layers);
    features = built.output;
  });
  layers.push(
    ...pointwise("conv5", features.map, conv5),
    { kind: "globalAveragePool", name: "pool5", input: normalised("conv5") },
    {
      kind: "linear",
      name: "classifier",
      input: "pool5",
      classes: options.classes,
      bias: variant.classifierBias,
      dropout: variant.dropout[options.width],
    },
  );
  return {
    name: `shufflenet-v2 ${options.width.toFixed(1)}x (${options.variant})`,
    classes: options.classes,
    input: variant.input,
    batchNorm: variant.batchNorm,
    decays: variant.decays,
    smallestImage: SMALLEST_IMAGE,
    layers,
  };
}

/** A feature map and its number of channels. */
interface Features {
  readonly map: string;
  readonly channels: number;
}

interface StageOptions {
  readonly name: string;
  readonly input: Features;
  /** Output channels. */
  readonly channels: number;
  readonly units: number;
}

/** The two halves that run through a stage: `side` passed by, `main` came out of the last unit's branch. */
interface Halves {
  readonly side: readonly Channel[];
  readonly main: readonly Channel[];
}

function stem(variant: Variant): Layer[] {
  const { padding } = variant;
  return [
    ...convolutionNorm(
      { name: "conv1", input: IMAGE, channels: variant.stem, kernel: 3, stride: 2, padding },
      { relu: true },
    ),
    { kind: "maxPool", name: "pool1", input: normalised("conv1"), padding },
  ];
}

function stage(variant: Variant, options: StageOptions): { layers: Layer[]; output: Features } {
  const first = downsamplingUnit(variant, options);
  const layers: Layer[] = [...first.layers];
  let halves = first.halves;
  for (let k = 2; k <= options.units; k++) {
    const unit = `${options.name}.unit${k}`;
    const split = shuffleAndSplit(variant, halves);
    const input = `${unit}.split`;
    const width = split.through.length;
    layers.push({ kind: "arrange", name: input, channels: split.through });
    layers.push(...mainBranch(variant, unit, input, { before: width, after: width, stride: 1 }));
    const through = channelsOf(normalised(`${unit}.main.after`), width);
    // The lineage returns its halves as (through, past), the other two as concat(past, through).
    halves =
      variant.shuffle === "between-units"
        ? { side: through, main: split.past }
        : { side: split.past, main: through };
  }
  const joined =
    variant.shuffle === "after-unit"
      ? interleave(halves.side, halves.main)
      : [...halves.side, ...halves.main];
  layers.push({ kind: "arrange", name: options.name, channels: joined });
  return { layers, output: { map: options.name, channels: joined.length } };
}

/** Which channels go through a stride-1 unit and which go past it. */
function shuffleAndSplit(variant: Variant, halves: Halves): { through: Channel[]; past: Channel[] } {
  switch (variant.shuffle) {
    case "between-units": {
      const shuffled = interleave(halves.side, halves.main);
      const half = shuffled.length / 2;
      return { through: shuffled.slice(0, half), past: shuffled.slice(half) };
    }
    case "after-unit": {
      const shuffled = interleave(halves.side, halves.main);
      const half = shuffled.length / 2;
      return { through: shuffled.slice(half), past: shuffled.slice(0, half) };
    }
    case "before-unit": {
      const joined = [...halves.side, ...halves.main];
      return { through: joined.filter((_, i) => i % 2 === 1), past: joined.filter((_, i) => i % 2 === 0) };
    }
  }
}

/** A stage's first unit: both branches read the whole input and halve the image. */
function downsamplingUnit(variant: Variant, options: StageOptions): { layers: Layer[]; halves: Halves } {
  const unit = `${options.name}.unit1`;
  const { map, channels: inputs } = options.input;
  const half = options.channels / 2;
  const before = variant.downsampleBefore === "input channels" ? inputs : half;
  const side = variant.downsampleSide === "input channels" ? inputs : half;
  const main = options.channels - side;
  return {
    layers: [
      ...mainBranch(variant, unit, map, { before, after: main, stride: 2 }),
      ...depthwise(variant, `${unit}.side.depthwise`, map, 2),
      ...pointwise(`${unit}.side.after`, normalised(`${unit}.side.depthwise`), side),
    ],
    halves: {
      side: channelsOf(normalised(`${unit}.side.after`), side),
      main: channelsOf(normalised(`${unit}.main.after`), main),
    },
  };
}

function mainBranch(
  variant: Variant,
  unit: string,
  input: string,
  sizes: { readonly before: number; readonly after: number; readonly stride: 1 | 2 },
): Layer[] {
  return [
    ...pointwise(`${unit}.main.before`, input, sizes.before),
    ...depthwise(variant, `${unit}.main.depthwise`, normalised(`${unit}.main.before`), sizes.stride),
    ...pointwise(`${unit}.main.after`, normalised(`${unit}.main.depthwise`), sizes.after),
  ];
}

function pointwise(name: string, input: string, channels: number): Layer[] {
  return convolutionNorm({ name, input, channels, kernel: 1, stride: 1, padding: "same" }, { relu: true });
}

/** No ReLU follows a depthwise convolution (paper, figure 3). */
function depthwise(variant: Variant, name: string, input: string, stride: 1 | 2): Layer[] {
  return convolutionNorm({ name, input, stride, padding: variant.padding }, { relu: false });
}
