import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, suite, test } from "node:test";

import { bench, doctor, drawFolder, inspect, objectClasses, UsageError } from "./index.js";

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
    await assert.rejects(bench("infer", { ...tiny, isa: "mmx" }, noStep), /sse2|neon/);
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

  test("says that RIFFLE_ISA forces an instruction set", () => {
    process.env["RIFFLE_ISA"] = process.arch === "x64" ? "sse2" : "neon";
    assert.match(instructionSet()?.found ?? "", /^\w+, forced by RIFFLE_ISA \(this machine runs /);
  });

  test("says so when RIFFLE_ISA names a set that is not here", () => {
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
