/**
 * The text file `checkpoint` beside TensorFlow's checkpoints, and which of a folder's checkpoints is the newest whole one.
 *
 *     model_checkpoint_path: "model.ckpt-5"
 *     all_model_checkpoint_paths: "model.ckpt-0"
 *     all_model_checkpoint_paths: "model.ckpt-5"
 *
 * The file is only a hint: what it names is verified byte for byte, and where it is missing, damaged or wrong the folder
 * itself is looked through. So a run never starts over because of this file. What it names outside of its folder is not
 * opened: a folder that was moved, or copied from another machine, still holds the paths of its old place, and means the
 * checkpoints of the same names beside the file.
 *
 * Source: tensorflow/python/training/checkpoint_state.proto, checkpoint_management.py; protobuf.dev/reference/protobuf/textformat-spec.
 */

import { readdir } from "node:fs/promises";
import { basename, isAbsolute, join, relative, resolve, sep } from "node:path";

import { exists, replaceFile } from "../core/durable.js";
import { CheckpointError, errorCode } from "../core/error.js";
import { readWhole } from "./read-file.js";
import { asProblem, readBundle, type TensorBundle, verifyBundle } from "./tf-bundle.js";
import { utf8Of } from "./utf8.js";

const CHECKPOINT_STATE_FILE = "checkpoint";

/** Paths as the file has them: prefixes of checkpoints, from the file's folder or absolute. */
interface CheckpointState {
  readonly latest: string;
  /** Oldest first. */
  readonly all: readonly string[];
}

/** A checkpoint that was found whole. */
interface LatestCheckpoint {
  readonly prefix: string;
  readonly bundle: TensorBundle;
  /** What was passed over on the way, newest first: what, and why. */
  readonly passedOver: readonly string[];
}

/**
 * The newest checkpoint of a folder of which every byte is verified: the one that the text file names, else the one of
 * the highest step in the folder.
 *
 * @throws CheckpointError when there is none, saying what was passed over.
 */
export async function latestCheckpoint(folder: string): Promise<LatestCheckpoint> {
  const passedOver: string[] = [];
  const found = await prefixesIn(folder);
  const named = await namedIn(folder, passedOver);
  for (const prefix of new Set([...named, ...found])) {
    try {
      const bundle = await readBundle(join(folder, prefix));
      const [missing] = bundle.missing;
      if (missing !== undefined) throw new CheckpointError({ what: `${basename(missing)} is not there` });
      await verifyBundle(bundle);
      return { prefix: bundle.prefix, bundle, passedOver };
    } catch (error) {
      if (!(error instanceof CheckpointError)) throw error;
      passedOver.push(`${prefix}: ${error.message}`);
    }
  }
  throw new CheckpointError({
    what: passedOver.length === 0 ? "there is no TensorFlow checkpoint" : "no TensorFlow checkpoint is whole",
    where: folder,
    expected: "model.ckpt-N.index and its data file",
    found: passedOver.join("; ") || "none",
    safe: "The folder is untouched",
  });
}

/** The file's text. @throws RangeError for a path with control characters. */
export function encodeCheckpointState({ latest, all }: CheckpointState): string {
  const lines = [`model_checkpoint_path: ${quoted(latest)}`];
  for (const path of all) lines.push(`all_model_checkpoint_paths: ${quoted(path)}`);
  return `${lines.join("\n")}\n`;
}

/**
 * The paths that the text names.
 *
 * @throws CheckpointError naming `where` and the byte.
 */
export function parseCheckpointState(bytes: Uint8Array, where: string): CheckpointState {
  const scanner = new TextScanner(bytes, where);
  let latest: string | undefined;
  const all: string[] = [];
  for (let field = scanner.field(); field !== undefined; field = scanner.field()) {
    if (field === "model_checkpoint_path") {
      if (latest !== undefined) scanner.fail("model_checkpoint_path comes twice");
      latest = scanner.text();
    } else if (field === "all_model_checkpoint_paths") all.push(scanner.text());
    else if (timestamps.has(field)) scanner.number();
    else scanner.fail("a field that no `checkpoint` file has");
  }
  if (latest === undefined) return scanner.fail("model_checkpoint_path is missing");
  return { latest, all };
}

/** What the folder's file `checkpoint` says; undefined where there is none, or it is damaged, and `refused` is told why. */
export async function readCheckpointState(
  folder: string,
  refused: (why: string) => void = () => undefined,
): Promise<CheckpointState | undefined> {
  const path = join(folder, CHECKPOINT_STATE_FILE);
  try {
    if (await exists(path)) return parseCheckpointState(await readSmall(path), path);
    refused("not there");
  } catch (error) {
    if (!(error instanceof CheckpointError)) throw error;
    refused(error.message);
  }
  return undefined;
}

/** @throws ResourceError when the disk refuses. */
export async function writeCheckpointState(folder: string, state: CheckpointState): Promise<void> {
  await replaceFile(join(folder, CHECKPOINT_STATE_FILE), [Buffer.from(encodeCheckpointState(state))]);
}

/** Prefixes of the checkpoints in a folder, newest first: by the step in their names, then those without one. */
export async function prefixesIn(folder: string): Promise<string[]> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (cause) {
    throw new CheckpointError(
      {
        what:
          errorCode(cause) === "ENOENT" ? "there is no such folder" : `cannot be read (${errorCode(cause)})`,
        where: folder,
      },
      cause,
    );
  }
  const prefixes = names
    // Hidden ones are still being written, or a kill left them.
    .filter((name) => name.endsWith(".index") && !name.startsWith("."))
    .map((name) => name.slice(0, -".index".length));
  return prefixes.sort((a, b) => (stepOf(b) ?? -1) - (stepOf(a) ?? -1) || (a < b ? -1 : 1));
}

/** The step in a name such as "model.ckpt-5". */
export function stepOf(prefix: string): number | undefined {
  const digits = /-(\d{1,15})$/.exec(prefix)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

const timestamps: ReadonlySet<string> = new Set([
  "all_model_checkpoint_timestamps",
  "last_preserved_timestamp",
]);

/** TensorFlow keeps a handful of paths. */
const MAX_STATE_BYTES = 2 ** 20;

/** What the text file names, newest first, as prefixes inside the folder; what cannot be used goes to `passedOver`. */
async function namedIn(folder: string, passedOver: string[]): Promise<string[]> {
  const state = await readCheckpointState(folder, (why) => {
    passedOver.push(`${CHECKPOINT_STATE_FILE}: ${why}`);
  });
  if (state === undefined) return [];
  const inside: string[] = [];
  for (const named of [state.latest, ...state.all.toReversed()]) {
    const within = insideOf(folder, named);
    const base = baseOf(named);
    if (within !== base && (await isPrefix(folder, base)) && !(await isPrefix(folder, within))) {
      inside.push(base);
    } else if (within !== undefined) inside.push(within);
    else {
      passedOver.push(
        `${JSON.stringify(named)}: lies outside of the folder of ${CHECKPOINT_STATE_FILE}, so it is not opened, ` +
          "and none of its name lies beside that",
      );
    }
  }
  return inside;
}

/** The path from the folder, or undefined where it leaves it. */
function insideOf(folder: string, path: string): string | undefined {
  const within = relative(resolve(folder), resolve(folder, path));
  const leaves = within === "" || isAbsolute(within) || within.split(sep)[0] === "..";
  return leaves || /^[a-z]:[\\/]/i.test(path) ? undefined : within;
}

async function isPrefix(folder: string, prefix: string | undefined): Promise<boolean> {
  if (prefix === undefined || prefix === "") return false;
  return exists(join(folder, `${prefix}.index`)).catch(() => false);
}

/** The last part of a path of any system. */
function baseOf(path: string): string {
  return /[^\\/]*$/.exec(path)?.[0] ?? "";
}

async function readSmall(path: string): Promise<Uint8Array> {
  try {
    return await readWhole(path, MAX_STATE_BYTES);
  } catch (cause) {
    throw asProblem(cause, path);
  }
}

/** Protobuf's text format, as far as this message uses it: `name: "text"` or `name: number`. */
class TextScanner {
  readonly #text: string;
  readonly #where: string;
  #at = 0;

  constructor(bytes: Uint8Array, where: string) {
    this.#where = where;
    // One character for each byte; texts are decoded when they are complete.
    this.#text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
  }

  /** A field's name with its colon; undefined at the end. */
  field(): string | undefined {
    this.#match(/[\s;,]*(?:#[^\n]*(?:\n[\s;,]*|$))*/y);
    if (this.#at === this.#text.length) return undefined;
    const name = this.#match(/[A-Za-z_][A-Za-z0-9_]{0,63}/y);
    if (name === undefined || this.#match(/[ \t\r\n]*:[ \t\r\n]*/y) === undefined) {
      return this.fail("expected a field's name and a colon");
    }
    return name;
  }

  /** One or more quoted texts, which are joined. */
  text(): string {
    const bytes: number[] = [];
    let parts = 0;
    for (
      ;
      this.#match(/(?:"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*')\s*/y, (part) =>
        this.#unescape(part, bytes),
      );
    ) {
      parts++;
    }
    if (parts === 0) return this.fail("expected a quoted text");
    const text = utf8Of(Uint8Array.from(bytes)) ?? this.fail("a text that is not UTF-8");
    if (text === "" || text.length > MAX_PATH_LENGTH || /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(text)) {
      return this.fail("a path that is empty, too long or holds control characters");
    }
    return text;
  }

  number(): void {
    if (this.#match(/[-+]?[0-9][0-9.eE+-]{0,40}\s*/y) === undefined) this.fail("expected a number");
  }

  fail(what: string): never {
    throw new CheckpointError({
      what: `is no list of checkpoints: ${what}`,
      where: `${this.#where}, byte ${this.#at}`,
      safe: "The checkpoints are untouched",
    });
  }

  #match(pattern: RegExp, use: (found: string) => void = () => undefined): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    if (found === undefined) return undefined;
    use(found);
    this.#at += found.length;
    return found;
  }

  #unescape(part: string, into: number[]): void {
    const inner = part.trimEnd().slice(1, -1);
    for (let i = 0; i < inner.length; i++) {
      if (inner[i] !== "\\") {
        into.push(inner.charCodeAt(i));
        continue;
      }
      const escape = /\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|([abfnrtv\\'"?]))/y;
      escape.lastIndex = i;
      const [whole = "", octal, hex, single] = escape.exec(inner) ?? this.fail("an unknown escape");
      if (octal !== undefined) into.push(Number.parseInt(octal, 8) & 0xff);
      else if (hex !== undefined) into.push(Number.parseInt(hex, 16));
      else into.push(singleEscapes.get(single as string) ?? (single as string).charCodeAt(0));
      i += whole.length - 1;
    }
  }
}

const singleEscapes: ReadonlyMap<string, number> = new Map([
  ["a", 7],
  ["b", 8],
  ["f", 12],
  ["n", 10],
  ["r", 13],
  ["t", 9],
  ["v", 11],
]);

/** PATH_MAX of Linux. */
const MAX_PATH_LENGTH = 4096;

/** As Python's text_format writes it: bytes beyond ASCII in octal. */
function quoted(path: string): string {
  if (path === "" || /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(path)) {
    throw new RangeError("a checkpoint's path cannot be empty or hold control characters");
  }
  const escaped = [...Buffer.from(path)].map((byte) => {
    const character = String.fromCharCode(byte);
    if (byte >= 0x7f) return `\\${byte.toString(8).padStart(3, "0")}`;
    return /["'\\]/.test(character) ? `\\${character}` : character;
  });
  return `"${escaped.join("")}"`;
}
