/** The files that `predict` writes beside what it prints: results as lines, JSON or a table. */

import { dirname, extname, resolve } from "node:path";

import { stringify } from "csv-stringify/sync";

import { makeFolder, probeFolder, replaceFile, statIfThere } from "../core/durable.js";
import { UsageError } from "../core/error.js";
import { shortPath } from "../core/short-path.js";
import type { Prediction, Refused } from "../inference/predict.js";
import type { Invocation } from "./command.js";
import { jsonLine, shellWord } from "./format.js";
import { plainLine } from "./prediction-line.js";
import { titled } from "./report-run.js";
import type { Terminal } from "./terminal.js";

type Result = Prediction | Refused;
type Form = "lines" | "json" | "jsonl" | "csv";

export interface ResultFile {
  readonly path: string;
  readonly form: Form;
}

/**
 * The files of results that are asked for.
 *
 * @throws UsageError, ResourceError before anything is done, where one of them cannot be written
 */
export async function resultFiles(invocation: Invocation): Promise<readonly ResultFile[]> {
  const output = await fileWanted(invocation, "output");
  const csv = await fileWanted(invocation, "csv");
  if (output !== undefined && csv !== undefined && resolve(output) === resolve(csv)) {
    throw new UsageError({
      what: "--output and --csv name one file",
      where: output,
      expected: "one of them, or two files",
      safe: "Nothing was read or written",
    });
  }
  return [
    ...(output === undefined ? [] : [{ path: output, form: formOf(output) }]),
    ...(csv === undefined ? [] : [{ path: csv, form: "csv" as const }]),
  ];
}

/** The file that an option names, if it may be written there. @throws UsageError, ResourceError */
export async function fileWanted({ own }: Invocation, option: string): Promise<string | undefined> {
  const file = own.get(option);
  if (typeof file !== "string") return undefined;
  const found = statIfThere(file);
  if (found !== undefined && !(found.isFile() && own.has("overwrite"))) {
    throw new UsageError({
      what: found.isFile() ? "there is a file of this name" : "something that is no file has this name",
      where: file,
      safe: "It was not touched",
      hint: found.isFile() ? "Name another, or replace it: --overwrite" : "Name another",
    });
  }
  const leaveNothing = await probeFolder(dirname(resolve(file)), `--${option}`);
  await leaveNothing();
  return file;
}

/** Writes a file whole, and says where it is. */
export async function writeBeside(
  path: string,
  content: Uint8Array,
  title: string,
  terminal: Terminal,
): Promise<void> {
  await makeFolder(dirname(resolve(path)));
  await replaceFile(path, [content], {
    safe: "What was printed is all there",
    hint: "Make room, or name another file",
  });
  terminal.note(titled(title, shellWord(shortPath(resolve(path)))));
}

/** A file of results, as its form has it. */
export function contentOf(form: Form, results: readonly Result[], top: number): Buffer {
  switch (form) {
    case "csv":
      return csvText(results, top);
    case "json":
      return Buffer.from(`[\n${results.map(jsonLine).join(",\n")}\n]\n`);
    case "jsonl":
      return Buffer.from(results.map((result) => `${jsonLine(result)}\n`).join(""));
    case "lines": {
      const width = Math.max(0, ...results.map(({ file }) => file.length));
      return Buffer.from(results.map((result) => `${plainLine(result, width)}\n`).join(""));
    }
  }
}

function formOf(path: string): Form {
  const ending = extname(path).toLowerCase().slice(1);
  return ending === "csv" || ending === "json" || ending === "jsonl" ? ending : "lines";
}

/** A row for each picture: its file, `top` classes with their probabilities, and why it was refused. */
function csvText(results: readonly Result[], top: number): Buffer {
  const most = Math.min(
    top,
    Math.max(0, ...results.map((result) => ("top" in result ? result.top.length : 0))),
  );
  const ranks = Array.from({ length: most }, (_, i) => i);
  const rows = results.map((result) => {
    const guesses = "top" in result ? result.top : [];
    const cells = ranks.flatMap((i) => [guesses[i]?.name ?? "", guesses[i]?.probability ?? ""]);
    return [result.file, ...cells, "error" in result ? result.error : ""];
  });
  const head = ["file", ...ranks.flatMap((i) => [`class_${i + 1}`, `probability_${i + 1}`]), "error"];
  return Buffer.from(stringify([head, ...rows]));
}
