/** `riffle create-tfrecords`: pictures, labels and boxes into TFRecord shards, the way the original is called. */

import { availableParallelism } from "node:os";

import { UsageError } from "../core/error.js";
import { type RecordFormats, recordFormats } from "../prepare/records/build-record.js";
import { createRecords, type CreateResult } from "../prepare/records/create-records.js";
import { SKIPPED_FILE } from "../prepare/records/record-plan.js";
import { settings as table } from "../settings/settings.js";
import { type CliCommand, type Invocation, wholeNumber } from "./command.js";
import { bytes, count, duration, rate, shellWord } from "./format.js";
import { startProgress } from "./progress.js";
import { titled } from "./report-run.js";
import { listenForStop } from "./stop.js";
import type { Terminal } from "./terminal.js";

export const createTfrecordsCommand: CliCommand = {
  name: "create-tfrecords",
  purpose: "Writes pictures, labels and boxes into TFRecord shards; run again, it finishes what was begun.",
  examples: [
    "npx riffle-vision create-tfrecords -m training_metadata.csv -o train_shards -l integer_encoding.json -b boxes.npy -s 1000",
    "npx riffle-vision create-tfrecords -m validation_metadata.csv -o eval_shards -l integer_encoding.json -s 100",
    "npx riffle-vision create-tfrecords -m training_metadata.csv -o train_shards -l integer_encoding.json --verify --jobs 8",
  ],
  options: {
    Data: {
      metadata_file: {
        short: "m",
        value: "<path>",
        help: "CSV of pictures: path, wordnet_id, just_name; explore-imagenet writes it",
      },
      labels: {
        short: "l",
        value: "<path>",
        help: "JSON: a label for every wordnet_id; explore-imagenet writes it",
      },
      boxes: {
        short: "b",
        value: "<path>",
        help: "boxes.npy of explore-imagenet, for training",
        default: "none; the records have no xmin, ymin, xmax, ymax",
      },
      verify: {
        help: "decode every picture, and leave out what does not decode; else headers are looked at, as in the original",
      },
    },
    Pictures: {
      formats: {
        value: "<all|jpeg>",
        help: "all: PNG, WebP, GIF, TIFF and AVIF are kept as they are; jpeg: left out, as the original does",
        default:
          "all; jpeg where every class is a WordNet id, so that ImageNet's records are the published ones",
      },
    },
    Shards: {
      output: { short: "o", value: "<path>", help: "the folder of the shards" },
      num_shards: {
        short: "s",
        value: "<n>",
        help: "number of files; each takes ceil(pictures / n) records",
        default: "1000",
      },
    },
    Run: {
      jobs: {
        value: "<n>",
        help: "threads that read pictures; the shards do not depend on it",
        default: `${availableParallelism()}, the cores here`,
      },
    },
  },
  settings: ["seed"],
  run: create,
};

async function create(invocation: Invocation, terminal: Terminal): Promise<number> {
  terminal.keepGoing();
  const boxes = invocation.own.get("boxes");
  const settings = {
    metadata: needed(invocation, "metadata_file"),
    labels: needed(invocation, "labels"),
    boxes: boxes === undefined ? undefined : String(boxes),
    output: needed(invocation, "output"),
    shards: wholeNumber(invocation, "num_shards", 1000),
    seed: invocation.settings.seed ?? table.seed.default,
    verify: invocation.own.has("verify"),
    formats: formatsOf(invocation),
    jobs: wholeNumber(invocation, "jobs", availableParallelism()),
  };
  const progress = startProgress(terminal);
  const stop = listenForStop(
    terminal,
    () => "Stopping after the shard being written; press Ctrl-C again to quit at once.",
  );
  try {
    const result = await createRecords(settings, {
      signal: stop.signal,
      note: (line) => progress.note(line),
      progress: ({ phase, done, total, rate: perSecond }) =>
        progress.show({
          label: phase,
          done,
          total,
          secondsLeft: perSecond > 0 ? (total - done) / perSecond : 0,
          columns: [{ rate: `${rate(perSecond)} img/s` }],
        }),
    });
    progress.end();
    report(result, terminal);
    return result.stopped ? stop.exitCode : 0;
  } finally {
    progress.end();
    stop.release();
  }
}

function report(result: CreateResult, terminal: Terminal): void {
  const { stopped, output, rows, records, shards, foundShards, reencoded, skipped, written, seconds } =
    result;
  const found = foundShards > 0 ? `, ${count(foundShards)} of them found finished` : "";
  terminal.print(titled("Shards", `${count(shards)} in ${output}, ${bytes(result.bytes)}${found}`));
  terminal.print(
    titled(
      "Pictures",
      `${count(records)} written, ${count(reencoded)} of them from grayscale; ${count(skipped.length)} skipped` +
        (stopped ? ` · of ${count(rows)} so far` : ""),
    ),
  );
  for (const { path, reason } of skipped.slice(0, SHOWN)) terminal.print(titled("", `${path}: ${reason}`));
  if (skipped.length > SHOWN) terminal.print(titled("", `... all of them in ${SKIPPED_FILE}`));
  if (written > 0) {
    terminal.print(titled("Speed", `${rate(written / seconds)} images/s · ${duration(seconds)}`));
  }
  terminal.print(
    stopped
      ? titled("Go on", `${commandLine()}`)
      : titled("Next", `npx riffle-vision verify-data ${shellWord(output)}`),
  );
  terminal.emit({ event: "end", ...result });
}

/** Skipped pictures named on the terminal; ImageNet has 23. */
const SHOWN = 5;

/** This very command, to paste. */
function commandLine(): string {
  return ["npx riffle-vision", ...process.argv.slice(2).map(shellWord)].join(" ");
}

function formatsOf(invocation: Invocation): RecordFormats | undefined {
  const given = invocation.own.get("formats");
  if (given === undefined) return undefined;
  const found = recordFormats.find((name) => name === given);
  if (found !== undefined) return found;
  throw new UsageError({
    what: "no such choice of formats",
    where: "option --formats",
    expected: recordFormats.join(" or "),
    found: String(given),
    safe: "Nothing was read or written",
  });
}

function needed(invocation: Invocation, name: string): string {
  const given = invocation.own.get(name);
  if (typeof given === "string" && given !== "") return given;
  throw new UsageError({
    what: `--${name} is needed`,
    where: `option --${name}`,
    safe: "Nothing was read or written",
    hint: "npx riffle-vision create-tfrecords --help gives examples",
  });
}
