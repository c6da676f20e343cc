/**
 * `riffle explore-imagenet`: from the devkit, folders and archives that ImageNet comes in to the lists, labels and boxes
 * that `create-tfrecords` takes; for any other folder of classes too.
 */

import { join } from "node:path";

import { UsageError } from "../core/error.js";
import { explore, type ExploreProgress, type ExploreReport } from "../prepare/imagenet/explore.js";
import type { FolderOrArchive } from "../prepare/imagenet/sources.js";
import type { CliCommand, Invocation } from "./command.js";
import { count, rate, shellWord } from "./format.js";
import { startProgress } from "./progress.js";
import { titled } from "./report-run.js";
import { listenForStop } from "./stop.js";
import type { Terminal } from "./terminal.js";

export const exploreImagenetCommand: CliCommand = {
  name: "explore-imagenet",
  purpose:
    "Lists ImageNet's pictures, labels and boxes, from folders or from its archives, for create-tfrecords.",
  examples: [
    "npx riffle-vision explore-imagenet --devkit ILSVRC2012_devkit_t12 --train train --annotations boxes --val val --output lists",
    "npx riffle-vision explore-imagenet --devkit_tar ILSVRC2012_devkit_t12.tar.gz --train_tar ILSVRC2012_img_train.tar --output lists",
    "npx riffle-vision explore-imagenet --train photos/train --val photos/val --output lists",
  ],
  options: {
    Folders: {
      train: {
        value: "<dir>",
        help: "training pictures, a folder per class; paths in the lists begin as this is written",
      },
      val: { value: "<dir>", help: "validation pictures, numbered as ImageNet's or a folder per class" },
      annotations: { value: "<dir>", help: "box XMLs, a folder per class", default: "none; no boxes.npy" },
      devkit: {
        value: "<dir>",
        help: "ImageNet's devkit: data/meta.mat and the validation classes",
        default: "none; classes are numbered by their sorted names",
      },
    },
    Archives: {
      train_tar: { value: "<file>", help: "ILSVRC2012_img_train.tar, which stays packed" },
      val_tar: { value: "<file>", help: "ILSVRC2012_img_val.tar, which stays packed" },
      annotations_tar: { value: "<file>", help: "ILSVRC2012_bbox_train_v2.tar.gz, or a .tar" },
      devkit_tar: { value: "<file>", help: "ILSVRC2012_devkit_t12.tar.gz, or a .tar" },
    },
    Lists: {
      output: { value: "<dir>", help: "where the five files are written" },
      overwrite: { help: "replace files of these names that hold something else" },
    },
  },
  run: exploreImagenet,
};

async function exploreImagenet(invocation: Invocation, terminal: Terminal): Promise<number> {
  const train = source(invocation, "train");
  const output = invocation.own.get("output");
  if (train === undefined) throw missing("train", "the training pictures: --train DIR or --train_tar FILE");
  if (typeof output !== "string" || output === "")
    throw missing("output", "the folder of the lists: --output DIR");
  const progress = startProgress(terminal);
  const stop = listenForStop(terminal, () => "Stopping; nothing was written.");
  try {
    const settings = {
      devkit: source(invocation, "devkit")?.path,
      train,
      annotations: source(invocation, "annotations"),
      validation: source(invocation, "val"),
      output,
      overwrite: invocation.own.has("overwrite"),
    };
    const result = await explore(settings, shownBy(terminal, progress), stop.signal);
    progress.end();
    terminal.emit({ event: "end", ...result });
    report(result, output, terminal);
    return 0;
  } catch (error) {
    if (stop.signal.aborted) return stop.exitCode;
    throw error;
  } finally {
    progress.end();
    stop.release();
  }
}

/** --NAME DIR or --NAME_tar FILE; undefined for neither. */
function source({ own }: Invocation, name: string): FolderOrArchive | undefined {
  const folder = own.get(name);
  const archive = own.get(`${name}_tar`);
  if (folder !== undefined && archive !== undefined) {
    throw new UsageError({
      what: `--${name} and --${name}_tar are two places for the same thing`,
      where: `option --${name}`,
      hint: "Give one of them",
    });
  }
  if (folder !== undefined) return { kind: "folder", path: String(folder) };
  return archive === undefined ? undefined : { kind: "archive", path: String(archive) };
}

function missing(option: string, expected: string): UsageError {
  return new UsageError({
    what: `--${option} is needed`,
    where: `option --${option}`,
    expected,
    safe: "Nothing was read or written",
    hint: "npx riffle-vision explore-imagenet --help gives examples",
  });
}

/** A bar where the total is known, else a line now and then. */
function shownBy(terminal: Terminal, progress: ReturnType<typeof startProgress>): ExploreProgress {
  let current: string | undefined;
  let started = 0;
  let noted = -Infinity;
  return (part, done, total) => {
    if (part !== current) started = performance.now();
    current = part;
    const seconds = (performance.now() - started) / 1000;
    const perSecond = `${rate(done / seconds)} files/s`;
    if (total !== undefined) {
      return progress.show({ label: part, done, total, columns: [{ rate: perSecond }] });
    }
    const now = performance.now();
    if (now - noted < (terminal.interactive ? 1000 : 10_000)) return;
    noted = now;
    progress.note(`${part.padEnd(14)}  ${count(done)} so far${seconds < 1 ? "" : `  ${perSecond}`}`);
  };
}

function report(result: ExploreReport, output: string, terminal: Terminal): void {
  const { classes, boxes } = result;
  const numbered =
    result.encoding === "devkit" ? "numbered by the devkit" : "no devkit: numbered by their sorted names";
  const expected =
    result.training_pictures_expected === null ||
    result.training_pictures_expected === result.training_pictures
      ? ""
      : ` of the ${count(result.training_pictures_expected)} that the devkit lists`;
  terminal.print(
    titled("Classes", `${count(classes)}, ${numbered}; ${count(result.classes_with_pictures)} with pictures`),
  );
  terminal.print(
    titled(
      "Pictures",
      `${count(result.training_pictures)} for training${expected}, ${count(result.validation_pictures)} for validation`,
    ),
  );
  if (boxes !== null) {
    terminal.print(
      titled(
        "Boxes",
        `${count(boxes.boxes_saved)} saved of ${count(boxes.files_saved)} files; ` +
          `${count(boxes.boxes_skipped)} boxes and ${count(boxes.files_skipped)} of ${count(boxes.files)} files skipped`,
      ),
    );
    if (boxes.without_picture > 0) {
      terminal.print(
        titled(
          "",
          `${count(boxes.without_picture)} files belong to no training picture; their boxes are saved all the same`,
        ),
      );
    }
    if (boxes.named_differently > 0) {
      terminal.print(
        titled(
          "",
          `${count(boxes.named_differently)} files name another picture inside; the file's own name counts`,
        ),
      );
    }
  }
  const skips = [...(boxes?.skipped ?? []), ...result.left_out];
  if (skips.length > 0) {
    terminal.table({
      head: ["left out", "count", "first of them"],
      align: ["left", "right", "left"],
      rows: skips.map(({ reason, count: n, first }) => [reason, count(n), first]),
    });
  }
  for (const [i, file] of result.files.entries()) terminal.print(titled(i === 0 ? "Written" : "", file));
  const [training, validation] = nextCommands(result, output);
  terminal.print(titled("Next", training ?? ""));
  if (validation !== undefined) terminal.print(titled("", validation));
}

/** 1,000 and 100 shards for ImageNet, as published; fewer where there are fewer pictures. */
function nextCommands(result: ExploreReport, output: string): string[] {
  const file = (name: string) => shellWord(join(output, name));
  const shards = (pictures: number, most: number) => Math.max(1, Math.min(most, Math.floor(pictures / 1000)));
  const command = (list: string, boxes: string, into: string, n: number) =>
    `npx riffle-vision create-tfrecords -m ${file(list)} -l ${file("integer_encoding.json")}${boxes} -o ${into} -s ${n}`;
  const boxes = result.boxes === null ? "" : ` -b ${file("boxes.npy")}`;
  const commands = [
    command("training_metadata.csv", boxes, "train_shards", shards(result.training_pictures, 1000)),
  ];
  if (result.validation_pictures > 0) {
    commands.push(
      command("validation_metadata.csv", "", "eval_shards", shards(result.validation_pictures, 100)),
    );
  }
  return commands;
}
