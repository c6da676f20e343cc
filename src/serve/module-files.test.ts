import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import { pathToFileURL } from "node:url";

import { scratch } from "../../test/support/tiny-run.js";
import { moduleFiles } from "./module-files.js";

const folder = scratch();
mkdirSync(join(folder, "a", "deep"), { recursive: true });
const root = pathToFileURL(`${join(folder, "a")}/`);

function write(files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, "a", name), text);
}

suite("moduleFiles", () => {
  test("finds what is imported, exported again, imported late, and what workers and engines are loaded from", () => {
    write({
      "index.js": `import { a } from "./one.js";\nimport {\n  b,\n} from "./two.js";\nimport "./three.js";\nexport * from "./deep/four.js";\n
        export const late = () => import("./five.js"), say = "from ./none.js";
        /* import "./comment.js" */
        // import "./comment.js"
        new Worker(new URL("./worker.js", import.meta.url), { type: "module" });`,
      "one.js": "export const a = 1;",
      "two.js": `import { a } from "./one.js"; export const b = a;`,
      "three.js": `import "./index.js";`,
      "deep/four.js": `export { a as four } from "../one.js";`,
      "five.js": "",
      "worker.js": `fetch(new URL("deep/engine.wasm", import.meta.url));`.replace('"deep', '"./deep'),
      "deep/engine.wasm": "\0asm",
      "unused.js": "",
    });
    const found = moduleFiles(root, "index.js");
    assert.deepEqual(
      [...found.keys()].sort(),
      ["deep/engine.wasm", "deep/four.js", "five.js", "index.js", "one.js", "three.js", "two.js", "worker.js"], // prettier-ignore
    );
    assert.equal(found.get("deep/engine.wasm")?.toString(), "\0asm");
  });

  test("refuses packages, Node's modules and what lies outside of the folder", () => {
    for (const specifier of ["node:fs", "zod", "../outside.js", "./deep/../../outside.js"]) {
      write({ "bad.js": `import x from "${specifier}";` });
      assert.throws(
        () => moduleFiles(root, "bad.js"),
        /bad\.js imports .*, which a page cannot have/,
        specifier,
      );
    }
  });
});
