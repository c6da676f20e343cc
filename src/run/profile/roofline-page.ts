/**
 * A profile as a page: the roofline with a point for each layer and direction, and the table of all of them. One file of
 * HTML and SVG without scripts, which loads nothing; light or dark as the reader's system is.
 */

import { printable } from "../../core/printable.js";
import type { LayerTime, StepTimes } from "./layer-times.js";

export interface PageHeading {
  /** For people, e.g. "shufflenet-v2 1.0x (tensorflow), 1000 classes, 224 px". */
  readonly network: string;
  /** "2 threads, avx2" */
  readonly machine: string;
}

export function rooflinePage(times: StepTimes, { network, machine }: PageHeading): string {
  const { first_step, last_step, seconds, layers } = times;
  const steps = first_step === last_step ? `Step ${first_step}` : `Steps ${first_step} to ${last_step}`;
  const about =
    `${steps}, ${milliseconds(seconds)} ms each, ${times.gflops.toFixed(1)} GFLOP/s. ` +
    (times.peak_gflops === null || times.copy_gb_per_second === null
      ? "The machine was not measured."
      : `This machine (${machine}) reaches ${times.peak_gflops.toFixed(0)} GFLOP/s of multiply-adds and ` +
        `${times.copy_gb_per_second.toFixed(1)} GB/s of copying memory, measured after these steps.`);
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Roofline of ${html(network)}</title>
<style>${STYLE}</style>
<h1>${html(network)}</h1>
<p>${html(about)}</p>
${picture(times)}
<p class="key"><svg width="14" height="14"><circle class="forward" cx="7" cy="7" r="5"/></svg> forward
<svg width="14" height="14"><path class="backward" d="${diamond(7, 7, 6)}"/></svg> backward: larger where more of the step goes.
Point at one, or reach it with the tab key, for its name.</p>
<h2>Where the step goes</h2>
<table><tr><th>part</th><th>ms</th><th>share</th></tr>
${Object.entries(times.parts)
  .filter(([, part]) => part > 0)
  .map(([name, part]) => `<tr>${cells([name, milliseconds(part), percent(part / seconds)])}</tr>`)
  .join("\n")}
</table>
<h2>Layers, the longest first</h2>
<table><tr>${ALL_COLUMNS.map(({ title }) => `<th>${title}</th>`).join("")}</tr>
${layers
  .toSorted((a, b) => b.seconds - a.seconds)
  .map((layer) => `<tr>${cells(ALL_COLUMNS.map(({ text }) => text(layer)))}</tr>`)
  .join("\n")}
</table>
</html>
`;
}

/** A column of the table. */
interface Column {
  readonly title: string;
  readonly text: (layer: LayerTime) => string;
}

/** Those that a terminal has room for, too. */
export const COLUMNS: readonly Column[] = [
  { title: "layer", text: ({ layer }) => layer },
  { title: "direction", text: ({ direction }) => direction },
  { title: "ms", text: (layer) => milliseconds(layer.seconds) },
  { title: "share", text: ({ share }) => percent(share) },
  { title: "MB moved", text: (layer) => (layer.bytes / 1e6).toFixed(1) },
  { title: "GFLOP", text: ({ operations }) => (operations / 1e9).toFixed(3) },
  { title: "GFLOP/s", text: ({ gflops }) => gflops.toFixed(1) },
  { title: "of its roof", text: ({ roofline }) => (roofline === null ? "" : percent(roofline)) },
];

const ALL_COLUMNS: readonly Column[] = [
  ...COLUMNS,
  { title: "FLOP/byte", text: ({ intensity }) => intensity.toFixed(2) },
  { title: "waits for threads", text: ({ waiting }) => percent(waiting) },
];

const WIDTH = 900;
const HEIGHT = 520;
const MARGIN = { left: 64, right: 24, top: 16, bottom: 48 } as const;

function picture({ layers, peak_gflops, copy_gb_per_second }: StepTimes): string {
  const peak = peak_gflops ?? Math.max(...layers.map(({ gflops }) => gflops));
  const intensities = layers.map(({ intensity }) => intensity);
  const x = logarithmic(intensities, MARGIN.left, WIDTH - MARGIN.right);
  const y = logarithmic([...layers.map(({ gflops }) => gflops), peak], HEIGHT - MARGIN.bottom, MARGIN.top);
  const grid = [
    ...x.ticks.map(
      (value) =>
        `<path class="grid" d="M${place(x.at(value))} ${MARGIN.top}V${HEIGHT - MARGIN.bottom}"/>` +
        `<text x="${place(x.at(value))}" y="${HEIGHT - MARGIN.bottom + 18}" text-anchor="middle">${value}</text>`,
    ),
    ...y.ticks.map(
      (value) =>
        `<path class="grid" d="M${MARGIN.left} ${place(y.at(value))}H${WIDTH - MARGIN.right}"/>` +
        `<text x="${MARGIN.left - 8}" y="${place(y.at(value) + 4)}" text-anchor="end">${value}</text>`,
    ),
  ];
  // Small ones last, so that they can be pointed at.
  const points = layers.toSorted((a, b) => b.share - a.share).map((layer) => point(layer, x, y));
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="Roofline: operations a byte against operations a second">
${grid.join("\n")}
${copy_gb_per_second === null || peak_gflops === null ? "" : roof(peak_gflops, copy_gb_per_second, x, y)}
${points.join("\n")}
<text x="${(MARGIN.left + WIDTH - MARGIN.right) / 2}" y="${HEIGHT - 8}" text-anchor="middle">FLOP/byte</text>
<text transform="translate(16 ${(HEIGHT - MARGIN.bottom) / 2}) rotate(-90)" text-anchor="middle">GFLOP/s</text>
</svg>`;
}

/** Along the rate of memory up to where multiply-adds are the limit, then level. */
function roof(peak: number, bandwidth: number, x: Axis, y: Axis): string {
  const ridge = Math.min(Math.max(peak / bandwidth, x.from), x.to);
  const start = Math.max(x.from, y.from / bandwidth);
  const height = (intensity: number): number => Math.min(peak, intensity * bandwidth);
  const corners = [start, ridge, x.to].map(
    (intensity) => `${place(x.at(intensity))} ${place(y.at(height(intensity)))}`,
  );
  const label = `${peak.toFixed(0)} GFLOP/s, ${bandwidth.toFixed(1)} GB/s`;
  return (
    `<path class="roof" d="M${corners.join("L")}"/>` +
    `<text x="${WIDTH - MARGIN.right}" y="${place(y.at(peak) - 6)}" text-anchor="end">${label}</text>`
  );
}

function point(layer: LayerTime, x: Axis, y: Axis): string {
  const [left, top] = [x.at(layer.intensity), y.at(layer.gflops)];
  const radius = 4 + 20 * Math.sqrt(layer.share);
  const name = html(`${layer.layer} ${layer.direction}`);
  const figures = html(
    `${milliseconds(layer.seconds)} ms, ${layer.gflops.toFixed(1)} GFLOP/s, ${layer.intensity.toFixed(2)} FLOP/byte` +
      (layer.roofline === null ? "" : `, ${percent(layer.roofline)} of its roof`),
  );
  const mark =
    layer.direction === "forward"
      ? `<circle class="forward" cx="${place(left)}" cy="${place(top)}" r="${place(radius)}"/>`
      : `<path class="backward" d="${diamond(left, top, radius)}"/>`;
  // A label that would leave the picture lies on the other side.
  const isLeft = left > WIDTH / 2;
  const at = `x="${place(left + (isLeft ? -radius - 4 : radius + 4))}" text-anchor="${isLeft ? "end" : "start"}"`;
  return (
    `<g class="point" tabindex="0" aria-label="${name}: ${figures}">${mark}` +
    `<text class="label" ${at} y="${place(top - 2)}">${name}</text>` +
    `<text class="label" ${at} y="${place(top + 13)}">${figures}</text></g>`
  );
}

/** From numbers to places in the picture, and the powers of ten between. */
interface Axis {
  readonly from: number;
  readonly to: number;
  readonly ticks: readonly number[];
  at(value: number): number;
}

function logarithmic(values: readonly number[], begin: number, end: number): Axis {
  const known = values.filter((value) => value > 0 && Number.isFinite(value));
  const low = Math.floor(Math.log10(Math.min(...known, 1)));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...known, 1))));
  return {
    from: 10 ** low,
    to: 10 ** high,
    ticks: Array.from({ length: high - low + 1 }, (_, i) => Number(`1e${low + i}`)),
    at: (value) => begin + ((end - begin) * (Math.log10(value) - low)) / (high - low),
  };
}

function diamond(x: number, y: number, radius: number): string {
  return `M${place(x - radius)} ${place(y)}L${place(x)} ${place(y - radius)}L${place(x + radius)} ${place(y)}L${place(x)} ${place(y + radius)}Z`;
}

function cells(texts: readonly string[]): string {
  return texts.map((text) => `<td>${html(text)}</td>`).join("");
}

function place(value: number): string {
  return value.toFixed(1);
}

function milliseconds(seconds: number): string {
  return (1000 * seconds).toFixed(seconds < 0.1 ? 3 : 1);
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

function html(text: string): string {
  const entities: Readonly<Record<string, string>> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
  };
  return printable(text).replace(/[&<>"]/g, (c) => entities[c] ?? c);
}

const STYLE = `
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --line: #d6dbe1; --forward: #0b63c4; --backward: #b3470b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ec; --paper: #15181c; --line: #363c44; --forward: #68b0ff; --backward: #ffa468; }
}
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
svg { max-width: 100%; vertical-align: middle; } svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
.grid { stroke: var(--line); fill: none; } .roof { stroke: var(--ink); stroke-width: 2; fill: none; }
.forward, .backward { fill-opacity: 0.35; stroke-width: 1.5; }
.forward { fill: var(--forward); stroke: var(--forward); } .backward { fill: var(--backward); stroke: var(--backward); }
.label { display: none; paint-order: stroke; stroke: var(--paper); stroke-width: 4px; pointer-events: none; }
.point:hover .label, .point:focus .label { display: block; } .point:hover *, .point:focus * { fill-opacity: 1; } .point:focus { outline: none; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.15rem 0.6rem; text-align: right; border-bottom: 1px solid var(--line); } th:first-child, td:first-child { text-align: left; }
`;
