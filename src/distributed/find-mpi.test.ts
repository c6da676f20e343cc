import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, suite, test } from "node:test";

import { ResourceError } from "../core/error.js";
import { findMpi, readVersion } from "./find-mpi.js";

const words = {
  openMpi5: "mpirun (Open MPI) 5.0.11\n\nReport bugs to https://www.open-mpi.org/community/help/\n",
  openMpi4: "mpirun.openmpi (OpenRTE) 4.1.4\n\nReport bugs to http://www.open-mpi.org/community/help/\n",
  hydra: "HYDRA build details:\n    Version:                                 4.0.2\n    Release Date: ...\n",
  intel:
    "Intel(R) MPI Library for Linux* OS, Version 2021.18.1 Build 20260626 (id: b44796a)\nCopyright ...\n",
};

suite("readVersion", () => {
  for (const [said, family, name, version] of [
    [words.openMpi5, "openmpi", "Open MPI", "5.0.11"],
    [words.openMpi4, "openmpi", "Open MPI", "4.1.4"],
    [words.hydra, "mpich", "MPICH", "4.0.2"],
    [words.intel, "mpich", "Intel MPI", "2021.18.1"],
  ] as const) {
    test(`${name} ${version}`, () => assert.deepEqual(readVersion(said), { family, name, version }));
  }

  test("anything else is no launcher", () => {
    for (const said of ["", "GNU bash, version 5.2.15", "Version: 4.0.2"]) {
      assert.equal(readVersion(said), undefined);
    }
  });
});

suite("findMpi", () => {
  const folder = mkdtempSync(join(tmpdir(), "riffle-mpi-"));
  after(() => rmSync(folder, { recursive: true, force: true }));
  const path = process.env["PATH"];
  afterEach(() => (process.env["PATH"] = path));
  let installed = 0;

  /** Programs by name, each saying these words, on the PATH alone. @returns their folder */
  function install(programs: Readonly<Record<string, string>>): string {
    const bin = join(folder, `bin-${installed++}`);
    mkdirSync(bin);
    for (const [name, said] of Object.entries(programs)) {
      writeFileSync(join(bin, name), `#!/bin/sh\ncat <<'END'\n${said}END\n`);
      chmodSync(join(bin, name), 0o755);
    }
    // The programs are scripts of a shell.
    process.env["PATH"] = `${bin}:/nowhere`;
    writeFileSync(join(bin, "cat"), `#!/bin/sh\nexec /bin/cat "$@"\n`);
    chmodSync(join(bin, "cat"), 0o755);
    return bin;
  }

  const refused = (wanted: string | undefined, ...patterns: readonly RegExp[]): void => {
    assert.throws(
      () => findMpi(wanted),
      (error: unknown) => {
        assert.ok(error instanceof ResourceError);
        for (const pattern of patterns) assert.match(error.message, pattern);
        return true;
      },
    );
  };

  test("takes mpirun, whichever family it is of", () => {
    for (const [said, name] of [
      [words.openMpi5, "Open MPI"],
      [words.hydra, "MPICH"],
    ] as const) {
      const bin = install({ mpirun: said });
      const found = findMpi();
      assert.deepEqual([found.path, found.name], [join(bin, "mpirun"), name]);
    }
  });

  test("tells the families apart by what they say, not by their names", () => {
    const bin = install({ mpirun: words.hydra, "mpirun.openmpi": words.openMpi4, mpiexec: words.openMpi4 });
    assert.equal(findMpi("openmpi").path, join(bin, "mpiexec"));
    assert.equal(findMpi("mpich").path, join(bin, "mpirun"));
  });

  test("passes over what is no launcher, and no program", () => {
    const bin = install({ mpirun: "something else\n", "mpiexec.hydra": words.hydra });
    writeFileSync(join(bin, "mpiexec"), words.openMpi4);
    assert.equal(findMpi().path, join(bin, "mpiexec.hydra"));
  });

  test("takes a program by its path or name", () => {
    const bin = install({ "my-mpi": words.hydra });
    assert.equal(findMpi(join(bin, "my-mpi")).path, join(bin, "my-mpi"));
    assert.equal(findMpi("my-mpi").path, join(bin, "my-mpi"));
  });

  test("says what to install where there is none", () => {
    install({});
    refused(
      undefined,
      /no MPI is installed/,
      /apt-get install openmpi-bin \(or mpich\)/,
      /one process needs no MPI/,
    );
    refused("openmpi", /no Open MPI is installed/, /apt-get install openmpi-bin/);
    refused("mpich", /no MPICH is installed/, /apt-get install mpich/);
  });

  test("names what it found instead", () => {
    install({ mpirun: words.openMpi4, mpiexec: "GNU mpiexec of nobody\n" });
    refused("mpich", /mpirun: Open MPI 4\.1\.4/, /mpiexec: GNU mpiexec of nobody/);
    refused("/nowhere/mpirun", /option --mpi \/nowhere\/mpirun/, /no such program/);
    refused("mpiexec", /no launcher of MPI/, /GNU mpiexec of nobody/);
  });
});
