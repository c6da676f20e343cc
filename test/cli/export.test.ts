import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";

import { drawFolder } from "../../src/prepare/draw/draw-folder.js";
import { program } from "../support/paths.js";

const scratch = mkdtempSync(join(tmpdir(), "riffle-cli-export-"));

function riffle(...argv: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [program, ...argv], { cwd: scratch, encoding: "utf8" });
}

suite("riffle export", () => {
  before(async () => {
    await drawFolder({ folder: join(scratch, "photos"), seed: 3, size: 64, train: 40, validation: 20 });
    const small = [
      "--variant",
      "tensorflow",
      "--width",
      "0.5",
      "--image_size",
      "64",
      "--batch_size",
      "20",
      "--max_epochs",
      "2",
    ];
    const { status, stderr } = riffle("train", "--data_dir", "photos", "--log_dir", "a run", ...small);
    assert.equal(status, 0, stderr);
  });
  after(() => rmSync(scratch, { recursive: true, force: true }));

  test("of a trained run says what was written and checked, and how Python opens it", () => {
    const { status, stdout, stderr } = riffle("export", "a run", "--format", "onnx");
    assert.equal(status, 0, stderr);
    assert.ok(existsSync(join(scratch, "a run", "best.onnx")));
    assert.match(stdout, /^Network {3}ShuffleNet V2 0\.5x \(tensorflow\), 10 classes$/m);
    assert.match(stdout, /^Checked {3}read again: \d+ tensors, equal bit for bit$/m);
    assert.match(stdout, /^Next {6}python -c 'import onnxruntime .*"a run\/best\.onnx"/m);
  });

  test("with --json is one object with the numbers", () => {
    const { stdout } = riffle(
      "export",
      "a run",
      "--format=onnx",
      "--keep-batch-norm",
      "--overwrite",
      "--json",
    );
    const result = JSON.parse(stdout) as { event: string; check: { compared: string; tensors: number } };
    assert.equal(result.event, "export");
    assert.equal(result.check.compared, "tensors");
    // 56 convolutions with four tensors of batch norm each, two of the classifier, one shape or split for all the rest.
    assert.ok(result.check.tensors > 5 * 56 + 2);
  });

  test("says that --threads, which older scripts give, has nothing to do, and refuses a wrong one", () => {
    const argv = ["export", "a run", "--format", "safetensors", "--threads"];
    const { status, stderr } = riffle(...argv, "2");
    assert.equal(status, 0, stderr);
    assert.match(stderr, /--threads has nothing to do in export/);
    assert.equal(riffle(...argv, "x", "--overwrite").status, 2);
  });

  for (const [what, argv, words] of [
    ["without a format", [], /there is no --format.*safetensors, /s],
    ["with a format that is none", ["--format", "pt"], /--format cannot be "pt"/],
    ["over a file", ["--format", "onnx"], /there is a file of that name already.*--overwrite/s],
  ] as const) {
    test(`${what} is refused with exit code 2`, () => {
      const { status, stderr } = riffle("export", "a run", ...argv);
      assert.equal(status, 2, stderr);
      assert.match(stderr, words);
    });
  }
});
