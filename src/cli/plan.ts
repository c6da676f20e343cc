/**
 * `riffle plan`: how fast more ranks and machines would train, from what one rank needs on this machine and what a
 * network is said to carry.
 *
 * measure/plan-ranks.ts measures and computes; this file parses and prints.
 */

import { UsageError } from "../core/error.js";
import { type InputPlan, planRanks, type RankPlan } from "../measure/plan-ranks.js";
import { programDefaults, programSettings } from "../measure/workload.js";
import { settings as table } from "../settings/settings.js";
import { type CliCommand, type Invocation, wholeNumber, wrongValue } from "./command.js";
import { bytes, count, percent, rate, several, shellWord } from "./format.js";
import { startProgress } from "./progress.js";
import { titled } from "./report-run.js";
import type { Terminal } from "./terminal.js";

const MOST_RANKS = 65_536;

export const planCommand: CliCommand = {
  name: "plan",
  purpose:
    "Predicts step time, images/s and efficiency of training by many processes, from this machine's speed and a network's.",
  examples: [
    "npx riffle-vision plan --ranks 1,2 --shards 2",
    "npx riffle-vision plan --ranks 8..1024 --ranks_per_machine 8 --bandwidth 25gbit --step_ms 250",
    "npx riffle-vision plan --ranks 8 --ranks_per_machine 1 --bandwidth 1gbit --data_dir photos",
  ],
  settings: [...programSettings, "threads", "data_dir", "shards", "hcom_parallel", "bucket_size"],
  defaults: {
    ...programDefaults,
    threads: "a rank's share of the cores, in",
    data_dir: "none: reading pictures is left out",
  },
  options: {
    Ranks: {
      ranks: {
        value: "<n..m>",
        help: "numbers of ranks: from one to another, doubling, or a list, 1,2,4",
        default: "8..1024",
      },
      ranks_per_machine: {
        value: "<n>",
        help: "ranks that a machine takes",
        default: "as many as this one has cores for, with --threads each",
      },
    },
    "Between machines": {
      bandwidth: {
        value: "<rate>",
        help: "what the link of a machine carries each way: 25gbit, 940mbit",
        default: "10gbit",
      },
      latency_us: {
        value: "<x>",
        help: "microseconds that a message takes from one machine to another",
        default: "50",
      },
      message_us: {
        value: "<x>",
        help: "microseconds of a rank that sending or receiving a message costs, beside its bytes",
        default: "10",
      },
    },
    Computing: {
      step_ms: {
        value: "<x>",
        help: "milliseconds that a rank needs for a shard of --batch_size pictures with its machine full of ranks",
        default:
          "measured here, beside as many ranks as the cores hold; where a machine has more ranks, they share the cores",
      },
      steps: { value: "<n>", help: "steps measured, after two of warm-up", default: "10" },
      memory_gb_s: {
        value: "<x>",
        help: "10^9 bytes a second that a machine's memory moves, read and written",
        default: "measured here",
      },
    },
  },
  run: runPlan,
};

async function runPlan(invocation: Invocation, terminal: Terminal): Promise<number> {
  const { settings, own } = invocation;
  const { threads, data_dir: dataDir, shards, hcom_parallel, bucket_size, ...network } = settings;
  if (own.has("step_ms") && own.has("steps")) {
    throw new UsageError({
      what: "with --step_ms no step is measured",
      where: "option --steps",
      expected: "--step_ms or --steps",
      found: "both",
    });
  }
  const perMachine = own.has("ranks_per_machine")
    ? wholeNumber(invocation, "ranks_per_machine", 1)
    : undefined;
  const step = amount(invocation, "step_ms");
  if (step === 0) throw wrongValue("step_ms", "0", "a number above 0");
  const memory = amount(invocation, "memory_gb_s");
  if (memory === 0) throw wrongValue("memory_gb_s", "0", "a number above 0");
  const progress = startProgress(terminal);
  const plan = await planRanks(
    {
      network,
      ranks: ranksOf(invocation),
      shards,
      ranksPerMachine: perMachine,
      threads,
      step: step === undefined ? undefined : step / 1000,
      steps: wholeNumber(invocation, "steps", 10),
      memory: memory === undefined ? undefined : 1e9 * memory,
      bandwidth: bandwidthOf(invocation),
      latency: (amount(invocation, "latency_us") ?? 50) / 1e6,
      message: (amount(invocation, "message_us") ?? 10) / 1e6,
      overlap: hcom_parallel ?? table.hcom_parallel.default,
      bucketSize: 1024 * (bucket_size ?? table.bucket_size.default),
      dataDir,
    },
    (what, done, total) => progress.show({ label: what, done, total, columns: [] }),
  ).finally(() => progress.end());
  terminal.emit(plan);
  if (!terminal.json) printPlan(plan, terminal);
  return 0;
}

/** Numbers of ranks, ascending. */
function ranksOf({ own }: Invocation): number[] {
  const text = own.get("ranks") ?? "8..1024";
  const expected = `numbers from 1 to ${MOST_RANKS}: 8, 1,2,4 or 8..1024`;
  if (text === true || !/^\d{1,5}(?:\.\.\d{1,5}|(?:,\d{1,5})*)$/.test(text))
    throw wrongValue("ranks", text, expected);
  const numbers = text.split(/\.\.|,/).map(Number);
  if (numbers.some((n) => n < 1 || n > MOST_RANKS)) throw wrongValue("ranks", text, expected);
  if (!text.includes("..")) return [...new Set(numbers)].sort((a, b) => a - b);
  const [first = 1, last = 1] = numbers;
  if (first > last) throw wrongValue("ranks", text, "the smaller number first");
  const doubling: number[] = [];
  for (let n = first; n < last; n *= 2) doubling.push(n);
  return [...doubling, last];
}

/** The value of an own option that is a number from 0 to 10^9; undefined where it is not given. */
function amount({ own }: Invocation, name: string): number | undefined {
  const text = own.get(name);
  if (text === undefined) return undefined;
  const value = Number(text);
  if (text !== true && /^\d*\.?\d+$/.test(text) && value <= 1e9) return value;
  throw wrongValue(name, text, "a number from 0");
}

/** Bytes a second; written as tc writes rates (tc(8): 1gbit is 10^9 bits a second). */
function bandwidthOf({ own }: Invocation): number {
  const text = own.get("bandwidth") ?? "10gbit";
  const [, number, unit = ""] = (text !== true && /^(\d*\.?\d+)([kmg])bit$/i.exec(text)) || [];
  const bits = Number(number) * (UNITS[unit.toLowerCase()] ?? NaN);
  if (!(bits > 0 && bits <= 1e14)) throw wrongValue("bandwidth", text, "a rate such as 25gbit or 940mbit");
  return bits / 8;
}

const UNITS: Readonly<Record<string, number>> = { k: 1e3, m: 1e6, g: 1e9 };

function printPlan(plan: RankPlan, terminal: Terminal): void {
  for (const line of assumptions(plan)) terminal.print(line);
  terminal.table({
    head: ["ranks", "machines", "pictures a step", "step ms", "images/s", "efficiency", "exposed"],
    align: ["right", "right", "right", "right", "right", "right", "right"],
    spare: [2, 1],
    rows: plan.rows.map((row) => [
      count(row.ranks),
      count(row.machines),
      count(row.images_per_step),
      count(row.step_ms, 1),
      rate(row.images_per_second),
      percent(row.efficiency),
      percent(row.exposed_ms / row.step_ms),
    ]),
  });
  terminal.print(
    "Efficiency is against one rank that runs all shards; exposed, the share of a step in which ranks only wait for the exchange",
  );
  if (plan.input !== null) for (const line of inputLines(plan, plan.input)) terminal.print(line);
  terminal.print(`To train so: ${nextCommand(plan)}`);
}

/** What the table is computed from. */
function assumptions(plan: RankPlan): string[] {
  const { threads, cores, forward_ms, backward_ms, update_ms, rows } = plan;
  const step = forward_ms + backward_ms + update_ms;
  const parts = [forward_ms, backward_ms, update_ms].map((ms) => ms.toFixed(0));
  const source = plan.measured
    ? `measured on ${several(cores, "core")} with ${several(1 + plan.measured_beside, "rank")} at work`
    : "as given";
  const most = Math.min(plan.ranks_per_machine, rows.at(-1)?.ranks ?? 1);
  const shared = most * threads > cores ? `; ${count(most)} ranks share the cores` : "";
  const overlap = plan.hcom_parallel ? "during backward" : "after backward";
  return [
    titled("Network", `${plan.network}, ${plan.image_size} px, ${count(plan.batch_size)} pictures a shard`),
    titled(
      "Computing",
      `${step.toFixed(0)} ms a shard with ${several(threads, "thread")} ` +
        `(forward, backward, update: ${parts.join(", ")}), ${source}${shared}`,
    ),
    titled(
      "Exchange",
      `${bytes(plan.gradient_bytes)} of gradients in ${several(plan.bucket_bytes.length, "bucket")} ` +
        `and ${bytes(plan.statistics_bytes)} of statistics`,
    ),
    ...(rows.some(({ ranks, machines }) => ranks > 1 && machines === 1)
      ? [
          titled(
            "",
            `inside a machine after backward; memory moves ${plan.memory_gb_per_second.toFixed(1)} GB/s`,
          ),
        ]
      : []),
    ...(rows.some(({ machines }) => machines > 1)
      ? [
          titled(
            "",
            `between machines ${overlap}; ${plan.bandwidth_gbit} Gbit/s each, ` +
              `latency ${plan.latency_us} µs, ${plan.message_us} µs a message`,
          ),
        ]
      : []),
  ];
}

function inputLines({ bandwidth_gbit, rows }: RankPlan, input: InputPlan): string[] {
  const { images_per_second, cpu_ms_per_image, processor_share, ranks_per_file_server } = input;
  const most = rows.at(-1)?.input_mb_per_second ?? 0;
  return [
    titled(
      "Pictures",
      `${cpu_ms_per_image.toFixed(2)} ms of processor time and ${bytes(input.bytes_per_image)} each; ` +
        `this machine alone reads ${rate(images_per_second)} a second`,
    ),
    titled(
      "",
      `they take ${percent(processor_share)} of a machine's processors, whatever the number of machines (counted above)`,
    ),
    titled(
      "",
      `one file server with a link of ${bandwidth_gbit} Gbit/s feeds about ${count(ranks_per_file_server)} ranks; ` +
        `the last row reads ${count(most)} MB/s`,
    ),
  ];
}

/** The first row's run, as one would start it. */
function nextCommand({ rows, batch_size, threads, ranks_per_machine, input }: RankPlan): string {
  const [{ ranks, machines, shards } = { ranks: 1, machines: 1, shards: 1 }] = rows;
  const hosts = machines > 1 ? ` --hosts HOSTS` : "";
  const many = shards === ranks ? "" : ` --shards ${shards}`;
  const start =
    ranks === 1 ? "npx riffle-vision train" : `npx riffle-vision launch --ranks ${ranks}${hosts} -- train`;
  const note =
    machines > 1 ? `   (HOSTS names ${machines} machines, each with slots=${ranks_per_machine})` : "";
  const data = input === null ? "DATA" : shellWord(input.data_dir);
  return `${start} --data_dir ${data} --batch_size ${batch_size} --threads ${threads}${many}${note}`;
}
