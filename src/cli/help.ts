/** `riffle help [topic]`: the commands, one command's options, or the recipes as tables. */

import Table from "cli-table3";

import { UsageError } from "../core/error.js";
import { type RecipeName, recipes } from "../train/recipe.js";
import { settingNames } from "../train/settings.js";
import type { CliCommand } from "./command.js";
import type { Terminal } from "./terminal.js";

/** `showHelp` prints the help of one command, or of all for undefined. */
export function helpCommand(showHelp: (command: string | undefined) => boolean): CliCommand {
  return {
    name: "help",
    arguments: "[topic]",
    purpose: "Explains a command, or the recipes.",
    examples: ["riffle help", "riffle help train", "riffle help recipes"],
    run(invocation, terminal) {
      const [topic] = invocation.arguments;
      if (topic === "recipes") printRecipes(terminal);
      else if (!showHelp(topic)) {
        throw new UsageError({
          what: `there is no help on ${JSON.stringify(topic)}`,
          expected: "a command, or recipes",
          hint: "riffle help lists the commands",
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

  terminal.print("A recipe fills in what the command line leaves out: --recipe NAME.\n");
  for (const name of names) {
    terminal.print(`${terminal.colour.bold(name)}: ${recipes[name].title}`);
    terminal.print(`  from: ${recipes[name].source}`);
  }
  const rows = settingNames.filter((setting) =>
    names.some((name) => recipes[name].values[setting] !== undefined),
  );
  const table = new Table({ head: ["", ...names], style: { head: [], border: [] } });
  for (const setting of rows) {
    table.push([setting, ...names.map((name) => String(recipes[name].values[setting] ?? "-"))]);
  }
  terminal.print(`\n${table.toString()}\n`);
  terminal.print("-  the option's own default holds (riffle train --help).");
}
