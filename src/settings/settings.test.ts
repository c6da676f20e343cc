import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { UsageError } from "../core/error.js";
import { augmentations } from "../data/pictures/augment.js";
import { describeDefault, recipes } from "./recipe.js";
import { resolveSettings } from "./resolve-settings.js";
import { findSetting, readSetting, readSettings } from "./read-settings.js";
import { expectation } from "./setting-kinds.js";
import { settingNames, settings } from "./settings.js";

function refusal(act: () => unknown): UsageError["problem"] {
  let caught: unknown;
  assert.throws(act, (error) => {
    caught = error;
    return error instanceof UsageError;
  });
  return (caught as UsageError).problem;
}

suite("a setting's name", () => {
  test("is found with dashes, underscores and leading dashes alike", () => {
    assert.equal(findSetting("--batch-size"), "batch_size");
    assert.equal(findSetting("batch_size"), "batch_size");
  });

  test("is found under the names of the original program", () => {
    for (const [alias, name] of [
      ["train_batch_size", "batch_size"],
      ["num_epochs", "max_epochs"],
      ["max_train_step", "max_train_steps"],
      ["initial_learning_rate", "lr"],
      ["model_dir", "log_dir"],
    ]) {
      assert.equal(findSetting(alias as string), name);
    }
  });

  test("belongs to one setting only", () => {
    const names = settingNames.flatMap((name) => [name, ...(settings[name].aliases ?? [])]);
    assert.equal(new Set(names).size, names.length);
  });

  test("that is no setting is refused with the ones that are", () => {
    const problem = refusal(() => readSettings({ batchsize: 64 }));
    assert.match(problem.what, /"batchsize"/);
    assert.match(problem.expected ?? "", /batch_size/);
  });
});

suite("a setting's value", () => {
  for (const [name, text, value] of [
    ["batch_size", "64", 64],
    ["lr", "6.25e-2", 0.0625],
    ["width", "1.0", 1],
    ["width", "0.5x", 0.5],
    ["nesterov", "False", false],
    ["shuffle", "true", true],
    ["variant", "megvii", "megvii"],
    ["label_smoothing", "0", 0],
  ] as const) {
    test(`--${name} ${text} is ${value}`, () => assert.equal(readSetting(name, text), value));
  }

  for (const [name, given] of [
    ["batch_size", "0"],
    ["batch_size", "3.5"],
    ["batch_size", "0x10"],
    ["batch_size", ""],
    ["batch_size", "many"],
    ["batch_size", 1e300],
    ["image_size", "7"],
    ["lr", "NaN"],
    ["lr", "Infinity"],
    ["lr", "-0.1"],
    ["lr", NaN],
    ["width", "0.75"],
    ["nesterov", "maybe"],
    ["variant", "resnet"],
    ["log_dir", ""],
    ["log_dir", "a\0b"],
    ["max_epochs", "0"],
  ] as const) {
    test(`--${name} ${JSON.stringify(given)} is refused with what was expected and found`, () => {
      const problem = refusal(() => readSetting(name, given));
      assert.equal(problem.where, `option --${name}`);
      assert.equal(problem.expected, expectation(settings[name]));
      assert.equal(problem.found, JSON.stringify(given));
    });
  }
});

suite("the table", () => {
  test("offers the augmentations that exist", () => {
    assert.deepEqual(
      [...(settings.augment as { choices?: readonly unknown[] }).choices!],
      Object.keys(augmentations),
    );
  });

  test("has defaults that it would accept itself", () => {
    for (const name of settingNames) {
      const { default: value } = settings[name];
      if (value !== undefined) assert.equal(readSetting(name, value), value, name);
    }
  });
});

suite("recipes", () => {
  test("hold values that the table accepts", () => {
    for (const { values } of Object.values(recipes)) assert.deepEqual(readSettings(values), values);
  });

  test("few pictures take small-set, many the documented recipe", () => {
    assert.equal(resolveSettings({}, 99_999).settings.recipe, "small-set");
    assert.equal(resolveSettings({}, 100_000).settings.recipe, "documented");
  });

  test("a given setting wins over the recipe, the recipe over the default, and each says so", () => {
    const { settings: resolved, origins } = resolveSettings({ lr: 0.5, recipe: "original" }, 10);
    assert.deepEqual([resolved.lr, origins.lr], [0.5, "given"]);
    assert.deepEqual([resolved.label_smoothing, origins.label_smoothing], [0, "recipe"]);
    assert.deepEqual([resolved.keep_checkpoint_max, origins.keep_checkpoint_max], [5, "default"]);
  });

  test("documented and original have the published numbers", () => {
    const documented = resolveSettings({ recipe: "documented" }, 10).settings;
    assert.deepEqual(
      [documented.batch_size, documented.lr, documented.max_epochs, documented.warmup_epochs],
      [128, 0.06, 133, 5],
    );
    assert.deepEqual([documented.weight_decay, documented.label_smoothing], [4e-5, 0.1]);
    const original = resolveSettings({ recipe: "original" }, 10).settings;
    assert.deepEqual(
      [original.lr, original.end_learning_rate, original.warmup_epochs, original.label_smoothing],
      [0.0625, 1e-6, 0, 0],
    );
  });

  test("a short run shortens a warm-up that was not given, and refuses one that was", () => {
    assert.equal(resolveSettings({ max_epochs: 1 }, 10).settings.warmup_epochs, 0.25);
    const problem = refusal(() => resolveSettings({ max_epochs: 1, warmup_epochs: 1 }, 10));
    assert.match(problem.found ?? "", /warmup_epochs 1/);
  });

  test("pictures that are not varied are evaluated as they were trained, unless told otherwise", () => {
    assert.equal(resolveSettings({}, 10).settings.eval_crop, 0.75);
    assert.equal(resolveSettings({ augment: "none" }, 10).settings.eval_crop, 0.875);
    assert.equal(resolveSettings({ augment: "none", eval_crop: 0.5 }, 10).settings.eval_crop, 0.5);
  });

  test("a rate that would rise, and a crop that does not fit, are refused", () => {
    assert.match(refusal(() => resolveSettings({ lr: 0.1, end_learning_rate: 0.2 }, 10)).what, /rise/);
    assert.match(refusal(() => resolveSettings({ image_size: 96, eval_resize: 90 }, 10)).what, /crop/);
  });

  test("help says each default with its recipe", () => {
    assert.equal(
      describeDefault("batch_size"),
      "128 in documented, original, torchvision, megvii; 32 in small-set",
    );
    assert.equal(describeDefault("keep_checkpoint_max"), "5 checkpoints (TensorFlow's default)");
    assert.equal(describeDefault("momentum"), "0.9");
  });
});
