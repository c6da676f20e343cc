/**
 * What people see: commands in a real terminal (tmux) of 80 and of 140 columns, compared with kept text
 * (test/golden/terminal), and their colours. `RIFFLE_KEEP_TERMINAL=1 node scripts/test.mjs real-terminal` writes that text anew.
 *
 * What differs from run to run and machine to machine is made the same by `normalised` below.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { stripVTControlCharacters } from "node:util";

import { drawFolder } from "../../src/prepare/draw/draw-folder.js";
import { tensorsOf } from "../../src/models/tensor-names.js";
import { importWeights, writeImportedFile } from "../../src/weights/import-weights.js";
import { isClassifier } from "../../src/weights/match.js";
import { drawnPictures } from "../support/one-step-run.js";
import { program } from "../support/paths.js";
import { storedPath } from "../support/shared.js";
import { drawnWeights, scratch } from "../support/tiny-run.js";

const folder = scratch();
const small = "--width 0.5 --image_size 32 --report false";

/** Each command line by itself; `riffle` is ours. */
const scenes = {
  train: `riffle train photos ${small} --batch_size 10 --max_epochs 2 --version he_uniorm --log_dir run`,
  predict: "riffle predict insects.safetensors pictures",
  refusal: "riffle train photos --resume run --batchsize 8",
} as const;

const hasTmux = spawnSync("tmux", ["-V"]).status === 0;
const terminals: string[] = [];
const environment = { ...process.env, LC_ALL: "C.UTF-8", XDG_CACHE_HOME: join(folder, "caches") };
delete (environment as NodeJS.ProcessEnv)["NO_COLOR"];
delete (environment as NodeJS.ProcessEnv)["COLORFGBG"];

before(async () => {
  await drawFolder({ folder: join(folder, "photos"), seed: 4, size: 40, train: 20, validation: 10 });
  const pictures = join(folder, "pictures");
  mkdirSync(pictures);
  const [first, second, third] = await drawnPictures(3);
  writeFileSync(join(pictures, "a.jpg"), first as Buffer);
  writeFileSync(join(pictures, "a-long-name-of-a-photograph-from-the-garden-0017.png"), second as Buffer);
  writeFileSync(join(pictures, "花园里的蜜蜂和蚂蚁.webp"), third as Buffer);
  writeFileSync(join(pictures, "notes.jpg"), "no picture");
  // A network that says the same of every picture, whatever the machine's numbers.
  const imported = await importWeights(join(await drawnWeights(folder), "best", "weights.safetensors"));
  for (const { canonical, offset, size } of tensorsOf(imported.layout, "canonical")) {
    if (!isClassifier(canonical)) continue;
    const values = canonical.endsWith("bias") ? [3, 1, 0.5] : Array.from({ length: size }, () => 0);
    imported.weights.parameters.set(values, offset);
  }
  const class_names = ["bees", "ants", "dragonflies of the meadow"];
  const model = { ...imported.model, class_names };
  await writeImportedFile({ ...imported, model }, join(folder, "insects.safetensors"));
});
after(() => {
  for (const socket of terminals) spawnSync("tmux", ["-S", socket, "kill-server"]);
});

interface Options {
  readonly variables?: Readonly<Record<string, string>>;
  /** Ctrl-C is pressed when this is seen. */
  readonly pressAt?: RegExp;
}

/** The lines on a terminal's screen when all is done, colours in them. */
async function screenOf(
  columns: number,
  commands: readonly string[],
  { variables = {}, pressAt }: Options = {},
): Promise<string> {
  const name = join(folder, `t${terminals.length}`);
  terminals.push(name);
  const done = `${name}.done`;
  writeFileSync(
    `${name}.sh`,
    `cd ${folder}; riffle() { ${process.execPath} ${program} "$@"; }\n${commands.join("\n")}\ntouch ${done}; sleep 60\n`,
  );
  const tmux = (...argv: string[]): string => {
    const { stdout, stderr, status } = spawnSync("tmux", ["-u", "-S", name, "-f", "/dev/null", ...argv], {
      encoding: "utf8",
      env: { ...environment, ...variables },
    });
    assert.equal(status, 0, stderr);
    return stdout;
  };
  tmux("new-session", "-d", "-x", String(columns), "-y", "100", `bash ${name}.sh`);
  const capture = (): string => tmux("capture-pane", "-p", "-e", "-t", "0");
  let isPressed = false;
  for (const until = Date.now() + 60_000; !existsSync(done); await sleep(60)) {
    assert.ok(Date.now() < until, capture());
    if (pressAt === undefined || isPressed || !pressAt.test(capture())) continue;
    tmux("send-keys", "-t", "0", "C-c");
    isPressed = true;
  }
  const text = capture().trimEnd();
  tmux("kill-server");
  return text.replace(/ +$/gm, "");
}

/**
 * The machine, and how fast and well it learns: of a line of progress what stands before top-1, without time left and bar, its
 * numbers and those of steps as #. What is said of an engine that is not built is left out.
 */
function normalised(text: string): string {
  return stripVTControlCharacters(text)
    .replace(/^Engine +.*(?:\n {10}.*)*\n/gm, "")
    .replace(/^(Machine +).*(?:\n {10}.*)*$/gm, "$1#")
    .replace(/^(?:left .*? {2})?((?:epoch|validation).*)$/gm, (_, line: string) =>
      line
        .replace(/ +[━─]+/, "")
        .replace(/ +top-1.*$/, "")
        .replace(/\d[\d.,]*/g, "#")
        .replace(/ {2,}/g, "  "),
    )
    .replace(/^(Best +)[\d.]+ %(.*) epoch \d+$/gm, "$1# %$2 epoch #")
    .replace(/\bstep([ -])[\d,]+/g, "step$1#");
}

function compare(name: string, text: string): void {
  const file = storedPath("golden", "terminal", `${name}.txt`);
  const found = `${normalised(text)}\n`;
  if (process.env["RIFFLE_KEEP_TERMINAL"] === "1") {
    mkdirSync(storedPath("golden", "terminal"), { recursive: true });
    writeFileSync(file, found);
  }
  assert.equal(found, readFileSync(file, "utf8"));
}

const skip = hasTmux ? false : "no tmux here, which is the terminal (apt install tmux)";

suite("on a real terminal", { skip }, () => {
  for (const columns of [80, 140]) {
    test(`of ${columns} columns everything fits, and no word is cut`, async () => {
      const shown = Object.values(scenes).flatMap((scene) => [`echo '$ ${scene}'`, scene]);
      const text = await screenOf(columns, [...shown, "rm -r run"]);
      compare(String(columns), text);
      // Colour is not all that says it, and is there for what is best, wrong, or to be known.
      assert.match(text, /\u001b\[32mbest so far\n?\u001b\[39m/);
      assert.match(text, /^\u001b\[33mwarning:\u001b\[39m /m);
      assert.match(text, /^\u001b\[31mriffle:\u001b\[39m /m);
      assert.match(text, /\u001b\[31mnot read: /);
      assert.match(text, /\u001b\[1mbees 8\d\.\d %/);
    });
  }

  test("Ctrl-C is answered on a line of its own, with the step that is saved", async () => {
    const command = `riffle train --synthetic --train_dataset_size 100000 ${small} --batch_size 8 --log_dir stopped`;
    const text = await screenOf(80, [command, "echo ends with $?"], { pressAt: /^epoch 1\/.*loss/m });
    compare("ctrl-c", text.slice(text.search(/^.*epoch 1\//m)));
    const [, step] = /Stopping after step (\d+)/.exec(text) ?? [];
    assert.match(text, new RegExp(`^Saved +stopped/step-${step}$`, "m"));
  });

  test("light and dark, colours are the terminal's own; NO_COLOR leaves them out, and every word stands", async () => {
    const [light, dark, none] = await Promise.all(
      [{ COLORFGBG: "0;15" }, { COLORFGBG: "15;0" }, { NO_COLOR: "1" }].map((variables) =>
        screenOf(80, [scenes.predict], { variables }),
      ),
    );
    assert.equal(light, dark);
    assert.match(light ?? "", /\u001b\[31m/);
    assert.doesNotMatch(none ?? "", /\u001b/);
    assert.equal(none, stripVTControlCharacters(light ?? ""));
  });
});

test("in a pipe lines are whole, and without colour", () => {
  const { stdout, stderr } = spawnSync(
    "sh",
    ["-c", `riffle() { ${process.execPath} ${program} "$@"; }; ${scenes.predict}`],
    {
      cwd: folder,
      encoding: "utf8",
      env: environment,
    },
  );
  compare("piped", `${stdout}--\n${stderr.trimEnd()}`);
  assert.doesNotMatch(stdout + stderr, /\u001b/);
});
