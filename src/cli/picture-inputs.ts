/**
 * The pictures that `predict` is given: what lies behind its arguments (find-files.ts), one from stdin, and those of addresses,
 * which are fetched when that is asked for in words.
 */

import { withoutPassword } from "../core/proxy.js";
import { DataError, UsageError } from "../core/error.js";
import { fetchPicture, isAddress, usualFetch } from "../data/fetch-picture.js";
import type { Remarks } from "../data/remarks.js";
import type { PictureInput } from "../inference/predict.js";
import { findFiles } from "./find-files.js";
import type { Progress } from "./progress.js";

interface Pictures {
  /** What the predictor is given, in the order of the arguments. */
  readonly inputs: readonly PictureInput[];
  /** The bytes that are among them, by what results call them. */
  readonly bytes: ReadonlyMap<string, Uint8Array>;
  /** Those of the inputs that are known not to be read, with the reason. */
  readonly refused: ReadonlyMap<string, string>;
  /** Whether a result, named as the prediction names it, was asked for. */
  readonly wanted: (file: string) => boolean;
  /** What a result is called: `-`, an address without its password, else what the prediction calls it. */
  readonly nameOf: (file: string) => string;
  /** What was passed over in folders. */
  readonly remarks: Remarks;
}

/** @throws UsageError for addresses where none may be opened; DataError where an argument stands for no file */
export async function picturesOf(
  paths: readonly string[],
  { allowsUrl, progress }: { readonly allowsUrl: boolean; readonly progress: Progress },
): Promise<Pictures> {
  refuseAddresses(paths, allowsUrl);
  const stdin = await pictureFromStdin(paths);
  const { files, remarks, wanted, refused: unopened } = findFiles(stdin === undefined ? paths : []);
  const refused = new Map(unopened);
  const names = new Map<string, string>();
  const bytes = new Map<string, Uint8Array>();
  const inputs: PictureInput[] = [];
  const add = (name: string, picture: Uint8Array): void => {
    // As the prediction calls pictures that have no name (inference/predict.ts).
    const own = `#${inputs.length}`;
    names.set(own, name);
    bytes.set(own, picture);
    inputs.push(picture);
  };
  if (stdin !== undefined) add(STDIN, stdin);
  const addresses = files.filter(isAddress).length;
  let fetched = 0;
  let held = 0;
  for (const file of files) {
    if (!isAddress(file)) {
      inputs.push(file);
      continue;
    }
    const name = withoutPassword(file);
    try {
      const most = Math.min(usualFetch.bytes, MOST_HELD - held);
      const picture = await fetchPicture(file, { ...usualFetch, bytes: most });
      held += picture.length;
      add(name, picture);
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      refused.set(file, error.problem.what);
      names.set(file, name);
      inputs.push(file);
    }
    progress.show({ label: "fetching", done: ++fetched, total: addresses, columns: ["pictures"] });
  }
  progress.end();
  return { inputs, bytes, refused, wanted, remarks, nameOf: (file) => names.get(file) ?? file };
}

/** The argument that stands for a picture on stdin. */
const STDIN = "-";

/** Larger pictures are not read (data/pictures/render.ts), nor are more bytes than that held for addresses. */
const MOST_HELD = 256 * 2 ** 20;

/** @throws UsageError */
function refuseAddresses(paths: readonly string[], allowsUrl: boolean): void {
  const address = paths.find(isAddress);
  if (address === undefined && allowsUrl) {
    throw new UsageError({
      what: "there is no address to fetch a picture from",
      where: "option --allow_url",
      expected: "a path that begins with http:// or https://",
      safe: "Nothing was fetched",
    });
  }
  if (address === undefined || allowsUrl) return;
  throw new UsageError({
    what: "that is an address, and nothing is fetched unless it is asked for",
    where: withoutPassword(address),
    expected: "files and folders, or --allow_url beside it",
    safe: "Nothing was fetched",
    hint: "Let it be fetched: --allow_url",
  });
}

/** The bytes of stdin where `-` asks for them. @throws UsageError where nobody sends any, DataError for too many. */
async function pictureFromStdin(paths: readonly string[]): Promise<Buffer | undefined> {
  if (!paths.includes(STDIN)) return undefined;
  if (paths.length > 1) {
    throw new UsageError({
      what: "stdin holds one picture, and is read alone",
      expected: "- and no other file",
      found: paths.join(" "),
    });
  }
  if (process.stdin.isTTY) {
    throw new UsageError({
      what: "- is a picture from stdin, and nothing is sent there",
      hint: "npx riffle-vision predict RUN - < photo.jpg",
    });
  }
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > MOST_HELD) {
      throw DataError.at("stdin", "too long for a picture", { expected: `at most ${MOST_HELD} bytes` });
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
