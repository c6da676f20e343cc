/** The one way to call the program that is right in a clone and in a project (docs/adr/0014): pages and hints hold to it. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";

import ts from "typescript";

import { allCommands } from "../../src/cli/riffle.js";
import { RIFFLE } from "../../src/core/call.js";
import { program, repository as root } from "../support/paths.js";

const commands = await allCommands();

const names = [...commands.map(({ name }) => name), "help"].join("|");
/** A command line that begins with the name that only a global installation has. */
const bare = new RegExp(`(?<![\\w/.-])riffle (?=(?:${names})\\b|--)`);

function filesOf(folder: string, ending: RegExp): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => ending.test(name))
    .map((name) => join(folder, name));
}

suite("how the program is called", () => {
  const pages = [
    ...["README.md", "README.zh-CN.md", "ARCHITECTURE.md", "CONTRIBUTING.md", ".ci/run"],
    ...filesOf("docs", /\.(md|ya?ml|sbatch|sh)$/),
  ];
  const sources = filesOf("src", /(?<!\.test)\.ts$/);

  test("is npx riffle-vision, for npx riffle fetches a package of others where ours is not installed", () => {
    for (const file of [...pages, ...sources, ...filesOf("scripts", /\.(mjs|sh)$/)]) {
      if (file.includes("0014")) continue;
      assert.doesNotMatch(read(file), /npx riffle(?![\w-])/, file);
    }
  });

  test("is so in every code block of the pages", () => {
    let seen = 0;
    for (const page of pages.filter((name) => name.endsWith(".md"))) {
      for (const line of codeLines(read(page))) {
        if (line.includes(RIFFLE)) seen++;
        assert.doesNotMatch(line, new RegExp(`^(\\$ )?(\\w+=\\S+ )*${bare.source}`), page);
      }
    }
    assert.ok(seen > 30, `only ${seen} command lines found`);
  });

  test("is so in every hint and example", () => {
    let seen = 0;
    for (const file of sources) {
      for (const text of pasted(ts.createSourceFile(file, read(file), ts.ScriptTarget.ES2022, true))) {
        if (text.includes(RIFFLE)) seen++;
        assert.doesNotMatch(text, bare, file);
      }
    }
    assert.ok(seen > 60, `only ${seen} hints and examples found`);
  });

  test("runs the project's own installation", (context) => {
    const { bin, name } = JSON.parse(read("package.json")) as { bin: Record<string, string>; name: string };
    assert.deepEqual(Object.keys(bin).sort(), ["riffle", name]);
    assert.equal(bin["riffle"], bin[name]);
    assert.equal(RIFFLE, `npx ${name}`);
    const project = mkdtempSync(join(tmpdir(), "riffle-project-"));
    context.after(() => rmSync(project, { recursive: true, force: true }));
    mkdirSync(join(project, "node_modules", ".bin"), { recursive: true });
    writeFileSync(join(project, "package.json"), "{}");
    symlinkSync(program, join(project, "node_modules", ".bin", name));
    const [npx = "", ...argv] = `${RIFFLE} inspect --help`.split(" ");
    const env = { ...process.env, npm_config_offline: "true", npm_config_cache: join(project, "cache") };
    const { status, stdout, stderr } = spawnSync(npx, argv, { cwd: project, encoding: "utf8", env });
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^Prints a network's layers/);
  });
});

function read(path: string): string {
  return readFileSync(join(root, path), "utf8");
}

/** Lines of fenced and of indented blocks, without their indentation. */
function codeLines(markdown: string): string[] {
  let isFenced = false;
  return markdown.split("\n").flatMap((line) => {
    if (line.startsWith("```")) isFenced = !isFenced;
    return isFenced || line.startsWith("    ") ? [line.trim()] : [];
  });
}

/** Texts that are there to be pasted: of `hint`, `examples`, and what is printed under a title. */
function pasted(file: ts.SourceFile): string[] {
  const found: string[] = [];
  const visit = (node: ts.Node, isPasted: boolean): void => {
    const is =
      isPasted ||
      (ts.isPropertyAssignment(node) && /^(hint|examples)$/.test(node.name.getText(file))) ||
      (ts.isCallExpression(node) && /(^|\.)(titled|print)$/.test(node.expression.getText(file)));
    if (is && (ts.isStringLiteralLike(node) || ts.isTemplateExpression(node))) found.push(node.getText(file));
    ts.forEachChild(node, (child) => visit(child, is));
  };
  visit(file, false);
  return found.map((text) => text.replaceAll("${RIFFLE}", RIFFLE));
}
