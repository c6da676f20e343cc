/**
 * Everything that can be known to be wrong with a data set before hours are spent on it: every checksum, every
 * picture decoded to its end, labels, boxes, copies of a picture under two labels or in both parts, and whether the
 * shards are those that the manifest lists.
 *
 * What would stop a training or falsify its scores is a problem. What is only worth knowing is a remark in the
 * counts: a picture that comes twice under one label, and classes of very different sizes. Nothing is changed.
 *
 * Records count from 0 in their shard, offsets are in bytes; boxes are shares of the picture. Pictures are the same
 * when 96 bits of their SHA-256 are.
 */

import { join } from "node:path";

import { MAX_CLASSES } from "../data/records/record-classes.js";
import { MANIFEST_FILE } from "../data/records/record-manifest.js";
import type { RequestedKeys } from "../data/records/record-keys.js";
import type { Encoded, Pixels } from "../data/pictures/render.js";
import { decodingProblem } from "../data/pictures/decoding-problem.js";
import { at, contentOf, copies, placeOf, remember, type Seen } from "./copies.js";
import {
  type Check,
  type DataProblem,
  type Found,
  openParts,
  type Part,
  type PartName,
  type PicturePlace,
  type Sample,
} from "./verify-parts.js";
import { type NamesOf, refuseUnknown } from "../core/nearest-name.js";

export interface VerifySettings {
  /** What `train` takes for its data: shards, a folder of pictures, `.npz`; or one shard. */
  readonly path: string;
  /** Names of the features where the records are not ours. */
  readonly keys?: RequestedKeys | undefined;
  /** The label of the first class in records; labels are told with it taken off. */
  readonly labelOffset?: number | undefined;
}

const verifySettings: NamesOf<VerifySettings> = { path: true, keys: true, labelOffset: true };

interface VerifyHooks {
  /** Called about ten times a second. */
  readonly progress?: (progress: VerifyProgress) => void;
  /** Aborted: report on what was looked at so far. */
  readonly signal?: AbortSignal;
}

export interface VerifyProgress {
  readonly part: PartName;
  /** Of `total`: megabytes of shards, or pictures. */
  readonly done: number;
  readonly total: number;
  readonly unit: "MB" | "pictures";
  /** Pictures a second. */
  readonly rate: number;
}

/** A picture that is a copy of an earlier one in its part, under the same label. */
interface CopiedPicture extends PicturePlace {
  readonly part: PartName;
  readonly of: PicturePlace;
}

export interface VerifiedPart extends Pick<Part, "part" | "path" | "shards" | "manifest"> {
  /** Those that could be read. */
  readonly pictures: number;
  /** Bytes of the pictures. */
  readonly bytes: number;
  readonly boxes: number;
  /** Pictures with at least one box. */
  readonly boxed: number;
  readonly classes: ClassBalance;
  /** How many pictures are a {@link CopiedPicture}. */
  readonly duplicates: number;
}

interface ClassBalance {
  /** Classes there are; null where nothing says. */
  readonly known: number | null;
  /** Those with at least one picture. */
  readonly seen: number;
  readonly smallest: ClassSize | null;
  readonly largest: ClassSize | null;
}

interface ClassSize {
  readonly label: number;
  readonly name: string | null;
  readonly pictures: number;
}

export interface VerifyReport {
  /** All was looked at, and nothing found. */
  readonly ok: boolean;
  /** Not all was looked at. */
  readonly stopped: boolean;
  readonly parts: readonly VerifiedPart[];
  /** The first {@link MOST_COPIES}; the parts say how many there are. */
  readonly copies: readonly CopiedPicture[];
  /** Validation pictures that are in training, too. */
  readonly leaked: number;
  /** How many of each kind; kinds without any are left out. */
  readonly counts: Readonly<Partial<Record<Check, number>>>;
  /** In the order of parts, files and records; the first {@link MOST_PROBLEMS}. */
  readonly problems: readonly DataProblem[];
  readonly seconds: number;
}

/** Problems kept for listing; all are counted. */
const MOST_PROBLEMS = 10_000;

/** Copies kept for listing; they are no problem, and all are counted. */
export const MOST_COPIES = 100;

/**
 * Looks at every picture of a data set.
 *
 * @throws DataError when there is no data set at the path.
 */
export async function verifyData(settings: VerifySettings, hooks: VerifyHooks = {}): Promise<VerifyReport> {
  refuseUnknown(settings, verifySettings, "verifyData");
  const verification = new Verification(hooks);
  for (const opened of await openParts(settings)) await verification.look(opened);
  return verification.report();
}

class Verification {
  readonly #parts: VerifiedPart[] = [];
  readonly #seen: Seen[] = [];
  readonly #problems: DataProblem[] = [];
  readonly #counts = new Map<Check, number>();
  readonly #started = performance.now();
  /** Decodings under way. */
  readonly #inFlight = new Set<Promise<void>>();
  /** Names by label that training goes by: those of the part looked at before. */
  #classes: readonly string[] | undefined;
  #reported = -Infinity;
  #pictures = 0;
  #stopped = false;

  constructor(private readonly hooks: VerifyHooks) {}

  async look(opened: Part): Promise<void> {
    if (this.#isStopped()) return;
    const { part } = opened;
    const seen: Seen = { part, files: [], file: [], record: [], offset: [], label: [], hash: [], check: [] };
    this.#seen.push(seen);
    let bytes = 0;
    let boxes = 0;
    let boxed = 0;
    // Problems in order although decodings end in any: each keeps the place where it was found.
    const found: (Found & { readonly order: number })[] = [];
    let order = 0;
    let done = 0;
    for (const problem of otherClasses(opened, this.#classes)) found.push({ ...problem, order });
    const classes = (this.#classes ?? opened.classes)?.length ?? MAX_CLASSES;
    for await (const one of opened.read()) {
      if (this.#isStopped()) break;
      order++;
      if ("check" in one) {
        found.push({ ...one, order });
        continue;
      }
      for (const problem of problemsOf(one, classes)) found.push({ ...problem, order });
      // The reader's buffer is about to be used again.
      const picture = ownCopy(one.picture);
      remember(seen, one, picture);
      bytes += contentOf(picture).length;
      boxes += one.boxes.length;
      if (one.boxes.length > 0) boxed++;
      this.#pictures++;
      const { file, record, offset } = one;
      const at = order;
      await this.#decode(picture, file, (what) =>
        found.push({ check: "picture", file, record, offset, what, order: at }),
      );
      done = one.done;
      this.#progress(opened, done);
    }
    await Promise.all(this.#inFlight);
    this.#progress(opened, this.#stopped ? done : opened.total, true);
    this.#classes ??= opened.classes ?? numbered(seen.label);
    found.sort((a, b) => a.order - b.order);
    for (const { check, file, record, offset, what } of found) {
      this.#add({ check, part, file, record, offset, what });
    }
    const { path, shards, manifest } = opened;
    this.#parts.push({
      part,
      path,
      shards,
      manifest,
      pictures: seen.hash.length,
      bytes,
      boxes,
      boxed,
      classes: balanceOf(seen, opened.classes),
      duplicates: 0,
    });
  }

  report(): VerifyReport {
    const { duplicates, copies, leaked } = this.#findCopies();
    return {
      ok: this.#counts.size === 0 && !this.#stopped,
      stopped: this.#stopped,
      parts: this.#parts.map((part, i) => ({ ...part, duplicates: duplicates[i] ?? 0 })),
      copies,
      leaked,
      counts: Object.fromEntries(this.#counts),
      problems: this.#problems,
      seconds: (performance.now() - this.#started) / 1000,
    };
  }

  /** Begins to decode, once there is room; the others go on meanwhile. */
  async #decode(picture: Encoded | Pixels, where: string, bad: (what: string) => void): Promise<void> {
    while (this.#inFlight.size >= IN_FLIGHT) await Promise.race(this.#inFlight);
    const decoding: Promise<void> = decodingProblem(picture, where)
      .then((what) => void (what === undefined || bad(what)))
      .finally(() => this.#inFlight.delete(decoding));
    this.#inFlight.add(decoding);
  }

  /** Copies within a part and between the parts. */
  #findCopies(): Pick<VerifyReport, "copies" | "leaked"> & { readonly duplicates: readonly number[] } {
    const duplicates = this.#seen.map(() => 0);
    const listed: CopiedPicture[] = [];
    let leaked = 0;
    for (const group of copies(this.#seen)) {
      for (const [part, seen] of this.#seen.entries()) {
        const [first, ...more] = group.filter((copy) => copy.part === part);
        if (first === undefined) continue;
        for (const { sample } of more) {
          const [label, firstLabel] = [seen.label[sample], seen.label[first.sample]];
          if (label === firstLabel) {
            duplicates[part] = (duplicates[part] ?? 0) + 1;
            if (listed.length < MOST_COPIES)
              listed.push({ part: seen.part, ...at(seen, sample), of: at(seen, first.sample) });
          } else {
            const what = `label ${label}; the same picture has label ${firstLabel} at ${placeOf(seen, first.sample)}`;
            this.#add({ check: "contradiction", part: seen.part, ...at(seen, sample), what });
          }
        }
      }
      const [here] = group;
      for (const { part, sample } of group) {
        const [seen, other] = [this.#seen[part], here && this.#seen[here.part]];
        if (here === undefined || seen === undefined || other === undefined || part === here.part) continue;
        leaked++;
        const what = `also in ${other.part}, at ${placeOf(other, here.sample)}`;
        this.#add({ check: "leakage", part: seen.part, ...at(seen, sample), what });
      }
    }
    return { duplicates, copies: listed, leaked };
  }

  /** Once asked to stop, what is left is not looked at. */
  #isStopped(): boolean {
    this.#stopped ||= this.hooks.signal?.aborted === true;
    return this.#stopped;
  }

  #add(problem: DataProblem): void {
    this.#counts.set(problem.check, (this.#counts.get(problem.check) ?? 0) + 1);
    if (this.#problems.length < MOST_PROBLEMS) this.#problems.push(problem);
  }

  #progress({ part, total, unit }: Part, done: number, last = false): void {
    const now = performance.now();
    if (!last && now < this.#reported + REPORT_MS) return;
    this.#reported = now;
    const rate = this.#pictures / ((now - this.#started) / 1000);
    this.hooks.progress?.({ part, done, total, unit, rate });
  }
}

/** Labels and boxes, which need no pixel; labels are below `classes`. */
function problemsOf({ file, record, offset, label, boxes }: Sample, classes: number): Found[] {
  const problems: Found[] = [];
  if (label < 0 || label >= classes) {
    const what = `label ${label} is no class; there are 0 .. ${classes - 1}`;
    problems.push({ check: "label", file, record, offset, what });
  }
  boxes.forEach(({ xmin, ymin, xmax, ymax }, i) => {
    if (xmin >= 0 && xmin < xmax && xmax <= 1 && ymin >= 0 && ymin < ymax && ymax <= 1) return;
    const what = `box ${i} is no box: xmin ${xmin}, ymin ${ymin}, xmax ${xmax}, ymax ${ymax}`;
    problems.push({ check: "boxes", file, record, offset, what });
  });
  return problems;
}

/** A manifest that names the classes otherwise than training does; the labels then mean something else. */
function otherClasses({ path, declared }: Part, classes: readonly string[] | undefined): Found[] {
  if (declared == null || classes === undefined) return [];
  const labels = Array.from({ length: Math.max(declared.length, classes.length) }, (_, label) => label);
  const label = labels.find((i) => declared[i] !== classes[i]);
  if (label === undefined) return [];
  const expected = classes[label] ?? `${classes.length} classes`;
  const found = declared[label] ?? `${declared.length} classes`;
  const what = `other classes than the training set has: label ${label} means something else (expected ${expected}, found ${found})`;
  return [{ check: "manifest", file: join(path, MANIFEST_FILE), record: null, offset: null, what }];
}

/** Names as training gives them where nothing else does: "0" .. the highest label; undefined where there is no label. */
function numbered(labels: readonly number[]): string[] | undefined {
  const highest = labels.reduce((most, label) => Math.max(most, label), -1);
  if (highest < 0) return undefined;
  return Array.from({ length: Math.min(highest + 1, MAX_CLASSES) }, (_, label) => String(label));
}

/** Twice libuv's four threads, so that none idles. */
const IN_FLIGHT = 8;

/** Milliseconds between two reports of progress. */
const REPORT_MS = 100;

function ownCopy(picture: Encoded | Pixels): Encoded | Pixels {
  return picture.kind === "encoded" ? { kind: "encoded", bytes: picture.bytes.slice() } : picture;
}

function balanceOf({ label: labels }: Seen, classes: readonly string[] | undefined): ClassBalance {
  const pictures = new Map<number, number>();
  for (const label of labels) pictures.set(label, (pictures.get(label) ?? 0) + 1);
  const sizes = [...pictures].sort(([a, m], [b, n]) => m - n || a - b);
  const size = (entry: readonly [number, number] | undefined): ClassSize | null =>
    entry === undefined ? null : { label: entry[0], name: classes?.[entry[0]] ?? null, pictures: entry[1] };
  return {
    known: classes?.length ?? null,
    seen: pictures.size,
    smallest: size(sizes[0]),
    largest: size(sizes.at(-1)),
  };
}
