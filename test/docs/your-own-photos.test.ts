/**
 * docs/your-own-photos.md: its commands run as they stand, one after another, from a folder of pictures to a prediction; the
 * weights are the test's own, so nothing is fetched. What the page says of published weights is what the table says.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";

import { drawFolder } from "../../src/prepare/draw/draw-folder.js";
import { published } from "../../src/weights/published.js";
import { program, repository } from "../support/paths.js";
import { drawnWeights, scratch } from "../support/tiny-run.js";

const page = readFileSync(join(repository, "docs", "your-own-photos.md"), "utf8");
const commands = [...page.matchAll(/^```sh\n(.*?)^```$/gms)].flatMap(([, code = ""]) =>
  code.trimEnd().split("\n"),
);
const folder = scratch();

suite("the page on photographs of one's own", () => {
  test("has commands that work, and the first one prints those that come next", async () => {
    const drawn = join(folder, "drawn");
    await drawFolder({ folder: drawn, seed: 4, size: 40, train: 30, validation: 10 });
    cpSync(join(drawn, "train"), join(folder, "photos"), { recursive: true });
    const [picture = ""] = readdirSync(join(folder, "photos", "star"));
    cpSync(join(folder, "photos", "star", picture), join(folder, "photo.jpg"));
    const weights = await drawnWeights(folder);
    assert.equal(commands.length, 5);
    const outputs = commands.map((command) => {
      const [npx, name, ...argv] = command.split(" ");
      assert.deepEqual([npx, name], ["npx", "riffle-vision"], command);
      // In place of what would be fetched, and of a minute's training.
      if (argv[0] === "finetune")
        argv.push(...(argv.includes("--from") ? [] : ["--from", weights]), "--max_epochs=1");
      const options = {
        cwd: folder,
        encoding: "utf8",
        env: { ...process.env, XDG_CACHE_HOME: folder },
      } as const;
      const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...argv], options);
      assert.equal(status, 0, `${command}\n${stderr}`);
      return { stdout, stderr };
    });
    assert.match(outputs[0]?.stderr ?? "", /^Recipe +fine-tune: /m);
    assert.match(outputs[1]?.stdout ?? "", /^photo\.jpg +\w+/m);
    const next = [...(outputs[0]?.stdout ?? "").matchAll(/^(?:Next)? +(npx riffle-vision .*)$/gm)].map(
      ([, line]) => line,
    );
    assert.deepEqual(next, [commands[1], "npx riffle-vision serve runs/insects", commands[2]]);
    assert.ok(existsSync(join(folder, "runs", "insects", "report.html")));
    assert.ok(existsSync(join(folder, "insects-page", "index.html")));
    assert.ok(existsSync(join(folder, "insects-page", "serve.mjs")));
  });

  test("tells of the published weights what their table has", () => {
    for (const { name, file, bytes, top1, evalResize } of Object.values(published)) {
      const cells = [
        `\`${file}\``,
        `${(bytes / 1e6).toFixed(1)} MB`,
        `${(100 * top1).toFixed(3)} %`,
        `${evalResize} px`,
      ];
      const row = page.split("\n").find((line) => line.startsWith(`| \`${name}\``)) ?? "";
      assert.ok(row.endsWith(`| ${cells.join(" | ")} |`), `${name}: ${row}`);
    }
  });
});
