import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { suite, test } from "node:test";

import { columnsOf } from "../core/columns.js";
import { allCommands, runRiffle } from "./riffle.js";
import { openTerminal } from "./terminal.js";

const commands = await allCommands();

/** The lines of a page of help on a terminal of so many columns. */
async function helpAt(columns: number, argv: readonly string[]): Promise<string[]> {
  let text = "";
  const stdout = Object.assign(new PassThrough(), { isTTY: true, columns });
  stdout.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
  await runRiffle(argv, openTerminal(false, { stdout, stderr: new PassThrough() }));
  return text.trimEnd().split("\n");
}

suite("a page of help", () => {
  for (const columns of [60, 80, 140]) {
    test(`fits ${columns} columns, that of every command`, async () => {
      for (const name of ["", ...commands.map((command) => command.name)]) {
        const argv = name === "" ? ["help"] : [name, "--help", "all"];
        const lines = await helpAt(columns, argv);
        assert.ok(lines.length > 10, name);
        for (const line of lines) {
          // A word by itself may be longer than a line; one of several choices is no such word.
          const isWord = !/[ |]/.test(line.trim());
          assert.ok(isWord || columnsOf(line) <= columns, `${name}: ${line}`);
        }
      }
    });
  }
});
