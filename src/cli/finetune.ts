/** `riffle finetune`: `riffle train` from published weights, in one command for a folder of photographs. */

import { UsageError } from "../core/error.js";
import { settingsOf } from "../settings/settings.js";
import type { CliCommand, Invocation } from "./command.js";
import { runTraining } from "./train.js";

/** Whose weights are taken where none are named. */
const USUAL_WEIGHTS = "imagenet";

export const finetuneCommand: CliCommand = {
  name: "finetune",
  arguments: "[photos]",
  purpose:
    "Trains a network on a folder of photographs, one folder per class, from weights that know ImageNet's pictures.",
  examples: [
    "riffle finetune photos",
    "riffle finetune photos --from torchvision/0.5x --log_dir runs/small",
    "riffle finetune photos --from model_1p --log_dir runs/further",
  ],
  // A run that goes on is `train --resume`'s, and noise is nothing to learn from.
  settings: settingsOf("train").filter((name) => name !== "resume" && name !== "synthetic"),
  defaults: { data_dir: "the folder named first", recipe: "fine-tune", init_from: USUAL_WEIGHTS },
  async run(invocation, terminal) {
    const { settings } = invocation;
    return runTraining({ init_from: USUAL_WEIGHTS, ...settings, ...dataOf(invocation) }, terminal);
  },
};

/** The folder, in whichever of the two ways it was given. @throws UsageError */
function dataOf({ arguments: [photos], settings }: Invocation): { readonly data_dir?: string } {
  if (photos !== undefined && settings.data_dir !== undefined) {
    throw new UsageError({
      what: "the folder of pictures is given twice",
      where: "option --data_dir",
      expected: "one of the two",
      found: `${photos} and --data_dir ${settings.data_dir}`,
      safe: "Nothing was fetched or written",
    });
  }
  if (photos !== undefined) return { data_dir: photos };
  if (settings.data_dir !== undefined || settings.train_data_dir !== undefined) return {};
  throw new UsageError({
    what: "there are no pictures to learn from",
    where: "riffle finetune",
    expected: "a folder with a folder of pictures per class",
    found: "nothing",
    safe: "Nothing was fetched or written",
    hint: "riffle finetune photos",
  });
}
