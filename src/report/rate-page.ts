/** A test of learning rates as a page: the curve, what is read from it, and the command that trains at the rate. */

import { createHash } from "node:crypto";

import { chartSvg } from "./chart.js";
import { plain } from "./figures.js";
import { html } from "./markup.js";
import { STYLE } from "./page-style.js";

export interface RateCurve {
  readonly tried: readonly { readonly rate: number; readonly loss: number }[];
  /** As many. */
  readonly smooth: readonly number[];
  readonly suggested: number | null;
}

/** @param rows a title and its words, of what was tried and what it says; `command` is what comes next */
export function ratePage(
  curve: RateCurve,
  rows: readonly (readonly [title: string, text: string])[],
  command: string,
): string {
  const style = createHash("sha256").update(STYLE).digest("base64");
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'sha256-${style}'; base-uri 'none'; form-action 'none'" />
<title>Learning rates</title>
<style>${STYLE}</style>
</head>
<body>
<h1>Learning rates</h1>
<p class="soft">Steps from the weights that training would start from, each at a higher rate than the one before. None of it was kept.</p>
<dl>${rows.map(([title, text]) => `<dt>${html(title)}</dt><dd>${html(text)}</dd>`).join("\n")}</dl>
<pre>${html(command)}</pre>
<div class="single">${rateChart(curve)}</div>
<footer>All of this page lies in this file; it fetches nothing.</footer>
</body>
</html>
`;
}

/** Rates by their powers of ten, losses up to twice the first: what runs away says no more. */
function rateChart({ tried, smooth, suggested }: RateCurve): string {
  const most = 2 * (smooth[0] ?? 1);
  const x = (rate: number): number => Math.log10(rate);
  const shown = tried.flatMap(({ rate, loss }, i) => {
    const y = smooth[i] as number;
    return y > most
      ? []
      : [{ x: x(rate), y, says: `rate ${plain(rate, 2)}, loss ${plain(y)} (step ${plain(loss)})` }];
  });
  const nearest =
    suggested === null
      ? undefined
      : shown.reduce((best, point) =>
          Math.abs(point.x - x(suggested)) < Math.abs(best.x - x(suggested)) ? point : best,
        );
  return chartSvg({
    title: "Loss (cross-entropy) by learning rate",
    series: [
      { name: "smoothed loss", kind: "training", points: shown },
      {
        name: "suggested",
        kind: "validation",
        points:
          nearest === undefined ? [] : [{ ...nearest, says: `suggested: ${plain(suggested ?? NaN, 2)}` }],
      },
    ],
    xLabel: "learning rate",
    xFrom: Math.floor(2 * x(tried[0]?.rate ?? 1)) / 2,
    xText: (value) => plain(10 ** value, 2),
  });
}
