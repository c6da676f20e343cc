/** What is typed almost right: taken for what it means where that is certain, else answered with what is right. */

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import { after, before, suite, test } from "node:test";

import { CommanderError } from "commander";

import { type Invocation, ownOptions, readCommandLine } from "../../src/cli/command.js";
import { describeFailure } from "../support/failure.js";
import { allCommands, runRiffle } from "../../src/cli/riffle.js";
import { openTerminal, type Terminal } from "../../src/cli/terminal.js";
import { findSetting } from "../../src/settings/read-settings.js";
import { settingNames, settings } from "../../src/settings/settings.js";
import { foreignWords } from "../../src/settings/unknown-name.js";

const commands = await allCommands();

const scratch = mkdtempSync(join(tmpdir(), "riffle-forgiving-"));
const home = process.cwd();
before(() => {
  for (const run of ["runs/a", "runs/b", "output/0"]) {
    mkdirSync(join(scratch, run), { recursive: true });
    writeFileSync(join(scratch, run, "recipe.json"), "{}");
  }
  mkdirSync(join(scratch, "photos"));
  process.chdir(scratch);
});
after(() => {
  process.chdir(home);
  rmSync(scratch, { recursive: true, force: true });
});

/** A terminal that keeps what is written to it. */
function kept(json = false): { readonly terminal: Terminal; readonly text: () => string } {
  let text = "";
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      text += chunk.toString();
      done();
    },
  });
  return { terminal: openTerminal(json, { stdout: stream, stderr: stream }), text: () => text };
}

/** What a command line is read as. */
async function read(...argv: string[]): Promise<Invocation> {
  const spec = commands.find(({ name }) => name === argv[0]);
  assert.ok(spec, argv[0]);
  const invocation = await readCommandLine(spec, argv, kept().terminal);
  assert.ok(invocation);
  return invocation;
}

/** How a command line is refused, as people see it. */
async function refusal(...argv: string[]): Promise<string> {
  try {
    await runRiffle(argv, kept().terminal);
  } catch (error) {
    return describeFailure(error);
  }
  return assert.fail(`riffle ${argv.join(" ")} was not refused`);
}

async function page(...argv: string[]): Promise<string> {
  const { terminal, text } = kept();
  await runRiffle(argv, terminal);
  return text();
}

suite("a folder of pictures without --data_dir", () => {
  test("is the data of train, demo and evaluate", async () => {
    assert.equal((await read("train", "photos", "--width", "0.5")).settings.data_dir, "photos");
    assert.equal((await read("demo", "photos")).settings.data_dir, "photos");
    const { arguments: [run], settings: given } = await read("evaluate", "runs/a", "photos"); // prettier-ignore
    assert.deepEqual([run, given.data_dir], ["runs/a", "photos"]);
  });

  test("may be named by --data_dir where a command has it as its argument", async () => {
    for (const command of ["show-data", "verify-data"]) {
      for (const spelling of [["photos"], ["--data_dir", "photos"], ["--data-dir=photos"]])
        assert.deepEqual((await read(command, ...spelling)).arguments, ["photos"]);
    }
  });

  test("is refused beside --data_dir, and so is a run in its place", async () => {
    assert.match(await refusal("train", "photos", "--data_dir", "other"), /two answers/);
    assert.match(await refusal("train", "runs/a"), /is a run.*\n.*\n.*train --resume runs\/a$/);
  });
});

suite("an option of other programs", () => {
  const answers: readonly (readonly [string, string])[] = [
    ["epochs", "Riffle's is --max_epochs"],
    ["batch", "Riffle's is --batch_size"],
    ["imgsz", "Riffle's is --image_size"],
    ["learning_rate", "Riffle's is --lr"],
    ["learning-rate", "Riffle's is --lr"],
    ["data", "Riffle's is --data_dir"],
    ["weights", "Riffle's is --init_from"],
    ["model", "--width is its size"],
    ["device", "Riffle computes on the CPU"],
    ["amp", "--precision_mode allow_mix_precision"],
    ["batchsize", "did you mean --batch_size\\?"],
    ["maxEpochs", "did you mean --max_epochs\\?"],
    ["wieght_decay", "did you mean --weight_decay\\?"],
  ];
  for (const [word, answer] of answers) {
    test(`--${word} is refused: ${answer}`, async () => {
      assert.match(
        await refusal("train", "photos", `--${word}`, "5"),
        new RegExp(`^unknown option --\\w+; .*${answer}`),
      );
    });
  }

  test("is refused with the commands that take ours where this one does not", async () => {
    assert.match(await refusal("predict", "a", "b", "--epochs", "3"), /--max_epochs, but predict does not/);
    assert.match(await refusal("predict", "a", "b", "--lr", "3"), /predict does not take it \(train does\)/);
    assert.match(await refusal("launch", "--", "train", "--epochs", "3"), /Riffle's is --max_epochs/);
  });

  test("is none of ours anywhere, and is answered with options that there are", () => {
    const own = commands.flatMap((spec) => ownOptions(spec).map(({ name }) => name));
    for (const [word, answer] of foreignWords) {
      assert.equal(findSetting(word), undefined, word);
      if (typeof answer === "function") {
        answer((name) => {
          assert.ok(name in settings, `${word}: ${name}`);
          return name;
        });
      } else for (const name of answer) assert.ok(name in settings || own.includes(name), `${word}: ${name}`);
    }
  });
});

suite("a missing argument", () => {
  test("is told with usage, an example and the runs near by", async () => {
    const told = await refusal("predict");
    assert.match(told, /^predict needs <run>/);
    assert.match(told, /Usage: +npx riffle-vision predict <run> <files\.\.\.> \[options\]/);
    assert.match(told, /Example: npx riffle-vision predict runs\/a photo\.jpg/);
    assert.match(told, /Runs here: (runs\/a|runs\/b|output\/0), .*, /);
    assert.doesNotMatch(await refusal("show-data"), /Runs here/);
  });

  for (const argv of [
    ["predict", "runs/c", "photo.jpg"],
    ["evaluate"],
    ["evaluate", "photos"],
    ["train", "--resume", "runs/c"],
    ["train", "photos", "--init_from", "c.pth"],
    ["export", "c"],
  ]) {
    test(`riffle ${argv.join(" ")}, which is no run, lists those that are`, async () => {
      assert.match(await refusal(...argv), /Runs here: /);
    });
  }
});

suite("help", () => {
  test("shows what is used most, and with all every option", async () => {
    const [short, all] = [await page("train", "--help"), await page("train", "--help", "all")];
    const optionsIn = (text: string): string[] =>
      [...text.matchAll(/^ {2}--(\w+)/gm)].map(([, name = ""]) => name);
    const train = settingNames.filter((name) => settings[name].commands.some((each) => each === "train"));
    assert.deepEqual(train.filter((name) => !optionsIn(all).includes(name)), []); // prettier-ignore
    const left = optionsIn(all).length - optionsIn(short).length;
    assert.ok(left > 30, `only ${left} are left out`);
    assert.ok(short.endsWith(`${left} more options: npx riffle-vision train --help all\n`));
    for (const name of ["data_dir", "max_epochs", "resume"]) assert.ok(optionsIn(short).includes(name), name);
    assert.equal(await page("help", "train", "all"), all);
    assert.match(
      await page("train", "--recipe", "original", "--help"),
      /Defaults are those of recipe original/,
    );
  });

  test("of a command with few options shows them all", async () => {
    assert.doesNotMatch(await page("verify-data", "--help"), /more options/);
  });
});

suite("the published table's misprint", () => {
  test("he_uniorm is he_uniform, and that is said", async () => {
    const { settings: given, remarks } = await read("train", "photos", "--version", "he_uniorm");
    assert.equal(given.version, "he_uniform");
    assert.match(remarks.join(), /he_uniorm.*misprint.*he_uniform/);
    const { terminal, text } = kept(true);
    await assert.rejects(runRiffle(["train", "photos", "--version=he_uniorm"], terminal));
    assert.match(text(), /^\{"event":"warning","what":"version he_uniorm/m);
    assert.match(await refusal("train", "photos", "--version", "he_uniform_"), /cannot be/);
  });
});

test("help and the version are no failures", async () => {
  const spec = commands[0];
  assert.ok(spec);
  await assert.rejects(readCommandLine(spec, ["train", "--help"], kept().terminal), CommanderError);
});
