/** What the report says of the data, as a section of its page and of its model card. */

import {
  type CheckedPicture,
  type CopyGroup,
  type DataCheck,
  GROUPS_LISTED,
  MOST_SHOWN,
  ODD_LISTED,
  type OddPictures,
} from "./data-check.js";
import { className, type Evaluated, type ShownPicture } from "./content.js";
import { SURE } from "./examination.js";
import { many, percent, whole } from "./figures.js";
import { fileLabel, html } from "./markup.js";

/** Rows of labels that the network contradicts. */
const LABELS_LISTED = 12;

/** Sentences for page and card: what was found, plainly, and what was not looked for. */
export function dataSentences({ data, examination, scores, start }: Evaluated): string[] {
  const { sure, sureWrong } = examination;
  const trained =
    start.part === "train"
      ? ""
      : " Labels of pictures that were trained on are not looked at: the network has learnt them, right or wrong.";
  const contradicted = sureSentence(sure, sureWrong) + trained;
  if (typeof data === "string") return [`Copies were not looked for: ${data}.`, contradicted];
  return [
    ...copySentences(data, examination.wrongSamples, scores),
    ...data.odd.map(oddSentence),
    contradicted,
  ];
}

/** @param wrong of the `sure` pictures, those that are labelled otherwise */
function sureSentence(sure: number, wrong: number): string {
  const bound = `with at least ${percent(SURE, 0)}`;
  if (sure === 0) return `The network named no picture ${bound}.`;
  const of = sure === 1 ? "The one picture" : `Of ${many(sure, "picture")}`;
  const how = wrong === 0 ? "" : ": wrong labels, or its gravest mistakes";
  const count =
    sure === 1
      ? wrong === 0
        ? "is not"
        : "is"
      : `${wrong === 0 ? "none" : whole(wrong)} ${wrong > 1 ? "are" : "is"}`;
  return `${of} that the network named ${bound}${sure === 1 ? "" : ","} ${count} labelled otherwise${how}.`;
}

function copySentences(
  { scored, trained, problem, leaked, counts }: DataCheck,
  wrong: ReadonlySet<number>,
  { images }: Evaluated["scores"],
): string[] {
  const together = scored === 1 ? "" : " with each other";
  const compared =
    trained === null
      ? `${many(scored, "scored picture")} compared${together}${problem === undefined ? "" : ", but not with those that were trained on, which could not be read"}.`
      : `${many(scored, "scored picture")} compared${together}${together === "" ? "" : " and"} with ${many(trained, "picture")} that ${trained === 1 ? "was" : "were"} trained on.`;
  const groups =
    counts.groups === 0
      ? "No two look alike."
      : `${many(counts.groups, "group")} of pictures that look alike, ${whole(counts.exact)} of them of exact copies${counts.contradicting === 0 ? "" : `; in ${whole(counts.contradicting)} the labels contradict each other`}.`;
  const rest = images - leaked.size;
  const right = rest - [...wrong].filter((sample) => !leaked.has(sample)).length;
  const leak =
    leaked.size === 0
      ? []
      : [
          `${many(leaked.size, "scored picture")} ${leaked.size === 1 ? "looks" : "look"} like one that was trained on, so ${leaked.size === 1 ? "it says" : "they say"} little of new pictures` +
            (rest === 0 ? "." : `; top-1 of the other ${whole(rest)} is ${percent(right / rest)}.`),
        ];
  return [compared, groups, ...leak];
}

function oddSentence({ what, count }: OddPictures): string {
  const words = {
    dark: "nearly black",
    empty: "nearly of one colour",
    small: "small: made at least twice as large for the network",
  }[what];
  return `${many(count, "picture")} ${count === 1 ? "is" : "are"} ${words}.`;
}

/** "The data": the sentences, the groups with their pictures, the labels that are contradicted, the odd ones by name. */
export function dataSection(evaluated: Evaluated): string[] {
  const { data } = evaluated;
  const found = typeof data === "string" ? undefined : data;
  return [
    `<h2>Duplicates and suspects</h2><ul>${dataSentences(evaluated)
      .map((sentence) => `<li>${html(sentence)}</li>`)
      .join("")}</ul>`,
    ...(found === undefined || found.groups.length === 0 ? [] : [copyTable(found)]),
    ...labelTable(evaluated),
    ...(found === undefined || found.odd.length === 0 ? [] : [oddTable(found.odd)]),
  ];
}

function copyTable({ groups, counts }: DataCheck): string {
  const listed =
    counts.groups > groups.length ? ` The first ${GROUPS_LISTED} of ${whole(counts.groups)}.` : "";
  return `<h3>Pictures that look alike</h3><p class="soft">Found by comparing small gray versions: saved again, resized, lighter or darker. Parts cut out of a picture and mirror images are not found.${listed}</p>
<div class="groups">${groups.map(copyFigure).join("\n")}</div>`;
}

function copyFigure({ isExact, isLeak, isContradiction, pictures, count }: CopyGroup): string {
  const marks = [
    isExact ? "exact copies" : "near copies",
    ...(isLeak ? ["trained on and scored"] : []),
    ...(isContradiction ? ["different labels"] : []),
    ...(count > MOST_SHOWN ? [`${whole(count)} pictures`] : []),
  ];
  const isGrave = isLeak || isContradiction;
  return `<figure><p class="${isGrave ? "wrong" : "soft"}">${html(marks.join(", "))}</p><div class="row">${pictures.map(copyPicture).join("")}</div></figure>`;
}

function copyPicture({ part, name, className, thumbnail }: CheckedPicture): string {
  const image =
    thumbnail === undefined
      ? "not shown"
      : `<img src="${thumbnail}" alt="${html(className)}" loading="lazy" />`;
  return `<figure><div class="frame">${image}</div><figcaption>${html(className)}<small>${part}</small><small>${fileLabel(name)}</small></figcaption></figure>`;
}

function labelTable({ mistakes, examination, start: { model } }: Evaluated): string[] {
  const contradicted = mistakes.filter(({ confidence }) => confidence >= SURE).slice(0, LABELS_LISTED);
  if (contradicted.length === 0) return [];
  const row = ({ name, actual, named, confidence }: ShownPicture): string =>
    `<tr><td class="name">${fileLabel(name)}</td>${wordCell("labelled", html(className(model, actual)))}${wordCell("named", html(className(model, named)))}<td data-label="probability">${percent(confidence)}</td></tr>`;
  const listed =
    examination.sureWrong > contradicted.length
      ? `<p class="soft">The first ${contradicted.length} of ${whole(examination.sureWrong)}.</p>`
      : "";
  return [
    `<h3>Labels that the network contradicts</h3>${listed}<div class="wide"><table class="cards"><thead><tr><th class="name">picture</th><th class="word">labelled</th><th class="word">named</th><th>probability</th></tr></thead><tbody>${contradicted.map(row).join("\n")}</tbody></table></div>`,
  ];
}

function oddTable(odd: readonly OddPictures[]): string {
  const rows = odd.flatMap(({ what, pictures }) =>
    pictures.map(
      ({ name, part, className, width, height }) =>
        `<tr><td class="name">${fileLabel(name)}</td>${wordCell("why", what)}${wordCell("class", html(className))}${wordCell("part", part)}<td data-label="pixels">${width} x ${height}</td></tr>`,
    ),
  );
  const isCut = odd.some(({ count }) => count > ODD_LISTED);
  return `<h3>Pictures with little to see</h3>${isCut ? `<p class="soft">The first ${ODD_LISTED} of a kind.</p>` : ""}<div class="wide"><table class="cards"><thead><tr><th class="name">picture</th><th class="word">why</th><th class="word">class</th><th class="word">part</th><th>pixels</th></tr></thead><tbody>${rows.join("\n")}</tbody></table></div>`;
}

/** On a narrow screen, where a row is a card, the label stands before the words. */
function wordCell(label: string, words: string): string {
  return `<td class="word" data-label="${label}"><span>${words}</span></td>`;
}
