/**
 * The variables of the environment that Riffle reads; nothing else in src looks at the environment, so this is all that
 * can change a command from outside its command line.
 */

/** Each with what it says. */
export type EnvironmentVariable =
  /** The engine where no option says it: "native", "wasm" or "reference". */
  | "RIFFLE_BACKEND"
  /** The engine's instruction set. */
  | "RIFFLE_ISA"
  /** How the engine makes products of bf16: "dot" or "unpack". */
  | "RIFFLE_PRODUCTS"
  /** Threads that read and decode, which libuv starts. */
  | "UV_THREADPOOL_SIZE"
  /** The MPI library that ranks open: a path, where the usual names do not find it. */
  | "RIFFLE_MPI_LIBRARY"
  /** The folder of the user's caches. */
  | "XDG_CACHE_HOME"
  /** Proxies that weights are fetched through, and hosts for which there is none; lower case counts first. */
  | "https_proxy"
  | "HTTPS_PROXY"
  | "http_proxy"
  | "HTTP_PROXY"
  | "all_proxy"
  | "ALL_PROXY"
  | "no_proxy"
  | "NO_PROXY"
  /** For tests only: where published weights are fetched from in place of torchvision's address, their checksums the same. */
  | "RIFFLE_TEST_WEIGHTS_URL"
  /** "dumb" for a terminal without cursor or colour. */
  | "TERM"
  /** Anything for no colour. */
  | "NO_COLOR"
  /** The program that started this one, as shells leave it. */
  | "_"
  /** Where programs are looked for. */
  | "PATH"
  /** The launch scripts', as a cluster sets them. */
  | "RANK_SIZE"
  | "RANK_ID"
  | "RANK_TABLE_FILE"
  | "ASCEND_DEVICE_ID"
  | "JOB_ID"
  /** `riffle launch`, for its ranks: the folder of their logs, and how wide the terminal is that they are shown on. */
  | "RIFFLE_LAUNCH"
  | "RIFFLE_TERMINAL"
  /** Which rank of a launch this process is: Open MPI's, */
  | "OMPI_COMM_WORLD_RANK"
  | "OMPI_COMM_WORLD_SIZE"
  | "OMPI_COMM_WORLD_LOCAL_RANK"
  | "OMPI_COMM_WORLD_LOCAL_SIZE"
  /** the MPICH family's, */
  | "PMI_RANK"
  | "PMI_SIZE"
  | "MPI_LOCALRANKID"
  | "MPI_LOCALNRANKS"
  /** and Slurm's. */
  | "PMIX_RANK"
  | "SLURM_STEP_NUM_TASKS"
  | "SLURM_STEP_TASKS_PER_NODE"
  | "SLURM_NODEID"
  | "SLURM_LOCALID"
  /** Slurm's allocation, which says where a launcher starts its ranks. */
  | "SLURM_JOB_ID";

export function environment(name: EnvironmentVariable): string | undefined {
  return process.env[name];
}

/** What a program that we start finds in its environment: all that is in ours, and `added`. */
export function childEnvironment(
  added: Readonly<Partial<Record<EnvironmentVariable, string>>>,
): NodeJS.ProcessEnv {
  return { ...process.env, ...added };
}

/** Of these variables those that are set, and all of `added`: what programs on other machines are to be given. */
export function variablesSet(names: readonly string[], added: readonly EnvironmentVariable[]): string[] {
  return names.filter((name) => process.env[name] !== undefined || added.some((each) => each === name));
}

/** Sets a variable that a library of this process reads, unless its user has. */
export function setForLibraries(name: string, value: string): void {
  process.env[name] ??= value;
}
