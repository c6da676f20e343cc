/**
 * The package as its users get it: packed to the same bytes twice, installed by npm into a project whose path has spaces and
 * Chinese characters, with a compiler and without one, then used as README says.
 *
 * Dependencies come out of npm's cache, where `npm ci` has put them, at the lockfile's versions: nothing is fetched. Compiling takes
 * a minute of two cores, so here the clone's engine, of the same sources, is put where the installation would put its own; where
 * the clone has none, WebAssembly runs.
 * RIFFLE_PACKAGE=all compiles, as a user does, and packs what a fresh clone makes elsewhere.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"; // prettier-ignore
import { homedir, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after, before, suite, test } from "node:test";
import { gunzipSync } from "node:zlib";

import { isBuilt } from "../../src/core/addon.js";
import { drawFolder } from "../../src/prepare/draw/draw-folder.js";
import { repository as root } from "../support/paths.js";

const isAll = process.env["RIFFLE_PACKAGE"] === "all";
const scratch = mkdtempSync(join(tmpdir(), "riffle-package-"));
after(() => rmSync(scratch, { recursive: true, force: true }));
const project = join(scratch, "我的 项目");
const installed = join(project, "node_modules", "riffle-vision");
const program = join(project, "node_modules", ".bin", "riffle-vision");
const readme = readFileSync(join(root, "README.md"), "utf8");

interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function run(command: string, argv: readonly string[], cwd: string, env: NodeJS.ProcessEnv = {}): Ran {
  return spawnSync(command, argv, { cwd, encoding: "utf8", env: { ...process.env, ...env } });
}

interface Packed {
  readonly file: string;
  readonly bytes: Buffer;
  readonly paths: readonly string[];
}

/** `npm pack` of a tree that is built. */
function pack(tree: string, name: string): Packed {
  const folder = join(scratch, name);
  mkdirSync(folder);
  const argv = ["pack", "--ignore-scripts", "--json", "--pack-destination", folder];
  const { status, stdout, stderr } = run("npm", argv, tree);
  assert.equal(status, 0, stderr);
  const [entry] = JSON.parse(stdout) as { filename: string; files: { path: string }[] }[];
  assert.ok(entry);
  const file = join(folder, entry.filename);
  return { file, bytes: readFileSync(file), paths: entry.files.map(({ path }) => path) };
}

let packed: Packed;
before(() => {
  packed = pack(root, "packed");
  mkdirSync(project);
});

suite("the package", () => {
  test("is the same bytes each time, and as large as README says", () => {
    assert.deepEqual(sha256(pack(root, "again").bytes), sha256(packed.bytes));
    const [, size = ""] = /`npm pack` makes the package \(([\d.]+) MB/.exec(readme) ?? [];
    assert.ok(Math.abs(packed.bytes.length / 1e6 - Number(size)) < 0.15, `${packed.bytes.length} bytes`);
  });

  test("holds no path of this machine, and nothing compiled of sources that are gone", () => {
    const content = gunzipSync(packed.bytes);
    for (const path of [root, process.cwd(), scratch, ...(homedir().length > 5 ? [homedir()] : [])])
      assert.equal(content.indexOf(path), -1, path);
    const compiled = packed.paths.filter((path) => path.startsWith("dist/src/"));
    assert.ok(compiled.length > 300, `${compiled.length} files`);
    for (const path of compiled) {
      const source = path.replace(/^dist\//, "").replace(/(\.d\.ts|\.js)$/, ".ts");
      assert.ok(existsSync(join(root, source)), `${path} has no source`);
    }
  });

  test(
    "is the same bytes from a clone elsewhere",
    { skip: isAll ? false : "RIFFLE_PACKAGE=all builds one" },
    () => {
      const clone = join(scratch, "clone elsewhere");
      assert.equal(run("git", ["clone", "--quiet", root, clone], scratch).status, 0);
      symlinkSync(join(root, "node_modules"), join(clone, "node_modules"));
      assert.equal(run("npm", ["run", "build:ts"], clone).status, 0);
      const uncommitted = run("git", ["status", "--porcelain"], root).stdout;
      assert.equal(
        sha256(pack(clone, "of-clone").bytes),
        sha256(packed.bytes),
        `uncommitted here: ${uncommitted}`,
      );
    },
  );
});

suite("in a project on a path with spaces and Chinese characters", () => {
  /** Node and npm without a compiler. */
  const bin = join(scratch, "bin");
  const noCompiler = { PATH: bin, CXX: "" };
  const options = ["--offline", "--no-audit", "--no-fund"];
  let isCached = true;

  before(() => {
    mkdirSync(bin);
    const path = (process.env["PATH"] ?? "").split(delimiter);
    for (const name of ["node", "npm", "npx", "sh", "bash", "env", "dirname"]) {
      const folder = path.find((each) => existsSync(join(each, name)));
      if (folder !== undefined) symlinkSync(join(folder, name), join(bin, name));
    }
    writeProject();
  });

  test("without a compiler npm installs all but the engine, and says how to get that", (context) => {
    const before = readFileSync(join(project, "package.json"), "utf8");
    const argv = ["install", "--foreground-scripts", ...options];
    const { status, stdout, stderr } = run("npm", argv, project, noCompiler);
    if (/ENOTCACHED/.test(stderr)) {
      isCached = false;
      return context.skip("npm's cache does not hold the dependencies; npm ci puts them there");
    }
    assert.equal(status, 0, stderr);
    const notice = stdout + stderr;
    assert.match(
      notice,
      /the native engine was not built: no C\+\+20 compiler was found \(tried c\+\+, g\+\+, clang\+\+\)/,
    );
    assert.match(notice, /install a C\+\+20 compiler, then npm rebuild riffle-vision:/);
    assert.equal(readFileSync(join(project, "package.json"), "utf8"), before);
    const doctor = run(program, ["doctor"], project, noCompiler);
    assert.equal(doctor.status, 0, doctor.stderr);
    // npm shows what a package's script says only where it fails, or is told to.
    assert.match(
      doctor.stdout,
      /^engine +slow +WebAssembly, for the native one is not built: no C\+\+20 compiler was found/m,
    );
    assert.match(doctor.stdout, /Build it: npm rebuild riffle-vision \(/);
    const rebuilt = run("npm", ["rebuild", "riffle-vision"], project, noCompiler);
    assert.notEqual(rebuilt.status, 0);
    assert.match(rebuilt.stderr, /the native engine cannot be built: no C\+\+20 compiler was found/);
  });

  test("README's commands, the second name and a launch script work", async (context) => {
    if (!isCached) return context.skip("nothing is installed");
    if (isAll) {
      // What doctor has just said.
      const { status, stderr } = run("npm", ["rebuild", "riffle-vision"], project);
      assert.equal(status, 0, stderr);
    } else if (isBuilt()) cpSync(join(root, "build", "riffle.node"), join(installed, "build", "riffle.node"));
    await drawFolder({ folder: join(project, "photos"), seed: 5, size: 40, train: 30, validation: 10 });
    const stars = join(project, "photos", "val", "star");
    cpSync(join(stars, readdirSync(stars)[0] ?? ""), join(project, "photo.jpg"));
    const lines = [...readme.matchAll(/^ {4}\$ npx (riffle-vision .*?)(?: +#.*)?$/gm)].map(
      ([, line = ""]) => line,
    );
    assert.deepEqual(lines, ["riffle-vision train photos", "riffle-vision predict model_1p photo.jpg"]);
    const small = ["--width", "0.5", "--image_size", "32", "--max_train_steps", "1"];
    for (const [i, line] of [...lines, "riffle doctor", ...(isAll ? recordCommands() : [])].entries()) {
      const argv = [...line.split(" "), ...(/^\S+ train /.test(line) ? small : [])];
      // The first training's folder is predict's; another's is refused where a run is.
      if (i > 0 && /^\S+ train /.test(line)) argv.push("--log_dir", `run-${i}`);
      const { status, stdout, stderr } = run("npx", argv, project);
      assert.equal(status, 0, `${line}\n${stderr}`);
      if (line.includes("predict")) assert.match(stdout, /^photo\.jpg +\w+/m);
      if (line.includes("doctor")) assert.match(stdout, /^engine +(?!missing)/m);
    }
    assert.ok(existsSync(join(project, "model_1p", "report.html")));
    const script = run(
      "bash",
      [join("node_modules", "riffle-vision", "test", "train_full_1p.sh"), "-h"],
      project,
    );
    assert.equal(script.status, 0, script.stderr);
    assert.match(script.stdout, /--data_path/);
  });

  test("a program has the types, under NodeNext and strict", (context) => {
    if (!isCached) return context.skip("nothing is installed");
    writeFileSync(join(project, "use.ts"), PROGRAM);
    // As projects for Node have them; sharp's own types, which ours lead to, do not do without.
    for (const name of ["@types/node", "undici-types"]) {
      cpSync(join(root, "node_modules", name), join(project, "node_modules", name), { recursive: true });
    }
    // Whether the dependencies' own types hold together takes three times as long.
    const skipLibCheck = !isAll;
    const compilerOptions = {
      skipLibCheck,
      module: "NodeNext",
      target: "ES2022",
      strict: true,
      types: ["node"],
    };
    writeFileSync(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["use.ts"] }));
    const tsc = run(
      process.execPath,
      [join(root, "node_modules", "typescript", "bin", "tsc"), "-p", "."],
      project,
    );
    assert.equal(tsc.status, 0, tsc.stdout);
    const { status, stdout, stderr } = run(process.execPath, ["use.js"], project);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^photo\.jpg: \w+\n$/);
  });

  test("require works where Node has it for modules, and says what to do where not", (context) => {
    if (!isCached) return context.skip("nothing is installed");
    writeFileSync(join(project, "use.cjs"), 'console.log(typeof require("riffle-vision").train);\n');
    writeFileSync(join(project, "later.cjs"), 'import("riffle-vision").then(({ train }) => console.log(typeof train));\n'); // prettier-ignore
    assert.equal(run(process.execPath, ["later.cjs"], project).stdout, "function\n");
    const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
    const isNew = major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19);
    if (isNew) assert.equal(run(process.execPath, ["use.cjs"], project).stdout, "function\n");
    const old = isNew ? ["--no-experimental-require-module", "use.cjs"] : ["use.cjs"];
    assert.match(run(process.execPath, old, project).stderr, /ERR_REQUIRE_ESM[^]*|dynamic import\(\)/);
  });
});

const PROGRAM = `
import { predict, RiffleError, settings, type GivenSettings, type Prediction, type Refused } from "riffle-vision";

const given: GivenSettings = { width: 0.5, image_size: settings.image_size.default };
// @ts-expect-error: there is no such setting
const wrong: GivenSettings = { wdith: 0.5 };

const [result]: (Prediction | Refused)[] = await predict("model_1p", ["photo.jpg"]);
if (result !== undefined && "top" in result) console.log(\`\${result.file}: \${result.top[0]?.name}\`);
await predict("none", []).catch((error: unknown) => {
  if (!(error instanceof RiffleError) || error.exitCode !== 4) throw error;
});
export { given, wrong };
`;

/** A project that depends on the package, its dependencies locked at the versions that the clone's lockfile has. */
function writeProject(): void {
  const name = "riffle-vision";
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
    packages: Record<string, { dev?: boolean; [key: string]: unknown }>;
  };
  const { "": own, ...others } = lock.packages;
  assert.ok(own);
  const dependencies = { [name]: `file:${packed.file}` };
  const integrity = `sha512-${createHash("sha512").update(packed.bytes).digest("base64")}`;
  const { version, bin, engines } = own;
  const entry = {
    version,
    bin,
    engines,
    dependencies: own["dependencies"],
    integrity,
    hasInstallScript: true,
  };
  const packages = {
    "": { dependencies },
    [`node_modules/${name}`]: { ...entry, resolved: `file:${packed.file}` },
    ...Object.fromEntries(Object.entries(others).filter(([, { dev }]) => dev !== true)),
  };
  const write = (file: string, value: object): void =>
    writeFileSync(join(project, file), JSON.stringify(value));
  write("package.json", { private: true, type: "module", dependencies });
  write("package-lock.json", { lockfileVersion: 3, requires: true, packages });
}

/** README's commands for records, which make `data` of `photos` and train on it. */
function recordCommands(): string[] {
  const [, block = ""] = /^```sh\n(npx riffle-vision explore-imagenet .*?)^```$/ms.exec(readme) ?? [];
  return block.trimEnd().split("\n").map((line) => line.replace("npx ", "")); // prettier-ignore
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
