/** A length of time as people write it: "90s", "3m", "1h30m". */

import { UsageError } from "../core/error.js";
import type { SettingName } from "./settings.js";

const SECONDS: Readonly<Record<string, number>> = { h: 3600, m: 60, s: 1 };

/** @returns seconds @throws UsageError for a text that is none, and for no time at all. */
export function parseDuration(text: string, name: SettingName): number {
  const plain = text.trim().toLowerCase();
  const parts = [...plain.matchAll(/(\d+(?:\.\d+)?)(h|m|s)/g)];
  const seconds = parts.reduce((sum, [, count, unit = ""]) => sum + Number(count) * (SECONDS[unit] ?? 0), 0);
  const units = parts.map(([, , unit = ""]) => "hms".indexOf(unit));
  const isOrdered = units.every((unit, i) => i === 0 || unit > (units[i - 1] as number));
  if (parts.map(([whole]) => whole).join("") === plain && isOrdered && seconds > 0) return seconds;
  throw new UsageError({
    what: "this is no length of time",
    where: `option --${name}`,
    expected: "hours, minutes and seconds with their unit: 90s, 3m or 1h30m",
    found: JSON.stringify(text),
    safe: "Nothing was read or written",
  });
}
