/**
 * Where a network looks: which places of a picture speak for a class.
 *
 * With A[i, p] channel i of a layer's activation at place p, as the next layer reads it:
 *
 *     class activation map    M[p] = sum over i of W[class, i] * A[i, p]            of conv5 alone
 *     Grad-CAM                M[p] = max(0, sum over i of a[i] * A[i, p]),          of any layer
 *                             a[i] = mean over p of d logit[class] / d A[i, p]
 *
 * Both say what the class's logit was made of, not whether it is right, and are as coarse as the layer. The mean of the first,
 * with the class's bias, is the logit itself; behind an average the second of conv5 is the first, clipped and divided by its
 * places.
 *
 * The engine computes activations and gradients, with the statistics of inference, in f32.
 *
 * Sources: Zhou et al., "Learning Deep Features for Discriminative Localization" (2016), equation 2; Selvaraju et al.,
 * "Grad-CAM" (2017), equations 1 and 2.
 */

import type { Backend, TrainingRun, Weights } from "../backends/backend.js";
import { UsageError } from "../core/error.js";
import { probedWeights, probeOf, withProbes } from "../models/probes.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { compile } from "../program/compile.js";
import { keptPlanes, type Parameter, type Plane, type Program } from "../program/program.js";
import type { ModelDescription } from "../run/checkpoint-state.js";
import type { HeatMap } from "./heat-map.js";

/** Whose maps there are, the finest first: the ends of the stages, and the layer before the average. */
export const EXPLAINED_LAYERS = ["stage2", "stage3", "stage4", "conv5"] as const;
export type ExplainedLayer = (typeof EXPLAINED_LAYERS)[number];

export interface Explanation {
  /** [classes] */
  readonly logits: Float32Array;
  /** The class activation map, with both signs. */
  readonly activation: HeatMap;
  readonly gradCam: Readonly<Record<ExplainedLayer, HeatMap>>;
}

/** A network in the engine, ready to be asked; it holds memory until it is closed. Calls must not overlap. */
export class Explainer {
  readonly #program: Program;
  readonly #run: TrainingRun;

  private constructor(program: Program, run: TrainingRun) {
    this.#program = program;
    this.#run = run;
  }

  static async open(
    {
      variant,
      width,
      classes,
      image_size,
    }: Pick<ModelDescription, "variant" | "width" | "classes" | "image_size">,
    weights: Weights,
    { backend, threads = 0 }: { readonly backend: Backend; readonly threads?: number | undefined },
  ): Promise<Explainer> {
    const network = shuffleNetV2({ variant, width, classes });
    const shape = { batch: 1, imageSize: image_size } as const;
    const table = compile(network, { ...shape, mode: "infer" });
    const program = compile(withProbes(network, EXPLAINED_LAYERS), {
      ...shape,
      mode: "train",
      statistics: "moving",
      // The gradient of a probe is all that is asked for; nothing before the first has one.
      freeze: { through: EXPLAINED_LAYERS[0] },
      keep: EXPLAINED_LAYERS,
    });
    const run = backend.train(program, { threads });
    try {
      await run.writeState(probedWeights(weights, table, program));
    } catch (error) {
      run.close();
      throw error;
    }
    return new Explainer(program, run);
  }

  /**
   * @param image [1, size, size, 3], as the network is fed (inference/evaluate.ts)
   * @param output the class asked about
   */
  async explain(image: Uint8Array, output: number): Promise<Explanation> {
    const { classes } = this.#program;
    if (!Number.isInteger(output) || output < 0 || output >= classes) {
      throw new UsageError({
        what: "the network has no such output",
        expected: `0 to ${classes - 1}`,
        found: `${output}`,
      });
    }
    await this.#run.computeGradients(
      { images: image, labels: Int32Array.of(output) },
      { labelSmoothing: 0, weightDecay: 0, gradientOf: "logit" },
    );
    const { parameters, gradients } = await this.#run.readState();
    const maps = EXPLAINED_LAYERS.map((layer) => {
      const map = this.#activation(layer);
      const { offset } = this.#parameter(`${probeOf(layer)}.beta`);
      // Of each channel the sum over its pixels.
      const slopes = gradients.subarray(offset, offset + map.channels);
      const pixels = map.height * map.width;
      const values = weighedSum(map.values, slopes, pixels).map((value) => Math.max(0, value) / pixels);
      return [layer, { layer, height: map.height, width: map.width, values }] as const;
    });
    const { values, height, width, channels } = this.#activation("conv5");
    const { offset } = this.#parameter("classifier.weight");
    const row = parameters.subarray(offset + output * channels, offset + (output + 1) * channels);
    return {
      logits: this.#run.logits(),
      activation: { layer: "conv5", height, width, values: weighedSum(values, row, height * width) },
      gradCam: Object.fromEntries(maps) as Explanation["gradCam"],
    };
  }

  close(): void {
    this.#run.close();
  }

  /** [channels, height, width] of the last picture. */
  #activation(layer: ExplainedLayer) {
    const planes = keptPlanes(this.#program, layer);
    const { height, width } = this.#program.planes[planes[0] as number] as Plane;
    return { channels: planes.length, height, width, values: this.#run.kept(layer) };
  }

  #parameter(name: string): Parameter {
    const found = this.#program.parameters.find((each) => each.name === name);
    if (found === undefined) throw new RangeError(`the program has no parameter "${name}"`);
    return found;
  }
}

/** sum over i of weights[i] * maps[i, p]: [pixels] */
function weighedSum(maps: Float32Array, weights: Float32Array, pixels: number): Float32Array {
  return Float32Array.from({ length: pixels }, (_, p) =>
    weights.reduce((sum, weight, i) => sum + weight * (maps[i * pixels + p] as number), 0),
  );
}
