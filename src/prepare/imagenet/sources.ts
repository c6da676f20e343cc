/**
 * What lies in the folders and archives that ImageNet comes in: training pictures by class, validation pictures, box
 * files. Names only; no picture is opened.
 *
 * Everything comes sorted by code point, so the same files give the same lists on every machine. What systems and editors
 * leave behind is passed over; what has no place (a picture beside the class folders, a folder in a class) is refused, and
 * so is a name that a list would not give back as it is.
 */

import { readFileSync } from "node:fs";
import { basename, join } from "node:path";

import {
  type OpenFile,
  openFile,
  type SkippedMember,
  tarContents,
  type TarMember,
  tarMembers,
  type TarRange,
} from "../../formats/tar.js";
import { DataError } from "../../core/error.js";
import { MAX_XML_BYTES } from "../../formats/voc-xml.js";
import { isOwnOutput } from "../../data/own-output.js";
import { byCodePoint, isDocument, isJunk, listFolder, statOf } from "../../data/picture-folder.js";
import { MEMBER } from "./archives.js";

/** A folder, or a tar archive that stays packed. */
export interface FolderOrArchive {
  readonly kind: "folder" | "archive";
  readonly path: string;
}

/** A picture, and the folder or archive that it lies in, which names its class. */
export interface Listed {
  readonly folder: string;
  readonly path: string;
}

/** An annotation and where it came from. */
interface BoxFile {
  /** The folder it lies in, which names the class. */
  readonly folder: string;
  /** Its name without extension, which is the picture's. */
  readonly justName: string;
  readonly where: string;
  readonly bytes: Uint8Array;
}

/** What listing tells of while it goes on. */
export interface ListEvents {
  /** A member of an archive that is left out, and why. */
  skipped(path: string, reason: string): void;
  /** A class folder, or the archive of a class, that holds no pictures. */
  empty(path: string): void;
  /** Awaited now and then, with the pictures found so far: reading is synchronous and would let nothing else run. */
  pause(done: number): Promise<void>;
}

/**
 * The pictures in `train/<class>/*`, or in an archive of such folders or of one archive per class (`n01440764.tar`).
 *
 * @throws DataError when there are none, or one lies where its class cannot be told.
 */
export async function listByClass(source: FolderOrArchive, events: ListEvents): Promise<Listed[]> {
  const pictures = await (source.kind === "folder" ? foldersOf : archivesOf)(source.path, events);
  if (pictures.length === 0)
    throw DataError.at(source.path, "holds no pictures", { expected: "a folder per class" });
  return pictures;
}

/** The files of a validation set that lies in one folder or archive, or undefined where it is sorted into class folders. */
export function listFlat(source: FolderOrArchive, events: ListEvents): string[] | undefined {
  if (source.kind === "folder") {
    const { folders, files } = listFolder(source.path);
    if (folders.length > 0) return undefined;
    return files.map((name) => checkPath(join(source.path, name)));
  }
  const members = membersOf(source.path, events);
  if (members.some(({ name }) => name.endsWith(".tar"))) return undefined;
  // ImageNet's archive has no folders; a single one around all is the same.
  const folders = new Set(members.map(({ name }) => folderOf(name)));
  if (folders.size > 1) return undefined;
  return members.map(({ name }) => `${source.path}${MEMBER}${name}`).sort(byCodePoint);
}

/**
 * The box files in `annotations/<class>/*.xml`, or in an archive of such folders that may be gzipped; in an archive in
 * its own order.
 *
 * @throws DataError when there are none.
 */
export async function* boxFiles(source: FolderOrArchive): AsyncGenerator<BoxFile, void> {
  let found = 0;
  for await (const file of source.kind === "folder" ? foldersOfXml(source.path) : archivedXml(source.path)) {
    found++;
    yield file;
  }
  if (found === 0) {
    throw DataError.at(source.path, "holds no box files", { expected: "a folder per class with .xml files" });
  }
}

/** How many box files a folder holds; undefined for an archive, which would have to be read for that. */
export function countBoxFiles(source: FolderOrArchive): number | undefined {
  if (source.kind === "archive") return undefined;
  const root = source.path;
  return listFolder(root).folders.reduce((sum, folder) => sum + xmlIn(join(root, folder)).length, 0);
}

async function foldersOf(root: string, events: ListEvents): Promise<Listed[]> {
  const { folders, files } = listFolder(root);
  const loose = files.find((name) => !isDocument(name));
  if (loose !== undefined) {
    throw DataError.at(join(root, loose), "lies beside the class folders, so its class is unknown", {
      hint: "Move it into the folder of its class, or away",
    });
  }
  const pictures: Listed[] = [];
  for (const folder of folders) {
    if (isOwnOutput(join(root, folder))) continue;
    const inside = listFolder(join(root, folder));
    if (inside.folders[0] !== undefined) {
      throw DataError.at(
        join(root, folder, inside.folders[0]),
        "a folder inside a class folder; pictures lie directly in the folder of their class",
      );
    }
    if (inside.files.length === 0) events.empty(join(root, folder));
    for (const name of inside.files) pictures.push({ folder, path: checkPath(join(root, folder, name)) });
    await events.pause(pictures.length);
  }
  return pictures;
}

async function archivesOf(path: string, events: ListEvents): Promise<Listed[]> {
  const file = openFile(checkPath(path));
  try {
    const pictures: Listed[] = [];
    for (const member of usableMembers(file, { start: 0, end: file.size }, path, events)) {
      const where = `${path}${MEMBER}${member.name}`;
      if (!member.name.endsWith(".tar")) {
        const folder = folderOf(member.name);
        if (folder === "") {
          throw DataError.at(where, "lies in no folder, so its class is unknown", {
            expected: "an archive or a folder per class",
          });
        }
        pictures.push({ folder, path: where });
      } else {
        const folder = basename(member.name).slice(0, -".tar".length);
        const range = { start: member.offset, end: member.offset + member.size };
        const before = pictures.length;
        for (const inside of usableMembers(file, range, where, events)) {
          pictures.push({ folder, path: `${where}${MEMBER}${inside.name}` });
        }
        if (pictures.length === before) events.empty(where);
      }
      if (member.name.endsWith(".tar") || pictures.length % 1000 === 0) await events.pause(pictures.length);
    }
    // An archive has an order of its own.
    return pictures.sort((a, b) => byCodePoint(a.folder, b.folder) || byCodePoint(a.path, b.path));
  } finally {
    file.close();
  }
}

function membersOf(path: string, events: ListEvents): TarMember[] {
  const file = openFile(checkPath(path));
  try {
    return [...usableMembers(file, { start: 0, end: file.size }, path, events)];
  } finally {
    file.close();
  }
}

/** A file's path as the lists hold it: what stands before {@link MEMBER} would be read as an archive. */
function checkPath(path: string): string {
  if (!path.includes(MEMBER)) return path;
  throw DataError.at(
    path,
    `a path with ${MEMBER} in it, which parts an archive from its member in the lists`,
    {
      safe: "Nothing was written",
      hint: "Rename it",
    },
  );
}

/** Members that are files, no junk, and can be named in a CSV. */
function* usableMembers(
  file: OpenFile,
  range: TarRange,
  where: string,
  events: ListEvents,
): Generator<TarMember, void> {
  const tell = ({ name, reason }: SkippedMember) => events.skipped(`${where}${MEMBER}${name}`, reason);
  for (const member of tarMembers(file.readAt, range, where, tell)) {
    if (isJunk(member.name)) continue;
    if (member.name.includes(MEMBER)) tell({ name: member.name, reason: `a name with ${MEMBER} in it` });
    else yield member;
  }
}

function* foldersOfXml(root: string): Generator<BoxFile, void> {
  for (const folder of listFolder(root).folders) {
    for (const name of xmlIn(join(root, folder))) {
      const where = join(root, folder, name);
      const { size } = statOf(where);
      if (size > MAX_XML_BYTES) {
        throw DataError.at(where, "too long for a file of boxes", {
          expected: `at most ${MAX_XML_BYTES} bytes`,
          found: `${size}`,
        });
      }
      yield { folder, justName: name.slice(0, -".xml".length), where, bytes: readFileSync(where) };
    }
  }
}

function xmlIn(folder: string): string[] {
  return listFolder(folder).files.filter((name) => /\.xml$/i.test(name));
}

async function* archivedXml(path: string): AsyncGenerator<BoxFile, void> {
  const isXml = (name: string) => /\.xml$/i.test(name) && !isJunk(name);
  for await (const { name, bytes } of tarContents(path, isXml, MAX_XML_BYTES)) {
    yield {
      folder: folderOf(name),
      justName: basename(name).slice(0, -".xml".length),
      where: `${path}${MEMBER}${name}`,
      bytes,
    };
  }
}

/** The name of the folder that a member lies in; "" for none. */
function folderOf(name: string): string {
  return name.split("/").at(-2) ?? "";
}
