/**
 * `riffle serve` under bounded load, beside what it could be at most: rounds of several contestants in turn, on this machine.
 *
 *     node scripts/serve-load.mjs --rounds 3 --seconds 8 --connections 32 --batch 16 --peer /elsewhere --output rounds.jsonl
 *
 * engine     `riffle bench infer` at the batch: the network alone, on pixels that lie in memory
 * predictor  `predictOne` in a process of its own, as many calls in flight: decoding and the network, without HTTP
 * serve      `riffle serve`, asked by a process of its own over loopback: a picture a request, connections kept
 * peer       node:http, sharp and onnxruntime-node at their defaults: the same pictures, network and answers, a picture a run;
 * peer-batch as peer, what waits sharing a run. PEER/node_modules holds both packages (npm install onnxruntime-node sharp)
 *
 * `--threads 1` leaves the engine that many, in all of ours alike, so that decoding, HTTP and the client have the other cores.
 * The client costs processor time that a client elsewhere would not; what each process took is stated. Pictures are JPEGs: drawn, or
 * of `--pictures FOLDER`. Prints a line a contestant and, at the end, medians; `--output` keeps every round, a JSON object a line.
 */

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "8" },
    connections: { type: "string", default: "32" },
    batch: { type: "string", default: "16" },
    width: { type: "string", default: "1" },
    classes: { type: "string", default: "10" },
    pictures: { type: "string" },
    peer: { type: "string" },
    only: { type: "string" },
    threads: { type: "string", default: "" },
    serve: { type: "string", default: "" },
    output: { type: "string" },
  },
});
const here = fileURLToPath(import.meta.url);
const dist = join(here, "..", "..", "dist", "src");
const program = join(dist, "cli", "main.js");
const connections = Number(values.connections);
const batch = Number(values.batch);
const threads = values.threads === "" ? undefined : Number(values.threads);
const threadsGiven = threads === undefined ? [] : ["--threads", values.threads];
/** Of the load before what counts. */
const WARM_UP = 2;

/** What a child of this script is told to be, as its first argument. */
const roles = { client, engine, predictor, peer };
const [role, ...rest] = positionals;
if (role === undefined) await compare();
else await roles[role](...rest);

async function compare() {
  const folder = mkdtempSync(join(tmpdir(), "riffle-load-"));
  try {
    const { run, variant, onnx } = await makeRun(folder);
    const pictures = values.pictures === undefined ? join(folder, "photos") : resolve(values.pictures);
    const contestants = {
      engine: () => asked(["engine", variant]),
      predictor: () => asked(["predictor", run, pictures]),
      serve: () => served([program, "serve", run, "--port", "0", "--json", "--batch_size", values.batch, ...threadsGiven, ...words(values.serve)], pictures), // prettier-ignore
      ...(values.peer === undefined
        ? {}
        : {
            peer: () => served([here, "peer", onnx, resolve(values.peer), "1"], pictures),
            "peer-batch": () => served([here, "peer", onnx, resolve(values.peer), values.batch], pictures),
          }),
    };
    const chosen = values.only?.split(",") ?? Object.keys(contestants);
    const rounds = [];
    for (let round = 1; round <= Number(values.rounds); round++) {
      for (const name of chosen) {
        const result = { round, contestant: name, ...(await contestants[name]()) };
        rounds.push(result);
        if (values.output !== undefined) appendFileSync(values.output, `${JSON.stringify(result)}\n`);
        console.log(lineOf(result));
      }
    }
    console.log("medians");
    const medians = chosen.map((name) => {
      const own = rounds.filter(({ contestant }) => contestant === name);
      const keys = Object.keys(own[0]).filter((key) => typeof own[0][key] === "number" && key !== "round");
      const middle = Object.fromEntries(keys.map((key) => [key, median(own.map((each) => each[key]))]));
      return { contestant: name, ...middle };
    });
    for (const each of medians) {
      const share = each.images_per_second / (medians[0]?.images_per_second ?? NaN);
      console.log(`${lineOf(each)} · ${share.toFixed(3)} of ${medians[0]?.contestant}`);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A run after one step on drawn pictures of 224 px, its export, and the pictures in `folder`/photos. */
async function makeRun(folder) {
  const { drawFolder, exportRun, train } = await import(join(dist, "index.js"));
  const photos = join(folder, "photos");
  await drawFolder({ folder: photos, seed: 3, size: 256, train: 64, validation: 10 });
  const run = join(folder, "run");
  await train({
    data_dir: photos,
    log_dir: run,
    width: Number(values.width),
    num_classes: Number(values.classes),
    image_size: 224,
    eval_resize: 256,
    batch_size: 4,
    max_train_steps: 1,
    report: false,
  });
  const { output } = await exportRun(run, { format: "onnx" });
  const { variant } = JSON.parse(readFileSync(join(run, "recipe.json"), "utf8")).settings;
  return { run, variant, onnx: output };
}

/** `riffle bench infer` of the network that is served, for about as long as the others are asked. */
async function engine(variant) {
  const { bench } = await import(join(dist, "index.js"));
  const given = {
    variant,
    width: Number(values.width),
    num_classes: Number(values.classes),
    batch_size: batch,
    threads,
  };
  const probe = await bench("infer", { ...given, steps: 10 });
  const steps = Math.ceil((Number(values.seconds) * probe.images_per_second.median) / batch);
  let used;
  const { images_per_second: speed, peak_memory_mb: memory } = await bench(
    "infer",
    { ...given, steps },
    (done, total) => {
      if (done === total - steps) used = process.cpuUsage();
      if (done === total) used = process.cpuUsage(used);
    },
  );
  const cpu = (used.user + used.system) / 1e6;
  report({
    counted: speed.median,
    seconds: 1,
    latencies: [],
    server_cpu_s: cpu,
    images: steps * batch,
    memory_mb: memory,
  });
}

/** Runs a role of this script that reports one JSON object. */
async function asked(argv) {
  const child = start([here, ...argv]);
  const text = await textOf(child);
  return JSON.parse(text);
}

/** Starts a server that prints its address, has a client ask it, and reports both. */
async function served(argv, pictures) {
  const server = start(argv);
  try {
    const url = await addressOf(server);
    const client = start([here, "client", url, pictures]);
    const marks = [];
    client.stderr.setEncoding("utf8").on("data", (text) => {
      for (let i = 0; i < text.trim().split("\n").length; i++) marks.push(cpuOf(server.pid));
    });
    const measured = JSON.parse(await textOf(client));
    const [before, after] = marks;
    const memory = Number(/^VmHWM:\s+(\d+)/m.exec(readOr(`/proc/${server.pid}/status`))?.[1]) / 1024;
    return { ...measured, server_cpu_s: after - before, memory_mb: memory };
  } finally {
    server.kill("SIGTERM");
    await once(server, "exit");
  }
}

function start(argv) {
  const options = ["rounds", "seconds", "connections", "batch", "width", "classes", "threads"].flatMap(
    (name) => [`--${name}`, values[name]],
  );
  const isOurs = argv[0] === here;
  return spawn(process.execPath, [...argv, ...(isOurs ? options : [])], {
    stdio: ["ignore", "pipe", "pipe"],
  });
}

async function textOf(child) {
  let [text, errors] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (more) => (text += more));
  child.stderr.setEncoding("utf8").on("data", (more) => (errors += more));
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(errors);
  return text;
}

async function addressOf(server) {
  let text = "";
  server.stderr.resume();
  server.stdout.setEncoding("utf8");
  for await (const more of on(server.stdout)) {
    text += more;
    const [, url] = /(http:\/\/[\d.]+:\d+)\//.exec(text) ?? [];
    if (url !== undefined) return url;
  }
  throw new Error(`no server: ${text}`);
}

/** Its data, without ending the stream when the reader has enough. */
async function* on(stream) {
  for (;;) yield (await once(stream, "data"))[0];
}

/** Posts pictures over so many connections, one after another on each. Writes a line to stderr when the time begins and ends. */
async function client(url, folder) {
  const { port } = new URL(url);
  const requests = picturesIn(folder).map((bytes) =>
    Buffer.concat([
      Buffer.from(
        `POST /predict HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Type: image/jpeg\r\nContent-Length: ${bytes.length}\r\n\r\n`,
      ),
      bytes,
    ]),
  );
  const taken = [];
  let [isCounting, isOver, next, refused] = [false, false, 0, 0];
  const all = Array.from({ length: connections }, async () => {
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    await once(socket, "connect");
    while (!isOver) {
      const began = performance.now();
      socket.write(requests[next++ % requests.length]);
      const status = await answerOn(socket);
      if (!isCounting) continue;
      if (status === 200) taken.push(performance.now() - began);
      else refused++;
    }
    socket.destroy();
  });
  const [counted, seconds, cpu] = await during(
    () => (isCounting = true),
    () => (isCounting = false),
    taken,
    true,
  );
  isOver = true;
  await Promise.all(all);
  report({ counted, seconds, latencies: taken, refused, client_cpu_s: cpu });
}

/** Resolves to the status of a whole answer. */
function answerOn(socket) {
  return new Promise((resolve, reject) => {
    let text = "";
    const take = (chunk) => {
      text += chunk.toString("latin1");
      const end = text.indexOf("\r\n\r\n");
      if (end < 0) return;
      const length = Number(/^content-length: (\d+)/im.exec(text)?.[1]);
      if (text.length < end + 4 + length) return;
      socket.off("data", take);
      socket.off("close", gone);
      resolve(Number(text.slice(9, 12)));
    };
    const gone = () => reject(new Error(`the connection was closed: ${text}`));
    socket.on("data", take);
    socket.once("close", gone);
  });
}

/** As many calls of `predictOne` in flight as there would be connections. */
async function predictor(run, folder) {
  const { openPredictor } = await import(join(dist, "index.js"));
  const opened = await openPredictor(run, { eval_batch_size: batch, threads });
  const pictures = picturesIn(folder);
  const taken = [];
  let [isCounting, isOver, next] = [false, false, 0];
  const all = Array.from({ length: connections }, async () => {
    while (!isOver) {
      const began = performance.now();
      await opened.predictOne(pictures[next++ % pictures.length]);
      if (isCounting) taken.push(performance.now() - began);
    }
  });
  const [counted, seconds, cpu] = await during(
    () => (isCounting = true),
    () => (isCounting = false),
    taken,
    false,
  );
  isOver = true;
  await Promise.all(all);
  await opened.close();
  const memory = process.resourceUsage().maxRSS / 1024;
  report({ counted, seconds, latencies: taken, server_cpu_s: cpu, memory_mb: memory });
}

/** Warms up, then lets the time that counts go by: how many were taken, in which time, at which cost of this process. */
async function during(begin, end, taken, says) {
  await sleep(WARM_UP);
  begin();
  if (says) process.stderr.write("begun\n");
  const [began, used] = [performance.now(), process.cpuUsage()];
  await sleep(Number(values.seconds));
  end();
  if (says) process.stderr.write("ended\n");
  const seconds = (performance.now() - began) / 1000;
  const { user, system } = process.cpuUsage(used);
  return [taken.length, seconds, (user + system) / 1e6];
}

function report({ counted, seconds, latencies, ...more }) {
  const sorted = [...latencies].sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  process.stdout.write(
    JSON.stringify({
      images: counted,
      images_per_second: counted / seconds,
      p50_ms: at(0.5),
      p99_ms: at(0.99),
      ...more,
    }),
  );
}

/** What a service of a few dozen lines would be: sharp decodes and cuts, ONNX Runtime runs, each at its defaults. */
async function peer(onnx, folder, most) {
  const need = createRequire(join(folder, "package.json"));
  const [ort, sharp] = [need("onnxruntime-node"), need("sharp")];
  const session = await ort.InferenceSession.create(onnx);
  const SIDE = 224;
  const [MEAN, STD] = [
    [0.485, 0.456, 0.406],
    [0.229, 0.224, 0.225],
  ];
  const preprocess = async (bytes) => {
    const pixels = await sharp(bytes)
      .rotate()
      .resize(256, 256, { fit: "cover", kernel: "linear" })
      .extract({ left: 16, top: 16, width: SIDE, height: SIDE })
      .removeAlpha()
      .raw()
      .toBuffer();
    const out = new Float32Array(3 * SIDE * SIDE);
    for (let c = 0; c < 3; c++)
      for (let i = 0; i < SIDE * SIDE; i++)
        out[c * SIDE * SIDE + i] = (pixels[3 * i + c] / 255 - MEAN[c]) / STD[c];
    return out;
  };
  const waiting = [];
  let isRunning = false;
  const infer = async (inputs) => {
    const data = new Float32Array(inputs.length * 3 * SIDE * SIDE);
    inputs.forEach((input, i) => data.set(input, i * input.length));
    const image = new ort.Tensor("float32", data, [inputs.length, 3, SIDE, SIDE]);
    const { logits } = await session.run({ image });
    const classes = logits.dims[1];
    return inputs.map((_, i) => logits.data.slice(i * classes, (i + 1) * classes));
  };
  const runWaiting = async () => {
    if (isRunning) return;
    isRunning = true;
    while (waiting.length > 0) {
      const group = waiting.splice(0, Number(most));
      const rows = await infer(group.map(({ input }) => input));
      group.forEach(({ resolve }, i) => resolve(rows[i]));
    }
    isRunning = false;
  };
  const logitsOf = async (input) =>
    most === "1"
      ? (await infer([input]))[0]
      : new Promise((resolve) => {
          waiting.push({ input, resolve });
          void runWaiting();
        });
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const logits = await logitsOf(await preprocess(Buffer.concat(chunks)));
    const largest = Math.max(...logits);
    const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
    const sum = powers.reduce((a, b) => a + b);
    const top = powers
      .map((power, index) => ({ index, probability: power / sum }))
      .sort((a, b) => b.probability - a.probability)
      .slice(0, 5);
    const body = JSON.stringify({ top });
    response.writeHead(200, {
      "Content-Type": "application/json",
      "Content-Length": Buffer.byteLength(body),
    });
    response.end(body);
  });
  server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/`));
  process.on("SIGTERM", () => process.exit(0));
}

function picturesIn(folder) {
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) =>
    /\.jpe?g$/i.test(name),
  );
  return files.slice(0, 256).map((name) => readFileSync(join(folder, name)));
}

/** Seconds of processor time that a process has taken, all its threads. */
function cpuOf(pid) {
  const fields = readOr(`/proc/${pid}/stat`)
    .replace(/^.*\) /, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function lineOf({
  contestant,
  images_per_second: speed,
  p50_ms: p50,
  p99_ms: p99,
  memory_mb: memory,
  ...more
}) {
  const parts = [
    `${speed.toFixed(1)} images/s`,
    ...(p50 === undefined ? [] : [`p50 ${p50.toFixed(1)} ms`, `p99 ${p99.toFixed(1)} ms`]),
    `${memory.toFixed(0)} MB`,
    `${((1000 * more.server_cpu_s) / more.images).toFixed(2)} ms of processor an image`,
    ...(more.client_cpu_s === undefined
      ? []
      : [`its client ${((1000 * more.client_cpu_s) / more.images).toFixed(2)}`]),
    ...(more.refused > 0 ? [`${more.refused} refused`] : []),
  ];
  return `${contestant.padEnd(11)} ${parts.join(" · ")}`;
}

function median(numbers) {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
}

function words(text) {
  return text.split(" ").filter(Boolean);
}

function readOr(file) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

function sleep(seconds) {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
