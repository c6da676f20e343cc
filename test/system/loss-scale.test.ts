/**
 * Runs whose loss is scaled: steps that are not finite are passed over with their batches, on all ranks, and a run that was
 * stopped among them goes on to the same bits.
 *
 * A scale near f32's end makes gradients overflow that are themselves quite usual, now of this batch, now of that.
 */

import assert from "node:assert/strict";
import { cpSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import { DivergedError } from "../../src/core/error.js";
import type { TrainEvent } from "../../src/run/events.js";
import type { GivenSettings } from "../../src/settings/settings.js";
import { train } from "../../src/train/trainer.js";
import { editState, stateIn } from "../support/edit-state.js";
import { asOptions, freshRuns, numbersOf } from "../support/fresh-runs.js";
import { needsMpi, startRanks } from "../support/mpi.js";
import { repository } from "../support/paths.js";
import { steps, tinySettings, trainAndWatch, trainedBits } from "../support/tiny-run.js";

const { data, fresh } = freshRuns();

function skippedIn(events: readonly TrainEvent[]): number {
  return events.filter(({ event }) => event === "skipped").length;
}

for (const shards of [1, 2]) {
  suite(`a run in which steps overflow, ${shards} shards`, () => {
    const base = fresh();
    /** A copy of a run that stands at step 4, where the scale is about to overflow, or to double and to overflow. */
    const onTheEdge = (): string => {
      const run = fresh();
      cpSync(base, run, { recursive: true });
      return run;
    };
    let straight: { readonly run: string; readonly events: readonly TrainEvent[] };
    before(async () => {
      const given = { ...tinySettings(data, base), shards, batch_size: 8 / shards };
      await train({ ...given, loss_scale: "dynamic", loss_scale_value: 3.4e38, max_train_steps: 4 });
      const at = join(base, "step-4");
      // Twice the largest at which steps were finite: what is not too large for the next gradients is so when it doubles.
      const { scale: largest = NaN } = stateIn(at).loss_scale ?? {};
      const scale = Math.fround(2 * largest);
      editState(at, { loss_scale: { scale, good: 998, bad: 0, consecutive: 0 } });
      const run = onTheEdge();
      const { events } = await trainAndWatch({ resume: run, max_train_steps: steps, log_name: "plain.log" });
      straight = { run, events };
    });

    test("passes over them, makes all of its steps and says both", () => {
      const { events, run } = straight;
      const skipped = skippedIn(events);
      assert.ok(skipped >= 2, `${skipped} skipped`);
      const made = events.flatMap((event) => (event.event === "step" ? [event.step] : []));
      assert.deepEqual(
        made,
        Array.from({ length: steps - 4 }, (_, i) => 5 + i),
      );
      const { skipped: before = 0, loss_scale: begun } = stateIn(join(base, "step-4"));
      const state = stateIn(join(run, `step-${steps}`));
      assert.equal(state.skipped, before + skipped);
      const log = readFileSync(join(run, "plain.log"), "utf8");
      assert.equal(
        log.match(/^skipped a step after step \d+: not finite; loss scale now /gm)?.length,
        skipped,
      );
      assert.match(log, new RegExp(`^ended after step ${steps}, .*, ${state.skipped} steps skipped$`, "m"));
      const end = events.at(-1);
      assert.ok(end?.event === "end" && end.skipped === state.skipped);
      assert.ok((state.loss_scale?.scale ?? NaN) < 2 * (begun?.scale ?? NaN));
    });

    test("stopped after any step or skipped step goes on to the same bits, losses and scales", async () => {
      const marks = straight.events.filter(({ event }) => event === "step" || event === "skipped").length;
      for (const stop of [1, 2, 3, 4, 5, 6, marks - 1]) {
        const run = onTheEdge();
        let seen = 0;
        const first = await trainAndWatch(
          { resume: run, max_train_steps: steps },
          ({ event }) => (event === "step" || event === "skipped") && ++seen === stop,
        );
        assert.equal(first.result.stopped, true);
        const second = await trainAndWatch({ resume: run });
        assert.deepEqual(numbersOf([...first.events, ...second.events]), numbersOf(straight.events));
        const last = `step-${steps}`;
        assert.equal(trainedBits(join(run, last)), trainedBits(join(straight.run, last)));
        const { skipped, loss_scale } = stateIn(join(straight.run, last));
        const own = stateIn(join(run, last));
        assert.deepEqual([own.skipped, own.loss_scale], [skipped, loss_scale]);
      }
    });

    test("in loops of 3 and of 10 ends with the same bits", async () => {
      for (const iterations_per_loop of [3, 10]) {
        const run = onTheEdge();
        const { events } = await trainAndWatch({ resume: run, max_train_steps: steps, iterations_per_loop });
        const last = `step-${steps}`;
        assert.equal(trainedBits(join(run, last)), trainedBits(join(straight.run, last)));
        const saved = stateIn(join(straight.run, last));
        const own = stateIn(join(run, last));
        assert.deepEqual([own.skipped, own.loss_scale], [saved.skipped, saved.loss_scale]);
        const skips = (of: readonly TrainEvent[]) => of.filter(({ event }) => event === "skipped");
        assert.deepEqual(skips(events), skips(straight.events));
      }
    });

    if (shards === 2) {
      for (const exchange of ["window", "messages"] as const) {
        test(`on two ranks ends with the same bits (${exchange})`, needsMpi("openmpi"), async () => {
          const run = onTheEdge();
          const options = asOptions({
            resume: run,
            max_train_steps: steps,
            exchange,
            iterations_per_loop: 4,
          });
          const { code, stderr } = await startRanks("openmpi", 2, ["train", ...options]).ended;
          assert.equal(code, 0, stderr);
          const last = `step-${steps}`;
          assert.equal(trainedBits(join(run, last)), trainedBits(join(straight.run, last)));
          const { skipped, loss_scale } = stateIn(join(straight.run, last));
          const own = stateIn(join(run, last));
          assert.deepEqual([own.skipped, own.loss_scale], [skipped, loss_scale]);
          assert.match(stderr, /skipped a step after step \d+: not finite; loss scale now/);
        });
      }
    }
  });
}

suite("the loss scale of a run", () => {
  const short: GivenSettings = { max_train_steps: 3, mode: "train" };

  test("that overflows nowhere changes no bit, whatever power of two it is", async () => {
    const [plain, dynamic, fixed] = await Promise.all(
      [{}, { loss_scale: "dynamic" }, { loss_scale: "fixed", loss_scale_value: 1024 }].map((more) =>
        train({ ...tinySettings(data, fresh()), ...short, ...(more as GivenSettings) }),
      ),
    );
    assert.equal(trainedBits(dynamic?.checkpoint ?? null), trainedBits(plain?.checkpoint ?? null));
    assert.equal(trainedBits(fixed?.checkpoint ?? null), trainedBits(plain?.checkpoint ?? null));
    const counts = { good: 3, bad: 0, consecutive: 0 };
    assert.deepEqual(stateIn(dynamic?.checkpoint ?? "").loss_scale, { scale: 2 ** 32, ...counts });
    const { loss_scale, skipped } = stateIn(plain?.checkpoint ?? "");
    assert.deepEqual([loss_scale, skipped], [undefined, undefined]);
  });

  test("comes and goes when a run is resumed with it and without", async () => {
    const run = fresh();
    const scaleAt = async (more: GivenSettings): Promise<unknown> => {
      const { checkpoint } = await train({ resume: run, ...more });
      return stateIn(checkpoint ?? "").loss_scale;
    };
    await train({ ...tinySettings(data, run), ...short, max_train_steps: 1 });
    const counts = { bad: 0, consecutive: 0 };
    assert.deepEqual(await scaleAt({ max_train_steps: 2, loss_scale: "dynamic" }), {
      scale: 2 ** 32,
      good: 1,
      ...counts,
    });
    assert.deepEqual(await scaleAt({ max_train_steps: 3 }), { scale: 2 ** 32, good: 2, ...counts });
    assert.deepEqual(await scaleAt({ max_train_steps: 4, loss_scale: "none" }), undefined);
    assert.deepEqual(await scaleAt({ max_train_steps: 5, loss_scale: "dynamic", loss_scale_value: 64 }), {
      scale: 64,
      good: 1,
      ...counts,
    });
    const straight = await train({ ...tinySettings(data, fresh()), ...short, max_train_steps: 5 });
    assert.equal(trainedBits(join(run, "step-5")), trainedBits(straight.checkpoint));
  });

  test("keeps the place in the data when it goes", async () => {
    const run = fresh();
    const given = { ...tinySettings(data, run), ...short, loss_scale: "dynamic" } as const;
    const { skipped } = await train({ ...given, loss_scale_value: 3.4e38, max_train_steps: 1 });
    assert.ok(skipped > 0);
    const { checkpoint } = await train({ resume: run, loss_scale: "none", max_train_steps: 2 });
    assert.equal(stateIn(checkpoint ?? "").skipped, skipped);
  });
});

suite("a step that overflows on one of two ranks", () => {
  for (const exchange of ["window", "messages", "overlapped"] as const) {
    test(`is skipped by both (${exchange})`, needsMpi("openmpi"), async () => {
      const out = fresh();
      const script = join(repository, "dist", "test", "support", "skipping-child.js");
      const { code, stderr } = await startRanks("openmpi", 2, [exchange, out], { script }).ended;
      assert.equal(code, 0, stderr);
      const [first, second] = [0, 1].map((rank) => readFileSync(`${out}.${rank}`, "utf8"));
      assert.equal(second, first);
      const { finite, scales } = JSON.parse(first ?? "") as { finite: unknown; scales: unknown[] };
      assert.deepEqual(finite, [true, false, true]);
      assert.deepEqual(scales.at(-1), { scale: 3 * 2 ** 20, good: 1, bad: 1, consecutive: 0 });
    });
  }
});

suite("a run that never gets finite", () => {
  async function failureOf(given: GivenSettings): Promise<{ error: DivergedError; events: TrainEvent[] }> {
    const events: TrainEvent[] = [];
    try {
      await train(given, (event) => events.push(event));
    } catch (error) {
      assert.ok(error instanceof DivergedError, String(error));
      assert.equal(error.exitCode, 5);
      return { error, events };
    }
    throw new Error("it ended well");
  }

  test("at a fixed scale ends after twenty steps, saved, and goes on with a dynamic one", async () => {
    const run = fresh();
    const given = { ...tinySettings(data, run), loss_scale: "fixed", loss_scale_value: 3.4e38 } as const;
    for (const iterations_per_loop of [1, 16]) {
      const log_dir = iterations_per_loop === 1 ? run : fresh();
      const { error, events } = await failureOf({
        ...given,
        log_dir,
        iterations_per_loop,
        epochs_between_evals: 3,
      });
      assert.match(error.message, /not finite in 20 steps in a row, at a loss scale that is fixed/);
      assert.match(
        error.problem.hint ?? "",
        new RegExp(`npx riffle-vision train --resume ${log_dir} --loss_scale dynamic`),
      );
      assert.equal(skippedIn(events), 20);
      assert.equal(stateIn(join(log_dir, "step-0")).skipped, 20);
    }
    const { result } = await trainAndWatch({
      resume: run,
      loss_scale: "dynamic",
      loss_scale_value: 1024,
      max_train_steps: 2,
    });
    assert.deepEqual([result.step, result.skipped], [2, 20]);
  });

  test("at any scale ends when the scale can fall no more", async () => {
    const run = fresh();
    const given = {
      ...tinySettings(data, run),
      lr: 1000,
      loss_scale: "dynamic",
      loss_scale_value: 1.5,
    } as const;
    const { error } = await failureOf(given);
    assert.match(
      error.message,
      /not finite in (\d+) steps in a row, whatever the loss scale.*loss scale 1\)/,
    );
  });

  test("without scaling ends at once, in a loop too, with the same words", async () => {
    const messages: string[] = [];
    for (const iterations_per_loop of [1, 18]) {
      const { error, events } = await failureOf({
        ...tinySettings(data, fresh()),
        lr: 1000,
        mode: "train",
        save_checkpoints_steps: 18,
        iterations_per_loop,
      });
      assert.equal(skippedIn(events), 0);
      messages.push(error.message.replace(/run-\d+/g, "RUN"));
    }
    assert.equal(messages[0], messages[1]);
    assert.match(messages[0] ?? "", /the loss or a gradient is not finite/);
  });
});
