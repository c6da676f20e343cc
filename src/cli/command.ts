/**
 * What a command is to the command line, and how one becomes a parser and a page of help.
 *
 * Options that are settings of a run come from the one table in settings/settings.ts, with their unit,
 * default and source; a command adds only options of its own. `--batch_size` and `--batch-size` are
 * the same option, and so are the aliases of the table.
 */

import { existsSync } from "node:fs";
import { join } from "node:path";

import { Command, CommanderError, Option } from "commander";

import { isSlow } from "../backends/registry.js";
import { rebuild } from "../core/addon.js";
import { RIFFLE } from "../core/call.js";
import { UsageError } from "../core/error.js";
import { atHome } from "../core/home.js";
import { shellWord } from "../core/printable.js";
import { findSetting, readSetting, readSettings, respelt, valuesOf } from "../settings/read-settings.js";
import { type Group, type Setting } from "../settings/setting-kinds.js";
import { type GivenSettings, type SettingName, settings } from "../settings/settings.js";
import { whatIsMeant } from "../settings/unknown-name.js";
import { isPublishedName } from "../weights/published.js";
import { described, formatHelp, settingHelp, usageOf } from "./help-page.js";
import { knownRunLines, withKnownRuns } from "./known-runs.js";
import type { Terminal } from "./terminal.js";

/** One command of `riffle`, one file each. */
export interface CliCommand {
  readonly name: string;
  /**
   * Positional arguments in commander's notation: "<run> [files...]". One called `data` is the setting `data_dir` where the
   * command has that; of one called `run` or `weights` the runs near by are named when it is missing.
   */
  readonly arguments?: string;
  /** The first line of help: what the command does. */
  readonly purpose: string;
  /** Whether help shows all options at once: of whoever comes with a script's options, and looks for them. */
  readonly showsEveryOption?: boolean;
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
  /** What was taken for something else than it says, a sentence each. */
  readonly remarks: readonly string[];
}

export const groupTitles: Readonly<Record<Group, string>> = {
  data: "Data",
  pictures: "Pictures",
  network: "Network",
  learning: "Learning",
  run: "Run",
  ranks: "Several processes",
};

/** Columns in which an explanation is still wrapped. */
const NARROWEST = 20;

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
  const program = new Command(RIFFLE)
    .description("Trains, evaluates and runs ShuffleNet V2 image classifiers.")
    .version(version, "--version", "print the version")
    .helpOption("-h, --help", "print this help")
    .helpCommand(false)
    .usage("COMMAND [options]")
    .addHelpText(
      "after",
      `\n${RIFFLE} COMMAND --help explains one; ${RIFFLE} help recipes, the sets of defaults.`,
    )
    // `--version` is the program's before the command, and a setting of `train` after it.
    .enablePositionalOptions()
    .exitOverride()
    .configureHelp({ minWidthToWrap: NARROWEST })
    .configureOutput({
      writeErr: () => {},
      writeOut: (text) => terminal.page(text),
      getOutHelpWidth: () => (terminal.columns[0] || undefined) as number,
    });
  for (const spec of commands) {
    const command = program
      .command(`${spec.name} ${spec.arguments ?? ""}`.trim())
      .description(spec.purpose)
      .helpOption("-h, --help", "print this help")
      .configureHelp({
        formatHelp: (command, helper) => formatHelp(spec, command, helper),
        minWidthToWrap: NARROWEST,
      })
      .exitOverride((error) => {
        throw parserFailure(error, spec) ?? error;
      })
      .action(async (...received: unknown[]) => {
        const invocation = readInvocation(spec, received.at(-1) as Command);
        for (const what of invocation.remarks) {
          terminal.emit({ event: "warning", what });
          terminal.warn(what);
        }
        if (spec.settings?.includes("backend") && isSlow(invocation.settings.backend)) {
          terminal.note(`Engine    WebAssembly: the native one is not built, which is faster: ${rebuild}`);
        }
        try {
          ended(await spec.run(invocation, terminal));
        } catch (error) {
          throw withKnownRuns(error, runsNamed(spec, invocation));
        }
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
  if (argv[0] === "help" && argv[2] === "all" && argv.length === 3) return [argv[1] ?? "", "--help", "all"];
  const end = argv.indexOf("--");
  const spelled = argv.map((argument, i) => {
    const [, name, value = ""] = /^--([a-z][\w-]*)(=.*)?$/is.exec(argument) ?? [];
    if (name === undefined || (end >= 0 && i > end)) return argument;
    const plain = name.replaceAll("-", "_");
    return `--${command?.aliases?.[plain] ?? findSetting(plain) ?? plain}${value}`;
  });
  // Where the data are an argument alone, who names them as elsewhere means the same.
  const hasDataAlone =
    argumentsIn(command).includes("<data>") && command?.settings?.includes("data_dir") !== true;
  if (!hasDataAlone) return spelled;
  return spelled.flatMap((argument) => {
    if (argument === "--data_dir") return [];
    return argument.startsWith("--data_dir=") ? [argument.slice("--data_dir=".length)] : [argument];
  });
}

/**
 * The failure a user is told of where the parser of a command, or of them all, refuses; undefined where help or the version
 * was asked for.
 */
export function parserFailure(error: CommanderError, spec?: CliCommand): UsageError | undefined {
  if (error.exitCode === 0) return undefined;
  const [message = "", suggestion = ""] = error.message.replace(/^error: /, "").split("\n");
  if (spec === undefined) {
    const similar = /Did you mean (?:one of )?(.*)\?/.exec(suggestion)?.[1];
    const what = message.replaceAll("'", "");
    return new UsageError({
      what: similar === undefined ? what : `${what}; did you mean ${similar}?`,
      ...(similar === undefined
        ? { hint: `${RIFFLE} --help lists the commands, ${RIFFLE} COMMAND --help the options` }
        : {}),
    });
  }
  const help = `${RIFFLE} ${spec.name} --help`;
  const [, named = ""] = /'(.*)'/s.exec(message) ?? [];
  const usage = [`Usage:   ${usageOf(spec)}`, `Example: ${spec.examples[0]}`];
  switch (error.code) {
    case "commander.unknownOption": {
      const own = ownOptions(spec).map(({ name }) => name);
      const word = named.replace(/^-+/, "").replace(/=.*$/s, "");
      const aliases = (spec.settings ?? []).flatMap(
        (name): readonly string[] => settings[name].aliases ?? [],
      );
      const offered = [...(spec.settings ?? []), ...own, ...aliases, ...Object.keys(spec.aliases ?? {})];
      const meant = whatIsMeant(word, offered, (name) => `--${name}`, spec.name);
      return new UsageError({
        what: `unknown option ${named}${meant}`,
        where: `option ${named}`,
        safe: "Nothing was read or written",
        hint: `${help} all lists the options`,
      });
    }
    case "commander.missingArgument":
      return new UsageError({
        what: `${spec.name} needs <${named}>`,
        table: [...usage, ...(RUN_ARGUMENT.test(`<${named}>`) ? knownRunLines() : [])],
        hint: `${help} explains it`,
      });
    default:
      return new UsageError({
        what: message.replaceAll("'", ""),
        table: usage,
        hint: `${help} explains it`,
      });
  }
}

const RUN_ARGUMENT = /^[<[](run|weights)[\]>]$/;

/** Paths of an invocation that are to be runs. */
function runsNamed(spec: CliCommand, invocation: Invocation): string[] {
  const { settings: given } = invocation;
  const at = argumentsIn(spec).findIndex((word) => RUN_ARGUMENT.test(word));
  const named = at < 0 ? undefined : invocation.arguments[at];
  const others = [given.resume, given.init_from, given.checkpoint_dir];
  // What is evaluated where nothing is named.
  const usual = spec.name === "evaluate" ? (given.log_dir ?? settings.log_dir.default) : undefined;
  const paths = [named, ...others].filter((path) => path !== undefined);
  if (paths.length === 0 && usual !== undefined) return [usual];
  return paths.filter((path) => !isPublishedName(path));
}

function argumentsIn(spec: CliCommand | undefined): string[] {
  return (spec?.arguments ?? "").split(" ").filter((word) => word !== "");
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
  const positional = command.args.map(atHome);
  const typed = Object.fromEntries(raw.filter(([name]) => !ownNames.has(name)));
  // A boolean setting without a value, `--flip`, means true.
  const read = withData(spec, positional, readSettings(typed));
  return {
    arguments: positional,
    settings: read,
    own: new Map(raw.filter(([name]) => ownNames.has(name))),
    debug: given["debug"] === true,
    remarks: respelt(typed),
  };
}

/** Where a command has both, its argument `data` is its setting `data_dir`. @throws UsageError where both are given */
function withData(spec: CliCommand, positional: readonly string[], given: GivenSettings): GivenSettings {
  if (spec.settings?.includes("data_dir") !== true) return given;
  const path = positional[argumentsIn(spec).findIndex((word) => /^[<[]data[\]>]$/.test(word))];
  if (path === undefined) return given;
  const refuse = (what: string, found: string, hint: string): never => {
    throw new UsageError({ what, found, safe: "Nothing was read or written", hint });
  };
  if (given.data_dir !== undefined) {
    const found = `${path} and --data_dir ${given.data_dir}`;
    refuse("there are two answers to where the pictures are", found, "Leave one of them out");
  }
  if (spec.settings.includes("resume") && existsSync(join(path, "recipe.json"))) {
    const hint = `To go on with it: ${RIFFLE} train --resume ${shellWord(path)}`;
    refuse("that is a run, not a folder of pictures", path, hint);
  }
  return { ...given, data_dir: readSetting("data_dir", path) };
}
