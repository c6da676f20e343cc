/**
 * What a dashboard that somebody looks at costs the training beside it.
 *
 *     node scripts/dashboard-cost.mjs [ROUNDS] [--json]
 *
 * Rounds in turn without and with a dashboard over the run, each a training of its own on synthetic pictures with every core;
 * with it a client asks as the page does: every 2 s, with the tag of what it has. Says the medians of pictures a second, which
 * training tells at its end, the cost, and how far rounds of one kind differ: a cost below that is noise. What the dashboard's
 * process took of the cores' time, by /proc, is the surer figure on a machine that others use. Ends with 1 where either
 * cost is above 2 %.
 */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const LIMIT = 0.02;
const POLL = 2000;
const TRAINING = [
  ...[
    "train",
    "--synthetic",
    "--width",
    "0.5",
    "--image_size",
    "96",
    "--batch_size",
    "32",
    "--log_steps",
    "1",
  ],
  ...["--max_train_steps", "1000", "--epochs_between_evals", "1000", "--report", "false"],
];
const program = join(fileURLToPath(new URL("..", import.meta.url)), "dist", "src", "cli", "main.js");
const rounds = Number(process.argv[2] ?? 5);
const folder = mkdtempSync(join(tmpdir(), "riffle-cost-"));
const speeds = { without: [], with: [] };
/** Of the cores, by each dashboard. */
const shares = [];

try {
  for (let round = 0; round < rounds; round++) {
    // Whichever comes first is not always the same.
    const kinds = round % 2 === 0 ? ["without", "with"] : ["with", "without"];
    for (const kind of kinds) {
      const speed = await trained(join(folder, `${kind}-${round}`), kind === "with");
      speeds[kind].push(speed);
      console.error(`round ${round + 1}/${rounds}  ${kind.padEnd(7)}  ${speed.toFixed(1)} pictures/s`);
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}

const [without, watched] = [median(speeds.without), median(speeds.with)];
const cost = 1 - watched / without;
const share = median(shares);
const spread = (Math.max(...speeds.without) - Math.min(...speeds.without)) / without;
if (process.argv.includes("--json"))
  console.log(JSON.stringify({ rounds, speeds, without, with: watched, cost, spread, share }));
else {
  console.log(`without a dashboard  ${without.toFixed(1)} pictures/s, median of ${rounds}`);
  console.log(`with one watched     ${watched.toFixed(1)} pictures/s`);
  console.log(
    `cost                 ${(100 * cost).toFixed(2)} %; rounds without differ by ${(100 * spread).toFixed(2)} %`,
  );
  console.log(`the process itself   ${(100 * share).toFixed(2)} % of ${availableParallelism()} cores`);
}
if (cost > LIMIT || share > LIMIT) process.exitCode = 1;

/** Pictures a second of a training, as its last line says them. The dashboard is there before it, and finds it by itself. */
async function trained(parent, isWatched) {
  mkdirSync(parent);
  const dashboard = isWatched ? start(["dashboard", "--port", "0", "--json"], parent) : undefined;
  const url = dashboard && (await addressOf(dashboard));
  const before = dashboard && secondsOf(dashboard.pid);
  const began = performance.now();
  const training = start([...TRAINING, "--log_dir", "run"], parent);
  let isOver = false;
  const polling = url && watch(url, () => isOver);
  const code = await ended(training);
  isOver = true;
  await polling;
  if (code !== 0) throw new Error(`the training ended with ${code}`);
  if (dashboard !== undefined) {
    const seconds = (performance.now() - began) / 1000;
    shares.push((secondsOf(dashboard.pid) - before) / seconds / availableParallelism());
    dashboard.kill("SIGTERM");
  }
  const log = readFileSync(join(parent, "run", "events.jsonl"), "utf8")
    .trimEnd()
    .split("\n");
  return JSON.parse(log.at(-1)).images_per_second;
}

/** As the dashboard's page does. */
async function watch(url, isOver) {
  for (const path of ["", "page.css", "page.js"]) await (await fetch(url + path)).text();
  let tag = "";
  while (!isOver()) {
    const response = await fetch(`${url}live`, { headers: tag === "" ? {} : { "If-None-Match": tag } });
    await response.text();
    tag = response.headers.get("ETag") ?? "";
    for (let waited = 0; waited < POLL && !isOver(); waited += 100) await setTimeout(100);
  }
}

function start(argv, cwd) {
  return spawn(process.execPath, [program, ...argv], { cwd, stdio: ["ignore", "pipe", "ignore"] });
}

function ended(child) {
  child.stdout.resume();
  return child.exitCode === null ? new Promise((resolve) => child.once("exit", resolve)) : child.exitCode;
}

async function addressOf(dashboard) {
  let text = "";
  for await (const piece of dashboard.stdout.iterator({ destroyOnReturn: false })) {
    text += piece;
    const url = /"url":"([^"]+)"/.exec(text)?.[1];
    if (url !== undefined) return url;
  }
  throw new Error("the dashboard did not start");
}

/** Of every core that a process has had since it was started: fields 14 and 15 of /proc/PID/stat, in hundredths (proc(5)). */
function secondsOf(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const half = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}
