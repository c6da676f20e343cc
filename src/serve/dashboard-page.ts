/**
 * What the dashboard shows of its runs, as HTML that is made here and never in the browser: the curves are the report's, and
 * whatever comes from a run's log (its name, settings, warnings) passes `html` on its way. It is whole without a script;
 * with one it is asked for again and again, and what changed is put in its place.
 *
 * Sections have ids, by which the script finds them.
 */

import { RIFFLE } from "../core/call.js";
import { printable, shellWord } from "../core/printable.js";
import { shortPath } from "../core/short-path.js";
import { chartSvg } from "../report/chart.js";
import { aboutRows } from "../report/content.js";
import { comparedCharts, liveCharts } from "../report/curves.js";
import { duration, many, percent, plain, short, whole } from "../report/figures.js";
import { bestOf } from "../report/history.js";
import { html } from "../report/markup.js";
import type { WatchedRun } from "./watched-run.js";

export interface View {
  readonly runs: readonly WatchedRun[];
  /** What the reader left out: kinds of curves, and ids of runs. */
  readonly hidden: ReadonlySet<string>;
  /** Runs that are there and not shown. */
  readonly others: number;
}

/** Kinds of curves that may be left out. */
export const KINDS = ["training", "validation"] as const;

/** The document; `content` is what it shows before its script asks, nothing where that needs a token. */
export function dashboardPage(content = ""): string {
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<meta name="color-scheme" content="light dark" />
<title>Riffle</title>
<link rel="icon" href="data:," />
<link rel="stylesheet" href="/page.css" />
<script src="/page.js" defer=""></script>
</head>
<body>
<p id="contact" role="status"><noscript>Without JavaScript this page stands still; load it again to see more.</noscript></p>
${content === "" ? `<main id="live"><section id="head"><p class="soft">Asking for the runs.</p></section></main>` : content}
</body>
</html>
`;
}

/** What is asked for again and again. */
export function dashboardContent(view: View): string {
  const { runs } = view;
  const [first] = runs;
  const sections: Sections =
    first === undefined
      ? {
          head: "<h1>No run yet</h1><p>A run that begins below the folder in which the dashboard was started appears here.</p>",
        }
      : runs.length === 1
        ? oneRun(first, view)
        : severalRuns(view);
  const isBehind = runs.some(({ done }) => done < 1);
  const title =
    first === undefined ? "no run yet" : runs.length === 1 ? titleOf(first) : many(runs.length, "run");
  return `<main id="live" data-title="${html(`${title} · Riffle`)}"${isBehind ? ` data-more=""` : ""}>
${Object.entries(sections)
  .map(([id, content]) => `<section id="${id}">${content}</section>`)
  .join("\n")}
</main>`;
}

function titleOf(run: WatchedRun): string {
  const share = shareDone(run);
  return run.standing === "running" && share !== undefined ? `${percent(share, 0)} ${run.name}` : run.name;
}

type Sections = Readonly<Record<string, string>>;

function oneRun(run: WatchedRun, { hidden, others }: View): Sections {
  const charts = liveCharts(run, hidden);
  return {
    head: `<h1>${html(run.name)}</h1>${standingLine(run)}${othersLine(others)}`,
    now: progressBar(run) + tiles(run),
    curves: curves(charts.map(chartSvg), hidden, ""),
    evaluations: evaluationTable(run),
    about: aboutRun(run),
  };
}

function severalRuns({ runs, hidden, others }: View): Sections {
  const shown = runs.filter(({ id }) => !hidden.has(String(id)));
  const charts = comparedCharts(
    shown.map((run) => ({ name: run.name, run: run.id, steps: run.steps, evaluations: run.evaluations })),
    hidden,
  );
  const told = runs.filter(
    ({ standing, warnings }) => warnings.length > 0 || !["running", "ended", "not begun"].includes(standing),
  );
  return {
    head: `<h1>${many(runs.length, "run")}</h1>${othersLine(others)}`,
    now: runTable(runs, hidden),
    remarks: told.map((run) => `<h3>${html(run.name)}</h3>${standingLine(run)}`).join("\n"),
    curves: curves(charts.map(chartSvg), hidden, "kind "),
    results: resultTable(runs),
    settings: differingSettings(runs),
  };
}

function othersLine(others: number): string {
  if (others === 0) return "";
  return `<p class="soft">${many(others, "older run")} not shown; name those that are to be: <code>${RIFFLE} dashboard RUN...</code></p>`;
}

/** How a run stands in a word, what that means, and what it warned of. */
function standingLine(run: WatchedRun): string {
  const remarks = run.warnings.map((what) => `<p class="remark">${html(`warning: ${what}`)}</p>`);
  return `<p>${badge(run)} ${html(standingWords(run))}</p>${remarks.join("")}`;
}

function badge({ standing }: WatchedRun): string {
  return `<span class="badge ${standing.replaceAll(" ", "-")}">${standing}</span>`;
}

function standingWords(run: WatchedRun): string {
  const { standing, ending, step, written, folder, done, problem } = run;
  const since = written === undefined ? "" : localTime(written);
  const resume = `${RIFFLE} train --resume ${shellWord(shortPath(folder))}`;
  const reading = done < 1 ? `reading its log, ${percent(done, 0)}` : "";
  switch (standing) {
    case "not begun":
      return reading || "its log tells of no beginning yet";
    case "running":
      return reading;
    case "silent":
      return `since ${since}; an evaluation and saving say nothing before their end, and so does what hangs`;
    case "ended":
      return since;
    case "stopped":
      return `after step ${whole(ending?.step ?? 0)}, on request, ${since}; to go on: ${resume}`;
    case "failed":
      return `after step ${whole(ending?.step ?? 0)}, ${since}: ${ending?.event === "failed" ? ending.what : ""}`;
    case "gone":
      return `its process ended without a word after step ${whole(step?.step ?? 0)}, ${since}; to go on: ${resume}`;
    case "unreadable":
      return `its log cannot be read: ${problem ?? ""}`;
  }
}

/** Of the machine that the dashboard runs on: "2026-11-30 02:31:46". */
function localTime(time: number): string {
  const date = new Date(time - new Date(time).getTimezoneOffset() * 60_000);
  return date.toISOString().slice(0, 19).replace("T", " ");
}

/** In [0, 1]; undefined before the first step. */
function shareDone({ start, step, ending }: WatchedRun): number | undefined {
  const at = ending?.step ?? step?.step ?? start?.resumed?.step;
  return start === null || at === undefined || start.steps <= 0 ? undefined : Math.min(1, at / start.steps);
}

function progressBar(run: WatchedRun): string {
  const share = shareDone(run);
  if (share === undefined) return "";
  return `<progress value="${share.toFixed(4)}" aria-label="${html(`${run.name}: share of the steps`)}"></progress>`;
}

/** The figures of a run, each with what it is. */
function tiles(run: WatchedRun): string {
  const { start, step, standing, evaluations, ending, beginnings } = run;
  const best = bestOf(evaluations);
  const last = evaluations.at(-1);
  const isUnderWay = standing === "running" || standing === "silent";
  const shown: [value: string, label: string][] = [];
  if (isUnderWay && typeof step?.seconds_left === "number") {
    shown.push([duration(step.seconds_left), "left, evaluations not counted"]);
  }
  const took = Date.parse(ending?.time ?? "") - Date.parse(start?.time ?? "");
  if (beginnings === 1 && took >= 0) shown.push([duration(took / 1000), "from start to end"]);
  const at = ending ?? step;
  if (start !== null && at !== null) {
    shown.push([
      whole(at.step),
      `of ${many(start.steps, "step")}, epoch ${plain(at.epoch, 3)} of ${plain(start.epochs)}`,
    ]);
  }
  if (step !== null) {
    if (typeof step.images_per_second === "number") {
      shown.push([pace(step.images_per_second), "pictures a second"]);
    }
    if (typeof step.waiting === "number") {
      shown.push([percent(step.waiting), "of the time waiting for pictures"]);
    }
    shown.push([plain(step.learning_rate, 3), "learning rate"]);
    const loss = step.cross_entropy ?? step.loss;
    shown.push([lossText(loss), "loss of the last step (cross-entropy)"]);
    shown.push([percent(step.top1), "top-1 of the last step"]);
    if ((step.skipped ?? 0) > 0) shown.push([whole(step.skipped ?? 0), "steps skipped, not finite"]);
  }
  if (best !== undefined) {
    shown.push([percent(best.top1), `validation top-1, the best, epoch ${plain(best.epoch, 3)}`]);
  }
  if (last !== undefined && last !== best) {
    shown.push([percent(last.top1), `validation top-1, the last, epoch ${plain(last.epoch, 3)}`]);
  }
  const tile = ([value, label]: [string, string]): string =>
    `<div><b>${html(value)}</b><span>${html(label)}</span></div>`;
  return shown.length === 0 ? "" : `<div class="figures">${shown.map(tile).join("")}</div>`;
}

function lossText(loss: number | null): string {
  if (loss === null) return "not finite";
  return loss < 1000 ? loss.toFixed(3) : short(loss);
}

function pace(imagesPerSecond: number): string {
  return imagesPerSecond < 100 ? plain(imagesPerSecond, 3) : whole(imagesPerSecond);
}

/** A link that leaves something out of the curves, or takes it in again. */
function toggle(hidden: ReadonlySet<string>, what: string, name: string, looks: string): string {
  const isHidden = hidden.has(what);
  const next = isHidden ? [...hidden].filter((each) => each !== what) : [...hidden, what];
  const address = next.length === 0 ? "/" : `/?hide=${next.sort().join(",")}`;
  return `<a class="toggle ${looks}" role="button" aria-pressed="${!isHidden}" href="${address}">${html(name)}</a>`;
}

function curves(charts: readonly string[], hidden: ReadonlySet<string>, looks: string): string {
  const toggles = KINDS.map((kind) => toggle(hidden, kind, kind, `${looks}${kind}`));
  if (charts.length === 0) {
    const why =
      hidden.size > 0 ? "What there is was left out." : "They begin with the first step that is reported.";
    return `<h2>Curves</h2><p class="soft">${why}</p>`;
  }
  return `<h2>Curves</h2><p class="key">${toggles.join(" ")}</p>
<div class="charts">${charts.join("\n")}</div>`;
}

/** Of a few runs, a row each; on a narrow screen a row becomes a card. */
function runTable(runs: readonly WatchedRun[], hidden: ReadonlySet<string>): string {
  const rows = runs.map((run) => {
    const { id, name, step, standing, evaluations, start } = run;
    const isUnderWay = standing === "running" || standing === "silent";
    const best = bestOf(evaluations);
    const at = run.ending ?? step;
    const loss = step?.cross_entropy ?? step?.loss;
    const cells: [label: string, text: string, value: number | null | undefined][] = [
      [
        "epoch",
        at === null || start === null ? "-" : `${plain(at.epoch, 3)} of ${plain(start.epochs)}`,
        at?.epoch,
      ],
      [
        "left",
        isUnderWay && typeof step?.seconds_left === "number" ? duration(step.seconds_left) : "-",
        isUnderWay ? step?.seconds_left : null,
      ],
      [
        "pictures/s",
        typeof step?.images_per_second === "number" ? pace(step.images_per_second) : "-",
        step?.images_per_second,
      ],
      ["waiting", percent(step?.waiting ?? null), step?.waiting],
      ["rate", step === null ? "-" : plain(step.learning_rate, 3), step?.learning_rate],
      ["loss", step === null ? "-" : lossText(loss ?? null), loss],
      ["top-1", percent(step?.top1 ?? null), step?.top1],
      ["best validation", percent(best?.top1 ?? null), best?.top1],
    ];
    return (
      `<tr><td class="name" data-value="${html(name)}">${toggle(hidden, String(id), name, `run run-${id}`)}</td>` +
      `<td class="name" data-label="stands" data-value="${standing}">${badge(run)}${progressBar(run)}</td>` +
      `${cells.map(([label, text, value]) => `<td data-label="${label}" data-value="${value ?? ""}">${html(text)}</td>`).join("")}</tr>`
    );
  });
  const head = (title: string, looks = ""): string =>
    `<th scope="col"${looks}><button type="button">${title}</button></th>`;
  const titles = ["epoch", "left", "pictures/s", "waiting", "rate", "loss", "top-1", "best validation"];
  return `<div class="wide"><table class="sortable cards"><thead><tr>${head("run", ` class="name"`)}${head("stands", ` class="name"`)}${titles.map((title) => head(title)).join("")}</tr></thead><tbody>${rows.join("\n")}</tbody></table></div>
<p class="soft">Press a run's name to leave it out of the curves. Loss and top-1 are the last reported step's.</p>`;
}

const MOST_EVALUATIONS = 50;

/** The newest first. */
function evaluationTable({ evaluations }: WatchedRun): string {
  if (evaluations.length === 0) return "";
  const best = bestOf(evaluations);
  const rows = evaluations
    .slice(-MOST_EVALUATIONS)
    .toReversed()
    .map(
      (point) =>
        `<tr${point === best ? ` class="chosen"` : ""}>${[
          [point.epoch, plain(point.epoch, 4)],
          [point.step, whole(point.step)],
          [point.loss, lossText(point.loss)],
          [point.top1, percent(point.top1)],
        ]
          .map(([value, text]) => `<td data-value="${value ?? ""}">${html(String(text))}</td>`)
          .join("")}<td class="name">${point === best ? "the best" : ""}</td></tr>`,
    );
  const heads = ["epoch", "step", "loss", "top-1"]
    .map((title) => `<th scope="col"><button type="button">${title}</button></th>`)
    .join("");
  const left =
    evaluations.length > MOST_EVALUATIONS
      ? `<p class="soft">The last ${MOST_EVALUATIONS} of ${whole(evaluations.length)}.</p>`
      : "";
  return `<h2>Evaluations</h2>${left}<div class="wide"><table class="sortable"><thead><tr>${heads}<td></td></tr></thead><tbody>${rows.join("\n")}</tbody></table></div>`;
}

function resultTable(runs: readonly WatchedRun[]): string {
  const evaluated = runs
    .map((run) => ({ run, best: bestOf(run.evaluations) }))
    .sort((a, b) => (b.best?.top1 ?? -1) - (a.best?.top1 ?? -1));
  if (evaluated.every(({ best }) => best === undefined)) return "";
  const rows = evaluated.map(({ run, best }, i) => {
    const cells: [value: number | null | undefined, text: string][] = [
      [best?.top1, percent(best?.top1 ?? null)],
      [best?.loss, best === undefined ? "-" : lossText(best.loss)],
      [best?.epoch, best === undefined ? "-" : plain(best.epoch, 3)],
      [run.evaluations.length, whole(run.evaluations.length)],
    ];
    return (
      `<tr${i === 0 ? ` class="chosen"` : ""}><td class="name" data-value="${html(run.name)}"><span class="run run-${run.id}">${html(run.name)}</span></td>` +
      `${cells.map(([value, text]) => `<td data-value="${value ?? ""}">${html(text)}</td>`).join("")}</tr>`
    );
  });
  const heads = ["best top-1", "its loss", "its epoch", "evaluations"]
    .map((title) => `<th scope="col"><button type="button">${title}</button></th>`)
    .join("");
  return `<h2>Best results</h2><p class="soft">Of each run the evaluation whose weights are in its <code>best</code>, by what it held out. Runs on other data, or another share of it, do not compare.</p>
<div class="wide"><table class="sortable"><thead><tr><th scope="col" class="name"><button type="button">run</button></th>${heads}</tr></thead><tbody>${rows.join("\n")}</tbody></table></div>`;
}

/** Where a run goes on from, and where it lies: no choices of how it learns. */
const NO_CHOICES: ReadonlySet<string> = new Set(["log_dir", "resume", "log_name"]);
const MOST_SETTINGS = 200;

function differingSettings(runs: readonly WatchedRun[]): string {
  const begun = runs.filter(({ start }) => start !== null);
  if (begun.length < 2) return "";
  const settingsOf = ({
    start,
  }: WatchedRun): Readonly<Record<string, string | number | boolean | undefined>> => ({
    ...start?.settings,
    network: start?.network,
    classes: start?.classes,
  });
  const names = new Set(begun.flatMap((run) => Object.keys(settingsOf(run))));
  const said = (run: WatchedRun, name: string): string => {
    const value = Object.hasOwn(settingsOf(run), name) ? settingsOf(run)[name] : undefined;
    return value === undefined ? "-" : cut(String(value));
  };
  const differing = [...names]
    .filter((name) => !NO_CHOICES.has(name))
    .map((name) => [name, ...begun.map((run) => said(run, name))] as const)
    .filter(([, ...values]) => new Set(values).size > 1)
    .slice(0, MOST_SETTINGS);
  if (differing.length === 0) return `<h2>Settings</h2><p>The runs have the same settings.</p>`;
  const heads = begun.map(
    ({ id, name }) => `<th scope="col"><span class="run run-${id}">${html(name)}</span></th>`,
  );
  const rows = differing.map(
    ([name, ...values]) =>
      `<tr><th scope="row" class="name">${html(cut(name))}</th>${values.map((value) => `<td>${html(value)}</td>`).join("")}</tr>`,
  );
  return `<h2>Settings that differ</h2><div class="wide"><table><thead><tr><td></td>${heads.join("")}</tr></thead><tbody>${rows.join("\n")}</tbody></table></div>`;
}

function cut(text: string): string {
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}

function aboutRun(run: WatchedRun): string {
  const { folder, start, steps, evaluations, ending, beginnings } = run;
  if (start === null) return "";
  const end = ending?.event === "end" ? ending : null;
  const history = { start, steps, evaluations, end, beginnings, unread: 0 };
  const rows = aboutRows({ folder: shortPath(folder), history, model: null });
  return `<h2>The run</h2><dl>${rows
    .map(([title, text]) => `<dt>${html(title)}</dt><dd>${html(cutLong(text))}</dd>`)
    .join("\n")}</dl>`;
}

function cutLong(text: string): string {
  return printable(text.length > 1000 ? `${text.slice(0, 1000)}…` : text);
}
