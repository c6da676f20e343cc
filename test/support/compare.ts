/** One wording for "these two arrays should agree": names the worst element and both values. */

import assert from "node:assert/strict";

export interface Tolerance {
  /** Largest difference allowed, as a share of the largest magnitude expected. */
  readonly ofScale: number;
  /** Largest difference allowed whatever the scale, for arrays that are zero in exact arithmetic. */
  readonly absolute?: number;
}

export function assertClose(
  what: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { ofScale, absolute = 0 }: Tolerance,
): void {
  assert.equal(actual.length, expected.length, `${what}: lengths differ`);
  assert.ok(expected.length > 0, `${what}: nothing to compare`);
  let scale = 0;
  let worst = 0;
  let difference = -1;
  for (let i = 0; i < expected.length; i++) {
    scale = Math.max(scale, Math.abs(expected[i] as number));
    const d = Math.abs((actual[i] as number) - (expected[i] as number));
    if (!(d <= difference)) [difference, worst] = [d, i];
  }
  const allowed = ofScale * scale + absolute;
  assert.ok(
    difference <= allowed,
    `${what}: element ${worst} is ${actual[worst]}, expected ${expected[worst]}: ` +
      `off by ${difference.toExponential(2)}, allowed ${allowed.toExponential(2)} (scale ${scale.toExponential(2)})`,
  );
}
