/**
 * A checkpoint of ours as TensorFlow's; names, layouts and files: tf-checkpoint.ts.
 */

import { resolve } from "node:path";

import { asResourceError, makeFolder } from "../core/durable.js";
import { UsageError } from "../core/error.js";
import type { ParameterTable } from "../models/initialise.js";
import type { Checkpoint } from "../run/checkpoint-state.js";
import { loadTraining, loadWeights } from "../run/load-checkpoint.js";
import { layoutOf } from "./fill.js";
import { type TfState, writeTfCheckpoint, type WriteTfOptions } from "./tf-checkpoint.js";

/**
 * Writes `folder/model.ckpt-STEP` and the file `checkpoint`. One set of weights (`best/`) is written as its own averages,
 * since the lineage evaluates averages.
 *
 * @returns the prefix
 * @throws UsageError for a network that the lineage does not have, CheckpointError, ResourceError
 */
export async function exportTfCheckpoint(
  checkpoint: Checkpoint,
  folder: string,
  options: WriteTfOptions = {},
): Promise<string> {
  const { model, step } = checkpoint.state;
  if (model.variant !== "tensorflow") {
    throw new UsageError({
      what: "TensorFlow's lineage has another network: these weights would load there and score worse",
      where: checkpoint.path,
      expected: "a network of --variant tensorflow",
      found: model.variant,
      safe: "Nothing was written",
      hint: "Export it as safetensors or ONNX",
    });
  }
  const layout = layoutOf(model.variant, model.width, model.classes);
  const state = await tfStateOf(checkpoint, layout);
  const words = { safe: "Nothing was written", hint: "Name another folder, or one that you may write into" };
  await makeFolder(resolve(folder)).catch((error: unknown) => {
    throw asResourceError(error, folder, words);
  });
  return writeTfCheckpoint(resolve(folder), layout, step, state, options);
}

/** All of training that a checkpoint holds; one set of weights stands for its averages too. */
export async function tfStateOf(checkpoint: Checkpoint, layout: ParameterTable): Promise<TfState> {
  if (checkpoint.state.kind === "training") return loadTraining(checkpoint, layout);
  const weights = await loadWeights(checkpoint, layout);
  return { ...weights, averages: weights.parameters };
}
