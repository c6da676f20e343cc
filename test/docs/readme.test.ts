import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, posix } from "node:path";
import { after, suite, test } from "node:test";
import { fileURLToPath } from "node:url";

import ts from "typescript";

import { drawFolder } from "../../src/prepare/draw/draw-folder.js";
import { type CliCommand, ownOptions } from "../../src/cli/command.js";
import { allCommands } from "../../src/cli/riffle.js";
import { findSetting } from "../../src/settings/read-settings.js";
import { program, repository as root } from "../support/paths.js";

const commands = await allCommands();

const here = dirname(fileURLToPath(import.meta.url));
const pages = [
  "README.md",
  "README.zh-CN.md",
  "ARCHITECTURE.md",
  "CONTRIBUTING.md",
  ...markdownUnder("docs"),
];

suite("the README's example", () => {
  const [example] = blocks(read("README.md"), "ts");
  // Inside the package, so that "riffle-vision" means this package.
  const file = join(here, "readme-example.ts");
  const otherFile = join(here, "serve-page-example.ts");
  const scratch = mkdtempSync(join(tmpdir(), "riffle-readme-"));
  after(() => {
    rmSync(otherFile, { force: true });
    rmSync(scratch, { recursive: true, force: true });
    rmSync(file, { force: true });
    rmSync(file.replace(/ts$/, "js"), { force: true });
  });

  test("has the types it seems to have, and so has that of docs/serve.md", () => {
    assert.ok(example, "the README has no TypeScript example");
    writeFileSync(file, example);
    const [other = ""] = blocks(read("docs/serve.md"), "ts");
    writeFileSync(otherFile, other);
    const options: ts.CompilerOptions = {
      ...ts.convertCompilerOptionsFromJson(
        (
          ts.parseConfigFileTextToJson("tsconfig.json", read("tsconfig.json")).config as {
            compilerOptions: object;
          }
        ).compilerOptions,
        root,
      ).options,
      noEmit: true,
      incremental: false,
      rootDir: root,
    };
    const problems = ts.getPreEmitDiagnostics(ts.createProgram([file, otherFile], options));
    assert.deepEqual(
      problems.map((p) => ts.flattenDiagnosticMessageText(p.messageText, "\n")),
      [],
    );
  });

  test("runs as it stands", async () => {
    await drawFolder({ folder: join(scratch, "photos"), seed: 5, size: 96, train: 40, validation: 30 });
    const module = ts.transpileModule(example ?? "", {
      compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 },
    });
    const script = file.replace(/ts$/, "js");
    writeFileSync(script, module.outputText);
    const { status, stdout, stderr } = spawnSync(process.execPath, [script], {
      cwd: scratch,
      encoding: "utf8",
    });
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^epoch 12: top-1 /m);
    assert.match(stdout, /^30 pictures, top-1 [\d.]+, top-5 [\d.]+$/m);
    assert.match(stdout, /^photos\/val\/star\/star_0002\.jpg: \w+$/m);
  });
});

suite("the README's commands for records", () => {
  test("run as they stand, one after another", async (context) => {
    const scratch = mkdtempSync(join(tmpdir(), "riffle-readme-"));
    context.after(() => rmSync(scratch, { recursive: true, force: true }));
    await drawFolder({ folder: join(scratch, "photos"), seed: 6, size: 64, train: 40, validation: 10 });
    const lines = (blocks(read("README.md"), "sh")[0] ?? "").trimEnd().split("\n");
    assert.ok(lines.length >= 6, "the README has no commands for records");
    for (const line of lines) {
      const [npx, riffle, ...argv] = line.split(" ");
      assert.deepEqual([npx, riffle], ["npx", "riffle-vision"], line);
      // As a user would, but for a minute's training.
      if (argv[0] === "train") argv.push("--width", "0.5", "--image_size", "32", "--max_train_steps", "1");
      const { status, stderr } = spawnSync(process.execPath, [program, ...argv], {
        cwd: scratch,
        encoding: "utf8",
      });
      assert.equal(status, 0, `${line}\n${stderr}`);
    }
    assert.ok(existsSync(join(scratch, "sheet.png")));
  });
});

suite("the two commands that do everything", () => {
  for (const page of ["README.md", "README.zh-CN.md"]) {
    test(`stand in the first screen of ${page}, as CI takes them from there`, () => {
      const screen = read(page).split("\n").slice(0, 12);
      for (const name of ["start", "test"]) {
        assert.ok(screen.some((line) => line.startsWith(`    $ npm ci && npm ${name} `)));
      }
    });
  }

  test("are run by CI under no other spelling", () => {
    const script = read(".ci/run");
    assert.match(script, /grep -oE .*README\.md/);
    assert.doesNotMatch(script, /part .*\bnpm (ci|start|test)\b/);
  });
});

suite("the pages", () => {
  test("name only commands and options that exist", () => {
    let seen = 0;
    for (const page of pages) {
      for (const [, name = "", rest = ""] of read(page).matchAll(
        /\briffle(?:-vision)? ([a-z]+(?:-[a-z]+)*)\b([^\n`|]*)/g,
      )) {
        const command = commands.find((c) => c.name === name);
        if (name === "help") continue;
        assert.ok(command, `${page}: there is no command "riffle ${name}"`);
        seen++;
        // What stands behind `--` is the command that several ranks run.
        const [own = "", inner = ""] = rest.split(/ -- /);
        expectOptions(page, command, own);
        const innerCommand = commands.find((c) => c.name === /^[a-z-]+/.exec(inner)?.[0]);
        if (innerCommand !== undefined) expectOptions(page, innerCommand, inner);
      }
    }
    assert.ok(seen > 20, `only ${seen} commands found: has the form of the pages changed?`);
  });

  test("justify every run-time dependency, and no other (docs/adr/0001)", () => {
    const rows = read("docs/adr/0001-run-time-dependencies.md").matchAll(/^\| ([@a-z][\w@/, -]*) \|/gm);
    const justified = [...rows].map(([, name]) => name).filter((name) => name !== "package");
    const { dependencies } = JSON.parse(read("package.json")) as { dependencies: Record<string, string> };
    assert.deepEqual(justified.sort(), Object.keys(dependencies).sort());
  });

  test("link to files that are there", () => {
    let seen = 0;
    for (const page of pages) {
      for (const [, target = ""] of read(page).matchAll(/\]\(([^)#:]+)\)/g)) {
        seen++;
        assert.ok(
          existsSync(join(root, posix.join(posix.dirname(page), target))),
          `${page} links to ${target}`,
        );
      }
    }
    assert.ok(seen > 3, `only ${seen} links found`);
  });
});

function read(path: string): string {
  return readFileSync(join(root, path), "utf8");
}

function markdownUnder(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md"))
    .map((name) => posix.join(folder, name));
}

/** The fenced blocks of a language. */
function blocks(markdown: string, language: string): string[] {
  return [...markdown.matchAll(new RegExp("^```" + language + "\\n(.*?)^```$", "gms"))].map(
    ([, code = ""]) => code,
  );
}

function expectOptions(page: string, command: CliCommand, text: string): void {
  for (const [, option = ""] of text.matchAll(/--([a-z][\w-]*)/g)) {
    const known =
      option === "help" ||
      ownOptions(command).some((own) => own.name === option) ||
      command.settings?.some((setting) => setting === findSetting(option));
    assert.ok(known, `${page}: riffle ${command.name} has no option --${option}`);
  }
}
