/** Damages files for the readers' tests: every draw comes from a counter, so a failure names its seed and repeats. */

import type { Draws } from "../../src/core/random.js";

/** One to four changes: a bit, a byte, a word that hurts, a piece cut out, doubled or moved, a cut at the end. */
export function mutate(seed: Uint8Array, draws: Draws): Buffer {
  let bytes = Buffer.from(seed);
  for (let changes = 1 + draws.below(4); changes > 0; changes--) {
    if (bytes.length === 0) return bytes;
    const at = draws.below(bytes.length);
    const length = Math.min(1 + draws.below(16), bytes.length - at);
    switch (draws.below(8)) {
      case 0:
        bytes[at] = (bytes[at] as number) ^ (1 << draws.below(8));
        break;
      case 1:
        bytes[at] = draws.below(256);
        break;
      case 2:
        if (at + 4 <= bytes.length) bytes.writeUInt32LE(HURTFUL[draws.below(HURTFUL.length)] as number, at);
        break;
      case 3:
        // A byte that the file uses elsewhere: an instruction, a bracket, a tag.
        bytes[at] = bytes[draws.below(bytes.length)] as number;
        break;
      case 4:
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
        break;
      case 5:
        bytes = Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
        break;
      case 6: {
        const to = draws.below(bytes.length);
        const piece = Buffer.from(bytes.subarray(at, at + length));
        bytes = Buffer.concat([bytes.subarray(0, to), piece, bytes.subarray(to)]);
        break;
      }
      default:
        if (draws.below(4) === 0) bytes = bytes.subarray(0, at);
        else bytes.fill(draws.below(256), at, at + length);
    }
  }
  return bytes;
}

const HURTFUL = [0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffffe, 0x10000, 0x3fffffff, 0xffff];
