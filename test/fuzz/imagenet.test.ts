/**
 * The readers of files that come from anywhere, on damaged ones: at least 20,000 mutations each of small valid files.
 *
 * Whatever stands in a file, a reader gives a value or throws a DataError: no other error, no change to Object's prototype
 * (frozen here, so that an attempt throws), no hang. MAT files are changed inside what they unpack to as well, and tar
 * headers get their checksums put right, or nearly every mutation would end at the first check.
 *
 * Draws are counter-based: a failure names its seed and repeats.
 */

import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { deflateSync } from "node:zlib";

import { DataError } from "../../src/core/error.js";
import { Draws, streams } from "../../src/core/random.js";
import { encodeBoxes } from "../../src/prepare/imagenet/boxes.js";
import { parseClasses, parseGroundTruth } from "../../src/prepare/imagenet/devkit.js";
import { parseMetadata } from "../../src/prepare/imagenet/metadata.js";
import { parseMat } from "../../src/formats/mat.js";
import { parseNpyObject } from "../../src/formats/npy-object.js";
import { Call, Global, type PickleValue, readPickle, Tuple } from "../../src/formats/pickle.js";
import { writePickle } from "../../src/formats/pickle-writer.js";
import { tarMembers } from "../../src/formats/tar.js";
import { parseVocXml } from "../../src/formats/voc-xml.js";
import { mutate } from "../support/mutate.js";
import { paxEntry, tarBytes, tarEntry } from "../support/tar-bytes.js";

Object.freeze(Object.prototype);

const MUTATIONS = 20_000;
/** RIFFLE_FUZZ_SEED meets other files than the last time. */
const SEED = Number(process.env["RIFFLE_FUZZ_SEED"] ?? 1);
/** Resident memory in MB at the worst; the test runner and 20,000 garbage files are most of it. */
const MOST_MEMORY = 600;

const BOX_XML =
  "<?xml version='1.0'?><annotation><filename>a</filename><size><width>500</width><height>375</height></size>" +
  "<object><name>n1</name><bndbox><xmin>6</xmin><ymin>1</ymin><xmax>9</xmax><ymax>7</ymax></bndbox></object>" +
  "<!-- x --><![CDATA[y]]>&amp;</annotation>";

interface Target {
  readonly name: string;
  readonly seeds: readonly Uint8Array[];
  /** Makes a file of what was mutated; for formats whose outside would hide the inside. */
  readonly wrap?: (inside: Uint8Array, draws: Draws) => Uint8Array;
  readonly read: (bytes: Uint8Array) => void;
}

const targets: readonly Target[] = [
  {
    name: "pickle",
    seeds: picklesToMutate(),
    read: (bytes) =>
      void readPickle(bytes, "fuzz", { allowed: new Map([["demo.make", "dict"]]), persistent: (id) => id }),
  },
  {
    name: "npy of objects",
    seeds: [
      Buffer.concat(encodeBoxes([["a", Float32Array.of(0, 0, 1, 1)], ["b", new Float32Array(8)]])), // prettier-ignore
    ],
    read: (bytes) => void parseNpyObject(bytes, "fuzz"),
  },
  {
    name: "MAT, as it lies",
    seeds: [matFile(deflateSync(matStruct()))],
    read: (bytes) => void parseMat(bytes, "fuzz"),
  },
  {
    name: "MAT, inside what it unpacks to",
    seeds: [matStruct()],
    wrap: (inside) => matFile(deflateSync(inside, { level: 1 })),
    read: (bytes) => void parseClasses(bytes, "fuzz"),
  },
  {
    name: "box XML",
    seeds: [Buffer.from(BOX_XML)],
    read: (bytes) => void parseVocXml(bytes, "fuzz"),
  },
  {
    name: "metadata CSV",
    seeds: [Buffer.from('path,wordnet_id,just_name\na/b.JPEG,n1,b\n"x,""y""",n2,"x\ny"\n')],
    read: (bytes) => void parseMetadata(bytes, "fuzz"),
  },
  {
    name: "ground truth",
    seeds: [Buffer.from("490\n361\n171\n822\n")],
    read: (bytes) => void parseGroundTruth(bytes, 1000, "fuzz"),
  },
  {
    name: "tar",
    seeds: [
      Buffer.concat([
        tarEntry({ name: "long", type: "L", data: Buffer.from("a/long/name\0") }),
        tarEntry({ name: "a.JPEG", data: Buffer.from("picture") }),
        paxEntry({ path: "p.JPEG", size: "3", "GNU.sparse.major": "1" }),
        tarBytes([{ name: "p", data: Buffer.from("pax") }, { name: "s", type: "S" }]), // prettier-ignore
      ]),
    ],
    wrap: repairChecksums,
    read: (bytes) => {
      const readAt = (at: number, length: number) => bytes.subarray(at, at + length);
      for (const { offset, size } of tarMembers(readAt, { start: 0, end: bytes.length }, "fuzz")) {
        assert.ok(offset + size <= bytes.length, "a member past the end");
      }
    },
  },
];

suite(`${MUTATIONS} damaged files each give a value or a DataError`, () => {
  for (const { name, seeds, wrap, read } of targets) {
    test(name, () => {
      for (const seed of seeds) read(wrap ? wrap(seed, new Draws(0, streams.draw, 0, 0)) : seed);
      let refused = 0;
      for (let i = 0; i < MUTATIONS; i++) {
        const draws = new Draws(SEED, streams.draw, 0, i);
        const seed = seeds[draws.below(seeds.length)] as Uint8Array;
        const mutated = mutate(seed, draws);
        const bytes = wrap ? wrap(mutated, draws) : mutated;
        try {
          read(bytes);
        } catch (error) {
          if (!(error instanceof DataError)) {
            throw new Error(`${name}, mutation ${i} of seed ${SEED}: ${String(error)}\n${Buffer.from(bytes).toString("hex").slice(0, 4000)}`, { cause: error }); // prettier-ignore
          }
          refused++;
        }
      }
      // Both ends are met, or the mutations test nothing.
      assert.ok(refused > MUTATIONS / 10, `${refused} refused`);
      assert.ok(refused < MUTATIONS, "all refused");
    });
  }

  test(`within ${MOST_MEMORY} MB`, () => {
    const megabytes = process.resourceUsage().maxRSS / 1024;
    assert.ok(megabytes < MOST_MEMORY, `${megabytes} MB`);
  });

  test("and nothing was added to Object's prototype, which was frozen all the while", () => {
    assert.ok(Object.isFrozen(Object.prototype));
    assert.deepEqual(Object.keys(Object.prototype), []);
  });
});

/** A pickle of everything, one with NumPy's names refused, and the protocol with text. */
function picklesToMutate(): Uint8Array[] {
  const call = new Call(new Global("demo", "make"), [1, "x"], new Map<PickleValue, PickleValue>([["k", 1]]));
  call.state = new Map<PickleValue, PickleValue>([["__setstate__", 2.5]]);
  const everything = [
    null,
    true,
    -3,
    2n ** 80n,
    1.5,
    "text",
    Uint8Array.of(1, 2),
    new Tuple([1, new Tuple([])]),
    call,
  ];
  return [
    Buffer.concat(writePickle([everything, new Map([["__proto__", everything]])], new Set([everything]))),
    Buffer.from("(dp0\nS'a'\nI1\nsS'b'\n(lp1\nF2.5\naL77L\nag1\nasVtext\\u20ac\nI01\ns.", "latin1"),
    Buffer.from("\x80\x04\x95\x20\0\0\0\0\0\0\0\x8c\x04demo\x94\x8c\x04make\x94\x93)R}\x94\x8c\x01ah\x01sb\x8c\x02idQ\x86.", "latin1"), // prettier-ignore
  ];
}

/** A devkit of two classes: a struct array with the four fields that are read. */
function matStruct(): Buffer {
  const word = (...values: number[]) => Buffer.from(Int32Array.from(values).buffer);
  const element = (type: number, data: Buffer) =>
    Buffer.concat([word(type, data.length), data, Buffer.alloc((8 - (data.length % 8)) % 8)]);
  const matrix = (kind: number, name: string, shape: number[], ...parts: Buffer[]) =>
    element(14, Buffer.concat([element(6, word(kind, 0)), element(5, word(...shape)), element(1, Buffer.from(name)), ...parts])); // prettier-ignore
  const number = (value: number) =>
    matrix(6, "", [1, 1], element(4, Buffer.from(Uint16Array.of(value).buffer)));
  const text = (value: string) => matrix(4, "", [1, value.length], element(16, Buffer.from(value)));
  const width = 16;
  const fields = ["ILSVRC2012_ID", "WNID", "words", "num_train_image"]
    .map((name) => name.padEnd(width, "\0"))
    .join("");
  const one = (id: number, wordnet: string) => [number(id), text(wordnet), text("a fox"), number(1300)];
  const names = Buffer.from(fields.replace("num_train_image\0", "num_train_images"), "latin1");
  return matrix(2, "synsets", [2, 1], element(5, word(width)), element(1, names), ...one(1, "n02119789"), ...one(2, "n02100735")); // prettier-ignore
}

function matFile(packed: Uint8Array): Buffer {
  const head = Buffer.alloc(136, " ");
  head.set([0, 1, 0x49, 0x4d], 124);
  head.writeUInt32LE(15, 128);
  head.writeUInt32LE(packed.length, 132);
  return Buffer.concat([head, packed]);
}

/** Changes a length now and then and puts most headers' sums right, where headers stand if nothing was cut out. */
function repairChecksums(inside: Uint8Array, draws: Draws): Uint8Array {
  const bytes = Buffer.from(inside);
  for (let at = 0; at + 512 <= bytes.length; at += 512) {
    const block = bytes.subarray(at, at + 512);
    if (block.subarray(257, 262).toString("latin1") !== "ustar" || draws.below(16) === 0) continue;
    // A bit flipped in a length is seldom another length, so lengths are changed as numbers too.
    if (draws.below(16) === 0)
      block.write(`${draws.below(4000).toString(8).padStart(11, "0")}\0`, 124, "latin1");
    block.fill(0x20, 148, 156);
    const sum = block.reduce((total, byte) => total + byte, 0);
    block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  }
  return bytes;
}
