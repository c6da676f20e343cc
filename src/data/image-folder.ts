/**
 * Folders of pictures: `<class>/*`, a part of a set or all of it.
 *
 * Class names are the folders' names, sorted by code point. Files are not opened here, so a million of them
 * cost a million calls of stat and nothing more; one that is no picture is found, named and counted when its
 * turn comes (loader.ts).
 */

import { createHash } from "node:crypto";
import { basename, dirname, join, resolve, sep } from "node:path";

import { DataError } from "../core/error.js";
import { byName, lookalikes } from "../core/name-forms.js";
import { shellWord } from "../core/printable.js";
import { shortPath } from "../core/short-path.js";
import { checkedSample, type Dataset, type PictureFile, unknownClass } from "./dataset.js";
import { isOwnOutput, isPictureName } from "./own-output.js";
import {
  byCodePoint,
  entriesOf,
  type FolderEntry,
  isDocument,
  listFolder,
  statOf,
} from "./picture-folder.js";
import { type Encoded, readPictures } from "./pictures/render.js";
import { noRemarks, type Remarks } from "./remarks.js";

export interface FolderOptions {
  /** The classes that training has, and their order; a class of them may have no pictures here. */
  readonly known?: readonly string[] | undefined;
  /** A class folder may be empty, though the classes are not known: a part of a set that is scored by itself. */
  readonly mayBeEmpty?: boolean | undefined;
  /** Files of training that keep their place when they are gone; absent where no run needs it. */
  readonly leftOut?: readonly PictureFile[] | undefined;
  /** What is to be said of the folder. */
  readonly remarks?: Remarks | undefined;
  /** Folders that the command writes to, which are no classes although they may be empty yet. */
  readonly outputs?: readonly string[] | undefined;
}

/** Single files, without labels; for prediction. Each is a picture or is refused when its turn comes. */
export function openImageFiles(paths: readonly string[]): Dataset {
  const files = paths.map((name) => pictureFile("", name, undefined));
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

  key(sample: number): string {
    return (this.files[checkedSample(this, sample)] as PictureFile).name;
  }

  file(sample: number): PictureFile | undefined {
    return this.keepsPlaces ? this.files[checkedSample(this, sample)] : undefined;
  }

  bytes(sample: number): number {
    return (this.files[checkedSample(this, sample)] as PictureFile).bytes;
  }

  modified(sample: number): number | undefined {
    return (this.files[checkedSample(this, sample)] as PictureFile).modified;
  }

  async read(sample: number): Promise<Encoded> {
    const [picture] = await this.readAll([sample]);
    if (picture instanceof DataError) throw picture;
    return picture as Encoded;
  }

  async readAll(samples: readonly number[]): Promise<(Encoded | DataError)[]> {
    const problems = samples.map((sample) => (this.files[sample] as PictureFile).problem);
    if (problems.every((problem) => problem === undefined))
      return readPictures(samples.map((s) => this.name(s)));
    const read = await readPictures(
      samples.filter((_, i) => problems[i] === undefined).map((s) => this.name(s)),
    );
    return problems.map((problem) => problem ?? (read.shift() as Encoded | DataError));
  }
}

/** Opens a folder of class folders. */
export function openClasses(root: string, options: FolderOptions = {}): Dataset {
  const { known, leftOut, remarks = noRemarks(), mayBeEmpty = known !== undefined } = options;
  const { files, folders } = listFolder(root, remarks);
  const loose = files.find((name) => !isDocument(name));
  if (loose !== undefined && folders.length === 0) throw noClasses(root);
  if (loose !== undefined) {
    throw DataError.at(join(root, loose), "lies beside the class folders, so its class is unknown", {
      hint: "Move it into the folder of its class, or away",
    });
  }
  const own: string[] = [];
  const labelOf = known === undefined ? undefined : byName(known.map((name, label) => [name, label]));
  const labels: number[] = [];
  const pictures: PictureFile[] = [];
  for (const folder of folders) {
    const entries = entriesOf(join(root, folder), remarks);
    if (isOutput(join(root, folder), entries, options.outputs)) {
      remarks.others.push(join(root, folder));
      continue;
    }
    own.push(folder);
    const label = labelOf === undefined ? own.length - 1 : labelOf(folder);
    if (label === undefined) {
      throw unknownClass(join(root, folder), known ?? [], folder);
    }
    const inside = picturesIn(join(root, folder), entries, remarks);
    if (inside.length === 0 && !mayBeEmpty) {
      throw DataError.at(join(root, folder), "a class without pictures", {
        hint: "Put pictures into it, or move it away",
      });
    }
    const names = new Set(inside.map(({ name }) => name));
    const gone = (leftOut ?? []).filter(({ name }) => dirname(name) === folder && !names.has(basename(name)));
    const files = [
      ...inside.map(({ name, problem }): PictureFile => pictureFile(root, `${folder}/${name}`, problem)),
      ...gone.map((file): PictureFile => ({ ...file, gone: true })),
    ];
    for (const file of gone.length === 0 ? files : files.sort((a, b) => byCodePoint(a.name, b.name))) {
      pictures.push(file);
      labels.push(label);
    }
  }
  if (own.length === 0) {
    throw DataError.at(root, "holds no class folders", {
      expected: "one folder of pictures per class",
      hint: "Put the pictures of each class into a folder of its name, or give the folder that holds such folders",
    });
  }
  noteLookalikes(root, own, remarks);
  if (pictures.length === 0)
    throw DataError.at(root, "holds no pictures", { hint: "Put pictures into its class folders" });
  return new ImageFiles(root, known ?? own, pictures, Int32Array.from(labels), leftOut !== undefined);
}

/** Pictures in one heap; where the folders beside it look like classes, it is one of those. */
function noClasses(root: string): DataError {
  const above = dirname(resolve(root));
  const classes = foldersBeside(above);
  const more = classes.length > NAMED ? ", ..." : "";
  return DataError.at(root, "holds pictures and no class folders, so their classes are unknown", {
    expected: "one folder of pictures per class",
    hint:
      classes.length < 2
        ? "Move each picture into a folder of its class"
        : `Give the folder above it, if its folders are the classes (${classes.slice(0, NAMED).join(", ")}${more}): ${shellWord(shortPath(above))}`,
  });
}

const NAMED = 5;

/** None where the folder cannot be read. */
function foldersBeside(path: string): string[] {
  try {
    return listFolder(path).folders;
  } catch {
    return [];
  }
}

/** A folder of ours: told from what it holds, or because the command says that it writes there. */
function isOutput(path: string, entries: readonly FolderEntry[], outputs: readonly string[] = []): boolean {
  if (entries.some(({ name }) => isPictureName(name))) return false;
  if (isOwnOutput(path)) return true;
  const full = resolve(path);
  const hasFiles = entries.some(({ name, kind }) => kind === "file" && !isDocument(name));
  return !hasFiles && outputs.some((output) => output === full || output.startsWith(full + sep));
}

/** The files of a class; one that can only be notes is remarked, and left out. */
function picturesIn(path: string, entries: readonly FolderEntry[], remarks: Remarks): FolderEntry[] {
  const folder = entries.find(({ kind }) => kind === "folder");
  if (folder !== undefined) {
    throw DataError.at(
      join(path, folder.name),
      "a folder inside a class folder; pictures lie directly in the folder of their class",
      { hint: "Move what is in it up, or the folder away; or give the folder above the classes" },
    );
  }
  return entries.filter(({ name }) => {
    if (!isDocument(name)) return true;
    remarks.others.push(join(path, name));
    return false;
  });
}

function noteLookalikes(root: string, folders: readonly string[], remarks: Remarks): void {
  const alike = lookalikes(folders);
  if (alike === undefined) return;
  const [a, b] = alike.map((name) => `"${name.replace(/[^\0-\x7f]/g, escaped)}"`);
  remarks.notices.push(
    `${root}: the classes ${a} and ${b} look the same, and are two: Unicode has two forms of the name`,
  );
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

function pictureFile(root: string, name: string, problem: DataError | undefined): PictureFile {
  if (problem !== undefined) return { name, bytes: 0, problem };
  const path = root === "" ? name : join(root, name);
  const found = statOf(path);
  // Pipes and devices are refused here, since opening one may wait for ever.
  if (!found.isFile()) throw DataError.at(path, "not a regular file", { hint: "Move it away" });
  return { name, bytes: found.size, modified: found.mtimeMs };
}
