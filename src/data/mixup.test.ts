import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { drawMixture, mixPictures } from "./mixup.js";

const place = { seed: 3, step: 5, shard: 1 };

suite("a mixture", () => {
  test("is of pairs, each of which keeps the larger share of itself, in steps of 1/256", () => {
    for (const batch of [2, 7, 32]) {
      const { partners, shares } = drawMixture(0.4, batch, place);
      const alone = partners.filter((other, one) => other === one);
      assert.equal(alone.length, batch % 2);
      partners.forEach((other, one) => {
        assert.equal(partners[other], one);
        const share = shares[one] as number;
        assert.ok(share >= 0.5 && share <= 1 && Number.isInteger(256 * share), `${share}`);
        if (other === one) assert.equal(share, 1);
      });
    }
  });

  test("is a function of seed, step and shard", () => {
    const of = (more: object): string => JSON.stringify(drawMixture(0.4, 8, { ...place, ...more }));
    assert.equal(of({}), of({}));
    for (const more of [{ seed: 4 }, { step: 6 }, { shard: 0 }]) assert.notEqual(of(more), of({}));
  });

  test("mixes bytes in place, rounded to the nearest", () => {
    const images = Uint8Array.of(0, 255, 101, 7, 7, 7, 200, 0, 104);
    mixPictures(images, { partners: Int32Array.of(2, 1, 0), shares: Float32Array.of(0.75, 1, 0.5) });
    // 0.75 * 0 + 0.25 * 200, 191.25, 101.75; 0.5 * 200, 127.5, 102.5.
    assert.deepEqual([...images], [50, 191, 102, 7, 7, 7, 100, 128, 103]);
  });
});
