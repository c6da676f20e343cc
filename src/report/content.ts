/** What a report tells of a run: the one source of its page and of its model card. */

import { basename } from "node:path";

import type { EvaluationStartEvent } from "../inference/evaluate.js";
import { shownClass } from "../prepare/imagenet/challenge-classes.js";
import type { ModelDescription, Scores } from "../run/checkpoint-state.js";
import type { ClassScores } from "./confusion.js";
import { many, plain, whole } from "./figures.js";
import type { DataCheck } from "./data-check.js";
import type { Examination } from "./examination.js";
import type { History, RunStart } from "./history.js";
import type { LayerProfile } from "./layer-profile.js";
import type { PictureLook } from "./looks.js";
import type { Judged } from "./standouts.js";

export interface ReportContent {
  /** The run's folder, absolute. */
  readonly folder: string;
  /** When this was written. */
  readonly written: Date;
  readonly version: string;
  readonly history: History;
  /** null where no checkpoint was kept. */
  readonly model: ModelDescription | null;
  readonly profile: LayerProfile | null;
  /** null where nothing was scored; `unscored` says why. */
  readonly evaluated: Evaluated | null;
  readonly unscored: string;
  /** What could not be read, a sentence each. */
  readonly remarks: readonly string[];
}

export interface Evaluated {
  readonly start: EvaluationStartEvent;
  readonly scores: Scores;
  readonly examination: Examination;
  /** Whether the pictures are those by which the run chose its best weights. */
  readonly choseBest: boolean;
  /** Pictures that could not be read. */
  readonly bad: number;
  readonly mistakes: readonly ShownPicture[];
  readonly unsure: readonly ShownPicture[];
  /** A data URI of each sample that can be shown. */
  readonly thumbnails: ReadonlyMap<number, string>;
  /** Where the network looked, of samples that can be shown. */
  readonly looks: ReadonlyMap<number, PictureLook>;
  /** What the data are like, or why copies were not looked for. */
  readonly data: DataCheck | string;
}

export interface ShownPicture extends Judged {
  readonly name: string;
}

/** A class by its output, for people. */
export function className(model: Pick<ModelDescription, "class_names">, output: number): string {
  const name = model.class_names[output];
  return name === undefined ? `output ${output}` : shownClass(name);
}

/** Which pictures the scores are of, and how many: "153 pictures of the validation part". */
export function scoredWords({ start, scores, bad }: Evaluated): string {
  const pictures = many(scores.images, "picture");
  const left = bad === 0 ? "" : `; ${whole(bad)} that could not be read left out`;
  const which = {
    train: `${pictures} that the network was trained on, as --split train asked: ${scores.images === 1 ? "it says" : "they say"} little of other pictures`,
    validation: `${pictures} of the validation part`,
    test: `${pictures} of the test part`,
    "held out": `${pictures} that ${scores.images === 1 ? "was" : "were"} held out of training`,
    all: `${pictures}, all of the data given`,
  }[start.part];
  return `${which}${left}`;
}

/** What makes the scores look better than they are; undefined for nothing that is known. */
export function caution({ choseBest, start }: Evaluated, { evaluations }: History): string | undefined {
  if (start.part === "train") return "Scores of pictures that were trained on are no measure of a network.";
  if (!choseBest || evaluations.length < 2) return undefined;
  return (
    `The weights are the best of ${evaluations.length} evaluations by these same pictures, so the scores are a little higher ` +
    "than on pictures that nobody has chosen by."
  );
}

/** By which weights the scores are: "after step 14". */
export function weightsWords({ start: { step } }: Evaluated, { start }: History): string {
  if (step > 0) return `after step ${whole(step)}`;
  if (start?.solved == null) return "by the weights before the first step";
  return `by the classifier that was solved${isSolvedAlone(start) ? "" : ", before the first step"}`;
}

/** Classes named in a sentence, at most. */
const NAMED = 5;

/** Says which classes have no picture among those that are scored; undefined where all have some. */
export function unscoredWords({ start }: Evaluated, scores: readonly ClassScores[]): string | undefined {
  const missing = scores.filter(({ support }) => support === 0);
  if (missing.length === 0) return undefined;
  const listed = missing.slice(0, NAMED).map(({ output }) => className(start.model, output));
  const more = missing.length - listed.length;
  const last = more > 0 ? `${whole(more)} more` : listed.pop();
  const names = listed.length === 0 ? last : `${listed.join(", ")} and ${last}`;
  const where = start.part === "held out" ? "was held out" : "is among these";
  const of = missing.length === 1 ? names : `${whole(missing.length)} of ${whole(scores.length)} classes`;
  return (
    `No picture of ${of} ${where}${missing.length === 1 ? "" : ` (${names})`}, ` +
    `so nothing here says how well ${missing.length === 1 ? "that class is" : "those are"} recognised.`
  );
}

/** What a network has to beat; `output` is undefined where no class is the most frequent. */
export function majorityWords(
  { start }: Evaluated,
  output: number | undefined,
  shown = (name: string): string => name,
): string {
  if (output === undefined) return "top-1 of naming one class every time";
  return `top-1 of naming ${shown(className(start.model, output))}, the most frequent class, every time`;
}

/** Where nothing was trained in steps: all layers but the classifier were frozen, and that was solved. */
function isSolvedAlone(start: RunStart | null): boolean {
  return start?.solved != null && start.steps === 0;
}

export function runName({ folder }: Pick<ReportContent, "folder">): string {
  return basename(folder);
}

/** "ShuffleNet V2 0.5x (torchvision), 10 classes, 96 px" */
export function networkWords(model: ModelDescription): string {
  const { variant, width, classes, image_size } = model;
  return `ShuffleNet V2 ${width.toFixed(1)}x (${variant}), ${many(classes, "class", "classes")}, ${image_size} px`;
}

/** How a picture is made ready for the network. */
export function pictureWords(model: ModelDescription): string {
  const turned = model.exif_orientation === "apply" ? "turned upright by EXIF, " : "taken as stored, ";
  return `${turned}shorter side to ${model.eval_resize} px the ${model.pipeline} way, centre ${model.image_size} px`;
}

/** Rows of what the run was, a title and its words; what is not known is left out. */
export function aboutRows(
  { folder, history, model }: Pick<ReportContent, "folder" | "history" | "model">,
  shown: (path: string) => string = (path) => path,
): [title: string, text: string][] {
  const { start } = history;
  const rows: [string, string][] = [["Run", shown(folder)]];
  if (model !== null) rows.push(["Network", networkWords(model)], ["Pictures are", pictureWords(model)]);
  else if (start !== null)
    rows.push(["Network", `${start.network}, ${start.classes} classes, ${start.image_size} px`]);
  if (start === null) return rows;
  const { settings } = start;
  rows.push(["Trained numbers", trainedWords(start)]);
  const data = settings["train_data_dir"] ?? settings["data_dir"];
  const where =
    settings["synthetic"] === true
      ? "synthetic pictures of noise"
      : data === undefined
        ? "not recorded"
        : shown(String(data));
  const held =
    start.validation_images === 0 ? "none held out" : `${whole(start.validation_images)} to be scored`;
  rows.push(["Data", `${where}: ${whole(start.train_images)} pictures trained on, ${held}`]);
  const { machine, ranks } = start;
  if (machine !== null && machine !== undefined) {
    rows.push(["Machine", `${machine.processor}, ${many(machine.threads, "thread")}, ${machine.isa}`]);
  }
  if (ranks !== null) {
    rows.push(["Processes", `${whole(ranks.size)} on ${many(ranks.machines, "machine")} (${ranks.library})`]);
  }
  rows.push(["Recipe", `${start.recipe}: ${learningWords(start)}`]);
  if (settings["init_from"] !== undefined) rows.push(["Started from", shown(String(settings["init_from"]))]);
  rows.push(["Training", courseWords(start, history)]);
  return rows;
}

function trainedWords({ parameters, classes, solved, ...start }: RunStart): string {
  if (solved == null || start.steps > 0) return whole(parameters);
  return `${whole((solved.features + 1) * classes)} of ${whole(parameters)}: the classifier's`;
}

function learningWords(start: RunStart): string {
  const { settings } = start;
  if (isSolvedAlone(start)) {
    const balanced = settings["class_weights"] === "balanced" ? ", classes weighted alike" : "";
    return `the classifier alone${balanced}, seed ${settings["seed"]}`;
  }
  return [
    `batch ${settings["batch_size"]}`,
    `rate ${settings["lr"]} ${settings["schedule"]}`,
    `decay ${settings["weight_decay"]}`,
    ...(Number(settings["label_smoothing"]) > 0 ? [`smoothing ${settings["label_smoothing"]}`] : []),
    ...(Number(settings["mixup"] ?? 0) > 0 ? [`mixup ${settings["mixup"]}`] : []),
    ...(settings["class_weights"] === "balanced" ? ["classes weighted alike"] : []),
    ...(Number(settings["average_decay"]) > 0 ? [`averages ${settings["average_decay"]}`] : []),
    `${plain(start.epochs)} ${start.epochs === 1 ? "epoch" : "epochs"} of ${many(start.steps_per_epoch, "step")}`,
    `seed ${settings["seed"]}`,
  ].join(", ");
}

/** How far it came, and how fast. */
function courseWords(start: RunStart, { end, steps, beginnings }: History): string {
  const { solved } = start;
  const views =
    solved == null ? "" : `on ${many(solved.pictures, "picture")} x ${many(solved.views, "view")}`;
  if (isSolvedAlone(start))
    return `no steps: the classifier was solved ${views}, all other layers stayed frozen`;
  const first = solved == null ? "" : `, from a classifier solved ${views}`;
  const resumes = beginnings > 1 ? `, resumed ${many(beginnings - 1, "time")}` : "";
  const last = end?.step ?? steps.at(-1)?.step ?? start.resumed?.step ?? 0;
  if (end === null) return `not at its end: ${whole(last)} of ${many(start.steps, "step")}${first}${resumes}`;
  const speed = end.images_per_second == null ? "" : `, ${whole(end.images_per_second)} pictures a second`;
  const early =
    end.reason === "patience"
      ? ` of ${whole(start.steps)}, ended by ${many(end.unimproved ?? 0, "evaluation")} in a row without a better one`
      : "";
  return `${many(last, "step")}${early}${first}${speed}${resumes}`;
}
