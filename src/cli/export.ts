/** `riffle export`: a trained network for ONNX Runtime, PyTorch, TensorFlow, or whatever reads safetensors. */

import { join } from "node:path";

import { shortPath } from "../core/short-path.js";
import { UsageError } from "../core/error.js";
import { exportFormats, type ExportResult, exportedWeights, exportRun } from "../weights/export-run.js";
import { onnxInputs } from "../weights/network-to-onnx.js";
import { webRuntimes } from "../weights/web-folder.js";
import { choice, type CliCommand, type Invocation, wholeNumber, wrongValue } from "./command.js";
import { bytes, count, shellWord } from "./format.js";
import { whileOpening } from "./opened-weights.js";
import { startProgress } from "./progress.js";
import { titled } from "./report-run.js";
import type { Terminal } from "./terminal.js";

export const exportCommand: CliCommand = {
  name: "export",
  arguments: "<run>",
  purpose:
    "Writes a trained network as safetensors, ONNX, a TensorFlow checkpoint or a page that classifies, and proves it.",
  examples: [
    "npx riffle-vision export runs/a/step-1200 --format onnx --weights raw",
    "npx riffle-vision export runs/a --format web --output web",
    "npx riffle-vision export model_1p --format tf-checkpoint --output tf/",
  ],
  settings: ["offline"],
  options: {
    File: {
      format: { value: `<${exportFormats.join("|")}>`, help: "what to write; has to be given" },
      output: {
        value: "<path>",
        help: "the file; for tf-checkpoint and web the folder",
        default: "beside the checkpoint: runs/a/best.onnx for runs/a/best",
      },
      overwrite: { help: "replace a file that exists; a folder never is" },
    },
    Network: {
      weights: {
        value: `<${exportedWeights.join("|")}>`,
        help: "the averages, or the weights as trained",
        default: "average where averages were kept (--average_decay), else raw",
      },
    },
    ONNX: {
      keep_batch_norm: { help: "keep batch norm's nodes; else they are folded into the convolutions" },
      input: {
        value: `<${onnxInputs.join("|")}>`,
        help: "what the graph takes: normalised as in its metadata, or RGB pixels from 0 to 255",
        default: "normalised, as exports from PyTorch do",
      },
    },
    Page: {
      runtime: {
        value: `<${webRuntimes.join("|")}>`,
        help: "what runs the network in the browser: Riffle's engine, or ONNX Runtime (npm install onnxruntime-web@1)",
        default: "riffle",
      },
    },
    Run: {
      threads: {
        value: "<n>",
        help: "taken from scripts of older versions, and has nothing to do: no network is run",
      },
    },
  },
  run: exportFile,
};

async function exportFile(invocation: Invocation, terminal: Terminal): Promise<number> {
  const [run = ""] = invocation.arguments;
  wholeNumber(invocation, "threads", 1);
  if (invocation.own.has("threads"))
    terminal.note("--threads has nothing to do in export: no network is run");
  const asked = invocation.own.get("format");
  if (typeof asked === "string" && /^(html?|page|browser|js)$/i.test(asked)) {
    const { problem } = wrongValue("format", asked, exportFormats.join(", "));
    throw new UsageError({ ...problem, hint: "A page of HTML for the browser is --format web" });
  }
  const format = choice(invocation, "format", exportFormats);
  if (format === undefined) {
    throw new UsageError({
      what: "there is no --format",
      where: "option --format",
      expected: exportFormats.join(", "),
      found: "nothing",
      safe: "Nothing was written",
    });
  }
  const weights = choice(invocation, "weights", exportedWeights);
  const input = choice(invocation, "input", onnxInputs);
  const runtime = choice(invocation, "runtime", webRuntimes);
  const output = invocation.own.get("output");
  const progress = startProgress(terminal);
  const result = await exportRun(run, {
    format,
    keepBatchNorm: invocation.own.has("keep_batch_norm"),
    overwrite: invocation.own.has("overwrite"),
    offline: invocation.settings.offline,
    report: whileOpening(progress, terminal),
    ...(typeof output === "string" ? { output } : {}),
    ...(weights === undefined ? {} : { weights }),
    ...(input === undefined ? {} : { input }),
    ...(runtime === undefined ? {} : { runtime }),
  }).finally(() => progress.end());
  terminal.emit({ event: "export", ...result });
  for (const what of result.passed_over) terminal.warn(`passed over ${what}; exporting ${result.checkpoint}`);
  terminal.print(titled("Network", `${result.network}, ${count(result.classes)} classes`));
  terminal.print(
    titled(
      "Weights",
      `${weightsInWords[result.weights]}, ${shortPath(result.checkpoint)}, after step ${count(result.step)}`,
    ),
  );
  terminal.print(titled("Saved", `${shellWord(shortPath(result.output))}, ${bytes(result.bytes)}`));
  terminal.print(titled("Checked", `read again: ${count(result.check.tensors)} tensors, equal bit for bit`));
  terminal.print(titled("Next", nextCommand(result)));
  return 0;
}

const weightsInWords = {
  average: "averages",
  raw: "as trained",
  both: "as trained, with averages and momentum",
} as const satisfies Record<ExportResult["weights"], string>;

/** One line that opens the file in Python, or the page in a browser. */
function nextCommand({ format, output, classes, network }: ExportResult): string {
  if (format === "web") return `node ${shellWord(shortPath(join(output, "serve.mjs")))}`;
  const file = JSON.stringify(shortPath(output));
  const width = /[\d.]+(?=x)/.exec(network)?.[0].replace(".", "_");
  const script: Record<typeof format, string> = {
    onnx: `import onnxruntime as ort; print(ort.InferenceSession(${file}).get_modelmeta().custom_metadata_map)`,
    safetensors: `from safetensors import safe_open; print(safe_open(${file}, "np").metadata())`,
    "safetensors-torchvision":
      `import torchvision, safetensors.torch as st; ` +
      `torchvision.models.shufflenet_v2_x${width}(num_classes=${classes}).load_state_dict(st.load_file(${file}))`,
    "tf-checkpoint": `import tensorflow as tf; print(tf.train.list_variables(${file}))`,
  };
  return `python -c ${shellWord(script[format])}`;
}
