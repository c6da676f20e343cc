/** `riffle launch`: trains with several processes, or runs one of the original's launch scripts. */

import { resolve } from "node:path";

import { CommanderError } from "commander";

import { environment } from "../core/environment.js";
import { RIFFLE } from "../core/call.js";
import { UsageError } from "../core/error.js";
import { shellWord } from "../core/printable.js";
import { shortPath } from "../core/short-path.js";
import { findMpi } from "../distributed/find-mpi.js";
import { rankOfEnvironment } from "../distributed/rank-environment.js";
import { runFolderOf } from "../run/find-checkpoint.js";
import { type GivenSettings, type SettingName, settings as table } from "../settings/settings.js";
import {
  type CliCommand,
  type Invocation,
  parserFailure,
  readCommandLine,
  settingArguments,
  wholeNumber,
} from "./command.js";
import { finetuneCommand, refuseNoData } from "./finetune.js";
import { mpiWanted, placementWanted, ranksOptions } from "./launch-options.js";
import { runRanks } from "./launch-ranks.js";
import { isScript, launchScript, scriptOptions, scriptSettings } from "./launch-script.js";
import type { Terminal } from "./terminal.js";
import { trainCommand } from "./train.js";

export const launchCommand: CliCommand = {
  name: "launch",
  showsEveryOption: true,
  arguments: "[command...]",
  purpose: "Trains with several processes, started by MPI; or runs a launch script of the original.",
  examples: [
    "npx riffle-vision launch --ranks 8 -- train --data_dir data/imagenet --recipe original",
    "npx riffle-vision launch --hosts hosts.txt --max_restarts 3 -- train --resume model_1p",
    "bash test/train_full_8p.sh --data_path=data --max_epochs=2",
  ],
  settings: scriptSettings,
  defaults: {
    recipe: "original: the scripts run the original's code",
    precision_mode: "allow_mix_precision",
  },
  options: { ...ranksOptions, ...scriptOptions },
  run: launch,
};

async function launch(invocation: Invocation, terminal: Terminal): Promise<number> {
  const [command = ""] = invocation.arguments;
  if ((rankOfEnvironment()?.size ?? 1) > 1 && environment("RIFFLE_LAUNCH") === undefined) refuseNested();
  if (isScript(command)) {
    refuseOptions(
      invocation,
      Object.keys(ranksOptions["Ranks"] ?? {}).filter((name) => name !== "mpi"),
      {
        what: "is not for scripts, which start the ranks of their rank table",
        hint: "Name another table in RANK_TABLE_FILE, or use npx riffle-vision launch --ranks N -- train ...",
      },
    );
    return launchScript(invocation, terminal);
  }
  const training = trainings.find(({ name }) => name === command);
  if (training !== undefined) return launchTraining(training, invocation, terminal);
  throw new UsageError({
    what: command === "" ? "what the ranks are to do is not given" : "that is nothing that several ranks do",
    where: "riffle launch",
    expected:
      "-- train or -- finetune and its options, or a script: train_full_1p, train_full_8p, train_performance_1p, train_performance_8p",
    found: command === "" ? "nothing" : JSON.stringify(command),
    safe: "Nothing was started",
    hint: "npx riffle-vision launch --ranks 8 -- train --data_dir data",
  });
}

/** What several ranks do together. */
const trainings: readonly CliCommand[] = [trainCommand, finetuneCommand];

/** `riffle launch --ranks N -- train ...`, or `-- finetune ...` */
async function launchTraining(
  training: CliCommand,
  invocation: Invocation,
  terminal: Terminal,
): Promise<number> {
  const scriptOnly = [...Object.keys(scriptOptions["Script"] ?? {}), ...Object.keys(invocation.settings)];
  refuseOptions(invocation, scriptOnly, {
    what: "stands before the command that it is for",
    hint: `Options of ${training.name} stand behind it: npx riffle-vision launch --ranks 8 -- ${training.name} --batch_size 64`,
  });
  const read = await readTraining(training, invocation.arguments, terminal);
  // Its help was asked for, and shown.
  if (read === undefined) return 0;
  if (training === finetuneCommand) refuseNoData(read.settings);
  const placement = await placementWanted(invocation);
  const mpi = findMpi(mpiWanted(invocation));
  const given = read.settings;
  const run =
    given.resume === undefined
      ? resolve(given.log_dir ?? table.log_dir.default)
      : await runFolderOf(resolve(given.resume));
  const output = ["json", "debug"].filter((name) => invocation.own.has(name) || read.own.has(name));
  const switches = output.map((name) => `--${name}`);
  const options = ["hosts", "rank_table", "mpi"].flatMap((name) => {
    const value = invocation.own.get(name);
    return typeof value === "string" ? [`--${name}`, value] : [];
  });
  const launch = [...RIFFLE.split(" "), "launch", "--ranks", String(placement.ranks), ...options, "--"];
  const goOn = [...launch, "train", "--resume", shortPath(run)].map(shellWord).join(" ");
  return runRanks(
    {
      mpi,
      placement,
      run,
      command: [training.name, ...settingArguments(given), ...switches],
      resumed: ["train", ...settingArguments({ ...changeable(given), resume: run }), ...switches],
      goOn,
      restarts: wholeNumber(invocation, "max_restarts", 0),
    },
    terminal,
  );
}

/** @throws UsageError */
async function readTraining(
  training: CliCommand,
  argv: readonly string[],
  terminal: Terminal,
): Promise<Invocation | undefined> {
  try {
    return await readCommandLine(training, argv, terminal);
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    const failure = parserFailure(error);
    if (failure !== undefined) throw failure;
    return undefined;
  }
}

/** What a resumed run may be given again; all else is in its checkpoint. */
function changeable(given: GivenSettings): GivenSettings {
  const kept = Object.entries(given).filter(([name]) => table[name as SettingName].mayChange);
  return Object.fromEntries(kept);
}

/** @throws UsageError for the first of these options that is given */
function refuseOptions(
  { own, settings: given }: Invocation,
  names: readonly string[],
  { what, hint }: { readonly what: string; readonly hint: string },
): void {
  const name = names.find((each) => own.has(each) || each in given);
  if (name === undefined) return;
  throw new UsageError({
    what: `--${name} ${what}`,
    where: "riffle launch",
    safe: "Nothing was started",
    hint,
  });
}

function refuseNested(): never {
  throw new UsageError({
    what: "riffle launch starts the ranks itself, and was started as one",
    where: "riffle launch",
    expected: "to be started once",
    found: "a launcher's variables in the environment",
    safe: "Nothing was started",
    hint: "Run it without mpirun, or mpirun -n 8 npx riffle-vision train ... without launch",
  });
}
