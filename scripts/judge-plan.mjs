/**
 * Holds `riffle plan` against training: the images/s that it predicts for N ranks, and those that N ranks reach.
 *
 *     node scripts/judge-plan.mjs --data DIR --ranks 1
 *     node scripts/judge-plan.mjs --data DIR --ranks 2 -- mpirun -n 2
 *     node scripts/judge-plan.mjs --data DIR --ranks 2 --plan="--ranks_per_machine 1 --bandwidth 1gbit" -- mpirun -n 2 --hostfile FILE
 *     node scripts/judge-plan.mjs --data DIR --ranks 2 --emulated --plan="--ranks_per_machine 1 --bandwidth 1gbit" -- scripts/two-machines.sh 1gbit
 *
 * What stands behind `--` starts the ranks; without it there is one process. Without `--plan`, which says what they run on, it is
 * one machine. `--emulated` tells of machines that are namespaces of this one: computing is measured with the ranks of all of them
 * at work. `--train` has options for training alone; `--threads` (1), `--width` (1), `--batch` (16) and `--shards` (as many as
 * ranks) are for both.
 *
 * Plan and training take turns, five rounds (`--rounds`), so that both see the machine's moods; training's rate is that of its
 * last 20 steps.
 *
 * Prints an object a round and one at the end, and exits with 1 where the medians differ by more than 15 %.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const MOST = 0.15;
const STEPS = 24;

const program = fileURLToPath(new URL("../dist/src/cli/main.js", import.meta.url));
const { values, positionals: launcher } = parseArgs({
  allowPositionals: true,
  options: {
    data: { type: "string" },
    ranks: { type: "string" },
    shards: { type: "string" },
    threads: { type: "string", default: "1" },
    width: { type: "string", default: "1" },
    batch: { type: "string", default: "16" },
    rounds: { type: "string", default: "5" },
    plan: { type: "string", default: "" },
    train: { type: "string", default: "" },
    emulated: { type: "boolean", default: false },
  },
});
const { data, ranks } = values;
if (data === undefined || ranks === undefined) throw new Error("--data DIR and --ranks N are needed");

const scratch = mkdtempSync(join(tmpdir(), "riffle-judge-"));
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));

const network = ["--width", values.width, "--batch_size", values.batch, "--num_classes", "1000"];
const both = ["--data_dir", data, "--threads", values.threads, ...network];
if (values.shards !== undefined) both.push("--shards", values.shards);

const predicted = [];
const measured = [];
for (let round = 0; round < Number(values.rounds); round++) {
  predicted.push(predict());
  measured.push(train(round));
  console.log(JSON.stringify({ round, predicted: predicted.at(-1), measured: measured.at(-1) }));
}
const ratio = median(predicted) / median(measured);
console.log(JSON.stringify({ ranks, predicted: median(predicted), measured: median(measured), ratio }));
if (!(Math.abs(ratio - 1) <= MOST)) process.exitCode = 1;

/** Images per second of the plan's only row. */
function predict() {
  const here = ["--ranks_per_machine", ranks];
  if (values.plan === "") return plan([...both, ...here]).rows[0].images_per_second;
  if (!values.emulated) return plan([...both, ...words(values.plan)]).rows[0].images_per_second;
  const { forward_ms, backward_ms, update_ms } = plan(["--threads", values.threads, ...network, ...here]);
  const step = ["--step_ms", String(forward_ms + backward_ms + update_ms)];
  return plan([...both, ...step, ...words(values.plan)]).rows[0].images_per_second;
}

function plan(argv) {
  return JSON.parse(run(process.execPath, [program, "plan", "--ranks", ranks, ...argv, "--json"]));
}

/** Images per second that training's log ends with. */
function train(round) {
  const folder = join(scratch, `run-${round}`);
  const steps = ["--max_train_steps", String(STEPS), "--log_steps", "1"];
  const argv = [program, "train", ...both, ...words(values.train), ...steps];
  const [command, ...before] = [...launcher, process.execPath];
  run(command, [
    ...before,
    ...argv,
    "--mode",
    "train",
    "--do_checkpoint",
    "false",
    "--recipe",
    "documented",
    "--log_dir",
    folder,
  ]);
  const events = readFileSync(join(folder, "events.jsonl"), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  return events.findLast(({ event, step }) => event === "step" && step === STEPS).images_per_second;
}

function run(command, argv) {
  const { status, stdout, stderr } = spawnSync(command, argv, { encoding: "utf8", maxBuffer: 2 ** 28 });
  if (status !== 0) throw new Error(`${command} ${argv.join(" ")} ended with ${status}:\n${stderr}`);
  return stdout;
}

function words(text) {
  return text.split(/\s+/).filter((word) => word !== "");
}

function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}
