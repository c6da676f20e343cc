import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { UsageError } from "../core/error.js";
import { augmentations } from "../data/pictures/augment.js";
import { describeDefault, recipes } from "./recipe.js";
import { rateWarnings, resolveSettings, scaledRate } from "./resolve-settings.js";
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

  test("weights to start from take the fine-tuning recipe, unless another is named", () => {
    assert.equal(resolveSettings({ init_from: "w.pth" }, 10_000_000).settings.recipe, "fine-tune");
    assert.equal(resolveSettings({ init_from: "w.pth", recipe: "original" }, 10).settings.recipe, "original");
    const { settings: tuned } = resolveSettings({ init_from: "w.pth" }, 244);
    assert.ok(tuned.solve_classifier && tuned.weight_decay < 5e-4 && tuned.max_epochs <= 30);
  });

  test("what is fine-tuned is the network that the weights are of, unless told otherwise", () => {
    const ofWeights = { variant: "tensorflow", width: 0.5, image_size: 96 } as const;
    const { settings: tuned, origins } = resolveSettings({ init_from: "w" }, 10, ofWeights);
    assert.deepEqual([tuned.variant, tuned.width, tuned.image_size], ["tensorflow", 0.5, 96]);
    assert.deepEqual([tuned.augment, origins.width], ["tensorflow", "weights"]);
    assert.equal(
      resolveSettings({ init_from: "w", image_size: 128 }, 10, ofWeights).settings.image_size,
      128,
    );
  });

  test("a recipe's rate follows another batch in proportion, and says from what", () => {
    for (const [recipe, batch_size, lr, own] of [
      ["small-set", 16, 0.1, { lr: 0.2, batch_size: 32 }],
      ["small-set", 64, 0.4, { lr: 0.2, batch_size: 32 }],
      ["torchvision", 1024, 0.5, { lr: 0.0625, batch_size: 128 }],
      ["megvii", 96, 0.046875, { lr: 0.0625, batch_size: 128 }],
    ] as const) {
      const resolved = resolveSettings({ recipe, batch_size }, 6000);
      assert.equal(resolved.settings.lr, lr);
      assert.deepEqual(scaledRate(resolved), own);
      assert.deepEqual(rateWarnings(resolved), []);
    }
  });

  test("a rate that is given, and a batch that is the recipe's own, are left alone", () => {
    const given = resolveSettings({ recipe: "small-set", batch_size: 16, lr: 0.2 }, 6000);
    assert.deepEqual([given.settings.lr, scaledRate(given)], [0.2, null]);
    const own = resolveSettings({ recipe: "small-set", batch_size: 32 }, 6000);
    assert.deepEqual([own.settings.lr, scaledRate(own)], [0.2, null]);
  });

  test("documented and original keep their rate at another batch, and warn with the rate in proportion", () => {
    for (const [recipe, lr, proportional] of [
      ["documented", 0.06, 0.03],
      ["original", 0.0625, 0.03125],
    ] as const) {
      const resolved = resolveSettings({ recipe, batch_size: 64 }, 1_281_144);
      assert.deepEqual([resolved.settings.lr, scaledRate(resolved)], [lr, null]);
      assert.match(rateWarnings(resolved).join(), new RegExp(`belongs to batch 128.*--lr ${proportional}$`));
      assert.deepEqual(rateWarnings(resolveSettings({ recipe }, 10)), []);
      assert.deepEqual(rateWarnings(resolveSettings({ recipe, batch_size: 64, lr: 0.1 }, 10)), []);
    }
  });

  test("a rate follows the pictures of all shards, of which there are as many as ranks unless given", () => {
    for (const [given, ranks, lr, own] of [
      [{ recipe: "torchvision", shards: 8 }, 1, 0.5, { lr: 0.0625, batch_size: 128 }],
      [{ recipe: "torchvision", shards: 8 }, 4, 0.5, { lr: 0.0625, batch_size: 128 }],
      [{ recipe: "torchvision" }, 8, 0.5, { lr: 0.0625, batch_size: 128 }],
      [{ recipe: "small-set", batch_size: 4, shards: 8 }, 1, 0.2, null],
      [{ recipe: "small-set", batch_size: 16, shards: 3 }, 1, 0.3, { lr: 0.2, batch_size: 32 }],
    ] as const) {
      const resolved = resolveSettings(given, 6000, {}, ranks);
      assert.equal(resolved.settings.shards, "shards" in given ? given.shards : ranks);
      assert.deepEqual([resolved.settings.lr, scaledRate(resolved)], [lr, own]);
    }
  });

  test("documented and original multiply their rates by the shards: 0.5 and 8e-6 for eight", () => {
    const original = resolveSettings({ recipe: "original" }, 1_281_144, {}, 8);
    assert.deepEqual([original.settings.lr, original.settings.end_learning_rate], [0.5, 8e-6]);
    assert.deepEqual(scaledRate(original), { lr: 0.0625, batch_size: 128 });
    assert.deepEqual(rateWarnings(original), []);
    const three = resolveSettings({ recipe: "documented", shards: 3 }, 1_281_144).settings;
    assert.deepEqual([three.lr, three.end_learning_rate], [0.18, 3e-6]);
    const given = resolveSettings({ recipe: "original", shards: 8, lr: 0.1, end_learning_rate: 1e-7 }, 10);
    assert.deepEqual([given.settings.lr, given.settings.end_learning_rate], [0.1, 1e-7]);
    assert.equal(scaledRate(given), null);
  });

  test("at another batch they are those of its shards, and warn with the rate in proportion to all pictures", () => {
    const resolved = resolveSettings({ recipe: "original", shards: 8, batch_size: 64 }, 1_281_144);
    assert.equal(resolved.settings.lr, 0.5);
    assert.match(
      rateWarnings(resolved).join(),
      /rate 0.0625 for each of 8 shards, which belongs to batch 128, at batch 64;.*--lr 0.25$/,
    );
  });

  test("small-set makes more passes over fewer pictures, and keeps its numbers where it was tuned", () => {
    const epochs = (images: number): number => resolveSettings({}, images).settings.max_epochs;
    assert.deepEqual([50_000, 6000, 1500, 244].map(epochs), [15, 15, 30, 74]);
    const tuned = resolveSettings({}, 6000).settings;
    assert.deepEqual(
      [tuned.batch_size, tuned.lr, tuned.max_epochs, tuned.warmup_epochs, tuned.epochs_between_evals],
      [32, 0.2, 15, 2, 1],
    );
    assert.equal(resolveSettings({ max_epochs: 20 }, 244).settings.max_epochs, 20);
  });

  test("fewer pictures than a batch make a smaller one, its rate in proportion", () => {
    const few = resolveSettings({}, 20);
    assert.deepEqual([few.settings.batch_size, few.settings.lr], [16, 0.1]);
    assert.deepEqual(scaledRate(few), { lr: 0.2, batch_size: 32 });
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
      "128 in documented, original, torchvision, megvii; 32 in small-set, fine-tune",
    );
    assert.equal(describeDefault("keep_checkpoint_max"), "5 checkpoints (TensorFlow's default)");
    assert.equal(describeDefault("momentum"), "0.9");
  });
});
