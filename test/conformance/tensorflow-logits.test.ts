/** Logits of pictures at 224 px beside TensorFlow's: every width, and real checkpoints. */

import { suite, test } from "node:test";

import { referenceBackend } from "../../src/backends/reference/reference.js";
import type { Backend, Weights } from "../../src/backends/backend.js";
import { shuffleNetV2 } from "../../src/models/shufflenet-v2.js";
import { widths, type Width } from "../../src/models/variants.js";
import { compile } from "../../src/program/compile.js";
import type { Program } from "../../src/program/program.js";
import { fastBackend } from "../support/fast-backend.js";
import { assertClose } from "../support/compare.js";
import { ruleTensor, ruleWeights } from "../support/rule-weights.js";
import { needs } from "../support/shared.js";
import { emptyState, readArrays, readWeights } from "../support/tf-reference.js";

const SIZE = 224;
const BYTES = SIZE * SIZE * 3;

const program = (width: Width, classes: number, batch: number): Program =>
  compile(shuffleNetV2({ variant: "tensorflow", width, classes }), { batch, imageSize: SIZE, mode: "infer" });

/** Logits of the first pictures: few on the reference backend, which takes seconds for each. */
async function infer(
  backend: Backend,
  compiled: Program,
  weights: Weights,
  images: Uint8Array,
): Promise<Float32Array> {
  const run = backend.infer(compiled, { threads: 2 });
  await run.load(weights);
  const logits = await run.infer(images.subarray(0, compiled.batch * BYTES), compiled.batch);
  run.close();
  return logits;
}

const backends = [
  { backend: referenceBackend, rulePictures: 1, pictures: 2 },
  { backend: fastBackend, rulePictures: 4, pictures: 16 },
];

suite("weights made by the rule", needs("tf-reference", "logits.npz"), () => {
  test("are NumPy's, number for number", async () => {
    const stored = await readArrays("logits.npz");
    const prefix = "rule_check/";
    const checked = stored.names.filter((name) => name.startsWith(prefix));
    for (const name of checked) {
      const { shape, data } = stored.numbers(name);
      assertClose(name, ruleTensor(name.slice(prefix.length), shape, 0).data, data, { ofScale: 1e-7 });
    }
  });

  for (const { backend, rulePictures } of backends) {
    for (const width of widths) {
      test(`${width.toFixed(1)}x gives TensorFlow's logits on the ${backend.name} backend`, async () => {
        const stored = await readArrays("logits.npz");
        const images = Uint8Array.from(stored.numbers("images").data);
        const expected = Array.from(stored.numbers(`rule_${width.toFixed(1)}x_logits`).data);
        const compiled = program(width, 1000, rulePictures);
        const weights = ruleWeights(compiled, stored.numbers("rule_seed").data[0] as number);
        const actual = await infer(backend, compiled, weights, images);
        assertClose("logits", actual, expected.slice(0, actual.length), { ofScale: 1e-5 });
      });
    }
  }
});

suite("the checkpoint after five steps", needs("tf-reference", "curve-0.5x-10.npz"), () => {
  for (const { backend, pictures } of backends) {
    for (const which of ["raw", "ema"] as const) {
      test(`gives TensorFlow's logits with ${which} weights on the ${backend.name} backend`, async () => {
        const stored = await readArrays("logits.npz");
        const final = await readArrays("curve-0.5x-10.npz");
        const compiled = program(0.5, 10, pictures);
        const weights = emptyState(compiled);
        const averaged = (name: string): string => {
          const average = `${name}/ExponentialMovingAverage`;
          return which === "ema" && final.has(average) ? average : name;
        };
        readWeights(
          compiled,
          { ...final, has: (name) => final.has(name), numbers: (name) => final.numbers(averaged(name)) },
          "final/",
          weights,
        );
        const images = Uint8Array.from(stored.numbers("images").data);
        const expected = Array.from(stored.numbers(`${which}_eval_logits`).data);
        const actual = await infer(backend, compiled, weights, images);
        assertClose("logits", actual, expected.slice(0, actual.length), { ofScale: 1e-5 });
      });
    }
  }
});
