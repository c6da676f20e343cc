/**
 * The kinds of settings: what a row of the table (settings.ts) says, and what is accepted.
 */

/** The headings under which help lists the settings, in this order. */
export const groups = ["data", "pictures", "network", "learning", "run", "ranks"] as const;
export type Group = (typeof groups)[number];

/** The commands that take a setting. */
export type Command = "train" | "evaluate" | "predict";

export interface Setting<T> {
  readonly type: "integer" | "number" | "boolean" | "choice" | "path" | "text";
  readonly group: Group;
  readonly commands: readonly Command[];
  /** One line of help, without unit and default. */
  readonly help: string;
  readonly unit?: string;
  /** Value when neither the user nor the recipe gives one; undefined where `source` says what happens. */
  readonly default: T;
  /** Where the default comes from, in a few words. */
  readonly source: string;
  /** Other names for the same setting. */
  readonly aliases?: readonly string[];
  readonly choices?: readonly (string | number)[];
  /** Values that a published page misprints, and what they mean. */
  readonly misprints?: Readonly<Record<string, T & string>>;
  /** Smallest and largest value allowed. */
  readonly range?: readonly [minimum?: number, maximum?: number];
  /** Whether a resumed run may be given another value than it started with. */
  readonly mayChange: boolean;
}

/** A row as it is written; what it does not say is {@link USUAL}. */
type Row<T> = Pick<Setting<T>, "help" | "unit" | "aliases" | "range" | "misprints"> &
  Partial<Pick<Setting<T>, keyof typeof USUAL>>;

type Ungrouped<T> = Omit<Setting<T>, "group">;

/** Of `train` alone, fixed for the whole of a run, no default of its own but what recipes say. */
const USUAL = { commands: ["train"], mayChange: false, default: undefined, source: "the recipe" } as const;

export function inGroup<T extends Readonly<Record<string, Ungrouped<unknown>>>>(
  group: Group,
  rows: T,
): { readonly [K in keyof T]: T[K] extends Ungrouped<infer V> ? Setting<V> : never } {
  const grouped = Object.entries(rows).map(([name, row]) => [name, { ...row, group }]);
  return Object.fromEntries(grouped) as ReturnType<typeof inGroup<T>>;
}

export function integer<const D extends number | undefined>(row: Row<D>): Ungrouped<D | number> {
  return ofType("integer", row);
}

export function number<const D extends number | undefined>(row: Row<D>): Ungrouped<D | number> {
  return ofType("number", row);
}

export function flag(row: Row<boolean> & { readonly default: boolean }): Ungrouped<boolean> {
  return ofType("boolean", row);
}

export function path<const D extends string | undefined>(row: Row<D>): Ungrouped<D | string> {
  return ofType("path", row);
}

export function text<const D extends string | undefined>(row: Row<D>): Ungrouped<D | string> {
  return ofType("text", row);
}

export function choice<const C extends string | number, const D extends C | undefined>(
  choices: readonly C[],
  row: Row<D>,
): Ungrouped<C | D> {
  return { ...ofType<C | D>("choice", row), choices };
}

/** A row without a default is of a kind that has `undefined` among its values. */
function ofType<T>(type: Setting<T>["type"], row: Row<T>): Ungrouped<T> {
  return { ...USUAL, ...row, type } as Ungrouped<T>;
}

/** Whether a value is one of the setting's: of its type, in its range, one of its choices. */
export function accepts(setting: Setting<unknown>, value: unknown): boolean {
  switch (setting.type) {
    case "integer":
    case "number":
      return (
        typeof value === "number" &&
        Number.isFinite(value) &&
        (setting.type === "number" || Number.isSafeInteger(value)) &&
        value >= (setting.range?.[0] ?? -Infinity) &&
        value <= (setting.range?.[1] ?? Infinity)
      );
    case "boolean":
      return typeof value === "boolean";
    case "choice":
      return (typeof value === "string" || typeof value === "number") && setting.choices!.includes(value);
    case "path":
    case "text":
      return typeof value === "string" && value.length > 0 && !value.includes("\0");
  }
}

/** What a setting accepts, in words: "a whole number from 1 to 65536 (images)". */
export function expectation(setting: Setting<unknown>): string {
  const { type, choices, range: [minimum, maximum] = [], unit } = setting;
  if (type === "choice") return `one of ${(choices ?? []).join(", ")}`;
  if (type === "boolean") return "true or false";
  if (type === "path") return "a path";
  if (type === "text") return "text";
  const range =
    minimum === undefined
      ? ""
      : maximum === undefined
        ? ` of at least ${minimum}`
        : ` from ${minimum} to ${maximum}`;
  return `a ${type === "integer" ? "whole number" : "number"}${range}${unit === undefined ? "" : ` (${unit})`}`;
}
