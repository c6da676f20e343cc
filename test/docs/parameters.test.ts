/**
 * One observation per row of the table of settings (src/settings/settings.ts): what a run shows differs when the row is
 * given, so a row that is accepted and ignored fails here. The type of `rows` demands one for every row.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import { languages, parametersPage } from "../../src/cli/parameters-page.js";
import { CheckpointError, DataError, UsageError } from "../../src/core/error.js";
import { drawFolder } from "../../src/prepare/draw/draw-folder.js";
import { openDatasets } from "../../src/data/sets.js";
import { encodeExample } from "../../src/formats/tf-example.js";
import { frameRecord } from "../../src/formats/tfrecord.js";
import { evaluate } from "../../src/inference/evaluate.js";
import type { StartEvent, TrainEvent } from "../../src/run/events.js";
import { findSetting, readSetting } from "../../src/settings/read-settings.js";
import {
  type GivenSettings,
  type SettingName,
  settingNames,
  type Settings,
  settings,
} from "../../src/settings/settings.js";
import { scratch, trainAndWatch, writeTinySet } from "../support/tiny-run.js";
import { heldJpeg } from "../support/exif.js";
import { inFull, needsNative, optionsInFull } from "../support/native.js";
import { repository as root } from "../support/paths.js";

const program = join(root, "dist", "src", "cli", "main.js");
const folder = scratch();
const tinySet = writeTinySet(folder);
/** 20 drawn pictures for training, 10 for validation, as files and as records with a damaged one. */
const photos = join(folder, "photos");
const records = join(folder, "records");
before(async () => {
  await drawFolder({ folder: photos, seed: 4, size: 40, train: 20, validation: 10 });
  await writeRecords();
});

/** Three steps of half an epoch in a second or less: rising, falling and final rate, and an evaluation at the end. */
const base: GivenSettings = {
  data_dir: tinySet,
  recipe: "original",
  width: 0.5,
  image_size: 32,
  batch_size: 8,
  eval_batch_size: 8,
  max_epochs: 0.5,
  lr: 0.05,
  epochs_between_evals: 1,
  log_steps: 1,
  iterations_per_loop: 1,
  save_summary_steps: 0,
  report: false,
  ...inFull,
};

interface Observed {
  readonly run: string;
  readonly events: readonly TrainEvent[];
  readonly start: StartEvent;
  /** Threads of this process at each step; empty where the system does not tell. */
  readonly threads: readonly number[];
}

let runs = 0;
const known = new Map<string, Promise<Observed>>();

/** A run of the base settings with these in their place, once for each. */
function observe(given: GivenSettings = {}): Promise<Observed> {
  const key = JSON.stringify(given);
  const found = known.get(key) ?? runWith(given);
  known.set(key, found);
  return found;
}

async function runWith(given: GivenSettings): Promise<Observed> {
  const run = given.log_dir ?? join(folder, `run-${++runs}`);
  const threads: number[] = [];
  const { events } = await trainAndWatch({ ...base, log_dir: run, ...given }, (event) => {
    if (event.event === "step" && existsSync("/proc/self/task"))
      threads.push(readdirSync("/proc/self/task").length);
    return false;
  });
  const start = events.find((event) => event.event === "start");
  if (start === undefined) throw new Error("a run without a start");
  return { run, events, start, threads };
}

/** Losses, rates and scores: every number that training makes. */
function numbers({ events }: Observed): unknown {
  return events.flatMap((event) =>
    event.event === "step"
      ? [event.loss, event.learning_rate]
      : event.event === "evaluation"
        ? [event.loss, event.top1]
        : [],
  );
}

function scores({ events }: Observed): unknown {
  return events.flatMap((event) => (event.event === "evaluation" ? [event.loss] : []));
}

function countOf(event: TrainEvent["event"]): (observed: Observed) => number {
  return ({ events }) => events.filter((each) => each.event === event).length;
}

function files({ run }: Observed): string[] {
  return readdirSync(run).filter((name) => !name.includes("tfevents"));
}

/** What `see` sees differs between a run with `given` and one without, both with `common`. */
function differs(
  given: GivenSettings,
  see: (observed: Observed) => unknown = numbers,
  common: GivenSettings = {},
): () => Promise<void> {
  return async () => {
    const without = see(await observe(common));
    assert.notDeepEqual(see(await observe({ ...common, ...given })), without);
  };
}

/** What `see` sees of a run with `given` is `expected`, and something else without. */
function shows(
  given: GivenSettings,
  see: (observed: Observed) => unknown,
  expected: unknown,
): () => Promise<void> {
  return async () => {
    assert.deepEqual(see(await observe(given)), expected);
    assert.notDeepEqual(see(await observe()), expected);
  };
}

/** Refused without the setting, trained with it. */
function permits(given: GivenSettings, common: GivenSettings): () => Promise<void> {
  return async () => {
    await assert.rejects(observe(common), DataError);
    assert.ok((await observe({ ...common, ...given })).start.train_images > 0);
  };
}

function refused(given: GivenSettings): () => Promise<void> {
  return () => assert.rejects(observe(given), UsageError);
}

const onPhotos: GivenSettings = { data_dir: photos };

/** The drawn pictures as if the camera had been held upside down. */
function heldPhotos(): string {
  const held = join(folder, "held");
  cpSync(photos, held, { recursive: true });
  for (const name of readdirSync(held, { recursive: true, encoding: "utf8" })) {
    if (name.endsWith(".jpg")) writeFileSync(join(held, name), heldJpeg(readFileSync(join(held, name)), 3));
  }
  return held;
}

/** Weights of three classes, where the pictures have ten. */
async function ofOtherClasses(): Promise<string> {
  const { run } = await observe();
  return join(run, "step-3");
}

/** What a run of the base settings leaves. */
const ofThreeSteps = ["best", "events.jsonl", "recipe.json", "split.json", "step-0", "step-3"];

const foreign: GivenSettings = { data_dir: records, keys: "image=jpg,label=cls", label_offset: 1 };

const rows: { readonly [K in SettingName]: () => Promise<void> } = {
  data_dir: differs(onPhotos),
  train_data_dir: async () => {
    // Its training pictures, the validation pictures of --data_dir.
    const other = writeTinySet(folder, "other.npz", 7);
    const observed = await observe({ train_data_dir: other });
    assert.notDeepEqual(numbers(observed), numbers(await observe()));
    assert.equal(observed.start.validation_images, 12);
  },
  eval_data_dir: differs({ eval_data_dir: join(photos, "val") }, ({ start }) => start.scored?.by, {
    data_dir: join(photos, "train"),
    num_classes: 10,
  }),
  synthetic: shows(
    { synthetic: true, data_dir: undefined, num_classes: 3, train_dataset_size: 64 },
    ({ start }) => [start.train_images, start.validation_images],
    [64, 0],
  ),
  train_dataset_size: shows({ train_dataset_size: 24 }, ({ start }) => start.train_images, 24),
  eval_dataset_size: shows({ eval_dataset_size: 5 }, ({ start }) => start.validation_images, 5),
  val_split: shows(
    { data_dir: join(photos, "train"), val_split: 0.5 },
    ({ start }) => start.validation_images,
    10,
  ),
  split: async () => {
    const data_dir = join(photos, "train");
    const { run } = await observe({ data_dir, val_split: 0.5 });
    const images = async (given: GivenSettings) => (await evaluate(run, given)).images;
    assert.deepEqual([await images({}), await images({ split: "train" })], [10, 10]);
    await assert.rejects(images({ split: "test" }), /has no test part/);
  },
  num_classes: shows({ num_classes: 5 }, ({ start }) => start.classes, 5),
  max_bad_images: async () => {
    const broken = join(folder, "broken");
    await drawFolder({ folder: broken, seed: 5, size: 40, train: 20, validation: 10 });
    const shape = readdirSync(join(broken, "train"))[0] as string;
    writeFileSync(join(broken, "train", shape, "broken.jpg"), "no picture");
    // An epoch, so that every picture is looked at.
    await permits({ max_bad_images: 1 }, { data_dir: broken, max_epochs: 1, batch_size: 7 })();
  },
  skip_bad_records: permits({ skip_bad_records: 1 }, foreign),
  keys: permits({ keys: foreign.keys }, { ...foreign, keys: undefined, skip_bad_records: 1 }),
  label_offset: permits({ label_offset: 1 }, { ...foreign, label_offset: undefined, skip_bad_records: 1 }),
  cache: differs({ cache: "decoded" }, countOf("preparing"), onPhotos),
  cache_dir: async () => {
    const cache_dir = join(folder, "caches");
    const { start } = await observe({ ...onPhotos, cache: "resized", cache_dir });
    assert.ok(start.cache_folder?.startsWith(cache_dir), String(start.cache_folder));
  },
  shuffle: differs({ shuffle: false }, numbers, { augment: "none" }),

  image_size: differs({ image_size: 40 }),
  grow_from: differs({ grow_from: 32 }, numbers, { image_size: 40 }),
  grow_epochs: differs({ grow_epochs: 0.2 }, numbers, { image_size: 40, grow_from: 32 }),
  augment: differs({ augment: "none" }),
  crop_area_min: differs({ crop_area_min: 0.9 }),
  flip: differs({ flip: false }),
  eval_resize: differs({ eval_resize: 60 }, scores, onPhotos),
  eval_crop: differs({ eval_crop: 0.5 }, scores, onPhotos),
  exif_orientation: async () => {
    // Upright, every picture is another way up than it is stored, and so is what is evaluated.
    const held = { data_dir: heldPhotos() };
    await differs({ exif_orientation: "apply" }, numbers, held)();
    await differs({ exif_orientation: "apply" }, scores, held)();
  },

  variant: differs({ variant: "megvii" }, ({ start }) => start.parameters),
  width: differs({ width: 1 }, ({ start }) => start.parameters),
  version: async () => {
    const losses = new Set<string>();
    const choices = (settings.version as { choices?: readonly string[] }).choices ?? [];
    for (const choice of choices) {
      losses.add(JSON.stringify(numbers(await observe({ version: readSetting("version", choice) }))));
    }
    assert.equal(losses.size, choices.length);
  },
  offline: async () => {
    process.env["XDG_CACHE_HOME"] = join(folder, "no-weights");
    const named = { data_dir: tinySet, init_from: "torchvision/0.5x", log_dir: join(folder, "offline") };
    await assert.rejects(
      trainAndWatch({ ...named, offline: true }),
      /--offline keeps them from being fetched/,
    );
    assert.ok(!existsSync(named.log_dir));
  },
  init_from: async () => {
    const { run } = await observe();
    await differs({ init_from: join(run, "step-3") })();
  },

  recipe: shows({ recipe: "documented" }, ({ start }) => [start.recipe, start.settings["label_smoothing"]], [
    "documented",
    0.1,
  ]),
  batch_size: differs({ batch_size: 4 }, ({ start }) => start.steps_per_epoch),
  lr: differs({ lr: 0.01 }),
  classifier_rate: differs({ classifier_rate: 10 }),
  solve_classifier: async () => {
    const fromOther = { ...onPhotos, init_from: await ofOtherClasses() };
    await differs({ solve_classifier: true }, ({ start }) => start.solved?.features, fromOther)();
    await refused({ solve_classifier: true })();
  },
  class_weights: async () => {
    const solved = { ...onPhotos, init_from: await ofOtherClasses(), solve_classifier: true };
    await differs({ class_weights: "balanced" }, numbers, { ...onPhotos, train_dataset_size: 13 })();
    const unequal = { ...solved, freeze: true, train_dataset_size: 13 };
    await differs({ class_weights: "balanced" }, scores, unequal)();
  },
  freeze: async () => {
    await differs({ freeze: true }, numbers, { init_from: await ofOtherClasses(), ...onPhotos })();
    await refused({ freeze: true })();
  },
  batch_norm: differs({ batch_norm: "moving" }),
  end_learning_rate: differs({ end_learning_rate: 0.01 }),
  schedule: differs({ schedule: "cosine" }),
  max_epochs: differs({ max_epochs: 1 }, ({ start }) => start.steps),
  max_train_steps: async () => {
    // The rates are those of the whole run.
    const short = numbers(await observe({ max_train_steps: 2, mode: "train" })) as number[];
    const whole = numbers(await observe({ mode: "train" })) as number[];
    assert.equal(short.length, 4);
    assert.deepEqual(short, whole.slice(0, 4));
  },
  budget: shownIn("test/system/budget.test.ts", "budget"),
  patience: shownIn("test/system/patience.test.ts", "patience"),
  warmup_epochs: differs({ warmup_epochs: 0.4 }),
  weight_decay: differs({ weight_decay: 0.1 }),
  weight_decay_on: differs({ weight_decay_on: "matrices" }),
  momentum: differs({ momentum: 0 }),
  nesterov: differs({ nesterov: false }),
  label_smoothing: differs({ label_smoothing: 0.3 }),
  mixup: differs({ mixup: 0.4 }),
  average_decay: differs({ average_decay: 0.1 }, scores),
  seed: differs({ seed: 1 }),

  mode: shows({ mode: "train" }, countOf("evaluation"), 0),
  log_dir: async () => {
    const log_dir = join(folder, "elsewhere");
    await observe({ log_dir });
    assert.ok(existsSync(join(log_dir, "recipe.json")));
  },
  log_name: async () => {
    const { run } = await observe({ log_name: "plain.log" });
    const text = readFileSync(join(run, "plain.log"), "utf8");
    for (const step of [1, 2, 3]) assert.match(text, new RegExp(`^loss = [\\d.]+, step = ${step} \\(`, "m"));
    assert.match(text, /^global_step\/sec: [\d.]+$/m);
    assert.match(
      text,
      /^evaluation: accuracy = [\d.]+, top5_accuracy = [\d.]+, global_step = 3, loss = [\d.e+]+$/m,
    );
  },
  report: shows({ report: true }, files, [...ofThreeSteps, "model-card.md", "report.html"].sort()),
  checkpoint_dir: async () => {
    for (const given of [{}, { checkpoint_format: "tf" }] as const) {
      const { run } = await observe({ save_checkpoints_steps: 1, ...given });
      const steps: number[] = [];
      await evaluate(undefined, { checkpoint_dir: run, data_dir: tinySet }, (event) => {
        if (event.event === "start") steps.push(event.step);
      });
      assert.deepEqual(steps, [3]);
    }
    await assert.rejects(evaluate(undefined, { checkpoint_dir: folder }), CheckpointError);
  },
  resume: async () => {
    const { run } = await observe({ max_train_steps: 1, log_dir: join(folder, "resumed") });
    const { events } = await trainAndWatch({ resume: run, max_train_steps: 3 });
    const start = events.find((event) => event.event === "start");
    assert.equal(start?.resumed?.step, 1);
  },
  do_checkpoint: shows({ do_checkpoint: false }, files, ["events.jsonl", "recipe.json"]),
  checkpoint_format: async () => {
    const { run } = await observe({ checkpoint_format: "tf" });
    assert.ok(existsSync(join(run, "model.ckpt-3.index")) && existsSync(join(run, "checkpoint")));
    // Both formats hold the same weights.
    const data = { data_dir: tinySet, image_size: 32 };
    const moved = join(folder, "tf-only");
    mkdirSync(moved);
    for (const name of ["checkpoint", "model.ckpt-3.index", "model.ckpt-3.data-00000-of-00001"]) {
      writeFileSync(join(moved, name), readFileSync(join(run, name)));
    }
    assert.deepEqual(
      await evaluate(undefined, { ...data, checkpoint_dir: moved }),
      await evaluate(undefined, { ...data, checkpoint_dir: run }),
    );
    await refused({ checkpoint_format: "tf", variant: "megvii" })();
  },
  save_checkpoints_steps: differs({ save_checkpoints_steps: 1 }, files),
  keep_checkpoint_max: differs({ keep_checkpoint_max: 1 }, files),
  epochs_between_evals: differs({ epochs_between_evals: 2 }, countOf("evaluation"), { max_epochs: 2 }),
  // It changes no result, but what has to fit into memory.
  eval_batch_size: async () => {
    await differs({ eval_batch_size: 64 }, ({ start }) => start.memory)();
    assert.deepEqual(numbers(await observe({ eval_batch_size: 64 })), numbers(await observe()));
  },
  log_steps: differs(
    { log_steps: 3 },
    ({ run }) => readFileSync(join(run, "events.jsonl"), "utf8").match(/"event":"step"/g)?.length,
  ),
  iterations_per_loop: shows({ iterations_per_loop: 2 }, ({ events }) => stepsOf(events), [2, 3]),
  save_summary_steps: differs({ save_summary_steps: 1 }, ({ run }) => {
    const [name] = readdirSync(run).filter((each) => each.includes("tfevents"));
    return name === undefined ? 0 : readFileSync(join(run, name)).length;
  }),
  precision_mode: async () => {
    const of = async (precision_mode: Settings["precision_mode"]): Promise<unknown> =>
      numbers(await observe({ precision_mode }));
    const [exact, mixed] = [await of("must_keep_origin_dtype"), await of("allow_mix_precision")];
    assert.notDeepEqual(mixed, exact);
    assert.deepEqual(await of("allow_fp32_to_fp16"), exact);
    assert.deepEqual(await of("force_fp16"), mixed);
  },
  loss_scale: shows({ loss_scale: "none" }, ({ events }) => scalesOf(events), [null, null, null]),
  loss_scale_value: async () => {
    await shows({ loss_scale: "fixed", loss_scale_value: 1024 }, ({ events }) => scalesOf(events), [1024, 1024, 1024])(); // prettier-ignore
    await refused({ loss_scale: "none", loss_scale_value: 1024 })();
  },
  backend: shows(
    { backend: "wasm", precision_mode: "must_keep_origin_dtype" },
    ({ start }) => start.machine.isa,
    "wasm",
  ),
  // It changes no result, but how many threads there are.
  threads: async () => {
    const { threads, run } = await observe({ threads: 1 });
    assert.ok(existsSync(run));
    if (threads.length === 0) return;
    assert.ok(Math.max(...(await observe({ threads: 6 })).threads) > Math.max(...threads));
  },
  // It changes no result, but what is kept of this machine.
  autotune: async () => {
    process.env["XDG_CACHE_HOME"] = join(folder, "caches");
    const tuned = await observe({ autotune: true });
    const modes = tuned.events.flatMap((event) => (event.event === "tuning" ? [event.mode] : []));
    assert.deepEqual(modes, ["train", "infer"]);
    assert.equal(readdirSync(join(folder, "caches", "riffle", "tuning")).length, 2);
    assert.deepEqual(numbers(tuned), numbers(await observe()));
  },
  profiling: shows({ profiling: true }, files, [...ofThreeSteps, "profile"].sort()),
  profile_steps: shows({ profiling: true, profile_steps: "2-3" }, profiledSteps, [[2, 3]]),
  over_dump: shownIn("test/system/dumps.test.ts", "over_dump"),
  data_dump_flag: shows({ data_dump_flag: true }, dumped, ["step-3"]),
  data_dump_step: shows({ data_dump_flag: true, data_dump_step: "1|3" }, dumped, ["step-1", "step-3"]),

  rank_size: refused({ rank_size: 2 }),
  shards: differs({ shards: 2 }, ({ start }) => start.steps_per_epoch),
  hcom_parallel: shownIn("test/system/ranks.test.ts", "hcom_parallel"),
  exchange: shownIn("test/system/ranks.test.ts", "exchange"),
  bucket_size: shownIn("test/system/ranks.test.ts", "bucket_size"),
  sync_batch_norm: refused({ sync_batch_norm: true, shards: 2 }),
  rank_timeout: shownIn("test/system/rank-faults.test.ts", "rank_timeout"),
  // It changes no result, but how many batches lie in memory.
  enable_data_pre_proc: async () => {
    await differs({ enable_data_pre_proc: false }, ({ start }) => start.memory)();
    assert.deepEqual(numbers(await observe({ enable_data_pre_proc: false })), numbers(await observe()));
  },
};

/** What takes runs of its own to show, or several processes, and is tested among them. */
function shownIn(file: string, name: SettingName): () => Promise<void> {
  return async () => assert.match(await readFile(join(root, file), "utf8"), new RegExp(`\\b${name}\\b`));
}

function profiledSteps({ events }: Observed): unknown {
  return events.flatMap((event) => (event.event === "profile" ? [[event.first_step, event.last_step]] : []));
}

function dumped({ run }: Observed): string[] {
  return existsSync(join(run, "dump")) ? readdirSync(join(run, "dump")).sort() : [];
}

function stepsOf(events: readonly TrainEvent[]): number[] {
  return events.flatMap((event) => (event.event === "step" ? [event.step] : []));
}

function scalesOf(events: readonly TrainEvent[]): (number | null)[] {
  return events.flatMap((event) => (event.event === "step" ? [event.loss_scale] : []));
}

suite("every parameter does something that shows", () => {
  // What another engine does, and what it has to do with bf16.
  const ofNative = new Set<SettingName>(["backend", "precision_mode", "loss_scale", "loss_scale_value"]);
  for (const name of settingNames) test(name, ofNative.has(name) ? needsNative() : {}, rows[name]);
});

/** The published table's names, then those of the original's train.py. */
const published = (
  "data_dir num_classes batch_size lr max_epochs warmup_epochs weight_decay momentum label_smoothing save_summary_steps " +
  "log_dir log_name save_checkpoints_steps mode checkpoint_dir max_train_steps synthetic version do_checkpoint rank_size " +
  "train_batch_size eval_batch_size max_train_step iterations_per_loop num_epochs epochs_between_evals model_dir " +
  "precision_mode initial_learning_rate end_learning_rate train_data_dir eval_data_dir train_dataset_size " +
  "eval_dataset_size keep_checkpoint_max"
).split(" ");

suite("the documented command line", () => {
  for (const name of published) {
    test(`--${name} is known, with dashes too`, () => {
      assert.notEqual(findSetting(name), undefined);
      assert.equal(findSetting(name.replaceAll("_", "-")), findSetting(name));
    });
  }

  test(
    "trains and evaluates by its mode, without the name of a command, under the original's names",
    needsNative(),
    () => {
      const run = join(folder, "by-mode");
      const riffle = (...argv: string[]) =>
        spawnSync(process.execPath, [program, ...argv], { cwd: folder, encoding: "utf8" });
      const trained = riffle(
        ...["--mode=train", "--data_dir", tinySet, `--model_dir=${run}`, "--num-epochs=0.5", "--width=0.5"],
        ...["--image_size=32", "--train_batch_size=8", "--initial_learning_rate=0.05", "--max_train_step=2"],
        ...["--synthetic=False", "--precision_mode=allow_mix_precision"],
      );
      assert.equal(trained.status, 0, trained.stderr);
      assert.match(
        trained.stderr,
        /^Machine .* · mixed \(bf16 maps, f32 sums and weights\) · loss scale dynamic from 4294967296$/m,
      );
      assert.match(trained.stderr, /^Recipe +documented: /m);
      assert.ok(existsSync(join(run, "step-2")) && !existsSync(join(run, "best")));
      for (const command of [["--mode", "evaluate"], ["train", "--mode=evaluate"], ["evaluate"]]) {
        const evaluated = riffle(
          ...command,
          "--checkpoint-dir",
          run,
          "--data_dir",
          tinySet,
          "--batch_size=5",
        );
        assert.equal(evaluated.status, 0, evaluated.stderr);
        assert.match(evaluated.stdout, /accuracy = [\d.]+, top5_accuracy = [\d.]+, global_step = 2, loss = /);
      }
      const both = riffle("evaluate", run, "--checkpoint_dir", run);
      assert.equal(both.status, 2);
      assert.match(both.stderr, /two answers/);
    },
  );
});

suite("a command line without a command", () => {
  /** The recipe in the head of a run of one step. */
  function recipeOf(name: string, ...argv: string[]): string | undefined {
    const sizes = [
      "--width=0.5",
      "--image_size=32",
      "--batch_size=8",
      "--max_train_steps=1",
      ...optionsInFull,
    ];
    const data = ["--data_dir", tinySet, "--log_dir", join(folder, name)];
    const { stderr } = spawnSync(process.execPath, [program, ...argv, ...data, ...sizes], {
      cwd: folder,
      encoding: "utf8",
    });
    return /^Recipe +([\w-]+): /m.exec(stderr)?.[1];
  }

  test("means the recipe documented, unless it names another", () => {
    assert.equal(recipeOf("bare"), "documented");
    assert.equal(recipeOf("bare-small", "--recipe", "small-set"), "small-set");
    assert.equal(recipeOf("bare-original", "--recipe=original"), "original");
    assert.equal(recipeOf("with-command", "train"), "small-set");
  });

  test("goes on with a run under that run's recipe", () => {
    const argv = ["--resume", join(folder, "bare-small"), "--data_dir", tinySet, "--max_train_steps=2"];
    const { status, stderr } = spawnSync(process.execPath, [program, ...argv], {
      cwd: folder,
      encoding: "utf8",
    });
    assert.equal(status, 0, stderr);
    assert.match(stderr, /^Recipe +small-set: /m);
  });
});

suite("the pages of parameters", () => {
  for (const language of languages) {
    test(`are those of the table (${language}); else run node scripts/parameters-pages.mjs`, () => {
      const page = join(root, "docs", ...(language === "en" ? [] : [language]), "parameters.md");
      assert.equal(readFileSync(page, "utf8"), parametersPage(language));
    });
  }

  test("name every parameter and alias", () => {
    for (const language of languages) {
      const page = parametersPage(language);
      for (const name of settingNames) {
        const { aliases = [] } = settings[name] as { aliases?: readonly string[] };
        for (const each of [name, ...aliases]) assert.ok(page.includes(`\`${each}\``), each);
      }
    }
  });
});

/** The drawn pictures as others might have stored them: keys of their own, labels from 1, one record damaged. */
async function writeRecords(): Promise<void> {
  const { train, validation } = await openDatasets(photos, { seed: 0 });
  for (const [part, set] of [
    ["train_shards", train],
    ["eval_shards", validation],
  ] as const) {
    if (set === undefined) throw new Error("drawn without validation");
    mkdirSync(join(records, part), { recursive: true });
    const framed: Uint8Array[] = [];
    for (let i = 0; i < set.size; i++) {
      const picture = await set.read(i);
      if (picture.kind !== "encoded") throw new Error("a drawn picture is a file");
      framed.push(
        frameRecord(
          encodeExample([
            ["jpg", { kind: "bytes", values: [picture.bytes] }],
            ["cls", { kind: "ints", values: [BigInt(set.label(i) + 1)] }],
          ]),
        ),
      );
    }
    const bytes = Buffer.concat(framed);
    if (part === "train_shards") bytes[200]! ^= 1; // in the picture of the first record
    writeFileSync(join(records, part, "a.tfrecords"), bytes);
  }
  writeFileSync(join(records, "classes.txt"), train.classes.join("\n"));
}
