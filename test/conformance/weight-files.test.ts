import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";

import { CheckpointError } from "../../src/core/error.js";
import { encodeSafetensors } from "../../src/formats/safetensors.js";
import { initialise, initialStatistics } from "../../src/models/initialise.js";
import { exportWeights } from "../../src/models/tensor-names.js";
import { layoutOf } from "../../src/weights/fill.js";
import { importWeights } from "../../src/weights/import-weights.js";
import { useWeights } from "../../src/weights/open.js";
import { repository } from "../support/paths.js";

const golden = join(repository, "test", "golden", "weight-files");
const scratch = mkdtempSync(join(tmpdir(), "riffle-weights-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

/** By file or folder and tensor: what the library that wrote it gives, as bits of f32. */
const values = JSON.parse(readFileSync(join(golden, "values.json"), "utf8")) as Record<
  string,
  Record<string, { readonly shape: readonly number[]; readonly bits: readonly number[] }>
>;

suite("weights as others write them", () => {
  test("half, brain and double floats, folders of Hugging Face and of a SavedModel: the numbers of their own library", async () => {
    for (const [name, tensors] of Object.entries(values)) {
      await useWeights(join(golden, name), async (file) => {
        for (const [tensor, { shape, bits }] of Object.entries(tensors)) {
          assert.deepEqual(file.tensors.get(tensor)?.shape, shape, `${name}, ${tensor}`);
          const read = Float32Array.from(await file.read(tensor));
          assert.deepEqual(Array.from(new Uint32Array(read.buffer)), bits, `${name}, ${tensor}`);
        }
      });
    }
  });
});

const layout = layoutOf("torchvision", 0.5, 3);
const weights = {
  parameters: initialise(layout, { version: "torch", seed: 4 }),
  statistics: initialStatistics(layout),
};
type Tensors = Map<string, { shape: readonly number[]; data: Float32Array }>;
let files = 0;

/** A file of torchvision's names with something changed. */
function changed(change: (tensors: Tensors) => void): string {
  const tensors: Tensors = new Map(exportWeights(layout, "torchvision", weights));
  change(tensors);
  const path = join(scratch, `${files++}.safetensors`);
  const list = [...tensors].map(([name, tensor]) => ({ name, ...tensor }));
  writeFileSync(path, Buffer.concat(encodeSafetensors(list, new Map())));
  return path;
}

suite("a file of weights", () => {
  const refused: Readonly<Record<string, readonly [(tensors: Tensors) => unknown, RegExp]>> = {
    "without the classifier's bias": [(t) => t.delete("fc.bias"), /without their bias, and none is invented/],
    "without the classifier's weights": [(t) => t.delete("fc.weight"), /bias is there without its weights/],
    "without a tensor of conv5": [(t) => t.delete("conv5.1.bias"), /is missing beside others/],
    "of one output": [
      (t) => {
        t.set("fc.weight", { shape: [1, 1024], data: new Float32Array(1024) });
        t.set("fc.bias", { shape: [1], data: new Float32Array(1) });
      },
      /has one output/,
    ],
    "of a variance below 0": [
      (t) => t.get("conv1.1.running_var")?.data.fill(-0.5, 3, 4),
      /conv1\.1\.running_var.*-0\.5/,
    ],
  };
  test("whose classifier or conv5 is not whole, of one output or of a variance below 0 is refused by name", async () => {
    for (const [which, [change, message]] of Object.entries(refused)) {
      await assert.rejects(
        importWeights(changed((tensors) => void change(tensors))),
        (error: unknown) => error instanceof CheckpointError && message.test(error.message),
        which,
      );
    }
  });

  test("whose classifier is the last of a Sequential (fc.1.weight) is read", async () => {
    const path = changed((tensors) => {
      for (const part of ["weight", "bias"]) {
        tensors.set(`fc.1.${part}`, tensors.get(`fc.${part}`) as never);
        tensors.delete(`fc.${part}`);
      }
    });
    assert.deepEqual((await importWeights(path)).weights.parameters, weights.parameters);
  });

  test("with averages of some tensors only gives the weights that are whole, and says so", async () => {
    const path = changed((tensors) => {
      const half = [...tensors].slice(0, 20);
      for (const [name, { shape, data }] of half)
        tensors.set(`ema.${name}`, { shape, data: data.map((value) => value + 1) });
    });
    const imported = await importWeights(path);
    assert.deepEqual(imported.weights.parameters, weights.parameters);
    assert.match(imported.notices.concat(imported.recognised.choices).join("; "), /ema/);
  });
});
