import assert from "node:assert/strict";
import { suite, test } from "node:test";

import type { MpiLauncher } from "./find-mpi.js";
import { coresOfRank, launchArguments, RANK_SHELL, type RankPlaces } from "./launch-command.js";

const openMpi4: MpiLauncher = { path: "/mpirun", family: "openmpi", name: "Open MPI", version: "4.1.4" };
const openMpi5: MpiLauncher = { ...openMpi4, version: "5.0.11" };
const mpich: MpiLauncher = { path: "/mpiexec", family: "mpich", name: "MPICH", version: "4.0.2" };
const intel: MpiLauncher = { ...mpich, name: "Intel MPI", version: "2021.18.1" };

/** What stands before the ranks' shell, without what depends on the user. */
function options(mpi: MpiLauncher, places: Partial<RankPlaces>, variables: readonly string[] = []): string {
  const whole = { ranks: 2, cores: undefined, hostFile: undefined, ...places };
  const argv = launchArguments(mpi, whole, variables, ["node", "main.js", "train"]);
  const shell = argv.indexOf("sh");
  assert.deepEqual(argv.slice(shell + 3), [RANK_SHELL, "node", "main.js", "train"]);
  return argv
    .slice(0, shell)
    .filter((word) => word !== "--allow-run-as-root")
    .join(" ");
}

suite("coresOfRank", () => {
  for (const [ranks, cores, each] of [
    [2, 2, 1],
    [2, 9, 4],
    [1, 16, 16],
    [3, 2, undefined],
    [2, undefined, undefined],
  ] as const) {
    test(`${ranks} ranks on ${cores} hardware threads: ${each}`, () => {
      assert.equal(coresOfRank({ ranks, cores, hostFile: undefined }), each);
    });
  }
});

suite("launchArguments", () => {
  test("binds neighbouring hardware threads where there are enough", () => {
    const places = { ranks: 2, cores: 8 };
    assert.equal(
      options(openMpi4, places),
      "-n 2 --use-hwthread-cpus --map-by slot:PE=4 --bind-to hwthread --mca odls_base_sigkill_timeout 60",
    );
    assert.equal(options(openMpi5, places), "-n 2 --map-by slot:PE=4:HWTCPUS --bind-to hwthread");
    assert.equal(options(mpich, places), "-n 2 -bind-to hwthread:4");
    assert.equal(options(intel, places), "-n 2");
  });

  test("says that it means more ranks than there are, and binds none", () => {
    const places = { ranks: 8, cores: 2 };
    assert.equal(
      options(openMpi4, places),
      "-n 8 --oversubscribe --bind-to none --mca odls_base_sigkill_timeout 60",
    );
    assert.equal(options(openMpi5, places), "-n 8 --map-by :OVERSUBSCRIBE --bind-to none");
    assert.equal(options(mpich, places), "-n 8 -bind-to none");
    assert.equal(options(intel, places), "-n 8 -genv I_MPI_PIN 0");
  });

  test("names the list of machines, and hands variables on", () => {
    const places = { ranks: 16, hostFile: "/run.ranks/hosts" };
    assert.match(options(openMpi4, places, ["A", "B"]), / --hostfile \/run\.ranks\/hosts -x A -x B$/);
    assert.match(options(openMpi5, places, ["A"]), / --hostfile \/run\.ranks\/hosts -x A$/);
    // Hydra hands on all there are.
    assert.match(options(mpich, places, ["A"]), / -f \/run\.ranks\/hosts$/);
  });

  test("lets root run ranks with Open MPI, which would refuse, and with no other option for anybody else", () => {
    const argv = (mpi: MpiLauncher): string[] =>
      launchArguments(mpi, { ranks: 1, cores: 1, hostFile: undefined }, [], []);
    assert.equal(argv(openMpi4).includes("--allow-run-as-root"), process.getuid?.() === 0);
    assert.ok(!argv(mpich).includes("--allow-run-as-root"));
  });
});
