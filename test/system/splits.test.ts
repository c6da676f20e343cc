/**
 * What is scored is what was held out: of data that has moved or changed since, and of data that is given to a run by
 * another name.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { suite, test } from "node:test";

import { CheckpointError, DataError, UsageError } from "../../src/core/error.js";
import { train } from "../../src/train/trainer.js";
import { program } from "../support/paths.js";
import { classes, fresh, given, numbered, pictures, scoredBy, startOf } from "../support/split-data.js";
import { trainAndWatch, trainedBits } from "../support/tiny-run.js";

interface SplitFile {
  readonly held_out: Readonly<Record<string, number>>;
  readonly trained: Readonly<Record<string, number>>;
}

function splitOf(run: string): SplitFile {
  return JSON.parse(readFileSync(join(run, "split.json"), "utf8")) as SplitFile;
}

function heldOutOf(run: string): string[] {
  return Object.keys(splitOf(run).held_out);
}

suite("data without a part to be scored", () => {
  test("a fifth of every class is held out by seed, recorded in the run, and is what evaluate and show-data use", async () => {
    const root = await pictures(...classes("", ...numbered(10)));
    const settings = given(root);
    const { start } = await startOf(settings);
    const run = settings.log_dir as string;
    assert.deepEqual([start.train_images, start.validation_images], [16, 4]);
    assert.deepEqual(start.scored, { by: "share", share: 0.2, unused: [] });
    const held = heldOutOf(run);
    assert.deepEqual(
      held.map((name) => dirname(name)),
      ["ants", "ants", "bees", "bees"],
    );
    assert.deepEqual(await scoredBy(run), { images: 4, part: "held out", unused: [], warnings: [] });
    for (const source of [root, run]) {
      const argv = [program, "show-data", source, "--json", "--output", `${fresh("sheet")}.png`];
      const { stdout, status } = spawnSync(process.execPath, argv, { encoding: "utf8" });
      assert.equal(status, 0);
      const shown = [...stdout.matchAll(/"name":"([^"]+)"/g)].map(([, name = ""]) =>
        name.slice(root.length + 1),
      );
      assert.deepEqual(shown.sort(), held);
    }
    const other = given(root, { seed: 3 });
    await train(other);
    assert.notDeepEqual(heldOutOf(other.log_dir as string), held);
  });

  test("is found again by name where a picture was removed or added, and where all of it has moved", async () => {
    const root = await pictures(...classes("", ...numbered(10)));
    const settings = given(root);
    await train(settings);
    const run = settings.log_dir as string;
    const [gone = "", ...held] = heldOutOf(run);
    rmSync(join(root, gone));
    rmSync(
      join(root, held.includes("ants/00.jpg") || gone === "ants/00.jpg" ? "ants/01.jpg" : "ants/00.jpg"),
      { force: true },
    );
    cpSync(join(root, held[0] as string), join(root, "bees/99.jpg"));
    const now = await scoredBy(run);
    assert.deepEqual(
      [now.images, now.part],
      [
        held.filter((name) => readdirSync(join(root, dirname(name))).includes(name.split("/")[1] as string))
          .length,
        "held out",
      ],
    );
    assert.match(now.warnings.join(), /held out (is|are) gone.*1 picture came since the run began/);
    const moved = fresh("moved");
    renameSync(root, moved);
    const there = await scoredBy(run, { data_dir: moved });
    assert.deepEqual([there.images, there.part], [now.images, "held out"]);
    await assert.rejects(scoredBy(run), DataError);
  });

  test("a resumed run trains on the same pictures, to the same bits, though others were added", async () => {
    const root = await pictures(...classes("", ...numbered(10)));
    const whole = await train(given(root));
    const settings = given(root);
    const { result } = await trainAndWatch(settings, (event) => event.event === "step" && event.step === 2);
    assert.ok(result.stopped);
    cpSync(join(root, "ants/00.jpg"), join(root, "ants/50.jpg"));
    rmSync(join(root, heldOutOf(result.run)[0] as string));
    const resumed = await train({ resume: result.run });
    assert.equal(trainedBits(resumed.checkpoint), trainedBits(whole.checkpoint));
    assert.equal(resumed.scores?.images, 3);
    rmSync(join(root, Object.keys(splitOf(result.run).trained)[0] as string));
    await assert.rejects(train({ resume: result.run }), CheckpointError);
  });

  test("without split.json the share is drawn again where the data is what it was, and refused where it is not", async () => {
    const root = await pictures(...classes("", ...numbered(10)));
    const settings = given(root);
    await train(settings);
    const run = settings.log_dir as string;
    rmSync(join(run, "split.json"));
    assert.equal((await scoredBy(run)).images, 4);
    rmSync(join(root, "ants/00.jpg"));
    await assert.rejects(scoredBy(run), (error) => {
      assert.ok(error instanceof CheckpointError);
      return /split\.json of the run is missing or damaged/.test(error.message);
    });
  });

  test("--val_split 0 trains on all of it; then nothing is scored but by --split train", async () => {
    const root = await pictures(...classes("", ...numbered(4)));
    const settings = given(root, { val_split: 0 });
    const { start } = await startOf(settings);
    assert.deepEqual([start.train_images, start.validation_images, start.scored?.by], [8, 0, null]);
    await assert.rejects(scoredBy(settings.log_dir), /pictures to train on alone.*--split train/);
    assert.deepEqual((await scoredBy(settings.log_dir, { split: "train" })).images, 8);
    const { stderr, stdout } = spawnSync(
      process.execPath,
      [
        program,
        "train",
        "--data_dir",
        root,
        "--val_split",
        "0",
        "--log_dir",
        fresh("run"),
        "--width",
        "0.5",
        "--image_size",
        "32",
        "--max_train_steps",
        "1",
      ],
      { encoding: "utf8" },
    );
    assert.match(stderr, /Held out +nothing: all pictures are trained on/);
    assert.match(stdout, /npx riffle-vision predict/);
    assert.doesNotMatch(stdout, /npx riffle-vision evaluate/, "it has nothing to score");
  });
});

suite("other data for a run", () => {
  test("that was trained on is refused, or what was held out of it is scored", async () => {
    const root = await pictures(...classes("train/", ...numbered(6)), ...classes("val/", "90", "91"));
    const settings = given(root);
    await train(settings);
    const run = settings.log_dir as string;
    await assert.rejects(
      scoredBy(run, { data_dir: join(root, "train") }),
      /to train on alone.*--split train/,
    );
    const copy = fresh("copy");
    cpSync(join(root, "train"), copy, { recursive: true });
    await assert.rejects(
      scoredBy(run, { data_dir: copy }),
      /12 of its 12 pictures are those that the run trained on/,
    );
    rmSync(join(copy, "ants/00.jpg"));
    await assert.rejects(
      scoredBy(run, { data_dir: copy }),
      /11 of its 11 pictures are those that the run trained on/,
    );
    assert.equal((await scoredBy(run, { data_dir: copy, split: "train" })).images, 11);
    // Pictures of the same classes under other names.
    assert.deepEqual((await scoredBy(run, { data_dir: join(root, "val") })).images, 4);
  });

  test("without parts that the run has not seen is evaluated whole", async () => {
    const run = given(await pictures(...classes("", ...numbered(6))));
    await train(run);
    const other = await pictures(...classes("", ...numbered(3)).map((name) => name.replace("/", "/other-")));
    assert.deepEqual(await scoredBy(run.log_dir, { data_dir: other }), {
      images: 6,
      part: "all",
      unused: [],
      warnings: [],
    });
    await assert.rejects(scoredBy(run.log_dir, { data_dir: other, split: "test" }), /has no test part/);
  });

  test("--val_split that is not what the run held out is refused, and so is one set for both", async () => {
    const root = await pictures(...classes("", ...numbered(6)));
    const settings = given(root);
    await train(settings);
    await assert.rejects(scoredBy(settings.log_dir, { val_split: 0.5 }), UsageError);
    const twice = { train_data_dir: root, eval_data_dir: root, data_dir: undefined };
    await assert.rejects(train(given(root, twice)), /the very pictures that are trained on/);
  });
});
