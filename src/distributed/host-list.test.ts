import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";

import { DistributedError } from "../core/error.js";
import {
  mpichMachinefile,
  openMpiHostfile,
  parseHostList,
  placementOf,
  placementOfTable,
  readHostList,
} from "./host-list.js";
import { isHost, isOn, thisMachine } from "./host-name.js";
import type { RankTable } from "./rank-table.js";

const machine = { name: "node-1.cluster", addresses: ["127.0.0.1", "10.0.0.1", "fe80::1"] };

/** A table of servers, each with its ranks. */
function table(servers: Readonly<Record<string, readonly number[]>>): RankTable {
  const list = Object.entries(servers).map(([id, ranks]) => ({
    id,
    devices: ranks.map((rank, i) => ({ id: i, ip: "192.168.1.1", rank })),
  }));
  return { servers: list, size: list.reduce((sum, { devices }) => sum + devices.length, 0) };
}

suite("a rank table becomes", () => {
  test("hosts in the order of the ranks", () => {
    assert.deepEqual(placementOfTable(table({ "node-2": [0, 1, 2], "node-1": [3] }), "t.json", machine), {
      ranks: 4,
      hosts: [
        { host: "node-2", slots: 3 },
        { host: "node-1", slots: 1 },
      ],
    });
  });

  test("plain local ranks where it has one server, whatever that is called", () => {
    assert.deepEqual(placementOfTable(table({ elsewhere: [0, 1] }), "t.json", machine), { ranks: 2 });
  });

  test("plain local ranks where all servers are this machine", () => {
    const local = table({ "10.0.0.1": [0, 2], localhost: [1, 3], "node-1": [4] });
    assert.deepEqual(placementOfTable(local, "t.json", machine), { ranks: 5 });
  });

  test("a refusal where the ranks of a server are not neighbours", () => {
    assert.throws(
      () => placementOfTable(table({ a: [0, 2], b: [1, 3] }), "t.json", machine),
      (error: unknown) => {
        assert.ok(error instanceof DistributedError);
        assert.match(error.message, /t\.json: the ranks of server "a" are not neighbours/);
        assert.match(error.message, /expected rank 1 behind rank 0, .*found rank 2/);
        return true;
      },
    );
  });
});

suite("a list of hosts", () => {
  const parse = (text: string) => parseHostList(Buffer.from(text), "hosts.txt");

  test("is read in both spellings, with comments, blank lines and addresses", () => {
    const text =
      "# two racks\nnode-1 slots=8\r\nnode-2:4 # small\n\n10.0.0.3\nnode_4\tslots = 2\nfd00::1 slots=3\n[fd00::2]:5\nfd00::3\n";
    assert.deepEqual(
      parse(text).map(({ host, slots }) => `${host} ${slots}`),
      ["node-1 8", "node-2 4", "10.0.0.3 1", "node_4 2", "fd00::1 3", "fd00::2 5", "fd00::3 1"],
    );
  });

  test("adds neighbouring lines of one host, as batch systems write them", () => {
    assert.deepEqual(parse("a\na\na\nb:2\nb"), [
      { host: "a", slots: 3 },
      { host: "b", slots: 3 },
    ]);
  });

  const refused: Readonly<Record<string, readonly [string, RegExp]>> = {
    "a host that comes again behind others": [
      "a:2\nb:2\na:2",
      /hosts\.txt, line 3: .*neighbouring lines.*"a:2"/,
    ],
    "no ranks": ["a slots=0", /line 1: .*expected HOST, HOST slots=8 or HOST:8, found "a slots=0"/],
    "a number that is none": ["a:eight", /line 1: /],
    "an option that we do not have": ["a slots=8 max_slots=8", /line 1: /],
    "two hosts on a line": ["x\na b", /line 2: /],
    "a name that is none": ["-x:8", /line 1: /],
    "brackets around a name": ["[a]:8", /line 1: /],
    "nothing but comments": ["# a\n\n", /hosts\.txt: .*names none/],
  };
  for (const [what, [text, message]] of Object.entries(refused)) {
    test(`is refused for ${what}`, () => {
      assert.throws(
        () => parse(text),
        (error: unknown) => {
          assert.ok(error instanceof DistributedError);
          assert.match(error.message, message);
          return true;
        },
      );
    });
  }

  test("is refused where it is no text", () => {
    assert.throws(() => parseHostList(Uint8Array.of(0x61, 0xff), "hosts.txt"), DistributedError);
  });

  test("is read from a file, and refused with code 7 where there is none", async (context) => {
    const folder = mkdtempSync(join(tmpdir(), "riffle-hosts-"));
    context.after(() => rmSync(folder, { recursive: true, force: true }));
    writeFileSync(join(folder, "hosts"), "a:2\n");
    assert.deepEqual(await readHostList(join(folder, "hosts")), [{ host: "a", slots: 2 }]);
    for (const path of [join(folder, "none"), folder, "/dev/zero"]) {
      await assert.rejects(readHostList(path), (error: unknown) => {
        assert.ok(error instanceof DistributedError);
        assert.ok(error.message.startsWith(path), error.message);
        return true;
      });
    }
  });

  test("means plain local ranks only where every host is this machine", () => {
    assert.deepEqual(placementOf(parse("localhost:2\n10.0.0.1:3"), machine), { ranks: 5 });
    assert.deepEqual(placementOf(parse("elsewhere:2"), machine), {
      ranks: 2,
      hosts: [{ host: "elsewhere", slots: 2 }],
    });
  });
});

suite("for the launchers", () => {
  const hosts = [
    { host: "node-1", slots: 8 },
    { host: "10.0.0.2", slots: 4 },
  ];

  test("Open MPI's hostfile", () => {
    assert.equal(openMpiHostfile(hosts), "node-1 slots=8\n10.0.0.2 slots=4\n");
  });

  test("MPICH's machinefile", () => {
    assert.equal(mpichMachinefile(hosts), "node-1:8\n10.0.0.2:4\n");
  });

  test("MPICH's machinefile cannot say an address of IPv6", () => {
    assert.throws(() => mpichMachinefile([{ host: "fd00::1", slots: 8 }]), DistributedError);
    assert.equal(openMpiHostfile([{ host: "fd00::1", slots: 8 }]), "fd00::1 slots=8\n");
  });
});

suite("which machine is this one", () => {
  for (const host of [
    "localhost",
    "LOCALHOST",
    "127.0.0.1",
    "127.1.2.3",
    "::1",
    "node-1",
    "Node-1.cluster",
    "10.0.0.1",
  ]) {
    test(`${host} is`, () => assert.ok(isOn(machine, host)));
  }
  for (const host of ["node-2", "node-1.other", "node", "10.0.0.11", "128.0.0.1", "fe80::2"]) {
    test(`${host} is not`, () => assert.ok(!isOn(machine, host)));
  }

  test("by a name with a domain where the machine knows itself without", () => {
    assert.ok(isOn({ name: "node-1", addresses: [] }, "node-1.cluster"));
  });

  test("the real one is found under its own name and addresses", () => {
    const here = thisMachine();
    assert.ok(isOn(here, hostname()));
    assert.ok(here.addresses.length > 0);
    for (const address of here.addresses) assert.ok(isOn(here, address));
  });

  test("names that steer a launcher or a shell are no hosts", () => {
    for (const text of [
      "",
      "a b",
      "a;b",
      "-oProxyCommand=x",
      "a\n",
      "a:8",
      "$(x)",
      "é",
      ".a",
      "a".repeat(254),
    ]) {
      assert.ok(!isHost(text), text);
    }
    for (const text of ["a", "node_0", "node-1.cluster", "10.0.0.1", "fd00::1"])
      assert.ok(isHost(text), text);
  });
});
