/** What newcomers get wrong first, as they meet it: each refusal says what was meant and what to do. */

import assert from "node:assert/strict";
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, suite, test } from "node:test";

import { drawnPictures } from "../support/one-step-run.js";
import { outcomeOf } from "../support/in-process.js";
import { scratch, tinySettings, writeTinySet } from "../support/tiny-run.js";
import { train } from "../../src/train/trainer.js";

const folder = scratch();
const photo = join(folder, "photo.png");
const photos = join(folder, "photos");
const run = join(folder, "runs", "insects");
const home = process.cwd();

before(async () => {
  const [second, first] = await drawnPictures(2);
  writeFileSync(photo, first as Buffer);
  for (const name of ["train/ants/1.png", "train/bees/1.png", "train/bees/2.png"]) {
    mkdirSync(join(photos, name, ".."), { recursive: true });
    writeFileSync(join(photos, name), second as Buffer);
  }
  await train({ ...tinySettings(writeTinySet(folder), run), max_epochs: 1, recipe: "small-set" });
  process.chdir(folder);
  return () => process.chdir(home);
});

/** A command that is refused with this code, and what it prints. */
async function refused(code: number, ...argv: string[]): Promise<string> {
  const { status, stderr } = await outcomeOf(argv);
  assert.equal(status, code, `${argv.join(" ")}\n${stderr}`);
  assert.doesNotMatch(stderr, /the system refused/);
  return stderr;
}

suite("a file in the place of a run", () => {
  test("is named as what it is, by every command that takes a run or weights", async () => {
    for (const argv of [
      ["evaluate", photo],
      ["report", photo],
      ["inspect", photo],
      ["export", photo, "--format", "onnx"],
      ["train", "--resume", photo],
      ["predict", join(photo, "x"), photo],
      ["train", photos, "--from", photo, "--log_dir", "new"],
      ["dashboard", photo],
    ]) {
      const told = await refused(4, ...argv);
      assert.match(told, /photo\.png(\/x)?: /);
      assert.match(told, /Runs here: runs\/insects/);
    }
    assert.match(await refused(4, "inspect", photo), /is a picture, not a run or weights .*found a PNG/);
  });

  test("is taken for the swapped argument that it is, where a run stands among the pictures", async () => {
    const told = await refused(2, "predict", photo, "runs/insects");
    assert.match(told, /photo\.png is a picture, not a run or weights/);
    assert.match(told, /npx riffle-vision predict runs\/insects .*photo\.png/);
  });

  test("does not hide that a file of an option is not there", async () => {
    assert.match(await refused(2, "serve", run, "--token_file", join(photo, "x")), /no such file/);
  });
});

test("serve needs a run or --teach, and not both", async () => {
  const told = await refused(2, "serve");
  assert.match(told, /serve needs <run>\.\n.*Usage: +npx riffle-vision serve \[run\]/);
  assert.match(told, /Runs here: runs\/insects/);
  for (const argv of [[run], ["--top", "3"], ["--backend", "wasm"], ["--token_file", "token.txt"]]) {
    const both = await refused(2, "serve", "--teach", ...argv);
    assert.match(both, /the page to teach with has no run behind it .*with --host, --port and --allow_host/);
    assert.ok(both.includes(`found ${argv[0] ?? ""}`), both);
  }
});

suite("a folder of data", () => {
  test("that is one class says so, and which folder was meant", async () => {
    const told = await refused(3, "train", join(photos, "train", "ants"), "--log_dir", "new");
    assert.match(told, /train\/ants: holds pictures and no class folders/);
    assert.match(told, /Give the folder above it.*photos\/train\b/);
  });

  test("that cannot be used says what to do", async () => {
    const told = (path: string): Promise<string> => refused(3, "train", path, "--log_dir", "new");
    assert.match(await told("photo"), /no such file or folder\.\n +Did you mean photos\?/);
    assert.match(await told("gone/away"), /no such file or folder\.\n.*--data_dir FOLDER/);
    mkdirSync("one/ants", { recursive: true });
    cpSync(photo, "one/ants/1.png");
    assert.match(await told("one"), /only one class.*\n +Add a folder of pictures for each other class/);
    mkdirSync("one/notes");
    assert.match(await told("one"), /a class without pictures.*\n +Put pictures into it, or move it away/);
    mkdirSync("none");
    assert.match(await told("none"), /no class folders.*\n +Put the pictures of each class into a folder/);
    mkdirSync("deep/ants/more", { recursive: true });
    mkdirSync("deep/bees");
    assert.match(await told("deep"), /a folder inside a class folder.*\n +Move what is in it up, or/);
    writeFileSync("notes.txt", "");
    assert.match(await told("notes.txt"), /neither a folder.*\n +Give the folder/);
  });

  test("warns of a class of which nothing is held out", async () => {
    const settings = "--width 0.5 --image_size 32 --max_epochs 1 --batch_size 2 --report false".split(" ");
    const { stderr, stdout } = await outcomeOf([
      ...["train", join(photos, "train"), "--log_dir", "few pictures"],
      ...settings,
    ]);
    assert.match(stderr, /warning: .*train: of ants no picture is held out, so .* never scored/);
    assert.match(stderr, /, 1 epoch$/m);
    assert.match(stdout, /^Best +[\d.]+ % of 1 held-out picture, after epoch 1$/m);
    assert.match(stdout, /^Saved +'few pictures\/best' · log 'few pictures\/events\.jsonl'$/m);
  });
});

suite("an option nearly right", () => {
  test("is offered under the name that documents use", async () => {
    assert.match(await refused(2, "finetune", photos, "--form", "imagenet"), /--form; did you mean --from\?/);
    assert.match(await refused(2, "predict", run, photo, "--tp", "3"), /--tp; did you mean --top\?/);
    assert.match(await refused(2, "export", run, "--format", "html"), /"html".*\n.*\n.*--format web/);
  });

  test("that names weights is answered with their names", async () => {
    const told = await refused(4, "train", photos, "--from", "imagnet", "--log_dir", "new");
    assert.match(told, /Did you mean imagenet\?/);
    assert.match(told, /torchvision\/0\.5x/);
  });

  test("is shown by its usual name where help lists it", async () => {
    const { stdout } = await outcomeOf(["finetune", "--help"]);
    assert.match(stdout, /--init_from <path>, --from\b/);
  });
});

test("a run that is complete says so where it is resumed", async () => {
  const { stderr, status } = await outcomeOf(["train", "--resume", run]);
  assert.equal(status, 0, stderr);
  assert.match(stderr, /^Complete +all 6 steps were trained before; nothing is left to train/m);
});
