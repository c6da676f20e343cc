/**
 * Mixup: the pictures of a batch mixed in pairs, and what they show with them.
 *
 *     picture = share * one + (1 - share) * other        share = max(b, 1 - b), b drawn from Beta(alpha, alpha)
 *
 * Each of a pair keeps the larger share of its own, so no two places of a batch show the same mixture, and what a picture
 * shows most is still its label (as fastai has it; the paper draws one b for a batch). With an odd batch one stays as it is.
 *
 * A mixture is of bytes again, as all pictures are on their way to the network: shares are multiples of 1/256, and a byte is
 * rounded to the nearest, by at most half a level of 255. Labels are mixed by the same share.
 *
 * Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization".
 */

import { Draws, streams } from "../core/random.js";

/** Of each picture of a batch. */
export interface Mixture {
  /** Place of the other picture; its own where it stays as it is. */
  readonly partners: Int32Array;
  /** Of itself: 1/2 to 1, in steps of 1/256. */
  readonly shares: Float32Array;
}

/** What a mixture is a function of: `step` and `shard` (of all of the step's) counted from 0, skipped steps among them. */
interface Place {
  readonly seed: number;
  readonly step: number;
  readonly shard: number;
}

const LEVELS = 256;

export function drawMixture(alpha: number, batch: number, { seed, step, shard }: Place): Mixture {
  const draws = new Draws(seed, streams.mixup, shard, step);
  const partners = Int32Array.from({ length: batch }, (_, i) => i);
  const shares = new Float32Array(batch).fill(1);
  const order = draws.permutation(batch);
  for (let i = 0; i + 1 < batch; i += 2) {
    const [one, other] = [order[i] as number, order[i + 1] as number];
    partners[one] = other;
    partners[other] = one;
  }
  for (let i = 0; i < batch; i++) {
    if (partners[i] === i) continue;
    const share = draws.beta(alpha);
    shares[i] = Math.round(LEVELS * Math.max(share, 1 - share)) / LEVELS;
  }
  return { partners, shares };
}

/** In place: images [batch, ...] of bytes. */
export function mixPictures(images: Uint8Array, { partners, shares }: Mixture): void {
  const bytes = images.length / partners.length;
  partners.forEach((other, one) => {
    if (other <= one) return; // both of a pair at once
    mixPair(
      images.subarray(one * bytes, (one + 1) * bytes),
      images.subarray(other * bytes, (other + 1) * bytes),
      LEVELS * (shares[one] as number),
      LEVELS * (shares[other] as number),
    );
  });
}

/** Shares in levels; whole numbers, so that every machine rounds alike. */
function mixPair(one: Uint8Array, other: Uint8Array, ofOne: number, ofOther: number): void {
  for (let i = 0; i < one.length; i++) {
    const [a, b] = [one[i] as number, other[i] as number];
    one[i] = (ofOne * a + (LEVELS - ofOne) * b + LEVELS / 2) >> 8;
    other[i] = (ofOther * b + (LEVELS - ofOther) * a + LEVELS / 2) >> 8;
  }
}
