/** Steps named in a setting: "10", "5-14", or several of them, "10|20|100-102". */

import { UsageError } from "../core/error.js";
import type { SettingName } from "./settings.js";

/** Steps first .. last, both counted. */
export interface StepRange {
  readonly first: number;
  readonly last: number;
}

/** @throws UsageError for a text that names no steps. */
export function parseSteps(text: string, name: SettingName, mostRanges = 100): StepRange[] {
  const ranges = text.split("|").map((part) => {
    const [, first = "", last = first] = /^\s*([1-9]\d{0,11})(?:-([1-9]\d{0,11}))?\s*$/.exec(part) ?? [];
    return { first: Number(first), last: Number(last) };
  });
  const isRight = ranges.every(({ first, last }) => first > 0 && first <= last);
  if (isRight && ranges.length <= mostRanges) return ranges;
  throw new UsageError({
    what: "these are no steps of a run",
    where: `option --${name}`,
    expected: mostRanges === 1 ? "a step or a range of them, 5-14" : "steps from 1: 10, 5-7 or 10|20",
    found: JSON.stringify(text),
    safe: "Nothing was read or written",
  });
}

export function holds(ranges: readonly StepRange[], step: number): boolean {
  return ranges.some(({ first, last }) => first <= step && step <= last);
}

/** "step 7", "steps 5 to 14" */
export function rangeWords({ first, last }: StepRange): string {
  return first === last ? `step ${first}` : `steps ${first} to ${last}`;
}
