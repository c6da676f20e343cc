import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { repository as root } from "../support/paths.js";

const place = join("core", "environment.ts");
const source = join(root, "src");
const files = readdirSync(source, { recursive: true, encoding: "utf8" }).filter(
  (path) => path.endsWith(".ts") && !path.endsWith(".test.ts") && path !== place,
);
const text = files.map((path) => readFileSync(join(source, path), "utf8"));

test("one file of src reads the environment", () => {
  assert.deepEqual(
    files.filter((_, i) => /process\s*\.\s*env\b|\benv\b.*from "node:process"/.test(text[i] ?? "")),
    [],
  );
});

test("every variable that it names is read", () => {
  const named = [...readFileSync(join(source, place), "utf8").matchAll(/^ {2}\| "(\w+)"/gm)].map(
    ([, name]) => name,
  );
  assert.ok(named.length > 5, "the list is not found");
  const calls = text.join("\n");
  assert.deepEqual(
    named.filter((name) => !new RegExp(`\\benvironment(?:Number)?\\("${name}"`).test(calls)),
    [],
  );
});
