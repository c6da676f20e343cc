/**
 * Settings as they are given, by name and in text or typed already, to settings the table accepts.
 *
 * A name that is none and a value out of range are refused, never repaired.
 */

import { UsageError } from "../core/error.js";
import { unknownSetting } from "../core/nearest-name.js";
import { accepts, expectation, type Setting } from "./setting-kinds.js";
import { fromText } from "./setting-text.js";
import { whatIsMeant } from "./unknown-name.js";
import { type GivenSettings, type SettingName, settingNames, type Settings, settings } from "./settings.js";

/** The setting that `name` or one of its aliases stands for; dashes and underscores are alike. */
export function findSetting(name: string): SettingName | undefined {
  const wanted = name.replace(/^--/, "").replaceAll("-", "_");
  return settingNames.find((key) => key === wanted || settings[key].aliases?.includes(wanted));
}

/**
 * The value of one setting from text (the command line) or from a value already typed (the API, JSON).
 *
 * @throws UsageError naming the option, what was expected and what was found.
 */
export function readSetting<K extends SettingName>(name: K, given: unknown): NonNullable<Settings[K]> {
  const setting: Setting<unknown> = settings[name];
  const value = typeof given === "string" ? fromText(setting, meantBy(setting, given)) : given;
  if (!accepts(setting, value)) {
    throw new UsageError({
      what: `--${name} cannot be ${quote(given)}`,
      where: `option --${name}`,
      expected: expectation(setting),
      found: quote(given),
      safe: "Nothing was read or written",
      hint: `It sets: ${setting.help}`,
    });
  }
  return value as NonNullable<Settings[K]>;
}

/** Reads every given value; a name that is no setting is refused. */
export function readSettings(given: Readonly<Record<string, unknown>>): GivenSettings {
  const read: Partial<Record<SettingName, unknown>> = {};
  for (const [key, value] of Object.entries(given)) {
    if (value === undefined) continue;
    const name = findSetting(key);
    if (name === undefined) {
      throw new UsageError({
        what: `there is no setting ${quote(key)}`,
        where: `option --${key}`,
        expected: `one of ${settingNames.join(", ")}`,
        found: quote(key),
        safe: "Nothing was read or written",
        hint: "npx riffle-vision train --help all lists them",
      });
    }
    read[name] = readSetting(name, value);
  }
  return read as GivenSettings;
}

/**
 * The settings and options that a program gives to one of our functions: checked as a command line is, and refused where
 * the function does not take them, in the same words.
 *
 * @param call the function's name
 * @param own its options that are no settings, handed on as they are
 */
export function readCall<T extends object>(
  given: T,
  call: string,
  taken: readonly SettingName[],
  own: readonly string[] = [],
): T {
  const read: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(given)) {
    if (value === undefined) continue;
    const setting = findSetting(key);
    const name = own.includes(key)
      ? key
      : setting !== undefined && taken.includes(setting)
        ? setting
        : undefined;
    if (name === undefined) {
      const known = [...taken, ...own];
      throw unknownSetting(
        key,
        whatIsMeant(key, known, (each) => each, call),
        known,
        call,
      );
    }
    if (name in read) {
      const what = `${name} is given twice, as ${key} too`;
      throw new UsageError({ what, where: call, safe: "Nothing was read or written" });
    }
    read[name] = own.includes(key) ? value : readSetting(name as SettingName, value);
  }
  return read as T;
}

/** What was taken for what it misprints, a sentence each. */
export function respelt(given: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(given).flatMap(([key, value]) => {
    const name = findSetting(key);
    if (name === undefined || typeof value !== "string") return [];
    const meant = meantBy(settings[name], value);
    return meant === value.trim()
      ? []
      : [`${name} ${value.trim()}, a misprint of the original's table, is taken for ${meant}`];
  });
}

/** The text without space around it, and without a misprint that we know. */
function meantBy({ misprints = {} }: Setting<unknown>, text: string): string {
  const plain = text.trim();
  return Object.hasOwn(misprints, plain) ? (misprints[plain] as string) : plain;
}

/** The settings that have a value, as a checkpoint and events hold them. */
export function valuesOf(settings: GivenSettings): Record<string, string | number | boolean> {
  return Object.fromEntries(
    Object.entries(settings).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );
}

function quote(value: unknown): string {
  return JSON.stringify(value) ?? String(value);
}
