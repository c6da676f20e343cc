/**
 * A run's model card: what the network is, what it was trained on, how it scores and where not to trust it, in Markdown.
 *
 * It is made to be passed on, so its paths are those from the folder that it was made in, not a user's whole ones.
 */

import { shellWord } from "../core/printable.js";
import { shortPath } from "../core/short-path.js";
import { balancedAccuracy, majority } from "./confusion.js";
import {
  aboutRows,
  caution,
  className,
  type Evaluated,
  majorityWords,
  type ReportContent,
  runName,
  scoredWords,
  unscoredWords,
  weightsWords,
} from "./content.js";
import { dataSentences } from "./data-section.js";
import { interval, many, percent, plain, whole } from "./figures.js";
import type { History } from "./history.js";
import { markdown } from "./markup.js";
import { repeatCommand } from "./repeat-command.js";

/** Rows of the table of classes; a set of more has its weakest listed. */
const CLASSES_LISTED = 50;

export function modelCard(content: ReportContent): string {
  const { history, model, evaluated, unscored, folder } = content;
  const lines = [
    `# ${markdown(runName(content))}`,
    "",
    model === null
      ? "A training run of an image classifier of which no weights were kept."
      : `An image classifier that tells ${many(model.classes, "class", "classes")} apart: it names one of them for every picture, whatever the picture shows.`,
    "",
    "## What it is",
    "",
    "| | |",
    "| --- | --- |",
    ...aboutRows(content, shortPath).map(([title, text]) => `| ${title} | ${markdown(text)} |`),
    "",
    ...(evaluated === null
      ? ["## Scores", "", `No scores: ${markdown(unscored)}.`]
      : scoreLines(evaluated, history)),
    ...(model === null
      ? []
      : [
          "",
          "## Use",
          "",
          "```",
          `npx riffle-vision predict ${shellWord(shortPath(folder))} photo.jpg`,
          "```",
        ]),
    ...(history.start === null
      ? []
      : ["", "## Train it again", "", "```", repeatCommand(history.start, folder, shortPath), "```"]),
    "",
    "## To be filled in by whoever publishes it",
    "",
    "Where the pictures come from and under which terms, what the network is meant for, and what it must not be used for: no run knows that.",
    "",
  ];
  return lines.join("\n");
}

function scoreLines(evaluated: Evaluated, history: History): string[] {
  const { scores, start, examination } = evaluated;
  const classes = examination.confusion.allScores();
  const [low, high] = interval(scores.top1, scores.images);
  const error = examination.calibration.expectedError();
  const warned = [caution(evaluated, history) ?? [], unscoredWords(evaluated, classes) ?? []].flat();
  const usual = majority(classes);
  const rows = [
    ["top-1", `${percent(scores.top1)} (95 % interval ${percent(low)} to ${percent(high)})`],
    ...(start.model.classes > 5 ? [["top-5", percent(scores.top5)]] : []),
    ["loss (cross-entropy)", plain(scores.loss)],
    ["mean recall of the classes", percent(balancedAccuracy(classes))],
    ...(usual === undefined
      ? []
      : [[majorityWords(evaluated, usual.output, markdown), percent(usual.share)]]),
    ...(error === null ? [] : [["expected calibration error, 15 bins", plain(error, 3)]]),
  ];
  // Of few classes all stand there, one without pictures last.
  const scored = classes.length <= CLASSES_LISTED ? classes : classes.filter(({ support }) => support > 0);
  const listed = scored
    .toSorted((a, b) => (a.recall ?? 2) - (b.recall ?? 2) || a.output - b.output)
    .slice(0, CLASSES_LISTED);
  const weakest =
    listed.length < scored.length
      ? `The ${listed.length} of ${whole(scored.length)} with the lowest recall.`
      : "The lowest recall first.";
  return [
    "## Scores",
    "",
    `Of ${markdown(scoredWords(evaluated))}, ${weightsWords(evaluated, history)}.${warned.map((sentence) => ` ${markdown(sentence)}`).join("")}`,
    "",
    "| | |",
    "| --- | --- |",
    ...rows.map(([title, value]) => `| ${title} | ${value} |`),
    "",
    "## Classes",
    "",
    weakest,
    "",
    "| class | precision | recall | pictures |",
    "| --- | --- | --- | --- |",
    ...listed.map(
      ({ output, precision, recall, support }) =>
        `| ${markdown(className(start.model, output))} | ${percent(precision)} | ${percent(recall)} | ${whole(support)} |`,
    ),
    "",
    "## Duplicates and suspects",
    "",
    ...dataSentences(evaluated).map((sentence) => `- ${markdown(sentence)}`),
  ];
}
