/**
 * What a training run says to its user: the choices made, an epoch a line, evaluations, warnings.
 *
 * Loss and top-1 of an epoch's line are means over the epoch so far; a single batch jumps about. The loss is the
 * cross-entropy, which a validation's loss can be held against; what the weight decay adds stands beside it.
 */

import { join } from "node:path";

import type { OrientationRule } from "../data/pictures/orientation.js";
import { tuningText } from "../backends/autotune.js";
import { shellWord } from "../core/printable.js";
import { shortPath } from "../core/short-path.js";
import { evaluationSide } from "../data/pictures/augment.js";
import { jpegDecoder } from "../data/pictures/render.js";
import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { compile } from "../program/compile.js";
import { totals } from "../program/print.js";
import type {
  EndEvent,
  EvaluatingEvent,
  FetchingEvent,
  PreparingEvent,
  RecordsEvent,
  Reporter,
  RanksEvent,
  StartEvent,
  StepEvent,
  TrainEvent,
  WeightsEvent,
} from "../run/events.js";
import {
  dumpLine,
  passedOverText,
  passes,
  patienceText,
  profileLines,
  skippedText,
} from "../run/plain-lines.js";
import { lossScaling } from "../settings/loss-scaling.js";
import { rateAt, type ResolvedSettings } from "../settings/resolve-settings.js";
import { precisionWords } from "../settings/precision.js";
import type { Settings } from "../settings/settings.js";
import type { SolvedClassifier } from "../run/checkpoint-state.js";
import { bytes, count, millions, percent, rate, several } from "./format.js";
import { Place } from "./place.js";
import { type ProgressState, startProgress } from "./progress.js";
import type { Terminal } from "./terminal.js";

interface RunReport {
  readonly report: Reporter;
  /** What the first Ctrl-C prints: what is saved, where that is known. */
  readonly stopping: string;
  /** Leaves the last line standing. */
  end(): void;
}

/** Of five classes or fewer every picture is among the five likeliest. */
export function saysTop5(classes = Infinity): boolean {
  return classes > 5;
}

/** @param stopped aborts when the user asks the run to stop; what is given up then is not drawn any more */
export function reportRun(terminal: Terminal, stopped?: AbortSignal): RunReport {
  const progress = startProgress(terminal);
  const place = new Place();
  let start: StartEvent | undefined;
  const epoch = { number: 0, steps: 0, loss: 0, decay: 0, top1: 0 };
  /** The last line of a run, though its report comes after it. */
  let end: EndEvent | undefined;
  let isEndTold = false;

  const showStep = (event: StepEvent, { steps_per_epoch, images_per_step, epochs }: StartEvent): void => {
    const number = Math.ceil(event.step / steps_per_epoch);
    if (number !== epoch.number) Object.assign(epoch, { number, steps: 0, loss: 0, decay: 0, top1: 0 });
    epoch.steps++;
    epoch.loss += event.cross_entropy;
    epoch.decay += event.decay_loss;
    epoch.top1 += event.top1;
    progress.show({
      label: `epoch ${number}/${Math.ceil(epochs)}`,
      done: (event.step - (number - 1) * steps_per_epoch) * images_per_step,
      total: steps_per_epoch * images_per_step,
      secondsLeft: event.seconds_left,
      columns: [
        `loss ${(epoch.loss / epoch.steps).toFixed(3)}`,
        `top-1 ${percent(epoch.top1 / epoch.steps)}`,
        { rate: `${rate(event.images_per_second)} img/s` },
        ...(event.skipped > 0 ? [`skipped ${count(event.skipped)}`] : []),
        `waiting ${percent(event.waiting)}`,
        ...(event.exchanging > 0 ? [`exchange ${percent(event.exchanging)}`] : []),
        ...(epoch.decay > 0 ? [`decay ${(epoch.decay / epoch.steps).toFixed(3)}`] : []),
      ],
    });
  };

  const showPassing = (event: PreparingEvent | FetchingEvent | EvaluatingEvent): void => {
    if (event.event === "fetching") progress.show(fetching(event));
    else if (end !== undefined) progress.show(reporting(event));
    else if (event.event === "preparing") progress.show(preparing(event));
    // The last line of an evaluation has its scores.
    else if (event.done < event.images)
      progress.show({ label: "validation", done: event.done, total: event.images, columns: [] });
  };

  const report = (event: TrainEvent): void => {
    if (
      event.event !== "evaluating" &&
      event.event !== "preparing" &&
      event.event !== "fetching" &&
      event.event !== "end" &&
      (event.event !== "step" || passes(place.step, event.step, Number(start?.settings["log_steps"] ?? 1)))
    )
      terminal.emit(event);
    place.follow(event);
    switch (event.event) {
      case "preparing":
      case "fetching":
      case "evaluating":
        if (stopped?.aborted !== true) showPassing(event);
        return;
      case "weights":
        for (const line of weightsLines(event)) progress.note(line);
        return;
      case "start":
        start = event;
        for (const line of heading(event)) terminal.note(line);
        return;
      case "step":
        if (start !== undefined) showStep(event, start);
        return;
      case "evaluation":
        // The first line of an evaluation is of the weights that count; the other is in the log.
        if (event.weights === "parameters" && Number(start?.settings["average_decay"]) > 0) return;
        progress.show({
          label: "validation",
          done: event.images,
          total: event.images,
          columns: [
            `loss ${event.loss.toFixed(3)}`,
            `top-1 ${percent(event.top1)}`,
            ...(event.best ? [terminal.noteColour.green("best so far")] : []),
            ...(saysTop5(start?.classes) ? [`top-5 ${percent(event.top5)}`] : []),
          ],
        });
        return;
      case "skipped":
        progress.note(skippedText(event));
        return;
      case "bad_image":
        progress.note(`left out: ${event.file}: ${event.reason}`);
        return;
      case "passed_over":
        progress.note(titled("Left out", passedOverText(event, shortPath)));
        return;
      case "warning":
        progress.warn(event.what);
        return;
      case "tuning":
        progress.note(titled("Tuned", tuningText(event, shortPath)));
        return;
      case "profile":
        for (const line of profileLines(event, shortPath)) progress.note(line);
        return;
      case "dump":
        progress.note(dumpLine(event, shortPath));
        return;
      case "end":
        end = event;
        if (event.reason === "patience") {
          progress.note(
            titled(
              "Ended",
              `after epoch ${shortEpoch(event.epoch)} of ${start?.epochs ?? "?"}: ${patienceText(event)}`,
            ),
          );
        }
        return;
      case "save":
      case "stopped":
      case "report":
        return;
    }
  };
  return {
    report,
    get stopping() {
      return place.stopping;
    },
    end: () => {
      progress.end();
      if (end !== undefined && !isEndTold) terminal.emit(end);
      isEndTold = end !== undefined;
    },
  };
}

/** Two digits of a fraction: "12", "3.25". */
export function shortEpoch(epoch: number): string {
  return String(Number(epoch.toFixed(2)));
}

/** The line of what is made before a run can begin. */
export function preparing(event: PreparingEvent): ProgressState {
  const records = event.what === "index";
  return {
    label: {
      check: "looking at",
      index: "indexing",
      cache: "caching",
      tuning: "tuning",
      statistics: "statistics",
      features: "features",
      solving: "solving",
      measuring: "measuring",
    }[event.what],
    done: event.done,
    total: event.total,
    secondsLeft: event.seconds_left,
    columns: [
      ...(records ? ["shards"] : []),
      ...(event.what === "tuning" || event.what === "solving"
        ? []
        : [{ rate: `${rate(event.images_per_second)} ${records ? "records/s" : "img/s"}` }]),
    ],
  };
}

/** The line of a report in the making: pictures are scored, then looked at. */
export function reporting(event: PreparingEvent | EvaluatingEvent): ProgressState {
  if (event.event === "evaluating")
    return { label: "report", done: event.done, total: event.images, columns: ["pictures scored"] };
  const state = preparing(event);
  return event.what === "check"
    ? { ...state, label: "report", columns: ["pictures looked at", ...state.columns] }
    : state;
}

/** The line of weights on their way, in thousands of bytes. */
export function fetching({ done, total, bytes_per_second, seconds_left }: FetchingEvent): ProgressState {
  return {
    label: "fetching",
    done: Math.floor(done / 1000),
    total: Math.ceil(total / 1000),
    secondsLeft: seconds_left,
    columns: ["kB", { rate: `${bytes(Math.round(bytes_per_second))}/s` }],
  };
}

/** Which weights, whether they are those that were published, and under which terms; 80 columns wide. */
export function weightsLines(event: WeightsEvent): string[] {
  const { network, top1, fetched, source, licence, published_sha256 } = event;
  return [
    titled("Weights", `${network}, ${percent(top1)} on ImageNet · ${bytes(event.bytes)}`),
    titled(
      "",
      `${fetched ? "fetched" : "kept from before"}, SHA-256 ${published_sha256}… as published` +
        (fetched ? " · kept for the next time" : ""),
    ),
    titled("", licence),
    titled("", source),
  ];
}

/** "Records   1,000 shards · index /data/train_shards/.riffle-index" */
export function recordLines(records: RecordsEvent | null): string[] {
  if (records === null) return [];
  const { shards, bad_records, index } = records;
  const parts = [
    `${count(shards)} shard${shards === 1 ? "" : "s"}`,
    ...(bad_records > 0 ? [`${count(bad_records)} damaged or lost records left out`] : []),
    index === null ? "index in memory" : `index ${shellWord(shortPath(index))}`,
  ];
  return [titled("Records", parts.join(" · "))];
}

/** What becomes of EXIF's orientation. */
export function orientationWords(rule: OrientationRule | undefined): string {
  return rule === "apply" ? "turned upright by EXIF" : "EXIF orientation ignored";
}

/** "Saved     runs/a": the form of every line about a whole run. */
export function titled(title: string, text: string): string {
  return `${title.padEnd(9)} ${text}`;
}

/** Every choice made for the user, in a few lines. */
function heading(event: StartEvent): string[] {
  const s = event.settings as unknown as ResolvedSettings["settings"];
  const network = shuffleNetV2({ variant: s.variant, width: s.width, classes: event.classes });
  const { multiplyAdds } = totals(compile(network, { batch: 1, imageSize: event.image_size, mode: "infer" }));
  const { solved } = event;
  const stepless = s.freeze && solved !== null;
  const learning = [
    `batch ${s.batch_size}`,
    `${rateOf(s, event)} ${s.schedule}${s.shards === 1 || s.end_learning_rate === 0 ? "" : ` to ${s.end_learning_rate}`}`,
    ...(s.classifier_rate !== 1 ? [`${s.classifier_rate} times that for the classifier`] : []),
    ...(s.freeze ? ["all other layers frozen"] : []),
    ...(s.batch_norm === "moving" && !s.freeze ? ["batch norms as they are"] : []),
    ...(s.warmup_epochs > 0 ? [`warm-up ${s.warmup_epochs}`] : []),
    `decay ${s.weight_decay}`,
    ...(s.label_smoothing > 0 ? [`smoothing ${s.label_smoothing}`] : []),
    ...(s.mixup > 0 ? [`mixup ${s.mixup}`] : []),
    ...(event.class_weights === null ? [] : [weightWords(event.class_weights)]),
    ...(s.average_decay > 0 ? [`averages ${s.average_decay}`] : []),
    `${several(s.max_epochs, "epoch")}${s.budget === undefined ? "" : fitWords(s.budget, event)}`,
    ...(s.grow_from === undefined
      ? []
      : [`${s.grow_epochs ?? s.max_epochs / 2} of them at ${s.grow_from} px`]),
    ...(s.patience > 0
      ? [`ended by ${s.patience === 1 ? "an evaluation" : `${s.patience} evaluations`} without a better one`]
      : []),
  ];
  return [
    titled(
      "Network",
      `${event.network}, ${event.classes} classes, ${event.image_size} px · ` +
        `${count(event.parameters)} parameters · ${millions(multiplyAdds)} multiply-adds`,
    ),
    titled(
      "Data",
      `${several(event.train_images, "picture")}, ${count(event.validation_images)} for validation · ` +
        `${s.augment === "none" ? "not varied" : `varied as ${s.augment} does`}, ` +
        `evaluated on the central ${s.image_size} of ${s.eval_resize ?? evaluationSide(s.image_size, s.eval_crop)} px · ` +
        orientationWords(s.exif_orientation),
    ),
    ...scoredLines(event),
    ...recordLines(event.records),
    ...cacheLines(s.cache, event.cache_folder),
    ...(event.ranks !== null
      ? [titled("Ranks", `${rankWords(event.ranks)}, ${shardWords(s)}`)]
      : s.shards === 1
        ? []
        : [titled("Shards", shardWords(s))]),
    titled("Machine", `${machineLine(event)} · ${precisionWords(s.precision_mode)}${scaling(s)}`),
    titled("Recipe", `${event.recipe}: ${(stepless ? ["the classifier alone"] : learning).join(", ")}`),
    ...(solved === null ? [] : solvedLines(solved, s)),
    ...event.notes.map((note, i) => titled(i === 0 ? "Note" : "", note)),
    ...(event.resumed === null
      ? []
      : [
          titled(
            "Resuming",
            `${shellWord(shortPath(event.resumed.checkpoint))}, after step ${count(event.resumed.step)}`,
          ),
          ...(event.resumed.step < event.steps
            ? []
            : [
                titled(
                  "Complete",
                  `${event.steps === 1 ? "its one step was" : `all ${count(event.steps)} steps were`} trained before; nothing is left to train`,
                ),
              ]),
        ]),
  ];
}

/** "classes weighted from 0.52 to 13" */
function weightWords({ least, most }: NonNullable<StartEvent["class_weights"]>): string {
  const short = (weight: number): string => String(Number(weight.toPrecision(2)));
  return `classes weighted from ${short(least)} to ${short(most)}`;
}

/** " that fit into 3m at 140 img/s measured": why there are so many epochs. */
function fitWords(budget: string, { measured }: StartEvent): string {
  return ` that fit into ${budget}${measured === null ? "" : ` at ${rate(measured.images_per_second)} img/s measured`}`;
}

/** The two steps of fine-tuning, where the first is made before the run's own. */
export function solvedLines(
  { pictures, views, features, penalty, held_out, converged }: SolvedClassifier,
  { freeze, class_weights }: Pick<Settings, "freeze" | "class_weights">,
): string[] {
  const each = `${several(pictures, "picture")} in ${several(views, "view")}${views === 1 ? "" : " each"}`;
  const weighed = class_weights === "balanced" ? ", all classes alike" : "";
  const right =
    held_out === null
      ? ""
      : ` · ${percent(held_out.top1)} of ${count(held_out.pictures)} of them named right by classifiers solved without them`;
  const early = converged === false ? " (its iterations ended before the minimum was met)" : "";
  return [
    titled(
      "Step 1",
      `classifier solved on ${each}, ${count(features)} features of the frozen network${weighed}, penalty ${penalty}${early}${right}`,
    ),
    titled("Step 2", freeze ? "none: all other layers stay frozen" : "all layers, from there"),
  ];
}

/** What is scored where it is not the data's own validation part, and what is not used at all. */
function scoredLines({ scored, settings, run }: StartEvent): string[] {
  if (scored === null) return [];
  const kept =
    settings["do_checkpoint"] === false ? "" : ` · named in ${shellWord(shortPath(join(run, "split.json")))}`;
  const held = {
    validation: [],
    given: [],
    test: ["the test part is scored, for there is no validation part"],
    share: [`${percent(scored.share ?? 0)} of every class, drawn by seed ${settings["seed"]}${kept}`],
    none: ["nothing: all pictures are trained on, and none is scored"],
  }[scored.by ?? "none"];
  return [...held.map((text) => titled("Held out", text)), ...unusedLines(scored.unused)];
}

/** "Not used  data/test": what belongs to the data and is neither trained on nor scored. */
export function unusedLines(unused: readonly string[]): string[] {
  if (unused.length === 0) return [];
  const more = unused.length > MOST_NAMED ? `, ... (${unused.length})` : "";
  return [titled("Not used", unused.slice(0, MOST_NAMED).map(shortPath).join(", ") + more)];
}

const MOST_NAMED = 5;

/** "8 on 1 machine (Open MPI 4.1.4, shared memory)" */
function rankWords({ size, machines, library, exchange }: RanksEvent): string {
  const how = {
    none: "",
    window: "shared memory",
    messages: "messages",
    overlapped: "messages during backward",
  }[exchange];
  return `${count(size)} on ${count(machines)} machine${machines === 1 ? "" : "s"} (${library}, ${how})`;
}

/** "8 shards of 16: 128 pictures a step, each with its own batch norm" */
export function shardWords({
  shards,
  batch_size,
}: Pick<ResolvedSettings["settings"], "shards" | "batch_size">): string {
  return `${count(shards)} shards of ${count(batch_size)}: ${count(shards * batch_size)} pictures a step, each with its own batch norm`;
}

/**
 * "rate 0.1 = 0.2 at batch 32, scaled to 16,": what a rate was made from, where the recipe's was for another step; a
 * published rate that is kept belongs to a batch, whatever its size: "rate 0.5 = 8 shards of 0.0625 at batch 128,".
 */
function rateOf(
  { lr, shards }: ResolvedSettings["settings"],
  { scaled_rate: own, images_per_step }: StartEvent,
): string {
  if (own === null) return `rate ${lr}`;
  return lr === rateAt(images_per_step, own)
    ? `rate ${lr} = ${own.lr} at batch ${own.batch_size}, scaled to ${images_per_step},`
    : `rate ${lr} = ${shards} shards of ${own.lr} at batch ${own.batch_size},`;
}

/** A cache is another data set than the pictures themselves, so it is said. */
function cacheLines(cache: Settings["cache"] | undefined, folder: string | null): string[] {
  if (cache === undefined || cache === "none") return [];
  const where = folder === null ? "in memory" : `in ${shellWord(shortPath(folder))}`;
  return [titled("Cache", `${cache} pictures ${where} · trained on in place of the originals`)];
}

/** " · loss scale dynamic from 4294967296" */
function scaling(settings: Settings): string {
  const { kind, value } = lossScaling(settings);
  return kind === "none" ? "" : ` · loss scale ${kind === "fixed" ? "" : "dynamic from "}${value}`;
}

function machineLine({ backend, machine: { isa, threads } }: StartEvent): string {
  if (backend === "reference") return "reference engine";
  return `${threads} thread${threads === 1 ? "" : "s"} · ${isa} · decoder ${jpegDecoder()}`;
}
