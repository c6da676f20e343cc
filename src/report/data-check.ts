/**
 * What a report says of the data beside the network: pictures that come more than once, above all in what was trained on and in
 * what is scored, and pictures on which there is little to see.
 */

import { hash } from "node:crypto";

import { closing } from "../core/closing.js";
import { RiffleError } from "../core/error.js";
import type { Dataset } from "../data/dataset.js";
import type { ScoredSet } from "../inference/evaluate.js";
import { contentOf } from "../prepare/copies.js";
import { type Found, type Gists, gistsOf, lookalikes } from "../prepare/near-copies.js";
import type { ModelDescription } from "../run/checkpoint-state.js";
import { thumbnails } from "./thumbnails.js";

export interface DataCheck {
  /** Pictures compared: of those scored, and of those trained on; null where these are not at hand. */
  readonly scored: number;
  readonly trained: number | null;
  /** What kept those from being read, where something did. */
  readonly problem: string | undefined;
  /** Scored pictures that look like one that was trained on. */
  readonly leaked: ReadonlySet<number>;
  /** Groups of pictures that look alike, those first that are in both parts, then those with several labels. */
  readonly groups: readonly CopyGroup[];
  /** Of all groups, listed or not. */
  readonly counts: { readonly groups: number; readonly exact: number; readonly contradicting: number };
  readonly odd: readonly OddPictures[];
}

export interface CopyGroup {
  /** The same bytes, all of them. */
  readonly isExact: boolean;
  /** Pictures that were trained on are among them, and pictures that were scored. */
  readonly isLeak: boolean;
  /** They are of more than one class. */
  readonly isContradiction: boolean;
  /** At most {@link MOST_SHOWN}. */
  readonly pictures: readonly CheckedPicture[];
  readonly count: number;
}

export interface CheckedPicture {
  readonly part: "scored" | "trained on";
  readonly name: string;
  readonly className: string;
  /** A data URI, where it can be shown. */
  readonly thumbnail: string | undefined;
}

/** Pictures that are odd in one way. */
export interface OddPictures {
  readonly what: "dark" | "empty" | "small";
  readonly count: number;
  /** The first of them, with their sizes in pixels. */
  readonly pictures: readonly (Omit<CheckedPicture, "thumbnail"> & {
    readonly width: number;
    readonly height: number;
  })[];
}

/** Pictures compared at most: of more, every pair would take longer than training does. */
export const MOST_COMPARED = 20_000;
export const GROUPS_LISTED = 12;
export const MOST_SHOWN = 4;
export const ODD_LISTED = 12;

interface CheckOptions {
  readonly signal?: AbortSignal | undefined;
  /** Hears of pictures done. */
  readonly progress?: (done: number, total: number) => void;
}

type Part = { readonly name: CheckedPicture["part"]; readonly set: Dataset; readonly gists: Gists };

/** @returns why nothing was compared, where there are too many pictures */
export function checkData(
  { start, set, training }: Pick<ScoredSet, "start" | "set" | "training">,
  { signal, progress }: CheckOptions,
): Promise<DataCheck | string> {
  return closing(async (atEnd) => {
    let problem: string | undefined;
    let trainedOn: Dataset | undefined;
    try {
      trainedOn = await training(atEnd);
    } catch (error) {
      if (!(error instanceof RiffleError)) throw error;
      problem = `what was trained on is not compared with what is scored: ${error.message}`;
    }
    const sets = [set, ...(trainedOn === undefined ? [] : [trainedOn])];
    const total = sets.reduce((sum, { size }) => sum + size, 0);
    if (total > MOST_COMPARED) {
      return `with ${total.toLocaleString("en-US")} pictures there are more than ${MOST_COMPARED.toLocaleString("en-US")}`;
    }
    const parts: Part[] = [];
    let done = 0;
    for (const [i, each] of sets.entries()) {
      const before = done;
      const gists = await gistsOf(each, { signal, progress: (own) => progress?.(before + own, total) });
      parts.push({ name: i === 0 ? "scored" : "trained on", set: each, gists });
      done += each.size;
    }
    const found = await lookalikes(
      parts.map(({ gists }) => gists),
      signal,
    );
    const [scored, trained] = parts;
    const isLeak = (group: readonly Found[]): boolean => new Set(group.map((each) => each.set)).size > 1;
    const leaked = new Set(
      found
        .filter(isLeak)
        .flatMap((group) => group.filter((each) => each.set === 0).map(({ picture }) => picture)),
    );
    const groups: Listed[] = [];
    for (const group of found) groups.push(await groupOf(group, parts));
    const order = ({ isLeak, isContradiction }: CopyGroup): number =>
      2 * Number(isLeak) + Number(isContradiction);
    const listed = groups.toSorted((a, b) => order(b) - order(a)).slice(0, GROUPS_LISTED);
    return {
      scored: scored?.gists.count ?? 0,
      trained: trained?.gists.count ?? null,
      problem,
      leaked: new Set([...leaked].map((picture) => scored?.gists.samples[picture] as number)),
      groups: await withThumbnails(listed, parts, start.model, signal),
      counts: {
        groups: groups.length,
        exact: groups.filter(({ isExact }) => isExact).length,
        contradicting: groups.filter(({ isContradiction }) => isContradiction).length,
      },
      odd: oddPictures(parts, start.model.image_size),
    };
  });
}

/** A group with what is shown of it, as yet without thumbnails. */
interface Listed extends CopyGroup {
  readonly shown: readonly Found[];
}

async function groupOf(group: readonly Found[], parts: readonly Part[]): Promise<Listed> {
  const contents = new Set<string>();
  for (const found of group) contents.add(await contentHash(found, parts));
  const firsts = parts.flatMap((_, set) => group.find((found) => found.set === set) ?? []);
  const shown = [...firsts, ...group.filter((found) => !firsts.includes(found))].slice(0, MOST_SHOWN);
  const classes = group.map((found) => {
    const { set } = parts[found.set] as Part;
    return set.classes[set.label(sampleOf(found, parts))];
  });
  return {
    isExact: contents.size === 1,
    isLeak: new Set(group.map(({ set }) => set)).size > 1,
    isContradiction: new Set(classes).size > 1,
    pictures: [],
    count: group.length,
    shown,
  };
}

/** One that can no longer be read is like no other. */
async function contentHash(found: Found, parts: readonly Part[]): Promise<string> {
  const { set } = parts[found.set] as Part;
  const sample = sampleOf(found, parts);
  try {
    return hash("sha256", contentOf(await set.read(sample)));
  } catch (error) {
    if (error instanceof RiffleError) return `${found.set} ${sample}`;
    throw error;
  }
}

async function withThumbnails(
  groups: readonly Listed[],
  parts: readonly Part[],
  model: ModelDescription,
  signal: AbortSignal | undefined,
): Promise<CopyGroup[]> {
  const uris = await Promise.all(
    parts.map(({ set }, i) => {
      const samples = groups.flatMap(({ shown }) => shown.filter((found) => found.set === i));
      return thumbnails(
        set,
        model,
        samples.map((found) => sampleOf(found, parts)),
        signal,
      );
    }),
  );
  return groups.map(({ shown, ...group }) => ({
    ...group,
    pictures: shown.map((found) => ({
      ...checked(found, parts),
      thumbnail: uris[found.set]?.get(sampleOf(found, parts)),
    })),
  }));
}

function checked(found: Found, parts: readonly Part[]): Omit<CheckedPicture, "thumbnail"> {
  const { name: part, set } = parts[found.set] as Part;
  const sample = sampleOf(found, parts);
  const label = set.label(sample);
  return { part, name: set.name(sample), className: set.classes[label] ?? `label ${label}` };
}

function sampleOf({ set, picture }: Found, parts: readonly Part[]): number {
  return parts[set]?.gists.samples[picture] as number;
}

/** Small is what has to be made twice as large for the network, or more. */
function oddPictures(parts: readonly Part[], imageSize: number): OddPictures[] {
  const kinds: Readonly<Record<OddPictures["what"], (gists: Gists, picture: number) => boolean>> = {
    dark: (gists, picture) => gists.isDark(picture),
    empty: (gists, picture) => gists.isFlat(picture) && !gists.isDark(picture),
    small: ({ widths, heights }, picture) =>
      2 * Math.min(widths[picture] as number, heights[picture] as number) <= imageSize,
  };
  return Object.entries(kinds).flatMap(([what, is]) => {
    const found = parts.flatMap(({ gists }, set) =>
      gists.samples.flatMap((_, picture) => (is(gists, picture) ? [{ set, picture }] : [])),
    );
    if (found.length === 0) return [];
    const pictures = found.slice(0, ODD_LISTED).map((each) => {
      const { widths, heights } = parts[each.set]?.gists as Gists;
      return {
        ...checked(each, parts),
        width: widths[each.picture] as number,
        height: heights[each.picture] as number,
      };
    });
    return [{ what: what as OddPictures["what"], count: found.length, pictures }];
  });
}
