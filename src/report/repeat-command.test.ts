import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { repeatCommand } from "./repeat-command.js";

const run = {
  settings: { data_dir: "my photos", recipe: "small-set", lr: 0.1, log_dir: "runs/a" },
  ranks: null,
};
const origins = { data_dir: "given", recipe: "default", init_from: "given", log_dir: "given" };

suite("the command that trains again", () => {
  test("is finetune's where weights were trained from by its recipe", () => {
    const settings = { ...run.settings, recipe: "fine-tune", init_from: "imagenet", freeze: true };
    const given = { ...origins, freeze: "given" };
    assert.equal(
      repeatCommand({ ...run, settings, origins: given }, "runs/a"),
      "npx riffle-vision finetune 'my photos' --from imagenet --freeze true --log_dir runs/a-again",
    );
    const odd = { ...settings, data_dir: "-photos" };
    assert.match(
      repeatCommand({ ...run, settings: odd, origins }, "runs/a"),
      /finetune --data_dir=-photos --from/,
    );
  });

  test("is train's else", () => {
    assert.equal(
      repeatCommand({ ...run, origins }, "runs/a"),
      "npx riffle-vision train --data_dir 'my photos' --log_dir runs/a-again",
    );
    const settings = { ...run.settings, init_from: "imagenet" };
    assert.match(
      repeatCommand({ ...run, settings, origins }, "runs/a"),
      /train --data_dir .* --init_from imagenet/,
    );
  });
});
