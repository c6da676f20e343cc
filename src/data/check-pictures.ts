/**
 * Which files of a set are no pictures, told from what can be seen without decoding: looked at before a run has written
 * anything, so that all of them are named at once. Damage behind the header is found when the picture's turn comes.
 *
 * Every file is read whole, 400 photographs in about a second; of a set that would take minutes nothing is read ahead.
 */

import { DataError, type Problem } from "../core/error.js";
import { type Dataset, readAll } from "./dataset.js";
import type { BadImage } from "./loader.js";
import { Allowance } from "./pictures/allowance.js";
import { imageInfo } from "./pictures/image-info.js";
import { decodingThreads, GROUP_BYTES } from "./pictures/render.js";
import { Scratch } from "./pictures/scratch.js";

/** From here on nothing is looked at ahead: the border at which `documented` takes over from `small-set`. */
const TOO_MANY = 100_000;
/** Nor of so many bytes, which a disk reads in one or two minutes. */
const TOO_LARGE = 16 * 2 ** 30;

const PICTURES_AT_ONCE = 8;
const largeFiles = new Allowance(256 * 2 ** 20);

/** Why a set's pictures are not looked at ahead; undefined where they are. */
export function tooLargeToCheck(set: Dataset): string | undefined {
  if (!isOfFiles(set)) return undefined;
  let bytes = 0;
  for (let sample = 0; sample < set.size; sample++) bytes += set.bytes?.(sample) ?? 0;
  return set.size >= TOO_MANY || bytes > TOO_LARGE
    ? `${set.size} pictures are not looked at before training, which would take minutes; one that cannot be read is found in its turn`
    : undefined;
}

/** What was seen in a set. */
export interface Looked {
  /** Pictures that cannot be read, by number. */
  readonly bad: readonly BadImage[];
  /** Files of several frames or pages, of which the first is used. */
  readonly animations: number;
}

/**
 * Looks at the pictures of a set of files. Other sets have checks of their own.
 *
 * @throws ResourceError where that is the machine's fault; the signal's reason when it aborts.
 */
export async function lookAtPictures(
  set: Dataset,
  progress: (done: number) => void = () => undefined,
  signal?: AbortSignal,
): Promise<Looked> {
  const bad: BadImage[] = [];
  let animations = 0;
  if (!isOfFiles(set) || tooLargeToCheck(set) !== undefined) return { bad, animations };
  let next = 0;
  let done = 0;
  const work = async (): Promise<void> => {
    const scratch = new Scratch();
    while (next < set.size) {
      signal?.throwIfAborted();
      const { samples, bytes } = groupFrom(set, next);
      next += samples.length;
      const giveBack = bytes > GROUP_BYTES ? await largeFiles.take(bytes) : undefined;
      try {
        const pictures = await readAll(set, samples, scratch);
        samples.forEach((sample, i) => {
          const { reason, more } = verdictOn(pictures[i] as (typeof pictures)[number]);
          if (more) animations++;
          if (reason !== undefined)
            bad.push({ file: set.name(sample), reason, sample, picture: set.file?.(sample) });
        });
      } finally {
        giveBack?.();
      }
      progress((done += samples.length));
    }
  };
  await Promise.all(Array.from({ length: decodingThreads() }, work));
  const present = bad.filter(({ picture }) => picture?.gone !== true);
  return { bad: present.sort((a, b) => a.sample - b.sample), animations };
}

/** All of them, in the words of one message. */
export function unreadableProblem(where: string, bad: readonly BadImage[], allowed: number): Problem {
  const are = bad.length === 1 ? "1 picture" : `${bad.length} pictures`;
  return {
    where,
    what: `${are} cannot be read`,
    ...(allowed > 0 ? { expected: `at most ${allowed}, by --max_bad_images` } : {}),
    files: bad.map(({ file, reason }) => ({ file, reason })),
    safe: "Nothing was made",
    hint: `Remove or replace ${bad.length === 1 ? "it" : "them"}, or go on without: --max_bad_images ${bad.length}`,
  };
}

/** Pictures in memory, and records, have no length of their own. */
function isOfFiles(set: Dataset): boolean {
  if (set.records !== undefined) return false;
  for (let sample = 0; sample < set.size; sample++) if ((set.bytes?.(sample) ?? 0) > 0) return true;
  return false;
}

/** As many of the samples from `first` as are read in one go; a large file goes by itself. */
function groupFrom(set: Dataset, first: number): { readonly samples: number[]; readonly bytes: number } {
  const samples = [first];
  let bytes = set.bytes?.(first) ?? 0;
  for (let next = first + 1; next < set.size && samples.length < PICTURES_AT_ONCE; next++) {
    const more = set.bytes?.(next) ?? 0;
    if (bytes + more > GROUP_BYTES) break;
    samples.push(next);
    bytes += more;
  }
  return { samples, bytes };
}

function verdictOn(
  picture: DataError | { readonly kind: "pixels" } | { readonly kind: "encoded"; readonly bytes: Uint8Array },
): { readonly reason?: string; readonly more?: boolean } {
  if (picture instanceof DataError) return { reason: picture.problem.what };
  if (picture.kind === "pixels") return {};
  try {
    return { more: imageInfo(picture.bytes, "").more };
  } catch (error) {
    if (error instanceof DataError) return { reason: error.problem.what };
    throw error;
  }
}
