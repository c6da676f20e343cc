import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { channelsOf, interleave, type ArrangeLayer, type Network } from "./layers.js";
import { shuffleNetV2 } from "./shufflenet-v2.js";
import { variantNames, widths } from "./variants.js";

suite("shuffleNetV2", () => {
  for (const variant of variantNames) {
    for (const width of widths) {
      test(`${variant} ${width}x: every stage's output lists each of its channels once`, () => {
        const network = shuffleNetV2({ variant, width, classes: 10 });
        for (const name of ["stage2", "stage3", "stage4"]) {
          const keys = arrangement(network, name).map(({ map, channel }) => `${map} ${channel}`);
          assert.equal(new Set(keys).size, keys.length);
        }
      });
    }
  }

  test("tensorflow: unit 2 reads the first half of the interleaved halves", () => {
    const network = shuffleNetV2({ variant: "tensorflow", width: 0.5, classes: 10 });
    assert.deepEqual(firstChannels(network, "stage2.unit2.split"), [
      "stage2.unit1.side.after.norm 0",
      "stage2.unit1.main.after.norm 0",
      "stage2.unit1.side.after.norm 1",
      "stage2.unit1.main.after.norm 1",
    ]);
  });

  test("tensorflow: a stage ends with the last unit's own half first", () => {
    const network = shuffleNetV2({ variant: "tensorflow", width: 0.5, classes: 10 });
    assert.equal(firstChannels(network, "stage2")[0], "stage2.unit4.main.after.norm 0");
  });

  test("torchvision: unit 2 reads the second half of the shuffled channels", () => {
    const network = shuffleNetV2({ variant: "torchvision", width: 0.5, classes: 10 });
    assert.deepEqual(firstChannels(network, "stage2.unit2.split").slice(0, 2), [
      "stage2.unit1.side.after.norm 12",
      "stage2.unit1.main.after.norm 12",
    ]);
  });

  test("torchvision: a stage ends shuffled", () => {
    const network = shuffleNetV2({ variant: "torchvision", width: 0.5, classes: 10 });
    assert.equal(firstChannels(network, "stage2")[1], "stage2.unit4.main.after.norm 0");
  });

  test("megvii: unit 2 reads the odd channels of side, then main", () => {
    const network = shuffleNetV2({ variant: "megvii", width: 1.0, classes: 10 });
    const channels = arrangement(network, "stage2.unit2.split");
    assert.deepEqual(channels[0], { map: "stage2.unit1.side.after.norm", channel: 1 });
    // 24 channels come from the side branch, 92 from the main one.
    assert.deepEqual(channels[12], { map: "stage2.unit1.main.after.norm", channel: 1 });
    assert.equal(channels.length, 58);
  });
});

suite("interleave", () => {
  test("alternates", () => {
    const order = interleave(channelsOf("a", 2), channelsOf("b", 2)).map(({ map, channel }) => map + channel);
    assert.deepEqual(order, ["a0", "b0", "a1", "b1"]);
  });

  test("says both lengths when they differ", () => {
    assert.throws(() => interleave(channelsOf("a", 2), channelsOf("b", 3)), /2 channels with 3/);
  });
});

function arrangement(network: Network, name: string): ArrangeLayer["channels"] {
  const layer = network.layers.find((candidate) => candidate.name === name);
  assert.ok(layer?.kind === "arrange");
  return layer.channels;
}

function firstChannels(network: Network, name: string): string[] {
  return arrangement(network, name)
    .slice(0, 4)
    .map(({ map, channel }) => `${map} ${channel}`);
}
