/** The command line that repeats a run: what its user gave, and a folder of its own. */

import { shellWord } from "../core/printable.js";
import { settingNames, settings as table } from "../settings/settings.js";
import type { RunStart } from "./history.js";

/** Settings of the recipe by which finetune trains from weights: `train` with them does the same. */
function isFinetune({ recipe, init_from, synthetic }: RunStart["settings"]): boolean {
  return recipe === "fine-tune" && init_from !== undefined && synthetic !== true;
}

/** Settings that say where a run lies or how it goes on, not what it is. */
const NOT_REPEATED: ReadonlySet<string> = new Set(["log_dir", "resume", "rank_size"]);

/**
 * @param folder of the run that is repeated; the new one lies beside it.
 * @param shown a path as it is to stand there
 */
export function repeatCommand(
  { settings, origins, ranks }: Pick<RunStart, "settings" | "origins" | "ranks">,
  folder: string,
  shown: (path: string) => string = (path) => path,
): string {
  const launch = ranks === null || ranks.size === 1 ? "" : `launch --ranks ${ranks.size} -- `;
  const finetune = isFinetune(settings);
  const given = settingNames.flatMap((name) => {
    const value = settings[name];
    // How many shards there are decides the bits, and may have been decided by the number of processes.
    const isGiven = origins[name] === "given" || (name === "shards" && launch !== "");
    if (!isGiven || value === undefined || NOT_REPEATED.has(name)) return [];
    const text = table[name].type === "path" ? shown(String(value)) : String(value);
    if (finetune && name === "data_dir" && !text.startsWith("-")) return [shellWord(text)];
    return [
      `--${finetune && name === "init_from" ? "from" : name}${text.startsWith("-") ? "=" : " "}${shellWord(text)}`,
    ];
  });
  return [
    "npx riffle-vision",
    `${launch}${finetune ? "finetune" : "train"}`,
    ...given,
    `--log_dir ${shellWord(shown(`${folder}-again`))}`,
  ].join(" ");
}
