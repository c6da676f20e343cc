/**
 * The file of labels, such as `integer_encoding.json`: the label of each class by its WordNet id or name.
 *
 * A label is what a record holds and what the network's logits are numbered by, so what training would refuse after
 * hours of writing is refused here. Labels may leave numbers out: a set need not have every class.
 */

import { DataError, type Problem } from "../../core/error.js";
import { MAX_CLASSES } from "../../data/records/record-classes.js";
import { unreadable } from "../../data/unreadable.js";
import { plainText } from "../../formats/plain-text.js";
import { readWhole } from "../../formats/read-file.js";

/** What manifest.json takes for a name, in characters. */
const MAX_NAME = 1024;
/** 21,841 classes of all of ImageNet take 400 KB. */
const MAX_BYTES = 64 * 2 ** 20;

/**
 * Label by class.
 *
 * @throws DataError naming the class whose label is none, is another's too, or which is named twice.
 */
export async function readLabels(path: string): Promise<Map<string, number>> {
  const labels = new Map<string, number>();
  const owners = new Map<number, string>();
  for (const [name, label] of await entriesOf(path)) {
    if (name.length === 0 || name.length > MAX_NAME) {
      throw refuse(path, `a name of ${name.length} characters`, {
        expected: `1 to ${MAX_NAME}`,
        found: JSON.stringify(name.slice(0, 40)),
      });
    }
    if (typeof label !== "number" || !Number.isInteger(label) || label < 0 || label >= MAX_CLASSES) {
      throw refuse(path, `the label of ${JSON.stringify(name)} is no class`, {
        expected: `0 .. ${MAX_CLASSES - 1}`,
        // What is nested may be so deeply that it cannot be written.
        found: typeof label === "object" ? "no number" : JSON.stringify(label).slice(0, 40),
      });
    }
    const owner = owners.get(label);
    if (owner !== undefined) {
      throw refuse(path, `the label of ${JSON.stringify(name)} is another's, too`, {
        expected: "a label of its own for each class",
        found: `${label}, the label of ${JSON.stringify(owner)}`,
      });
    }
    owners.set(label, name);
    labels.set(name, label);
  }
  if (labels.size === 0) throw refuse(path, "holds no labels");
  return labels;
}

/** Keys and values of the outermost object, which names no key twice. */
async function entriesOf(path: string): Promise<[string, unknown][]> {
  let text: string;
  let json: unknown;
  try {
    const bytes = await readWhole(path, MAX_BYTES);
    const found = plainText(bytes);
    if (found === undefined) throw refuse(path, "holds bytes that are no UTF-8 text", EXAMPLE);
    text = found;
    json = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) {
      throw refuse(path, `cannot be read: ${error.message}`, EXAMPLE, error);
    }
    throw unreadable(path, error);
  }
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw refuse(path, "holds no labels by class", EXAMPLE);
  }
  const twice = repeatedKey(text);
  if (twice !== undefined) {
    throw refuse(path, `names ${JSON.stringify(twice)} twice`, {
      expected: "each class once",
      found: "two labels, of which JSON keeps the last",
    });
  }
  return Object.entries(json);
}

/** JSON.parse keeps the last of two silently. The text is JSON, so a string before a colon is a key. */
function repeatedKey(text: string): string | undefined {
  const seen = new Set<string>();
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const character = text[at] as string;
    if ("{[".includes(character)) depth++;
    else if ("}]".includes(character)) depth--;
    else if (character === '"') {
      const start = at;
      for (at++; text[at] !== '"'; at++) if (text[at] === "\\") at++;
      COLON.lastIndex = at + 1;
      if (depth > 1 || !COLON.test(text)) continue;
      const key = JSON.parse(text.slice(start, at + 1)) as string;
      if (seen.has(key)) return key;
      seen.add(key);
    }
  }
  return undefined;
}

const COLON = /\s*:/y;

const EXAMPLE = { expected: '{"n01440764": 0, ...}' };

function refuse(
  where: string,
  what: string,
  numbers: Pick<Problem, "expected" | "found"> = EXAMPLE,
  cause?: unknown,
): DataError {
  return new DataError({ where, what, ...numbers, safe: "Nothing was written" }, cause);
}
