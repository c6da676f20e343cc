import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, suite, test } from "node:test";

import { CheckpointError, UsageError } from "../core/error.js";
import type { TrainEvent, WeightsEvent } from "../run/events.js";
import { providePublished, settingsOfNamed, weightsPath } from "./named-weights.js";
import { addressOf, type Published, published, publishedNamed, publishedNames } from "./published.js";

const folder = mkdtempSync(join(tmpdir(), "riffle-named-"));
const content = Buffer.alloc(5000, "weights");
const sha256 = createHash("sha256").update(content).digest("hex");
/** As one of torchvision's, with a checksum that bytes of the test's own have. */
const row: Published = {
  ...published[1],
  file: `drawn-${sha256.slice(0, 10)}.pth`,
  sha256: sha256.slice(0, 10),
  bytes: 5000,
};
const path = join(folder, "caches", "riffle", "weights", row.file);

let requests = 0;
const server = createServer((request, response) => {
  requests++;
  if (request.url === `/${row.file}`) response.end(content);
  else response.writeHead(404).end();
});

before(async () => {
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  process.env["RIFFLE_TEST_WEIGHTS_URL"] = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  process.env["XDG_CACHE_HOME"] = join(folder, "caches");
});
after(() => {
  server.close();
  server.closeAllConnections();
  rmSync(folder, { recursive: true, force: true });
});

async function provide(offline: boolean): Promise<WeightsEvent | undefined> {
  const events: TrainEvent[] = [];
  await providePublished(row, { offline, report: (event) => events.push(event) });
  return events.find((event) => event.event === "weights");
}

suite("names of published weights", () => {
  test("are those of torchvision's four files, whose checksums stand in their names", () => {
    for (const name of publishedNames) {
      const found = publishedNamed(name);
      assert.match(found?.sha256 ?? "", /^[0-9a-f]{8,10}$/);
      assert.ok(found?.file.endsWith(`-${found.sha256}.pth`));
    }
    assert.equal(publishedNamed("imagenet"), published[1]);
    for (const name of ["torchvision/2.0x", "torchvision/2", "torchvision/2X", "Torchvision/2.0"])
      assert.equal(publishedNamed(name), published[2]);
  });

  test("are no paths, and paths no names", () => {
    for (const given of ["./imagenet", "runs/imagenet", "model_1p", "weights/torchvision/1.0x"])
      assert.equal(publishedNamed(given), undefined);
    assert.equal(weightsPath("./imagenet"), join(process.cwd(), "imagenet"));
    assert.equal(dirname(weightsPath("imagenet")), dirname(path));
    for (const given of ["torchvision/3.0x", "torchvision/", "torchvision/x"])
      assert.throws(() => publishedNamed(given), UsageError);
  });

  test("say network and evaluation before anything is fetched", () => {
    const of = (init_from: string, given: object = {}): unknown => settingsOfNamed({ init_from, ...given });
    assert.deepEqual(of("imagenet"), { variant: "torchvision", width: 1, eval_resize: 256 });
    assert.deepEqual(of("torchvision/1.5x"), { variant: "torchvision", width: 1.5, eval_resize: 232 });
    assert.deepEqual(of("torchvision/2.0x", { image_size: 112 }), {
      variant: "torchvision",
      width: 2,
      eval_resize: 116,
    });
    assert.deepEqual(of("torchvision/2.0x", { eval_crop: 0.9 }), { variant: "torchvision", width: 2 });
    assert.equal(of("model_1p"), undefined);
    assert.throws(() => of("imagenet", { width: 0.5 }), /that width: torchvision\/0\.5x/);
    assert.throws(() => of("imagenet", { variant: "tensorflow" }), /Leave --variant out/);
  });
});

suite("published weights", () => {
  test("are not fetched with --offline, which says where they would lie and how they come there", async () => {
    await assert.rejects(provide(true), (error) => {
      assert.ok(error instanceof CheckpointError);
      assert.equal(error.problem.where, path);
      assert.match(error.problem.hint ?? "", new RegExp(`curl .* ${addressOf(row)}$`));
      return true;
    });
    assert.equal(requests, 0);
  });

  test("are fetched once, and then taken from where they were kept", async () => {
    const first = await provide(false);
    assert.deepEqual([first?.fetched, first?.sha256, first?.bytes], [true, sha256, 5000]);
    assert.deepEqual(readFileSync(path), content);
    assert.equal((await provide(false))?.fetched, false);
    assert.equal((await provide(true))?.fetched, false);
    assert.equal(requests, 1);
  });

  test("are never mistaken for what else stands in their place; the hint makes room", async () => {
    writeFileSync(path, "something of the user's");
    let hint = "";
    await assert.rejects(provide(false), (error) => {
      assert.ok(error instanceof CheckpointError);
      hint = error.problem.hint ?? "";
      return true;
    });
    assert.equal(readFileSync(path, "utf8"), "something of the user's");
    assert.equal(spawnSync("sh", ["-c", hint.slice(hint.indexOf("mv "))]).status, 0);
    assert.equal((await provide(false))?.fetched, true);
    assert.ok(existsSync(`${path}.other`));
    rmSync(path);
    mkdirSync(path);
    await assert.rejects(provide(false), /no file/);
  });
});
