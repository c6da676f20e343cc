/**
 * The launch scripts in test/, with the options, environment, files and last lines of the original's scripts.
 *
 *     output/<device>/train_<device>.log        what this rank printed, or would have
 *     output/<first device>/ckpt/               the run: checkpoints, events.jsonl, recipe.json
 *     output/<first device>/ckpt.ranks/         what riffle launch keeps of ranks
 *     output/<first device>/train_<case>_loss.txt     a training loss a line
 *     output/<first device>/<case>.log          the figures, NAME = VALUE
 *
 * Of several ranks each runs this file, started by the process that the script started; rank 0 alone prints and has
 * figures. Unlike the original it ends with the run's own exit code, prints no figures of a run that failed, and moves an
 * earlier output aside instead of deleting it.
 */

import { spawnSync } from "node:child_process";
import { appendFileSync, existsSync, mkdirSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { availableParallelism, machine as architecture } from "node:os";
import { join, resolve } from "node:path";

import { environment, type EnvironmentVariable } from "../core/environment.js";
import { DataError, ResourceError, RiffleError, UsageError } from "../core/error.js";
import { printable } from "../core/printable.js";
import { shortPath } from "../core/short-path.js";
import { findMpi } from "../distributed/find-mpi.js";
import { type Placement, placementOfTable } from "../distributed/host-list.js";
import { rankOfEnvironment } from "../distributed/rank-environment.js";
import { readRankTable } from "../distributed/rank-table.js";
import type { EndEvent, TrainEvent } from "../run/events.js";
import { PlainLines } from "../run/plain-lines.js";
import { refuseUnsupported } from "../settings/resolve-settings.js";
import { settingsOf, type GivenSettings, type SettingName } from "../settings/settings.js";
import { train, type TrainResult } from "../train/trainer.js";
import { argumentsOf, type Invocation, type OwnOptions } from "./command.js";
import { shellWord } from "./format.js";
import { mpiWanted } from "./launch-options.js";
import { runRanks } from "./launch-ranks.js";
import { Place } from "./place.js";
import { listenForStop } from "./stop.js";
import type { Terminal } from "./terminal.js";

const NETWORK = "ShufflenetV2_ID0371_For_Tensorflow";
/** Steps that tell a speed, where the command line does not say how many. */
const PERFORMANCE_STEPS = 100;
/** Ranks of the scripts for eight, where no table says how many there are. */
const EIGHT = 8;

export const scriptOptions: OwnOptions = {
  Script: {
    data_path: { value: "<path>", help: "folder of train_shards/ and eval_shards/" },
    bind_core: { value: "[bool]", help: "binds the process to its cores with taskset" },
  },
};

/** Settings that the script itself decides. */
const DECIDED: readonly SettingName[] = [
  "data_dir",
  "train_data_dir",
  "eval_data_dir",
  "log_dir",
  "log_name",
  "mode",
  "resume",
  "synthetic",
  "do_checkpoint",
  "checkpoint_dir",
  "rank_size",
];

export const scriptSettings = settingsOf("train").filter((name) => !DECIDED.includes(name));

/** The names of the scripts, and what each runs. */
const SCRIPT = /^train_(full|performance)_([18])p$/;

export function isScript(name: string): boolean {
  return SCRIPT.test(name);
}

/** What a script runs, and where the files of this rank go. */
interface Script {
  readonly name: string;
  readonly kind: "full" | "performance";
  /** This process, 0 where it is the only one or starts the others. */
  readonly rank: number;
  /** Of every rank. */
  readonly devices: readonly string[];
  readonly placement: Placement;
  readonly settings: GivenSettings;
}

export async function launchScript(invocation: Invocation, terminal: Terminal): Promise<number> {
  const script = await plan(invocation);
  const isRank = rankOfEnvironment() !== undefined && environment("RIFFLE_LAUNCH") !== undefined;
  if (isRank) return runScript(script, invocation, terminal);
  const mpi = script.devices.length === 1 ? undefined : findMpi(mpiWanted(invocation));
  for (const device of script.devices) moveAside(outputOf(device), terminal);
  if (mpi === undefined) return runScript(script, invocation, terminal);
  const run = script.settings.log_dir as string;
  const job = {
    mpi,
    placement: script.placement,
    run,
    command: ["launch", script.name, ...argumentsOf(invocation)],
    resumed: undefined,
    goOn: goOn(script),
    restarts: 0,
  };
  return runRanks(job, terminal);
}

async function runScript(script: Script, invocation: Invocation, terminal: Terminal): Promise<number> {
  const device = script.devices[script.rank] as string;
  const output = outputOf(device);
  mkdirSync(output, { recursive: true });
  const log = join(output, `train_${device}.log`);
  let missing: unknown;
  // A log that cannot be written is no reason to lose the run, nor to hide what ended it; the end says that it is not whole.
  const keep = (line: string): void => {
    try {
      if (missing === undefined) appendFileSync(log, `${printable(line)}\n`);
    } catch (error) {
      missing = error;
      terminal.warn(`${shortPath(log)} is not written from here on: ${String(error)}`);
    }
  };
  const say = (line: string): void => {
    keep(line);
    terminal.print(line);
  };
  terminal.keepGoing();
  for (const line of environmentLines(script)) say(line);
  if (isOn(invocation, "bind_core")) say(bindCores(script));

  const lines = new PlainLines();
  const losses: string[] = [];
  let batch = 0;
  const place = new Place();
  let end: EndEvent | undefined;
  const report = (event: TrainEvent): void => {
    if (event.event === "start") batch = event.images_per_step / script.devices.length;
    place.follow(event);
    if (event.event === "end") end = event;
    if (!["step", "evaluating", "preparing", "fetching"].includes(event.event)) terminal.emit(event);
    for (const line of lines.of(event)) {
      const loss = /^loss = ([^,]+), step = /.exec(line)?.[1];
      if (loss !== undefined) losses.push(loss);
      say(line);
    }
  };
  const stop = listenForStop(terminal, () => place.stopping);
  try {
    const result = await train(script.settings, report, stop.signal);
    if (result.stopped || end === undefined) {
      say(`To go on: ${goOn(script)}`);
      return stop.exitCode;
    }
    if (script.rank === 0) conclude(script, { result, end, batch, losses }, say);
    if (missing === undefined) return 0;
    throw new ResourceError(
      {
        what: "the log has not all of its lines",
        where: log,
        safe: "The run itself is whole: ckpt/ beside it",
      },
      missing,
    );
  } catch (error) {
    if (error instanceof RiffleError) keep(`failed: ${error.message}`);
    throw error;
  } finally {
    stop.release();
  }
}

/** @throws UsageError, DataError, DistributedError before anything is written. */
async function plan(invocation: Invocation): Promise<Script> {
  const [name = ""] = invocation.arguments;
  const [, kind, ranks] = SCRIPT.exec(name) ?? [];
  const dataPath = invocation.own.get("data_path");
  if (typeof dataPath !== "string" || dataPath === "") {
    throw new UsageError({
      what: "the data is not given: --data_path",
      where: "launch script",
      expected: "a folder of train_shards/ and eval_shards/",
      found: "nothing",
      safe: "Nothing was written",
    });
  }
  for (const part of ["train_shards", "eval_shards"]) {
    if (existsSync(join(dataPath, part))) continue;
    throw new DataError({
      what: `there is no ${part}/`,
      where: dataPath,
      expected: "train_shards/ and eval_shards/, as riffle create-tfrecords makes them",
      found: existsSync(dataPath) ? "a folder without it" : "no such folder",
      safe: "Nothing was written",
    });
  }
  const { placement, devices } = ranks === "1" ? oneRank() : await severalRanks();
  const settings: GivenSettings = {
    recipe: "original",
    precision_mode: "allow_mix_precision",
    ...(kind === "performance" ? { max_train_steps: PERFORMANCE_STEPS } : {}),
    // And a log line for every step, with its time.
    ...(invocation.settings.profiling === true ? { log_steps: 1, iterations_per_loop: 1 } : {}),
    ...invocation.settings,
    mode: kind === "performance" ? "train" : "train_and_evaluate",
    train_data_dir: join(dataPath, "train_shards"),
    eval_data_dir: join(dataPath, "eval_shards"),
    log_dir: join(outputOf(devices[0] as string), "ckpt"),
    ...(ranks === "1" ? {} : { rank_size: devices.length }),
  };
  refuseUnsupported(settings);
  const rank = rankOfEnvironment()?.rank ?? 0;
  return { name, kind: kind as Script["kind"], rank, devices, placement, settings };
}

/** Where ranks run, and what the device of each is called. */
interface Devices {
  readonly placement: Placement;
  readonly devices: readonly string[];
}

/** @throws UsageError */
function oneRank(): Devices {
  const size = environmentNumber("RANK_SIZE", 1);
  if (size === 1) {
    return { placement: { ranks: 1 }, devices: [String(environmentNumber("ASCEND_DEVICE_ID", 0))] };
  }
  throw new UsageError({
    what: `the script for one process is not for ${size}`,
    where: "RANK_SIZE",
    expected: "1",
    found: `RANK_SIZE=${size}`,
    safe: "Nothing was written",
    hint: "Run the script for eight processes, test/train_full_8p.sh, or unset RANK_SIZE",
  });
}

/** What the rank table says; eight ranks on this machine without one. @throws UsageError, DistributedError */
async function severalRanks(): Promise<Devices> {
  const path = environment("RANK_TABLE_FILE");
  const table = path ? await readRankTable(path) : undefined;
  const placement = table === undefined || !path ? { ranks: EIGHT } : placementOfTable(table, path);
  const size = environmentNumber("RANK_SIZE", placement.ranks);
  if (size !== placement.ranks) {
    throw new UsageError({
      what: "RANK_SIZE is not the number of devices",
      where: path ? `RANK_TABLE_FILE ${path}` : "RANK_SIZE, without RANK_TABLE_FILE",
      expected: `RANK_SIZE=${placement.ranks}`,
      found: `RANK_SIZE=${size}`,
      safe: "Nothing was written",
      hint: "Unset RANK_SIZE, or name a table of that many devices in RANK_TABLE_FILE",
    });
  }
  const ids = (table?.servers ?? [])
    .flatMap(({ devices }) => devices)
    .toSorted((a, b) => a.rank - b.rank)
    .map(({ id }) => String(id));
  // Machines that number their devices alike would write into each other's folders.
  const isClear = ids.length > 0 && new Set(ids).size === ids.length;
  return { placement, devices: isClear ? ids : Array.from({ length: placement.ranks }, (_, i) => String(i)) };
}

function outputOf(device: string): string {
  return resolve("output", device);
}

function goOn({ devices, settings }: Script): string {
  const launch = devices.length > 1 ? `launch --ranks ${devices.length} -- ` : "";
  return `npx riffle-vision ${launch}train --resume ${shellWord(shortPath(settings.log_dir as string))}`;
}

/** A whole number from the environment. @throws UsageError */
function environmentNumber(name: EnvironmentVariable, fallback: number): number {
  const text = environment(name);
  if (text === undefined || text === "") return fallback;
  if (/^\d{1,6}$/.test(text)) return Number(text);
  throw new UsageError({
    what: `${name} is no number`,
    where: `environment variable ${name}`,
    expected: "a whole number from 0",
    found: JSON.stringify(text),
    safe: "Nothing was written",
  });
}

/** An earlier output is somebody's work. */
function moveAside(output: string, terminal: Terminal): void {
  if (!existsSync(output) || readdirSync(output).length === 0) return;
  const stamp = new Date().toISOString().replace(/[-:]/g, "").replace(/\..*/, "");
  let aside = `${output}-${stamp}`;
  for (let n = 2; existsSync(aside); n++) aside = `${output}-${stamp}-${n}`;
  renameSync(output, aside);
  terminal.print(`The output of an earlier run is now ${shortPath(aside)}`);
}

/** A line for what of options and environment has nothing to act on. */
function environmentLines({ devices, rank }: Script): string[] {
  const [job, id, device] = [environment("JOB_ID"), environment("RANK_ID"), environment("ASCEND_DEVICE_ID")];
  const isAlone = devices.length === 1;
  return [
    ...(job ? [`job ${job}`] : []),
    ...(isAlone ? [] : [`rank ${rank} of ${devices.length}, device ${devices[rank]}`]),
    ...(isAlone && id && id !== "0" ? [`RANK_ID ${id}: with one process every rank is the first`] : []),
    ...(!isAlone && id ? [`RANK_ID ${id} is not read: the launcher numbers the ranks`] : []),
    ...(!isAlone && device
      ? [`ASCEND_DEVICE_ID ${device} is not read: the rank table names the devices`]
      : []),
    ...(isAlone && environment("RANK_TABLE_FILE")
      ? ["RANK_TABLE_FILE is not read: there is one process"]
      : []),
  ];
}

/** A switch is on when it is given, unless it is given as false. */
function isOn(invocation: Invocation, name: string): boolean {
  const value = invocation.own.get(name);
  return value !== undefined && !(typeof value === "string" && /^(false|no|off|0)$/i.test(value));
}

/** Keeps the process on the cores it may use, so that none of its threads moves elsewhere. */
function bindCores({ devices }: Script): string {
  if (devices.length > 1)
    return "--bind_core: the launcher has bound the ranks where there are cores for all";
  const cores = `0-${availableParallelism() - 1}`;
  const { error, status, stderr } = spawnSync("taskset", ["-acp", cores, String(process.pid)], {
    encoding: "utf8",
  });
  if (error !== undefined) return "--bind_core needs taskset, which is not installed; cores are not bound";
  return status === 0 ? `bound to cores ${cores}` : `cores are not bound: ${stderr.trim()}`;
}

interface Outcome {
  readonly result: TrainResult;
  readonly end: EndEvent;
  readonly batch: number;
  /** As the log has them. */
  readonly losses: readonly string[];
}

/** The two files, then the four lines that end every script. Seconds count from the start of this process. */
function conclude(
  { kind, devices }: Script,
  { result, end, batch, losses }: Outcome,
  say: (line: string) => void,
): void {
  const output = outputOf(devices[0] as string);
  const ranks = devices.length;
  const name = `${NETWORK}_bs${batch}_${ranks}p_${kind === "full" ? "acc" : "perf"}`;
  const perSecond = result.images_per_second;
  const accuracy = end.top1.toFixed(5);
  const seconds = Math.round(performance.now() / 1000);
  writeFileSync(join(output, `train_${name}_loss.txt`), losses.map((loss) => `${loss}\n`).join(""));
  const figures = {
    Network: NETWORK,
    RankSize: ranks,
    BatchSize: batch,
    DeviceType: architecture(),
    CaseName: name,
    ActualFPS: perSecond.toFixed(2),
    // Milliseconds a step, as the original computes it.
    TrainingTime: ((ranks * batch * 1000) / perSecond).toFixed(2),
    TrainAccuracy: accuracy,
    ActualLoss: losses.at(-1) ?? "",
    E2ETrainingTime: seconds,
  };
  const text = Object.entries(figures).map(([figure, value]) => `${figure} = ${value}\n`);
  writeFileSync(join(output, `${name}.log`), text.join(""));
  say("------------------ Final result ------------------");
  say(`Final Performance images/sec : ${perSecond.toFixed(2)}`);
  say(`Final Train Accuracy : ${accuracy}`);
  say(`E2E Training Duration sec : ${seconds}`);
}
