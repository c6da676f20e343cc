/** `riffle help [topic] [name]`: the commands, one command's options, the recipes, or the page of all parameters. */

import { UsageError } from "../core/error.js";
import { type RecipeName, recipes, smallSetLimit } from "../settings/recipe.js";
import { resolveSettings } from "../settings/resolve-settings.js";
import { readSetting } from "../settings/read-settings.js";
import { settingNames, settings } from "../settings/settings.js";
import type { CliCommand } from "./command.js";
import { languages, parametersPage } from "./parameters-page.js";
import type { Terminal } from "./terminal.js";

/** `showHelp` prints the help of one command, or of all for undefined. */
export function helpCommand(showHelp: (command: string | undefined) => boolean): CliCommand {
  return {
    name: "help",
    arguments: "[topic] [name]",
    purpose: "Explains a command, the recipes or one of them, or all parameters (in English or zh-CN).",
    examples: [
      "npx riffle-vision help train",
      "npx riffle-vision help recipes original",
      "npx riffle-vision help parameters zh-CN",
    ],
    run(invocation, terminal) {
      const [topic, name] = invocation.arguments;
      if (topic === "recipes" && name !== undefined) printRecipe(readSetting("recipe", name), terminal);
      else if (topic === "recipes") printRecipes(terminal);
      else if (topic === "parameters") printParameters(name ?? "en", terminal);
      else if (!showHelp(topic)) {
        throw new UsageError({
          what: `there is no help on ${JSON.stringify(topic)}`,
          expected: "a command, recipes or parameters",
          hint: "npx riffle-vision help lists the commands",
        });
      }
      return Promise.resolve(0);
    },
  };
}

/** One row per setting that any recipe names, one column per recipe. */
function printRecipes(terminal: Terminal): void {
  const names = Object.keys(recipes) as RecipeName[];
  for (const name of names) terminal.emit({ recipe: name, ...recipes[name] });

  terminal.print("A recipe fills in what the command line leaves out: --recipe NAME.");
  terminal.print();
  for (const name of names) {
    terminal.print(terminal.colour.bold(name), `: ${recipes[name].title}`);
    terminal.print(`  from: ${recipes[name].source}`);
    for (const line of drawnLines(name)) terminal.print(line);
  }
  const rows = settingNames
    .filter((setting) => names.some((name) => recipes[name].values[setting] !== undefined))
    .map((setting) => [setting, ...names.map((name) => String(recipes[name].values[setting] ?? "-"))]);
  terminal.print();
  terminal.table({ head: ["", ...names], rows, ruled: true, splits: true });
  terminal.print();
  terminal.print("-  the option's own default holds (npx riffle-vision train --help all).");
}

/** What a recipe has where steps learn a new classifier from nothing. */
function drawnLines(name: RecipeName): string[] {
  const values = Object.entries(recipes[name].forDrawn ?? {}).map((each) => each.join(" "));
  return values.length === 0 ? [] : [`  where a new classifier is drawn, not solved: ${values.join(", ")}`];
}

/** Every setting with the value that the recipe stands for. */
function printRecipe(name: RecipeName, terminal: Terminal): void {
  const { title, source } = recipes[name];
  // Of a set large enough for every recipe: only --recipe itself looks at its size.
  const { settings: values, origins } = resolveSettings({ recipe: name }, smallSetLimit);
  terminal.emit({ recipe: name, title, source, values, origins });
  terminal.print(terminal.colour.bold(name), `: ${title}`);
  terminal.print(`  from: ${source}`);
  for (const line of drawnLines(name)) terminal.print(line);
  terminal.print();
  const rows = settingNames.map((setting) => [
    setting,
    String(values[setting] ?? "-"),
    origins[setting] === "default" ? settings[setting].source : `recipe ${name}`,
  ]);
  terminal.table({ head: ["", "value", "from"], rows, ruled: true });
}

function printParameters(name: string, terminal: Terminal): void {
  const language = languages.find((each) => each.toLowerCase() === name.toLowerCase());
  if (language === undefined) {
    throw new UsageError({
      what: `there is no page of parameters in ${JSON.stringify(name)}`,
      expected: languages.join(" or "),
    });
  }
  if (!terminal.json) terminal.page(parametersPage(language));
}
