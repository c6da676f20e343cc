/**
 * What a folder of data holds: pictures or shards, in which parts, and what in it belongs to none of them.
 *
 * Only names are looked at. Where they can be read in two ways the folder is refused, for one of the two would train on
 * what is scored; what is not used is named, for whoever opens it to say.
 */

import { basename, join, resolve } from "node:path";

import { DataError } from "../core/error.js";
import { isOwnOutput } from "./own-output.js";
import { entriesOf, isDocument } from "./picture-folder.js";
import { holdsRecords, isShardName, listShards } from "./records/record-manifest.js";
import { preferred, type Split, splitOfFolder, splitOfShard, splits } from "./split-names.js";

/** Where a part is. */
export interface Place {
  readonly path: string;
  /** Of a folder of shards: those that belong to this part by their names. */
  readonly only?: Split;
}

export interface FolderLayout {
  readonly kind: "pictures" | "records";
  readonly parts: { readonly [S in Split]?: Place };
  /** All of it, where names tell no parts. */
  readonly whole?: Place;
  /** Paths of what lies there and is used by none of the parts. */
  readonly unused: readonly string[];
}

/** What a folder inside the data is. */
type Kind =
  | "output" // ours: a run, shards, lists
  | "records"
  | "classes" // folders
  | "pictures" // files: a class
  | "empty";

/** @throws DataError where it cannot be told what is what. */
export async function layoutOf(root: string): Promise<FolderLayout> {
  const folders = new Map<string, Kind>();
  for (const { name, kind, problem } of entriesOf(root)) {
    if (kind === "folder" && problem === undefined) folders.set(name, await kindOf(join(root, name)));
  }
  const named = (test: (kind: Kind, split: Split | undefined) => boolean): string[] =>
    [...folders].filter(([name, kind]) => test(kind, splitOfFolder(name))).map(([name]) => name);
  const classes = named((kind, split) => kind === "pictures" || (kind === "classes" && split !== undefined));
  const recordParts = named((kind, split) => kind === "records" && split !== undefined);
  if (await holdsRecords(root)) {
    const [shard = ""] = await listShards(root);
    const [other] = [...classes, ...recordParts];
    if (other !== undefined) {
      throw DataError.at(
        join(root, shard),
        `lies beside the folder ${other}, so it is not known which is the data`,
        {
          safe: "Nothing was written",
          hint: `Move it away, or give one of them alone, such as --data_dir ${join(root, shard)}`,
        },
      );
    }
    return shardsByName(root);
  }
  const strays = named((kind, split) => kind === "records" && split === undefined);
  const [records] = [...recordParts, ...strays];
  if (records !== undefined && classes.length > 0) {
    throw DataError.at(
      join(root, records),
      `holds shards beside the folder ${classes[0]}, so it is not known which is the data`,
      {
        safe: "Nothing was written",
        hint: `Move one of them away, or give it alone, such as --data_dir ${join(root, records)}`,
      },
    );
  }
  return recordParts.length > 0 ? foldersOf(root, folders, "records") : picturesIn(root, folders);
}

/** Pictures: folders of classes that are parts by their names, or the classes themselves. */
function picturesIn(root: string, folders: ReadonlyMap<string, Kind>): FolderLayout {
  const isPart = (name: string, kind: Kind): boolean =>
    splitOfFolder(name) !== undefined && kind === "classes";
  if ([...folders].some(([name, kind]) => isPart(name, kind))) return foldersOf(root, folders, "pictures");
  // Pictures that lie directly in `train` make it a class, as a bus and a train are, but not where nothing else is one.
  const direct = [...folders].filter(([, kind]) => kind === "pictures").map(([name]) => name);
  const [first] = direct;
  if (first !== undefined && direct.every((name) => splitOfFolder(name) !== undefined)) {
    throw DataError.at(
      join(root, first),
      "holds pictures and no class folders, so their classes are unknown",
      {
        expected: `${first}/CLASS/*`,
        hint: "Move each picture into a folder of its class",
      },
    );
  }
  return { kind: "pictures", parts: {}, whole: { path: root }, unused: [] };
}

/** Parts that are folders. */
function foldersOf(
  root: string,
  folders: ReadonlyMap<string, Kind>,
  kind: FolderLayout["kind"],
): FolderLayout {
  const held: Kind = kind === "records" ? "records" : "classes";
  const parts: { [S in Split]?: Place } = {};
  const used = new Set<string>();
  for (const split of splits) {
    const [name] = preferred(
      [...folders.keys()].filter((each) => splitOfFolder(each) === split && folders.get(each) === held),
    );
    if (name === undefined) continue;
    parts[split] = { path: join(root, name) };
    used.add(name);
  }
  const trainName = [...folders].find(
    ([name, each]) => splitOfFolder(name) === "train" && each === "pictures",
  )?.[0];
  if (parts.train === undefined && trainName !== undefined) {
    throw DataError.at(
      join(root, trainName),
      "holds pictures and no class folders, so their classes are unknown",
      {
        expected: `${trainName}/CLASS/*`,
        hint: "Move each picture into a folder of its class",
      },
    );
  }
  const unused = [...folders]
    .filter(([name, each]) => !used.has(name) && each !== "empty" && each !== "output")
    .map(([name]) => join(root, name));
  return { kind, parts, unused };
}

/** Shards of one folder, by the part that their names say; where none says one, all together. */
async function shardsByName(root: string): Promise<FolderLayout> {
  const names = await listShards(root);
  const found = new Set(names.map(splitOfShard));
  found.delete(undefined);
  if (found.size === 0) return { kind: "records", parts: {}, whole: { path: root }, unused: [] };
  const parts: { [S in Split]?: Place } = {};
  for (const split of splits) if (found.has(split)) parts[split] = { path: root, only: split };
  const unused = names.filter((name) => splitOfShard(name) === undefined).map((name) => join(root, name));
  return { kind: "records", parts, unused };
}

/** A folder called as the training part is, given by itself, is that part. */
export function isTrainPart(path: string): boolean {
  return splitOfFolder(basename(resolve(path))) === "train";
}

async function kindOf(path: string): Promise<Kind> {
  if (await holdsRecords(path))
    return isOwnOutput(path) && splitOfFolder(basename(path)) === undefined ? "output" : "records";
  if (isOwnOutput(path)) return "output";
  const entries = entriesOf(path);
  if (entries.some(({ kind }) => kind === "folder")) return "classes";
  return entries.some(({ name }) => !isDocument(name) && !isShardName(name)) ? "pictures" : "empty";
}
