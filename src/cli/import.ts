/** `riffle import`: weights from PyTorch, TensorFlow or safetensors become a run of ours; --list only looks. */

import { readFile, stat } from "node:fs/promises";

import { UsageError } from "../core/error.js";
import { linesOf, plainText } from "../formats/plain-text.js";
import { challengeClasses } from "../prepare/imagenet/challenge-classes.js";
import {
  classifierChoices,
  type Imported,
  importWeights,
  writeImportedFile,
  writeImportedRun,
} from "../weights/import-weights.js";
import { importAsRun } from "../train/import-tf-run.js";
import { listOf, weightChoices } from "../weights/match.js";
import { provideWeights, settingsOfNamed, weightsPath } from "../weights/named-weights.js";
import { useWeights } from "../weights/open.js";
import { publishedNamed } from "../weights/published.js";
import { choice, type CliCommand, type Invocation } from "./command.js";
import { count, millions, shellWord } from "./format.js";
import { whileOpening } from "./opened-weights.js";
import { startProgress } from "./progress.js";
import { weightsLines } from "./report-run.js";
import type { Terminal } from "./terminal.js";

export const importCommand: CliCommand = {
  name: "import",
  arguments: "<file>",
  purpose: "Makes weights of PyTorch, TensorFlow or safetensors a run to predict with and to train from.",
  examples: [
    "npx riffle-vision import imagenet --log_dir runs/imagenet",
    "npx riffle-vision import old.pth.tar --num_classes 5 --classifier drop --output start.safetensors",
    "npx riffle-vision import model.ckpt-5 --resumable --log_dir runs/b --data_dir photos",
  ],
  settings: [
    "log_dir",
    "variant",
    "num_classes",
    "image_size",
    "eval_resize",
    "seed",
    "data_dir",
    "recipe",
    "batch_size",
    "shards",
    "max_epochs",
    "offline",
  ],
  defaults: {
    log_dir: "none: --output or this has to be given",
    variant: "what names and shapes say",
    num_classes: "as the file has",
    image_size: 224,
    eval_resize: "8/7 of the image size",
  },
  options: {
    File: {
      output: { value: "<path>", help: "write one safetensors file instead of a run's folder" },
      list: { help: "print names, types and shapes of what is in the file, and write nothing" },
    },
    Network: {
      classifier: {
        value: `<${classifierChoices.join("|")}>`,
        help: "with another --num_classes: keep the outputs that there are, or draw all anew",
        default: "a classifier of another size is refused",
      },
      classes: {
        value: "<file|imagenet>",
        help: "names of the outputs: a text file with a name a line, or ImageNet's WordNet ids in order",
        default: "the file's; imagenet for 1,000 outputs in PyTorch's names",
      },
      weights: {
        value: `<${weightChoices.join("|")}>`,
        help: "the moving averages, or the weights they were taken of",
        default: "average where the file has averages",
      },
    },
    TensorFlow: {
      resumable: {
        help: "take momentum, averages and step too, as a run on --data_dir that riffle train --resume continues",
      },
    },
  },
  run: importFile,
};

async function importFile(invocation: Invocation, terminal: Terminal): Promise<number> {
  const [file = ""] = invocation.arguments;
  const { settings, own } = invocation;
  if (own.has("list")) return list(await pathOf(invocation, terminal), terminal);
  const output = own.get("output");
  if ((output === undefined) === (settings.log_dir === undefined)) {
    throw new UsageError({
      what: "where to write has to be said, in one way",
      where: "options --log_dir and --output",
      expected: "--log_dir FOLDER for a run, or --output FILE for safetensors",
      found: output === undefined ? "neither" : "both",
      safe: "Nothing was written",
    });
  }
  if (own.has("resumable")) return importResumable(file, invocation, terminal);
  refuseTrainingSettings(invocation);
  const { eval_resize: published } = settingsOfNamed({ ...settings, init_from: file }) ?? {};
  const imported = await importWeights(await pathOf(invocation, terminal), {
    variant: settings.variant,
    classes: settings.num_classes,
    imageSize: settings.image_size,
    evalResize: settings.eval_resize ?? published,
    seed: settings.seed,
    classifier: choice(invocation, "classifier", classifierChoices),
    weights: choice(invocation, "weights", weightChoices),
    classNames: await classNames(own.get("classes")),
  });
  if (typeof output === "string") await writeImportedFile(imported, output);
  else await writeImportedRun(imported, settings.log_dir as string);
  report(
    imported,
    typeof output === "string" ? output : (settings.log_dir as string),
    output !== undefined,
    terminal,
  );
  return 0;
}

/** Where the weights lie, once they are there: those that are named are fetched. */
async function pathOf(
  { arguments: [file = ""], settings: { offline } }: Invocation,
  terminal: Terminal,
): Promise<string> {
  const progress = startProgress(terminal);
  const report = whileOpening(progress, terminal);
  await provideWeights(
    { init_from: file, offline },
    (event) => {
      if (event.event === "fetching" || event.event === "warning") report(event);
      else if (event.event === "weights") for (const line of weightsLines(event)) terminal.note(line);
    },
    undefined,
  ).finally(() => progress.end());
  return publishedNamed(file) === undefined ? file : weightsPath(file);
}

function report(imported: Imported, written: string, isFile: boolean, terminal: Terminal): void {
  const { model, recognised, layout, form, notices } = imported;
  const { variant, width, classes, image_size, eval_resize, pipeline } = model;
  const { scheme, prefix, averages, missing, leftOver } = recognised;
  terminal.emit({
    event: "imported",
    written,
    form,
    scheme,
    prefix,
    averages,
    network: {
      variant,
      width,
      classes,
      image_size,
      eval_resize,
      pipeline,
      parameters: layout.parameterCount,
    },
    tensors: recognised.found.length,
    missing: missing.map(({ name }) => name),
    left_over: leftOver,
    notices,
  });
  const network = `shufflenet-v2 ${width.toFixed(1)}x (${variant}), ${count(classes)} outputs`;
  terminal.print(`${form}, ${scheme} names: ${network}, ${millions(layout.parameterCount)} parameters`);
  for (const notice of notices) terminal.print(`  ${notice}`);
  terminal.print(`  pictures: shorter side ${eval_resize}, centre ${image_size} px, the ${pipeline} way`);
  terminal.print(`Written to ${written}`);
  const path = shellWord(written);
  if (!isFile) terminal.print(`  npx riffle-vision predict ${path} photo.jpg`);
  terminal.print(
    `  npx riffle-vision train --init_from ${path} --variant ${variant} --width ${width.toFixed(1)} --data_dir photos`,
  );
}

/** All of training, which only TensorFlow's checkpoints hold in a known form. */
async function importResumable(file: string, invocation: Invocation, terminal: Terminal): Promise<number> {
  const { settings, own } = invocation;
  const other = [...own.keys()].find((name) => ["output", "classifier", "classes", "weights"].includes(name));
  if (other !== undefined) {
    throw new UsageError({
      what: `--${other} does not go with --resumable, which takes all there is`,
      where: `option --${other}`,
      safe: "Nothing was written",
    });
  }
  const run = await importAsRun(file, settings.log_dir as string, settings);
  terminal.emit({
    event: "imported",
    written: run.run,
    step: run.step,
    steps: run.steps,
    notices: run.notices,
  });
  terminal.print(`TensorFlow checkpoint at step ${count(run.step)} of ${count(run.steps)}`);
  for (const notice of run.notices) terminal.print(`  ${notice}`);
  terminal.print(`Written to ${run.checkpoint}`);
  terminal.print(`  npx riffle-vision train --resume ${shellWord(run.run)}`);
  return 0;
}

function list(path: string, terminal: Terminal): Promise<number> {
  return useWeights(path, (file) => {
    for (const [name, { dtype, shape }] of file.tensors) {
      terminal.emit({ event: "tensor", name, dtype, shape });
    }
    for (const [place, made] of file.objects) terminal.emit({ event: "object", place, class: made });
    const { classNames, notices } = file;
    terminal.emit({
      event: "file",
      form: file.form,
      tensors: file.tensors.size,
      class_names: classNames,
      notices,
    });
    terminal.print(`${path}: ${file.form}, ${count(file.tensors.size)} tensors`);
    terminal.table({
      head: ["tensor", "type", "shape"],
      rows: [...file.tensors].map(([name, { dtype, shape }]) => [name, dtype, shape.join(" x ") || "scalar"]),
    });
    if (file.objects.size > 0) {
      terminal.print(`${count(file.objects.size)} objects of Python's beside them, never made:`);
      terminal.table({ head: ["place", "class or function"], rows: [...file.objects] });
    }
    for (const { names, from } of classNames) {
      terminal.print(`${count(names.length)} names of classes, by ${from}: ${listOf(names)}`);
    }
    for (const notice of notices) terminal.print(notice);
    return Promise.resolve(0);
  });
}

/** Settings of a run that is to go on; without one they would be accepted and ignored. */
function refuseTrainingSettings({ settings }: Invocation): void {
  const name = (["data_dir", "recipe", "batch_size", "shards", "max_epochs"] as const).find(
    (n) => settings[n] !== undefined,
  );
  if (name === undefined) return;
  throw new UsageError({
    what: `--${name} is for a run that goes on`,
    where: `option --${name}`,
    expected: "--resumable beside it",
    found: "weights only",
    safe: "Nothing was written",
  });
}

/** A few hundred thousand names; a file of pictures given by mistake is not read as one. */
const MAX_NAMES_BYTES = 16 * 2 ** 20;

async function classNames(given: string | true | undefined): Promise<readonly string[] | undefined> {
  if (given === undefined || given === true) return undefined;
  if (given === "imagenet") return challengeClasses;
  const problem = (found: string): UsageError =>
    new UsageError({
      what: "the names of the classes cannot be read",
      where: `option --classes, ${given}`,
      expected: "a text file with a name a line",
      found,
      safe: "Nothing was written",
    });
  const size = await stat(given).then(
    (file) => (file.isFile() ? file.size : Infinity),
    () => undefined,
  );
  if (size === undefined) throw problem("no such file");
  if (size > MAX_NAMES_BYTES) throw problem("something else");
  const text = plainText(await readFile(given));
  if (text === undefined) throw problem("bytes that are no UTF-8 text");
  const lines = linesOf(text);
  const blank = lines.findIndex((line) => line.trim() === "");
  if (blank >= 0 || lines.length === 0)
    throw problem(lines.length === 0 ? "an empty file" : `line ${blank + 1} is empty`);
  return lines;
}
