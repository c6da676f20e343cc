/**
 * Folders of pictures: `train/<class>/*` and `val/<class>/*`, or `<class>/*` alone.
 *
 * Class names are the folders' names, sorted by code point. Files are not opened here, so a million of them
 * cost a million calls of stat and nothing more; one that is no picture is found, named and counted when its
 * turn comes (loader.ts).
 */

import { createHash } from "node:crypto";
import { basename, dirname, join } from "node:path";

import { DataError } from "../core/error.js";
import { checkedSample, type Dataset, type PictureFile, unknownClass } from "./dataset.js";
import { byCodePoint, isDocument, listFolder, statOf } from "./picture-folder.js";
import { type Encoded, readPictures } from "./pictures/render.js";

/**
 * Opens a folder; `validation` is there when it has one of its own.
 *
 * @param leftOut files of training that keep their place when they are gone; absent where no run needs it
 */
export function openImageFolder(
  root: string,
  leftOut?: readonly PictureFile[],
): {
  readonly train: Dataset | undefined;
  readonly validation: Dataset | undefined;
} {
  const top = listFolder(root);
  const trainName = top.folders.includes("train") ? "train" : undefined;
  const validationName = ["val", "validation"].find((name) => top.folders.includes(name));
  if (trainName === undefined && validationName === undefined) {
    return { train: scanClasses(root, undefined, leftOut), validation: undefined };
  }
  const train = trainName === undefined ? undefined : scanClasses(join(root, trainName), undefined, leftOut);
  const validation =
    validationName === undefined
      ? undefined
      : scanClasses(join(root, validationName), train?.classes, undefined);
  return { train, validation };
}

/** Single files, without labels; for prediction. Each is a picture or is refused when its turn comes. */
export function openImageFiles(paths: readonly string[]): Dataset {
  const files = paths.map((name) => ({ name, bytes: fileSize(name) }));
  return new ImageFiles("", [], files, new Int32Array(paths.length).fill(-1));
}

class ImageFiles implements Dataset {
  readonly size: number;
  readonly fingerprint: string;

  /** Names of `files` are relative to `root`. */
  constructor(
    private readonly root: string,
    readonly classes: readonly string[],
    private readonly files: readonly PictureFile[],
    private readonly labels: Int32Array,
    private readonly keepsPlaces = false,
  ) {
    this.size = files.length;
    const hash = createHash("sha256").update(JSON.stringify(classes));
    files.forEach(({ name, bytes }, i) => hash.update(`\n${name}\t${bytes}\t${labels[i]}`));
    this.fingerprint = hash.digest("hex");
  }

  label(sample: number): number {
    return this.labels[checkedSample(this, sample)] as number;
  }

  name(sample: number): string {
    const { name } = this.files[checkedSample(this, sample)] as PictureFile;
    return this.root === "" ? name : join(this.root, name);
  }

  file(sample: number): PictureFile | undefined {
    return this.keepsPlaces ? this.files[checkedSample(this, sample)] : undefined;
  }

  bytes(sample: number): number {
    return (this.files[checkedSample(this, sample)] as PictureFile).bytes;
  }

  async read(sample: number): Promise<Encoded> {
    const [picture] = await readPictures([this.name(sample)]);
    if (picture instanceof DataError) throw picture;
    return picture as Encoded;
  }

  readAll(samples: readonly number[]): Promise<(Encoded | DataError)[]> {
    return readPictures(samples.map((sample) => this.name(sample)));
  }
}

/** The class folders in `root`; `known` are the classes that training has, and their order. */
function scanClasses(
  root: string,
  known: readonly string[] | undefined,
  leftOut: readonly PictureFile[] | undefined,
): Dataset {
  const { folders, files } = listFolder(root);
  const loose = files.find((name) => !isDocument(name));
  if (loose !== undefined) {
    throw DataError.at(join(root, loose), "lies beside the class folders, so its class is unknown", {
      hint: "Move it into the folder of its class, or away",
    });
  }
  if (folders.length === 0) {
    throw DataError.at(root, "holds no class folders", { expected: "one folder of pictures per class" });
  }
  const classes = known ?? folders;
  const labelOf = new Map(classes.map((name, label) => [name, label]));
  const labels: number[] = [];
  const pictures: PictureFile[] = [];
  for (const folder of folders) {
    const label = labelOf.get(folder);
    if (label === undefined) {
      throw unknownClass(join(root, folder), classes, folder);
    }
    const inside = listFolder(join(root, folder));
    if (inside.folders.length > 0) {
      throw DataError.at(
        join(root, folder, inside.folders[0] ?? ""),
        "a folder inside a class folder; pictures lie directly in the folder of their class",
      );
    }
    if (inside.files.length === 0 && known === undefined) {
      throw DataError.at(join(root, folder), "a class without pictures");
    }
    const gone = (leftOut ?? []).filter(
      ({ name }) => dirname(name) === folder && !inside.files.includes(basename(name)),
    );
    const names = [...inside.files.map((file) => `${folder}/${file}`), ...gone.map(({ name }) => name)];
    for (const name of gone.length === 0 ? names : names.sort(byCodePoint)) {
      const lost = gone.find((file) => file.name === name);
      pictures.push(
        lost === undefined ? { name, bytes: fileSize(join(root, name)) } : { ...lost, gone: true },
      );
      labels.push(label);
    }
  }
  if (pictures.length === 0) throw DataError.at(root, "holds no pictures");
  return new ImageFiles(root, classes, pictures, Int32Array.from(labels), leftOut !== undefined);
}

/** Length in bytes; pipes and devices are refused here, since opening one may wait for ever. */
function fileSize(path: string): number {
  const found = statOf(path);
  if (!found.isFile()) throw DataError.at(path, "not a regular file");
  return found.size;
}
