/**
 * A run's report as a page: one file of HTML with everything in it, which loads nothing, light or dark as the reader's
 * system is, and fit to be printed.
 *
 * Whatever comes from files (names of classes and pictures, paths, settings) passes `html` on its way into the page; the
 * page's policy lets no other script run than the one whose hash it names, and nothing be fetched.
 */

import { createHash } from "node:crypto";

import { shellWord } from "../core/printable.js";
import { BINS, type CalibrationBin } from "./calibration.js";
import { chartSvg } from "./chart.js";
import { balancedAccuracy, type ClassScores, majority } from "./confusion.js";
import {
  aboutRows,
  caution,
  className,
  type Evaluated,
  majorityWords,
  type ReportContent,
  runName,
  scoredWords,
  type ShownPicture,
  unscoredWords,
  weightsWords,
} from "./content.js";
import { runCharts } from "./curves.js";
import { dataSection } from "./data-section.js";
import { interval, many, percent, plain, whole } from "./figures.js";
import type { History } from "./history.js";
import type { LayerProfile } from "./layer-profile.js";
import { lookFigures, lookWords } from "./look-figures.js";
import { fileLabel, html } from "./markup.js";
import { SCRIPT, STYLE } from "./page-style.js";
import { repeatCommand } from "./repeat-command.js";
import { MOST_BYTES } from "./thumbnails.js";

/** Up to so many classes the matrix is drawn; of more the pairs that are confused most are listed. */
export const MOST_IN_MATRIX = 50;
const PAIRS_LISTED = 40;
/** Rows of the table of classes. */
const MOST_CLASSES = 2000;
const LAYERS_LISTED = 20;

export function reportPage(content: ReportContent): string {
  const { written, version, evaluated, unscored, profile, remarks } = content;
  const name = runName(content);
  const policy = `default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-${sha256(SCRIPT)}'; base-uri 'none'; form-action 'none'`;
  const sections = [
    ...curves(content.history),
    ...(evaluated === null
      ? [`<h2>Scores</h2><p>No scores: ${html(unscored)}.</p>`]
      : scores(evaluated, content.history)),
    ...(profile === null ? [] : [timePerLayer(profile)]),
  ];
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<meta http-equiv="Content-Security-Policy" content="${policy}" />
<title>${html(name)}: report of a Riffle run</title>
<style>${STYLE}</style>
</head>
<body>
<header>
<h1>${html(name)}</h1>
<p class="soft">Report of a training run, written ${html(written.toISOString().slice(0, 16).replace("T", " "))} UTC by Riffle ${html(version)}.</p>
${remarks.map((remark) => `<p class="remark">${html(remark)}</p>`).join("\n")}
<dl>${aboutRows(content)
    .map(([title, text]) => `<dt>${html(title)}</dt><dd>${html(text)}</dd>`)
    .join("\n")}</dl>
${commands(content)}
</header>
<main>
${sections.join("\n")}
</main>
<footer>All of this page lies in this file; it fetches nothing. The log behind the curves is events.jsonl beside it.</footer>
<script>${SCRIPT}</script>
</body>
</html>
`;
}

function commands({ history: { start }, folder, model }: ReportContent): string {
  const lines = [
    ...(start === null ? [] : ["# this training again", repeatCommand(start, folder)]),
    ...(model === null ? [] : ["# use it", `npx riffle-vision predict ${shellWord(folder)} photo.jpg`]),
  ];
  return lines.length === 0 ? "" : `<pre>${lines.map(html).join("\n")}</pre>`;
}

function curves(history: History): string[] {
  const { steps, evaluations } = history;
  // A single evaluation is no course: the scores say it.
  if (steps.length === 0 && evaluations.length < 2) return [];
  const { charts, stretch } = runCharts(history);
  const every = Number(history.start?.settings["log_steps"] ?? 1);
  const how =
    stretch > 1
      ? ` Each place of the training's curves is the mean of up to ${many(stretch, "reported step")}.`
      : every > 1
        ? ` Of the training's steps the log has one in ${whole(every)}; --log_steps 1 keeps all.`
        : "";
  return [
    `<h2>Curves</h2><p class="soft">Training is scored on the varied pictures of its own steps, validation on whole sets as predictions see them.${how}</p>`,
    `<div class="charts">${charts.map(chartSvg).join("\n")}</div>`,
  ];
}

function scores(evaluated: Evaluated, history: History): string[] {
  const { examination, scores, start } = evaluated;
  const { confusion, calibration, notFinite } = examination;
  const classes = confusion.allScores();
  const [low, high] = interval(scores.top1, scores.images);
  const error = calibration.expectedError();
  const usual = majority(classes);
  const figures: [value: string, label: string][] = [
    [percent(scores.top1), `top-1, 95 % interval ${percent(low)} to ${percent(high)}`],
    ...(start.model.classes > 5 ? [[percent(scores.top5), "top-5"] as [string, string]] : []),
    [plain(scores.loss), "loss (cross-entropy)"],
    [percent(balancedAccuracy(classes)), "mean recall of the classes"],
    ...(usual === undefined
      ? []
      : [[percent(usual.share), majorityWords(evaluated, usual.output)] as [string, string]]),
    ...(error === null ? [] : [[plain(error, 3), "expected calibration error"] as [string, string]]),
  ];
  const warned = [caution(evaluated, history) ?? [], unscoredWords(evaluated, classes) ?? []].flat();
  return [
    "<h2>Scores</h2>",
    `<p>Of ${html(scoredWords(evaluated))}, ${weightsWords(evaluated, history)}.</p>`,
    ...warned.map((sentence) => `<p class="remark">${html(sentence)}</p>`),
    ...(notFinite === 0
      ? []
      : [
          `<p class="remark">The network's output was not finite for ${many(notFinite, "picture")}: counted as wrong, named as no class.</p>`,
        ]),
    `<div class="figures">${figures.map(([value, label]) => `<div><b>${html(value)}</b><span>${html(label)}</span></div>`).join("")}</div>`,
    start.model.classes <= MOST_IN_MATRIX ? matrix(evaluated) : confusedPairs(evaluated),
    classTable(evaluated, classes),
    ...(error === null ? [] : [reliability(calibration.bins(), error)]),
    ...(evaluated.looks.size === 0 ? [] : [lookWords()]),
    ...pictures(evaluated),
    ...dataSection(evaluated),
  ];
}

function matrix({ examination: { confusion }, start: { model } }: Evaluated): string {
  const outputs = Array.from({ length: confusion.classes }, (_, output) => output);
  const head = outputs
    .map((output) => named(model, output))
    .map((name) => `<th scope="col" title="${name}"><span>${name}</span></th>`)
    .join("");
  const rows = outputs.map((actual) => {
    const { support } = confusion.scoresOf(actual);
    const name = named(model, actual);
    const cells = outputs.map((output) => {
      const pictures = confusion.at(actual, output);
      const kind = pictures === 0 ? "none" : actual === output ? "right" : "wrong";
      const share = support === 0 ? 0 : pictures / support;
      const says = `${many(pictures, "picture")} of ${name} taken for ${named(model, output)}: ${percent(share)} of the class`;
      return `<td class="${kind}" style="--s:${share.toFixed(3)}" title="${says}">${pictures}</td>`;
    });
    return `<tr><th scope="row" class="name" title="${name}">${name}</th>${cells.join("")}</tr>`;
  });
  return `<h2>Confusion matrix</h2><p class="soft">A row for the class that pictures are of, a column for the one that was named; the colour is the share of the row.</p>
<div class="wide"><table class="matrix"><thead><tr><td></td>${head}</tr></thead><tbody>${rows.join("\n")}</tbody></table></div>`;
}

function confusedPairs({ examination: { confusion }, start: { model } }: Evaluated): string {
  const pairs = confusion.confused(PAIRS_LISTED);
  const rows = pairs.map(({ actual, named: output, pictures }) => {
    const { support } = confusion.scoresOf(actual);
    return `<tr><td class="name">${named(model, actual)}</td><td class="name">${named(model, output)}</td><td>${whole(pictures)}</td><td>${percent(pictures / support)}</td></tr>`;
  });
  const table =
    pairs.length === 0
      ? "<p>No class was taken for another.</p>"
      : `<div class="wide"><table><thead><tr><th class="name">of class</th><th class="name">taken for</th><th>pictures</th><th>of the class</th></tr></thead><tbody>${rows.join("\n")}</tbody></table></div>`;
  return `<h2>Most confused classes</h2><p class="soft">A matrix of ${whole(confusion.classes)} classes cannot be read; these are its ${pairs.length} largest entries beside the diagonal.</p>${table}`;
}

function classTable({ start: { model } }: Evaluated, scores: readonly ClassScores[]): string {
  const seen =
    scores.length <= MOST_IN_MATRIX
      ? scores
      : scores.filter(({ support, named }) => support > 0 || named > 0);
  const listed = seen.slice(0, MOST_CLASSES);
  const cell = (value: number | null): string => `<td data-value="${value ?? ""}">${percent(value)}</td>`;
  const counted = (value: number): string => `<td data-value="${value}">${whole(value)}</td>`;
  const rows = listed.map(({ output, support, named: taken, precision, recall, f1 }) => {
    const name = named(model, output);
    return `<tr><td class="name" data-value="${name}">${name}</td>${cell(precision)}${cell(recall)}${cell(f1)}${counted(support)}${counted(taken)}</tr>`;
  });
  const left = [
    ...(seen.length < scores.length
      ? [
          `${many(scores.length - seen.length, "class", "classes")} without a picture here, and never named, left out`,
        ]
      : []),
    ...(listed.length < seen.length
      ? [`the first ${whole(listed.length)} of ${whole(seen.length)} are listed`]
      : []),
  ];
  const heads = ["precision", "recall", "F1", "pictures", "named"]
    .map((title) => `<th scope="col"><button type="button">${title}</button></th>`)
    .join("");
  return `<h2>Classes</h2><p class="soft">Precision: of the pictures named so, how many are. Recall: of the class's pictures, how many were named so. F1 is their harmonic mean.${left.length === 0 ? "" : ` ${html(left.join("; "))}.`}</p>
<div class="wide"><table class="sortable"><thead><tr><th scope="col" class="name"><button type="button">class</button></th>${heads}</tr></thead><tbody>${rows.join("\n")}</tbody></table></div>`;
}

const SIDE = 400;
const EDGE = { left: 62, right: 22, top: 10, bottom: 40 } as const;

function reliability(bins: readonly CalibrationBin[], error: number): string {
  const x = (share: number): number => EDGE.left + share * (SIDE - EDGE.left - EDGE.right);
  const y = (share: number): number => SIDE - EDGE.bottom - share * (SIDE - EDGE.top - EDGE.bottom);
  const ticks = [0, 0.25, 0.5, 0.75, 1].map(
    (value) =>
      `<path class="grid" d="M${x(0)} ${y(value).toFixed(1)}H${x(1)}"/>` +
      `<text x="${x(0) - 6}" y="${(y(value) + 4).toFixed(1)}" text-anchor="end">${percent(value, 0)}</text>` +
      `<text x="${x(value).toFixed(1)}" y="${y(0) + 17}" text-anchor="middle">${percent(value, 0)}</text>`,
  );
  const bars = bins.flatMap(({ from, to, pictures, confidence, accuracy }) => {
    if (confidence === null || accuracy === null) return [];
    const says = `${percent(from)} to ${percent(to)}: ${many(pictures, "picture")}, ${percent(confidence)} sure on average, ${percent(accuracy)} right`;
    const place = `x="${(x(from) + 1).toFixed(1)}" width="${(x(to) - x(from) - 2).toFixed(1)}"`;
    return [
      `<g><title>${html(says)}</title><rect class="bar" ${place} y="${y(accuracy).toFixed(1)}" height="${(y(0) - y(accuracy)).toFixed(1)}"/>` +
        `<path class="gap" d="M${x(confidence).toFixed(1)} ${y(accuracy).toFixed(1)}V${y(confidence).toFixed(1)}"/>` +
        `<rect ${place} y="${EDGE.top}" height="${y(0) - EDGE.top}" fill="transparent"/></g>`,
    ];
  });
  const filled = bins.filter(({ pictures }) => pictures > 0);
  const empty = filled.length < bins.length ? " Bins without a picture are left out of the table." : "";
  const rows = filled.map(
    ({ from, to, pictures, confidence, accuracy }) =>
      `<tr><td>${percent(from)} to ${percent(to)}</td><td>${whole(pictures)}</td><td>${percent(confidence)}</td><td>${percent(accuracy)}</td></tr>`,
  );
  return `<h2>Calibration</h2>
<p class="soft">Does a network that is 80 % sure get 80 % right? Its confidence is the probability of the class it names, put into ${BINS} bins of equal width, each with its upper end.
The expected calibration error, ${html(plain(error, 3))}, is the mean over pictures of the distance between a bin's share of right answers and its mean confidence (Guo et al. 2017). With few pictures in a bin it is mostly chance.${empty}</p>
<div class="charts"><figure class="chart"><svg viewBox="0 0 ${SIDE} ${SIDE}" style="max-width:25rem" role="img" aria-label="Reliability: confidence against the share of right answers">
${ticks.join("\n")}
${bars.join("\n")}
<path class="ideal" d="M${x(0)} ${y(0)}L${x(1)} ${y(1)}"/>
<text x="${x(0.5)}" y="${SIDE - 6}" text-anchor="middle">confidence</text>
<text transform="translate(14 ${y(0.5)}) rotate(-90)" text-anchor="middle">right</text>
</svg></figure>
<div class="wide"><table><thead><tr><th>confidence</th><th>pictures</th><th>mean</th><th>right</th></tr></thead><tbody>${rows.join("\n")}</tbody></table></div></div>`;
}

function pictures(evaluated: Evaluated): string[] {
  const { mistakes, unsure, examination, thumbnails } = evaluated;
  const missing = (shown: readonly ShownPicture[]): string => {
    const gone = shown.filter(({ sample }) => !thumbnails.has(sample)).length;
    return gone === 0
      ? ""
      : ` ${many(gone, "picture")} not shown: no longer readable, or beyond the ${whole(MOST_BYTES / 2 ** 20)} MiB that pictures may take here.`;
  };
  const section = (title: string, about: string, shown: readonly ShownPicture[]): string =>
    `<h2>${title}</h2><p class="soft">${about}${missing(shown)}</p><div class="pictures">${shown.map((picture) => card(picture, evaluated)).join("\n")}</div>`;
  return [
    mistakes.length === 0
      ? "<h2>Worst mistakes</h2><p>None: every picture was named right.</p>"
      : section(
          "Worst mistakes",
          `${mistakeWords(examination.wrong, mistakes.length)} A wrong label in the data looks like this, too.`,
          mistakes,
        ),
    ...(unsure.length === 0
      ? []
      : [
          section(
            "Least sure",
            "The pictures whose two likeliest classes are closest together, those above left out.",
            unsure,
          ),
        ]),
  ];
}

function mistakeWords(wrong: number, shown: number): string {
  if (wrong > shown)
    return `Of ${many(wrong, "picture")} named wrong the ${shown} of which the network was surest.`;
  return wrong === 1
    ? "The only picture that was named wrong."
    : `All ${shown} pictures that were named wrong, those first of which the network was surest.`;
}

function card(
  { sample, actual, named: output, second, confidence, own, runnerUp, name }: ShownPicture,
  { thumbnails, looks, start: { model } }: Evaluated,
): string {
  const uri = thumbnails.get(sample);
  const look = looks.get(sample);
  const isRight = actual === output;
  const image =
    uri === undefined ? "not shown" : `<img src="${uri}" alt="${named(model, actual)}" decoding="async" />`;
  const said = `<span class="${isRight ? "right" : "wrong"}">${named(model, output)} ${percent(confidence)}</span>`;
  const other = isRight
    ? `right; then ${named(model, second)} ${percent(runnerUp)}`
    : `is ${named(model, actual)} ${percent(own)}`;
  return `<figure><div class="frame">${image}</div><figcaption>${said}<br />${other}<small>${fileLabel(name)}</small></figcaption>${look === undefined ? "" : lookFigures(sample, look, model)}</figure>`;
}

function timePerLayer({ first_step, last_step, seconds, layers }: LayerProfile): string {
  const longest = layers.toSorted((a, b) => b.seconds - a.seconds).slice(0, LAYERS_LISTED);
  const most = longest[0]?.share ?? 1;
  const rows = longest.map(
    ({ layer, direction, seconds, share }) =>
      `<tr><td class="name">${html(layer)}</td><td class="name">${direction}</td><td>${(1000 * seconds).toFixed(2)}</td><td>${percent(share)}</td>` +
      `<td><svg viewBox="0 0 100 10" style="width:8rem;height:0.8rem" aria-hidden="true"><rect class="bar" width="${((100 * share) / most).toFixed(1)}" height="10"/></svg></td></tr>`,
  );
  return `<h2>Time per layer</h2><p class="soft">The ${rows.length} longest of ${layers.length} rows, means of steps ${whole(first_step)} to ${whole(last_step)}, ${(1000 * seconds).toFixed(1)} ms each. <a href="profile/roofline.html">profile/roofline.html</a> has all of them.</p>
<div class="wide"><table><thead><tr><th class="name">layer</th><th class="name">direction</th><th>ms</th><th>of the step</th><td></td></tr></thead><tbody>${rows.join("\n")}</tbody></table></div>`;
}

function named(model: Parameters<typeof className>[0], output: number): string {
  return html(className(model, output));
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("base64");
}
