import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { repository } from "../../test/support/paths.js";
import { riffleVersion } from "./version.js";

test("the version is package.json's", () => {
  const { version } = JSON.parse(readFileSync(join(repository, "package.json"), "utf8")) as {
    version: string;
  };
  assert.equal(riffleVersion(), version);
});
