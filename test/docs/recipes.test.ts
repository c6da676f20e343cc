/** docs/recipes.md: the commands that it prints are accepted as they stand, their values and what they are together. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import { findSetting, readSetting } from "../../src/settings/read-settings.js";
import { resolveSettings } from "../../src/settings/resolve-settings.js";
import type { GivenSettings } from "../../src/settings/settings.js";
import { repository } from "../support/paths.js";

const page = readFileSync(join(repository, "docs", "recipes.md"), "utf8");

/** Each `riffle train` of a block, its lines joined, without what is said behind it. */
const commands = [...page.matchAll(/```\n(.*?)```/gs)]
  .flatMap(([, block = ""]) => block.replaceAll(/\\\n\s*/g, "").split("\n"))
  .filter((line) => line.startsWith("npx riffle-vision train "))
  .map((line) => line.replace(/\s+#.*/, ""));

suite("the commands of docs/recipes.md", () => {
  test("are found", () => assert.ok(commands.length > 6, `only ${commands.length}`));

  for (const command of commands) {
    test(command, () => {
      const options = [...command.matchAll(/--(\w+)(?: (?!--)(\S+))?/g)].map(
        ([, name = "", value = "true"]) => {
          const setting = findSetting(name);
          assert.ok(setting, name);
          return [setting, readSetting(setting, value)];
        },
      );
      resolveSettings(Object.fromEntries(options) as GivenSettings, 6000);
    });
  }
});
