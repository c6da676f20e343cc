/**
 * A run's log for people and for grep: the lines that TensorFlow's estimators print, under the same words.
 *
 *     global_step/sec: 1.87
 *     loss = 2.3141, step = 20 (5.35 sec)
 *     evaluation: accuracy = 0.612, top5_accuracy = 0.941, global_step = 188, loss = 1.2034
 *
 * Accuracies are fractions. `global_step/sec` is training alone over the last steps: evaluation and saving are not in it.
 */

import { tuningText } from "../backends/autotune.js";
import type { Scores } from "./checkpoint-state.js";
import { rangeWords } from "../settings/step-list.js";
import type {
  DumpEvent,
  EndEvent,
  PassedOverEvent,
  ProfileEvent,
  SkippedEvent,
  StartEvent,
  StepEvent,
  TrainEvent,
  WeightsEvent,
} from "./events.js";

/** Turns events into lines; keeps what a line needs of the events before. */
export class PlainLines {
  #start: StartEvent | undefined;
  #step = 0;

  of(event: TrainEvent): string[] {
    switch (event.event) {
      case "start":
        this.#start = event;
        this.#step = event.resumed?.step ?? 0;
        return startLines(event);
      case "step":
        return this.#stepLines(event);
      case "skipped":
        return [skippedText(event)];
      case "evaluation":
        // The first of an evaluation is of the weights that count.
        if (event.weights === "parameters" && Number(this.#start?.settings["average_decay"]) > 0) return [];
        return [evaluationLine(event, event.step)];
      case "save":
        return [`saved ${event.checkpoint}`];
      case "passed_over":
        return [`left out: ${passedOverText(event)}`];
      case "tuning":
        return [`tuned ${tuningText(event)}`];
      case "profile":
        return profileLines(event);
      case "dump":
        return [dumpLine(event)];
      case "warning":
        return [`warning: ${event.what}`];
      case "bad_image":
        return [`left out: ${event.file}: ${event.reason}`];
      case "stopped":
        return [`stopped after step ${event.step}`];
      case "end":
        return [
          `ended after step ${event.step}, ${event.images_per_second.toFixed(2)} images/sec` +
            (event.skipped === 0 ? "" : `, ${event.skipped} steps skipped`) +
            (event.reason === "patience" ? `; ${patienceText(event)}` : ""),
        ];
      case "weights":
        return [`weights ${weightsText(event)}`];
      case "report":
        return [`report ${event.path}`];
      case "preparing":
      case "fetching":
      case "evaluating":
        return [];
    }
  }

  #stepLines({ step, loss, images_per_second }: StepEvent): string[] {
    const { log_steps, iterations_per_loop } = this.#start?.settings ?? {};
    const interval = Math.max(Number(log_steps), Number(iterations_per_loop));
    if (!passes(this.#step, step, interval) && step !== this.#start?.steps) return [];
    const perSecond = images_per_second / (this.#start?.images_per_step ?? NaN);
    const seconds = (step - this.#step) / perSecond;
    this.#step = step;
    return [
      `global_step/sec: ${perSecond.toPrecision(6)}`,
      `loss = ${loss.toPrecision(8)}, step = ${step} (${seconds.toFixed(3)} sec)`,
    ];
  }
}

/** "evaluation: accuracy = 0.5, top5_accuracy = 0.9, global_step = 10, loss = 1.5" */
export function evaluationLine({ top1, top5, loss }: Omit<Scores, "images">, step: number): string {
  return (
    `evaluation: accuracy = ${top1.toPrecision(6)}, top5_accuracy = ${top5.toPrecision(6)}, ` +
    `global_step = ${step}, loss = ${loss.toPrecision(8)}`
  );
}

/** "3 evaluations in a row were no better than that of step 90": why a run ended before its last step. */
export function patienceText({ unimproved, best }: Pick<EndEvent, "unimproved" | "best">): string {
  const evaluations = unimproved === 1 ? "an evaluation was" : `${unimproved} evaluations in a row were`;
  // Without a best none of them was finite.
  return `${evaluations} ${best === null ? "without a finite loss" : `no better than that of step ${best.step}`}`;
}

/** "skipped a step after step 12: not finite; loss scale now 6.87195e+9 (3 skipped so far)" */
export function skippedText({ step, loss_scale, skipped }: SkippedEvent): string {
  return `skipped a step after step ${step}: not finite; loss scale now ${loss_scale.toPrecision(6)} (${skipped} skipped so far)`;
}

/** "torchvision/1.0x, 9218032 bytes fetched, SHA-256 5666bf0f80..., from https://..." */
function weightsText({ name, bytes, fetched, sha256, source }: WeightsEvent): string {
  return `${name}, ${bytes} bytes ${fetched ? "fetched" : "kept"}, SHA-256 ${sha256}, from ${source}`;
}

/** "3 system files · 1 file that is no picture: bees/notes.txt" */
export function passedOverText(
  { system_files, others }: PassedOverEvent,
  shortened: (path: string) => string = (path) => path,
): string {
  const files = (n: number): string => (n === 1 ? "1 file" : `${n} files`);
  const named = others.slice(0, NAMED).map(shortened).join(", ") + (others.length > NAMED ? ", ..." : "");
  return [
    ...(system_files > 0 ? [files(system_files).replace(" ", " system ")] : []),
    ...(others.length > 0 ? [`${files(others.length)} not of pictures: ${named}`] : []),
  ].join(" · ");
}

const NAMED = 3;

/** Whether a multiple of `interval` lies after `before` and not after `step`. */
export function passes(before: number, step: number, interval: number): boolean {
  return Math.floor(step / interval) > Math.floor(before / interval);
}

/** "profile of steps 5 to 14: 812.3 ms a step, 41.2 GFLOP/s; backward 58.1 %, ...", and where it lies. */
export function profileLines(
  { first_step, last_step, seconds, gflops, parts, folder }: ProfileEvent,
  shortened: (path: string) => string = (path) => path,
): string[] {
  const shares = Object.entries(parts)
    .filter(([, part]) => part >= seconds / 1000)
    .sort(([, a], [, b]) => b - a)
    .map(([name, part]) => `${name} ${((100 * part) / seconds).toFixed(1)} %`);
  return [
    `profile of ${rangeWords({ first: first_step, last: last_step })}: ${(1000 * seconds).toFixed(1)} ms a step, ` +
      `${gflops.toFixed(1)} GFLOP/s; ${shares.join(", ")}`,
    `profile in ${shortened(folder)}: roofline.html, layers.json, trace.json (for https://ui.perfetto.dev)`,
  ];
}

/** "dumped step 10: 412 arrays in runs/a/dump/step-10" */
export function dumpLine(
  { step, what, path }: DumpEvent,
  shortened: (path: string) => string = (path) => path,
): string {
  return `dumped step ${step}: ${what} in ${shortened(path)}`;
}

function startLines(event: StartEvent): string[] {
  const { network, classes, image_size, parameters, train_images, validation_images, steps, recipe } = event;
  return [
    `network ${network}, ${classes} classes, ${image_size} px, ${parameters} parameters`,
    `data ${train_images} pictures, ${validation_images} for validation; ${steps} steps, recipe ${recipe}`,
    ...(event.resumed === null ? [] : [`resuming after step ${event.resumed.step}`]),
  ];
}
