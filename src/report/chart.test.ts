import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { type Chart, chartSvg } from "./chart.js";
import { runCharts } from "./curves.js";

const curve = (ys: readonly number[], more: Partial<Chart> = {}): string =>
  chartSvg({
    title: "t",
    xLabel: "epoch",
    series: [{ name: "training", kind: "training", points: ys.map((y, x) => ({ x, y, says: `loss ${y}` })) }],
    ...more,
  });

/** The numbers of the y axis, which stand left of it. */
const heights = (svg: string): string[] =>
  [...svg.matchAll(/text-anchor="end">([\d.e]+)</g)].map(([, text = ""]) => text);

suite("a chart", () => {
  test("has a tick at or above its highest value", () => {
    assert.deepEqual(heights(curve([0.18, 0.04])), ["0", "0.05", "0.1", "0.15", "0.2"]);
    assert.equal(heights(curve([0.000987, 0.0001])).at(-1), "0.001");
  });

  test("ends below a spike, marks it and says how high it is", () => {
    const ys = [2, 1, 0.5, 9000, 0.4, 0.4];
    const svg = curve(ys, { cutsSpikes: true });
    assert.equal(heights(svg).at(-1), "2");
    assert.equal([...svg.matchAll(/class="beyond training"/g)].length, 1);
    assert.match(svg, /▲ beyond the axis, up to 9000</);
    assert.match(svg, /<title>loss 9000<\/title>/);
    const lowest = Math.min(...[...svg.matchAll(/L[\d.]+ (-?[\d.]+)/g)].map(([, y]) => Number(y)));
    assert.ok(lowest >= 14, "the line stays inside");
    assert.doesNotMatch(curve(ys.with(3, 0.5), { cutsSpikes: true }), /beyond/);
  });
});

test("the charts of a run end at the same epoch", () => {
  const step = (epoch: number) => ({ step: 7 * epoch, epoch, loss: 1, top1: 0.5, rate: 0.1 });
  const evaluation = (epoch: number) => ({ step: 7 * epoch, epoch, loss: 1, top1: 0.5, best: false });
  const { charts } = runCharts({ steps: [step(1), step(4)], evaluations: [evaluation(0), evaluation(5)] });
  assert.deepEqual(
    charts.map(({ title, xTo }) => [title, xTo]),
    [
      ["Loss (cross-entropy)", 5],
      ["Top-1", 5],
      ["Learning rate", 5],
    ],
  );
});
