import assert from "node:assert/strict";
import { suite, test } from "node:test";

import type { StartEvent, TrainEvent } from "../run/events.js";
import { Place } from "./place.js";

const start = (over: Partial<StartEvent> = {}): TrainEvent =>
  ({
    event: "start",
    steps: 20,
    ranks: null,
    resumed: null,
    settings: { iterations_per_loop: 1 },
    ...over,
  }) as TrainEvent;
const step = (number: number): TrainEvent => ({ event: "step", step: number }) as TrainEvent;
const evaluating: TrainEvent = { event: "evaluating", done: 0, images: 12 };
const evaluation = { event: "evaluation" } as TrainEvent;

function stopping(...events: readonly TrainEvent[]): string {
  const place = new Place();
  for (const event of events) place.follow(event);
  return place.stopping;
}

suite("what Ctrl-C is answered with", () => {
  test("names the step that is saved: the one in progress", () => {
    assert.match(stopping(start()), /^Stopping after step 1 and saving it; press Ctrl-C again/);
    assert.match(stopping(start({ steps: 2000 }), step(1233)), /^Stopping after step 1,234 and saving it/);
    assert.match(stopping(start({ resumed: { checkpoint: "", step: 9 } })), /after step 10 and/);
  });

  test("or the last one made, where an evaluation is stopped, or nothing is left to do", () => {
    assert.match(stopping(start(), step(6), evaluating), /^Stopping the evaluation and saving step 6;/);
    assert.match(stopping(start(), step(6), evaluating, evaluation), /after step 7 and/);
    assert.match(
      stopping(start(), step(20), evaluating, evaluation),
      /^Stopping; step 20, the last, is saved;/,
    );
  });

  test("says no number where nobody knows it: of a loop of steps, of several ranks", () => {
    const vague = /^Stopping after the step in progress and saving it;/;
    assert.match(stopping(start({ settings: { iterations_per_loop: 10 } }), step(10)), vague);
    assert.match(stopping(start({ ranks: {} as StartEvent["ranks"] }), step(3)), vague);
  });

  test("before the first step and behind the last speaks of no step", () => {
    assert.equal(stopping(), "Stopping.");
    assert.match(
      stopping(start(), step(20), { event: "end" } as TrainEvent, evaluating),
      /its report is left out/,
    );
  });
});
