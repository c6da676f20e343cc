import assert from "node:assert/strict";
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, suite, test } from "node:test";

import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { compile, type CompileOptions } from "../program/compile.js";
import type { Program } from "../program/program.js";
import { autotune, keptTunings, keptTuningText, tuningFile, tuningText } from "./autotune.js";
import type { Backend, Tuning } from "./backend.js";

const root = mkdtempSync(join(tmpdir(), "riffle-autotune-"));
after(() => rmSync(root, { recursive: true, force: true }));
let cases = 0;
beforeEach(() => {
  process.env["XDG_CACHE_HOME"] = join(root, `caches-${++cases}`);
});

function programOf(given: Partial<CompileOptions> = {}, classes = 5): Program {
  const network = shuffleNetV2({ variant: "torchvision", width: 0.5, classes });
  return compile(network, { batch: 2, imageSize: 32, mode: "infer", ...given });
}

const program = programOf();
const found: Tuning = {
  cuts: program.steps.map((_, i) => ({ blockColumns: 0, rowParts: 0, runs: i % 2 })),
  portion: 1,
};

/** One that counts how often it is asked to measure. */
function fake(isa = "plain"): Backend & { measured: number } {
  const backend = {
    name: "fake",
    measured: 0,
    machine: (given = isa) => ({ isa: given, forced: false, available: [isa], threads: 2, compiler: "none" }),
    tune: () => {
      backend.measured++;
      return Promise.resolve({ tuning: found, speedup: 1.07 });
    },
    fits: (_: Program, __: unknown, { cuts }: Tuning) =>
      cuts.length === program.steps.length && cuts.every(({ runs }) => runs < 9),
  };
  return backend as unknown as Backend & { measured: number };
}

const threads = { threads: 2 };

/** What is said, and how often it was measured, by asking once more. */
async function again(backend: ReturnType<typeof fake>): Promise<{ from: string; warnings: string[] }> {
  const warnings: string[] = [];
  const { tuning, report } = await autotune(backend, program, threads, {
    warn: (what) => warnings.push(what),
  });
  assert.deepEqual(JSON.parse(JSON.stringify(tuning)), JSON.parse(JSON.stringify(found)));
  return { from: report.from, warnings };
}

suite("a tuning", () => {
  test("is measured once, and read the next time", async () => {
    const backend = fake();
    assert.deepEqual(await again(backend), { from: "measured", warnings: [] });
    assert.deepEqual(await again(backend), { from: "cache", warnings: [] });
    assert.equal(backend.measured, 1);
    const { path } = tuningFile(backend, program, threads) ?? { path: "" };
    assert.deepEqual(readdirSync(join(path, "..")), [path.split("/").at(-1)]);
  });

  test("is of one machine, instruction set, number of threads and program", () => {
    const paths = [
      tuningFile(fake(), program, threads),
      tuningFile(fake("other"), program, threads),
      tuningFile(fake(), program, { threads: 3 }),
      tuningFile(fake(), program, { threads: 2, products: "dot" }),
      tuningFile(fake(), programOf({ batch: 3 }), threads),
      tuningFile(fake(), programOf({ imageSize: 64 }), threads),
      tuningFile(fake(), programOf({ mode: "train" }), threads),
      tuningFile(fake(), programOf({ storage: "bf16" }), threads),
      tuningFile(fake(), programOf({}, 6), threads),
    ].map((file) => file?.path);
    assert.equal(new Set(paths).size, paths.length);
    assert.equal(
      tuningFile(fake(), programOf(), { threads: 0 })?.path,
      paths[0],
      "0 threads: those there are",
    );
    const buckets = (bucketBytes: number) =>
      tuningFile(fake(), programOf({ mode: "train", bucketBytes }), threads)?.path;
    assert.equal(buckets(2 ** 14), buckets(2 ** 20), "how gradients are exchanged takes no part");
  });

  const damages: Readonly<Record<string, (text: string) => string>> = {
    "cut off": (text) => text.slice(0, text.length / 2),
    empty: () => "",
    "of another format": (text) => text.replace("riffle-tuning-1", "riffle-tuning-0"),
    "of another machine": (text) => text.replace('"isa":"plain"', '"isa":"wide"'),
    "with a value that the engine refuses": (text) => text.replace("[0,0,1]", "[0,0,9]"),
    "with a number that is none": (text) => text.replace("[0,0,1]", "[0,0,-1]"),
    "with a step too few": (text) => text.replace("[0,0,1],", ""),
    "with more than there should be": (text) => text.replace("{", '{"more":1,'),
    "too long": (text) => text + " ".repeat(2 ** 20),
  };
  for (const [name, damage] of Object.entries(damages)) {
    test(`in a file ${name} is said, measured again and replaced`, async () => {
      const backend = fake();
      await again(backend);
      const { path } = tuningFile(backend, program, threads) ?? { path: "" };
      const whole = readFileSync(path, "utf8");
      assert.notEqual(damage(whole), whole);
      writeFileSync(path, damage(whole));
      const { from, warnings } = await again(backend);
      assert.equal(from, "measured");
      assert.equal(warnings.length, 1);
      assert.match(warnings[0] ?? "", /^a kept tuning is passed over, it /);
      assert.equal(readFileSync(path, "utf8"), whole);
      assert.deepEqual(await again(backend), { from: "cache", warnings: [] });
    });
  }

  test(
    "is used where the folder cannot be written, and that is said",
    { skip: process.getuid?.() === 0 },
    async () => {
      const closed = join(root, "closed");
      writeFileSync(closed, "");
      chmodSync(closed, 0o400);
      process.env["XDG_CACHE_HOME"] = closed;
      const { from, warnings } = await again(fake());
      assert.equal(from, "measured");
      assert.match(warnings.at(-1) ?? "", /^the tuning is not kept: /);
    },
  );

  test("of a folder that is a file is used all the same", async () => {
    const file = join(root, "file");
    writeFileSync(file, "");
    process.env["XDG_CACHE_HOME"] = file;
    const { from, warnings } = await again(fake());
    assert.equal(from, "measured");
    assert.match(warnings.at(-1) ?? "", /^the tuning is not kept: /);
  });

  test("is only read by one of several processes", async () => {
    const backend = fake();
    const { tuning, report } = await autotune(backend, program, threads, { mayMeasure: false });
    assert.equal(tuning, undefined);
    assert.equal(report.from, "none");
    assert.equal(backend.measured, 0);
    const { path } = tuningFile(backend, program, threads) ?? { path: "" };
    assert.ok(!existsSync(path));
    await again(backend);
    const kept = await autotune(backend, program, threads, { mayMeasure: false });
    assert.equal(kept.report.from, "cache");
  });

  test("in words", async () => {
    const backend = fake();
    const { report } = await autotune(backend, program, threads);
    const { file, steps, tuned } = report;
    assert.match(
      tuningText(report),
      new RegExp(
        `^inference: ${tuned} of ${steps} steps, 1 pictures a thread, 1\\.07 times as fast · measured in 0\\.0 s, kept in `,
      ),
    );
    const read = await autotune(backend, program, threads);
    assert.ok(tuningText(read.report).endsWith(`1.07 times as fast · from ${file}`));
    assert.match(
      tuningText({ ...report, tuned: 0, portion: null, file: null }),
      /as usual, nothing was faster · .*not kept$/,
    );
  });
});

suite("kept tunings", () => {
  test("are none where there is no folder", () => assert.deepEqual(keptTunings(fake()), []));

  test("are listed with their network and machine, and whether runs here read them", async () => {
    await again(fake());
    const { path } = tuningFile(fake(), program, threads) ?? { path: "" };
    const [kept, ...none] = keptTunings(fake());
    assert.ok(kept);
    assert.deepEqual(none, []);
    const { of, ...rest } = kept;
    assert.deepEqual(rest, { file: path, state: "current", why: "", speedup: 1.07 });
    const { cpu = "", ...shown } = of ?? {};
    assert.deepEqual(shown, {
      mode: "infer",
      batch: 2,
      image_size: 32,
      classes: 5,
      storage: "f32",
      parameters: program.parameterCount,
      isa: "plain",
      threads: 2,
    });
    assert.equal(
      keptTuningText(kept),
      `inference, 0.35 M parameters, 5 classes, 32 px, batch 2, f32; ${cpu}, plain, 2 threads: 1.07 times as fast`,
    );

    const whole = readFileSync(path, "utf8");
    const stateOf = (text: string, name = path): string[] => {
      rmSync(path, { force: true });
      writeFileSync(name, text);
      const found = keptTunings(fake()).map(({ state, why }) => `${state}: ${why}`);
      rmSync(name);
      return found;
    };
    assert.deepEqual(stateOf(whole.replace(JSON.stringify(cpu), '"Cray"')), ["stale: of another processor"]);
    assert.deepEqual(stateOf(whole.replace(", fake, none", ", fake, other")), [
      "stale: of another version of Riffle, or one built by another compiler",
    ]);
    assert.deepEqual(stateOf(whole.replace('"isa":"plain"', '"isa":"wide"')), [
      "stale: of an instruction set that this machine does not run",
    ]);
    assert.deepEqual(stateOf(whole, join(path, "..", "other.json")), [
      "stale: not under the name that runs look for",
    ]);
    assert.deepEqual(stateOf("{"), ["damaged: it is damaged"]);
    assert.deepEqual(stateOf(whole, join(path, "..", "else.txt")), []);
    assert.deepEqual(stateOf(whole), ["current: "]);
  });
});
