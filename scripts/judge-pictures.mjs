/**
 * Holds every path that decodes pictures against Pillow's pixels, on about 2,700 small files of every kind:
 *
 *     python test/golden/make_many_pictures.py FOLDER && node scripts/judge-pictures.mjs FOLDER
 *
 * Of each picture: the loader's decoder, and sharp in its place; verify-data's verdict; what both caches hold of it; what
 * create-tfrecords writes of it. All pixels are compared, at full size. A picture that Pillow reads and a path refuses, or
 * reads otherwise, counts as a difference, except of the kinds in {@link KNOWN}. What nobody reads must be refused with a
 * DataError.
 *
 * Ends with a table by path, the differences by kind, and exit status 1 where there are any.
 */
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { DataError } from "../dist/src/core/error.js";
import { decodedCache, resizedCache } from "../dist/src/data/cache.js";
import { openImageFolder } from "../dist/src/data/image-folder.js";
import { decodingProblem } from "../dist/src/data/pictures/decoding-problem.js";
import { imageInfo } from "../dist/src/data/pictures/image-info.js";
import { renderInto } from "../dist/src/data/pictures/render.js";
import { decodeExample } from "../dist/src/formats/tf-example.js";
import { buildRecord } from "../dist/src/prepare/records/build-record.js";

const folder = process.argv[2];
if (folder === undefined) throw new Error("usage: node scripts/judge-pictures.mjs FOLDER");
const { by, pictures } = JSON.parse(readFileSync(join(folder, "values.json"), "utf8"));
const scratch = mkdtempSync(join(tmpdir(), "riffle-judge-"));
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));

/** Larger than every picture, so that the caches keep their size. */
const SIDE = 256;
/** In records these are left out, or written again as colour of quality 75, as the original does. */
const IN_RECORDS = { cmyk: "skipped", grayscale: "other pixels" };
/** What is read otherwise or refused on purpose, by kind: where, and why. */
const KNOWN = [
  {
    kind: /never refined|DC alone/,
    what: "other pixels",
    why: "libjpeg-turbo before 3.0.1 smooths the edges of a picture that never arrived whole otherwise",
  },
  {
    kind: /^odd JPEG: progressive, .* before the end$/,
    what: /^refused, .*extraneous bytes/,
    why: "sharp takes bytes behind a scan's data for damage",
  },
];

const paths = new Map();
const differences = new Map();

const { train: dataset } = openImageFolder(folder);
const caches = {
  decoded: await decodedCache(dataset, { shorterSide: SIDE, memory: 2 ** 31 }),
  resized: await resizedCache(dataset, join(scratch, "cache"), { shorterSide: SIDE }),
};

for (const [sample, row] of pictures.entries()) {
  const bytes = readFileSync(dataset.name(sample));
  const encoded = { kind: "encoded", bytes };
  await judge("loader", row, () => pixelsOf(encoded));
  await judge("loader, by sharp", row, () => pixelsOf(encoded, "sharp"));
  await judge("verify-data", row, () => verdict(encoded, row));
  for (const [kind, cache] of Object.entries(caches)) {
    await judge(`${kind} cache`, row, async () => pixelsOf(await cache.read(sample)));
  }
  if (row.file.endsWith(".jpg")) await judge("create-tfrecords", row, () => throughRecord(bytes, row));
}
for (const cache of Object.values(caches)) await cache.close?.();

console.log(
  `${pictures.length} pictures; ${Object.entries(by)
    .map((entry) => entry.join(" "))
    .join(", ")}`,
);
for (const [path, counts] of paths) console.log(path.padEnd(18), JSON.stringify(counts));
for (const [what, files] of [...differences].sort((a, b) => b[1].length - a[1].length)) {
  console.log(`${String(files.length).padStart(5)}  ${what}: ${files.slice(0, 3).join("; ")}`);
}
process.exitCode = differences.size > 0 ? 1 : 0;

/** Counts what `pixels` gives, a hash or nothing to compare, against what Pillow has. */
async function judge(path, row, pixels) {
  const counts = paths.get(path) ?? { equal: 0, "refused by both": 0, "damaged, refused": 0, different: 0 };
  paths.set(path, counts);
  const count = (what) => (counts[what] = (counts[what] ?? 0) + 1);
  let found;
  try {
    found = await pixels();
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    found = { refused: error.problem.what };
  }
  const read = found.refused === undefined;
  const differ = (what) => {
    const known = KNOWN.find(({ kind, what: how }) => kind.test(row.kind) && what.match(how));
    if (known !== undefined) return count(known.why);
    count("different");
    const key = `${path}: ${what}`;
    differences.set(key, [...(differences.get(key) ?? []), `${row.file} ${row.kind}`]);
  };
  if (!read && row.refused !== undefined) count("refused by both");
  else if (!read && row.damaged !== undefined) count("damaged, refused");
  else if (!read) differ(`refused, ${found.refused.replaceAll(/\d+/g, "N").slice(0, 120)}`);
  else if (found.as !== undefined) count(found.as);
  else if (row.damaged === true) differ("damage that is not seen");
  else if (row.refused !== undefined) count("read, refused by Pillow");
  else if (found.sha256 === undefined || found.sha256 === row.sha256) count("equal");
  else differ("other pixels");
}

async function verdict(source, { file }) {
  const problem = await decodingProblem(source, file);
  if (problem !== undefined) throw DataError.at(file, problem);
  return {};
}

async function throughRecord(bytes, { file, size }) {
  const { cmyk, grayscale } = imageInfo(bytes, file);
  const built = await buildRecord(
    bytes,
    { path: file, label: 0, boxes: undefined },
    { formats: "jpeg", verify: true },
  );
  if ("skip" in built) {
    if (cmyk && /CMYK/.test(built.skip)) return { as: IN_RECORDS.cmyk };
    throw DataError.at(file, built.skip);
  }
  const [image] = decodeExample(Buffer.concat(built.example)).get("image").values;
  if (!grayscale) {
    if (!bytes.equals(image)) return { sha256: "its bytes were changed" };
    return pixelsOf({ kind: "encoded", bytes: image });
  }
  const { width, height, grayscale: still } = imageInfo(image, file);
  if (still || (size !== undefined && (width !== size[0] || height !== size[1])))
    return { sha256: "another picture" };
  return { as: IN_RECORDS.grayscale };
}

/** All pixels at full size, as squares beside each other, the way a batch takes them. */
async function pixelsOf(source, decoder) {
  const { width, height } = source.kind === "pixels" ? source : imageInfo(source.bytes, "");
  const edge = Math.min(width, height);
  const all = Buffer.alloc(width * height * 3);
  const square = new Uint8Array(edge * edge * 3);
  for (let at = 0; at < Math.max(width, height); at += edge) {
    const box = { x: Math.min(at, width - edge), y: Math.min(at, height - edge), width: edge, height: edge };
    const transform = {
      ...{ box, resized: { width: edge, height: edge }, window: { x: 0, y: 0 }, size: edge },
      ...{ filter: "pillow", flip: false, shift: [0, 0, 0], grayscale: false },
      decoding: { fastDct: false, scaled: false },
    };
    await renderInto(source, "", () => transform, square, 0, decoder);
    for (let y = 0; y < edge; y++) {
      all.set(square.subarray(y * edge * 3, (y + 1) * edge * 3), ((box.y + y) * width + box.x) * 3);
    }
  }
  return { sha256: createHash("sha256").update(all).digest("hex") };
}
