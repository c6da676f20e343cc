import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { GrowingCurve, meanOf } from "./growing-curve.js";
import type { StepPoint } from "./history.js";

const point = (step: number): StepPoint => ({
  ...{ step, epoch: step / 10, loss: step, top1: step / 1e6, rate: 1 / step },
  ...{ speed: 2 * step, waiting: null },
});

suite("a curve that grows", () => {
  test("has few points however many steps there are, each the mean of as many steps, none lost", () => {
    const curve = new GrowingCurve(8);
    for (let step = 1; step <= 1003; step++) {
      curve.add(point(step));
      assert.ok(curve.points.length <= 8);
    }
    const ends = curve.points.map(({ step }) => step);
    assert.deepEqual(ends, [128, 256, 384, 512, 640, 768, 896, 1003]);
    assert.deepEqual(
      curve.points.map(({ loss }) => loss),
      // The mean of first + 1 to end.
      ends.map((end, i) => ((ends[i - 1] ?? 0) + 1 + end) / 2),
    );
    const [first] = curve.points;
    assert.deepEqual([first?.rate, first?.epoch, first?.speed, first?.waiting], [1 / 128, 12.8, 129, null]);
  });

  test("forgets what came after the step from which the run goes on", () => {
    const curve = new GrowingCurve(8);
    for (let step = 1; step <= 20; step++) curve.add(point(step));
    assert.deepEqual(
      curve.points.map(({ step }) => step),
      [4, 8, 12, 16, 20],
    );
    curve.rewind(9);
    for (let step = 10; step <= 13; step++) curve.add({ ...point(step), loss: 0 });
    assert.deepEqual(
      curve.points.map(({ step, loss }) => [step, loss]),
      [
        [4, 2.5],
        [8, 6.5],
        [13, 0],
      ],
    );
    curve.rewind(0);
    curve.add(point(1));
    curve.add(point(2));
    assert.equal(curve.points.length, 2, "from the beginning every step is a point again");
  });

  test("has no mean of losses of which one was not finite", () => {
    assert.equal(meanOf([point(1), { ...point(2), loss: null }, point(3)]).loss, null);
    assert.equal(meanOf([point(1), point(2), point(6)]).loss, 3);
  });
});
