import assert from "node:assert/strict";
import { suite, test } from "node:test";

import sharp from "sharp";

import { Draws, streams } from "../core/random.js";
import { openEncoded } from "../data/encoded-pictures.js";
import { gistsOf, lookalikes } from "./near-copies.js";

/** Soft blobs of colour: as smooth as a photograph, no two alike. */
async function drawn(seed: number, width = 320, height = 240): Promise<Buffer> {
  const draws = new Draws(seed, streams.draw, 0, 0);
  const coarse = Uint8Array.from({ length: 8 * 6 * 3 }, () => draws.below(256));
  return sharp(coarse, { raw: { width: 8, height: 6, channels: 3 } })
    .resize(width, height, { kernel: "cubic", fit: "fill" })
    .jpeg({ quality: 95 })
    .toBuffer();
}

async function groupsOf(...sets: (readonly Buffer[])[]): Promise<string[][]> {
  const gists = [];
  for (const pictures of sets)
    gists.push(await gistsOf(openEncoded(pictures.map((bytes, i) => ({ name: `${i}`, bytes })))));
  return (await lookalikes(gists)).map((group) => group.map(({ set, picture }) => `${set}:${picture}`));
}

suite("pictures that look alike", () => {
  test("are found when they were copied, saved again, resized, or made lighter, and in no other", async () => {
    const [first, ...others] = await Promise.all(Array.from({ length: 12 }, (_, i) => drawn(i)));
    assert.ok(first !== undefined);
    const again = await sharp(first).jpeg({ quality: 40 }).toBuffer();
    const smaller = await sharp(first).resize(150).png().toBuffer();
    const lighter = await sharp(first).linear(0.7, 60).jpeg().toBuffer();
    assert.deepEqual(await groupsOf([first, ...others], [first, again, smaller, lighter]), [
      ["0:0", "1:0", "1:1", "1:2", "1:3"],
    ]);
    assert.deepEqual(await groupsOf([first, ...others]), []);
  });

  test("are not a part cut out, another shape, or pictures of nearly one colour", async () => {
    const first = await drawn(1);
    const cut = await sharp(first).extract({ left: 60, top: 40, width: 200, height: 150 }).jpeg().toBuffer();
    const stretched = await sharp(first).resize(320, 320, { fit: "fill" }).jpeg().toBuffer();
    const plain = (gray: number): Promise<Buffer> =>
      sharp({ create: { width: 64, height: 48, channels: 3, background: { r: gray, g: gray, b: gray } } })
        .png()
        .toBuffer();
    assert.deepEqual(await groupsOf([first, cut, stretched, await plain(40), await plain(200)]), []);
  });

  test("are told from the dark and the flat, and what does not decode is left out", async () => {
    const dark = await sharp(await drawn(2))
      .linear(0.11, 0)
      .png()
      .toBuffer();
    const flat = await sharp({ create: { width: 9, height: 9, channels: 3, background: "white" } })
      .png()
      .toBuffer();
    const set = [await drawn(3), dark, Buffer.from("no picture"), flat];
    const gists = await gistsOf(openEncoded(set.map((bytes, i) => ({ name: `${i}`, bytes }))));
    assert.deepEqual(gists.samples, [0, 1, 3]);
    assert.deepEqual(
      gists.samples.map((_, i) => gists.isDark(i)),
      [false, true, false],
    );
    assert.deepEqual([gists.isFlat(0), gists.isFlat(2)], [false, true]);
    assert.deepEqual([gists.widths[0], gists.heights[0]], [320, 240]);
  });
});
