/**
 * The folder of `riffle export --format web`: a page that classifies in the browser, from any web server and at any address, and
 * fetches nothing from elsewhere.
 *
 *     index.html page.css page.js opened-as-file.js     the page (src/web/drop-page.ts)
 *     classifier.js pixels.js decode.js                 compiled from src/web/, for pages of one's own, too
 *     preprocess.js likeliest.js upright.js             the same, for any JavaScript
 *     classes.json preprocessing.json                   what the network knows, and how it is shown a picture
 *     serve.mjs package.json                            `node serve.mjs` shows the page on this machine
 *     runtime.js                                        what runs the network, with
 *       engine-worker.js engine.js riffle.wasm          Riffle's engine (web-engine.ts)
 *       model.safetensors program.json                  and the network for it
 *     or, with `--runtime onnx`,
 *       onnxruntime/                                    ONNX Runtime, copied from its package (web-onnx.ts)
 *       model.onnx                                      and the network for it
 */

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import { makeWholeFolder } from "../core/durable.js";
import type { Network } from "../models/layers.js";
import type { Program } from "../program/program.js";
import { wordsOf } from "../prepare/imagenet/challenge-classes.js";
import { type CheckpointState, unsaidOrientation } from "../run/checkpoint-state.js";
import { css, dropPage, script } from "../web/drop-page.js";
import type { PageClasses } from "../web/likeliest.js";
import type { PagePreprocessing } from "../web/pixels.js";
import { preprocessingOf } from "./export-metadata.js";
import { engineFile, pageProgram } from "./web-engine.js";
import { onnxRuntimeFiles } from "./web-onnx.js";

/** What runs the network in the page: Riffle's engine, or ONNX Runtime. */
export const webRuntimes = ["riffle", "onnx"] as const;
export type WebRuntimeName = (typeof webRuntimes)[number];

type Files = Record<string, string | Uint8Array>;

/** What a folder has for one runtime. */
interface RuntimeParts {
  /** The network's file; the format is the exporter's. */
  readonly model: string;
  /** Compiled modules under their names in the folder. */
  readonly modules: Readonly<Record<string, string>>;
  /** The rest, when the model has been written in so many bytes. */
  readonly files: (program: Program) => (modelBytes: number) => Files;
}

const runtimes: Readonly<Record<WebRuntimeName, RuntimeParts>> = {
  riffle: {
    model: "model.safetensors",
    modules: { "runtime.js": "runtime.js", "engine.js": "engine.js", "engine-worker.js": "engine-worker.js" },
    files: (program) => {
      const engine = engineFile();
      return (modelBytes) => ({
        "riffle.wasm": engine,
        "program.json": pageProgram(program, { engine: engine.length, model: modelBytes }),
      });
    },
  },
  onnx: {
    model: "model.onnx",
    modules: { "runtime.js": "onnx-runtime.js" },
    files: () => {
      const files = onnxRuntimeFiles();
      return () => files;
    },
  },
};

/** What the page classifies with. */
export interface WebNetwork {
  readonly state: CheckpointState;
  readonly network: Network;
  /** Of its inference, for a batch of one. */
  readonly program: Program;
}

/**
 * Makes the folder, which must not exist; `writeModel` writes the network into the file it is given, and proves it.
 *
 * @returns what `writeModel` does, and the bytes of all files.
 * @throws ResourceError when the runtime's files are not installed, or the disk refuses; then nothing stays.
 */
export async function writeWebFolder<T extends { readonly bytes: number }>(
  output: string,
  { state, network, program }: WebNetwork,
  runtime: WebRuntimeName,
  writeModel: (path: string) => Promise<T>,
): Promise<T> {
  const { model, modules, files: filesOf } = runtimes[runtime];
  const runtimeFiles = filesOf(program);
  const common: Files = {
    ...dataFiles(state, network),
    ...(await compiled({ ...commonModules, ...modules })),
    ...pageFiles,
  };
  let written: T | undefined;
  await makeWholeFolder(
    output,
    async (folder) => {
      written = await writeModel(join(folder, model));
      const files = { ...common, ...runtimeFiles(written.bytes) };
      const loaded = Object.values(files).reduce((sum, file) => sum + Buffer.byteLength(file), written.bytes);
      const page = html(loaded);
      for (const [name, content] of [...Object.entries(files), ["index.html", page] as const]) {
        await mkdir(dirname(join(folder, name)), { recursive: true });
        await writeFile(join(folder, name), content);
      }
      written = { ...written, bytes: loaded + Buffer.byteLength(page) };
    },
    {
      safe: "The checkpoint is untouched, and nothing stands under that name",
      hint: "Free space on the disk, or name another folder with --output",
    },
  );
  return written as T;
}

/** The network's own, for programs as well. */
function dataFiles(state: CheckpointState, network: Network): Record<string, string> {
  const { model } = state;
  const classes: PageClasses = Array.from({ length: model.classes }, (_, i) => {
    const name = model.class_names[i] ?? `output ${i}`;
    const words = wordsOf(name);
    return { name, ...(words === undefined ? {} : { words }) };
  });
  const preprocessing: PagePreprocessing = {
    ...preprocessingOf(model, network),
    exif_orientation: model.exif_orientation ?? unsaidOrientation(state),
  };
  return {
    "classes.json": `[\n${classes.map((one) => `  ${JSON.stringify(one)}`).join(",\n")}\n]\n`,
    "preprocessing.json": `${JSON.stringify(preprocessing, null, 2)}\n`,
  };
}

const commonModules = {
  "classifier.js": "classifier.js",
  "pixels.js": "pixels.js",
  "preprocess.js": "preprocess.js",
  "likeliest.js": "likeliest.js",
  "upright.js": "upright.js",
  "decode.js": "decode.js",
  "serve.mjs": "serve-folder.js",
};

/** Modules of src/web, as they were compiled. */
async function compiled(modules: Readonly<Record<string, string>>): Promise<Record<string, string>> {
  const texts: Record<string, string> = {};
  for (const [name, module] of Object.entries(modules)) {
    const text = await readFile(new URL(`../web/${module}`, import.meta.url), "utf8");
    texts[name] = text.replace(/^\/\/# sourceMappingURL=.*\n?/m, "");
  }
  return texts;
}

const pageFiles = {
  "page.css": css,
  "page.js": script,
  // Programs of a page come from a server only; this one says so where it is opened as a file.
  "opened-as-file.js": `if (location.protocol === "file:") {
  const text = document.getElementById("network");
  text.textContent =
    "Browsers run this page from a web server only. In this folder, run: node serve.mjs (or put the folder on any web server).";
  text.className = "problem";
  document.getElementById("form").hidden = true;
}
`,
  // The modules are modules for Node, too, whatever project the folder is in.
  "package.json": `${JSON.stringify({ private: true, type: "module" })}\n`,
};

function html(bytes: number): string {
  return dropPage({
    head: `<meta http-equiv="Content-Security-Policy" content="${POLICY}">\n<script src="opened-as-file.js" defer></script>\n`,
    where: "They stay on this machine.",
    waiting: `Loading the network, ${(bytes / 1e6).toFixed(1)} MB.`,
    noscript: "This page needs JavaScript.",
  });
}

/** WebAssembly counts as script. */
const POLICY =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self'; " +
  "img-src 'self' blob: data:; media-src 'self' blob:; worker-src 'self'; base-uri 'none'; form-action 'none'";
