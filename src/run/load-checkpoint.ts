/** The tensors of a checkpoint on the disk (checkpoint-tensors.ts), in words of a checkpoint where they cannot be read. */

import { join } from "node:path";

import type { TrainingState, Weights } from "../backends/backend.js";
import { closing } from "../core/closing.js";
import { openSafetensors } from "../formats/safetensors-file.js";
import type { SafetensorsFile } from "../formats/safetensors.js";
import type { ParameterTable } from "../models/initialise.js";
import { asCheckpointError } from "./checkpoint-error.js";
import type { Checkpoint } from "./checkpoint-state.js";
import { readTraining, readWeights, weightsFile } from "./checkpoint-tensors.js";

/** All of training, as it was saved, into the arrays given. @throws CheckpointError when the network is another. */
export function loadTraining(
  checkpoint: Checkpoint,
  layout: ParameterTable,
  state?: TrainingState,
): Promise<TrainingState> {
  return withFile(checkpoint, (file, path) => readTraining(file, path, layout, state));
}

/** The weights to use a network with: the averages where they were kept. @throws CheckpointError */
export function loadWeights(checkpoint: Checkpoint, layout: ParameterTable): Promise<Weights> {
  return withFile(checkpoint, (file, path) => readWeights(file, path, checkpoint.state, layout));
}

async function withFile<T>(
  checkpoint: Checkpoint,
  read: (file: SafetensorsFile, path: string) => Promise<T>,
): Promise<T> {
  const path = join(checkpoint.path, weightsFile);
  try {
    return await closing(async (atEnd) => {
      const file = await openSafetensors(path);
      atEnd(() => file.close());
      return read(file, path);
    });
  } catch (error) {
    throw asCheckpointError(error, path);
  }
}
