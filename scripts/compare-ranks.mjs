/**
 * Ranks against one process with as many shards, in alternating rounds: images/s of each, their ratio, and the largest memory of a
 * process. Prints the raw rounds; exits with 1 when the median ratio is below `--least`.
 *
 *     node scripts/compare-ranks.mjs --ranks 2 --threads 1 --shards 2 --batch 16 --rounds 5 --least 0.95
 */

import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    ranks: { type: "string", default: "2" },
    threads: { type: "string", default: "1" },
    shards: { type: "string", default: "2" },
    batch: { type: "string", default: "16" },
    steps: { type: "string", default: "30" },
    rounds: { type: "string", default: "5" },
    width: { type: "string", default: "1" },
    least: { type: "string", default: "0" },
    launcher: { type: "string", default: "mpirun.openmpi" },
  },
});
const program = join(fileURLToPath(new URL("..", import.meta.url)), "dist", "src", "cli", "main.js");
const folder = mkdtempSync(join(tmpdir(), "riffle-ranks-"));
const isOpenMpi = values.launcher.includes("openmpi");
const root = process.getuid?.() === 0 && isOpenMpi ? ["--allow-run-as-root"] : [];
const bound = isOpenMpi ? ["--oversubscribe", "--bind-to", "none"] : [];
let runs = 0;

/** Images per second of the whole run, and the largest memory of one of its processes, in MB. */
function train(launch, threads) {
  const run = join(folder, `run-${runs++}`);
  const options = {
    synthetic: "true",
    train_dataset_size: "4096",
    recipe: "documented",
    width: values.width,
    batch_size: values.batch,
    shards: values.shards,
    threads,
    max_train_steps: values.steps,
    mode: "train",
    do_checkpoint: "false",
    save_summary_steps: "0",
    log_dir: run,
  };
  const argv = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
  // GNU time writes the peak of each process that it starts.
  const peaks = join(folder, "peaks");
  const timed = existsSync("/usr/bin/time") ? ["/usr/bin/time", "-a", "-o", peaks, "-f", "%M"] : [];
  const [command, ...rest] = [...launch, ...timed, process.execPath, program, "train", ...argv];
  const { status, stderr } = spawnSync(command, rest, { encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  const events = readFileSync(join(run, "events.jsonl"), "utf8").trim().split("\n");
  const end = events.map((line) => JSON.parse(line)).find(({ event }) => event === "end");
  const memory =
    timed.length === 0 ? NaN : Math.max(...readFileSync(peaks, "utf8").match(/\d+/g).map(Number));
  rmSync(peaks, { force: true });
  return { speed: end.images_per_second, memory: memory / 1024 };
}

const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
try {
  const rounds = [];
  for (let round = 0; round < Number(values.rounds); round++) {
    const alone = train([], String(availableParallelism()));
    const ranks = train([values.launcher, ...root, ...bound, "-n", values.ranks], values.threads);
    rounds.push({ alone, ranks, ratio: ranks.speed / alone.speed });
    console.log(
      `alone ${alone.speed.toFixed(1)} images/s, ${alone.memory.toFixed(0)} MB · ${values.ranks} ranks ` +
        `${ranks.speed.toFixed(1)} images/s, ${ranks.memory.toFixed(0)} MB each · ratio ${(ranks.speed / alone.speed).toFixed(3)}`,
    );
  }
  const ratio = median(rounds.map((each) => each.ratio));
  console.log(`median ratio ${ratio.toFixed(3)}`);
  process.exitCode = ratio >= Number(values.least) ? 0 : 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
