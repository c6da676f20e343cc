import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";

import { DistributedError } from "../core/error.js";
import { readRankTable } from "./rank-table.js";

const folder = mkdtempSync(join(tmpdir(), "riffle-rank-table-"));
after(() => rmSync(folder, { recursive: true, force: true }));

interface Devices {
  device_id: unknown;
  device_ip: unknown;
  rank_id?: unknown;
}

/** Two servers of two devices, ranks in order. */
function serverForm() {
  const device = (rank: number): Devices => ({
    device_id: `${rank % 2}`,
    device_ip: `192.168.100.${10 + rank}`,
    rank_id: `${rank}`,
  });
  return {
    status: "completed" as unknown,
    version: "1.0" as unknown,
    server_count: "2" as unknown,
    server_list: [
      { server_id: "10.0.0.1" as unknown, host_nic_ip: "reserve", device: [device(0), device(1)] },
      { server_id: "10.0.0.2" as unknown, host_nic_ip: "reserve", device: [device(2), device(3)] },
    ],
  };
}

/** The same in the older form, a pod on each server. */
function groupForm() {
  const { server_list } = serverForm();
  return {
    status: "completed" as unknown,
    group_count: "1",
    group_list: [
      {
        group_name: "worker",
        device_count: "4",
        instance_count: "2",
        instance_list: server_list.map(({ server_id, device }, i) => ({
          pod_name: `worker-${i}`,
          server_id,
          devices: device.map(({ device_id, device_ip }): Devices => ({ device_id, device_ip })),
        })),
      },
    ],
  };
}

const expected = {
  servers: [
    {
      id: "10.0.0.1",
      devices: [
        { id: 0, ip: "192.168.100.10", rank: 0 },
        { id: 1, ip: "192.168.100.11", rank: 1 },
      ],
    },
    {
      id: "10.0.0.2",
      devices: [
        { id: 0, ip: "192.168.100.12", rank: 2 },
        { id: 1, ip: "192.168.100.13", rank: 3 },
      ],
    },
  ],
  size: 4,
};

let files = 0;
function write(content: unknown): string {
  const path = join(folder, `table-${files++}.json`);
  writeFileSync(
    path,
    content instanceof Uint8Array || typeof content === "string" ? content : JSON.stringify(content),
  );
  return path;
}

suite("readRankTable reads", () => {
  test('version "1.0"', async () => {
    assert.deepEqual(await readRankTable(write(serverForm())), expected);
  });

  test("the older form, ranks in the order of the devices", async () => {
    assert.deepEqual(await readRankTable(write(groupForm())), expected);
  });

  test("servers and devices in any order, into the order of their ranks", async () => {
    const table = serverForm();
    table.server_list.reverse();
    for (const { device } of table.server_list) device.reverse();
    assert.deepEqual(await readRankTable(write(table)), expected);
  });

  test("pods of one server as one server, in the older form", async () => {
    const table = groupForm();
    for (const instance of table.group_list[0]!.instance_list) instance.server_id = "node_a";
    table.group_list[0]!.instance_list[1]!.devices.forEach((device, i) => (device.device_id = `${2 + i}`));
    const { servers, size } = await readRankTable(write(table));
    assert.deepEqual(
      [servers.length, servers[0]?.devices.map(({ rank }) => rank), size],
      [1, [0, 1, 2, 3], 4],
    );
  });

  test("addresses of IPv6", async () => {
    const table = serverForm();
    table.server_list[0]!.server_id = "fd00::1";
    table.server_list[0]!.device[0]!.device_ip = "fd00::2";
    assert.equal((await readRankTable(write(table))).servers[0]?.id, "fd00::1");
  });
});

suite("readRankTable refuses, with code 7, the file, the place, and both values,", () => {
  /** What is done to a good table, and what the message says. */
  const servers: Readonly<Record<string, readonly [(table: ReturnType<typeof serverForm>) => void, RegExp]>> =
    {
      "a rank twice": [
        ({ server_list: [, b] }) => (b!.device[0]!.rank_id = "1"),
        /, server_list\[1\]\.device\[0\]\.rank_id: .*expected a rank of its own.*found "1", as in server_list\[0\]\.device\[1\]\.rank_id/,
      ],
      "a missing rank": [
        ({ server_list: [a] }) => delete a!.device[1]!.rank_id,
        /, server_list\[0\]\.device\[1\]\.rank_id: .*expected a whole number in quotes.*found nothing/,
      ],
      "a gap": [
        ({ server_list: [, b] }) => (b!.device[1]!.rank_id = "4"),
        /, server_list\[1\]\.device\[1\]\.rank_id: .*expected ranks 0 \.\. 3, .*found "4", and no rank 3/,
      ],
      "a count of servers that is not theirs": [
        (table) => (table.server_count = "3"),
        /, server_count: .*expected "2", the number of server_list, found "3"/,
      ],
      "a server that the count has and the list has not": [
        (table) => table.server_list.pop(),
        /, server_count: .*expected "1".*found "2"/,
      ],
      "two servers of one id": [
        ({ server_list: [, b] }) => (b!.server_id = "10.0.0.1"),
        /, server_list\[1\]\.server_id: .*found "10\.0\.0\.1", as in server_list\[0\]\.server_id/,
      ],
      "a device twice": [
        ({ server_list: [a] }) => (a!.device[1]!.device_id = "0"),
        /, server_list\[0\]\.device\[1\]\.rank_id: .*another device of server "10\.0\.0\.1".*device_id "0"/,
      ],
      "an address that is none": [
        ({ server_list: [a] }) => (a!.device[1]!.device_ip = "192.168.100.256"),
        /, server_list\[0\]\.device\[1\]\.device_ip: .*expected an IP address, found "192\.168\.100\.256"/,
      ],
      "an empty address": [
        ({ server_list: [a] }) => (a!.device[1]!.device_ip = ""),
        /device_ip: .*expected an IP address, found ""/,
      ],
      "a server that no host can be called": [
        ({ server_list: [a] }) => (a!.server_id = "10.0.0.1 slots=99\nevil"),
        /, server_list\[0\]\.server_id: .*expected a host name or an IP address, found "10\.0\.0\.1 slots=99\\nevil"/,
      ],
      "another version": [(table) => (table.version = "1.2"), /, version: .*expected "1\.0", found "1\.2"/],
      "a version that is a number": [
        (table) => (table.version = 1),
        /, version: .*expected a string.*found 1/,
      ],
      "another status": [
        (table) => (table.status = "complete"),
        /, status: .*expected "completed" or "initializing", found "complete"/,
      ],
      "no status": [(table) => delete table.status, /, status: .*found nothing/],
      "numbers instead of strings": [
        ({ server_list: [a] }) => (a!.device[0]!.rank_id = 0),
        /, server_list\[0\]\.device\[0\]\.rank_id: .*in quotes.*found 0/,
      ],
      "a rank with a sign": [({ server_list: [a] }) => (a!.device[0]!.rank_id = "+0"), /found "\+0"/],
      "a rank beyond what is counted": [
        ({ server_list: [a] }) => (a!.device[0]!.rank_id = "9".repeat(30)),
        /in quotes/,
      ],
      "no servers": [
        (table) => ((table.server_list = []), (table.server_count = "0")),
        /, server_list: .*expected at least one element, found an empty array/,
      ],
      "a server without devices": [
        ({ server_list: [, b] }) => (b!.device = []),
        /, server_list\[1\]\.device: .*expected at least one element/,
      ],
      "a list that is none": [
        (table) => ((table.server_list as unknown) = { "0": table.server_list[0] }),
        /, server_list: .*expected an array, found an object/,
      ],
      "a server that is no object": [
        (table) => ((table.server_list[0] as unknown) = "10.0.0.1"),
        /, server_list\[0\]: .*expected an object, found "10\.0\.0\.1"/,
      ],
      "both forms in one": [
        (table) => Object.assign(table, { group_list: groupForm().group_list }),
        /expected server_list or group_list, found both/,
      ],
      "neither form": [
        (table) => delete (table as Partial<typeof table>).server_list,
        /expected server_list or group_list, found neither/,
      ],
    };
  for (const [what, [change, message]] of Object.entries(servers)) {
    test(what, async () => {
      const table = serverForm();
      change(table);
      await refused(write(table), message);
    });
  }

  const groups: Readonly<Record<string, readonly [(table: ReturnType<typeof groupForm>) => void, RegExp]>> = {
    "a count of devices that is not theirs": [
      ({ group_list: [group] }) => (group!.device_count = "8"),
      /, group_list\[0\]\.device_count: .*expected "4", the number of devices.*found "8"/,
    ],
    "a count of instances that is not theirs": [
      ({ group_list: [group] }) => (group!.instance_count = "1"),
      /, group_list\[0\]\.instance_count: .*expected "2".*found "1"/,
    ],
    "a count of groups that is not theirs": [
      (table) => (table.group_count = "2"),
      /, group_count: .*expected "1"/,
    ],
    "pods of one server that share a device": [
      ({ group_list: [group] }) =>
        group!.instance_list.forEach((instance) => (instance.server_id = "node-a")),
      /, group_list\[0\]\.instance_list\[1\]\.devices\[0\]: .*another device of server "node-a".*as in group_list\[0\]\.instance_list\[0\]/,
    ],
  };
  for (const [what, [change, message]] of Object.entries(groups)) {
    test(`${what}, in the older form`, async () => {
      const table = groupForm();
      change(table);
      await refused(write(table), message);
    });
  }

  const whole = JSON.stringify(serverForm(), undefined, 2);
  const texts: Readonly<Record<string, readonly [string | Uint8Array, RegExp]>> = {
    "a comment": [whole.replace("{", "{ // ranks"), /, line 1, column 3: JSON has no comments/],
    "a byte order mark": [`\ufeff${whole}`, /byte order mark/],
    "a trailing comma": [
      whole.replace('"2"\n', '"2",\n').replace(/\n\}$/, ",\n}"),
      /, line \d+, column \d+: a comma stands before }/,
    ],
    "a table cut short": [whole.slice(0, -40), /, line \d+, column \d+: ends early; is it complete\?/],
    "an empty file": ["", /ends early/],
    "a key that is there twice": [
      whole.replace('"version"', '"status": "completed",\n  "version"'),
      /, line 3, column 3: the key "status" is there twice/,
    ],
    "an array": ["[]", /expected an object, found an empty array/],
    "a text": ['"completed"', /expected an object, found "completed"/],
    "UTF-16": [Buffer.from(`\ufeff${whole}`, "utf16le"), /no UTF-8 text/],
    "what is nested without end": ['{"status":'.repeat(1e5), /nested more than 32 deep/],
  };
  for (const [what, [text, message]] of Object.entries(texts)) {
    test(what, async () => refused(write(text), message));
  }

  test("a file that is not there, a folder, a pipe and a device, without waiting for any", async () => {
    await refused(join(folder, "none.json"), /none\.json: the rank table cannot be read: ENOENT/);
    mkdirSync(join(folder, "folder"));
    await refused(join(folder, "folder"), /folder.*not a regular file/);
    execFileSync("mkfifo", [join(folder, "pipe")]);
    await refused(join(folder, "pipe"), /pipe.*not a regular file/);
    await refused("/dev/zero", /\/dev\/zero.*not a regular file/);
  });

  test("a file that is too long for any table, unread", async () => {
    await refused(write(Buffer.alloc(2 ** 26 + 1)), /too long/);
  });
});

suite('a table that says "initializing"', () => {
  const initialising = { status: "initializing" };

  test("is read again until it is completed", async () => {
    const path = write(initialising);
    const read = readRankTable(path, { wait: 30 });
    setTimeout(() => writeFileSync(path, JSON.stringify(groupForm())), 300);
    assert.deepEqual(await read, expected);
  });

  test("may be met half written, or away", async () => {
    const path = write(initialising);
    const read = readRankTable(path, { wait: 30 });
    setTimeout(() => writeFileSync(path, JSON.stringify(groupForm()).slice(0, 50)), 300);
    setTimeout(() => rmSync(path), 1500);
    setTimeout(() => writeFileSync(path, JSON.stringify(groupForm())), 2500);
    assert.deepEqual(await read, expected);
  });

  test("is given up after the time that was stated", async () => {
    const begun = performance.now();
    await refused(
      write({ ...serverForm(), ...initialising }),
      /, status: .*not completed within 1 s.*found "initializing"/,
      1,
    );
    assert.ok(performance.now() - begun < 5000);
  });

  test("and then stays broken is refused for what is broken", async () => {
    const path = write(initialising);
    setTimeout(() => writeFileSync(path, JSON.stringify({ ...serverForm(), version: "2.0" })), 300);
    await refused(path, /, version: /, 2);
  });

  test("is waited for no longer when the signal comes", async () => {
    const stop = new AbortController();
    const reason = new Error("stopped");
    setTimeout(() => stop.abort(reason), 200);
    await assert.rejects(readRankTable(write(initialising), { signal: stop.signal }), reason);
  });
});

async function refused(path: string, message: RegExp, wait = 0): Promise<void> {
  await assert.rejects(readRankTable(path, { wait }), (error: unknown) => {
    assert.ok(error instanceof DistributedError, String(error));
    assert.equal(error.exitCode, 7);
    assert.ok(error.message.startsWith(path), error.message);
    assert.match(error.message, message);
    assert.match(error.message, /Nothing was started or written/);
    return true;
  });
}
