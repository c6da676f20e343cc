/**
 * What a new run says about itself before it begins: that it has few pictures, what to expect of that, and what would
 * be better, as a command.
 */

import { shellWord } from "../core/printable.js";
import { shortPath } from "../core/short-path.js";
import { settingNames, settings as table } from "../settings/settings.js";
import { published } from "../weights/published.js";
import type { Plan } from "./plan.js";

/** Below this many training pictures weights of elsewhere are worth a word. */
const FEW = 1000;

/** Sentences and commands, in the order to read them. */
export function notesOn({ settings, origins, data, runDir }: Plan): string[] {
  const { init_from, synthetic, width } = settings;
  const images = data.train.size;
  if (images >= FEW || init_from !== undefined || synthetic) return [];
  // What says how to learn belongs to learning from nothing; the network is the one that the weights are of.
  const kept = settingNames.filter(
    (name) =>
      origins[name] === "given" &&
      !["learning", "ranks"].includes(table[name].group) &&
      !["log_dir", "variant", "version", "init_from", "resume"].includes(name),
  );
  const options = kept.map((name) => {
    const value = settings[name];
    const word = table[name].type === "path" ? shortPath(String(value)) : String(value);
    return `--${name} ${shellWord(word)}`;
  });
  const fresh = `${shortPath(runDir)}-from-weights`;
  return [
    `${images} pictures are few to learn from nothing: 245 pictures of 2 classes reach about 67 %, with weights of ` +
      "ImageNet to start from about 95 % (docs/recipes.md). With those:",
    `npx riffle-vision finetune ${options.join(" ")} --from ${published[width].name} --log_dir ${shellWord(fresh)}`,
  ];
}
