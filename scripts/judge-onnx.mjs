/**
 * Has ONNX Runtime judge what `riffle export --format onnx` writes: the readers in our tests know only what we know.
 *
 *     node scripts/judge-onnx.mjs [FOLDER]   FOLDER/node_modules holds onnxruntime-node; fetched with npm when absent
 *
 * Small runs of every variant are made of drawn weights and exported in every form of graph. ONNX Runtime and `riffle` then see
 * the same three pictures of noise; their logits may differ by 1e-5 of the largest one: both sum in f32, each in its order.
 * Then the program for it in docs/deploy.md is run as it stands.
 *
 * ONNX Runtime is no dependency of the package: it takes 300 MB, and only this script wants it. Its binaries come with the
 * package, so none of its install scripts is run. Ends with `N passed, N failed, N skipped`.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { nativeBackend } from "../dist/src/backends/native/index.js";
import { Draws, streams } from "../dist/src/core/random.js";
import { initialise, initialStatistics } from "../dist/src/models/initialise.js";
import { shuffleNetV2 } from "../dist/src/models/shufflenet-v2.js";
import { variantNames } from "../dist/src/models/variants.js";
import { compile } from "../dist/src/program/compile.js";
import { saveCheckpoint } from "../dist/src/run/checkpoint.js";
import { exportRun } from "../dist/src/weights/export-run.js";

/** Of the largest logit. */
const TOLERANCE = 1e-5;
const PICTURES = 3;
const CLASSES = 7;

const root = fileURLToPath(new URL("..", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "riffle-judge-"));
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));
const counts = { passed: 0, failed: 0, skipped: 0 };
const folder = process.argv[2] === undefined ? fetchRuntime(scratch) : resolve(process.argv[2]);
const runtime = createRequire(join(folder, "package.json"))("onnxruntime-node");
for (const variant of variantNames) {
  // 50 is odd halfway down, where TensorFlow's padding and PyTorch's part.
  for (const size of [64, 50]) {
    const run = await makeRun(variant, size);
    for (const input of ["normalised", "pixels"]) {
      for (const keepBatchNorm of [false, true]) {
        const name = `${variant}, ${size} px, ${input}, batch norm ${keepBatchNorm ? "kept" : "folded"}`;
        await judge(name, run, { input, keepBatchNorm });
      }
    }
  }
}
judgeProgram();
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0;

function fetchRuntime(folder) {
  const npm = ["install", "--prefix", folder, "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"];
  const { status } = spawnSync("npm", [...npm, "onnxruntime-node@1.30.0"], { stdio: "inherit" });
  if (status !== 0) throw new Error("npm could not fetch onnxruntime-node");
  return folder;
}

/** test/docs/deploy.test.ts runs the page's program where it finds the package. */
function judgeProgram() {
  const only = [
    "--test",
    "--test-reporter=tap",
    "--test-name-pattern=onnxruntime-node",
    "dist/test/docs/deploy.test.js",
  ];
  const env = { ...process.env, RIFFLE_ONNXRUNTIME: folder };
  const { stdout } = spawnSync(process.execPath, only, { cwd: root, encoding: "utf8", env });
  const passed = /^ *ok \d+ - has a program for onnxruntime-node that works$/m.test(stdout);
  counts[passed ? "passed" : "failed"]++;
  console.log(
    passed ? "ok   the program in docs/deploy.md" : `FAIL the program in docs/deploy.md\n${stdout}`,
  );
}

/** A checkpoint of drawn weights in which no channel is like another, and the network that made it. */
async function makeRun(variant, size) {
  const network = shuffleNetV2({ variant, width: 0.5, classes: CLASSES });
  const program = compile(network, { batch: PICTURES, imageSize: size, mode: "infer" });
  const draws = new Draws(5, streams.draw, 0, 0);
  const parameters = initialise(program, { version: "he_normal", seed: 5 });
  for (const { role, offset, size: length } of program.parameters) {
    // Around 1.5, so that what differs between two pictures does not shrink from unit to unit.
    const around = { gamma: 1.5, beta: 0, bias: 0 }[role];
    if (around === undefined) continue;
    for (let i = offset; i < offset + length; i++) parameters[i] = draws.uniform(around - 0.3, around + 0.3);
  }
  const statistics = initialStatistics(program);
  const planes = statistics.length / 2;
  for (let i = 0; i < planes; i++) {
    statistics[i] = draws.uniform(-0.3, 0.3);
    statistics[planes + i] = draws.uniform(0.5, 1.5);
  }
  const weights = { parameters, statistics };
  const path = await saveCheckpoint(
    scratch,
    `step-${size}`,
    program,
    { kind: "weights", weights },
    {
      step: size,
      steps_per_epoch: 1,
      evaluated_step: -1,
      scores: null,
      best: null,
      model: {
        variant,
        width: 0.5,
        classes: CLASSES,
        image_size: size,
        eval_resize: size,
        pipeline: "torchvision",
        class_names: [],
      },
      settings: { average_decay: 0 },
      origins: {},
      data: { fingerprint: "", train_images: 0 },
    },
  );
  const images = Uint8Array.from({ length: PICTURES * size ** 2 * 3 }, () => draws.below(256));
  const engine = nativeBackend.infer(program, { threads: 1 });
  await engine.load(weights);
  const logits = Float32Array.from(await engine.infer(images, PICTURES));
  engine.close();
  return { path, network, size, images, logits };
}

async function judge(name, { path, network, size, images, logits }, options) {
  try {
    const output = join(scratch, "judged.onnx");
    await exportRun(path, { format: "onnx", output, overwrite: true, ...options });
    const session = await runtime.InferenceSession.create(output, { logSeverityLevel: 3 });
    const data = inputOf(network, images, size, options.input);
    const image = new runtime.Tensor("float32", data, [PICTURES, 3, size, size]);
    const found = (await session.run({ image })).logits;
    await session.release();
    const largest = Math.max(...logits.map(Math.abs));
    const difference = Math.max(...logits.map((logit, i) => Math.abs(logit - found.data[i])));
    // Written so that a difference that is no number does not pass.
    const passed =
      found.dims.join() === `${PICTURES},${CLASSES}` && largest > 0.1 && difference <= TOLERANCE * largest;
    counts[passed ? "passed" : "failed"]++;
    console.log(
      `${passed ? "ok  " : "FAIL"} ${name}: logits [${found.dims}] up to ${largest.toFixed(2)}, ` +
        `${(difference / largest).toExponential(1)} of that apart`,
    );
  } catch (error) {
    counts.failed++;
    console.log(`FAIL ${name}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** What the graph takes for RGB bytes [images, size, size, 3], by the words of docs/export.md. */
function inputOf({ input: { channelOrder, scale, shift } }, images, size, input) {
  const data = new Float32Array(images.length);
  for (let i = 0, pixels = size ** 2; i < images.length; i++) {
    const plane = Math.floor(i / pixels);
    const channel = input === "pixels" ? plane % 3 : channelOrder[plane % 3];
    const byte = images[(Math.floor(plane / 3) * pixels + (i % pixels)) * 3 + channel];
    data[i] = input === "pixels" ? byte : scale[channel] * byte + shift[channel];
  }
  return data;
}
