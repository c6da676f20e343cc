/** Damage that only decoding finds. */

import { readFileSync, writeFileSync } from "node:fs";

/** Leaves a PNG's header as it is, and nothing behind it. */
export function damageBehindHeader(path: string): void {
  const bytes = readFileSync(path);
  bytes.subarray(41, -12).fill(0);
  writeFileSync(path, bytes);
}
