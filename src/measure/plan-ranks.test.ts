import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";

import { ResourceError, UsageError } from "../core/error.js";
import { drawFolder } from "../prepare/draw/draw-folder.js";
import { needsNative } from "../../test/support/native.js";
import { type PlanOptions, planRanks } from "./plan-ranks.js";
import { measureRank } from "./rank-times.js";

const network = { width: 0.5, num_classes: 10, image_size: 64, batch_size: 4 } as const;
const given: PlanOptions = {
  network,
  ranks: [8, 16],
  ranksPerMachine: 8,
  threads: 4,
  step: 0.25,
  bandwidth: 1.25e9,
  latency: 50e-6,
  message: 10e-6,
  overlap: true,
  bucketSize: 2 ** 20,
};

suite("planRanks", () => {
  test("takes a step's time as it is given, for machines that have cores for their ranks", async () => {
    const plan = await planRanks(given);
    assert.equal(plan.measured, false);
    assert.equal(plan.cores, 32);
    assert.ok(Math.abs(plan.forward_ms + plan.backward_ms + plan.update_ms - 250) < 1e-6);
    // Forward once, backward nearly twice as much.
    assert.ok(plan.backward_ms / plan.forward_ms > 1.5 && plan.backward_ms / plan.forward_ms < 2);
    assert.deepEqual(
      plan.rows.map(({ ranks, machines, images_per_step }) => [ranks, machines, images_per_step]),
      [
        [8, 1, 32],
        [16, 2, 64],
      ],
    );
    for (const row of plan.rows) {
      assert.ok(Math.abs(row.compute_ms - 250) < 1e-6);
      assert.ok(Math.abs(row.step_ms - row.compute_ms - row.exposed_ms) < 1e-9);
      assert.ok(row.exposed_ms <= row.exchange_ms && row.exposed_ms > 0);
      assert.ok(Math.abs(row.images_per_second - (1000 * row.images_per_step) / row.step_ms) < 1e-6);
    }
    assert.ok(plan.memory_gb_per_second > 0.1);
  });

  test("cuts the gradients into buckets of the size that is asked for", async () => {
    for (const bucketSize of [2 ** 16, 2 ** 18, 2 ** 30]) {
      const { bucket_bytes, gradient_bytes } = await planRanks({ ...given, bucketSize, memory: 1e10 });
      assert.equal(
        bucket_bytes.reduce((sum, bytes) => sum + bytes, 0),
        gradient_bytes,
      );
      assert.ok(bucket_bytes.slice(0, -1).every((bytes) => bytes >= bucketSize));
      assert.equal(bucket_bytes.length === 1, bucketSize === 2 ** 30);
    }
  });

  test("measures a rank beside as many as the cores hold, and lets more share them", async () => {
    const heard = new Set<string>();
    const ranks = 4 * availableParallelism();
    const plan = await planRanks(
      { ...given, step: undefined, threads: 1, ranks: [1, ranks], ranksPerMachine: ranks, steps: 2 },
      (what) => heard.add(what),
    );
    assert.deepEqual([...heard], ["rank"]);
    assert.equal(plan.measured_beside, availableParallelism() - 1);
    const [one, many] = plan.rows;
    assert.ok(one && many && plan.forward_ms > 0 && plan.backward_ms > 0);
    assert.ok(Math.abs(many.compute_ms / one.compute_ms - 4) < 1e-6);
  });

  test("measures what pictures take, and says how many ranks a file server feeds", async (context) => {
    const folder = mkdtempSync(join(tmpdir(), "riffle-plan-"));
    context.after(() => rmSync(folder, { recursive: true, force: true }));
    const dataDir = join(folder, "photos");
    await drawFolder({ folder: dataDir, seed: 3, size: 64, train: 40, validation: 10 });
    const { input, rows, cores } = await planRanks({ ...given, dataDir });
    assert.ok(input !== null);
    const last = rows.at(-1)!;
    const perRank = last.images_per_second / last.ranks;
    assert.equal(input.ranks_per_file_server, Math.floor(1.25e9 / input.bytes_per_image / perRank));
    assert.ok(Math.abs(input.processor_share - (8 * perRank * input.cpu_ms_per_image) / 1000 / cores) < 1e-9);
    assert.ok(
      Math.abs(last.input_mb_per_second! - (last.images_per_second * input.bytes_per_image) / 1e6) < 1e-6,
    );
  });

  test("refuses ranks that cannot share the shards", async () => {
    for (const [ranks, shards] of [
      [3, 8],
      [2, 6],
      [16, 8],
    ] as const) {
      await assert.rejects(planRanks({ ...given, ranks: [ranks], shards }), (error: unknown) => {
        assert.ok(error instanceof UsageError);
        assert.match(error.message, new RegExp(`${ranks} ranks cannot share ${shards} shards`));
        return true;
      });
    }
    const shares = await planRanks({ ...given, ranks: [1, 3], shards: 6 });
    assert.equal(shares.rows.length, 2);
  });
});

suite("measureRank", () => {
  test("says what kept a neighbour from working", needsNative(), async (context) => {
    const before = process.env["RIFFLE_ISA"];
    context.after(() => {
      if (before === undefined) delete process.env["RIFFLE_ISA"];
      else process.env["RIFFLE_ISA"] = before;
    });
    process.env["RIFFLE_ISA"] = "mmx";
    await assert.rejects(measureRank(network, { threads: 1, beside: 1, steps: 1 }), (error: unknown) => {
      assert.ok(error instanceof ResourceError);
      assert.match(error.message, /a rank beside the measured one failed: .*lacks the instruction set/);
      return true;
    });
  });
});
