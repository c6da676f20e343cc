/**
 * The readers of rank tables and lists of hosts on damaged ones, 20,000 mutations each: whatever stands in a file, they
 * give a value or a DistributedError (of JSON that is none, a DataError), and a value holds what it promises.
 *
 * Draws are counter-based: a failure names its seed and repeats.
 */

import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { DataError, DistributedError } from "../../src/core/error.js";
import { Draws, streams } from "../../src/core/random.js";
import { openMpiHostfile, parseHostList, placementOfTable } from "../../src/distributed/host-list.js";
import { isHost } from "../../src/distributed/host-name.js";
import { parseRankTable } from "../../src/distributed/rank-table.js";
import { mutate } from "../support/mutate.js";

Object.freeze(Object.prototype);

const MUTATIONS = 20_000;
/** RIFFLE_FUZZ_SEED meets other files than the last time. */
const SEED = Number(process.env["RIFFLE_FUZZ_SEED"] ?? 1);

const device = (rank: number) => ({ device_id: `${rank}`, device_ip: `10.1.0.${rank}`, rank_id: `${rank}` });
const tables = [
  {
    status: "completed",
    version: "1.0",
    server_count: "2",
    server_list: [
      { server_id: "10.0.0.1", device: [device(0), device(1)] },
      { server_id: "node-2", device: [device(2)] },
    ],
  },
  {
    status: "completed",
    group_count: "1",
    group_list: [
      {
        group_name: "worker",
        device_count: "2",
        instance_count: "2",
        instance_list: [0, 1].map((i) => ({ pod_name: `w-${i}`, server_id: `n-${i}`, devices: [device(i)] })),
      },
    ],
  },
].map((table) => Buffer.from(JSON.stringify(table)));

const targets: Readonly<
  Record<string, readonly [seeds: readonly Buffer[], read: (bytes: Uint8Array) => void]>
> = {
  "rank tables": [
    tables,
    (bytes) => {
      const table = parseRankTable(bytes, "fuzz");
      if (table === "initializing") return;
      const devices = table.servers.flatMap(({ devices }) => devices);
      const ranks = devices.map(({ rank }) => rank).sort((a, b) => a - b);
      assert.deepEqual(ranks, [...Array(table.size).keys()]);
      assert.equal(new Set(table.servers.map(({ id }) => id)).size, table.servers.length);
      assert.ok(table.servers.every(({ id }) => isHost(id)));
      assert.equal(placementOfTable(table, "fuzz").ranks, table.size);
    },
  ],
  "lists of hosts": [
    [
      Buffer.from("# hosts\nnode-1 slots=8\nnode-2:4\n10.0.0.3\n[fd00::1]:2\n"),
      Buffer.from("a:1\r\na:2\r\nb\r\n"),
    ],
    (bytes) => {
      const hosts = parseHostList(bytes, "fuzz");
      assert.ok(hosts.length > 0 && hosts.every(({ host, slots }) => isHost(host) && slots > 0));
      // What we write we read back.
      assert.deepEqual(parseHostList(Buffer.from(openMpiHostfile(hosts)), "fuzz"), hosts);
    },
  ],
};

suite(`${MUTATIONS} damaged files each give a value or an error in our words`, () => {
  for (const [name, [seeds, read]] of Object.entries(targets)) {
    test(name, () => {
      for (const seed of seeds) read(seed);
      let refused = 0;
      for (let i = 0; i < MUTATIONS; i++) {
        const draws = new Draws(SEED, streams.draw, 0, i);
        const bytes = mutate(seeds[draws.below(seeds.length)] as Buffer, draws);
        try {
          read(bytes);
        } catch (error) {
          if (!(error instanceof DistributedError || error instanceof DataError)) {
            throw new Error(`${name}, mutation ${i} of seed ${SEED}: ${String(error)}\n${bytes.toString("hex")}`, { cause: error }); // prettier-ignore
          }
          refused++;
        }
      }
      // Both ends are met, or the mutations test nothing.
      assert.ok(refused > MUTATIONS / 10, `${refused} refused`);
      assert.ok(refused < MUTATIONS, "all refused");
    });
  }
});
