/** `--profiling`: a trace that adds up, a table that agrees with it, pages that load nothing, and a run that is the same. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import type { StepTimes } from "../../src/run/profile/layer-times.js";
import { rooflinePage } from "../../src/run/profile/roofline-page.js";
import type { TraceEvent } from "../../src/run/profile/trace.js";
import type { ProfileEvent } from "../../src/run/events.js";
import type { GivenSettings } from "../../src/settings/settings.js";
import { train } from "../../src/train/trainer.js";
import { families, needsMpi, startRanks } from "../support/mpi.js";
import { scratch, tinySettings, trainAndWatch, trainedBits, writeTinySet } from "../support/tiny-run.js";

const folder = scratch();
const data = writeTinySet(folder);

/** Steps long enough for what happens once a step not to count, on a machine that others use, too. */
const settings: GivenSettings = {
  ...tinySettings(data, ""),
  width: 1,
  image_size: 96,
  batch_size: 16,
  max_epochs: 4,
  save_summary_steps: 0,
};

interface Profiled {
  readonly run: string;
  readonly event: ProfileEvent;
  readonly trace: readonly TraceEvent[];
  readonly times: StepTimes;
}

async function profiled(name: string, given: GivenSettings): Promise<Profiled> {
  const run = join(folder, name);
  const { events } = await trainAndWatch({ ...settings, ...given, log_dir: run, profiling: true });
  const event = events.find((each) => each.event === "profile");
  assert.ok(event, JSON.stringify(events.filter((each) => each.event === "warning")));
  return { run, event, ...readProfile(run) };
}

function readProfile(run: string): Pick<Profiled, "trace" | "times"> {
  const path = join(run, "profile");
  assert.deepEqual(readdirSync(path).sort(), ["layers.json", "roofline.html", "trace.json"]);
  const { traceEvents } = JSON.parse(readFileSync(join(path, "trace.json"), "utf8")) as {
    traceEvents: TraceEvent[];
  };
  const times = JSON.parse(readFileSync(join(path, "layers.json"), "utf8")) as StepTimes;
  return { trace: traceEvents, times };
}

/** Spans by process and thread, in order of time. */
function rowsOf(trace: readonly TraceEvent[]): Map<string, Required<TraceEvent>[]> {
  const names = new Map(
    trace.flatMap((each) =>
      each.name === "thread_name" ? [[`${each.pid} ${each.tid}`, String(each.args?.["name"])] as const] : [],
    ),
  );
  const rows = new Map<string, Required<TraceEvent>[]>();
  for (const event of trace) {
    if (event.ph !== "X") continue;
    const name = `${event.pid} ${names.get(`${event.pid} ${event.tid}`)}`;
    rows.set(name, [...(rows.get(name) ?? []), event as Required<TraceEvent>]);
  }
  for (const row of rows.values()) row.sort((a, b) => a.ts - b.ts);
  return rows;
}

function assertNoOverlap(rows: ReturnType<typeof rowsOf>): void {
  for (const [name, row] of rows) {
    row.forEach(({ ts, dur }, i) => {
      assert.ok(dur >= 0, `${name}: a span of ${dur}`);
      const end = ts + dur;
      // Microseconds with three decimals, as binary fractions.
      const next = row[i + 1]?.ts ?? Infinity;
      assert.ok(next >= end - 1e-4, `${name}: a span ends at ${end}, the next begins at ${next}`);
    });
  }
}

function sum(row: readonly Required<TraceEvent>[] | undefined): number {
  return (row ?? []).reduce((total, { dur }) => total + dur, 0);
}

/** What the caller's thread in the engine and the loop's other work leave of the steps' time. */
function uncovered(rows: ReturnType<typeof rowsOf>): number {
  const wall = sum(rows.get("0 steps"));
  const loop = rows.get("0 training loop") ?? [];
  const computing = loop.filter(({ name }) => name === "computes");
  const covered = sum(rows.get("0 engine thread 0")) + sum(loop) - sum(computing);
  return (wall - covered) / wall;
}

suite("a profiled run", () => {
  let profile: Profiled;
  before(async () => {
    // Something else may run for a moment.
    for (let attempt = 0; attempt < 3; attempt++) {
      profile = await profiled(`run-${attempt}`, { profile_steps: "3-10", threads: 2 });
      if (Math.abs(uncovered(rowsOf(profile.trace))) < 0.03) break;
    }
  });

  test("has rows for the steps, the loop, each thread of the engine and those that decode", () => {
    const rows = rowsOf(profile.trace);
    for (const name of ["steps", "training loop", "engine thread 0", "engine thread 1"])
      assert.ok((rows.get(`0 ${name}`)?.length ?? 0) > 0, `${name} of ${[...rows.keys()].join(", ")}`);
    assert.deepEqual(
      rows.get("0 steps")?.map(({ name }) => name),
      Array.from({ length: 8 }, (_, i) => `step ${i + 3}`),
    );
    const spans = rows.get("0 engine thread 0")?.map(({ name }) => name) ?? [];
    for (const name of ["conv1 forward", "stage3.unit2.main.depthwise backward", "loss", "update"])
      assert.equal(spans.filter((each) => each === name).length > 7, true, name);
    assert.ok(rows.get("0 training loop")?.some(({ name }) => name === "evaluates"));
    assert.ok(rows.get("0 training loop")?.some(({ name }) => name === "saves"));
  });

  test("has no spans that overlap in a thread", () => {
    assertNoOverlap(rowsOf(profile.trace));
  });

  test("accounts for the time of its steps to 3 %", () => {
    const rows = rowsOf(profile.trace);
    assert.ok(Math.abs(uncovered(rows)) < 0.03, `${100 * uncovered(rows)} % are in no span`);
    const loop = sum(rows.get("0 training loop"));
    assert.ok(Math.abs(loop / sum(rows.get("0 steps")) - 1) < 0.001);
  });

  test("has a table that adds up to the trace and to the network's cost", () => {
    const { times, trace, event } = profile;
    assert.deepEqual([times.first_step, times.last_step], [3, 10]);
    const total = Object.values(times.parts).reduce((a, b) => a + b, 0);
    assert.ok(Math.abs(total / times.seconds - 1) < 0.001, `${total} of ${times.seconds}`);
    const rows = rowsOf(trace);
    assert.ok(Math.abs((8 * times.seconds * 1e6) / sum(rows.get("0 steps")) - 1) < 0.001);
    const layers = times.layers.filter(({ direction }) => direction === "forward");
    assert.deepEqual([layers.length, times.layers.length], [57, 114]);
    const conv1 = layers[0];
    // 24 outputs of 27 taps at 48 x 48 pixels of 16 pictures, two operations each.
    assert.equal(conv1?.operations, 2 * 24 * 27 * 48 * 48 * 16);
    for (const direction of ["forward", "backward"] as const) {
      const seconds = times.layers
        .filter((each) => each.direction === direction)
        .reduce((all, each) => all + each.seconds, 0);
      assert.ok(Math.abs(seconds / times.parts[direction] - 1) < 1e-6);
    }
    for (const { gflops, roofline, share, waiting } of times.layers) {
      assert.ok(gflops > 0 && share > 0 && share < 1 && waiting >= 0 && waiting <= 1);
      assert.ok(roofline !== null && roofline > 0);
    }
    assert.equal(event.layers_in_all, 114);
    assert.deepEqual(
      event.layers.map(({ seconds }) => seconds),
      times.layers
        .map(({ seconds }) => seconds)
        .sort((a, b) => b - a)
        .slice(0, 12),
    );
  });

  test("has a page with a point for each layer and direction that loads nothing", () => {
    const page = readFileSync(join(profile.run, "profile", "roofline.html"), "utf8");
    assert.equal(page.match(/<g class="point"/g)?.length, 114);
    assert.match(page, /<path class="roof" d="M[\d. L]+"/);
    assert.match(page, /stage4\.unit1\.side\.depthwise backward/);
    assert.doesNotMatch(page, /<script|<link|src=|url\(|@import|https?:/);
    assert.match(page, /prefers-color-scheme: dark/);
    assert.doesNotMatch(page, /NaN|Infinity|undefined/);
  });

  test("ends with the bits of one that is not profiled", async () => {
    const plain = await train({ ...settings, log_dir: join(folder, "plain"), threads: 2 });
    assert.equal(trainedBits(join(profile.run, `step-${plain.step}`)), trainedBits(plain.checkpoint));
  });
});

suite("which steps are profiled", () => {
  const short = { ...settings, width: 0.5, image_size: 32, batch_size: 8 } as const;

  test("the 5th to the 14th of the command, counted anew after a resume", async () => {
    const run = join(folder, "usual");
    const window = async (given: GivenSettings): Promise<number[]> => {
      const { events } = await trainAndWatch(given);
      return events.flatMap((each) => (each.event === "profile" ? [each.first_step, each.last_step] : []));
    };
    assert.deepEqual(await window({ ...short, log_dir: run, profiling: true, max_train_steps: 16 }), [5, 14]);
    assert.deepEqual(await window({ resume: run, max_train_steps: 22 }), [17, 22]);
    assert.deepEqual(await window({ resume: run, max_train_steps: 24 }), [23, 24]);
  });

  test("several shards of a step are one step", async () => {
    const { trace, times } = await profiled("shards", { ...short, shards: 3, profile_steps: "2-3" });
    const rows = rowsOf(trace);
    assertNoOverlap(rows);
    assert.equal(rows.get("0 steps")?.length, 2);
    assert.ok(rows.get("0 engine thread 0")?.some(({ name }) => name === "adds shards"));
    assert.equal(times.layers[0]?.operations, 3 * 2 * 24 * 27 * 16 * 16 * 8);
  });

  for (const [given, message] of [
    [{ profile_steps: "5-99", profiling: true }, /does not make these steps/],
    [{ profile_steps: "5-4", profiling: true }, /no steps of a run/],
    [{ profile_steps: "1-2|4", profiling: true }, /no steps of a run/],
    [{ profile_steps: "1-2" }, /--profiling beside it/],
    [{ profile_steps: "1-2000", profiling: true }, /at most 1000 steps/],
  ] as const) {
    test(`${JSON.stringify(given)} is refused`, async () => {
      await assert.rejects(train({ ...short, log_dir: join(folder, "refused"), ...given }), message);
    });
  }
});

suite("several ranks", () => {
  for (const family of families) {
    test(`are on one line of time, each a process of the trace (${family})`, needsMpi(family), async () => {
      const run = join(folder, family);
      const given = { ...settings, width: 0.5, batch_size: 8, log_dir: run, profiling: true, threads: 1 };
      const argv = Object.entries(given).map(([name, value]) => `--${name}=${String(value)}`);
      const { code, stderr } = await startRanks(family, 2, ["train", ...argv, "--profile_steps=2-4"]).ended;
      assert.equal(code, 0, stderr);
      const { trace, times } = readProfile(run);
      const rows = rowsOf(trace);
      assertNoOverlap(rows);
      const [first, second] = [rows.get("0 steps"), rows.get("1 steps")];
      assert.deepEqual([first?.length, second?.length], [3, 3]);
      // Nobody updates before all have a step's gradients, which come after everybody's update before it.
      const [own = [], others = []] = [0, 1].map((rank) =>
        (rows.get(`${rank} engine thread 0`) ?? [])
          .filter(({ name }) => name === "update")
          .map(({ ts }) => ts),
      );
      assert.deepEqual([own.length, others.length], [3, 3]);
      others.forEach((ts, i) => {
        assert.ok(
          ts > (own[i - 1] ?? -Infinity) && ts < (own[i + 1] ?? Infinity),
          `${ts} among ${own.join(" ")}`,
        );
      });
      assert.ok(times.parts.exchanging > 0);
    });
  }
});

test("a name in the page is text, whatever it is", () => {
  const layer = {
    layer: '<script>"&',
    kind: "head",
    direction: "forward",
    seconds: 1,
    share: 1,
    waiting: 0,
    bytes: 1,
    operations: 1,
    gflops: 1,
    intensity: 1,
    roofline: null,
  } as const;
  const times = {
    first_step: 1,
    last_step: 1,
    seconds: 1,
    parts: {} as StepTimes["parts"],
    gflops: 1,
    peak_gflops: null,
    copy_gb_per_second: null,
    layers: [layer],
  };
  const page = rooflinePage(times, { network: "a<b", machine: "" });
  assert.ok(page.includes("&lt;script&gt;&quot;&amp;") && page.includes("a&lt;b"));
  assert.ok(!page.includes("<script"));
});
