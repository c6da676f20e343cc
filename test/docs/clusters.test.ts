/** What docs/clusters.md and docs/clusters/ tell people to run, held to the formats that it is written in and to our own readers. */

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, suite, test } from "node:test";

import { parse } from "yaml";

import { buildParser, type Invocation, normaliseArguments } from "../../src/cli/command.js";
import { allCommands } from "../../src/cli/riffle.js";
import { openTerminal } from "../../src/cli/terminal.js";
import { openMpiHostfile, placementOfTable, readHostList } from "../../src/distributed/host-list.js";
import { readRankTable } from "../../src/distributed/rank-table.js";
import { repository as root } from "../support/paths.js";

const commands = await allCommands();

const folder = join(root, "docs", "clusters");
const page = readFileSync(join(root, "docs", "clusters.md"), "utf8");

/** What a command line means to the real parser, which is all of it but the running. */
async function invocationOf(argv: readonly string[]): Promise<{ readonly command: string } & Invocation> {
  const seen: ({ readonly command: string } & Invocation)[] = [];
  const parsed = commands.map((command) => ({
    ...command,
    run: (invocation: Invocation) => {
      seen.push({ command: command.name, ...invocation });
      return Promise.resolve(0);
    },
  }));
  const parser = buildParser(parsed, "0", openTerminal(true), () => {});
  await parser.parseAsync(normaliseArguments(parsed, argv), { from: "user" });
  assert.equal(seen.length, 1, argv.join(" "));
  return seen[0]!;
}

/** The arguments behind the one that runs riffle. */
function behindRiffle(words: readonly string[]): readonly string[] {
  const at = words.findIndex((word) => basename(word) === "riffle");
  assert.ok(at >= 0, words.join(" "));
  return words.slice(at + 1);
}

suite("riffle.sbatch", () => {
  const path = join(folder, "riffle.sbatch");
  const text = readFileSync(path, "utf8");
  const scratch = mkdtempSync(join(tmpdir(), "riffle-sbatch-"));
  after(() => rmSync(scratch, { recursive: true, force: true }));
  // Slurm's commands, which here write down what they were given.
  for (const [name, exit] of [
    ["srun", "${SRUN_STATUS:-0}"],
    ["scontrol", "0"],
  ] as const) {
    const file = join(scratch, name);
    writeFileSync(
      file,
      `#!/bin/bash\nprintf '%s\\n' "${name}" "$@" >> "${scratch}/called"\nexit "${exit}"\n`,
    );
    chmodSync(file, 0o755);
  }

  /** Runs the script as sbatch would, and gives its exit code and the words that Slurm's commands got. */
  function submitted(argv: readonly string[], environment: Readonly<Record<string, string>> = {}) {
    rmSync(join(scratch, "called"), { force: true });
    const env = {
      ...process.env,
      PATH: `${scratch}:${process.env["PATH"]}`,
      SLURM_CPUS_PER_TASK: "4",
      SLURM_JOB_ID: "17",
      ...environment,
    };
    const { status, stderr } = spawnSync("bash", [path, ...argv], { cwd: scratch, encoding: "utf8", env });
    assert.equal(stderr, "");
    return { status, words: readFileSync(join(scratch, "called"), "utf8").trimEnd().split("\n") };
  }

  test("is a script of bash", () => {
    assert.ok(text.startsWith("#!/bin/bash\n"));
    execFileSync("bash", ["-n", path]);
  });

  test("asks sbatch for what sbatch knows, before its first command", () => {
    const values: Readonly<Record<string, RegExp>> = {
      "job-name": /^=[\w-]+$/,
      nodes: /^=\d+$/,
      "ntasks-per-node": /^=\d+$/,
      "cpus-per-task": /^=\d+$/,
      time: /^=(\d+-)?\d+:\d\d:\d\d$/,
      output: /^=[\w%.-]+$/,
      "open-mode": /^=(append|truncate)$/,
      signal: /^=(B:)?(TERM|INT|USR1)@\d+$/,
      requeue: /^$/,
    };
    const lines = text.split("\n");
    const firstCommand = lines.findIndex((line) => line !== "" && !line.startsWith("#"));
    const asked = lines.flatMap((line, i) => {
      const [, name, value] = /^#SBATCH --([a-z-]+)(.*)$/.exec(line) ?? [];
      if (name === undefined) return [];
      assert.ok(i < firstCommand, `sbatch stops looking before line ${i + 1}`);
      assert.match(value ?? "", values[name] ?? /^never$/, line);
      return [name];
    });
    assert.equal(asked.length, lines.filter((line) => line.includes("SBATCH")).length);
    assert.deepEqual(asked.toSorted(), Object.keys(values).sort());
  });

  for (const [given, mpi] of [
    [[], "pmix"],
    [["pmi2"], "pmi2"],
  ] as const) {
    test(`starts a new run over ${mpi}, with the cores that each rank has`, async () => {
      const { status, words } = submitted(given);
      assert.equal(status, 0);
      assert.equal(words[0], "srun");
      assert.ok(words.includes(`--mpi=${mpi}`) && words.includes("--cpus-per-task=4"), words.join(" "));
      const { command, settings } = await invocationOf(behindRiffle(words));
      assert.equal(command, "train");
      assert.deepEqual(settings, {
        data_dir: "data/imagenet",
        recipe: "original",
        batch_size: 64,
        log_dir: "runs/imagenet",
        threads: 4,
      });
    });
  }

  test("goes on where there is a checkpoint", async () => {
    mkdirSync(join(scratch, "runs", "imagenet", "step-1000"), { recursive: true });
    const { settings } = await invocationOf(behindRiffle(submitted([]).words));
    assert.deepEqual(settings, { resume: "runs/imagenet", threads: 4 });
  });

  test("queues itself again where it was stopped, and only there, and ends with the run's exit code", () => {
    const stopped = submitted([], { SRUN_STATUS: "143" });
    assert.equal(stopped.status, 143);
    assert.deepEqual(stopped.words.slice(-3), ["scontrol", "requeue", "17"]);
    const diverged = submitted([], { SRUN_STATUS: "5" });
    assert.equal(diverged.status, 5);
    assert.ok(!diverged.words.includes("scontrol"));
  });
});

suite("mpijob.yaml", () => {
  interface Container {
    readonly name: string;
    readonly image: string;
    readonly command: readonly string[];
    readonly args: readonly string[];
    readonly resources: { readonly limits?: { readonly cpu: string } };
    readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[];
  }
  interface Replica {
    readonly replicas: number;
    readonly restartPolicy: string;
    readonly template: {
      readonly spec: {
        readonly containers: readonly [Container];
        readonly volumes?: readonly Readonly<Record<string, unknown>>[];
      };
    };
  }
  interface MpiJob {
    readonly apiVersion: string;
    readonly kind: string;
    readonly metadata: { readonly name: string };
    readonly spec: {
      readonly slotsPerWorker: number;
      readonly mpiImplementation: string;
      readonly sshAuthMountPath: string;
      readonly launcherCreationPolicy: string;
      readonly runPolicy: Readonly<Record<string, unknown>>;
      readonly mpiReplicaSpecs: { readonly Launcher: Replica; readonly Worker: Replica };
    };
  }
  const text = readFileSync(join(folder, "mpijob.yaml"), "utf8");
  const job = parse(text, { strict: true, uniqueKeys: true }) as MpiJob;
  const { Launcher, Worker } = job.spec.mpiReplicaSpecs;
  const [launcher] = Launcher.template.spec.containers;
  const [worker] = Worker.template.spec.containers;

  test("is an MPIJob of v2beta1, with no field that it does not have", () => {
    assert.deepEqual([job.apiVersion, job.kind], ["kubeflow.org/v2beta1", "MPIJob"]);
    const only = (value: object, known: readonly string[]): void =>
      assert.deepEqual(
        Object.keys(value).filter((key) => !known.includes(key)),
        [],
      );
    only(job, ["apiVersion", "kind", "metadata", "spec"]);
    only(job.spec, [
      "slotsPerWorker",
      "runLauncherAsWorker",
      "mpiImplementation",
      "sshAuthMountPath",
      "launcherCreationPolicy",
      "runPolicy",
      "mpiReplicaSpecs",
    ]);
    only(job.spec.runPolicy, [
      "cleanPodPolicy",
      "ttlSecondsAfterFinished",
      "activeDeadlineSeconds",
      "backoffLimit",
      "schedulingPolicy",
      "suspend",
      "managedBy",
    ]);
    for (const replica of [Launcher, Worker]) only(replica, ["replicas", "restartPolicy", "template"]);
    only(job.spec.mpiReplicaSpecs, ["Launcher", "Worker"]);
  });

  test("has the values that the operator checks", () => {
    // A worker's host is called <name>-worker-<index>.<name>, so the name is a DNS label.
    assert.match(job.metadata.name, /^[a-z]([-a-z0-9]{0,50}[a-z0-9])?$/);
    assert.ok(Number.isInteger(job.spec.slotsPerWorker) && job.spec.slotsPerWorker > 0);
    assert.ok(["OpenMPI", "MPICH", "Intel"].includes(job.spec.mpiImplementation));
    assert.match(job.spec.sshAuthMountPath, /^\//);
    assert.ok(["AtStartup", "WaitForWorkersReady"].includes(job.spec.launcherCreationPolicy));
    assert.ok(["None", "Running", "All"].includes(String(job.spec.runPolicy["cleanPodPolicy"])));
    assert.equal(Launcher.replicas, 1);
    assert.ok(Worker.replicas >= 1);
    for (const { restartPolicy } of [Launcher, Worker]) {
      assert.ok(["Never", "OnFailure"].includes(restartPolicy));
    }
  });

  test("gives commands as texts, as Kubernetes wants them", () => {
    for (const { command, args } of [launcher, worker]) {
      for (const word of [...command, ...args]) assert.equal(typeof word, "string", String(word));
    }
    assert.equal(launcher.image, worker.image);
    assert.deepEqual([...worker.command, ...worker.args], ["/usr/sbin/sshd", "-De"]);
  });

  test("starts as many ranks as there are slots, with as many threads as the pod has cores", async () => {
    const words = [...launcher.command, ...launcher.args];
    assert.equal(words[0], "mpirun");
    assert.equal(words[words.indexOf("--hostfile") + 1], "/etc/mpi/hostfile");
    const ranks = Number(words[words.indexOf("-n") + 1]);
    assert.equal(ranks, Worker.replicas * job.spec.slotsPerWorker);
    const { command, settings } = await invocationOf(behindRiffle(words));
    assert.equal(command, "train");
    assert.equal(settings.threads! * job.spec.slotsPerWorker, Number(worker.resources.limits?.cpu));
    // The pictures and the run lie on the volume that all pods mount.
    for (const path of [settings.data_dir, settings.log_dir]) assert.match(path ?? "", /^\/shared\//);
  });

  test("mounts what it declares: the shared volume, and shared memory that is large enough", () => {
    const { volumes = [] } = Worker.template.spec;
    const names = volumes.map(({ name }) => name);
    assert.deepEqual(
      worker.volumeMounts?.map(({ name }) => name),
      names,
    );
    assert.deepEqual(
      worker.volumeMounts?.map(({ mountPath }) => mountPath),
      ["/shared", "/dev/shm"],
    );
    assert.deepEqual(volumes[1]?.["emptyDir"], { medium: "Memory", sizeLimit: "1Gi" });
  });
});

suite("the lists of machines", () => {
  test("the rank table is read, and means what hosts.txt says", async () => {
    const path = join(folder, "rank-table.json");
    const hosts = await readHostList(join(folder, "hosts.txt"));
    const elsewhere = { name: "login", addresses: [] };
    assert.deepEqual(placementOfTable(await readRankTable(path), path, elsewhere), { ranks: 16, hosts });
    const stated = readFileSync(join(folder, "hosts.txt"), "utf8").replace(/^#.*\n/gm, "");
    assert.equal(openMpiHostfile(hosts), stated);
  });
});

suite("docs/clusters.md", () => {
  test("its commands are ones that riffle takes", async () => {
    const lines = page.split("\n").filter((line) => /^ {4}\$ .*\briffle (?!\.)/.test(line));
    assert.ok(lines.length >= 2, "no commands found: has the form of the page changed?");
    for (const line of lines) {
      const { command } = await invocationOf(behindRiffle(line.trim().split(/\s+/)));
      assert.equal(command, "train", line);
    }
  });

  test("shows every file of docs/clusters", () => {
    const files = readdirSync(folder);
    assert.ok(files.length >= 4);
    for (const file of files) assert.ok(page.includes(`(clusters/${file})`), file);
  });
});
