/** A command's page of help. */

import type { Command, Help, Option } from "commander";

import { RIFFLE } from "../core/call.js";
import { describeDefault, type RecipeName, recipes } from "../settings/recipe.js";
import { findSetting, readSetting } from "../settings/read-settings.js";
import type { Setting } from "../settings/setting-kinds.js";
import { type SettingName, settings } from "../settings/settings.js";
import type { CliCommand } from "./command.js";

/** Purpose, examples, then options under what they touch: the most used, or with `--help all` every one. */
export function formatHelp(spec: CliCommand, command: Command, helper: Help): string {
  const width = Math.max(50, Math.min(helper.helpWidth ?? 80, 110));
  const lines = [spec.purpose, "", `Usage: ${usageOf(spec)}`, "", "Examples"];
  for (const example of spec.examples) lines.push(`  ${example}`);
  const usual = spec.defaults?.recipe;
  const recipe = recipeAsked(command) ?? recipeNames.find((name) => name === usual);
  const takesRecipe =
    spec.settings?.includes("recipe") === true && (usual === undefined || recipe !== undefined);
  if (takesRecipe) {
    lines.push(
      "",
      recipe === undefined
        ? "Defaults are those of recipe fine-tune with --init_from, small-set below 100,000 training pictures, else documented."
        : `Defaults are those of recipe ${recipe}.`,
      `--recipe NAME --help shows another recipe's, ${RIFFLE} help recipes all of them.`,
    );
  }

  const groups = new Map<string, Option[]>();
  const every = helper.visibleOptions(command);
  const isWhole = isAllAsked(command) || every.length <= FEW || spec.showsEveryOption === true;
  const shown = isWhole ? every : every.filter(isOftenUsed);
  for (const option of shown) {
    const title = option.helpGroupHeading ?? "Output";
    groups.set(title, [...(groups.get(title) ?? []), option]);
  }
  const indent = 26;
  for (const [title, options] of groups) {
    lines.push("", title);
    for (const option of options) {
      const setting = findSetting(option.attributeName());
      const isOfRecipe = recipe !== undefined && setting !== undefined && spec.settings?.includes(setting);
      const text = (isOfRecipe ? settingHelp(setting, spec, recipe) : option.description)
        .split("\n")
        .flatMap((line) => helper.boxWrap(line, width - indent).split("\n"));
      const flags = `  ${option.flags}${setting === "init_from" ? ", --from" : ""}`;
      if (flags.length < indent) lines.push(flags.padEnd(indent) + (text.shift() ?? ""));
      else lines.push(...choicesIn(flags, width));
      for (const line of text) lines.push(" ".repeat(indent) + line);
    }
  }
  if (shown.length < every.length) {
    const more = every.length - shown.length;
    lines.push("", `${more} more options: ${RIFFLE} ${spec.name} --help all`);
  }
  return `${lines.join("\n")}\n`;
}

/** "  --augment <tensorflow|torchvision|none>" in lines, broken between choices where it is longer than one. */
function choicesIn(flags: string, width: number): string[] {
  const lines: string[] = [];
  for (const part of flags.split(/(?<=\|)/)) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + part.length <= width) lines[lines.length - 1] = last + part;
    else lines.push(last === undefined ? part : `      ${part}`);
  }
  return lines;
}

const recipeNames = Object.keys(recipes) as RecipeName[];

/** Settings that help shows first, of a command with more options than are read. */
const OFTEN_USED: ReadonlySet<string> = new Set<SettingName>([
  "data_dir",
  "val_split",
  "max_bad_images",
  "image_size",
  "width",
  "init_from",
  "recipe",
  "batch_size",
  "lr",
  "max_epochs",
  "budget",
  "seed",
  "log_dir",
  "resume",
  "precision_mode",
  "threads",
]);

/** So many options are read from beginning to end. */
const FEW = 14;

/** Options that are no settings are a command's own, and few. */
function isOftenUsed(option: Option): boolean {
  const setting = findSetting(option.attributeName());
  return setting === undefined || OFTEN_USED.has(setting);
}

/** `--help all` */
function isAllAsked({ args }: Command): boolean {
  const at = args.findIndex((argument) => argument === "--help" || argument === "-h");
  return at >= 0 && args[at + 1] === "all";
}

/** The recipe named on the command line that asks for help. */
function recipeAsked(command: Command): RecipeName | undefined {
  const { recipe } = command.opts<Record<string, string | true>>();
  return typeof recipe === "string" ? readSetting("recipe", recipe) : undefined;
}

/** "npx riffle-vision predict <run> <files...> [options]" */
export function usageOf({ name, arguments: positional = "" }: CliCommand): string {
  return [RIFFLE, name, positional, "[options]"].filter((word) => word !== "").join(" ");
}

/** What a setting does and its default here, or as `recipe` has it. */
export function settingHelp(
  name: SettingName,
  { defaults, aliases: further }: CliCommand,
  recipe?: RecipeName,
): string {
  const setting: Setting<unknown> = settings[name];
  // `--from` is what documents say, and stands beside the option's name.
  const aliases = [
    ...(setting.aliases ?? []).filter((alias) => alias !== "from"),
    ...Object.keys(further ?? {}).filter((alias) => further?.[alias] === name),
  ];
  const own = defaults?.[name];
  return described(
    setting.help + (aliases.length > 0 ? `; also --${aliases.join(", --")}` : ""),
    own === undefined ? describeDefault(name, recipe) : [own, setting.unit].filter(Boolean).join(" "),
  );
}

export function described(help: string, fallback: string | undefined): string {
  return fallback === undefined ? help : `${help}\ndefault: ${fallback}`;
}
