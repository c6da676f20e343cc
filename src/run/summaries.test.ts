import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";

import sharp from "sharp";

import type { TrainingArrays } from "../backends/backend.js";
import { readEvents, SESSION_START } from "../../test/support/events-reader.js";
import type { SummaryValue, TfEvent } from "../formats/tf-events.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { compile } from "../program/compile.js";
import type { StepEvent } from "./events.js";
import { Summaries, type SummaryOptions } from "./summaries.js";

const folder = mkdtempSync(join(tmpdir(), "riffle-summaries-"));
after(() => rmSync(folder, { recursive: true }));
let runs = 0;

const network = shuffleNetV2({ variant: "tensorflow", width: 0.5, classes: 10 });
const program = compile(network, { batch: 4, imageSize: 32, mode: "train" });
const place = (name: string) => {
  const parameter = program.parameters.find((known) => known.name === name);
  assert.ok(parameter);
  return parameter;
};

const readFrom = (state: Pick<TrainingArrays, "parameters" | "gradients">) => () => Promise.resolve(state);

/** A run whose weights are 1, averages 2 and gradients 3. */
function begin(options: Partial<SummaryOptions> = {}) {
  const runDir = join(folder, `run-${runs++}`);
  const warnings: string[] = [];
  const state = {
    parameters: new Float32Array(program.parameterCount).fill(1),
    averages: new Float32Array(program.parameterCount).fill(2),
    gradients: new Float32Array(program.parameterCount).fill(3),
  };
  const given = { weightDecay: 0.5, scheme: "tensorflow", interval: 5, loop: 1, lastStep: 100, step: 0, evaluatedStep: -1 } as const; // prettier-ignore
  const warn = (what: string) => void warnings.push(what);
  const summaries = new Summaries(runDir, {
    program: () => program,
    stepImages: 4,
    readState: readFrom(state),
    ...given,
    warn,
    ...options,
  });
  /** As the trainer does: the update changes the weights between the two calls. */
  const step = async (number: number) => {
    await summaries.before(number, images);
    state.parameters.fill(7);
    await summaries.step(stepEvent(number));
    state.parameters.fill(1);
  };
  return { runDir, summaries, state, warnings, step };
}

const images = Uint8Array.from({ length: 4 * 32 * 32 * 3 }, (_, i) => (i * 7) % 256);

function stepEvent(step: number): StepEvent {
  const rest = { epoch: 0, seconds_left: 0, waiting: 0, exchanging: 0, loss_scale: null, skipped: 0 };
  const scores = { loss: 2.5, cross_entropy: 2, decay_loss: 0.5, top1: 0.25, top5: 0.5 };
  return { event: "step", step, ...rest, ...scores, learning_rate: 0.125, images_per_second: 8 };
}

async function eventsIn(path: string): Promise<TfEvent[]> {
  const events: TfEvent[] = [];
  for (const name of readdirSync(path).sort()) {
    if (!name.includes("tfevents")) continue;
    for await (const event of readEvents(join(path, name))) events.push(event);
  }
  return events;
}

const valuesOf = ({ content }: TfEvent) => (content.kind === "summary" ? content.values : []);
const stepsOf = (events: readonly TfEvent[]) =>
  events.filter(({ content }) => content.kind === "summary").map(({ step }) => step);
const scalarsOf = (values: readonly SummaryValue[]) =>
  new Map(values.flatMap((value) => (value.kind === "scalar" ? [[value.tag, value.value] as const] : [])));

suite("Summaries of a run", () => {
  test("have the lineage's tags: scalars, 170 tensors with their gradients, three pictures", async () => {
    const { runDir, summaries, step } = begin();
    await step(1);
    await summaries.close();
    const [, , summary] = await eventsIn(runDir);
    const values = valuesOf(summary as TfEvent);
    assert.deepEqual(scalarsOf(values), new Map([
      ["cross_entropy_loss", 2],
      ["regularization_loss", 0.5],
      ["loss", 2.5],
      ["learning_rate", 0.125],
      ["train_accuracy", 0.25],
      ["train_top5_accuracy", 0.5],
      ["global_step/sec", 2],
    ])); // prettier-ignore
    const tags = values.filter(({ kind }) => kind === "histogram").map(({ tag }) => tag);
    assert.equal(tags.length, 2 * 170);
    for (const tag of [
      "ShuffleNetV2/Conv1/weights_hist",
      "ShuffleNetV2/Stage2/unit_1/second_branch/depthwise/batch_norm/gamma_grad_hist",
      "classifier/biases_hist",
    ])
      // prettier-ignore
      assert.ok(tags.includes(tag), tag);
    const pictures = values.flatMap((value) => (value.kind === "image" ? [value] : []));
    assert.deepEqual(pictures.map(({ tag }) => tag), ["input/image/0", "input/image/1", "input/image/2"]); // prettier-ignore
    const { data, info } = await sharp(pictures[1]?.image.encoded)
      .raw()
      .toBuffer({ resolveWithObject: true });
    assert.deepEqual([info.width, info.height, info.channels], [32, 32, 3]);
    assert.deepEqual(data, Buffer.from(images.subarray(32 * 32 * 3, 2 * 32 * 32 * 3)));
  });

  test("hold the loss scale where there is one", async () => {
    const { runDir, summaries } = begin();
    await summaries.before(1, images);
    await summaries.before(1, images); // the step was skipped, and is made again
    await summaries.step({ ...stepEvent(1), loss_scale: 1024, skipped: 1 });
    await summaries.close();
    const written = await eventsIn(runDir);
    assert.deepEqual(stepsOf(written), [1]);
    const scalars = scalarsOf(valuesOf(written[2] as TfEvent));
    assert.deepEqual([scalars.get("loss_scale"), scalars.get("skipped_steps")], [1024, 1]);
  });

  test("count the weights before the update, and gradients of the whole loss, decay included", async () => {
    const { runDir, summaries, step } = begin();
    await step(1);
    await summaries.close();
    const values = valuesOf((await eventsIn(runDir))[2] as TfEvent);
    const histogram = (tag: string) => {
      const value = values.find((known) => known.tag === tag);
      assert.equal(value?.kind, "histogram");
      return value.histogram;
    };
    const weights = histogram("ShuffleNetV2/Conv1/weights_hist");
    assert.deepEqual([weights.min, weights.max, weights.num], [1, 1, place("conv1.weight").size]);
    assert.equal(histogram("ShuffleNetV2/Conv1/weights_grad_hist").max, 3 + 0.5 * 1);
    assert.equal(histogram("ShuffleNetV2/Conv1/batch_norm/gamma_grad_hist").max, 3);
  });

  test("come at the first step and at every multiple of the interval, at the ends of loops", async () => {
    const made = async (options: Partial<SummaryOptions>) => {
      const { runDir, summaries, step } = begin(options);
      for (let number = 1; number <= (options.lastStep ?? 12); number++) await step(number);
      await summaries.close();
      return existsSync(runDir) ? stepsOf(await eventsIn(runDir)) : [];
    };
    assert.deepEqual(await made({ interval: 5 }), [1, 5, 10]);
    assert.deepEqual(await made({ interval: 5, loop: 4, lastStep: 11 }), [4, 8, 11]);
    assert.deepEqual(await made({ interval: 2, loop: 6 }), [6, 12]);
    assert.deepEqual(await made({ interval: 0 }), []);
  });

  test("of evaluations lie beneath, with the whole loss of the weights that were scored", async () => {
    const { runDir, summaries, state } = begin();
    const event = {
      event: "evaluation",
      step: 8,
      epoch: 1,
      images: 5,
      loss: 1,
      top1: 0.5,
      top5: 1,
      best: true,
    } as const;
    summaries.evaluation({ ...event, weights: "averages" }, state.averages, true);
    summaries.evaluation({ ...event, weights: "parameters" }, state.parameters, false);
    await summaries.close();
    const decaying = program.parameters.filter(({ decay }) => decay).reduce((sum, { size }) => sum + size, 0);
    for (const [name, weight] of [
      ["eval", 2],
      ["eval_parameters", 1],
    ] as const) {
      // prettier-ignore
      const [, start, summary] = await eventsIn(join(runDir, name));
      assert.deepEqual([start?.step, summary?.step], [0, 8]);
      const decay = (0.5 * weight ** 2 * decaying) / 2;
      assert.deepEqual(scalarsOf(valuesOf(summary as TfEvent)), new Map([
        ["accuracy", 0.5],
        ["top5_accuracy", 1],
        ["cross_entropy_loss", 1],
        ["regularization_loss", Math.fround(decay)],
        ["loss", Math.fround(1 + decay)],
      ])); // prettier-ignore
    }
  });

  test("of a resumed run begin a new file, which takes back what was written beyond the checkpoint", async () => {
    const { runDir, summaries, step } = begin();
    for (const number of [1, 5, 10]) await step(number);
    await summaries.close();
    const state = { parameters: new Float32Array(program.parameterCount), gradients: new Float32Array(program.parameterCount) }; // prettier-ignore
    const resumed = new Summaries(runDir, { program: () => program, stepImages: 4, readState: readFrom(state), weightDecay: 0, scheme: "tensorflow", interval: 5, loop: 1, lastStep: 100, step: 7, evaluatedStep: 4, warn: assert.fail }); // prettier-ignore
    await resumed.before(10, images);
    await resumed.step(stepEvent(10));
    resumed.evaluation({ event: "evaluation", step: 7, epoch: 1, weights: "parameters", images: 5, loss: 1, top1: 0, top5: 0, best: false }, state.parameters, true); // prettier-ignore
    await resumed.close();
    const events = await eventsIn(runDir);
    assert.deepEqual(stepsOf(events), [1, 5, 10, 10]);
    const starts = (of: readonly TfEvent[]) =>
      of.flatMap(({ step: at, content }) =>
        content.kind === "session" && content.status === SESSION_START ? [at] : [],
      );
    assert.deepEqual(starts(events), [1, 8]);
    assert.deepEqual(starts(await eventsIn(join(runDir, "eval"))), [5]);
  });

  test("that cannot be written are warned of once and do not stop the run", async () => {
    const { runDir, summaries, step, warnings } = begin();
    writeFileSync(runDir, "a file where the folder belongs");
    await step(1);
    await step(5);
    await summaries.close();
    assert.equal(warnings.length, 1);
    assert.match(warnings[0] ?? "", /the summary of step 1 was not written/);
  });

  test("leave out a histogram with a number that is not finite: the run ends at that by itself", async () => {
    const { runDir, summaries, state, step } = begin();
    state.gradients[place("conv1.weight").offset] = NaN;
    await step(1);
    await summaries.close();
    const tags = valuesOf((await eventsIn(runDir))[2] as TfEvent).map(({ tag }) => tag);
    assert.ok(!tags.includes("ShuffleNetV2/Conv1/weights_grad_hist"));
    assert.ok(tags.includes("ShuffleNetV2/Conv1/weights_hist"));
  });
});
