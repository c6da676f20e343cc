import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { DistributedError } from "../core/error.js";
import { rankOfEnvironment } from "./rank-environment.js";

type Variables = Readonly<Record<string, string>>;

const of = (variables: Variables): ReturnType<typeof rankOfEnvironment> =>
  rankOfEnvironment((name) => variables[name]);

const openMpi = {
  OMPI_COMM_WORLD_SIZE: "8",
  OMPI_COMM_WORLD_RANK: "3",
  OMPI_COMM_WORLD_LOCAL_RANK: "1",
  OMPI_COMM_WORLD_LOCAL_SIZE: "4",
  PMIX_RANK: "3",
};
const hydra = { PMI_RANK: "3", PMI_SIZE: "8", MPI_LOCALRANKID: "1", MPI_LOCALNRANKS: "4" };
const allocation = { SLURM_NTASKS: "8", SLURM_PROCID: "0", SLURM_LOCALID: "0", SLURM_NODEID: "0" };
const step = {
  ...allocation,
  SLURM_STEP_NUM_TASKS: "8",
  SLURM_STEP_TASKS_PER_NODE: "2(x1),4,2",
  SLURM_LOCALID: "1",
  SLURM_NODEID: "1",
};

suite("rankOfEnvironment", () => {
  for (const [launcher, variables] of [
    ["openmpi", openMpi],
    ["mpich", hydra],
    // Open MPI and Hydra start through srun inside an allocation; who started the rank is they.
    ["openmpi", { ...step, ...openMpi }],
    ["mpich", { ...step, ...hydra }],
    ["slurm", { ...step, PMI_RANK: "3", PMI_SIZE: "8" }],
    ["slurm", { ...step, PMIX_RANK: "3" }],
  ] as const) {
    test(`${Object.keys(variables).join(" ")}: rank 3 of 8, the second of four here, by ${launcher}`, () => {
      assert.deepEqual(of(variables), { rank: 3, size: 8, localRank: 1, localSize: 4, launcher });
    });
  }

  test("a launcher that says nothing of the machine", () => {
    assert.deepEqual(of({ PMI_RANK: "0", PMI_SIZE: "2" }), {
      rank: 0,
      size: 2,
      localRank: undefined,
      localSize: undefined,
      launcher: "mpich",
    });
  });

  test("no launcher: a plain process, one in Slurm's allocation outside of a step, one that only PMIx knows", () => {
    assert.equal(of({}), undefined);
    assert.equal(of(allocation), undefined);
    assert.equal(of({ PMIX_RANK: "0" }), undefined);
  });

  for (const [title, variables] of [
    ["a rank that is the size", { ...openMpi, OMPI_COMM_WORLD_RANK: "8" }],
    ["a size of 0", { ...hydra, PMI_RANK: "0", PMI_SIZE: "0" }],
    ["no size", { PMI_RANK: "0", MPI_LOCALRANKID: "0" }],
    ["no rank", { OMPI_COMM_WORLD_SIZE: "8" }],
    ["no number", { ...openMpi, OMPI_COMM_WORLD_RANK: "three" }],
    ["a negative number", { ...hydra, PMI_RANK: "-1" }],
    ["more ranks here than in all", { ...hydra, MPI_LOCALNRANKS: "9" }],
    ["a local rank that is the local size", { ...hydra, MPI_LOCALRANKID: "4" }],
    ["an empty local rank", { ...openMpi, OMPI_COMM_WORLD_LOCAL_RANK: "" }],
  ] as const) {
    test(`${title} is code 7`, () => {
      assert.throws(() => of(variables), DistributedError);
    });
  }
});
