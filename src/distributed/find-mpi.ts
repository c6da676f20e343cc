/**
 * Finds the program that starts ranks: `mpirun` or `mpiexec`, of Open MPI or of the MPICH family (MPICH, MVAPICH, Intel
 * MPI). Both families may be installed beside each other, and a file's name says nothing of its family; what it prints
 * with --version does.
 */

import { spawnSync } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join, resolve } from "node:path";

import { environment } from "../core/environment.js";
import { ResourceError } from "../core/error.js";

export type MpiFamily = "openmpi" | "mpich";

export interface MpiLauncher {
  readonly path: string;
  readonly family: MpiFamily;
  /** "Open MPI", "MPICH" or "Intel MPI". */
  readonly name: string;
  /** "4.1.4" */
  readonly version: string;
}

/** What a launcher is called, the likeliest first; Debian adds the family where both are installed. */
const NAMES: Readonly<Record<MpiFamily, readonly string[]>> = {
  openmpi: ["mpirun", "mpiexec", "mpirun.openmpi", "mpiexec.openmpi"],
  mpich: ["mpiexec", "mpirun", "mpiexec.hydra", "mpiexec.mpich", "mpirun.mpich"],
};

const INSTALL = "Install one: sudo apt-get install openmpi-bin (or mpich)";

/**
 * @param wanted a family, or a program by its path or its name; undefined for whatever is installed
 * @throws ResourceError where there is none of the kind
 */
export function findMpi(wanted?: string): MpiLauncher {
  const family = wanted === "openmpi" || wanted === "mpich" ? wanted : undefined;
  if (wanted !== undefined && family === undefined) return named(wanted);
  const names = family === undefined ? [...NAMES.openmpi, ...NAMES.mpich] : NAMES[family];
  const others: string[] = [];
  for (const path of new Set(names.flatMap(onPath))) {
    const said = versionOf(path);
    const found = readVersion(said);
    if (found !== undefined && (family === undefined || found.family === family)) return { path, ...found };
    others.push(`${path}: ${found === undefined ? firstLine(said) : `${found.name} ${found.version}`}`);
  }
  throw new ResourceError({
    what:
      family === undefined ? "no MPI is installed to start ranks with" : `no ${TITLES[family]} is installed`,
    where: "PATH",
    expected:
      family === undefined ? "mpirun or mpiexec, of Open MPI or the MPICH family" : names.join(" or "),
    found: others.join(", ") || "neither",
    safe: "Nothing was started; training with one process needs no MPI",
    hint: family === undefined ? INSTALL : `Install it: sudo apt-get install ${PACKAGES[family]}`,
  });
}

const TITLES = { openmpi: "Open MPI", mpich: "MPICH" } as const;
const PACKAGES = { openmpi: "openmpi-bin", mpich: "mpich" } as const;

/**
 * What a launcher's --version says it is; undefined for words of something else.
 *
 * Seen: "mpirun (Open MPI) 5.0.11", Debian's "mpirun.openmpi (OpenRTE) 4.1.4", "HYDRA build details:" with a line
 * "Version: 4.0.2", "Intel(R) MPI Library for Linux* OS, Version 2021.18.1 Build ...".
 */
export function readVersion(said: string): Omit<MpiLauncher, "path"> | undefined {
  const [, openMpi] = /\((?:Open MPI|OpenRTE)\) (\d[\w.]*)/.exec(said) ?? [];
  if (openMpi !== undefined) return { family: "openmpi", name: "Open MPI", version: openMpi };
  const [, hydra] = /^HYDRA build details:\s+Version:\s+(\d[\w.]*)/m.exec(said) ?? [];
  if (hydra !== undefined) return { family: "mpich", name: "MPICH", version: hydra };
  const [, intel] = /^Intel\(R\) MPI Library.*Version (\d[\w.]*)/m.exec(said) ?? [];
  if (intel !== undefined) return { family: "mpich", name: "Intel MPI", version: intel };
  return undefined;
}

function named(wanted: string): MpiLauncher {
  const [path] = wanted.includes("/") ? [resolve(wanted)].filter(isProgram) : onPath(wanted);
  const said = path === undefined ? "no such program" : versionOf(path);
  const found = readVersion(said);
  if (path !== undefined && found !== undefined) return { path, ...found };
  throw new ResourceError({
    what: "that is no launcher of MPI",
    where: `option --mpi ${wanted}`,
    expected: "openmpi, mpich, or the path of an mpirun or mpiexec",
    found: firstLine(said),
    safe: "Nothing was started",
    hint: INSTALL,
  });
}

/** The programs of this name, in the order of PATH. */
function onPath(name: string): string[] {
  const folders = (environment("PATH") ?? "").split(delimiter).filter((folder) => folder !== "");
  return folders.map((folder) => join(folder, name)).filter(isProgram);
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

function versionOf(path: string): string {
  const { error, stdout, stderr } = spawnSync(path, ["--version"], { encoding: "utf8", timeout: 10_000 });
  return error === undefined ? stdout + stderr : `does not run: ${error.message}`;
}

function firstLine(text: string): string {
  return text.trim().split("\n")[0]?.slice(0, 100) || "nothing said with --version";
}
