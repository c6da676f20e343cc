import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { repository } from "../support/paths.js";

const page = readFileSync(join(repository, "docs", "batch-norm-explained.md"), "utf8");

/** The example of docs/batch-norm-explained.md, worked through by central differences. */
const [z, gamma, beta, dy] = [[1, 1, 5, 5], 4, 1, [1, 2, 3, -1]];

test("the page's gradients are those of its formula, by central differences", () => {
  const numeric = z.map((_, i) =>
    slope((h) => loss({ z: z.map((v, j) => (j === i ? v + h : v)), gamma, beta })),
  );
  close(numeric, listed("dz"));
  close([slope((h) => loss({ z, gamma: gamma + h, beta }))], [0 + 0 + 3 - 1]);
  close([slope((h) => loss({ z, gamma, beta: beta + h }))], [2]);
});

test("the page's three numbers per plane give the same dz", () => {
  const [a, b, c] = [number("a"), number("b"), number("c")];
  const g = [0, 0, 3, -1];
  close(
    z.map((value, i) => a * (g[i] ?? NaN) + b * value + c),
    listed("dz"),
  );
});

/** sum(dy * y): its gradient with respect to y is dy. */
function loss(at: { z: number[]; gamma: number; beta: number }): number {
  const mean = at.z.reduce((s, v) => s + v, 0) / at.z.length;
  const variance = at.z.reduce((s, v) => s + (v - mean) ** 2, 0) / at.z.length;
  return at.z.reduce((sum, v, i) => {
    const y = Math.max(0, (at.gamma * (v - mean)) / Math.sqrt(variance) + at.beta);
    return sum + (dy[i] ?? NaN) * y;
  }, 0);
}

function slope(f: (h: number) => number): number {
  const h = 1e-6;
  return (f(h) - f(-h)) / (2 * h);
}

/** The list at the end of the formula for `name`, e.g. "[0, 0, 4, -4]". */
function listed(name: string): number[] {
  const start = page.indexOf(`    ${name} = `);
  assert.ok(start >= 0, `the page no longer defines ${name}`);
  const text = /\[[-\d., ]+\]/.exec(page.slice(start))?.[0] ?? "[]";
  return JSON.parse(text) as number[];
}

/** The number that ends the line defining `name`. */
function number(name: string): number {
  const line = new RegExp(`^    ${name} = .*?(-?[\\d.]+)$`, "m").exec(page);
  assert.ok(line, `the page no longer gives a number for ${name}`);
  return Number(line[1]);
}

function close(actual: number[], expected: number[]): void {
  assert.equal(actual.length, expected.length);
  actual.forEach((value, i) => {
    const wanted = expected[i] ?? NaN;
    // A central difference with h = 1e-6 is good to about h^2 + 1e-16 / h.
    assert.ok(Math.abs(value - wanted) < 1e-8, `element ${i}: ${value}, the page says ${wanted}`);
  });
}
