import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { suite, test } from "node:test";

import { launchArguments } from "./launch-command.js";
import { messageLine, type RankMessage, RankMessageReader } from "./rank-messages.js";

/** What a reader hears and what it takes for others' words, of bytes that arrive in these pieces. */
function read(pieces: readonly (string | Uint8Array)[]): { heard: RankMessage[]; said: string[] } {
  const heard: RankMessage[] = [];
  const said: string[] = [];
  const reader = new RankMessageReader(
    (message) => heard.push(message),
    (line) => said.push(line),
  );
  for (const piece of pieces) reader.read(Buffer.from(piece));
  reader.end();
  return { heard, said };
}

const messages: readonly RankMessage[] = [
  { rank: 3, size: 8, pid: 4711, host: "node1" },
  { rank: 0, to: "stderr", text: "\u001b[2Kepoch 1/3 ━━──  loss 0.5\r" },
  { rank: 0, to: "stdout", text: '{"event":"end"}\n' },
  {
    rank: 3,
    failure: { code: 3, what: "is no JPEG: \u001e", where: "a.jpg", files: [{ file: "a", reason: "b" }] },
  },
  { rank: 3, ended: 3 },
  { rank: 3, status: 137 },
];
const whole = Buffer.from(`mpirun: hello\n${messages.map(messageLine).join("between\n")}last words`);

suite("RankMessageReader", () => {
  test("hears every message, and takes the rest for others' words", () => {
    const { heard, said } = read([whole]);
    assert.deepEqual(heard, messages);
    assert.deepEqual(said, ["mpirun: hello", ...messages.slice(1).map(() => "between"), "last words"]);
  });

  test("wherever the bytes are cut", () => {
    for (let at = 1; at < whole.length; at++) {
      assert.deepEqual(read([whole.subarray(0, at), whole.subarray(at)]), read([whole]), `cut at ${at}`);
    }
    assert.deepEqual(read([...whole].map((byte) => Uint8Array.of(byte))), read([whole]));
  });

  test("hears a message behind half a line of somebody else", () => {
    const { heard, said } = read([`Warning: no${messageLine({ rank: 1, ended: 0 })}`]);
    assert.deepEqual([heard, said], [[{ rank: 1, ended: 0 }], ["Warning: no"]]);
  });

  test("takes what only looks like a message for what it is: words", () => {
    for (const text of [
      "\u001e",
      "\u001e{",
      "\u001enull",
      "\u001e[1]",
      '\u001e{"rank":1}',
      '\u001e{"rank":"1","ended":0}',
    ]) {
      const { heard, said } = read([`${text}\n`]);
      assert.deepEqual([heard, said], [[], [text]]);
    }
  });

  test("forgets the carriage returns of terminals", () => {
    assert.deepEqual(read(["a\r\n\r\nb\r\n"]).said, ["a", "", "b"].filter(Boolean));
  });
});

suite("the shell around a rank", () => {
  const mpich = { path: "", family: "mpich", name: "MPICH", version: "4.0.2" } as const;

  /** Runs `script` in it, as rank 5. */
  function around(script: string): { status: number | null; heard: RankMessage[]; said: string[] } {
    const argv = launchArguments(
      mpich,
      { ranks: 1, cores: undefined, hostFile: undefined },
      [],
      ["sh", "-c", script],
    );
    const { status, stderr } = spawnSync("sh", argv.slice(argv.indexOf("sh") + 1), {
      env: { ...process.env, PMI_RANK: "5", OMPI_COMM_WORLD_RANK: "" },
    });
    return { status, ...read([stderr]) };
  }

  test("says nothing of a rank that ended well, and tells how one ended that did not", () => {
    assert.deepEqual(around("echo hello >&2"), { status: 0, heard: [], said: ["hello"] });
    assert.deepEqual(around("exit 6"), { status: 6, heard: [{ rank: 5, status: 6 }], said: [] });
    const { status, heard } = around("kill -KILL $$");
    assert.deepEqual([status, heard], [137, [{ rank: 5, status: 137 }]]);
  });

  test("outlives the signal that its rank ends of", () => {
    // As a launcher sends it: to both.
    const { heard } = around('kill -TERM $PPID; trap "exit 143" TERM; kill -TERM $$; sleep 5');
    assert.deepEqual(heard, [{ rank: 5, status: 143 }]);
  });
});
