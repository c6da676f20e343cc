/**
 * A run that was never trained: every pixel of a picture shows in its logits, where a few steps of training leave them nearly the same
 * for all pictures.
 */

import { mkdirSync } from "node:fs";

import { Draws, streams } from "../../src/core/random.js";
import { initialise, initialStatistics, type ParameterTable } from "../../src/models/initialise.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import type { FlatWeights } from "../../src/models/tensor-names.js";
import { compile } from "../../src/program/compile.js";
import type { ModelDescription } from "../../src/run/checkpoint-state.js";
import { saveCheckpoint } from "../../src/run/checkpoint.js";

export const insects = ["ant", "bee", "beetle", "fly", "moth", "wasp"] as const;

/** Writes `folder`/best, of a 0.5x network that knows {@link insects} at 64 pixels unless told otherwise; returns the folder. */
export async function untrainedRun(
  folder: string,
  pipeline: ModelDescription["pipeline"] = "torchvision",
  { names = insects, size = 64 }: { readonly names?: readonly string[]; readonly size?: number } = {},
): Promise<string> {
  const variant = "torchvision";
  const classes = names.length;
  const network = shuffleNetV2({ variant, width: 0.5, classes });
  const program = compile(network, { batch: 1, imageSize: size, mode: "infer" });
  mkdirSync(folder, { recursive: true });
  await saveCheckpoint(
    folder,
    "best",
    program,
    { kind: "weights", weights: unlikeWeights(program) },
    {
      ...{ step: 1, steps_per_epoch: 1, evaluated_step: -1, scores: null, best: null },
      model: {
        ...{
          variant,
          width: 0.5,
          classes,
          image_size: size,
          eval_resize: Math.round(size / 0.875),
          pipeline,
        },
        ...{ class_names: [...names], exif_orientation: "apply" },
      },
      settings: { average_decay: 0 },
      origins: {},
      data: { fingerprint: "0", train_images: 1 },
    },
  );
  return folder;
}

/**
 * Weights and statistics in which no channel is like another, of sizes that keep activations near 1, and what differs between
 * two pictures: with gammas around 1 that shrinks from unit to unit, to a ten thousandth of the logits.
 */
export function unlikeWeights(table: ParameterTable): FlatWeights {
  const parameters = initialise(table, { version: "he_normal", seed: 5 });
  const statistics = initialStatistics(table);
  const draws = new Draws(5, streams.draw, 0, 0);
  for (const { role, offset, size } of table.parameters) {
    for (let i = offset; i < offset + size; i++) {
      if (role === "gamma") parameters[i] = draws.uniform(1, 2);
      if (role === "beta" || role === "bias") parameters[i] = draws.uniform(-0.2, 0.2);
    }
  }
  const planes = statistics.length / 2;
  for (let i = 0; i < planes; i++) {
    statistics[i] = draws.uniform(-0.3, 0.3);
    statistics[planes + i] = draws.uniform(0.5, 1.5);
  }
  return { parameters, statistics };
}
