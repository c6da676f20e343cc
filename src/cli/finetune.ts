/** `riffle finetune`: `riffle train` from published weights, in one command for a folder of photographs. */

import { UsageError } from "../core/error.js";
import { settingsOf } from "../settings/settings.js";
import type { CliCommand, Invocation } from "./command.js";
import { runTraining } from "./train.js";

/** Whose weights are taken where none are named. */
const USUAL_WEIGHTS = "imagenet";

export const finetuneCommand: CliCommand = {
  name: "finetune",
  arguments: "[data]",
  purpose:
    "Trains a network on a folder of photographs, one folder per class, from weights that know ImageNet's pictures.",
  examples: [
    "npx riffle-vision finetune photos",
    "npx riffle-vision finetune photos --from torchvision/0.5x --log_dir runs/small",
    "npx riffle-vision finetune photos --from model_1p --log_dir runs/further",
  ],
  // A run that goes on is `train --resume`'s, and noise is nothing to learn from.
  settings: settingsOf("train").filter((name) => name !== "resume" && name !== "synthetic"),
  defaults: { data_dir: "the folder named first", recipe: "fine-tune", init_from: USUAL_WEIGHTS },
  async run({ settings }, terminal) {
    refuseNoData(settings);
    return runTraining({ init_from: USUAL_WEIGHTS, ...settings }, terminal);
  },
};

/** @throws UsageError */
export function refuseNoData({ data_dir, train_data_dir }: Invocation["settings"]): void {
  if (data_dir !== undefined || train_data_dir !== undefined) return;
  throw new UsageError({
    what: "there are no pictures to learn from",
    where: "finetune",
    expected: "a folder with a folder of pictures per class",
    found: "nothing",
    safe: "Nothing was fetched or written",
    hint: "npx riffle-vision finetune photos",
  });
}
