/**
 * The metadata CSVs that `explore-imagenet` writes and `create-tfrecords` reads: one picture a row.
 *
 * Columns `path,wordnet_id,just_name` for training (the last is the file's name without extension, by which boxes.npy
 * knows the picture), `path,wordnet_id` for validation. Paths are as the folder was given, so relative ones are relative
 * to the working directory, as in the original; a member of a tar archive is written ARCHIVE.tar::member (archives.ts).
 */

import { isUtf8 } from "node:buffer";

import { CsvError, parse } from "csv-parse/sync";
import { stringify } from "csv-stringify/sync";

import { DataError } from "../../core/error.js";
import { unreadable } from "../../data/unreadable.js";
import { readWhole } from "../../formats/read-file.js";

export interface PictureRow {
  /** A file, or a member of an archive. */
  readonly path: string;
  /** The class: a WordNet id, or a folder's name where there is no devkit. */
  readonly wordnetId: string;
  /** By which boxes.npy knows the picture. */
  readonly justName: string;
}

/** A path and a name may be long; a row of a megabyte is no metadata. */
const MAX_ROW_CHARACTERS = 2 ** 20;
/** ImageNet's 1.3 million rows take 120 MB. */
const MAX_FILE_BYTES = 2 ** 30;

/**
 * All rows of a metadata file, in its order.
 *
 * @throws DataError with the line where it is no such file.
 */
export async function readMetadata(csv: string): Promise<PictureRow[]> {
  let bytes: Uint8Array;
  try {
    bytes = await readWhole(csv, MAX_FILE_BYTES);
  } catch (error) {
    throw unreadable(csv, error);
  }
  return parseMetadata(bytes, csv);
}

/**
 * The rows in such a file's bytes. Columns may stand in any order; `just_name` may be missing and is then the file's name
 * without extension.
 *
 * @throws DataError with the line where it is no such file.
 */
export function parseMetadata(bytes: Uint8Array, where: string): PictureRow[] {
  let rows: PictureRow[];
  // What is no UTF-8 is read as U+FFFD, which may also stand in a name by right.
  const isText = isUtf8(bytes);
  try {
    rows = parse(Buffer.from(bytes.buffer, bytes.byteOffset, endOfRows(bytes)), {
      bom: true,
      // Spreadsheets leave rows of commas behind the last.
      skip_empty_lines: true,
      skip_records_with_empty_values: true,
      columns: (header: string[]) => checkHeader(header, where),
      max_record_size: MAX_ROW_CHARACTERS,
      on_record: (record, { lines }) => checkRow(record, lines, where, isText),
    });
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    const line = typeof error["lines"] === "number" ? `, line ${error["lines"]}` : "";
    throw DataError.at(`${where}${line}`, `no CSV file: ${error.message}`, {}, error);
  }
  if (rows.length === 0) throw DataError.at(where, "lists no pictures");
  return rows;
}

/** The lines of a metadata file as pandas writes them: a header, \n, quotes only where needed. */
export function encodeMetadata(rows: readonly PictureRow[], kind: "training" | "validation"): string {
  const training = kind === "training";
  const header = ["path", "wordnet_id", ...(training ? ["just_name"] : [])];
  const lines = rows.map((row) => [row.path, row.wordnetId, ...(training ? [row.justName] : [])]);
  return stringify([header, ...lines]);
}

/** A file's or member's name without folder and extension. */
export function justName(path: string): string {
  const name = path.replace(/^.*(?:\/|::)/s, "");
  const dot = name.lastIndexOf(".");
  return dot > 0 ? name.slice(0, dot) : name;
}

/** Where the blank lines begin behind the last row. */
function endOfRows(bytes: Uint8Array): number {
  let end = bytes.length;
  for (let i = bytes.length; i > 0 && BLANKS.has(bytes[i - 1] as number); i--)
    if (bytes[i - 1] === NEWLINE) end = i;
  return end;
}

const NEWLINE = 10;
/** Space, tab, both line ends. */
const BLANKS: ReadonlySet<number> = new Set([32, 9, 13, NEWLINE]);

const COLUMNS: ReadonlySet<string> = new Set(["path", "wordnet_id", "just_name"]);

/** Names that we know, so that nothing in a file names a property; other columns are passed over. */
function checkHeader(header: readonly string[], where: string): (string | false)[] {
  const missing = ["path", "wordnet_id"].filter((name) => !header.includes(name));
  const twice = header.find((name, i) => COLUMNS.has(name) && header.indexOf(name) !== i);
  if (missing.length > 0 || twice !== undefined) {
    throw DataError.at(
      `${where}, line 1`,
      twice === undefined ? `has no column ${missing.join(" and none ")}` : `has the column ${twice} twice`,
      {
        expected: "path,wordnet_id,just_name or path,wordnet_id",
        found: JSON.stringify(header.slice(0, 6).join(",").slice(0, 80)),
        hint: "npx riffle-vision explore-imagenet writes such files",
      },
    );
  }
  return header.map((name) => (COLUMNS.has(name) ? name : false));
}

function checkRow(record: unknown, line: number, where: string, isText: boolean): PictureRow {
  const { path, wordnet_id, just_name } = record as Record<
    "path" | "wordnet_id" | "just_name",
    string | undefined
  >;
  const place = `${where}, line ${line}`;
  if (!path) throw DataError.at(place, "a row without a path");
  if (!wordnet_id) throw DataError.at(place, "a row without a class");
  const text = path + wordnet_id;
  if (text.includes("\0")) throw DataError.at(place, "holds a zero byte");
  if (!isText && text.includes("\ufffd")) throw DataError.at(place, "holds bytes that are no UTF-8 text");
  return { path, wordnetId: wordnet_id, justName: just_name || justName(path) };
}
