/**
 * What TypeScript and C++ hand each other is flat arrays, so an order stands on both sides. Here the two texts are held
 * against each other: a name that was added, moved or renamed on one side only fails.
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { doings, stateArrays, views } from "../../src/backends/engine/engine.js";
import { phases } from "../../src/distributed/ranks.js";
import { kinds } from "../../src/program/kinds/kinds.js";
import { repository } from "../support/paths.js";
import { tables } from "../support/run.js";

const read = (...path: string[]): string => readFileSync(join(repository, ...path), "utf8");
const engine = read("native", "binding", "engine.cc");
const backend = read("src", "backends", "engine", "runs.ts");

test("the arrays of a run's state", () => {
  assert.deepEqual(enumerators(read("native", "runtime", "state.h"), "StateArray"), [...stateArrays]);
});

test("the tables of batch norm", () => {
  assert.deepEqual(enumerators(read("native", "runtime", "batch_norm.h"), "Table"), [...tables]);
});

test("how planes are looked at, and what threads do in a profile", () => {
  assert.deepEqual(enumerators(read("native", "runtime", "executor.h"), "MapView"), [...views]);
  assert.deepEqual(enumerators(read("native", "runtime", "profile.h"), "Doing"), [...doings]);
});

test("what a rank is doing", () => {
  assert.deepEqual(enumerators(read("native", "ranks", "watch.h"), "Phase"), [...phases]);
});

test("the numbers of the kinds of steps", () => {
  const byNumber = Object.entries(kinds).sort(([, a], [, b]) => a.code - b.code);
  assert.deepEqual(
    enumerators(read("native", "runtime", "program.h"), "StepKind"),
    byNumber.map(([name]) => name),
  );
  assert.deepEqual(
    byNumber.map(([, kind]) => kind.code),
    byNumber.map((_, i) => i),
  );
});

test("the number of the program's format", () => {
  const [, ours] = found(read("src", "backends", "engine", "encode.ts"), /const FORMAT = (\d+);/);
  const [, theirs] = found(read("native", "runtime", "program.cc"), /kFormat = (\d+);/);
  assert.equal(ours, theirs);
});

test("what a picture's decoding is told", () => {
  const [, body = ""] = found(
    read("src", "data", "pictures", "render.ts"),
    /const fields = \{\n([^]*?)\n {2}\};/,
  );
  const ours = [...body.matchAll(/^ {4}(\w+):/gm)].map(([, name]) => name);
  const theirs = enumerators(read("native", "binding", "decode.cc"), "Field");
  assert.equal(theirs.pop(), "fields");
  assert.deepEqual(theirs, ours);
});

test("the settings of a loss and of an update, and what a step resolves to", () => {
  const [, update = ""] = found(backend, /updates\.flatMap\(\(u\) => \[(.*)\]\)/);
  assert.deepEqual(members(update, "u\\."), byIndex("u"));
  const [, loss = ""] = found(backend, /Float64Array\.of\(\s*(loss\.[^;]*)\);/);
  // A choice of two there, whether it is the second here.
  const ofLoss = members(loss, "loss\\.").map((name) => (name === "gradientOf" ? "ofLogit" : name));
  assert.deepEqual(ofLoss, byIndex("l"));
  const [, result = ""] = found(backend, /const \[(.*)\] = row;/);
  const [, scale = ""] = found(backend, /const \[(.*)\] = row\.slice\(8\)/);
  const [, numbers = ""] = found(engine, /MakeNumbers\(\s*e, (\{r\.[^]*?\})\)/);
  const names = members(numbers, "\\br\\.");
  assert.deepEqual(names.slice(0, 8), result.split(", "));
  assert.deepEqual(members(numbers, "r\\.scale\\."), scale.split(", "));
});

/** The names of a C++ enum, in order, as TypeScript writes them. */
function enumerators(text: string, name: string): string[] {
  const [, body = ""] = found(text, new RegExp(`enum (?:class )?${name}(?: : \\w+)? \\{([^}]*)\\}`));
  return [...body.matchAll(/\bk([A-Z]\w*)/g)].map(
    ([, each = ""]) => each.charAt(0).toLowerCase() + each.slice(1),
  );
}

/** Members that stand behind `before`, in order of their text. */
function members(text: string, before: string): string[] {
  return [...text.matchAll(new RegExp(`${before}(\\w+)`, "g"))].map(([, name = ""]) => camel(name));
}

/** C++ members by the element of `array` that they are taken from. */
function byIndex(array: string): string[] {
  const taken = [...engine.matchAll(new RegExp(`\\.(\\w+) = ${array}\\[(\\d)\\]`, "g"))];
  assert.deepEqual(
    taken.map(([, , index]) => Number(index)),
    taken.map((_, i) => i),
  );
  return taken.map(([, name = ""]) => camel(name));
}

function camel(name: string): string {
  return name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
}

function found(text: string, pattern: RegExp): RegExpExecArray {
  const match = pattern.exec(text);
  assert.ok(match, `nothing matches ${String(pattern)}: has the source moved?`);
  return match;
}
