/**
 * docs/parameters.md and docs/zh-CN/parameters.md: every setting of a run, from the one table (settings/settings.ts).
 *
 * `riffle help parameters [zh-CN]` prints them, scripts/parameters-pages.mjs writes them, and a test fails when the
 * files and the table differ.
 */

import { valuesInRecipes } from "../settings/recipe.js";
import { expectation, type Group, groups, type Setting } from "../settings/setting-kinds.js";
import { type SettingName, settingNames, settings } from "../settings/settings.js";
import { groupTitles } from "./command.js";
import { chineseGroups, chineseSettings, chineseUnits } from "./settings-zh.js";

export const languages = ["en", "zh-CN"] as const;
type Language = (typeof languages)[number];

/** What differs between the languages, besides the rows. */
interface Words {
  readonly intro: readonly string[];
  readonly head: readonly string[];
  group(group: Group): string;
  effect(name: SettingName): string;
  /** What holds where there is no default. */
  unset(name: SettingName): string;
  values(name: SettingName): string;
  unit(unit: string): string;
  readonly otherwise: string;
}

const english: Words = {
  intro: [
    "# Parameters",
    "",
    "Every parameter of a run: of `riffle train`, `riffle evaluate` and `riffle predict`, as the column `of` says. Written `--batch_size 64`, " +
      "`--batch_size=64` or `--batch-size 64`. Generated from `src/settings/settings.ts` by " +
      "`node scripts/parameters-pages.mjs`; do not edit. [中文](zh-CN/parameters.md)",
    "",
    "The documented command line names no command: `riffle --mode train …` is `riffle train --recipe documented …` (another " +
      "recipe may be given), `riffle --mode evaluate …` is `riffle evaluate …`. Two sets of defaults were published, the option table and the code; they are the recipes " +
      "`documented` and `original`. A parameter that is given wins over the recipe. Without `--recipe`, `fine-tune` holds with " +
      "`--init_from`, else `small-set` below 100,000 training pictures, else `documented`. The rate of a recipe belongs to its batch: " +
      "with another `--batch_size` it is scaled in proportion unless `--lr` is given; `documented` and `original` keep theirs and warn. " +
      "With several shards the rate belongs to all pictures of a step; `documented` and `original` multiply theirs, and their final rate, by the shards. " +
      "Both `fine-tune` and `small-set` go by the number of pictures (docs/recipes.md). `npx riffle-vision help recipes NAME` prints one in full.",
  ],
  head: ["parameter", "also", "of", "values", "default", "effect"],
  group: (group) => groupTitles[group],
  effect: (name) => settings[name].help,
  unset: (name) => settings[name].source,
  values: (name) => expectation(settings[name]),
  unit: (unit) => ` ${unit}`,
  otherwise: "else",
};

const chinese: Words = {
  intro: [
    "# 参数",
    "",
    "一次运行的全部参数，属于 `riffle train`、`riffle evaluate` 或 `riffle predict`（见“用于”一栏）。可写作 `--batch_size 64`、`--batch_size=64` 或 " +
      "`--batch-size 64`。本页由 `node scripts/parameters-pages.mjs` 根据 `src/settings/settings.ts` 生成，请勿手工修改。" +
      "[English](../parameters.md)",
    "",
    "原文档的命令行不带子命令：`riffle --mode train …` 即 `riffle train --recipe documented …`（也可另给配方），`riffle --mode evaluate …` 即 " +
      "`riffle evaluate …`。原系统公布过两套默认值，分别来自参数表和代码，对应这里的两个配方 `documented` 与 `original`。" +
      "命令行给出的参数优先于配方。未给出 `--recipe` 时，给出 `--init_from` 用 `fine-tune`，否则训练图像少于 100,000 张用 `small-set`，其余用 `documented`。" +
      "配方的学习率与其批大小对应：`--batch_size` 改变而未给出 `--lr` 时按比例缩放；`documented` 与 `original` 保持原值并给出警告。" +
      "有多个分片时，学习率与一步的全部图像数对应；`documented` 与 `original` 将学习率和最终学习率乘以分片数。" +
      "`fine-tune` 与 `small-set` 的部分取值随图像数量变化（见 recipes.md）。" +
      "`npx riffle-vision help recipes 名称` 会打印一个配方的全部取值。",
  ],
  head: ["参数", "别名", "用于", "取值", "默认值", "作用"],
  group: (group) => chineseGroups[group],
  effect: (name) => chineseSettings[name].help,
  unset: (name) => chineseSettings[name].unset ?? "无",
  values: (name) => {
    const { type, choices, range: [minimum, maximum] = [] }: Setting<unknown> = settings[name];
    if (type === "choice") return (choices ?? []).join("、");
    if (type === "boolean") return "true 或 false";
    if (type === "path") return "路径";
    if (type === "text") return "文本";
    const kind = type === "integer" ? "整数" : "数";
    if (minimum === undefined) return kind;
    return maximum === undefined ? `不小于 ${minimum} 的${kind}` : `${minimum} 到 ${maximum} 的${kind}`;
  },
  unit: (unit) => ` ${chineseUnits[unit] ?? unit}`,
  otherwise: "其余",
};

/** Markdown; tables are not aligned. */
export function parametersPage(language: Language): string {
  const words = language === "en" ? english : chinese;
  const lines = [...words.intro];
  for (const group of groups) {
    lines.push("", `## ${words.group(group)}`, "", row(words.head), row(words.head.map(() => "---")));
    for (const name of settingNames.filter((each) => settings[each].group === group)) {
      const { aliases = [], commands }: Setting<unknown> = settings[name];
      lines.push(
        row([
          `\`${name}\``,
          aliases.map((alias) => `\`${alias}\``).join(", "),
          commands.join(", "),
          words.values(name),
          defaults(name, words),
          words.effect(name),
        ]),
      );
    }
  }
  return `${lines.join("\n")}\n`;
}

/** "128 images; small-set: 32". */
function defaults(name: SettingName, words: Words): string {
  const { default: fallback, unit }: Setting<unknown> = settings[name];
  const withUnit = (value: unknown): string => String(value) + (unit === undefined ? "" : words.unit(unit));
  const otherwise = fallback === undefined ? words.unset(name) : withUnit(fallback);
  const { byValue, isComplete } = valuesInRecipes(name);
  if (byValue.size === 0) return otherwise;
  if (byValue.size === 1 && isComplete) return withUnit([...byValue.keys()][0]);
  const parts = [...byValue].map(([value, of]) => `${of.join(", ")}: ${withUnit(value)}`);
  return [...parts, ...(isComplete ? [] : [`${words.otherwise}: ${otherwise}`])].join("; ");
}

function row(cells: readonly string[]): string {
  return `| ${cells.map((cell) => cell.replace(/[|*]/g, "\\$&").replaceAll("<", "&lt;")).join(" | ")} |`;
}
