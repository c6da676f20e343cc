import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { after, suite, test } from "node:test";

import { repository } from "../../test/support/paths.js";
import { Draws, streams } from "../core/random.js";
import { crc32c, plainCrc32c } from "./crc32c.js";
import { writeBundle } from "./tf-bundle.js";
import { encodeExample } from "./tf-example.js";
import { frameRecord } from "./tfrecord.js";

const scratch = mkdtempSync(join(tmpdir(), "riffle-crc-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

suite("CRC-32C", () => {
  test("of the texts in RFC 3720 is what stands there", () => {
    for (const sum of [crc32c, plainCrc32c]) {
      assert.equal(sum(new Uint8Array(32)), 0x8a9136aa);
      assert.equal(sum(new Uint8Array(32).fill(255)), 0x62a8ab43);
      assert.equal(sum(Buffer.from("123456789")), 0xe3069283);
    }
  });

  test("is the same with the addon and without, at any length and place, and continued anywhere", () => {
    const draws = new Draws(3, streams.draw, 0, 0);
    const bytes = Uint8Array.from({ length: 5000 }, () => draws.below(256));
    const lengths = [...Array.from({ length: 300 }, (_, i) => i), 1023, 1024, 1025, 4096, 4991];
    for (const length of lengths) {
      const from = length % 9;
      const part = bytes.subarray(from, from + length);
      const cut = draws.below(length + 1);
      assert.equal(plainCrc32c(part), crc32c(part), `${length} bytes`);
      assert.equal(
        plainCrc32c(part.subarray(cut), crc32c(part.subarray(0, cut))),
        crc32c(part),
        `cut at ${cut}`,
      );
    }
  });
});

/** The rooms `core` and `formats` as they are compiled, in a place that has no build folder. */
function withoutAddon(): string {
  for (const room of ["core", "formats"]) {
    cpSync(join(repository, "dist", "src", room), join(scratch, "dist", "src", room), { recursive: true });
  }
  symlinkSync(join(repository, "node_modules"), join(scratch, "node_modules"));
  writeFileSync(join(scratch, "package.json"), readFileSync(join(repository, "package.json")));
  return join(scratch, "dist", "src", "formats");
}

test("every format is read without the compiled addon", async () => {
  const formats = withoutAddon();
  const modules = readdirSync(formats).filter((name) => name.endsWith(".js") && !name.includes(".test."));
  assert.ok(modules.includes("crc32c.js") && modules.length > 15);
  await writeBundle(
    join(scratch, "model.ckpt-1"),
    new Map([["w", { dtype: "F32", shape: [3], data: Float32Array.of(1, 2, 3) }]]),
  );
  const example = encodeExample([["label", { kind: "ints", values: [7n] }]]);
  writeFileSync(join(scratch, "shard"), frameRecord(example));
  const script = `
    import assert from "node:assert/strict";
    const at = (name) => import(${JSON.stringify(pathToFileURL(formats).href)} + "/" + name);
    for (const name of ${JSON.stringify(modules)}) await at(name);
    await assert.rejects(async () => (await at("../core/addon.js")).loadAddon(), /not built/);
    const bundle = await (await at("tf-bundle.js")).readBundle("model.ckpt-1");
    assert.deepEqual((await bundle.read("w")).data, Float32Array.of(1, 2, 3));
    const records = await (await at("tfrecord.js")).RecordReader.open("shard");
    const { payload } = await records.next();
    console.log((await at("tf-example.js")).decodeExample(payload).get("label").values[0]);
  `;
  const printed = execFileSync(process.execPath, ["--input-type=module", "-e", script], { cwd: scratch });
  assert.equal(printed.toString().trim(), "7n");
});
