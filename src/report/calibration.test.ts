import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { BINS, Calibration } from "./calibration.js";

suite("calibration", () => {
  test("the expected error is the one computed by hand", () => {
    // Bins of a quarter. (0.25, 0.5]: confidences 0.5 and 0.4, one right: |1/2 - 0.45| = 0.05, of 2 in 5 pictures.
    // (0.75, 1]: confidences 0.9, 1 and 0.8, two right: |2/3 - 0.9| = 0.2333, of 3 in 5.
    const calibration = new Calibration(4);
    calibration.add(0.5, true);
    calibration.add(0.4, false);
    calibration.add(0.9, true);
    calibration.add(1, true);
    calibration.add(0.8, false);
    assert.deepEqual(
      calibration.bins().map(({ pictures }) => pictures),
      [0, 2, 0, 3],
    );
    const error = (2 / 5) * 0.05 + (3 / 5) * (0.9 - 2 / 3);
    assert.ok(Math.abs((calibration.expectedError() ?? NaN) - error) < 1e-12);
    assert.ok(Math.abs(error - 0.16) < 1e-12);
  });

  test("a bin holds its upper end and not its lower, the first 0 as well", () => {
    const calibration = new Calibration(4);
    for (const confidence of [0, 0.25, 0.250001, 0.5, 1]) calibration.add(confidence, true);
    assert.deepEqual(
      calibration.bins().map(({ pictures }) => pictures),
      [2, 2, 0, 1],
    );
  });

  test("what is as sure as it is right has no error", () => {
    const calibration = new Calibration();
    for (let i = 0; i < 10; i++) calibration.add(0.8, i < 8);
    assert.ok((calibration.expectedError() ?? 1) < 1e-12);
  });

  test("without pictures there is no error to speak of, and an empty bin has no mean", () => {
    const calibration = new Calibration();
    assert.equal(calibration.expectedError(), null);
    assert.equal(calibration.bins().length, BINS);
    assert.deepEqual(calibration.bins()[0], {
      from: 0,
      to: 1 / 15,
      pictures: 0,
      confidence: null,
      accuracy: null,
    });
  });
});
