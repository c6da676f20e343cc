/**
 * What every command does with its output: on a full disk, without a reader, and where names hold what would write to the
 * terminal. One row per command; each runs on pictures, classes and runs with the worst names a file system takes.
 */

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  createWriteStream,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { mkdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import { allCommands } from "../../src/cli/riffle.js";
import { drawFolder } from "../../src/prepare/draw/draw-folder.js";
import { type Outcome, outcomeOf } from "../support/in-process.js";
import { optionsInFull } from "../support/native.js";
import { program } from "../support/paths.js";
import { scratch } from "../support/tiny-run.js";

const commands = await allCommands();

const folder = scratch();
/** Escape, bell, carriage return, C1, a line break with a line of its own behind it, and text turned round. */
const hostile = "x\u001b[31m\u0007\r\u009b2J\u202e\nFORGED";
const photos = join(folder, "photos");
const run = join(folder, `run ${hostile}`);
const picture = join(photos, "val", hostile, `${hostile}.jpg`);
const small = ["--width", "0.5", "--image_size", "32", "--batch_size", "8", "--max_train_steps", "1"];

interface Row {
  readonly argv: (out: string) => readonly string[];
  /** What is there after it, on whatever disk its words went. */
  readonly leaves?: (out: string) => string;
}

/** `out` is a path that nothing has yet. */
const rows: Readonly<Record<string, Row>> = {
  train: {
    argv: (out) => ["train", "--data_dir", photos, ...small, "--log_dir", out, "--log_name", "plain.log"],
    leaves: (out) => join(out, "step-1", "weights.safetensors"),
  },
  finetune: {
    argv: (out) => [
      ...["finetune", photos, "--from", run, "--batch_size", "8", "--max_train_steps", "1"],
      ...["--log_dir", out],
    ],
    leaves: (out) => join(out, "step-1", "weights.safetensors"),
  },
  "find-lr": {
    argv: (out) => [
      ...["find-lr", photos, "--width", "0.5", "--image_size", "32", "--batch_size", "8", "--steps", "20"],
      ...["--output", `${out}.html`],
    ],
    leaves: (out) => `${out}.html`,
  },
  evaluate: { argv: () => ["evaluate", run, "--data_dir", photos] },
  predict: {
    argv: () => ["predict", run, picture, join(folder, `missing ${hostile}`), "--max_bad_images", "1"],
  },
  report: { argv: () => ["report", run], leaves: () => join(run, "report.html") },
  launch: {
    argv: () => [
      "launch",
      "train_performance_1p",
      "--data_path",
      join(folder, "records"),
      ...small,
      ...optionsInFull,
    ],
    leaves: () => join(folder, "output", "0", "ckpt", "step-1", "weights.safetensors"),
  },
  "show-data": {
    argv: (out) => ["show-data", photos, "--images", "20", "--output", `${out}.html`],
    leaves: (out) => `${out}.html`,
  },
  import: { argv: () => ["import", join(run, "step-1", "weights.safetensors"), "--list"] },
  inspect: { argv: () => ["inspect", "--width", "0.5"] },
  "explore-imagenet": {
    argv: (out) => ["explore-imagenet", "--train", join(photos, "train"), "--output", out],
    leaves: (out) => join(out, "training_metadata.csv"),
  },
  "create-tfrecords": {
    argv: (out) => [
      ...["create-tfrecords", "-m", join(folder, "lists", "training_metadata.csv"), "-s", "1", "-o", out],
      ...["-l", join(folder, "lists", "integer_encoding.json")],
    ],
    leaves: (out) => join(out, "manifest.json"),
  },
  "verify-data": { argv: () => ["verify-data", photos] },
  export: {
    argv: (out) => ["export", run, "--format", "safetensors", "--output", `${out}.safetensors`],
    leaves: (out) => `${out}.safetensors`,
  },
  bench: {
    argv: () => [
      "bench",
      "infer",
      "--width",
      "0.5",
      "--image_size",
      "32",
      "--batch_size",
      "2",
      "--steps",
      "1",
    ],
  },
  plan: {
    argv: () => [
      ...["plan", "--ranks", "2,4", "--ranks_per_machine", "2", "--step_ms", "5", "--data_dir", photos],
      ...["--width", "0.5", "--image_size", "32", "--batch_size", "2"],
    ],
  },
  doctor: { argv: () => ["doctor"] },
  demo: {
    argv: (out) => ["demo", "--data_dir", photos, ...small, "--log_dir", out],
    leaves: (out) => join(out, "step-1", "weights.safetensors"),
  },
  help: { argv: () => ["help", "recipes"] },
};

let outputs = 0;
const freshOutput = (): string => join(folder, `out ${++outputs} ${hostile}`);

before(async () => {
  await drawFolder({ folder: photos, seed: 3, size: 40, train: 20, validation: 10 });
  for (const part of ["train", "val"]) {
    await rename(join(photos, part, "star"), join(photos, part, hostile));
    const [name = ""] = readdirSync(join(photos, part, hostile));
    await rename(join(photos, part, hostile, name), join(photos, part, hostile, `${hostile}.jpg`));
  }
  process.chdir(folder);
  const done = async (...argv: readonly string[]): Promise<void> => {
    const { status, stderr } = await outcomeOf(argv);
    assert.equal(status, 0, stderr);
  };
  await done("train", "--data_dir", photos, ...small, "--log_dir", run);
  const lists = join(folder, "lists");
  await done(
    "explore-imagenet",
    "--train",
    join(photos, "train"),
    "--val",
    join(photos, "val"),
    "--output",
    lists,
  );
  for (const [list, part] of [
    ["training_metadata.csv", "train_shards"],
    ["validation_metadata.csv", "eval_shards"],
  ] as const) {
    const encoding = ["-l", join(lists, "integer_encoding.json")];
    await done(
      "create-tfrecords",
      "-m",
      join(lists, list),
      ...encoding,
      "-s",
      "1",
      "-o",
      join(folder, "records", part),
    );
  }
});

function riffle(argv: readonly string[], stdio: { stdout?: number; stderr?: number } = {}): Outcome {
  return spawnSync(process.execPath, [program, ...argv], {
    cwd: folder,
    encoding: "utf8",
    stdio: ["ignore", stdio.stdout ?? "pipe", stdio.stderr ?? "pipe"],
  });
}

test("every command that ends by itself has a row here", () => {
  const names = commands.map(({ name }) => name).filter((name) => !["serve", "dashboard"].includes(name));
  assert.deepEqual(Object.keys(rows).sort(), [...names, "help"].sort());
});

for (const name of ["serve", "dashboard"]) {
  test(`${name} ends with 6 where its address cannot be printed`, { skip: !existsSync("/dev/full") }, () => {
    const full = openSync("/dev/full", "w");
    const { status, stderr } = riffle([name, run, "--port", "0"], { stdout: full });
    closeSync(full);
    assert.equal(status, 6, stderr);
    assert.match(stderr, /^riffle: stdout: .*ENOSPC/m);
  });
}

suite("H5: a full disk behind stdout", { skip: !existsSync("/dev/full") }, () => {
  for (const [name, { argv, leaves }] of Object.entries(rows)) {
    test(`${name} ends with 6, its work done`, async () => {
      const out = freshOutput();
      const full = createWriteStream("/dev/full");
      await once(full, "open");
      const { status, stderr } = await outcomeOf(argv(out), { stdout: full });
      full.destroy();
      assert.equal(status, 6, stderr);
      assert.match(stderr, /^riffle: stdout: .*ENOSPC/m);
      assert.doesNotMatch(stderr, /^\s+at /m);
      if (leaves !== undefined) assert.ok(existsSync(leaves(out)), `${leaves(out)} is missing`);
    });
  }

  // As a process of its own.
  test("inspect", () => {
    const full = openSync("/dev/full", "w");
    const { status, stderr } = riffle(["inspect"], { stdout: full });
    closeSync(full);
    assert.equal(status, 6, stderr);
    assert.match(stderr, /^riffle: stdout: .*ENOSPC/m);
  });

  test("a page of help, and the version, are lost no less", () => {
    for (const argv of [["--help"], ["train", "--help"], ["--version"], []]) {
      const full = openSync("/dev/full", "w");
      const { status, stderr } = riffle(argv, { stdout: full });
      closeSync(full);
      assert.equal(status, 6, `${argv.join(" ")}: ${stderr}`);
    }
  });

  test("half a page is a page lost: the last write may be cut short without an error", () => {
    const limited = `ulimit -f 1; exec "$0" "$@" > page`;
    const command = ["-c", limited, process.execPath, program, "help", "parameters"];
    const { status, stderr } = spawnSync("bash", command, { cwd: folder, encoding: "utf8" });
    assert.equal(status, 6, stderr);
    assert.equal(readFileSync(join(folder, "page")).length, 1024);
  });

  test("what went wrong first keeps its exit code", () => {
    const full = openSync("/dev/full", "w");
    assert.equal(riffle(["train", "--batch_size", "0", "--json"], { stdout: full }).status, 2);
    closeSync(full);
  });
});

suite("--json gives a line an object, which holds names as they are", () => {
  for (const [name, { argv }] of Object.entries(rows)) {
    test(name, async () => {
      const { status, stdout } = await outcomeOf([...argv(freshOutput()), "--json"]);
      assert.equal(status, 0, stdout);
      assertVisible(stdout);
      const values = JSON.stringify(
        stdout
          .trimEnd()
          .split("\n")
          .map((line) => JSON.parse(line) as unknown),
      );
      if (stdout.includes("FORGED")) assert.ok(values.includes(JSON.stringify(hostile).slice(1, -1)));
    });
  }
});

suite("H5: a full disk behind stderr changes nothing", { skip: !existsSync("/dev/full") }, () => {
  // One that draws progress, one that warns, one that prints only.
  for (const name of ["train", "predict", "inspect"]) {
    const { argv, leaves } = rows[name] as Row;
    test(name, () => {
      const out = freshOutput();
      const full = openSync("/dev/full", "w");
      const { status, stdout } = riffle([...argv(out), "--json"], { stderr: full });
      closeSync(full);
      assert.equal(status, 0, stdout);
      if (leaves !== undefined) assert.ok(existsSync(leaves(out)));
      for (const line of stdout.trimEnd().split("\n")) JSON.parse(line);
    });
  }
});

suite("H5: a reader that goes away", () => {
  for (const name of ["train", "predict", "export"]) {
    const { argv, leaves } = rows[name] as Row;
    test(`${name} ends with 0, its work done`, () => {
      const out = freshOutput();
      const piped = '"$0" "$@" 2>&1 | true; exit ${PIPESTATUS[0]}';
      const { status } = spawnSync("bash", ["-c", piped, process.execPath, program, ...argv(out)], {
        cwd: folder,
      });
      assert.equal(status, 0);
      if (leaves !== undefined) assert.ok(existsSync(leaves(out)));
    });
  }
});

suite("names cannot write to the terminal", () => {
  for (const [name, { argv }] of Object.entries(rows)) {
    test(`${name} makes them visible`, async () => {
      const out = freshOutput();
      const { status, stdout, stderr } = await outcomeOf(argv(out));
      assert.equal(status, 0, stderr);
      assertVisible(stdout);
      assertVisible(stderr);
      if (name === "train") assertVisible(readFileSync(join(out, "plain.log"), "utf8"));
      if (name === "show-data") {
        const html = readFileSync(`${out}.html`, "utf8");
        assert.ok(html.includes("\\u001b"));
        assertVisible(html.replace(/\n/g, " "));
      }
    });
  }

  for (const argv of [
    ["train", "--data_dir", join(folder, hostile), "--log_dir", join(folder, "none")],
    ["train", "--data_dir", photos, ...small, "--log_dir", run],
    ["train", "--resume", join(folder, hostile)],
    ["train", "--data_dir", photos, "--init_from", hostile],
    ["train", "--data_dir", photos, "--variant", hostile],
    ["train", "--data_dir", photos, `--${hostile}`, "1"],
    ["train", "--data_dir", photos, "--log_name", hostile, "--batch_size", "64"],
    ["evaluate", hostile],
    ["predict", hostile, hostile],
    ["import", hostile, "--list"],
    ["import", hostile, "--log_dir", join(folder, "none"), "--classes", hostile],
    ["export", run, "--format", hostile],
    ["show-data", hostile],
    ["show-data", photos, "--output", `${hostile}.gif`],
    ["verify-data", hostile],
    ["create-tfrecords", "-m", hostile, "-l", hostile, "-o", hostile],
    ["explore-imagenet", "--train", hostile, "--output", hostile],
    ["launch", hostile],
    ["bench", hostile],
    ["help", hostile],
    [hostile],
  ]) {
    test(`nor do the words of a refusal: riffle ${printableWords(argv)}`, async () => {
      const { status, stdout, stderr } = await outcomeOf([...argv, "--json"]);
      assert.ok([2, 3, 4, 6].includes(status ?? -1), `exit code ${status}: ${stderr}`);
      assertVisible(stderr);
      assertVisible(stdout);
      assert.equal((JSON.parse(stdout) as { event: string }).event, "error");
    });
  }
});

/** No control character but the ends of our own lines, and no line that a name began. */
function assertVisible(text: string): void {
  assert.doesNotMatch(
    text,
    /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/,
  );
  assert.doesNotMatch(text, /^FORGED/m);
}

function printableWords(argv: readonly string[]): string {
  return JSON.stringify(argv.map((word) => word.replace(folder, ""))).replace(/[^\x20-\x7e]/g, "?");
}

suite("launch", { skip: !existsSync("/dev/full") }, () => {
  test("trains on when its log can no longer be written, and ends with 6", async () => {
    const own = join(folder, "launched");
    await mkdir(own);
    const argv = [
      program,
      "launch",
      "train_performance_1p",
      "--data_path",
      join(folder, "records"),
      ...small,
      ...optionsInFull,
    ];
    const child = spawn(process.execPath, argv, { cwd: own, env: { ...process.env, JOB_ID: "7" } });
    const log = join(own, "output", "0", "train_0.log");
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (text: Buffer) => {
      // The first line is there before anything is read; from then on the disk is full.
      if (stdout === "") {
        rmSync(log);
        symlinkSync("/dev/full", log);
      }
      stdout += text.toString();
    });
    child.stderr.on("data", (text: Buffer) => (stderr += text.toString()));
    const status = await new Promise((done) => child.on("close", done));
    assert.equal(status, 6, stderr);
    assert.match(stdout, /^job 7$[^]*^E2E Training Duration sec : \d+$/m);
    assert.match(stderr, /warning: .*train_0\.log is not written from here on/);
    assert.match(stderr, /^riffle: .*the log has not all of its lines/m);
    assert.ok(existsSync(join(own, "output", "0", "ckpt", "step-1", "weights.safetensors")));
  });
});
