/**
 * What a command is to the command line, and how one becomes a parser and a page of help.
 *
 * Options that are settings of a run come from the one table in settings/settings.ts, with their unit,
 * default and source; a command adds only options of its own. `--batch_size` and `--batch-size` are
 * the same option, and so are the aliases of the table.
 */

import { Command, CommanderError, type Help, Option } from "commander";

import { UsageError } from "../core/error.js";
import { atHome } from "../core/home.js";
import { describeDefault, type RecipeName, recipes } from "../settings/recipe.js";
import { findSetting, readSetting, readSettings, valuesOf } from "../settings/read-settings.js";
import { type Group, type Setting } from "../settings/setting-kinds.js";
import { type GivenSettings, type SettingName, settings } from "../settings/settings.js";
import type { Terminal } from "./terminal.js";

/** One command of `riffle`, one file each. */
export interface CliCommand {
  readonly name: string;
  /** Positional arguments in commander's notation: "<run> [files...]". */
  readonly arguments?: string;
  /** The first line of help: what the command does. */
  readonly purpose: string;
  readonly examples: readonly [string, string, string];
  /** Rows of the settings table that are options here. */
  readonly settings?: readonly SettingName[];
  /** Defaults of these settings where they are not the table's: what help says of them. */
  readonly defaults?: { readonly [K in SettingName]?: string | number };
  /** Further names of these settings, besides the table's aliases. */
  readonly aliases?: Readonly<Record<string, SettingName>>;
  readonly options?: OwnOptions;
  /** Does it, and returns the exit code. */
  run(invocation: Invocation, terminal: Terminal): Promise<number>;
}

/** By heading of the help, then by name. */
export type OwnOptions = Readonly<Record<string, Readonly<Record<string, OwnOption>>>>;

/** An option that is no setting of a run. */
interface OwnOption {
  /** One letter: `-m`. */
  readonly short?: string;
  /** Shown for its value, "<n>"; absent for a switch. */
  readonly value?: string;
  readonly help: string;
  /** What holds without it, in words. */
  readonly default?: string;
}

export interface Invocation {
  readonly arguments: readonly string[];
  /** Settings given, checked against the table. */
  readonly settings: GivenSettings;
  /** Own options given: true for a switch, else the text. */
  readonly own: ReadonlyMap<string, string | true>;
  readonly debug: boolean;
}

export const groupTitles: Readonly<Record<Group, string>> = {
  data: "Data",
  pictures: "Pictures",
  network: "Network",
  learning: "Learning",
  run: "Run",
  ranks: "Several processes",
};

const OUTPUT: OwnOptions = {
  Output: {
    json: { help: "one JSON object a line on stdout; progress stays on stderr" },
    debug: { help: "show the stack of a failure" },
  },
};

/** The options of a command that are no settings, those of every command last. */
export function ownOptions({
  options = {},
}: CliCommand): (OwnOption & { readonly group: string; readonly name: string })[] {
  return [options, OUTPUT].flatMap((groups) =>
    Object.entries(groups).flatMap(([group, own]) =>
      Object.entries(own).map(([name, option]) => ({ group, name, ...option })),
    ),
  );
}

/** The parser of all commands; `ended` receives the exit code of the one that ran. */
export function buildParser(
  commands: readonly CliCommand[],
  version: string,
  terminal: Terminal,
  ended: (exitCode: number) => void,
): Command {
  const program = new Command("riffle")
    .description("Trains, evaluates and runs ShuffleNet V2 image classifiers.")
    .version(version, "--version", "print the version")
    .helpOption("-h, --help", "print this help")
    .helpCommand(false)
    .usage("COMMAND [options]")
    .addHelpText("after", "\nriffle COMMAND --help explains one; riffle help recipes, the sets of defaults.")
    // `--version` is the program's before the command, and a setting of `train` after it.
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({ writeErr: () => {}, writeOut: (text) => terminal.page(text) });
  for (const spec of commands) {
    const command = program
      .command(`${spec.name} ${spec.arguments ?? ""}`.trim())
      .description(spec.purpose)
      .helpOption("-h, --help", "print this help")
      .configureHelp({ formatHelp: (command, helper) => formatHelp(spec, command, helper) })
      .action(async (...received: unknown[]) => {
        ended(await spec.run(readInvocation(spec, received.at(-1) as Command), terminal));
      });
    for (const name of spec.settings ?? []) command.addOption(settingOption(name, spec));
    for (const { group, name, short, value, help, default: fallback } of ownOptions(spec)) {
      const flags = `${short ? `-${short}, ` : ""}--${name}${value ? ` ${value}` : ""}`;
      command.addOption(new Option(flags, described(help, fallback)).helpGroup(group));
    }
  }
  return program;
}

/**
 * A command line that names no command, as the documented one does not (`--mode train --data_dir …`), with the command
 * that its mode means, and with its recipe unless another is named; and `train --mode evaluate` as what it is.
 */
function withCommand(argv: readonly string[]): readonly string[] {
  const [first = ""] = argv;
  const isMode = (argument: string): boolean => /^--mode(=|$)/.test(argument);
  const at = argv.findIndex(isMode);
  const mode = at < 0 ? undefined : (argv[at]?.split("=")[1] ?? argv[at + 1]);
  const command = mode === "evaluate" ? "evaluate" : "train";
  if (first === "train") return [command, ...argv.slice(1)];
  const isBare =
    first.startsWith("--") &&
    (at >= 0 || argv.some((argument) => /^--(train_)?data[_-]dir|^--synthetic/.test(argument)));
  if (!isBare) return argv;
  // Whoever types the documented line means what its documentation says.
  const isTold =
    command === "evaluate" ||
    argv.some((argument) => /^--(recipe|resume|init[_-]from|from)(=|$)/.test(argument));
  return [command, ...(isTold ? [] : ["--recipe", "documented"]), ...argv];
}

/** The command that a command line names or means; undefined where it is for all of them, `--help`. */
export function commandOf(argv: readonly string[]): string | undefined {
  const [first] = withCommand(argv);
  return first?.startsWith("-") === true ? undefined : first;
}

/** Options in the table's spelling, whichever of its spellings was typed. */
export function normaliseArguments(commands: readonly CliCommand[], given: readonly string[]): string[] {
  const argv = withCommand(given);
  const command = commands.find((c) => c.name === argv.find((argument) => !argument.startsWith("-")));
  const end = argv.indexOf("--");
  return argv.map((argument, i) => {
    const [, name, value = ""] = /^--([a-z][\w-]*)(=.*)?$/is.exec(argument) ?? [];
    if (name === undefined || (end >= 0 && i > end)) return argument;
    const plain = name.replaceAll("-", "_");
    return `--${command?.aliases?.[plain] ?? findSetting(plain) ?? plain}${value}`;
  });
}

/** The failure a user is told of where the parser refuses; undefined where help or the version was asked for. */
export function parserFailure(error: CommanderError): UsageError | undefined {
  if (error.exitCode === 0) return undefined;
  const [message = "", suggestion = ""] = error.message.replace(/^error: /, "").split("\n");
  const similar = /Did you mean (?:one of )?(.*)\?/.exec(suggestion)?.[1];
  const what = message.replaceAll("'", "");
  return new UsageError({
    what: similar === undefined ? what : `${what}; did you mean ${similar}?`,
    ...(similar === undefined
      ? { hint: "riffle --help lists the commands, riffle COMMAND --help the options" }
      : {}),
  });
}

/** The options of an invocation as a command line again. */
export function argumentsOf({ settings: given, own }: Invocation): string[] {
  return [
    ...[...own].map(([name, value]) => (value === true ? `--${name}` : `--${name}=${value}`)),
    ...settingArguments(given),
  ];
}

export function settingArguments(given: GivenSettings): string[] {
  return Object.entries(valuesOf(given)).map(([name, value]) => `--${name}=${String(value)}`);
}

/** Reads a command line of one command, its name first. @throws UsageError; a CommanderError where help is asked for. */
export async function readCommandLine(
  spec: CliCommand,
  argv: readonly string[],
  terminal: Terminal,
): Promise<Invocation | undefined> {
  let read: Invocation | undefined;
  const run = (invocation: Invocation): Promise<number> => {
    read = invocation;
    return Promise.resolve(0);
  };
  const parser = buildParser([{ ...spec, run }], "", terminal, () => undefined);
  await parser.parseAsync(normaliseArguments([spec], argv), { from: "user" });
  return read;
}

/** The value of an own option that is a whole number from 1, or `fallback` where it is not given. */
export function wholeNumber({ own }: Invocation, name: string, fallback: number): number {
  const text = own.get(name);
  if (text === undefined) return fallback;
  const value = Number(text);
  if (text !== true && /^\d+$/.test(text) && Number.isSafeInteger(value) && value > 0) return value;
  throw wrongValue(name, text, "a whole number from 1");
}

/** The value of an own option that is one of a few words; undefined where it is not given. */
export function choice<T extends string>(
  { own }: Invocation,
  name: string,
  words: readonly T[],
): T | undefined {
  const text = own.get(name);
  if (text === undefined) return undefined;
  const word = words.find((one) => one === text);
  if (word !== undefined) return word;
  throw wrongValue(name, text, words.join(", "));
}

/** That an own option's value is none of those expected. */
export function wrongValue(name: string, text: string | true, expected: string): UsageError {
  return new UsageError({
    what: `--${name} cannot be ${JSON.stringify(text)}`,
    where: `option --${name}`,
    expected,
    found: JSON.stringify(text),
    safe: "Nothing was read or written",
  });
}

function settingOption(name: SettingName, spec: CliCommand): Option {
  const setting: Setting<unknown> = settings[name];
  const value = {
    integer: "<n>",
    number: "<x>",
    boolean: "[true|false]",
    choice: `<${(setting.choices ?? []).join("|")}>`,
    path: "<path>",
    text: "<text>",
  }[setting.type];
  return new Option(`--${name} ${value}`, settingHelp(name, spec)).helpGroup(groupTitles[setting.group]);
}

/** What a setting does and its default here, or as `recipe` has it. */
function settingHelp(
  name: SettingName,
  { defaults, aliases: further }: CliCommand,
  recipe?: RecipeName,
): string {
  const setting: Setting<unknown> = settings[name];
  const aliases = [
    ...(setting.aliases ?? []),
    ...Object.keys(further ?? {}).filter((alias) => further?.[alias] === name),
  ];
  const own = defaults?.[name];
  return described(
    setting.help + (aliases.length > 0 ? `; also --${aliases.join(", --")}` : ""),
    own === undefined ? describeDefault(name, recipe) : [own, setting.unit].filter(Boolean).join(" "),
  );
}

function described(help: string, fallback: string | undefined): string {
  return fallback === undefined ? help : `${help}\ndefault: ${fallback}`;
}

const recipeNames = Object.keys(recipes) as RecipeName[];

/** How options that take a path show their value. */
const PATHS: ReadonlySet<string> = new Set(["<path>", "<dir>", "<file>", "<file|imagenet>"]);

function readInvocation(spec: CliCommand, command: Command): Invocation {
  const given = command.opts<Record<string, string | true>>();
  const own = ownOptions(spec);
  const ownNames = new Set(own.map(({ name }) => name));
  const paths = new Set(own.filter(({ value = "" }) => PATHS.has(value)).map(({ name }) => name));
  const raw = Object.entries(given).map(([name, value]) =>
    typeof value === "string" && paths.has(name)
      ? ([name, atHome(value)] as const)
      : ([name, value] as const),
  );
  return {
    arguments: command.args.map(atHome),
    // A boolean setting without a value, `--flip`, means true.
    settings: readSettings(Object.fromEntries(raw.filter(([name]) => !ownNames.has(name)))),
    own: new Map(raw.filter(([name]) => ownNames.has(name))),
    debug: given["debug"] === true,
  };
}

/** Purpose, examples, then options under what they touch. */
function formatHelp(spec: CliCommand, command: Command, helper: Help): string {
  const width = Math.max(60, Math.min(helper.helpWidth ?? 80, 110));
  const lines = [spec.purpose, "", `Usage: riffle ${spec.name} ${command.usage()}`.trimEnd(), "", "Examples"];
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
      "--recipe NAME --help shows another recipe's, riffle help recipes all of them.",
    );
  }

  const groups = new Map<string, Option[]>();
  for (const option of helper.visibleOptions(command)) {
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
      const flags = `  ${option.flags}`;
      if (flags.length < indent) lines.push(flags.padEnd(indent) + (text.shift() ?? ""));
      else lines.push(flags);
      for (const line of text) lines.push(" ".repeat(indent) + line);
    }
  }
  return `${lines.join("\n")}\n`;
}

/** The recipe named on the command line that asks for help. */
function recipeAsked(command: Command): RecipeName | undefined {
  const { recipe } = command.opts<Record<string, string | true>>();
  return typeof recipe === "string" ? readSetting("recipe", recipe) : undefined;
}
