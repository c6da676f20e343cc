/**
 * A set of drawn pictures in real folders, so that everything that reads photographs can be tried
 * without any: train/<class>/*.jpg, val/<class>/*.jpg and, as ImageNet keeps them,
 * annotations/<split>/<class>/*.xml with the box of each object.
 *
 * The set appears whole or not at all: it is written beside its place and renamed. The same settings
 * give the same bytes (with the same build of sharp).
 */

import { existsSync, readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import { makeFolder, makeWholeFolder } from "../../core/durable.js";
import { DataError } from "../../core/error.js";
import { loadSharp } from "../../core/sharp.js";
import { objectClasses } from "./classes.js";
import type { ObjectBox } from "../../data/pictures/augment.js";
import { drawPicture } from "./picture.js";
import { type NamesOf, refuseUnknown } from "../../core/nearest-name.js";

export interface DrawSettings {
  /** Where the set is to stand. */
  readonly folder: string;
  readonly seed: number;
  /** Height and width in pixels. */
  readonly size: number;
  /** Pictures, spread evenly over the classes. */
  readonly train: number;
  readonly validation: number;
}

const drawSettings: NamesOf<DrawSettings> = {
  folder: true,
  seed: true,
  size: true,
  train: true,
  validation: true,
};

/** Called with the pictures written so far and the pictures in all. */
export type DrawProgress = (done: number, total: number) => void;

/** Pictures rendered at once; libvips has threads of its own, this keeps them fed. */
const AT_ONCE = 8;
/** Raised when the drawing changes, so that an older set is not taken for this one. */
const DRAWING = 1;
const RECORD = "drawn.json";

/**
 * Draws the set; a complete one drawn with the same settings is kept as it is.
 *
 * @returns the number of pictures drawn, 0 when the set stood there already.
 * @throws DataError when the folder holds something else, ResourceError when it cannot be written.
 */
export async function drawFolder(
  settings: DrawSettings,
  progress: DrawProgress = () => {},
  signal?: AbortSignal,
): Promise<number> {
  refuseUnknown(settings, drawSettings, "drawFolder");
  const { folder, seed, size, train, validation } = settings;
  const record = JSON.stringify({ drawing: DRAWING, seed, size, train, validation }) + "\n";
  if (existsSync(folder)) {
    refuseAnother(folder, record);
    return 0;
  }

  const total = train + validation;
  const fill = async (root: string): Promise<void> => {
    for (const split of ["train", "val"]) {
      for (const { name } of objectClasses) {
        await makeFolder(join(root, split, name));
        await makeFolder(join(root, "annotations", split, name));
      }
    }
    let next = 0;
    let done = 0;
    const worker = async (): Promise<void> => {
      while (next < total) {
        signal?.throwIfAborted();
        const index = next++;
        await writePicture(root, index < train ? "train" : "val", index, settings);
        progress(++done, total);
      }
    };
    const workers = Array.from({ length: AT_ONCE }, worker);
    // All have to be still before a failure removes what they write.
    for (const outcome of await Promise.allSettled(workers)) {
      if (outcome.status === "rejected") throw outcome.reason;
    }
    await writeFile(join(root, RECORD), record);
  };
  await makeWholeFolder(folder, fill, {
    safe: "Nothing of the set was kept",
    hint: "Free some space (the set takes about 20 MB) or name another folder: --output_dir DIR",
  });
  return total;
}

async function writePicture(
  root: string,
  split: "train" | "val",
  index: number,
  { seed, size, train }: DrawSettings,
): Promise<void> {
  const picture = drawPicture(seed, index, size);
  const name = objectClasses[picture.label]?.name ?? "";
  const number = Math.floor((split === "train" ? index : index - train) / objectClasses.length);
  const stem = `${name}_${String(number).padStart(4, "0")}`;
  const jpeg = await loadSharp()(Buffer.from(picture.svg)).jpeg({ quality: picture.quality }).toBuffer();
  await writeFile(join(root, split, name, `${stem}.jpg`), jpeg);
  await writeFile(
    join(root, "annotations", split, name, `${stem}.xml`),
    annotation(name, stem, size, picture.box),
  );
}

function annotation(name: string, stem: string, size: number, box: ObjectBox): string {
  const sides = (["xmin", "ymin", "xmax", "ymax"] as const).map((side) => `<${side}>${box[side]}</${side}>`);
  return (
    `<annotation>\n  <folder>${name}</folder>\n  <filename>${stem}</filename>\n` +
    `  <size><width>${size}</width><height>${size}</height><depth>3</depth></size>\n` +
    `  <object>\n    <name>${name}</name>\n    <bndbox>${sides.join("")}</bndbox>\n  </object>\n</annotation>\n`
  );
}

function refuseAnother(folder: string, record: string): void {
  const file = join(folder, RECORD);
  const found = existsSync(file) ? readFileSync(file, "utf8") : undefined;
  if (found === record) return;
  throw DataError.at(folder, "the folder for the drawn pictures holds something else", {
    expected: `pictures drawn with ${record.trim()}`,
    found: found === undefined ? `no ${RECORD}` : found.trim().slice(0, 200),
    safe: "It was not touched.",
    hint: "Remove the folder or name another: --output_dir DIR",
  });
}
