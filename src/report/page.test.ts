import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { suite, test } from "node:test";

import { SaxesParser } from "saxes";

import { printable } from "../core/printable.js";
import { EXPLAINED_LAYERS } from "../inference/explain.js";
import { type ReportContent, unscoredWords } from "./content.js";
import type { CheckedPicture } from "./data-check.js";
import { Examination } from "./examination.js";
import type { PictureLook } from "./looks.js";
import { modelCard } from "./model-card.js";
import { MOST_IN_MATRIX, reportPage } from "./page.js";

/** What a class, a file or a folder may be called. */
const hostile = [
  `"><script>alert(1)</script>`,
  `</style></title><img src=x onerror=alert(1)>`,
  `' onmouseover='alert(1)`,
  "a | b `code` [link](javascript:alert(1)) **bold** https://evil.example www.evil.example",
  "line\nbreak\u0007\u202e",
  "&lt;already&amp;escaped&#39;",
];

const JPEG = "data:image/jpeg;base64,AAAA";
const WEBP = "data:image/webp;base64,AAAA";

function lookAt(outputs: readonly number[]): PictureLook {
  const maps = EXPLAINED_LAYERS.map((layer, i) => ({ layer, places: 7, uri: i === 0 ? null : WEBP }));
  return { seen: JPEG, classes: outputs.map((output) => ({ output, maps })) };
}

function checked(part: CheckedPicture["part"]): CheckedPicture {
  const [evil = "", other = ""] = hostile;
  return { part, name: `train/${other}/${evil}.jpg`, className: evil, thumbnail: undefined };
}

function content(names: readonly string[], classes = names.length): ReportContent {
  const examination = new Examination(classes);
  const logits = (named: number): Float32Array =>
    Float32Array.from({ length: classes }, (_, i) => (i === named ? 2 : 0));
  for (let i = 0; i < 2 * classes; i++)
    examination.add(i, i % classes, logits(i % 3 === 0 ? (i + 1) % classes : i % classes));
  const model = {
    ...({
      variant: "torchvision",
      width: 0.5,
      classes,
      image_size: 32,
      eval_resize: 36,
      pipeline: "torchvision",
    } as const),
    class_names: names,
  };
  const [evil = ""] = hostile;
  const shown = examination.mistakes.items.map((judged) => ({
    ...judged,
    name: `val/${hostile[1]}/${evil}.jpg`,
  }));
  return {
    folder: `/runs/${evil}`,
    written: new Date("2025-01-02T03:04:05Z"),
    version: "0.0.0",
    history: {
      start: {
        ...({
          event: "start",
          network: evil,
          classes,
          image_size: 32,
          parameters: 5,
          train_images: 8,
        } as const),
        ...{
          validation_images: 4,
          steps: 4,
          steps_per_epoch: 2,
          images_per_step: 4,
          epochs: 2,
          recipe: evil,
        },
        machine: { processor: evil, isa: evil, threads: 2 },
        ...{ ranks: null, resumed: null },
        settings: { data_dir: `/data/${evil}`, batch_size: 4, log_dir: "x" },
        origins: { data_dir: "given", batch_size: "default", log_dir: "given" },
      },
      steps: [1, 2].map((step) => ({ step, epoch: step / 2, loss: 1, top1: 0.5, rate: 0.1 })),
      evaluations: [1, 2].map((step) => ({ step, epoch: step / 2, loss: 1, top1: 0.5, best: true })),
      ...{ end: null, beginnings: 1, unread: 0 },
    },
    model,
    profile: {
      ...{ first_step: 1, last_step: 2, seconds: 0.5 },
      layers: [{ layer: evil, direction: "forward", seconds: 0.1, share: 0.2 }],
    },
    evaluated: {
      start: {
        ...({
          event: "start",
          checkpoint: "c",
          step: 4,
          data_dir: evil,
          images: 2 * classes,
          part: "held out",
        } as const),
        ...{ unused: [], records: null, model, origin: null },
      },
      scores: { images: 2 * classes, loss: 1, top1: 0.5, top5: 1 },
      examination,
      ...{ choseBest: true, bad: 0, mistakes: shown, unsure: shown.slice(0, 1) },
      thumbnails: new Map([[shown[0]?.sample ?? 0, JPEG]]),
      looks: new Map(shown.slice(0, 2).map(({ sample, named, actual }) => [sample, lookAt([named, actual])])),
      data: {
        ...{ scored: 2 * classes, trained: 5, problem: undefined, leaked: new Set([0]) },
        counts: { groups: 30, exact: 1, contradicting: 1 },
        groups: [
          {
            ...{ isExact: true, isLeak: true, isContradiction: true, count: 9 },
            pictures: [checked("scored"), { ...checked("trained on"), thumbnail: JPEG }],
          },
        ],
        odd: [{ what: "dark", count: 20, pictures: [{ ...checked("scored"), width: 9, height: 8 }] }],
      },
    },
    unscored: "",
    remarks: [evil],
  };
}

/** Its elements with their attributes, and its text; it is written as XML, so that a strict parser takes it apart. */
function parsed(page: string): {
  elements: string[];
  attributes: [name: string, value: string][];
  text: string;
} {
  const elements: string[] = [];
  const attributes: [string, string][] = [];
  let text = "";
  const parser = new SaxesParser();
  parser.on("opentag", ({ name, attributes: own }) => {
    elements.push(name);
    attributes.push(...Object.entries(own));
  });
  parser.on("text", (piece) => (text += piece));
  parser.on("error", (error) => {
    throw error;
  });
  parser.write(page).close();
  return { elements, attributes, text };
}

suite("the page of a report", () => {
  test("shows hostile names as they are, and makes no element or attribute of them", () => {
    const { elements, attributes, text } = parsed(reportPage(content(hostile)));
    assert.equal(elements.filter((name) => name === "script").length, 1);
    assert.deepEqual(
      new Set(attributes.map(([name]) => name).filter((name) => name.startsWith("on"))),
      new Set(),
    );
    const tame = parsed(reportPage(content(hostile.map((_, i) => `class ${i}`))));
    assert.deepEqual(elements, tame.elements);
    assert.deepEqual(
      attributes.map(([name]) => name),
      tame.attributes.map(([name]) => name),
    );
    for (const name of hostile) assert.ok(text.includes(printable(name)), name);
  });

  test("loads nothing: its pictures lie in it, and its policy allows no more", () => {
    const page = reportPage(content(hostile));
    const { elements, attributes } = parsed(page);
    const loading = ["src", "href", "srcset", "data", "action", "poster"];
    const loaded = attributes.filter(([name]) => loading.includes(name)).map(([, value]) => value);
    assert.deepEqual(
      loaded.filter((value) => !/^(data:image\/(jpeg|webp);base64,|#seen-\d+$)/.test(value)),
      ["profile/roofline.html"],
    );
    assert.ok(!elements.includes("link") && !elements.includes("iframe"));
    assert.doesNotMatch(page, /@import|url\(/);
    const [, script = ""] = /<script>([^]*?)<\/script>/.exec(page) ?? [];
    const sum = createHash("sha256").update(script).digest("base64");
    assert.match(page, /default-src 'none'/);
    assert.ok(page.includes(`script-src 'sha256-${sum}'`));
  });

  test("draws the matrix of few classes and lists the pairs of many", () => {
    const names = (count: number): string[] => Array.from({ length: count }, (_, i) => `c${i}`);
    const few = reportPage(content(names(MOST_IN_MATRIX)));
    assert.match(few, /<h2>Confusion matrix<\/h2>/);
    assert.equal([...few.matchAll(/<td class="(none|right|wrong)"/g)].length, MOST_IN_MATRIX ** 2);
    const many = reportPage(content(names(MOST_IN_MATRIX + 1)));
    assert.doesNotMatch(many, /Confusion matrix/);
    assert.match(many, /<td class="name">c0<\/td><td class="name">c1<\/td><td>2<\/td><td>100.0 %<\/td>/);
  });

  test("names pictures by the end of their paths, whose last letters are never cut off", () => {
    const { evaluated } = content(["a", "b"]);
    const name = "/far/away/val/bees/1519368889_4270261ee3.jpg";
    const [judged] = evaluated?.mistakes ?? [];
    assert.ok(evaluated && judged);
    const mistakes = [{ ...judged, name, confidence: 0.95 }];
    const page = reportPage({ ...content(["a", "b"]), evaluated: { ...evaluated, mistakes } });
    const label = `<span class="file" title="${name}"><span>bees/1519368889_42702</span><span>61ee3.jpg</span></span>`;
    assert.equal(page.split(label).length - 1, 2, "under the picture, and where its label is contradicted");
  });

  test("lists only those bins of confidence that hold pictures", () => {
    const [, rows = ""] =
      /<h2>Calibration[^]*?<tbody>([^]*?)<\/tbody>/.exec(reportPage(content(["a", "b"]))) ?? [];
    // e^2 / (e^2 + 1) of all.
    assert.match(
      rows,
      /^<tr><td>86\.7 % to 93\.3 %<\/td><td>4<\/td><td>88\.1 %<\/td><td>50\.0 %<\/td><\/tr>$/,
    );
  });

  test("says which pictures the scores are of, and that they chose the weights", () => {
    const made = content(["a", "b"]);
    assert.match(reportPage(made), /Of 4 pictures that were held out of training, after step 4\./);
    assert.match(reportPage(made), /best of 2 evaluations by these same pictures/);
    const { evaluated } = made;
    assert.ok(evaluated);
    const trained = { ...evaluated, start: { ...evaluated.start, part: "train" as const } };
    const page = reportPage({ ...made, evaluated: trained });
    assert.match(page, /4 pictures that the network was trained on, as --split train asked/);
    assert.match(page, /no measure of a network/);
    assert.doesNotMatch(page, /are not looked at/);
  });

  test("without scores says why, and has no section of them", () => {
    const page = reportPage({ ...content(["a", "b"]), evaluated: null, unscored: "nothing was <held> out" });
    assert.match(page, /No scores: nothing was &lt;held&gt; out\./);
    assert.doesNotMatch(page, /Confusion|Calibration|Worst/);
    assert.match(page, /<h2>Curves<\/h2>/);
  });
});

suite("the page and the card", () => {
  test("show for a mistake what speaks for the class named and for its own, with a word where nothing does", () => {
    const page = reportPage(content(["a", "b"]));
    const [, looks = ""] = /<div class="looks">([^]*?)<\/details>/.exec(page) ?? [];
    assert.match(looks, /^<div class="row names"><span>b<\/span><span>a<\/span>/);
    const titles = [...looks.matchAll(/<title>([^<]*)</g)].map(([, title]) => title);
    assert.deepEqual(
      titles,
      ["conv5", "stage4", "stage3", "stage2"].flatMap((layer) =>
        ["b", "a"].map((name) => `what speaks for ${name}, ${layer}, 7 x 7 places`),
      ),
    );
    assert.equal([...looks.matchAll(/nothing<\/text>/g)].length, 2);
    const bare = content(["a", "b"]);
    assert.ok(bare.evaluated);
    assert.doesNotMatch(
      reportPage({ ...bare, evaluated: { ...bare.evaluated, looks: new Map() } }),
      /Where the network looks/,
    );
  });

  test("name a class of which nothing was scored, and the class whose naming alone would score as well", () => {
    const made = content(["ants", "bees", "wasps"]);
    const { evaluated } = made;
    assert.ok(evaluated);
    const examination = new Examination(3);
    for (const [sample, output] of [1, 1, 2].entries())
      examination.add(sample, output, Float32Array.of(0, 2, 0));
    const without = { ...made, evaluated: { ...evaluated, examination } };
    for (const text of [reportPage(without), modelCard(without)]) {
      assert.match(
        text,
        /No picture of ants was held out, so nothing here says how well that class is recognised\./,
      );
      assert.match(text, /top-1 of naming bees, the most frequent class, every time/);
    }
    assert.match(modelCard(without), /^\| ants \| - \| - \| 0 \|$/m);
    assert.doesNotMatch(reportPage(made) + modelCard(made), /how well/);
    const many = Array.from({ length: 9 }, (_, output) => ({
      ...new Examination(9).confusion.scoresOf(output),
    }));
    const { start } = evaluated;
    const model = { ...start.model, class_names: [..."abcdefghi"] };
    const words = (scores: typeof many): string | undefined =>
      unscoredWords({ ...evaluated, start: { ...start, part: "test", model } }, scores);
    assert.match(
      words(many) ?? "",
      /^No picture of 9 of 9 classes is among these \(a, b, c, d, e and 4 more\), so/,
    );
    assert.match(words(many.slice(0, 2)) ?? "", /2 of 2 classes is among these \(a and b\), so/);
  });

  test("speak of one picture as of one, and of all mistakes where all are shown", () => {
    const made = content(["a", "b"]);
    const { evaluated } = made;
    assert.ok(evaluated);
    assert.match(reportPage(made), /All 2 pictures that were named wrong, those first of which/);
    const examination = new Examination(2);
    examination.add(0, 1, Float32Array.of(5, 0));
    const mistakes = evaluated.mistakes.slice(0, 1);
    const scores = { ...evaluated.scores, images: 1 };
    const one = reportPage({ ...made, evaluated: { ...evaluated, examination, scores, mistakes } });
    assert.match(one, /Of 1 picture that was held out of training,/);
    assert.match(one, /The only picture that was named wrong\./);
    assert.match(one, /The one picture that the network named with at least 90 % is labelled otherwise/);
    examination.add(1, 1, Float32Array.of(5, 0));
    assert.match(reportPage(made), /The network named no picture with at least 90 %\./);
    const two = reportPage({ ...made, evaluated: { ...evaluated, examination, mistakes } });
    assert.match(two, /Of 2 pictures named wrong the 1 of which/);
    assert.match(
      two,
      /Of 2 pictures that the network named with at least 90 %, 2 are labelled otherwise: wrong/,
    );
  });

  test("say of a classifier that was solved alone that no step was made", () => {
    const made = content(["a", "b"]);
    const { evaluated, history } = made;
    const { start } = history;
    assert.ok(evaluated && start);
    const solved = { pictures: 8, views: 4, features: 10 };
    const end = { event: "end", step: 0, epoch: 0, images_per_second: 0 } as const;
    const frozen = {
      ...made,
      history: { ...history, start: { ...start, solved, steps: 0, parameters: 5000 }, steps: [], end },
      evaluated: { ...evaluated, start: { ...evaluated.start, step: 0 } },
    };
    const card = modelCard(frozen);
    assert.match(
      card,
      /\| Training \| no steps: the classifier was solved on 8 pictures x 4 views, all other/,
    );
    assert.match(card, /\| Trained numbers \| 22 of 5,000: the classifier's \|/);
    assert.match(card, /\| Recipe \| .*: the classifier alone, seed /);
    assert.match(card, /held out of training, by the classifier that was solved\./);
    assert.doesNotMatch(card, /0 steps|step 0|a second/);
    assert.match(
      modelCard({ ...made, history: { ...history, start: { ...start, solved, epochs: 1 } } }),
      /1 epoch of 2 steps.*\n.*\| Training \| not at its end: 2 of 4 steps, from a classifier solved on 8 pictures x 4 views \|/,
    );
  });

  test("say what was found in the data, and what the score is without what was trained on as well", () => {
    const made = content(["a", "b"]);
    const said = [
      /4 scored pictures compared with each other and with 5 pictures that were trained on\./,
      /30 groups of pictures that look alike, 1 of them of exact copies; in 1 the labels contradict each other\./,
      // Of the 4, those of sample 0 and 3 are wrong, and 0 was trained on.
      /1 scored picture looks like one that was trained on, so it says little of new pictures; top-1 of the other 3 is 66\.7 %\./,
      /20 pictures are nearly black\./,
      /Labels of pictures that were trained on are not looked at/,
    ];
    for (const text of [reportPage(made), modelCard(made)])
      for (const words of said) assert.match(text, words);
    const { evaluated } = made;
    assert.ok(evaluated);
    const many = { ...made, evaluated: { ...evaluated, data: "with 9 pictures there are more than 8" } };
    assert.match(reportPage(many), /Copies were not looked for: with 9 pictures there are more than 8\./);
  });
});

suite("the model card", () => {
  test("is of as many lines, cells and marks with hostile names as with tame ones", () => {
    const marks = (card: string): string =>
      // What is escaped is text.
      card
        .replace(/\\[^\w\s]/g, "x")
        .replace(/[^\n|`*_[\]<>#~]/g, "")
        .replace(/\n#+/g, "\n#");
    // A command is a line of code, where nothing is a mark.
    const prose = (card: string): string => card.replace(/^npx .*$/gm, "");
    const names = (card: string): string => marks(prose(card));
    assert.equal(
      names(modelCard(content(hostile)))
        .split("\n")
        .map((line) => line.replace(/[#]/g, ""))
        .join("\n"),
      names(modelCard(content(hostile.map((_, i) => `class ${i}`))))
        .split("\n")
        .map((line) => line.replace(/[#]/g, ""))
        .join("\n"),
    );
  });

  test("holds no HTML and no address of a class's making", () => {
    const card = modelCard(content(hostile)).replace(/^npx .*$/gm, "");
    assert.doesNotMatch(card, /<[a-z/!]/i);
    assert.doesNotMatch(card, /https:\/\/|www\./);
  });
});
