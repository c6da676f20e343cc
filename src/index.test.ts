import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, suite, test } from "node:test";

import { needsNative } from "../test/support/native.js";
import {
  bench,
  benchData,
  createRecords,
  doctor,
  drawFolder,
  evaluate,
  explore,
  exportRun,
  importWeights,
  inspect,
  objectClasses,
  openPredictor,
  predict,
  RiffleError,
  train,
  UsageError,
  verifyData,
} from "./index.js";

const tiny = { width: 0.5, image_size: 64, batch_size: 2, num_classes: 10 } as const;
const scratch = mkdtempSync(join(tmpdir(), "riffle-api-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

suite("inspect", () => {
  test("gives the published totals without running anything", async () => {
    const report = await inspect({ width: 1, variant: "torchvision" });
    // torchvision's own count for shufflenet_v2_x1_0.
    assert.equal(report.parameters, 2_278_604);
    assert.equal(sum(report.layers.map((layer) => layer.parameters)), report.parameters);
    assert.equal(report.seconds, undefined);
  });

  test("times every layer where asked to", async () => {
    const report = await inspect({ ...tiny, mode: "infer", time: true, threads: 1 });
    assert.ok(report.layers.every((layer) => (layer.seconds ?? 0) > 0));
    assert.ok(Math.abs(sum(report.layers.map((layer) => layer.share ?? 0)) - 1) < 1e-9);
  });

  test("refuses a setting out of its range", async () => {
    await assert.rejects(inspect({ image_size: 7 }), UsageError);
  });
});

suite("bench", () => {
  for (const mode of ["train", "infer"] as const) {
    test(`${mode}: measures as many steps as asked for and says where the time went`, async () => {
      const seen: number[] = [];
      const result = await bench(mode, { ...tiny, steps: 2, threads: 1 }, (done, total) => {
        assert.equal(total, 4);
        seen.push(done);
      });
      assert.deepEqual(seen, [1, 2, 3, 4]);
      assert.equal(result.steps, 2);
      const { min, median, max } = result.images_per_second;
      assert.ok(0 < min && min <= median && median <= max);
      assert.equal(result.share_of_peak, result.gflops / result.peak_gflops);
      assert.ok(Math.abs(sum(result.layers.map((layer) => layer.share)) - 1) < 1e-9);
    });
  }

  test("refuses an instruction set that is not here, and no steps at all", async () => {
    const noStep = (): void => assert.fail("a step ran");
    await assert.rejects(bench("infer", { ...tiny, isa: "mmx" }, noStep), /sse2|neon|expected wasm/);
    await assert.rejects(bench("infer", { ...tiny, steps: 0 }), UsageError);
  });
});

suite("doctor", () => {
  const before = process.env["RIFFLE_ISA"];
  afterEach(() => {
    if (before === undefined) delete process.env["RIFFLE_ISA"];
    else process.env["RIFFLE_ISA"] = before;
  });
  const instructionSet = () => doctor().findings.find((finding) => finding.name === "instruction set");

  test("finds nothing missing where the tests run", () => {
    delete process.env["RIFFLE_ISA"];
    assert.equal(doctor().ok, true);
    const decoder = () => doctor().findings.find((finding) => finding.name === "JPEG decoder");
    if (decoder()?.found.startsWith("libjpeg")) {
      process.env["UV_THREADPOOL_SIZE"] = "1";
      assert.match(JSON.stringify(decoder()), /on 1 threads/);
      delete process.env["UV_THREADPOOL_SIZE"];
      assert.match(JSON.stringify(decoder()), /on 4 threads/);
    }
    assert.doesNotMatch(instructionSet()?.found ?? "", /forced/);
  });

  test("says that RIFFLE_ISA forces an instruction set", needsNative(), () => {
    process.env["RIFFLE_ISA"] = process.arch === "x64" ? "sse2" : "neon";
    assert.match(instructionSet()?.found ?? "", /^\w+, forced by RIFFLE_ISA \(this machine runs /);
  });

  test("says so when RIFFLE_ISA names a set that is not here", needsNative(), () => {
    process.env["RIFFLE_ISA"] = "mmx";
    assert.equal(doctor().ok, false);
    assert.match(instructionSet()?.advice ?? "", /RIFFLE_ISA.*lacks the instruction set/);
  });
});

test("drawFolder draws every class", async () => {
  const folder = join(scratch, "drawn");
  const drawn = await drawFolder({ folder, seed: 1, size: 32, train: 10, validation: 10 });
  assert.equal(drawn, 20);
  assert.deepEqual(
    readdirSync(join(folder, "train")),
    objectClasses.map(({ name }) => name),
  );
});

suite("a setting that a function does not take", () => {
  // As a program in JavaScript may give them.
  const anything = (given: object): never => given as never;
  const other = join(scratch, "nothing-here");
  const refused: readonly (readonly [string, () => unknown, RegExp])[] = [
    [
      "train",
      () => train(anything({ data_dir: other, epochs: 5 })),
      /unknown setting epochs; Riffle's is max_epochs/,
    ],
    [
      "train",
      () => train(anything({ maxEpochs: 5 })),
      /unknown setting maxEpochs; did you mean max_epochs\?/,
    ],
    ["train", () => train(anything({ split: "test" })), /split; train does not take it \(evaluate does\)/],
    [
      "train",
      () => train(anything({ max_epochs: 5, num_epochs: 6 })),
      /max_epochs is given twice, as num_epochs too/,
    ],
    ["train", () => train(anything({ max_epochs: "many" })), /max_epochs cannot be "many"/],
    ["evaluate", () => evaluate(other, anything({ batch_size: 5 })), /batch_size; evaluate does not take it/],
    [
      "openPredictor",
      () => openPredictor(other, anything({ device: "gpu" })),
      /device; Riffle computes on the CPU.*threads takes fewer/,
    ],
    ["predict", () => predict(other, [], anything({ topk: 3 })), /topk; did you mean top\?/],
    ["inspect", () => inspect(anything({ lr: 1 })), /unknown setting lr; inspect does not take it/],
    ["bench", () => bench("infer", anything({ step: 5 })), /did you mean steps\?/],
    ["benchData", () => benchData(anything({ data: other })), /Riffle's is data_dir/],
    ["exportRun", () => exportRun(other, anything({ fromat: "onnx" })), /did you mean format\?/],
    ["importWeights", () => importWeights(other, anything({ clases: 5 })), /did you mean classes\?/],
    ["createRecords", () => createRecords(anything({ shard: 5 })), /did you mean shards\?/],
    ["explore", () => explore(anything({ val: other })), /unknown setting val/],
    ["verifyData", () => verifyData(anything({ pth: other })), /did you mean path\?/],
    ["drawFolder", () => drawFolder(anything({ sise: 5 })), /did you mean size\?/],
  ];
  for (const [name, call, words] of refused) {
    test(`${name} refuses it: ${words.source}`, async () => {
      await assert.rejects(
        () => Promise.resolve().then(call),
        (error) => {
          assert.ok(error instanceof UsageError, String(error));
          assert.match(error.message, words);
          return true;
        },
      );
    });
  }

  test("the published misprint of a value is taken for what it means, and said", async () => {
    const said: string[] = [];
    const given = anything({ data_dir: other, log_dir: join(scratch, "run"), version: "he_uniorm" });
    await assert.rejects(
      train(given, (event) => event.event === "warning" && said.push(event.what)),
      RiffleError,
    );
    assert.match(said.join(), /^version he_uniorm.*is taken for he_uniform/);
  });
});
