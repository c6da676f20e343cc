import assert from "node:assert/strict";
import { suite, test } from "node:test";

import sharp from "sharp";

import { enlarged, shares } from "../inference/heat-map.js";
import { heatColour, heatPng, heatWebp } from "./heat-picture.js";

const map = { layer: "conv5", height: 2, width: 2, values: Float32Array.of(-1, 0, 2, 4) };

suite("a heat map", () => {
  test("is enlarged as PyTorch enlarges, and shows what speaks for a class as a share of the most", () => {
    assert.deepEqual([...shares(map).values], [0, 0, 0.5, 1]);
    // torch.nn.functional.interpolate([[[[-1, 0], [2, 4]]]], size=4, mode="bilinear", align_corners=False), PyTorch 2.13
    const expected = [-1, -0.75, -0.25, 0, -0.25, 0.0625, 0.6875, 1, 1.25, 1.6875, 2.5625, 3, 2, 2.5, 3.5, 4];
    assert.deepEqual([...enlarged(map, 4).values], expected);
    const nothing = shares({ ...map, values: Float32Array.of(-1, -2, -3, 0) });
    assert.deepEqual([...nothing.values], [0, 0, 0, 0]);
  });

  test("gets lighter from least to most", () => {
    const luma = Array.from({ length: 101 }, (_, i) => {
      const [r, g, b] = heatColour(i / 100);
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    });
    luma.slice(1).forEach((value, i) => assert.ok(value > (luma[i] as number), `${i}`));
  });

  test("is a small picture of its own, or lies in colour over the gray of what was seen", async () => {
    const webp = await heatWebp(map, 40);
    assert.ok(webp.length < 1500, `${webp.length} bytes`);
    const own = await sharp(webp).raw().toBuffer();
    assert.deepEqual([...own.subarray(0, 3)], heatColour(0));
    assert.deepEqual([...own.subarray(-3)], heatColour(1));
    const green = Uint8Array.from({ length: 4 * 4 * 3 }, (_, i) => (i % 3 === 1 ? 200 : 0));
    const { data, info } = await sharp(await heatPng(map, green, 4))
      .raw()
      .toBuffer({ resolveWithObject: true });
    assert.deepEqual([info.width, info.height], [8, 4]);
    assert.deepEqual([...data.subarray(0, 3)], [0, 200, 0]);
    const gray = 0.4 * 0.587 * 200;
    const last = heatColour(1).map((value) => Math.round(0.6 * value + gray));
    assert.deepEqual([...data.subarray(-3)], last);
  });
});
