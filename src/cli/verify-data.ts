/** `riffle verify-data`: everything that is wrong with a data set, in a table. Exit code 3 when something is. */

import { MOST_COPIES, verifyData, type VerifiedPart, type VerifyReport } from "../prepare/verify-data.js";
import type { DataProblem, PicturePlace } from "../prepare/verify-parts.js";
import { parseKeys } from "../data/records/record-keys.js";
import type { CliCommand, Invocation } from "./command.js";
import { bytes, count, duration, percent, rate, several } from "./format.js";
import { startProgress } from "./progress.js";
import { listenForStop } from "./stop.js";
import type { Terminal } from "./terminal.js";

export const verifyDataCommand: CliCommand = {
  name: "verify-data",
  arguments: "<data>",
  purpose: "Looks at every picture of a data set: checksums, decoding, labels, boxes, copies, the manifest.",
  examples: [
    "npx riffle-vision verify-data train_shards",
    "npx riffle-vision verify-data imagenet/        (train_shards/ and eval_shards/: pictures in both are found)",
    "npx riffle-vision verify-data photos --json",
  ],
  settings: ["keys", "label_offset"],
  run: verify,
};

async function verify(invocation: Invocation, terminal: Terminal): Promise<number> {
  const { settings } = invocation;
  terminal.keepGoing();
  const progress = startProgress(terminal);
  const stop = listenForStop(terminal, () => "Stopping, and telling what was found so far.");
  let report: VerifyReport;
  try {
    report = await verifyData(
      {
        path: invocation.arguments[0] ?? "",
        keys: settings.keys === undefined ? undefined : parseKeys(settings.keys),
        labelOffset: settings.label_offset,
      },
      {
        signal: stop.signal,
        progress: ({ part, done, total, unit, rate: perSecond }) =>
          progress.show({
            label: part,
            done: Math.floor(done),
            total: Math.floor(total),
            columns: [unit, { rate: `${rate(perSecond)} img/s` }],
          }),
      },
    );
  } finally {
    progress.end();
    stop.release();
  }
  print(report, terminal);
  for (const problem of report.problems) terminal.emit({ event: "problem", ...problem });
  for (const copy of report.copies) terminal.emit({ event: "copy", ...copy });
  for (const part of report.parts) terminal.emit({ event: "part", ...part });
  const { ok, stopped, leaked, counts, seconds } = report;
  terminal.emit({ event: "end", ok, stopped, leaked, counts, seconds });
  if (report.problems.length > 0) return 3;
  return stopped ? stop.exitCode : 0;
}

/** Problems named on the terminal; --json has more. */
const SHOWN = 20;
/** Copies named there. */
const SHOWN_COPIES = 3;

function print(report: VerifyReport, terminal: Terminal): void {
  const { problems, counts, parts, seconds, stopped } = report;
  terminal.table({ rows: rowsOf(parts) });
  const total = Object.values(counts).reduce((sum, n) => sum + n, 0);
  for (const problem of problems.slice(0, SHOWN)) {
    terminal.print(terminal.colour.red(problem.check.padEnd(13)), ` ${lineOf(problem)}`);
  }
  if (total > SHOWN) {
    const shown = Object.entries(counts).map(([check, n]) => `${check} ${count(n)}`);
    terminal.print(`... ${count(total)} problems in all: ${shown.join(", ")}; --json lists them`);
  }
  printCopies(report, terminal);
  const looked = parts.reduce((sum, part) => sum + part.pictures, 0);
  const verdict =
    total === 0 ? "No problem found" : `${count(total)} ${total === 1 ? "problem" : "problems"}`;
  const { red, yellow, green } = terminal.colour;
  const paint = total > 0 ? red : stopped ? yellow : green;
  terminal.print(
    paint(verdict),
    ` in ${several(looked, "picture")}${stopped ? " looked at before it was stopped" : ""} · ${duration(seconds)}`,
  );
}

/** No problems, so without colour. */
function printCopies({ copies, parts }: VerifyReport, terminal: Terminal): void {
  for (const { of, ...copy } of copies.slice(0, SHOWN_COPIES)) {
    terminal.print(`${"copy".padEnd(13)} ${placeOf(copy)}: the picture of ${placeOf(of)}`);
  }
  const total = parts.reduce((sum, { duplicates }) => sum + duplicates, 0);
  if (total <= SHOWN_COPIES) return;
  const listed = total > MOST_COPIES ? `the first ${count(MOST_COPIES)}` : "them";
  terminal.print(`... ${count(total)} copies in all; --json lists ${listed}`);
}

/** A column per part, a row per fact. */
function rowsOf(parts: readonly VerifiedPart[]): string[][] {
  const rows: string[][] = [];
  const row = (title: string, of: (part: VerifiedPart) => string): void => {
    rows.push([title, ...parts.map(of)]);
  };
  row("", ({ part }) => part);
  row("where", ({ path }) => path);
  row("shards", ({ shards, manifest }) =>
    shards === null
      ? "files of pictures"
      : `${count(shards)}${manifest ? ", with a manifest" : ", no manifest"}`,
  );
  row("pictures", (part) => `${count(part.pictures)}, ${bytes(part.bytes)}`);
  row("boxes", ({ boxes, boxed, pictures }) =>
    boxes === 0 ? "none" : `${count(boxes)} on ${percent(boxed / pictures)} of the pictures`,
  );
  row("classes", ({ classes: { seen, known } }) =>
    known === null || known === seen ? count(seen) : `${count(seen)} of ${count(known)} have pictures`,
  );
  row("smallest class", ({ classes }) => sizeOf(classes.smallest));
  row("largest class", ({ classes }) => sizeOf(classes.largest));
  row("copies", ({ duplicates }) =>
    duplicates === 0 ? "none" : `${count(duplicates)} of an earlier picture`,
  );
  return rows;
}

function sizeOf(size: VerifiedPart["classes"]["smallest"]): string {
  if (size === null) return "-";
  return `${count(size.pictures)}: ${size.label}${size.name === null ? "" : ` ${size.name}`}`;
}

function lineOf({ what, ...problem }: DataProblem): string {
  const place = placeOf(problem);
  return what.startsWith(place) ? what : `${place}: ${what}`;
}

function placeOf({ file, record, offset }: PicturePlace): string {
  return record === null ? file : `${file} record ${record}, byte ${offset}`;
}
