import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";

import sharp from "sharp";

import { DataError } from "../../core/error.js";
import { objectClasses } from "./classes.js";
import { drawFolder } from "./draw-folder.js";
import { drawPicture } from "./picture.js";

const scratch = mkdtempSync(join(tmpdir(), "riffle-draw-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

const small = { seed: 1, size: 64, train: 20, validation: 10 };

/** Every file under `root` with its bytes. */
function contents(root: string): Map<string, string> {
  const files = readdirSync(root, { recursive: true, withFileTypes: true }).filter((e) => e.isFile());
  return new Map(
    files.map((e) => {
      const path = join(e.parentPath, e.name);
      return [path.slice(root.length), readFileSync(path).toString("base64")];
    }),
  );
}

suite("drawFolder", () => {
  test("writes a JPEG of the asked size and a box for every picture, in a folder per class", async () => {
    const folder = join(scratch, "whole");
    assert.equal(await drawFolder({ ...small, folder }), 30);
    assert.deepEqual(
      readdirSync(join(folder, "train")),
      objectClasses.map((c) => c.name),
    );
    for (const { name } of objectClasses) {
      assert.equal(readdirSync(join(folder, "train", name)).length, 2);
      assert.equal(readdirSync(join(folder, "val", name)).length, 1);
      assert.equal(readdirSync(join(folder, "annotations", "train", name)).length, 2);
    }
    const { format, width, height } = await sharp(join(folder, "train", "star", "star_0000.jpg")).metadata();
    assert.deepEqual({ format, width, height }, { format: "jpeg", width: 64, height: 64 });
  });

  test("the same seed gives the same bytes, another seed others", async () => {
    for (const [name, seed] of [
      ["a", 7],
      ["b", 7],
      ["c", 8],
    ] as const) {
      await drawFolder({ ...small, seed, folder: join(scratch, name) });
    }
    const [a, b, c] = ["a", "b", "c"].map((name) => contents(join(scratch, name)));
    assert.deepEqual(a, b);
    assert.notDeepEqual(a, c);
  });

  test("keeps a complete set drawn with the same settings", async () => {
    const folder = join(scratch, "kept");
    await drawFolder({ ...small, folder });
    const marker = join(folder, "train", "star", "star_0000.jpg");
    writeFileSync(marker, "touched");
    assert.equal(await drawFolder({ ...small, folder }), 0);
    assert.equal(readFileSync(marker, "utf8"), "touched");
  });

  test("refuses a folder that holds something else, and leaves it as it was", async () => {
    const folder = join(scratch, "photos");
    mkdirSync(folder);
    writeFileSync(join(folder, "mine.txt"), "mine");
    await assert.rejects(drawFolder({ ...small, folder }), (error: unknown) => {
      assert.ok(error instanceof DataError);
      assert.match(error.message, /something else/);
      return true;
    });
    assert.deepEqual(readdirSync(folder), ["mine.txt"]);
  });

  test("leaves nothing behind when it is stopped half-way", async () => {
    const folder = join(scratch, "stopped");
    const stop = new AbortController();
    await assert.rejects(drawFolder({ ...small, folder }, (done) => done === 9 && stop.abort(), stop.signal));
    assert.deepEqual(
      readdirSync(scratch).filter((name) => name.includes("stopped")),
      [],
    );
  });
});

suite("drawPicture", () => {
  test("the box is tight around the pixels of the object", async () => {
    for (let index = 0; index < 40; index++) {
      const { svg, box } = drawPicture(3, index, 96);
      const [xmin, ymin, xmax, ymax] = await objectExtent(svg);
      for (const [drawn, said] of [
        [xmin, box.xmin],
        [ymin, box.ymin],
        [xmax, box.xmax],
        [ymax, box.ymax],
      ] as const) {
        assert.ok(Math.abs(drawn - said) <= 1, `picture ${index}: box side ${said}, pixels end at ${drawn}`);
      }
    }
  });

  test("all classes are drawn equally often", () => {
    const labels = Array.from({ length: 100 }, (_, i) => drawPicture(1, i, 64).label);
    for (let label = 0; label < objectClasses.length; label++) {
      assert.equal(labels.filter((l) => l === label).length, 10);
    }
  });
});

/** First and last column and row, from 1, of the object alone: white on black. */
async function objectExtent(svg: string): Promise<[number, number, number, number]> {
  const path = /<path fill-rule="evenodd"[^>]* d="([^"]+)"/.exec(svg)?.[1] ?? "";
  const alone =
    `<svg xmlns="http://www.w3.org/2000/svg" width="96" height="96"><rect width="96" height="96"/>` +
    `<path fill-rule="evenodd" fill="#fff" d="${path}"/></svg>`;
  const { data } = await sharp(Buffer.from(alone)).greyscale().raw().toBuffer({ resolveWithObject: true });
  const lit = [...data.keys()].filter((i) => (data[i] ?? 0) > 0);
  const [xs, ys] = [lit.map((i) => (i % 96) + 1), lit.map((i) => Math.floor(i / 96) + 1)];
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}
