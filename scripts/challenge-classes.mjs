/**
 * Writes src/prepare/imagenet/challenge-classes.ts from the devkit's meta.mat; needs `npm run build`.
 *
 *     node scripts/challenge-classes.mjs DEVKIT > src/prepare/imagenet/challenge-classes.ts
 */
import { readDevkit } from "../dist/src/prepare/imagenet/devkit.js";

const { classes } = await readDevkit(process.argv[2] ?? "");
const entries = classes.map(({ wordnetId, words }) => `${wordnetId} ${words}`).sort();
if (entries.some((entry) => /[|`$\\\n]/.test(entry))) throw new Error("words that the table cannot hold");

const lines = [];
let line = "";
for (const entry of entries) {
  if (line !== "" && `${line} | ${entry}`.length > 130) {
    lines.push(`${line} |`);
    line = entry;
  } else line = line === "" ? entry : `${line} | ${entry}`;
}
lines.push(line);

process.stdout.write(`/**
 * The 1,000 classes of ImageNet's challenge as networks trained on it number them, by rank among the sorted WordNet ids, and
 * the words of each, by which people know it.
 *
 * torchvision's and megvii's published weights, and folders of training pictures read in order of name, agree on the order.
 * The devkit numbers the same classes otherwise (devkit.ts). Written by scripts/challenge-classes.mjs; not to be edited.
 *
 * Source: ILSVRC2012_devkit_t12, data/meta.mat, the synsets without children: WNID and words. The words are WordNet 3.0's,
 * Copyright 2006 by Princeton University, all rights reserved; its licence lets anybody use, copy, modify and distribute
 * them for any purpose without fee, as long as this notice stays. They come without warranty of any kind.
 */

/** "n01440764 tench, Tinca tinca": synonyms apart by commas, classes by bars. */
const table = \`
${lines.map((text) => `  ${text}\n`).join("")}\`;

const rows = table.split("|").map((row) => row.trim().replace(/\\s+/g, " "));

/** Class i is the WordNet id at place i. */
export const challengeClasses: readonly string[] = rows.map((row) => row.slice(0, row.indexOf(" ")));

const wordsById: ReadonlyMap<string, string> = new Map(
  rows.map((row) => [row.slice(0, row.indexOf(" ")), row.slice(row.indexOf(" ") + 1)]),
);

/** How many classes begin with each word: "crane" is a bird and a machine. */
const firstWords = new Map<string, number>();
for (const words of wordsById.values()) firstWords.set(first(words), (firstWords.get(first(words)) ?? 0) + 1);

/** All words of a class that is named by one of these WordNet ids: "tench, Tinca tinca"; undefined for other names. */
export function wordsOf(className: string): string | undefined {
  return wordsById.get(className);
}

/** A class's name for people: the first word of a WordNet id, or as much as tells it from the others; any other as it is. */
export function shownClass(className: string): string {
  const words = wordsById.get(className);
  if (words === undefined) return className;
  if (firstWords.get(first(words)) === 1) return first(words);
  const isUnique = [...wordsById.values()].filter((other) => other === words).length === 1;
  return isUnique ? words : \`\${words} (\${className})\`;
}

function first(words: string): string {
  return words.split(", ", 1)[0] as string;
}
`);
