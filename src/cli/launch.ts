/**
 * `riffle launch`: what the launch scripts in test/ run, with the options, environment, files and last lines of the
 * original's scripts.
 *
 *     output/<device>/train_<device>.log        what was printed
 *     output/<device>/ckpt/                     the run: checkpoints, events.jsonl, recipe.json
 *     output/<device>/train_<case>_loss.txt     a training loss a line
 *     output/<device>/<case>.log                the figures, NAME = VALUE
 *
 * Unlike the original it ends with the run's own exit code, prints no figures of a run that failed, and moves an earlier
 * output aside instead of deleting it.
 */

import { spawnSync } from "node:child_process";
import { appendFileSync, existsSync, mkdirSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { availableParallelism, machine as architecture } from "node:os";
import { join, resolve } from "node:path";

import { environment, type EnvironmentVariable } from "../core/environment.js";
import { DataError, ResourceError, RiffleError, UsageError } from "../core/error.js";
import { printable, shortPath } from "../core/printable.js";
import type { EndEvent, TrainEvent } from "../run/events.js";
import { PlainLines } from "../run/plain-lines.js";
import { refuseUnsupported } from "../settings/resolve-settings.js";
import { settingsOf, type GivenSettings, type SettingName } from "../settings/settings.js";
import { train, type TrainResult } from "../train/trainer.js";
import type { CliCommand, Invocation, OwnOptions } from "./command.js";
import { shellWord } from "./format.js";
import { listenForStop } from "./stop.js";
import type { Terminal } from "./terminal.js";
import { stopping } from "./train.js";

const NETWORK = "ShufflenetV2_ID0371_For_Tensorflow";
/** Steps that tell a speed, where the command line does not say how many. */
const PERFORMANCE_STEPS = 100;

const OPTIONS: OwnOptions = {
  Script: {
    data_path: { value: "<path>", help: "folder of train_shards/ and eval_shards/" },
    over_dump: { value: "[bool]", help: "detects overflow on an NPU; means nothing here" },
    data_dump_flag: { value: "[bool]", help: "dumps an NPU's tensors; means nothing here" },
    data_dump_step: { value: "<n>", help: "the step dumped; means nothing here" },
    profiling: { value: "[bool]", help: "one log line for every step, with its time" },
    autotune: { value: "[bool]", help: "tunes an NPU's kernels; means nothing here" },
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

export const launchCommand: CliCommand = {
  name: "launch",
  arguments: "<script>",
  purpose: "Runs a launch script of the original: train_full_1p or train_performance_1p.",
  examples: [
    "bash test/train_full_1p.sh --data_path=data",
    "bash test/train_full_1p.sh --data_path=data --max_epochs=2 --width=0.5",
    "bash test/train_performance_1p.sh --data_path=data --max_train_steps=50",
  ],
  settings: settingsOf("train").filter((name) => !DECIDED.includes(name)),
  defaults: {
    recipe: "original: the scripts run the original's code",
    precision_mode: "allow_mix_precision",
  },
  options: OPTIONS,
  run: launch,
};

/** What a script runs, and where its files go. */
interface Launch {
  readonly kind: "full" | "performance";
  readonly dataPath: string;
  readonly device: string;
  readonly output: string;
  readonly settings: GivenSettings;
}

async function launch(invocation: Invocation, terminal: Terminal): Promise<number> {
  const planned = plan(invocation);
  moveAside(planned.output, terminal);
  mkdirSync(planned.output, { recursive: true });
  const log = join(planned.output, `train_${planned.device}.log`);
  let missing: unknown;
  // A log that cannot be written is no reason to lose the run, nor to hide what ended it; the end says that it is not whole.
  const keep = (line: string): void => {
    try {
      if (missing === undefined) appendFileSync(log, `${printable(line)}\n`);
    } catch (error) {
      missing = error;
      terminal.note(`warning: ${shortPath(log)} is not written from here on: ${String(error)}`);
    }
  };
  const say = (line: string): void => {
    keep(line);
    terminal.print(line);
  };
  terminal.keepGoing();
  for (const line of environmentLines(invocation)) say(line);
  if (isOn(invocation, "bind_core")) say(bindCores());

  const lines = new PlainLines();
  const losses: string[] = [];
  let batch = 0;
  let step = 0;
  let end: EndEvent | undefined;
  const report = (event: TrainEvent): void => {
    if (event.event === "start") batch = Number(event.settings["batch_size"]);
    if (event.event === "step") step = event.step;
    if (event.event === "end") end = event;
    if (event.event !== "step" && event.event !== "evaluating" && event.event !== "preparing") {
      terminal.emit(event);
    }
    for (const line of lines.of(event)) {
      const loss = /^loss = ([^,]+), step = /.exec(line)?.[1];
      if (loss !== undefined) losses.push(loss);
      say(line);
    }
  };
  const stop = listenForStop(terminal, () => stopping(step));
  try {
    const result = await train(planned.settings, report, stop.signal);
    if (result.stopped || end === undefined) {
      say(`To go on: npx riffle train --resume ${shellWord(shortPath(result.run))}`);
      return stop.exitCode;
    }
    conclude(planned, { result, end, batch, losses }, say);
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

/** @throws UsageError, DataError before anything is written. */
function plan(invocation: Invocation): Launch {
  const [script = ""] = invocation.arguments;
  const [, kind, ranks] = /^train_(full|performance)_([18])p$/.exec(script) ?? [];
  if (kind === undefined) {
    throw new UsageError({
      what: "there is no such launch script",
      where: "riffle launch",
      expected: "train_full_1p, train_full_8p, train_performance_1p or train_performance_8p",
      found: JSON.stringify(script),
    });
  }
  const rankSize = environmentNumber("RANK_SIZE", Number(ranks));
  if (ranks !== "1" || rankSize !== 1) {
    throw new UsageError({
      what: `this version trains with one process, not with ${ranks === "1" ? rankSize : ranks}`,
      where: ranks === "1" ? "RANK_SIZE" : `${script}.sh`,
      expected: "one process",
      found: ranks === "1" ? `RANK_SIZE=${rankSize}` : `${ranks} processes`,
      safe: "Nothing was written",
      hint: `Run test/train_${kind}_1p.sh${ranks === "1" ? " without RANK_SIZE" : ""}`,
    });
  }
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
  const device = String(environmentNumber("ASCEND_DEVICE_ID", 0));
  const output = resolve("output", device);
  const settings: GivenSettings = {
    recipe: "original",
    precision_mode: "allow_mix_precision",
    ...(kind === "performance" ? { max_train_steps: PERFORMANCE_STEPS } : {}),
    ...(isOn(invocation, "profiling") ? { log_steps: 1, iterations_per_loop: 1 } : {}),
    ...invocation.settings,
    mode: kind === "performance" ? "train" : "train_and_evaluate",
    train_data_dir: join(dataPath, "train_shards"),
    eval_data_dir: join(dataPath, "eval_shards"),
    log_dir: join(output, "ckpt"),
  };
  refuseUnsupported(settings);
  return { kind: kind as Launch["kind"], dataPath, device, output, settings };
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

/** A line for each option and variable that has nothing to act on. */
function environmentLines(invocation: Invocation): string[] {
  const [job, rank] = [environment("JOB_ID"), environment("RANK_ID")];
  const idle = ["over_dump", "data_dump_flag", "autotune"].filter((name) => isOn(invocation, name));
  if (invocation.own.has("data_dump_step")) idle.push("data_dump_step");
  return [
    ...(job ? [`job ${job}`] : []),
    ...(rank && rank !== "0" ? [`RANK_ID ${rank}: with one process every rank is the first`] : []),
    ...(environment("RANK_TABLE_FILE") ? ["RANK_TABLE_FILE is not read: there is one process"] : []),
    ...idle.map((name) => `--${name} is for an NPU and does nothing on a processor`),
  ];
}

/** A switch is on when it is given, unless it is given as false. */
function isOn(invocation: Invocation, name: string): boolean {
  const value = invocation.own.get(name);
  return value !== undefined && !(typeof value === "string" && /^(false|no|off|0)$/i.test(value));
}

/** Keeps the process on the cores it may use, so that none of its threads moves elsewhere. */
function bindCores(): string {
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
  { kind, output }: Launch,
  { result, end, batch, losses }: Outcome,
  say: (line: string) => void,
): void {
  const name = `${NETWORK}_bs${batch}_1p_${kind === "full" ? "acc" : "perf"}`;
  const perSecond = result.images_per_second;
  const accuracy = end.top1.toFixed(5);
  const seconds = Math.round(performance.now() / 1000);
  writeFileSync(join(output, `train_${name}_loss.txt`), losses.map((loss) => `${loss}\n`).join(""));
  const figures = {
    Network: NETWORK,
    RankSize: 1,
    BatchSize: batch,
    DeviceType: architecture(),
    CaseName: name,
    ActualFPS: perSecond.toFixed(2),
    // Milliseconds a step, as the original computes it.
    TrainingTime: ((batch * 1000) / perSecond).toFixed(2),
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
