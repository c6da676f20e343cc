/** `riffle find-lr`: which learning rate these pictures, this network and this batch can be trained at. */

import { dirname, resolve } from "node:path";

import { RIFFLE } from "../core/call.js";
import { makeFolder, probeFolder } from "../core/durable.js";
import { UsageError } from "../core/error.js";
import { shortPath } from "../core/short-path.js";
import { plain } from "../report/figures.js";
import { mayReplace, replaceOwn } from "../report/own-file.js";
import { ratePage } from "../report/rate-page.js";
import { valuesOf } from "../settings/read-settings.js";
import { type SettingName, settings as table, settingsOf } from "../settings/settings.js";
import { findRate, type FoundRate, type RateTest } from "../train/find-rate.js";
import { type CliCommand, type Invocation, wholeNumber, wrongValue } from "./command.js";
import { count, shellWord } from "./format.js";
import { startProgress } from "./progress.js";
import { preparing, titled, weightsLines } from "./report-run.js";
import { listenForStop } from "./stop.js";
import type { Terminal } from "./terminal.js";

/** What is looked for, how long a run is, and what it saves when: no part of a test. */
const NOT_TAKEN: ReadonlySet<SettingName> = new Set<SettingName>([
  ...(["lr", "end_learning_rate", "schedule", "warmup_epochs", "max_epochs", "budget"] as const),
  ...(["max_train_steps", "patience", "grow_epochs", "rank_size", "log_dir", "resume", "mode"] as const),
]);

/** Of a run's own settings those that decide its numbers, or how fast they come. */
const OF_RUN: ReadonlySet<SettingName> = new Set<SettingName>([
  ...([
    "precision_mode",
    "loss_scale",
    "loss_scale_value",
    "backend",
    "threads",
    "autotune",
    "shards",
  ] as const),
]);

const USUAL = { from: "0.00001", to: "10", steps: 100, output: "learning-rates.html" } as const;

export const findLrCommand: CliCommand = {
  name: "find-lr",
  arguments: "[data]",
  purpose:
    "Looks for a learning rate: steps at rates that rise from one to the next, until the loss runs away; trains nothing.",
  examples: [
    "npx riffle-vision find-lr photos",
    "npx riffle-vision find-lr photos --from imagenet --batch_size 64",
    "npx riffle-vision find-lr photos --width 0.5 --image_size 96 --output rates.html",
  ],
  settings: settingsOf("train").filter(
    (name) => OF_RUN.has(name) || (!NOT_TAKEN.has(name) && !["run", "ranks"].includes(table[name].group)),
  ),
  options: {
    Rates: {
      lowest: { value: "<x>", help: "the first rate", default: USUAL.from },
      highest: {
        value: "<x>",
        help: "the last rate, where the loss has not run away before",
        default: USUAL.to,
      },
      steps: { value: "<n>", help: "steps from one to the other", default: String(USUAL.steps) },
      output: { value: "<file>", help: "the curve, a page of HTML", default: USUAL.output },
    },
  },
  run: findLr,
};

async function findLr(invocation: Invocation, terminal: Terminal): Promise<number> {
  const { settings } = invocation;
  const test: RateTest = {
    from: rateOf(invocation, "lowest", USUAL.from),
    to: rateOf(invocation, "highest", USUAL.to),
    steps: wholeNumber(invocation, "steps", USUAL.steps),
  };
  if (test.from >= test.to) throw wrongValue("highest", String(test.to), `more than --lowest ${test.from}`);
  if (test.steps < FEWEST_STEPS) throw wrongValue("steps", String(test.steps), `at least ${FEWEST_STEPS}`);
  const output = resolve(textOf(invocation, "output", USUAL.output));
  await refuseForeign(output);
  // The folder is made again when there is something to put into it.
  const leaveNothing = await probeFolder(dirname(output), "--output");
  await leaveNothing();
  const progress = startProgress(terminal);
  const stop = listenForStop(terminal, () => "Stopping.");
  let found: FoundRate;
  try {
    found = await findRate(
      settings,
      test,
      (event) => {
        if (event.event === "preparing") progress.show(preparing(event));
        else terminal.emit(event);
        if (event.event === "weights") for (const line of weightsLines(event)) progress.note(line);
        if (event.event === "warning") progress.note(`warning: ${event.what}`);
      },
      ({ rate, loss }, done) => {
        terminal.emit({ event: "rate", step: done, learning_rate: rate, cross_entropy: loss });
        const columns = [`rate ${plain(rate, 2)}`, `loss ${loss.toFixed(3)}`];
        progress.show({ label: "trying", done, total: test.steps, columns });
      },
      stop.signal,
    );
  } catch (error) {
    if (!stop.signal.aborted || error !== stop.signal.reason) throw error;
    terminal.note("Stopped. Nothing was trained or written.");
    return stop.exitCode;
  } finally {
    progress.end();
    stop.release();
  }
  const command = nextCommand(invocation, found, test);
  const rows = rowsOf(found, test);
  await makeFolder(dirname(output));
  if (!(await replaceOwn(output, ratePage(found, rows, command)))) await refuseForeign(output);
  const { suggested, steepest, lowest, rises, diverged, images_per_step } = found;
  terminal.emit({ event: "end", suggested, steepest, lowest, rises, diverged, images_per_step, output });
  for (const [title, text] of rows) terminal.print(titled(title, text));
  terminal.print(titled("Curve", shellWord(shortPath(output))));
  terminal.print(titled("Next", command));
  return 0;
}

/** Fewer say nothing. */
const FEWEST_STEPS = 20;

function rowsOf(found: FoundRate, test: RateTest): [title: string, text: string][] {
  const { settings: s, tried, diverged, lowest, steepest, rises, suggested } = found;
  const [first, last] = [tried[0], tried.at(-1)];
  const span = `${count(tried.length)} steps from rate ${plain(first?.rate ?? test.from, 2)} to ${plain(last?.rate ?? test.to, 2)}`;
  const reading =
    lowest !== null && steepest !== null
      ? `the loss falls fastest at rate ${plain(steepest, 2)} and is lowest at ${plain(lowest, 2)}`
      : rises === null
        ? "the loss neither falls nor rises clearly; another --highest, or more --steps, may say more"
        : s.init_from !== undefined
          ? `the loss falls nowhere, for the weights know such pictures, and rises from rate ${plain(rises, 2)} on`
          : `the loss does not fall in so few steps from nothing, and rises from rate ${plain(rises, 2)} on, which a warm-up bears: ` +
            `recipe ${s.recipe} has rate ${s.lr} after a warm-up of ${plain(s.warmup_epochs, 2)} epochs; more --steps may say more`;
  return [
    [
      "Tried",
      `${span}${diverged ? ", where the loss ran away" : ""}; ${s.recipe}, ${count(found.images_per_step)} pictures a step`,
    ],
    ["Says", reading],
    ...(suggested === null ? [] : [["Suggests", `--lr ${suggested}, ${whence(found)}`] as [string, string]]),
  ];
}

/** Where the suggestion comes from. */
function whence({ suggested, lowest, steepest }: FoundRate): string {
  if (lowest === null) return "a tenth of where it rises";
  return suggested === Number((steepest ?? NaN).toPrecision(2))
    ? "where it falls fastest"
    : "a tenth of the lowest's";
}

/** Training as it was tried, at the rate that was found; where none was, a longer test. */
function nextCommand({ settings }: Invocation, { suggested }: FoundRate, { steps }: RateTest): string {
  const { data_dir, ...others } = settings;
  const data = data_dir === undefined ? [] : [shellWord(data_dir)];
  const options = Object.entries(
    valuesOf({ ...others, ...(suggested === null ? {} : { lr: suggested }) }),
  ).map(([name, value]) => `--${name} ${shellWord(String(value))}`);
  return suggested === null
    ? [RIFFLE, "find-lr", ...data, ...options, `--steps ${LONGER * steps}`].join(" ")
    : [RIFFLE, "train", ...data, ...options].join(" ");
}

/** Times as many steps as said nothing. */
const LONGER = 4;

function rateOf({ own }: Invocation, name: string, fallback: string): number {
  const text = own.get(name) ?? fallback;
  const value = Number(text);
  if (text !== true && text !== "" && Number.isFinite(value) && value > 0) return value;
  throw wrongValue(name, text, "a rate above 0");
}

function textOf({ own }: Invocation, name: string, fallback: string): string {
  const value = own.get(name);
  return typeof value === "string" ? value : fallback;
}

/** @throws UsageError where a file stands that is not as it was written here */
async function refuseForeign(path: string): Promise<void> {
  if (await mayReplace(path)) return;
  throw new UsageError({
    what: "the file that the curve would replace was not written here, or was changed",
    where: path,
    safe: "It was left as it is",
    hint: "Name another file with --output",
  });
}
