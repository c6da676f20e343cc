/** A checkpoint's state, read, and written anew as if the run had stood there. */

import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import type { CheckpointState } from "../../src/run/checkpoint-state.js";

export function stateIn(checkpoint: string): CheckpointState {
  return JSON.parse(readFileSync(join(checkpoint, "state.json"), "utf8")) as CheckpointState;
}

/** With these in the place of what it says; what is undefined is left out. */
export function editState(checkpoint: string, changes: Partial<CheckpointState>): void {
  const text = `${JSON.stringify({ ...stateIn(checkpoint), ...changes }, null, 2)}\n`;
  writeFileSync(join(checkpoint, "state.json"), text);
  const sums = join(checkpoint, "SHA256SUMS");
  const hash = createHash("sha256").update(text).digest("hex");
  writeFileSync(sums, readFileSync(sums, "utf8").replace(/^[0-9a-f]{64}(?= {2}state\.json$)/m, hash));
}
