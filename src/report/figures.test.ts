import assert from "node:assert/strict";
import { test } from "node:test";

import { interval } from "./figures.js";

test("Wilson's interval is the published one", () => {
  // Of 10 pictures 5 right: 0.2366 to 0.7634; of 10 all right: 0.7225 to 1.
  const [low, high] = interval(0.5, 10);
  assert.deepEqual([low.toFixed(4), high.toFixed(4)], ["0.2366", "0.7634"]);
  assert.deepEqual(
    interval(1, 10).map((end) => end.toFixed(4)),
    ["0.7225", "1.0000"],
  );
});
