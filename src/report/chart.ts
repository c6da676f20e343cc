/**
 * Curves as SVG: a line for what every step says, drawn from at most {@link MOST_POINTS} means, and points for evaluations.
 * What a place of the curve says is a `<title>`, which browsers show under the pointer and read aloud.
 */

import { plain, short } from "./figures.js";
import { html } from "./markup.js";
import { spikesAbove } from "./spikes.js";

/** A series has no more: more would be pixels. */
export const MOST_POINTS = 240;

export interface Point {
  readonly x: number;
  readonly y: number;
  /** What stands under the pointer. */
  readonly says: string;
  /** Has a ring round it. */
  readonly isBest?: boolean;
}

export interface Series {
  readonly name: string;
  /** Of the style sheet: which colour, line or points. */
  readonly kind: "training" | "validation" | "rate";
  /** Which of several runs, whose colour it has; undefined for the one there is. */
  readonly run?: number | undefined;
  readonly points: readonly Point[];
}

export interface Chart {
  readonly title: string;
  readonly series: readonly Series[];
  readonly xLabel: string;
  /** Where the x axis begins; 0 when absent. */
  readonly xFrom?: number;
  /** Where it ends; at the last point when absent. */
  readonly xTo?: number;
  readonly xText?: (value: number) => string;
  /** The y axis begins at 0, and ends at 1 where it is of shares. */
  readonly isShare?: boolean;
  /** The y axis ends below the spikes, which have marks at its end. */
  readonly cutsSpikes?: boolean;
  readonly yText?: (value: number) => string;
  /** Whether it names its series; true unless told. */
  readonly hasKey?: boolean;
  /** Width of what the pointer meets at least, in units of the picture: 1. */
  readonly grain?: number;
}

const WIDTH = 420;
const HEIGHT = 240;
const MARGIN = { left: 50, right: 18, top: 14, bottom: 40 } as const;

export function chartSvg(chart: Chart): string {
  const { title, series, xLabel, xFrom = 0, xTo, xText = (x) => plain(x) } = chart;
  const { isShare = false, cutsSpikes = false, yText = short, hasKey = true, grain = 1 } = chart;
  const points = series.flatMap(({ points }) => points);
  const highest = largest(points.map(({ y }) => y));
  const spikes = cutsSpikes ? spikesAbove(series.map(({ points }) => points.map(({ y }) => y))) : undefined;
  const x = axis([MARGIN.left, WIDTH - MARGIN.right], xFrom, xTo ?? largest(points.map(({ x }) => x)));
  const y = axis([HEIGHT - MARGIN.bottom, MARGIN.top], 0, isShare ? 1 : (spikes ?? highest), !isShare);
  const isBeyond = (value: number): boolean => value > y.last;
  const grid = [
    ...x.ticks.map(
      (value) =>
        `<text x="${place(x.at(value))}" y="${HEIGHT - MARGIN.bottom + 18}" text-anchor="middle">${html(xText(value))}</text>`,
    ),
    ...y.ticks.map(
      (value) =>
        `<path class="grid" d="M${MARGIN.left} ${place(y.at(value))}H${WIDTH - MARGIN.right}"/>` +
        `<text x="${MARGIN.left - 8}" y="${place(y.at(value) + 4)}" text-anchor="end">${html(yText(value))}</text>`,
    ),
  ];
  const drawn = series
    .filter(({ points }) => points.length > 0)
    .map(({ kind, run, points }) => {
      const looks = run === undefined ? kind : `${kind} run run-${run}`;
      const yAt = (value: number): number => y.at(Math.min(value, y.last));
      const path = points.map(({ x: px, y: py }) => `${place(x.at(px))} ${place(yAt(py))}`).join("L");
      const isMarked = kind === "validation" || points.length === 1;
      const marks = isMarked
        ? points.map(({ x: px, y: py, isBest }) => {
            const circle = (more: string, radius: number): string =>
              `<circle class="${looks}${more}" cx="${place(x.at(px))}" cy="${place(yAt(py))}" r="${radius}"/>`;
            return circle("", 3) + (isBest === true ? circle(" best", 6.5) : "");
          })
        : [];
      const beyond = points
        .filter(({ y: py }) => isBeyond(py))
        .map(({ x: px }) => `<path class="beyond ${looks}" d="M${place(x.at(px))} ${MARGIN.top}l5 9h-10z"/>`);
      return `<path class="line ${looks}" d="M${path}"/>${marks.join("")}${beyond.join("")}`;
    });
  const cut = isBeyond(highest)
    ? `<text class="beyond" x="${WIDTH - MARGIN.right}" y="${MARGIN.top - 4}" text-anchor="end">▲ beyond the axis, up to ${html(yText(highest))}</text>\n`
    : "";
  const names = series
    .filter(({ points }) => points.length > 0)
    .map(({ name, kind }) => `<span class="${kind}">${html(name)}</span>`);
  const key = hasKey ? `<p class="key">${names.join(" ")}</p>` : "";
  return `<figure class="chart"><figcaption>${html(title)}</figcaption>${key}
<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${html(title)}">
${grid.join("\n")}
${drawn.join("\n")}
${cut}${strips(series, x, grain).join("\n")}
<text x="${(MARGIN.left + WIDTH - MARGIN.right) / 2}" y="${HEIGHT - 4}" text-anchor="middle">${html(xLabel)}</text>
</svg></figure>`;
}

/** The means of `most` stretches of equally many values, in their order; all of them where they are no more. */
export function thinned<T>(values: readonly T[], most: number, mean: (stretch: readonly T[]) => T): T[] {
  if (values.length <= most) return [...values];
  return Array.from({ length: most }, (_, i) => {
    const at = (end: number): number => Math.floor((end * values.length) / most);
    return mean(values.slice(at(i), at(i + 1)));
  });
}

/**
 * What the pointer meets: a strip as high as the chart for every place, which says what stands there, a line for each series.
 * Places closer than the grain are one, which has the last point of each series.
 */
function strips(series: readonly Series[], x: Axis, grain: number): string[] {
  const places = new Map<number, { at: number; readonly says: Map<Series, string> }>();
  for (const each of series) {
    for (const { x: value, says } of each.points) {
      const at = x.at(value);
      const key = Math.round(at / grain);
      const place = places.get(key) ?? { at, says: new Map<Series, string>() };
      place.at = Math.max(place.at, at);
      places.set(key, { ...place, says: place.says.set(each, says) });
    }
  }
  const sorted = [...places.values()].sort((a, b) => a.at - b.at);
  return sorted.map(({ at, says }, i) => {
    const from = i === 0 ? MARGIN.left : (at + (sorted[i - 1] as { at: number }).at) / 2;
    const to =
      i === sorted.length - 1 ? WIDTH - MARGIN.right : (at + (sorted[i + 1] as { at: number }).at) / 2;
    const top = MARGIN.top;
    const bottom = HEIGHT - MARGIN.bottom;
    return (
      `<g class="strip"><title>${[...says.values()].map(html).join("\n")}</title>` +
      `<rect x="${place(from)}" y="${top}" width="${place(to - from)}" height="${bottom - top}"/>` +
      `<path d="M${place(at)} ${top}V${bottom}"/></g>`
    );
  });
}

/** From numbers to places in the picture. */
interface Axis {
  readonly ticks: readonly number[];
  /** The number at its end. */
  readonly last: number;
  at(value: number): number;
}

/** From `low` to `high`, or with `toTick` to the tick from there on. */
function axis([begin, end]: readonly [number, number], low: number, high: number, toTick = false): Axis {
  const range = high > low && Number.isFinite(high) ? high - low : 1;
  const step = tickStep(range);
  // A hair less than whole is whole.
  const steps = range / step;
  const last = low + (toTick ? Math.ceil(steps - 1e-9) * step : range);
  const ticks = Array.from({ length: Math.floor((last - low) / step + 1e-9) + 1 }, (_, i) => low + i * step);
  return { ticks, last, at: (value) => begin + ((end - begin) * (value - low)) / (last - low) };
}

function largest(values: readonly number[]): number {
  return values.reduce((a, b) => Math.max(a, b), -Infinity);
}

/** 1, 2 or 5 times a power of ten, so that there are three to eight ticks. */
function tickStep(range: number): number {
  const power = 10 ** Math.floor(Math.log10(range / 4));
  const factor = [1, 2, 5, 10].find((each) => range / (each * power) <= 6) ?? 10;
  return factor * power;
}

function place(value: number): string {
  return value.toFixed(1);
}
