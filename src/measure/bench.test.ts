import assert from "node:assert/strict";
import { afterEach, suite, test } from "node:test";

import { needsNative } from "../../test/support/native.js";
import { bench } from "./bench.js";

suite("no step is faster than the peak that is measured", needsNative(), () => {
  afterEach(() => {
    delete process.env["RIFFLE_PRODUCTS"];
  });

  for (const precision_mode of ["must_keep_origin_dtype", "allow_mix_precision"] as const) {
    test(precision_mode, async (t) => {
      // Of bf16 the peak is that of the faster products, whichever a step is made of.
      for (const products of precision_mode === "allow_mix_precision" ? ["dot", "unpack"] : [""]) {
        process.env["RIFFLE_PRODUCTS"] = products;
        try {
          const { share_of_peak } = await bench("infer", { batch_size: 8, steps: 3, precision_mode });
          assert.ok(share_of_peak < 1, `${products} reaches ${share_of_peak} of the peak`);
        } catch (error) {
          if (!(error instanceof Error && /no dot products/.test(error.message))) throw error;
          t.diagnostic(error.message);
        }
      }
    });
  }
});
