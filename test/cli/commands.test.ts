import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { crc32, deflateSync } from "node:zlib";

import { allCommands } from "../../src/cli/riffle.js";
import { isBuilt } from "../../src/core/addon.js";
import { jpegDecoder } from "../../src/data/pictures/render.js";
import { drawFolder } from "../../src/prepare/draw/draw-folder.js";
import { type Outcome, outcomeOf } from "../support/in-process.js";
import { program } from "../support/paths.js";

const commands = await allCommands();

const scratch = mkdtempSync(join(tmpdir(), "riffle-cli-"));
const photos = join(scratch, "photos");
/** 0.5x at 64 px on 40 pictures: a second a run. */
const small = ["--width", "0.5", "--image_size", "64", "--batch_size", "20", "--warmup_epochs", "1"];

before(async () => {
  process.chdir(scratch);
  await drawFolder({ folder: photos, seed: 3, size: 64, train: 40, validation: 20 });
});
after(() => rmSync(scratch, { recursive: true, force: true }));

const riffle = (...argv: string[]): Promise<Outcome> => outcomeOf(argv);

/** stdout as objects; every line has to be one. */
function objects({ stdout }: Outcome): Record<string, unknown>[] {
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** A failure told once: no stack, nothing but the error on stdout. */
function assertRefused(outcome: Outcome, status: number, words: RegExp): void {
  assert.equal(outcome.status, status, outcome.stderr);
  assert.match(outcome.stderr, words);
  assert.equal(outcome.stderr.match(/riffle: /g)?.length, 1, outcome.stderr);
  assert.doesNotMatch(outcome.stderr, /^\s+at /m);
}

suite("help", () => {
  for (const command of commands) {
    test(`riffle ${command.name} --help begins with what it does and gives three examples`, async () => {
      const { status, stdout } = await riffle(command.name, "--help");
      assert.equal(status, 0);
      assert.equal(stdout.split("\n")[0], command.purpose);
      for (const example of command.examples) assert.ok(stdout.includes(`  ${example}\n`), example);
    });
  }

  test("every option of train has a default and where it comes from", async () => {
    const { stdout } = await riffle("train", "--help");
    const settings = stdout.slice(0, stdout.indexOf("\nOutput"));
    assert.equal(settings.match(/^ {2}--/gm)?.length, settings.match(/default: /g)?.length);
  });

  test("riffle help recipes is a table with a column per recipe", async () => {
    assert.match((await riffle("help", "recipes")).stdout, /documented.*original.*torchvision.*small-set/);
  });

  test("a reader that goes away ends the command quietly", () => {
    const outcome = spawnSync("sh", ["-c", `"${process.execPath}" "${program}" inspect | true`], {
      encoding: "utf8",
    });
    assert.equal(outcome.stderr.replace(/^Engine .*\n/, ""), "");
  });
});

suite("the command line", () => {
  test("an unknown option is refused with a guess", async () => {
    assertRefused(
      await riffle("train", "--data_dir", "photos", "--batchsize", "64"),
      2,
      /did you mean --batch_size\?/,
    );
  });

  test("an unknown command is refused with a guess", async () => {
    assertRefused(await riffle("trian"), 2, /did you mean train\?/);
  });

  test("dashes and underscores are alike, and aliases mean their option", async () => {
    const with_ = (...spelled: string[]): Promise<Outcome> =>
      riffle("train", ...spelled, "--data_dir", "photos", "--json");
    for (const spelling of ["--batch_size", "--batch-size", "--train_batch_size", "--train-batch-size"]) {
      const [error] = objects(await with_(spelling, "0"));
      assert.deepEqual([error?.["code"], error?.["where"]], [2, "option --batch_size"], spelling);
    }
  });

  test("with --json a failure is one object with every field of the contract", async () => {
    const outcome = await riffle("train", "--image_size=7", "--data_dir", "photos", "--json");
    assert.equal(outcome.status, 2);
    const [error, ...more] = objects(outcome);
    assert.deepEqual(more, []);
    assert.deepEqual(Object.keys(error ?? {}), [
      "event",
      "code",
      "what",
      "where",
      "expected",
      "found",
      "hint",
      "safe",
    ]);
    assert.equal(error?.["event"], "error");
    assert.equal(error?.["found"], '"7"');
  });
});

suite("inspect", () => {
  test("prints the totals of the published network", async () => {
    const [report] = objects(await riffle("inspect", "--width", "1.0", "--variant", "torchvision", "--json"));
    // torchvision's own count for shufflenet_v2_x1_0.
    assert.equal(report?.["parameters"], 2_278_604);
    const layers = report?.["layers"] as { parameters: number; multiply_adds: number }[];
    const sum = (field: "parameters" | "multiply_adds"): number =>
      layers.reduce((n, layer) => n + layer[field], 0);
    assert.equal(sum("parameters"), report?.["parameters"]);
    assert.equal(sum("multiply_adds"), report?.["multiply_adds"]);
  });

  test("--time gives each layer a share of the whole", async () => {
    const argv = ["inspect", "--width", "0.5", "--image_size", "64", "--batch_size", "2", "--classes", "10"];
    const [report] = objects(await riffle(...argv, "--time", "--json"));
    const shares = (report?.["layers"] as { share: number }[]).map((layer) => layer.share);
    assert.ok(shares.every((share) => share > 0));
    assert.ok(Math.abs(shares.reduce((a, b) => a + b, 0) - 1) < 1e-9);
  });
});

suite("bench", () => {
  for (const mode of ["train", "infer"]) {
    test(`${mode} gives the numbers of the contract`, async () => {
      const argv = ["--width", "0.5", "--image_size", "64", "--batch_size", "4", "--steps", "3", "--json"];
      const [result] = objects(await riffle("bench", mode, ...argv));
      const { min, median, max } = result?.["images_per_second"] as {
        min: number;
        median: number;
        max: number;
      };
      assert.ok(0 < min && min <= median && median <= max);
      for (const field of [
        "peak_memory_mb",
        "gflops",
        "peak_gflops",
        "share_of_peak",
        "copy_gb_per_second",
      ]) {
        assert.ok((result?.[field] as number) > 0, field);
      }
    });
  }

  test("an instruction set that is not here is refused with those that are", async () => {
    assertRefused(await riffle("bench", "infer", "--isa", "mmx"), 2, /sse2|neon|expected wasm/);
  });
});

suite("doctor", () => {
  test("names engine, instruction set, threads, decoder, records, memory and Node", async () => {
    const outcome = await riffle("doctor", "--json");
    assert.equal(outcome.status, 0, outcome.stdout);
    const [report] = objects(outcome);
    // WebAssembly has one.
    const sets = isBuilt() ? ["instruction set"] : [];
    assert.deepEqual(
      (report?.["findings"] as { name: string }[]).map((finding) => finding.name),
      ["engine", ...sets, "threads", "JPEG decoder", "records", "memory", "Node"],
    );
  });
});

suite("a run", () => {
  const run = join(scratch, "run");

  test("train ends with the result and leaves a run folder that evaluate and predict use", async () => {
    const trained = await riffle(
      "train",
      "--data_dir",
      "photos",
      ...small,
      "--max_epochs",
      "2",
      "--log_dir",
      run,
      "--json",
    );
    assert.equal(trained.status, 0, trained.stderr);
    const last = objects(trained).at(-1) ?? {};
    const fields = ["event", "step", "epoch", "reason", "unimproved", "best", "loss", "top1", "top5", "images_per_second", "skipped", "checkpoint"]; // prettier-ignore
    assert.deepEqual(Object.keys(last), fields);
    assert.deepEqual([last["event"], last["step"], last["epoch"]], ["end", 4, 2]);

    const evaluated = await riffle("evaluate", run, "--data_dir", "photos", "--json");
    assert.equal(evaluated.status, 0, evaluated.stderr);
    const scores = objects(evaluated).at(-1) ?? {};
    assert.equal(scores["event"], "end");
    assert.equal(scores["images"], 20);
    const best = JSON.parse(readFileSync(join(run, "best", "state.json"), "utf8")) as {
      scores: { loss: number };
    };
    assert.equal(scores["loss"], best.scores.loss);

    const predicted = await riffle("predict", run, "photos/val/star", "--json", "--logits");
    assert.equal(predicted.status, 0, predicted.stderr);
    const results = objects(predicted) as unknown as {
      file: string;
      top: { probability: number }[];
      logits: number[];
    }[];
    assert.deepEqual(
      results.map(({ file }) => file),
      ["photos/val/star/star_0000.jpg", "photos/val/star/star_0001.jpg"],
    );
    for (const { top, logits } of results) {
      assert.equal(top.length, 5);
      assert.equal(logits.length, 10);
      assert.ok(top.every(({ probability }, i) => i === 0 || probability <= (top[i - 1]?.probability ?? 0)));
    }
  });

  test("predict names what it refuses, predicts the rest and exits with 3", async () => {
    writeFileSync(join(scratch, "notes.jpg"), "not a picture");
    const good = "photos/val/ring/ring_0000.jpg";
    const outcome = await riffle("predict", run, good, "notes.jpg", "missing.png");
    assert.equal(outcome.status, 3);
    const lines = outcome.stdout.trimEnd().split("\n");
    assert.equal(lines.length, 3);
    assert.match(lines[0] ?? "", /^photos\/val\/ring\/ring_0000.jpg {3}\w+ \d/);
    assert.match(lines[1] ?? "", /^notes.jpg +not read: /);
    assert.match(lines[2] ?? "", /^missing.png +not read: /);
    assert.match(outcome.stderr, /3 files, 1 predicted, 2 refused/);
    assert.equal((await riffle("predict", run, good, "notes.jpg", "--max_bad_images", "1")).status, 0);
  });

  test("predict expands a quoted pattern and says so when nothing matches", async () => {
    const outcome = await riffle("predict", run, "photos/val/dots/*.jpg", "--top", "1", "--json");
    assert.equal(objects(outcome).length, 2);
    assertRefused(await riffle("predict", run, "photos/val/dots/*.webp"), 3, /no file matches/);
  });

  test("a file's name cannot write to the terminal", async () => {
    const name = "\u001b[2Jnew\nline.jpg";
    cpSync(join(photos, "val", "ring", "ring_0000.jpg"), join(scratch, name));
    const plain = await riffle("predict", run, name);
    assert.equal(plain.stdout.includes("\u001b"), false);
    assert.equal(plain.stdout.trimEnd().split("\n").length, 1);
    const [result] = objects(await riffle("predict", run, name, "--json"));
    assert.equal(result?.["file"], name);
  });

  test("a checkpoint of another width, and one cut short, are refused untouched", async () => {
    assertRefused(await riffle("train", "--resume", run, "--width", "1.0"), 4, /width 0\.5.*\n.*untouched/);
    const cut = join(scratch, "cut");
    cpSync(join(run, "best"), cut, { recursive: true });
    const weights = join(cut, "weights.safetensors");
    truncateSync(weights, 100_000);
    assertRefused(await riffle("evaluate", cut, "--data_dir", "photos"), 4, /weights\.safetensors/);
  });

  test("Ctrl-C saves and prints the command that resumes; resuming ends as if it had not happened", async () => {
    const argv = ["--data_dir", "photos", ...small, "--max_epochs", "40", "--epochs_between_evals", "40"];
    const stopped = join(scratch, "stopped");
    const outcome = await interrupt(["train", ...argv, "--log_dir", stopped], "SIGINT", /epoch 3\/40/);
    assert.equal(outcome.status, 130, outcome.stderr);
    assert.match(outcome.stderr, /press Ctrl-C again to quit at once/);
    const resume =
      /Resume +npx riffle-vision (train --resume .*)/.exec(outcome.stdout)?.[1]?.split(" ") ?? [];
    const resumed = await riffle(...resume);
    assert.equal(resumed.status, 0, resumed.stderr);
    const straight = join(scratch, "straight");
    assert.equal((await riffle("train", ...argv, "--log_dir", straight)).status, 0);
    const weights = (folder: string): string =>
      readFileSync(join(folder, "step-80", "weights.safetensors"), "base64");
    assert.equal(weights(stopped), weights(straight));
  });

  test("SIGTERM does the same with exit code 143", async () => {
    const folder = join(scratch, "terminated");
    const argv = ["train", "--data_dir", "photos", ...small, "--max_epochs", "200", "--log_dir", folder];
    const outcome = await interrupt(argv, "SIGTERM", /epoch 1\/200/);
    assert.equal(outcome.status, 143, outcome.stderr);
    assert.ok(readdirSync(folder).some((name) => name.startsWith("step-")));
  });
});

suite("bad input has one message and its exit code", () => {
  let runs = 0;
  const train = (folder: string, ...more: string[]): Promise<Outcome> => {
    const run = join(scratch, `bad-run-${++runs}`);
    return riffle("train", "--data_dir", folder, ...small, "--max_epochs", "2", "--log_dir", run, ...more);
  };

  /** A copy of the drawn set whose first training picture is `bytes`. */
  function withPicture(name: string, bytes: Uint8Array | string): string {
    const folder = join(scratch, name);
    cpSync(photos, folder, { recursive: true });
    writeFileSync(join(folder, "train", "checks", "checks_0000.jpg"), bytes);
    return folder;
  }

  test("an empty folder", async () => {
    const folder = join(scratch, "empty");
    mkdirSync(folder);
    assertRefused(await train(folder), 3, /empty/);
  });

  test("one class", async () => {
    const folder = join(scratch, "one");
    cpSync(join(photos, "train", "star"), join(folder, "star"), { recursive: true });
    assertRefused(await train(folder, "--val_split", "0.5"), 3, /one class/);
  });

  test("a folder that is not there", async () => {
    assertRefused(await train(join(scratch, "nowhere")), 3, /nowhere/);
  });

  test("a text file named .jpg, which --max_bad_images tolerates", async () => {
    const folder = withPicture("text", "hello");
    assertRefused(await train(folder), 3, /checks_0000\.jpg/);
    assert.equal((await train(folder, "--max_bad_images", "1")).status, 0);
  });

  test("a JPEG cut short", async () => {
    const whole = readFileSync(join(photos, "train", "checks", "checks_0000.jpg"));
    assertRefused(
      await train(withPicture("cut-jpeg", whole.subarray(0, whole.length / 2))),
      3,
      /checks_0000\.jpg/,
    );
  });

  test("a file of 0 bytes", async () => {
    assertRefused(await train(withPicture("zero", "")), 3, /checks_0000\.jpg/);
  });

  test("a PNG of 20,000 x 20,000, before its pixels take memory", async () => {
    const bomb = whitePng(20_000);
    assertRefused(await train(withPicture("bomb", bomb)), 3, /checks_0000\.jpg.*20,?000/);
  });

  test("a batch of 0 and an image size of 7", async () => {
    assertRefused(await train(photos, "--batch_size", "0"), 2, /--batch_size/);
    assertRefused(await train(photos, "--image_size", "7"), 2, /--image_size/);
  });

  test("an output folder that cannot be one", async () => {
    writeFileSync(join(scratch, "file"), "");
    assertRefused(await train(photos, "--log_dir", join(scratch, "file", "run")), 6, /file/);
  });

  test(
    "a batch that memory does not hold, with one that it does",
    { skip: process.platform !== "linux" },
    () => {
      const argv = [
        "train",
        "--data_dir",
        photos,
        "--width",
        "1",
        "--image_size",
        "1024",
        "--batch_size",
        "40",
      ];
      const limited = 'ulimit -v 8000000; exec "$0" "$@"';
      const command = [process.execPath, program, ...argv, "--log_dir", join(scratch, "large")];
      const outcome = spawnSync("sh", ["-c", limited, ...command], { cwd: scratch, encoding: "utf8" });
      assertRefused(outcome, 6, /too little memory.*\n.*\n.*--batch_size \d+/);
    },
  );

  test("without pictures, without a checkpoint: each says what is missing", async () => {
    assertRefused(await riffle("train"), 2, /riffle-vision train photos/);
    assertRefused(await riffle("evaluate", "nowhere"), 4, /nowhere/);
    assertRefused(await riffle("predict", "nowhere", "a.jpg"), 4, /nowhere/);
  });
});

suite("demo", () => {
  test("draws, trains, evaluates, predicts and ends with the next commands; a second one finds the pictures", async () => {
    const argv = ["demo", "--max_train_steps", "2", "--epochs_between_evals", "1"];
    const first = await riffle(...argv);
    assert.equal(first.status, 0, first.stderr);
    assert.match(first.stderr, /drawing 10 classes of pictures into runs\/demo\/data \(2,400 JPEGs, boxes\)/);
    // Where sharp decodes, once.
    assert.equal(/^Cache +decoded pictures in memory/m.test(first.stderr), jpegDecoder() === "sharp");
    assert.match(first.stdout, /^Result +top-1 [\d.]+ %/m);
    assert.match(first.stdout, /^Look +\w+_\d+\.jpg/m);
    assert.match(first.stdout, /^Next +npx riffle-vision predict runs\/demo photo\.jpg$/m);
    assert.ok(existsSync(join(scratch, "runs", "demo", "best", "weights.safetensors")));

    const second = await riffle(...argv, "--json");
    assert.equal(second.status, 0, second.stderr);
    assert.match(second.stderr, /drawn earlier/);
    const last = objects(second).at(-1);
    assert.deepEqual([last?.["event"], last?.["run"]], ["end", "runs/demo-2"]);
  });

  test("takes a folder of one's own", async () => {
    const outcome = await riffle("demo", "--data_dir", "photos", "--max_epochs", "3", "--log_dir", "own");
    assert.equal(outcome.status, 0, outcome.stderr);
    assert.match(outcome.stderr, /40 pictures, 20 for validation/);
    assert.match(outcome.stdout, /on 20 pictures/);
  });
});

/** Runs the command and sends `signal` once its stderr matches. */
function interrupt(argv: string[], signal: NodeJS.Signals, when: RegExp): Promise<Outcome> {
  const child = spawn(process.execPath, [program, ...argv], { cwd: scratch });
  let [stdout, stderr, sent] = ["", "", false];
  child.stdout.on("data", (text: Buffer) => (stdout += text.toString()));
  child.stderr.on("data", (text: Buffer) => {
    stderr += text.toString();
    if (!sent && when.test(stderr)) {
      sent = true;
      child.kill(signal);
    }
  });
  return new Promise((done) => child.on("close", (status) => done({ status, stdout, stderr })));
}

/** A square PNG, a bit a pixel, all white (ISO/IEC 15948, 5.3): its 50 MB of pixels take 49 kB at 20,000 a side. */
function whitePng(side: number): Buffer {
  const chunk = (type: string, data: Buffer): Buffer => {
    const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, sum]);
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(side, 0);
  header.writeUInt32BE(side, 4);
  header.writeUInt8(1, 8); // bits of a pixel; colour type 0 is grey
  const row = Buffer.alloc(1 + Math.ceil(side / 8), 0xff);
  row[0] = 0; // the row's filter: none
  const pixels = deflateSync(Buffer.concat(Array.from({ length: side }, () => row)), { level: 1 });
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([
    signature,
    chunk("IHDR", header),
    chunk("IDAT", pixels),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}
