/**
 * Which part of a data set a name means: the one policy for folders, for shards and for arrays.
 *
 * What is scored must be what was held out, so a word that other tools use for a part is never taken for anything else
 * where it can stand for one. Case does not matter.
 *
 * Sources: torchvision's and timm's folders, the shards of slim (`flowers_train_00000-of-00005.tfrecord`) and of
 * TensorFlow Datasets (`mnist-test.tfrecord-00000-of-00001`), the arrays of MedMNIST and Keras.
 */

/** Validation decides which weights are best; test is scored when it is asked for, or where there is no validation. */
export const splits = ["train", "validation", "test"] as const;
export type Split = (typeof splits)[number];

/** The first that is there is the one that is used. */
const words: { readonly [S in Split]: readonly string[] } = {
  train: ["train", "training"],
  validation: ["val", "validation", "valid", "dev"],
  test: ["test", "testing", "eval"],
};

/** The part that a folder is by its name: `val`, `Training`, `train_shards`, `test_set`. */
export function splitOfFolder(name: string): Split | undefined {
  const [, word = "", suffix] =
    /^([a-z]+)([-_]?(?:shards|records|tfrecords?|set|data|images))?$/i.exec(name) ?? [];
  // The original's own name for what it validates on.
  if (/shards$/i.test(suffix ?? "") && word.toLowerCase() === "eval") return "validation";
  return splitOfWord(word);
}

/** The part that a shard belongs to by its name: the last word that is one, for a set may be called `test-pictures`. */
export function splitOfShard(name: string): Split | undefined {
  const found = name.toLowerCase().match(/[a-z]+/g) ?? [];
  return found.reduce<Split | undefined>((split, word) => splitOfWord(word) ?? split, undefined);
}

/** The part that arrays are by the name of the one that holds the pictures: `train_images`, `x_test`; "all" for `images`. */
export function splitOfImages(name: string): Split | "all" | undefined {
  if (/^(images|x)$/i.test(name)) return "all";
  const [, before, after] = /^([a-z]+)_images$|^x_([a-z]+)$/i.exec(name) ?? [];
  return splitOfWord(before ?? after ?? "");
}

/** Names for one part, the one to be used first. */
export function preferred(names: readonly string[]): string[] {
  const rank = (name: string): number => {
    const word = /^[a-z]+/i.exec(name)?.[0].toLowerCase() ?? "";
    const at = Math.max(...splits.map((split) => words[split].indexOf(word)));
    return word === "eval" ? words.validation.length : at;
  };
  return [...names].sort((a, b) => rank(a) - rank(b));
}

function splitOfWord(word: string): Split | undefined {
  return splits.find((split) => words[split].includes(word.toLowerCase()));
}
