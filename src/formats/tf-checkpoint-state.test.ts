import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, suite, test } from "node:test";

import fc from "fast-check";

import { needs, sharedPath } from "../../test/support/shared.js";
import { CheckpointError } from "../core/error.js";
import { writeBundle } from "./tf-bundle.js";
import {
  encodeCheckpointState,
  latestCheckpoint,
  parseCheckpointState,
  writeCheckpointState,
} from "./tf-checkpoint-state.js";

const parse = (text: string) => parseCheckpointState(Buffer.from(text), "checkpoint");

function refused(text: string | Uint8Array, what: RegExp): void {
  assert.throws(
    () => parseCheckpointState(Buffer.from(text), "checkpoint"),
    (error: unknown) => error instanceof CheckpointError && what.test(error.message),
  );
}

suite("the text of a `checkpoint` file", () => {
  test("that TensorFlow wrote is read", needs("tf-reference", "ckpt-0.5x-10", "checkpoint"), () => {
    const bytes = readFileSync(sharedPath("tf-reference", "ckpt-0.5x-10", "checkpoint"));
    const state = parseCheckpointState(bytes, "checkpoint");
    assert.deepEqual(state, { latest: "model.ckpt-5", all: ["model.ckpt-0", "model.ckpt-5"] });
    assert.equal(encodeCheckpointState(state), bytes.toString());
  });

  test("is given back, whatever is in the paths", () => {
    const path = fc
      .string({ unit: "grapheme", minLength: 1, maxLength: 30 })
      .filter((text) => !/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(text));
    fc.assert(
      fc.property(path, fc.array(path, { maxLength: 4 }), (latest, all) => {
        assert.deepEqual(parse(encodeCheckpointState({ latest, all })), { latest, all });
      }),
    );
  });

  test("may have comments, CRLF, time stamps, single quotes, escapes and joined texts", () => {
    const text =
      '# made by hand\r\nmodel_checkpoint_path: \'a\\"b\' "\\303\\251\\x41\\\\"\r\n' +
      'all_model_checkpoint_paths: "x"; all_model_checkpoint_timestamps: 1.5e9\nlast_preserved_timestamp: -2\n';
    assert.deepEqual(parse(text), { latest: 'a"b\u00e9A\\', all: ["x"] });
  });

  test("is refused with the byte where it stops being one", () => {
    refused("", /model_checkpoint_path is missing/);
    refused('model_checkpoint_path: "a', /byte 23: .*expected a quoted text/);
    refused('model_checkpoint_path: "a\nb"', /expected a quoted text/);
    refused('model_checkpoint_path "a"', /byte 21.*name and a colon/);
    refused('model_checkpoint_path: "a"\nmodel_checkpoint_path: "b"', /comes twice/);
    refused('model_checkpoint_path: "\\q"', /unknown escape/);
    refused('model_checkpoint_path: "\\377"', /not UTF-8/);
    refused('model_checkpoint_path: ""', /empty/);
    refused('model_checkpoint_path: "a\\000"', /control characters/);
    refused('model_checkpoint_path: "a\\033[31m"', /control characters/);
    refused('__proto__: "a"', /a field that no/);
    refused("\u0000\u0001", /name and a colon/);
    refused('last_preserved_timestamp: "x"', /expected a number/);
  });
});

suite("the newest whole checkpoint of a folder", () => {
  const scratch = mkdtempSync(join(tmpdir(), "riffle-tf-state-"));
  after(() => rmSync(scratch, { recursive: true }));
  let folder = scratch;
  let count = 0;

  beforeEach(async () => {
    folder = join(scratch, String(count++));
    mkdirSync(folder);
    for (const step of [2, 10, 9]) await save(`model.ckpt-${step}`, step);
  });

  const save = (name: string, value: number) =>
    writeBundle(
      join(folder, name),
      new Map([["w", { dtype: "F32", shape: [1], data: Float32Array.of(value) }]]),
    );

  /** Writes the text file, and gives the step that is found and what was passed over. */
  async function found(text: string | undefined): Promise<{ value: unknown; passedOver: string }> {
    if (text !== undefined) writeFileSync(join(folder, "checkpoint"), text);
    const { bundle, passedOver } = await latestCheckpoint(folder);
    return { value: (await bundle.read("w")).data[0], passedOver: passedOver.join("\n") };
  }

  test("is the one that the text file names", async () => {
    assert.deepEqual(await found('model_checkpoint_path: "model.ckpt-9"'), { value: 9, passedOver: "" });
    assert.equal((await found(`model_checkpoint_path: "${join(folder, "model.ckpt-2")}"`)).value, 2);
  });

  test("is the one of that name where the folder was moved, or comes from another machine", async () => {
    for (const path of [
      "/home/someone/models/run/model.ckpt-9",
      "../run/model.ckpt-9",
      "models/run/model.ckpt-9",
      "C:\\\\models\\\\run\\\\model.ckpt-9",
      "D:/models/model.ckpt-9",
    ]) {
      assert.deepEqual(await found(`model_checkpoint_path: "${path}"`), { value: 9, passedOver: "" }, path);
    }
    rmSync(join(folder, "model.ckpt-9.index"));
    const text = 'model_checkpoint_path: "/a/model.ckpt-9"\nall_model_checkpoint_paths: "/a/model.ckpt-2"';
    const { value, passedOver } = await found(text);
    assert.equal(value, 2);
    assert.match(passedOver, /"\/a\/model\.ckpt-9": .*none of its name/);
  });

  test("is that of the highest step where there is no text file", async () => {
    assert.deepEqual(await found(undefined), { value: 10, passedOver: "checkpoint: not there" });
  });

  for (const [what, text, reason] of [
    ["is empty", "", /model_checkpoint_path is missing/],
    ["is garbage", "\0\0garbage", /is no list of checkpoints/],
    [
      "names what does not exist",
      'model_checkpoint_path: "model.ckpt-99"',
      /model.ckpt-99: .*no TensorFlow checkpoint/,
    ],
    ["leaves the folder", 'model_checkpoint_path: "../0/model.ckpt-8"', /outside of the folder/],
    [
      "leaves the folder in between",
      'model_checkpoint_path: "a/../../0/model.ckpt-8"',
      /outside of the folder/,
    ],
    ["names the folder itself", 'model_checkpoint_path: "."', /outside of the folder/],
    [
      "names an absolute path elsewhere",
      'model_checkpoint_path: "/tmp/model.ckpt-8"',
      /outside of the folder.*none of its name/,
    ],
    ["has a name of 5000 characters", `model_checkpoint_path: "${"x".repeat(5000)}"`, /too long/],
    ["has a name of 300 characters", `model_checkpoint_path: "${"x".repeat(300)}"`, /ENAMETOOLONG/],
    ["is larger than any such file", " ".repeat(2 ** 20 + 1), /at most 1048576 bytes, found 1048577/],
  ] as const) {
    test(`is found in the folder where the text file ${what}`, async () => {
      const { value, passedOver } = await found(text);
      assert.equal(value, 10);
      assert.match(passedOver, reason);
    });
  }

  test("is an older one where the newest is damaged, cut short or without its data", async () => {
    const [nine, ten] = [9, 10].map((step) => join(folder, `model.ckpt-${step}.data-00000-of-00001`));
    writeFileSync(ten as string, Buffer.from([0, 0, 32, 66]));
    writeFileSync(nine as string, "123");
    const text = encodeCheckpointState({ latest: "model.ckpt-10", all: ["model.ckpt-9", "model.ckpt-10"] });
    const { value, passedOver } = await found(text);
    assert.equal(value, 2);
    assert.match(
      passedOver,
      /model.ckpt-10: .*tensor "w".*checksum.*\nmodel.ckpt-9: .*tensor "w" lies beyond the end/,
    );
    rmSync(nine as string);
    assert.match(
      (await found(text)).passedOver,
      /model.ckpt-9: model.ckpt-9.data-00000-of-00001 is not there/,
    );
  });

  test("is none that a kill left unfinished: data without an index, or an index under its temporary name", async () => {
    writeFileSync(join(folder, "model.ckpt-11.data-00000-of-00001"), "1234");
    writeFileSync(join(folder, ".saving-model.ckpt-11.index"), "12");
    assert.deepEqual(await found(undefined), { value: 10, passedOver: "checkpoint: not there" });
  });

  test("is not searched for beside a text file that is a folder", async () => {
    mkdirSync(join(folder, "checkpoint"));
    const { value, passedOver } = await found(undefined);
    assert.equal(value, 10);
    assert.match(passedOver, /not a regular file/);
  });

  test("is an error that names all that was passed over where none is whole", async () => {
    for (const step of [2, 9, 10]) writeFileSync(join(folder, `model.ckpt-${step}.index`), "x");
    await assert.rejects(latestCheckpoint(folder), (error: unknown) => {
      assert.ok(error instanceof CheckpointError);
      assert.match(
        error.message,
        /no TensorFlow checkpoint is whole.*model.ckpt-10: .*model.ckpt-9: .*model.ckpt-2: /,
      );
      return true;
    });
    await assert.rejects(latestCheckpoint(join(folder, "none")), CheckpointError);
  });

  test("is named by the text file that we write", async () => {
    await writeCheckpointState(folder, { latest: "model.ckpt-2", all: ["model.ckpt-2"] });
    assert.equal((await found(undefined)).value, 2);
  });
});
