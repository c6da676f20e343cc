/**
 * The report of a run as its user meets it: written at the end of training and of an evaluation, and by `riffle report`; what
 * cannot be written or scored is said, and never makes a failure of a training.
 */

import assert from "node:assert/strict";
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { before, suite, test } from "node:test";

import { reportError } from "../../src/cli/report-error.js";
import { runRiffle } from "../../src/cli/riffle.js";
import { openTerminal } from "../../src/cli/terminal.js";
import { evaluate } from "../../src/inference/evaluate.js";
import { writeReport } from "../../src/report/write-report.js";
import type { GivenSettings } from "../../src/settings/settings.js";
import { freshRuns } from "../support/fresh-runs.js";
import { tinySettings, trainAndWatch } from "../support/tiny-run.js";

const { data, fresh } = freshRuns();
const reported = (run: string): GivenSettings => ({
  ...tinySettings(data, run),
  max_train_steps: 6,
  report: true,
});

/** Runs a command line in this process, and says what it printed. */
async function riffle(
  ...argv: readonly string[]
): Promise<{ readonly status: number; readonly stdout: string; readonly stderr: string }> {
  const printed = { stdout: "", stderr: "" };
  const into = (name: keyof typeof printed): PassThrough =>
    new PassThrough().on("data", (piece: Buffer) => void (printed[name] += String(piece)));
  const terminal = openTerminal(argv.includes("--json"), { stdout: into("stdout"), stderr: into("stderr") });
  let status: number;
  try {
    status = await runRiffle(argv, terminal);
  } catch (error) {
    status = reportError(error, terminal, false);
  }
  await new Promise(setImmediate);
  return { status, ...printed };
}

function pageOf(run: string): string {
  return readFileSync(join(run, "report.html"), "utf8");
}

suite("the report of a training", () => {
  const run = fresh();
  let events: Awaited<ReturnType<typeof trainAndWatch>>["events"];
  before(async () => {
    const { result, events: told } = await trainAndWatch(reported(run));
    assert.equal(result.report, join(run, "report.html"));
    events = told;
  });

  test("is told of after the end", () => {
    const { event, ...told } = events.at(-1) ?? {};
    assert.equal(event, "report");
    assert.deepEqual(told, { path: join(run, "report.html"), card: join(run, "model-card.md"), scored: 12 });
    assert.doesNotMatch(readFileSync(join(run, "events.jsonl"), "utf8"), /"report":?"?,"path/);
  });

  test("has the scores that evaluate gives, and says of which pictures", async () => {
    const { top1, loss } = await evaluate(run, {});
    const page = pageOf(run);
    assert.match(page, /Of 12 pictures of the validation part, after step 6\./);
    assert.ok(page.includes(`<b>${(100 * top1).toFixed(1)} %</b><span>top-1`));
    assert.ok(page.includes(`<b>${Number(loss.toPrecision(4))}</b><span>loss`));
    const card = readFileSync(join(run, "model-card.md"), "utf8");
    assert.ok(card.includes(`| top-1 | ${(100 * top1).toFixed(1)} % (`));
  });

  test("shows pictures of the set, small and inside the page", () => {
    const pictures = [...pageOf(run).matchAll(/<img src="data:image\/jpeg;base64,([^"]+)"/g)];
    assert.equal(pictures.length, 12);
    for (const [, base64 = ""] of pictures) {
      assert.deepEqual([...Buffer.from(base64, "base64").subarray(0, 3)], [0xff, 0xd8, 0xff]);
    }
  });

  test("shows where the network looked in each, and what the data are like", () => {
    const page = pageOf(run);
    assert.equal([...page.matchAll(/<div class="looks">/g)].length, 12);
    // A map of each of four layers for a picture that was named right, and twice as many for another.
    const wrong = [...page.matchAll(/<span class="wrong">/g)].length;
    assert.equal([...page.matchAll(/<svg class="look/g)].length, 4 * 12 + 4 * wrong);
    assert.ok(wrong > 0 && page.includes("data:image/webp;base64,"));
    const compared =
      /12 scored pictures compared with each other and with 48 pictures that were trained on\./;
    for (const text of [page, readFileSync(join(run, "model-card.md"), "utf8")]) assert.match(text, compared);
    assert.match(page, /No two look alike\./);
  });

  test("gives the command that trains it again, to the same scores", async () => {
    const [, command = ""] =
      /^npx riffle-vision (train .*)$/m.exec(readFileSync(join(run, "model-card.md"), "utf8")) ?? [];
    const again = command.split(" ");
    const { status, stderr } = await riffle(...again, "--report", "false");
    assert.equal(status, 0, stderr);
    assert.deepEqual(await evaluate(`${run}-again`, {}), await evaluate(run, {}));
    assert.ok(!existsSync(join(`${run}-again`, "report.html")));
  });

  test("is written again by report, and by evaluate of the run as it is", async () => {
    const first = await riffle("report", run);
    assert.equal(first.status, 0, first.stderr);
    assert.match(
      first.stdout,
      /^Report +\S*report\.html · scores of 12 pictures\nCard +\S*model-card\.md\n$/,
    );
    rmSync(join(run, "report.html"));
    const evaluated = await riffle("evaluate", run, "--json");
    assert.equal(evaluated.status, 0, evaluated.stderr);
    const lines = evaluated.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { event: string });
    assert.deepEqual(
      lines.slice(-2).map(({ event }) => event),
      ["report", "end"],
    );
    assert.match(pageOf(run), /Of 12 pictures of the validation part/);
    rmSync(join(run, "report.html"));
    for (const more of [
      ["--report", "false"],
      ["--data_dir", data],
      ["--split", "train"],
    ]) {
      const { status, stderr } = await riffle("evaluate", run, ...more);
      assert.equal(status, 0, stderr);
      assert.ok(!existsSync(join(run, "report.html")), more.join(" "));
    }
    const refused = await riffle("evaluate", run, "--split", "train", "--report");
    assert.equal(refused.status, 2);
    assert.match(refused.stderr, /riffle-vision report RUN takes --split/);
    const asHinted = await writeReport(run, { split: "train" });
    assert.equal(asHinted.scored, 48);
    assert.match(pageOf(run), /48 pictures that the network was trained on/);
  });

  test("leaves a card that was changed by hand, and a page, as they are", async () => {
    appendFileSync(join(run, "model-card.md"), "For bees only.\n");
    const { card, warnings } = await writeReport(run);
    assert.equal(card, null);
    assert.match(warnings.join(), /model-card\.md was changed by hand/);
    assert.match(readFileSync(join(run, "model-card.md"), "utf8"), /For bees only\.\n$/);
    appendFileSync(join(run, "report.html"), "mine");
    await assert.rejects(writeReport(run), /not as Riffle wrote it/);
    assert.match(pageOf(run), /mine$/);
  });
});

suite("a training ends well without a report", () => {
  test("where it cannot be written", async () => {
    const run = fresh();
    const { result, events } = await trainAndWatch(reported(run), (event) => {
      if (event.event === "start") mkdirSync(join(run, "report.html"));
      return false;
    });
    assert.deepEqual([result.report, result.stopped, result.step], [null, false, 6]);
    const [warning] = events.flatMap((event) => (event.event === "warning" ? [event.what] : []));
    assert.match(warning ?? "", /the report is not written, and the run is whole: .*report\.html/);
  });

  test("where it was stopped while the report was made, which report makes up for", async () => {
    const run = fresh();
    let ended = false;
    const { result, events } = await trainAndWatch(reported(run), (event) => {
      ended ||= event.event === "end";
      return ended;
    });
    assert.deepEqual([result.report, result.stopped], [null, false]);
    const [warning = ""] = events.flatMap((event) => (event.event === "warning" ? [event.what] : []));
    assert.match(warning, /it was stopped; later: npx riffle-vision report /);
    const [, hint = ""] = /later: npx riffle-vision (report .*)$/.exec(warning) ?? [];
    assert.equal((await riffle(...hint.split(" "))).status, 0);
    assert.match(pageOf(run), /Of 12 pictures/);
  });

  test("of scores, where nothing was held out, no evaluation was asked for or no checkpoint was kept", async () => {
    const withNothingHeld = {
      ...reported(fresh()),
      data_dir: undefined,
      synthetic: true,
      train_dataset_size: 48,
      num_classes: 3,
    };
    const cases: [GivenSettings, RegExp][] = [
      [withNothingHeld, /No scores: nothing was held out: all pictures were trained on/],
      [
        { ...reported(fresh()), mode: "train" },
        /No scores: --mode train asked for none; npx riffle-vision report /,
      ],
      [{ ...reported(fresh()), do_checkpoint: false }, /No scores: the run kept no checkpoint/],
    ];
    for (const [given, expected] of cases) {
      const { result, events } = await trainAndWatch(given);
      assert.deepEqual(
        events.flatMap((event) => (event.event === "warning" ? [event.what] : [])),
        [],
      );
      assert.match(readFileSync(result.report ?? "", "utf8"), expected);
    }
  });

  test("where the run was stopped before its end", async () => {
    const run = fresh();
    const { result } = await trainAndWatch(
      reported(run),
      (event) => event.event === "step" && event.step === 3,
    );
    assert.deepEqual([result.stopped, result.report], [true, null]);
    assert.ok(!existsSync(join(run, "report.html")));
    const made = await writeReport(run);
    assert.equal(made.failure, undefined);
    assert.match(pageOf(run), /not at its end: 3 of 6 steps/);
  });
});

suite("riffle report", () => {
  test("says what is no run, and names the run of a checkpoint", async () => {
    const run = fresh();
    await trainAndWatch({ ...tinySettings(data, run), max_train_steps: 1 });
    const ofCheckpoint = await riffle("report", join(run, "best"));
    assert.equal(ofCheckpoint.status, 4);
    const [, hint = ""] = /riffle-vision (report \S+)/.exec(ofCheckpoint.stderr) ?? [];
    assert.equal((await riffle(...hint.split(" "))).status, 0);
    const nothing = await riffle("report", join(run, "nothing"));
    assert.deepEqual([nothing.status, /there is no such run/.test(nothing.stderr)], [4, true]);
    assert.equal((await riffle("report", join(run, ".."))).status, 4);
  });

  test("writes the curves, and says what kept it from scoring, where the data are gone", async () => {
    const run = fresh();
    await trainAndWatch({ ...tinySettings(data, run), max_train_steps: 1 });
    const { status, stderr, stdout } = await riffle("report", run, "--data_dir", join(run, "gone"));
    assert.notEqual(status, 0);
    assert.match(stderr, /warning: the report is without scores: .*gone/);
    assert.match(stdout, /report\.html · without scores/);
    assert.match(pageOf(run), /No scores: .*gone/);
  });
});
