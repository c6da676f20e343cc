/**
 * What scripts/web-peers.mjs times: ShuffleNet V2 1.0x at 224 px on three engines in WebAssembly, in Node and in a worker of a page.
 * Each opens with `{ batch, threads, root, peers, model }` and gives a function that classifies a batch once.
 *
 * `root` and `peers` are addresses that end in a slash: of this repository, and of the folder whose node_modules holds tfjs.
 */

const SIDE = 224;
const inNode = typeof process !== "undefined" && process.versions?.node !== undefined;

/** Riffle's own engine, weights drawn. */
async function riffle({ batch, threads, root }) {
  const from = (path) => import(`${root}dist/src/${path}`);
  const { shuffleNetV2 } = await from("models/shufflenet-v2.js");
  const { initialise, initialStatistics } = await from("models/initialise.js");
  const { compile } = await from("program/compile.js");
  const network = shuffleNetV2({ variant: "torchvision", width: 1, classes: 1000 });
  const program = compile(network, { batch, imageSize: SIDE, mode: "infer" });
  const backend = inNode
    ? await (await from("backends/registry.js")).chooseBackend("wasm")
    : (await (await from("browser/engine.js")).openEngine(threads)).backend;
  const run = backend.infer(program, { threads });
  const parameters = initialise(program, { version: "torch", seed: 1 });
  await run.load({ parameters, statistics: Float32Array.from(initialStatistics(program)) });
  const images = new Uint8Array(batch * SIDE * SIDE * 3).map((_, i) => (i * 31) % 256);
  return () => run.infer(images, batch);
}

/** ONNX Runtime's WebAssembly, on what `riffle export` writes. */
async function onnxruntime({ batch, threads, root, model }) {
  const ort = await import(
    `${root}node_modules/onnxruntime-web/dist/${inNode ? "ort.node.min.mjs" : "ort.wasm.min.mjs"}`
  );
  ort.env.wasm.numThreads = threads;
  if (!inNode) ort.env.wasm.wasmPaths = `${root}node_modules/onnxruntime-web/dist/`;
  const bytes = new Uint8Array(await read(model));
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  const input = new ort.Tensor("float32", pixels(batch, 3), [batch, 3, SIDE, SIDE]);
  return () => session.run({ [session.inputNames[0]]: input });
}

/** tfjs-core with its WebAssembly backend: the same layers, batch norms folded into biases, ReLUs fused. */
async function tfjs({ batch, threads, peers }) {
  const at = (name, file) => `${peers}node_modules/@tensorflow/${name}/dist/${file}`;
  const tf = await tensorflow(at);
  tf.wasm.setThreadsCount(threads);
  const folder = at("tfjs-backend-wasm", "");
  tf.wasm.setWasmPaths(inNode ? new URL(folder).pathname : folder);
  await tf.setBackend("wasm");
  await tf.ready();
  const filter = (shape) => tf.randomNormal(shape, 0, Math.sqrt(2 / (shape[0] * shape[1] * shape[2])));
  const bias = (count) => tf.zeros([count]);
  const pointwise = (from, to) => {
    const [w, b] = [filter([1, 1, from, to]), bias(to)];
    return (x) => tf.fused.conv2d({ x, filter: w, strides: 1, pad: "same", bias: b, activation: "relu" });
  };
  const depthwise = (count, strides) => {
    const [w, b] = [filter([3, 3, count, 1]), bias(count)];
    return (x) => tf.fused.depthwiseConv2d({ x, filter: w, strides, pad: "same", bias: b });
  };
  const shuffle = (x) => {
    const [n, h, w, c] = x.shape;
    return tf.reshape(tf.transpose(tf.reshape(x, [n, h, w, 2, c / 2]), [0, 1, 2, 4, 3]), [n, h, w, c]);
  };
  const units = [];
  let from = 24;
  for (const [count, to] of [
    [4, 116],
    [8, 232],
    [4, 464],
  ]) {
    for (let i = 0; i < count; i++) {
      const [half, strides] = [to / 2, i === 0 ? 2 : 1];
      const main = [pointwise(i === 0 ? from : half, half), depthwise(half, strides), pointwise(half, half)];
      const side = i === 0 ? [depthwise(from, 2), pointwise(from, half)] : undefined;
      units.push((x) => {
        const [left, right] = side === undefined ? tf.split(x, 2, 3) : [x, x];
        const through = (layers, input) => layers.reduce((y, layer) => layer(y), input);
        return shuffle(tf.concat([side === undefined ? left : through(side, left), through(main, right)], 3));
      });
    }
    from = to;
  }
  const [stem, stemBias] = [filter([3, 3, 3, 24]), bias(24)];
  const last = pointwise(464, 1024);
  const classifier = tf.reshape(filter([1, 1, 1024, 1000]), [1024, 1000]);
  const image = tf.tensor(pixels(batch, 3), [batch, SIDE, SIDE, 3]);
  return async () => {
    const logits = tf.tidy(() => {
      let x = tf.fused.conv2d({ x: image, filter: stem, strides: 2, pad: "same", bias: stemBias, activation: "relu" }); // prettier-ignore
      x = tf.maxPool(x, 3, 2, "same");
      for (const unit of units) x = unit(x);
      return tf.matMul(tf.mean(last(x), [1, 2]), classifier);
    });
    await logits.data();
    logits.dispose();
  };
}

async function tensorflow(at) {
  const files = [at("tfjs-core", "tf-core.min.js"), at("tfjs-backend-cpu", "tf-backend-cpu.min.js"), at("tfjs-backend-wasm", "tf-backend-wasm.min.js")]; // prettier-ignore
  if (!inNode) {
    for (const file of files) await import(file);
    return globalThis.tf;
  }
  const { createRequire } = await import("node:module");
  const load = createRequire(at("tfjs-core", ""));
  const core = load("@tensorflow/tfjs-core");
  return { ...core, fused: core.fused, wasm: load("@tensorflow/tfjs-backend-wasm") };
}

async function read(address) {
  if (!inNode) return (await fetch(address)).arrayBuffer();
  const { readFile } = await import("node:fs/promises");
  return readFile(new URL(address));
}

function pixels(batch, channels) {
  return new Float32Array(batch * channels * SIDE * SIDE).map((_, i) => ((i * 31) % 256) / 255);
}

const contestants = { riffle, onnxruntime, tfjs };

/** Images per second, the median of as many batches as fit into the time. */
export async function timed({ name, seconds, ...given }) {
  const classify = await contestants[name](given);
  for (let i = 0; i < 2; i++) await classify();
  const took = [];
  const began = performance.now();
  while (performance.now() - began < 1000 * seconds || took.length < 3) {
    const start = performance.now();
    await classify();
    took.push((performance.now() - start) / 1000);
  }
  const rates = took.map((s) => given.batch / s).sort((a, b) => a - b);
  return { min: rates[0], median: rates[rates.length >> 1], max: rates.at(-1) };
}
