/** Runs near by, for whoever leaves one out or names one that is not there. */

import { existsSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";

import { statIfThere } from "../core/durable.js";
import { RiffleError } from "../core/error.js";
import { printable, shellWord } from "../core/printable.js";
import { shortPath } from "../core/short-path.js";

/** Folders below the working directory that are looked into, the nearest first. */
const MOST_FOLDERS = 400;
const DEEPEST = 3;
const MOST_NAMED = 5;

/** What every run leaves in its folder. */
const MARKS = ["recipe.json", "events.jsonl"] as const;

/** The failure with the runs near by beneath it, where one of `paths` was to be a run and is none; else as it is. */
export function withKnownRuns(error: unknown, paths: readonly string[]): unknown {
  if (!(error instanceof RiffleError) || error.problem.table !== undefined) return error;
  const isNone = (path: string): boolean =>
    !existsSync(path) || (error.exitCode === 4 && error.problem.where === resolve(path) && !isRun(path));
  if (!paths.some(isNone)) return error;
  return new RiffleError(error.exitCode, { ...error.problem, table: knownRunLines() }, error);
}

/** "Runs here: runs/a, model_1p", the newest first; none where there are none. */
export function knownRunLines(folder = "."): string[] {
  const runs = runsNear(folder).map((run) => shellWord(printable(shortPath(run))));
  if (runs.length === 0) return [];
  const more = runs.length > MOST_NAMED ? `, and ${runs.length - MOST_NAMED} more` : "";
  return [`Runs here: ${runs.slice(0, MOST_NAMED).join(", ")}${more}`];
}

/** Folders of runs, absolute, the newest first; `top` itself where it is one. */
export function runsNear(top: string): string[] {
  const found: { readonly path: string; readonly changed: number }[] = [];
  let level = [resolve(top)];
  let looked = 0;
  for (let depth = 0; depth <= DEEPEST; depth++) {
    const next: string[] = [];
    for (const folder of level) {
      if (looked++ >= MOST_FOLDERS) break;
      const changed = changedAt(folder);
      // What lies in a run is of that run.
      if (changed === undefined) next.push(...foldersIn(folder));
      else found.push({ path: folder, changed });
    }
    level = next;
  }
  return found.sort((a, b) => b.changed - a.changed).map(({ path }) => path);
}

export function isRun(path: string): boolean {
  return changedAt(path) !== undefined;
}

/** When a run's marks were last written; undefined of a folder that is no run. Milliseconds. */
function changedAt(folder: string): number | undefined {
  const times = MARKS.flatMap((name) => {
    const found = statIfThere(join(folder, name));
    return found === undefined ? [] : [found.mtimeMs];
  });
  return times.length === 0 ? undefined : Math.max(...times);
}

function foldersIn(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && !/^(\.|node_modules$)/.test(entry.name))
      .map((entry) => join(folder, entry.name));
  } catch {
    // A folder that cannot be read has nothing to name.
    return [];
  }
}
