/** What is said where the installation failed: no engine, one that does not load, nothing installed, an old Node; and what a package holds. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, posix } from "node:path";
import { after, before, suite, test } from "node:test";

import { families, launchers } from "../support/mpi.js";
import { program, repository as root } from "../support/paths.js";

const scratch = mkdtempSync(join(tmpdir(), "riffle-unbuilt-"));
const main = join(scratch, "dist", "src", "cli", "main.js");
const engine = join(scratch, "build", "riffle.node");
const modules = join(scratch, "node_modules");
const hasMpi = families.some((family) => launchers[family] !== undefined);
before(() => {
  cpSync(join(root, "dist", "src"), join(scratch, "dist", "src"), {
    recursive: true,
    filter: (path) => !/\.(test\.js|map|d\.ts)$/.test(path),
  });
  cpSync(join(root, "package.json"), join(scratch, "package.json"));
  cpSync(join(root, "scripts", "start.mjs"), join(scratch, "scripts", "start.mjs"));
  symlinkSync(join(root, "node_modules"), modules);
});
after(() => rmSync(scratch, { recursive: true, force: true }));

function node(...argv: string[]) {
  return spawnSync(process.execPath, argv, { cwd: scratch, encoding: "utf8" });
}

test("where sharp does not load, doctor says so beside the rest, and so does what needs it", () => {
  const hook = join(scratch, "no-sharp.cjs");
  writeFileSync(
    hook,
    `const Module = require("node:module");
const load = Module._load;
Module._load = function (name, ...more) {
  if (name === "sharp") throw new Error("Could not load it\\nmusl >=1.2.5 is required\\nSee elsewhere");
  return load.call(this, name, ...more);
};
`,
  );
  const doctor = node("--require", hook, main, "doctor");
  assert.equal(doctor.status, 6, doctor.stderr);
  assert.match(
    doctor.stdout,
    /JPEG decoder +missing +none\n +sharp, which decodes [^]*Could not load it: musl >=1\.2\.5/,
  );
  assert.match(doctor.stdout, /Node +good/);
  const elsewhere = join(scratch, "elsewhere");
  mkdirSync(elsewhere);
  const drawn = spawnSync(process.execPath, ["--require", hook, program, "demo"], {
    cwd: elsewhere,
    encoding: "utf8",
  });
  assert.equal(drawn.status, 6, drawn.stderr);
  assert.match(drawn.stderr, /sharp, which decodes and writes pictures, does not load[^]*npm ci/);
});

suite("an installation", () => {
  const bin = join(scratch, "bin");
  const script = join(scratch, "scripts", "build-native.mjs");
  /** A compiler that writes empty files, or fails as CXX_FAILS says; each version compiles anew. */
  const compiler = `#!/bin/sh
if [ "$1" = -dumpfullversion ]; then echo "$CXX_VERSION"; exit; fi
for each in "$@"; do [ "$each" = -fsyntax-only ] && exit; done
if [ -n "$CXX_FAILS" ]; then echo "In file included from x.h:" >&2; echo "x.h:3:4: error: $CXX_FAILS" >&2; exit 1; fi
while [ "$1" != -o ]; do shift; done
: > "$2"
`;
  before(() => {
    for (const name of ["build-native.mjs", "native-flags.mjs"])
      cpSync(join(root, "scripts", name), join(scratch, "scripts", name));
    symlinkSync(join(root, "native"), join(scratch, "native"));
    mkdirSync(bin);
    writeFileSync(join(bin, "c++-of-test"), compiler, { mode: 0o755 });
  });

  function install(env: NodeJS.ProcessEnv, ...argv: string[]) {
    return spawnSync(process.execPath, [script, ...argv], {
      encoding: "utf8",
      env: { ...process.env, npm_command: "ci", CXX: "", ...env },
    });
  }

  test("is what npm calls", () => {
    const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
      scripts: { install: string };
    };
    assert.equal(scripts.install, "node scripts/build-native.mjs --install");
  });

  test("without a compiler ends well with a notice, and doctor knows why; a build that is asked for fails", (context) => {
    context.after(() => rmSync(join(scratch, "build"), { recursive: true }));
    const { status, stderr } = install({ PATH: bin }, "--install");
    assert.equal(status, 0, stderr);
    assert.equal(
      stderr,
      "riffle: the native engine was not built: no C++20 compiler was found (tried c++, g++, clang++)\n" +
        "  All but mixed precision and training with several ranks works without it; training and inference are slower.\n" +
        "  For the fast one install a C++20 compiler, then npm run build:native:\n" +
        "  sudo apt-get install g++ (Debian, Ubuntu), sudo dnf install gcc-c++ (Fedora), apk add g++ (Alpine), " +
        "xcode-select --install (macOS)\n",
    );
    assert.match(
      node(main, "doctor").stdout,
      /^engine +slow +WebAssembly, for the native one is not built: no C\+\+20 compiler was found \(tried/m,
    );
    for (const asked of [
      install({ PATH: bin }),
      install({ PATH: bin, npm_command: "rebuild" }, "--install"),
    ]) {
      assert.equal(asked.status, 1, asked.stderr);
      assert.match(asked.stderr, /^riffle: the native engine cannot be built: no C\+\+20 compiler was found/);
    }
  });

  test("whose compiler fails says its first error, and keeps no engine but one of the same sources", (context) => {
    context.after(() => rmSync(join(scratch, "build"), { recursive: true }));
    const good = { CXX: join(bin, "c++-of-test"), CXX_VERSION: "12.1" };
    const bad = { ...good, CXX_VERSION: "12.2", CXX_FAILS: "no such thing" };
    assert.equal(install(good, "--install").status, 0);
    const kept = install(bad, "--install");
    assert.equal(kept.status, 0, kept.stderr);
    assert.match(
      kept.stderr,
      /^riffle: the native engine stays as it was built before: native\/.* does not compile with /,
    );
    writeFileSync(`${engine}.sources`, "others");
    assert.equal(install(bad).status, 1);
    assert.ok(existsSync(engine), "a build by hand took it away");
    const { status, stderr } = install(bad, "--install");
    assert.equal(status, 0, stderr);
    assert.match(
      stderr,
      /was not built: native\/.* does not compile with .* 12\.2: x\.h:3:4: error: no such thing\n/,
    );
    assert.ok(!existsSync(engine), "an engine of other sources stays");
  });
});

suite("without an engine", () => {
  test("doctor says so, what to do, and all else that it finds", () => {
    const { status, stdout, stderr } = node(main, "doctor");
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^engine +slow +WebAssembly, for the native one is not built\n.*Build it: npm run build:native \(it needs a C\+\+20 compiler: /m); // prettier-ignore
    for (const name of ["threads", "JPEG decoder", "records", "memory", "Node"])
      assert.match(stdout, new RegExp(`^${name} `, "m"));
    assert.equal(stderr, "");
  });

  test("several ranks are refused, and hear what to do", () => {
    const pretend = { OMPI_COMM_WORLD_RANK: "0", OMPI_COMM_WORLD_SIZE: "2", OMPI_COMM_WORLD_LOCAL_RANK: "0" };
    const { status, stderr } = spawnSync(process.execPath, [main, "train", "--synthetic"], {
      cwd: scratch,
      encoding: "utf8",
      env: { ...process.env, ...pretend },
    });
    assert.equal(status, 6, stderr);
    assert.match(stderr, /training with 2 ranks needs the native engine: the native engine is not built/);
    assert.match(stderr, /Build it: npm run build:native/);
  });

  test(
    "launch says the same before it starts any rank",
    { skip: hasMpi ? false : "no MPI is installed" },
    () => {
      const argv = ["launch", "--ranks", "2", "--", "train", "--synthetic", "--log_dir", "ranks"];
      const { status, stderr, stdout } = node(main, ...argv);
      assert.equal(status, 6, stderr);
      assert.match(
        stderr,
        /riffle\.node: training with 2 ranks needs the native engine: the native engine is not built/,
      );
      assert.equal(stdout, "");
      assert.ok(!existsSync(join(scratch, "ranks.ranks")));
    },
  );

  test("npm start is the demo", () => {
    const start = JSON.parse(readFileSync(join(scratch, "package.json"), "utf8")) as {
      scripts: { start: string };
    };
    assert.equal(start.scripts.start, "node scripts/start.mjs");
  });

  test("one that does not load is told from one that is not there", (context) => {
    mkdirSync(join(scratch, "build"));
    writeFileSync(engine, "not a library");
    context.after(() => rmSync(join(scratch, "build"), { recursive: true }));
    assert.match(node(main, "doctor").stdout, /^engine +missing +built, but does not load\n.*Build it: /m);
    const { status, stderr } = node("scripts/start.mjs");
    assert.equal(status, 6);
    assert.match(stderr, /^riffle: .*the native engine does not load.*\n {2}Build it: npm run build:native/);
    assert.match(stderr, /--backend wasm/);
    assert.ok(!existsSync(join(scratch, "runs")), "pictures were drawn for nothing");
    // What works without it goes on, and says so once.
    const sum = `const { crc32c } = await import(${JSON.stringify(join(scratch, "dist/src/formats/crc32c.js"))});
      console.log(crc32c(Buffer.from("123456789")) === 0xe3069283, crc32c(Buffer.from("1")) > 0);`;
    const summed = node("--input-type=module", "-e", sum);
    assert.equal(summed.stdout, "true true\n");
    assert.match(
      summed.stderr,
      /^riffle: the native engine does not load \(.*\): slower parts take its place\.\n.*\n$/,
    );
  });

  test("of a package in a project, npm builds it again, and installs what is missing", (context) => {
    const project = mkdtempSync(join(tmpdir(), "riffle-project-"));
    context.after(() => rmSync(project, { recursive: true, force: true }));
    const installed = join(project, "node_modules", "riffle-vision");
    cpSync(join(scratch, "dist"), join(installed, "dist"), { recursive: true });
    cpSync(join(scratch, "package.json"), join(installed, "package.json"));
    symlinkSync(join(root, "node_modules"), join(installed, "node_modules"));
    assert.match(
      node(join(installed, "dist", "src", "cli", "main.js"), "doctor").stdout,
      /Build it: npm rebuild riffle-vision \(/,
    );
    rmSync(join(installed, "node_modules"));
    assert.match(
      node(join(installed, "dist", "src", "cli", "main.js"), "doctor").stderr,
      /^riffle: not all that it needs is installed: .*\n {2}Install it: npm install\n$/,
    );
  });
});

suite("without packages, or with an old Node", () => {
  test("the program says what to do", (context) => {
    rmSync(modules);
    context.after(() => symlinkSync(join(root, "node_modules"), modules));
    const { status, stderr } = node(main, "doctor");
    assert.equal(status, 6);
    assert.match(stderr, /^riffle: not all that it needs is installed: .*\n {2}Install it: npm ci\n$/);
    assert.match(node("scripts/start.mjs").stderr, /nothing is installed yet/);
  });

  for (const [version, isRefused] of [
    ["16.20.2", true],
    ["20.9.0", true],
    ["20.15.0", false],
    ["24.1.0", false],
  ] as const) {
    test(`Node ${version} is ${isRefused ? "refused in two lines" : "taken"}`, () => {
      const pretend = `data:text/javascript,Object.defineProperty(process.versions,"node",{value:"${version}"})`;
      const { status, stderr } = node("--import", pretend, program, "inspect", "--help");
      assert.equal(status, isRefused ? 6 : 0, stderr);
      const words = `riffle: this is Node ${version}, and Riffle needs 20.15 or later.\n  Install a newer one: `;
      assert.equal(stderr.startsWith(words), isRefused, stderr);
    });
  }

  test("the oldest Node is the one that package.json names", () => {
    const { engines } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
      engines: { node: string };
    };
    assert.equal(engines.node, ">=20.15");
  });

  test("what is looked at first loads nothing else before it has looked", () => {
    assert.doesNotMatch(readFileSync(program, "utf8"), /^import |\?\.|\?\?/m);
  });
});

suite("the package", () => {
  const { stdout } = spawnSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], {
    cwd: root,
    encoding: "utf8",
  });
  const [packed] = JSON.parse(stdout) as { files: { path: string }[] }[];
  const files = new Set(packed?.files.map(({ path }) => path));

  test("holds what its pages link to", () => {
    let seen = 0;
    for (const page of [...files].filter((path) => path.endsWith(".md"))) {
      for (const [, target = ""] of readFileSync(join(root, page), "utf8").matchAll(
        /\]\(([^)#:]+)(?:#[^)]*)?\)/g,
      )) {
        seen++;
        const path = posix.join(posix.dirname(page), target).replace(/\/$/, "");
        const isThere = files.has(path) || [...files].some((each) => each.startsWith(`${path}/`));
        assert.ok(isThere, `${page} links to ${target}, which is not in the package`);
      }
    }
    assert.ok(seen > 50, `only ${seen} links found`);
  });

  test("holds the pages and scripts that its messages name", () => {
    let seen = 0;
    for (const path of [...files].filter((each) => each.startsWith("dist/src/") && each.endsWith(".js"))) {
      const text = readFileSync(join(root, path), "utf8").replace(/^\s*(\*|\/\*|\/\/).*$/gm, "");
      for (const [name] of text.matchAll(/\b(docs|test)\/[\w/-]+\.(md|sh|json)\b/g)) {
        seen++;
        assert.ok(files.has(name), `${path} names ${name}`);
      }
    }
    assert.ok(seen > 5, `only ${seen} found`);
  });

  test("holds no tests and no sources but the engine's", () => {
    assert.deepEqual([...files].filter((path) => /\.test\.|^src\/|^native\/test\//.test(path)), []); // prettier-ignore
    for (const path of ["scripts/build-native.mjs", "native/binding/door.h", "dist/src/cli/start.js"])
      assert.ok(files.has(path), path);
  });
});
