/** The launch scripts: what an original user runs, and greps for. */

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import { drawFolder } from "../../src/prepare/draw/draw-folder.js";
import { scratch } from "../support/tiny-run.js";
import { needsMpi } from "../support/mpi.js";
import { optionsInFull } from "../support/native.js";
import { repository as root } from "../support/paths.js";

const program = join(root, "dist", "src", "cli", "main.js");
const folder = scratch();
const small = [
  "--width=0.5",
  "--image_size=32",
  "--batch_size=8",
  "--log_steps=2",
  "--iterations_per_loop=1",
  ...optionsInFull,
];

interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function script(
  name: string,
  options: readonly string[],
  { cwd = folder, env = {} }: { cwd?: string; env?: Record<string, string> } = {},
): Outcome {
  const { RANK_SIZE, RANK_ID, ASCEND_DEVICE_ID, JOB_ID, RANK_TABLE_FILE, ...rest } = process.env;
  void [RANK_SIZE, RANK_ID, ASCEND_DEVICE_ID, JOB_ID, RANK_TABLE_FILE];
  const argv = [join(root, "test", `${name}.sh`), ...options];
  return spawnSync("bash", argv, { cwd, env: { ...rest, ...env }, encoding: "utf8" });
}

/** What a line of an original user's shell prints. */
function shell(line: string): string {
  return execFileSync("bash", ["-c", line], { cwd: folder, encoding: "utf8" }).trim();
}

/** Records of a folder of pictures, made as the README makes them. */
function makeRecords(photos: string, target: string): void {
  const riffle = (...argv: string[]): void => {
    const { status, stderr } = spawnSync(process.execPath, [program, ...argv], {
      cwd: folder,
      encoding: "utf8",
    });
    assert.equal(status, 0, stderr);
  };
  const lists = `${target}-lists`;
  const encoding = ["-l", `${lists}/integer_encoding.json`];
  riffle("explore-imagenet", "--train", `${photos}/train`, "--val", `${photos}/val`, "--output", lists);
  for (const [list, part] of [
    ["training_metadata.csv", "train_shards"],
    ["validation_metadata.csv", "eval_shards"],
  ]) {
    riffle("create-tfrecords", "-m", `${lists}/${list}`, ...encoding, "-o", `${target}/${part}`, "-s", "2");
  }
}

/** The last four lines, taken apart. */
function finalBlock({ stdout }: Outcome): { fps: number; accuracy: string; seconds: number } {
  const [title, fps, accuracy, seconds] = stdout.trimEnd().split("\n").slice(-4);
  assert.equal(title, "------------------ Final result ------------------");
  const value = (line: string | undefined, pattern: RegExp): string => {
    const [, found] = pattern.exec(line ?? "") ?? [];
    assert.ok(found !== undefined, `${line} is not ${pattern.source}`);
    return found;
  };
  return {
    fps: Number(value(fps, /^Final Performance images\/sec : (\d+\.\d+)$/)),
    accuracy: value(accuracy, /^Final Train Accuracy : ([01]\.\d+)$/),
    seconds: Number(value(seconds, /^E2E Training Duration sec : (\d+)$/)),
  };
}

/** NAME = VALUE, in the file's order. */
function caseFile(path: string): Map<string, string> {
  const lines = readFileSync(path, "utf8").trimEnd().split("\n");
  return new Map(lines.map((line) => line.split(" = ") as [string, string]));
}

const FIGURES =
  "Network RankSize BatchSize DeviceType CaseName ActualFPS TrainingTime TrainAccuracy ActualLoss E2ETrainingTime".split(
    " ",
  );

suite("train_full_1p.sh", () => {
  const name = "ShufflenetV2_ID0371_For_Tensorflow_bs8_1p_acc";
  const log = "output/0/train_0.log";
  let outcome: Outcome;
  before(async () => {
    await drawFolder({ folder: join(folder, "photos"), seed: 6, size: 40, train: 40, validation: 20 });
    makeRecords("photos", "data");
    outcome = script("train_full_1p", [
      "--data_path=data",
      "--max_epochs=2",
      "--epochs_between_evals=1",
      ...small,
    ]);
  });

  test("ends with the four lines, and 0", () => {
    assert.equal(outcome.status, 0, outcome.stderr);
    assert.ok(finalBlock(outcome).fps > 0);
  });

  test("leaves the original's files", () => {
    assert.deepEqual(readdirSync(join(folder, "output", "0")).sort(), [
      `${name}.log`,
      "ckpt",
      "train_0.log",
      `train_${name}_loss.txt`,
    ]);
    assert.ok(existsSync(join(folder, "output", "0", "ckpt", "step-10")));
    // The log is what was printed.
    assert.equal(readFileSync(join(folder, log), "utf8"), outcome.stdout);
  });

  test("an original user's grep lines find rate, loss and accuracy", () => {
    const { accuracy, fps } = finalBlock(outcome);
    assert.match(shell(`grep 'global_step/sec' ${log} | awk 'END {print $2}'`), /^[\d.]+$/);
    const loss = shell(
      `grep 'loss = ' ${log} | grep step | grep -v accuracy | tail -n 1 | awk '{print $3}' | tr -d ,`,
    );
    assert.equal(loss, shell(`tail -n 1 output/0/train_${name}_loss.txt`));
    const found = shell(
      `grep 'accuracy = ' ${log} | awk -F 'accuracy = ' 'END {print $2}' | awk -F , '{print $1}'`,
    );
    assert.equal(Number(found).toFixed(5), accuracy);
    assert.match(shell(`grep -o 'top5_accuracy = [0-9.]*' ${log} | tail -n 1`), /= [\d.]+/);
    assert.equal(shell(`grep -c 'loss = .*, step = ' ${log}`), "5");
    assert.match(shell(`grep -o 'global_step = [0-9]*' ${log} | tail -n 1`), /^global_step = 10$/);
    assert.ok(fps > 0);
  });

  test("the case file has every figure, and they are those of the run", () => {
    const { fps, accuracy, seconds } = finalBlock(outcome);
    const figures = caseFile(join(folder, "output", "0", `${name}.log`));
    assert.deepEqual([...figures.keys()], FIGURES);
    assert.equal(figures.get("CaseName"), name);
    assert.equal(figures.get("Network"), "ShufflenetV2_ID0371_For_Tensorflow");
    assert.deepEqual([figures.get("RankSize"), figures.get("BatchSize")], ["1", "8"]);
    assert.equal(figures.get("DeviceType"), shell("uname -m"));
    assert.deepEqual([Number(figures.get("ActualFPS")), figures.get("TrainAccuracy")], [fps, accuracy]);
    assert.ok(Math.abs(Number(figures.get("TrainingTime")) - 8000 / fps) < 0.01);
    assert.equal(Number(figures.get("E2ETrainingTime")), seconds);
    assert.equal(figures.get("ActualLoss"), shell(`tail -n 1 output/0/train_${name}_loss.txt`));
    // The accuracy is that of the run's last evaluation.
    const events = readFileSync(join(folder, "output", "0", "ckpt", "events.jsonl"), "utf8")
      .trimEnd()
      .split("\n");
    const end = JSON.parse(events.at(-1) as string) as {
      event: string;
      top1: number;
      images_per_second: number;
    };
    assert.deepEqual([end.event, end.top1.toFixed(5)], ["end", accuracy]);
    assert.equal(end.images_per_second.toFixed(2), fps.toFixed(2));
  });

  test("moves an earlier output aside, whole, and says where", () => {
    const before = readFileSync(join(folder, log), "utf8");
    const { status, stdout } = script("train_full_1p", ["--data_path=data", "--max_train_steps=1", ...small]);
    assert.equal(status, 0);
    const [aside = ""] = readdirSync(join(folder, "output")).filter((each) => /^0-\d{8}T\d{6}$/.test(each));
    assert.ok(stdout.includes(`output/${aside}`), stdout);
    assert.equal(readFileSync(join(folder, "output", aside, "train_0.log"), "utf8"), before);
  });

  test("runs from test/ and under another device's number, and says what does nothing here", () => {
    const cwd = join(folder, "test");
    mkdirSync(cwd);
    const options = ["--data_path=../data", "--max_train_steps=2", "--profiling=True", ...small];
    const idle = ["--autotune=True", "--data_dump_flag=False", "--data_dump_step=10"];
    const XDG_CACHE_HOME = join(folder, "caches");
    const env = { XDG_CACHE_HOME, ASCEND_DEVICE_ID: "3", JOB_ID: "10087", RANK_ID: "0", RANK_SIZE: "1" };
    const { status, stdout, stderr } = script("train_full_1p", [...options, ...idle, "--bind_core=1"], {
      cwd,
      env,
    });
    assert.equal(status, 0, stderr);
    assert.ok(existsSync(join(cwd, "output", "3", "train_3.log")));
    assert.match(stdout, /^tuned training: /m);
    assert.match(stdout, /^tuned inference: /m);
    assert.doesNotMatch(stdout, /--(over|data)_dump\w* is/);
    assert.ok(!existsSync(join(cwd, "output", "3", "ckpt", "dump")));
    assert.match(stdout, /^job 10087$/m);
    assert.match(stdout, /cores/);
  });

  test("--over_dump, --data_dump_flag and --data_dump_step are those of the run", () => {
    const cwd = join(folder, "dumped");
    mkdirSync(cwd);
    const options = ["--data_path=../data", "--max_train_steps=3", ...small, "--over_dump=True"];
    const dump = ["--data_dump_flag=True", "--data_dump_step=2|3"];
    const { status, stdout, stderr } = script("train_full_1p", [...options, ...dump], { cwd });
    assert.equal(status, 0, stderr);
    const run = join(cwd, "output", "0", "ckpt");
    assert.deepEqual(readdirSync(join(run, "dump")).sort(), ["step-2", "step-3"]);
    assert.match(stdout, /^dumped step 2: \d+ arrays in .*step-2$/m);
    const { settings } = JSON.parse(readFileSync(join(run, "recipe.json"), "utf8")) as {
      settings: { over_dump: boolean };
    };
    assert.equal(settings.over_dump, true);
  });

  test("--profiling gives every step a line with its time, and a profile", () => {
    const cwd = join(folder, "profiled");
    mkdirSync(cwd);
    const options = ["--data_path", "../data", "--max_train_steps", "3", "--profiling", "--width=0.5"];
    const sizes = ["--image_size=32", "--batch_size=8", ...optionsInFull];
    const { stdout } = script("train_full_1p", [...options, ...sizes], { cwd });
    assert.equal(stdout.match(/^loss = .*, step = \d+ \([\d.]+ sec\)$/gm)?.length, 3);
    assert.match(stdout, /^profile of steps 1 to 3: [\d.]+ ms a step/m);
    assert.ok(existsSync(join(cwd, "output", "0", "ckpt", "profile", "trace.json")));
  });
});

suite("train_performance_1p.sh", () => {
  test("trains a few steps without evaluating and ends with its figures", () => {
    const cwd = join(folder, "performance");
    mkdirSync(cwd);
    const options = ["--data_path=../data", "--max_train_steps=6", ...small];
    const outcome = script("train_performance_1p", options, { cwd });
    assert.equal(outcome.status, 0, outcome.stderr);
    finalBlock(outcome);
    assert.doesNotMatch(outcome.stdout, /accuracy = /);
    const figures = caseFile(join(cwd, "output", "0", "ShufflenetV2_ID0371_For_Tensorflow_bs8_1p_perf.log"));
    assert.deepEqual([...figures.keys()], FIGURES);
  });
});

suite("train_full_8p.sh on photographs of ten classes", needsMpi("openmpi"), () => {
  const name = "ShufflenetV2_ID0371_For_Tensorflow_bs2_8p_acc";
  const cwd = join(folder, "eight");
  const log = "output/0/train_0.log";
  let outcome: Outcome;
  before(() => {
    mkdirSync(cwd);
    const options = ["--data_path=../data", "--max_epochs=2", "--epochs_between_evals=1", ...small];
    outcome = script("train_full_8p", [...options, "--batch_size=2"], { cwd });
  });

  test("ends with the four lines, and 0", () => {
    assert.equal(outcome.status, 0, outcome.stderr);
    assert.ok(finalBlock(outcome).fps > 0);
  });

  test("leaves a log for each device, and the original's files with the first", () => {
    const devices = [0, 1, 2, 3, 4, 5, 6, 7];
    assert.deepEqual(readdirSync(join(cwd, "output")).sort(), devices.map(String));
    for (const device of devices) {
      const text = readFileSync(join(cwd, "output", `${device}`, `train_${device}.log`), "utf8");
      assert.match(text, /^loss = .*, step = 4 /m, `device ${device}`);
    }
    const files = readdirSync(join(cwd, "output", "0"));
    for (const file of [`${name}.log`, `train_${name}_loss.txt`, "ckpt"])
      assert.ok(files.includes(file), file);
  });

  test("an original user's grep lines find rate, loss and accuracy", () => {
    const { accuracy } = finalBlock(outcome);
    const inside = (line: string): string =>
      execFileSync("bash", ["-c", line], { cwd, encoding: "utf8" }).trim();
    assert.match(inside(`grep 'global_step/sec' ${log} | awk 'END {print $2}'`), /^[\d.]+$/);
    const found = inside(
      `grep 'accuracy = ' ${log} | awk -F 'accuracy = ' 'END {print $2}' | awk -F , '{print $1}'`,
    );
    assert.equal(Number(found).toFixed(5), accuracy);
    const figures = caseFile(join(cwd, "output", "0", `${name}.log`));
    assert.deepEqual([...figures.keys()], FIGURES);
    assert.deepEqual([figures.get("RankSize"), figures.get("BatchSize")], ["8", "2"]);
  });
});

suite("what a launch script refuses", () => {
  const data = "--data_path=data";
  for (const [title, name, options, env, status, words] of [
    ["RANK_SIZE=4", "train_full_1p", [data], { RANK_SIZE: "4" }, 2, /for one process is not for 4/],
    [
      "eight processes, of four",
      "train_full_8p",
      [data],
      { RANK_SIZE: "4" },
      2,
      /RANK_SIZE is not the number/,
    ],
    ["a table that is not there", "train_full_8p", [data], { RANK_TABLE_FILE: "none.json" }, 7, /none\.json/],
    ["no data", "train_full_1p", [], {}, 2, /--data_path/],
    ["a folder without shards", "train_full_1p", ["--data_path=photos"], {}, 3, /no train_shards\//],
    ["an option that nobody has", "train_full_1p", [data, "--data_pth=x"], {}, 2, /unknown option/],
    ["a device that is a path", "train_full_1p", [data], { ASCEND_DEVICE_ID: "../x" }, 2, /ASCEND_DEVICE_ID/],
  ] as const) {
    test(`${title}: exit code ${status}, and no figures`, () => {
      const cwd = join(folder, `refused-${title.replaceAll(/\W/g, "-")}`);
      mkdirSync(cwd);
      const paths = options.map((option) => option.replace("--data_path=", "--data_path=../"));
      const outcome = script(name, paths, { cwd, env });
      assert.equal(outcome.status, status, outcome.stderr);
      assert.match(outcome.stderr, words);
      assert.doesNotMatch(outcome.stdout, /Final/);
      assert.deepEqual(readdirSync(cwd), []);
    });
  }

  test("a run that fails: its exit code, the reason in the log, no figures and no case file", () => {
    const cwd = join(folder, "damaged");
    mkdirSync(join(cwd, "data", "train_shards"), { recursive: true });
    mkdirSync(join(cwd, "data", "eval_shards"));
    writeFileSync(join(cwd, "data", "train_shards", "a.tfrecords"), "no records");
    writeFileSync(join(cwd, "data", "eval_shards", "a.tfrecords"), "no records");
    const outcome = script("train_full_1p", ["--data_path=data", ...small], { cwd });
    assert.equal(outcome.status, 3, outcome.stderr);
    assert.doesNotMatch(outcome.stdout, /Final/);
    assert.match(readFileSync(join(cwd, "output", "0", "train_0.log"), "utf8"), /^failed: /m);
    assert.deepEqual(
      readdirSync(join(cwd, "output", "0")).filter((name) => name.startsWith("Shuffle")),
      [],
    );
  });

  test("-h explains the options", () => {
    const { status, stdout } = script("train_full_1p", ["-h"]);
    assert.equal(status, 0);
    for (const option of ["data_path", "precision_mode", "over_dump", "profiling", "bind_core", "max_epochs"])
      assert.match(stdout, new RegExp(`--${option}\\b`));
  });
});

const shared = process.env["RIFFLE_SHARED"] ?? join(root, "..", "shared");
const imagenette = join(shared, "data", "imagenette224");
const absent = existsSync(imagenette) ? false : `${imagenette} is not there`;

test("train_full_1p.sh ends with its figures on photographs of ten classes", { skip: absent }, () => {
  makeRecords(imagenette, "imagenette");
  const cwd = join(folder, "on-imagenette");
  mkdirSync(cwd);
  const options = ["--data_path=../imagenette", "--train_dataset_size=640", "--eval_dataset_size=200"];
  const sizes = ["--max_epochs=1", "--batch_size=32", "--width=0.5", "--image_size=64", "--recipe=small-set"];
  const outcome = script("train_full_1p", [...options, ...sizes, ...optionsInFull], { cwd });
  assert.equal(outcome.status, 0, outcome.stderr);
  const { fps, accuracy } = finalBlock(outcome);
  assert.ok(fps > 0 && Number(accuracy) > 0.05, outcome.stdout);
  const figures = caseFile(join(cwd, "output", "0", "ShufflenetV2_ID0371_For_Tensorflow_bs32_1p_acc.log"));
  assert.deepEqual([...figures.keys()], FIGURES);
  assert.match(outcome.stdout, /^data 640 pictures, 200 for validation/m);
});
