/**
 * What weights that are given mean, to train from (`--from`) and to use: a path, or the name of weights that others publish
 * (published.ts), which are fetched when they are first named, and only then, and kept among the user's caches.
 */

import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { join, resolve } from "node:path";

import { exists } from "../core/durable.js";
import { CheckpointError, ResourceError, UsageError } from "../core/error.js";
import { shellWord } from "../core/printable.js";
import { userCache } from "../core/user-cache.js";
import type { Reporter } from "../run/events.js";
import type { SettingsOfWeights } from "../settings/resolve-settings.js";
import type { GivenSettings } from "../settings/settings.js";
import { byHand, download, type Downloaded, type Patience } from "./download.js";
import { addressOf, type Published, publishedNamed } from "./published.js";

/** Where the weights lie, or would. @throws UsageError, ResourceError for a user without caches */
export function weightsPath(given: string): string {
  const named = publishedNamed(given);
  return named === undefined ? resolve(given) : keptAt(named);
}

/**
 * What is known of weights that are named before they are there; undefined for a path.
 *
 * @throws UsageError where they are of another network than the settings ask for
 */
export function settingsOfNamed({ init_from, ...given }: GivenSettings): SettingsOfWeights | undefined {
  const named = init_from === undefined ? undefined : publishedNamed(init_from);
  if (named === undefined) return undefined;
  refuseOtherNetwork(named, given);
  const { variant, width, evalResize } = named;
  // Of pictures of another size the same share is seen, unless it is said how much.
  const eval_resize =
    given.eval_crop === undefined ? Math.round((evalResize * (given.image_size ?? 224)) / 224) : undefined;
  return { variant, width, ...(eval_resize === undefined ? {} : { eval_resize }) };
}

/**
 * Sees to it that weights that are named are there. For a path nothing is done.
 *
 * @param report is told of the progress, and then what the weights are
 * @throws what {@link download} throws; CheckpointError where they are missing and must not be fetched, or where other bytes
 * stand in their place
 */
export async function provideWeights(
  { init_from: given, offline }: GivenSettings,
  report: Reporter,
  signal: AbortSignal | undefined,
): Promise<void> {
  const named = given === undefined ? undefined : publishedNamed(given);
  if (given === undefined || named === undefined) return;
  if (await exists(resolve(given)))
    report({
      event: "warning",
      what: `${given} means ${named.name}, which is published; for what lies here under that name write ./${given}`,
    });
  await providePublished(named, { offline: offline === true, report, signal });
}

interface Providing {
  readonly offline: boolean;
  readonly report: Reporter;
  readonly signal?: AbortSignal | undefined;
  readonly patience?: Patience;
}

/** One published file, kept already or fetched. */
export async function providePublished(
  named: Published,
  { offline, report, signal, patience }: Providing,
): Promise<void> {
  const path = keptAt(named);
  const url = addressOf(named);
  const kept = await keptFile(named, path);
  if (kept === undefined && offline) throw missing(named, path, url);
  const began = performance.now();
  let first: number | undefined;
  const { bytes, sha256 } =
    kept ??
    (await download(
      { ...named, url, path },
      (done, total) => {
        first ??= done;
        const seconds = (performance.now() - began) / 1000;
        const speed = (done - first) / seconds;
        report({
          event: "fetching",
          file: named.file,
          done,
          total,
          bytes_per_second: speed,
          seconds_left: speed > 0 ? Math.max(0, total - done) / speed : 0,
        });
      },
      signal,
      patience,
    ));
  report({
    event: "weights",
    name: named.name,
    network: `ShuffleNet V2 ${named.width.toFixed(1)}x of torchvision`,
    top1: named.top1,
    bytes,
    sha256,
    published_sha256: named.sha256,
    fetched: kept === undefined,
    path,
    source: url,
    licence: named.licence,
  });
}

function keptAt({ file }: Published): string {
  const cache = userCache();
  if (cache !== undefined) return join(cache, "weights", file);
  throw new ResourceError({
    what: "there is no folder to keep weights in",
    where: "the user's caches",
    expected: "a home folder, or the variable XDG_CACHE_HOME",
    found: "neither",
    safe: "Nothing was fetched",
    hint: "Set XDG_CACHE_HOME to a folder",
  });
}

/** The file as an earlier command or the user put it there; undefined where there is none. */
async function keptFile({ sha256, bytes }: Published, path: string): Promise<Downloaded | undefined> {
  if (!(await exists(path))) return undefined;
  const found = await stat(path);
  const other = (words: string): CheckpointError =>
    new CheckpointError({
      what: "another file stands in the place of published weights",
      where: path,
      expected: `a SHA-256 that begins with ${sha256}`,
      found: words,
      safe: "It was left as it is",
      hint: `Move it away, and it is fetched again: mv ${shellWord(path)} ${shellWord(`${path}.other`)}`,
    });
  if (!found.isFile()) throw other("no file");
  if (found.size > 2 * bytes) throw other(`${found.size} bytes`);
  const content = await readFile(path);
  const digest = createHash("sha256").update(content).digest("hex");
  if (!digest.startsWith(sha256)) throw other(`${digest}, of ${content.length} bytes`);
  return { bytes: content.length, sha256: digest };
}

function missing({ name }: Published, path: string, url: string): CheckpointError {
  return new CheckpointError({
    what: `the weights ${name} are not here, and --offline keeps them from being fetched`,
    where: path,
    expected: "the file, as it is published",
    found: "nothing",
    safe: "Nothing was fetched or written",
    hint: `Leave --offline out, give a file of weights that is here (training takes it with --from FILE), or put the file there: ${byHand(url, path)}`,
  });
}

/** Told before anything is fetched. @throws UsageError */
function refuseOtherNetwork(named: Published, given: GivenSettings): void {
  for (const setting of ["width", "variant"] as const) {
    const wanted = given[setting];
    if (wanted === undefined || wanted === named[setting]) continue;
    throw new UsageError({
      what: `the weights are of another network than --${setting} asks for`,
      where: named.name,
      expected: `${wanted}`,
      found: `${named[setting]}`,
      safe: "Nothing was fetched or written",
      hint:
        typeof wanted === "number"
          ? `Take the weights of that width: torchvision/${wanted.toFixed(1)}x`
          : `Leave --${setting} out: the weights say it`,
    });
  }
}
