import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { startLine, stepLine, textOf } from "../../test/support/log-lines.js";
import { everyRate } from "./every-rate.js";
import { Telling } from "./history.js";

/** Forty steps, of which four warm up; the log has one in ten. */
const start = startLine({
  settings: { lr: 0.4, end_learning_rate: 0, schedule: "linear", warmup_epochs: 2, log_steps: 10 },
});
const rates = [10, 20, 30].map((step) => ({ ...stepLine(step), learning_rate: 0.4 * (1 - (step - 5) / 36) }));

function told(...lines: readonly object[]): Parameters<typeof everyRate>[0] {
  const steps: Parameters<typeof everyRate>[0]["steps"][number][] = [];
  const telling = new Telling({ add: (point) => steps.push(point), rewind: () => undefined });
  for (const line of textOf(...lines).split("\n")) telling.hear(line);
  return { start: telling.start, steps, end: null };
}

suite("the rates of all steps", () => {
  test("have the warm-up, which lies before the first step of the log", () => {
    const every = everyRate(told(start, ...rates), 240) ?? [];
    assert.equal(every.length, 30);
    assert.deepEqual(
      every.slice(0, 5).map(({ rate }) => Number(rate.toFixed(9))),
      [0.1, 0.2, 0.3, 0.4, 0.4],
    );
    assert.deepEqual([every[0]?.epoch, every.at(-1)?.epoch], [0.5, 15]);
    const ended = { event: "end", step: 38, epoch: 19, images_per_second: 1 } as const;
    assert.equal(everyRate({ ...told(start, ...rates), end: ended }, 240)?.at(-1)?.epoch, 19);
  });

  test("are as few as are drawn, the first and the last among them", () => {
    const few = everyRate(told(start, ...rates), 4) ?? [];
    assert.deepEqual(
      few.map(({ step }) => step),
      [1, 11, 20, 30],
    );
  });

  test("are not known where the log has other rates than its settings give", () => {
    assert.equal(everyRate(told(start, stepLine(5), ...rates), 240), undefined);
    assert.equal(everyRate(told(startLine(), ...rates), 240), undefined);
  });
});
