/**
 * The folder of `riffle export --format web`: a page that classifies in the browser, from any web server and at any address, and
 * fetches nothing from elsewhere.
 *
 *     index.html page.css page.js opened-as-file.js     the page (src/web/drop-page.ts)
 *     classifier.js decode.js runtime.js                compiled from src/web/, for pages of one's own, too
 *     preprocess.js likeliest.js upright.js             the same, for any JavaScript
 *     onnxruntime/                                      what runtime.js runs the network with, copied from its package
 *     model.onnx classes.json preprocessing.json        the network
 *     serve.mjs package.json                            `node serve.mjs` shows the page on this machine
 *
 * Which runtime it is, runtime.js and web-runtime.ts know; the rest does not.
 */

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import { makeWholeFolder } from "../core/durable.js";
import type { Network } from "../models/layers.js";
import { wordsOf } from "../prepare/imagenet/challenge-classes.js";
import { type CheckpointState, unsaidOrientation } from "../run/checkpoint-state.js";
import type { PagePreprocessing } from "../web/classifier.js";
import { css, dropPage, script } from "../web/drop-page.js";
import type { PageClasses } from "../web/likeliest.js";
import { preprocessingOf } from "./export-metadata.js";
import { webRuntimeFiles } from "./web-runtime.js";

/**
 * Makes the folder, which must not exist; `writeModel` writes the network into the file it is given, and proves it.
 *
 * @returns what `writeModel` does, and the bytes of all files.
 * @throws ResourceError when the runtime's package is not installed, or the disk refuses; then nothing stays.
 */
export async function writeWebFolder<T extends { readonly bytes: number }>(
  output: string,
  state: CheckpointState,
  network: Network,
  writeModel: (path: string) => Promise<T>,
): Promise<T> {
  const files: Record<string, string | Uint8Array> = {
    ...dataFiles(state, network),
    ...(await programs()),
    ...pageFiles,
    ...webRuntimeFiles(),
  };
  let written: T | undefined;
  await makeWholeFolder(
    output,
    async (folder) => {
      written = await writeModel(join(folder, "model.onnx"));
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

/** Compiled modules, under the names that they have there. */
async function programs(): Promise<Record<string, string>> {
  const names = {
    "classifier.js": "classifier.js",
    "preprocess.js": "preprocess.js",
    "likeliest.js": "likeliest.js",
    "upright.js": "upright.js",
    "decode.js": "decode.js",
    "runtime.js": "runtime.js",
    "serve.mjs": "serve-folder.js",
  };
  const texts: Record<string, string> = {};
  for (const [name, compiled] of Object.entries(names)) {
    const text = await readFile(new URL(`../web/${compiled}`, import.meta.url), "utf8");
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
    waiting: `Loading the network, ${(bytes / 1e6).toFixed(0)} MB.`,
    noscript: "This page needs JavaScript.",
  });
}

/** WebAssembly counts as script. */
const POLICY =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self'; " +
  "img-src 'self' blob: data:; media-src 'self' blob:; worker-src 'self'; base-uri 'none'; form-action 'none'";
