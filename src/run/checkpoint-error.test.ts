import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { CheckpointError, systemError } from "../core/error.js";
import { encodeBundle, openBundle } from "../formats/tf-bundle.js";
import { asCheckpointError } from "./checkpoint-error.js";

suite("H4: an error of the machine is never a damaged checkpoint", () => {
  for (const code of ["EIO", "EMFILE", "ENFILE", "ENOMEM", "ESTALE"]) {
    const error = systemError(code, `${code}: the system's words`);

    test(`${code} while one of ours is read`, () => {
      assert.equal(asCheckpointError(error, "run/step-7"), error);
    });

    test(`${code} while one of TensorFlow's is read`, async () => {
      const { index } = encodeBundle(
        new Map([["w", { dtype: "F32", shape: [1], data: Float32Array.of(1) }]]),
      );
      const shard = { bytes: 4, read: () => Promise.reject(error) };
      const bundle = await openBundle("model.ckpt-1", index, () => Promise.resolve(shard));
      await assert.rejects(bundle.read("w"), (found: unknown) => found === error);
    });
  }

  test("but what the system says of the path is told as the checkpoint's", () => {
    for (const code of ["ENOENT", "EACCES", "EISDIR"]) {
      assert.ok(asCheckpointError(systemError(code, code), "run") instanceof CheckpointError, code);
    }
  });
});
