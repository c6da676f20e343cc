import assert from "node:assert/strict";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";

import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

import { needs, sharedPath } from "../../test/support/shared.js";
import { CheckpointError, ResourceError } from "../core/error.js";
import { maskedCrc32c } from "./crc32c.js";
import { encodeTable } from "./sstable.js";
import { encodeBundle, openBundle, readBundle, verifyBundle, writeBundle } from "./tf-bundle.js";
import { type BundleTensor, parseBundleIndex } from "./tf-bundle-index.js";

const folder = mkdtempSync(join(tmpdir(), "riffle-tf-bundle-"));
after(() => rmSync(folder, { recursive: true }));

const small: ReadonlyMap<string, BundleTensor> = new Map<string, BundleTensor>([
  ["global_step", { dtype: "I64", shape: [], data: BigInt64Array.of(2n ** 60n) }],
  ["b/weights", { dtype: "F32", shape: [2, 3], data: Float32Array.of(0, -0, 1, NaN, Infinity, 1e-45) }],
  ["a", { dtype: "F64", shape: [0, 4], data: new Float64Array(0) }],
  ["é", { dtype: "BOOL", shape: [3], data: Uint8Array.of(0, 1, 1) }],
]);

/** What a protobuf entry may hold; numbers as fields by their number in BundleEntryProto. */
interface Fields {
  readonly dtype?: number;
  readonly shape?: readonly (number | bigint)[];
  readonly shard?: number;
  readonly offset?: number | bigint;
  readonly size?: number | bigint;
  readonly slices?: number;
  readonly extra?: Uint8Array;
}

function entryOf({
  dtype = 1,
  shape = [],
  shard = 0,
  offset = 0,
  size = 4,
  slices = 0,
  extra,
}: Fields): Uint8Array {
  const entry = new BinaryWriter().tag(1, WireType.Varint).int32(dtype);
  const dimensions = new BinaryWriter();
  for (const length of shape) {
    const dimension = new BinaryWriter().tag(1, WireType.Varint).int64(length).finish();
    dimensions.tag(2, WireType.LengthDelimited).bytes(dimension);
  }
  entry.tag(2, WireType.LengthDelimited).bytes(dimensions.finish());
  entry.tag(3, WireType.Varint).int32(shard);
  entry.tag(4, WireType.Varint).int64(offset);
  entry.tag(5, WireType.Varint).int64(size);
  entry.tag(6, WireType.Bit32).fixed32(maskedCrc32c(new Uint8Array(4)));
  for (let i = 0; i < slices; i++) entry.tag(7, WireType.LengthDelimited).bytes(new Uint8Array(0));
  return Buffer.concat([entry.finish(), extra ?? new Uint8Array(0)]);
}

const header = (bytes: readonly number[]) => Uint8Array.from(bytes);
const ONE_SHARD = header([8, 1, 26, 2, 8, 1]);

function indexOf(entries: Readonly<Record<string, Uint8Array>>, head = ONE_SHARD): Uint8Array {
  const all = [["", head] as const, ...Object.entries(entries)];
  const table = all.map(([key, value]) => ({ key: Buffer.from(key, "latin1"), value }));
  return encodeTable(table.sort((a, b) => Buffer.compare(a.key, b.key)));
}

function refused(index: Uint8Array, what: RegExp): void {
  assert.throws(
    () => parseBundleIndex(index, "x.index"),
    (error: unknown) => {
      assert.ok(error instanceof CheckpointError, String(error));
      assert.match(error.message, what);
      return true;
    },
  );
}

async function problemOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof CheckpointError, String(error));
    return error.message;
  }
  return "nothing was refused";
}

suite("a bundle", () => {
  test("is read back bit for bit, names in the order of their bytes", async () => {
    const prefix = join(folder, "model.ckpt-1");
    await writeBundle(prefix, small);
    const bundle = await readBundle(prefix);
    assert.deepEqual([...bundle.entries.keys()], ["a", "b/weights", "global_step", "é"]);
    assert.deepEqual(bundle.missing, []);
    for (const [name, tensor] of small) assert.deepEqual(await bundle.read(name), tensor);
    assert.deepEqual(readdirSync(folder).sort(), ["model.ckpt-1.data-00000-of-00001", "model.ckpt-1.index"]);
  });

  test("that stands already is left alone, and replaced by another one only where that is asked for", async () => {
    const prefix = join(folder, "again");
    await writeBundle(prefix, small);
    await writeBundle(prefix, small);
    const other = new Map([["a", small.get("b/weights") as BundleTensor]]);
    await assert.rejects(writeBundle(prefix, other), ResourceError);
    assert.equal((await readBundle(prefix)).entries.size, 4);
    await writeBundle(prefix, other, { replace: true });
    assert.equal((await readBundle(prefix)).entries.size, 1);
  });

  test("without its data gives names and shapes, and refuses a tensor", async () => {
    const prefix = join(folder, "index-only");
    await writeBundle(prefix, small);
    rmSync(`${prefix}.data-00000-of-00001`);
    const bundle = await readBundle(prefix);
    assert.equal(bundle.missing.length, 1);
    assert.deepEqual(bundle.entries.get("b/weights")?.shape, [2, 3]);
    assert.match(
      await problemOf(bundle.read("b/weights")),
      /"b\/weights": .*data is not there.*names and shapes only/,
    );
  });

  test("with any bit of its data flipped is refused, naming the tensor", async () => {
    const prefix = join(folder, "flipped");
    await writeBundle(prefix, small);
    const path = `${prefix}.data-00000-of-00001`;
    const whole = readFileSync(path);
    for (let bit = 0; bit < 8 * whole.length; bit++) {
      const bytes = Buffer.from(whole);
      bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
      writeFileSync(path, bytes);
      const name = bit < 8 * 24 ? "b/weights" : bit < 8 * 32 ? "global_step" : "é";
      const message = await problemOf(verifyBundle(await readBundle(prefix)));
      assert.match(message, new RegExp(`tensor "${name}", bytes .*checksum`));
    }
  });

  test("whose data is cut short is refused when it is opened, naming the tensor and both sizes", async () => {
    const prefix = join(folder, "cut");
    await writeBundle(prefix, small);
    truncateSync(`${prefix}.data-00000-of-00001`, 31);
    assert.match(
      await problemOf(readBundle(prefix)),
      /"global_step" lies beyond the end.*32 bytes, found 31/,
    );
  });

  test("is not written where a tensor's shape is not its size, or its name could disturb", () => {
    const tensor: BundleTensor = { dtype: "F32", shape: [2], data: new Float32Array(3) };
    assert.throws(() => encodeBundle(new Map([["a", tensor]])), /\[2\] is not 3 elements/);
    assert.throws(
      () => encodeBundle(new Map([["a\n", { ...tensor, shape: [3] }]])),
      /cannot have the name "a\\n"/,
    );
  });

  test("that is not there is refused", async () => {
    assert.match(await problemOf(readBundle(join(folder, "none"))), /no TensorFlow checkpoint of this name/);
    assert.match(await problemOf(readBundle(join(folder, "x".repeat(300)))), /ENAMETOOLONG/);
  });

  test("of several shards is read from all of them", async () => {
    const index = indexOf(
      { a: entryOf({ shard: 0 }), b: entryOf({ shard: 1, offset: 2 }) },
      header([8, 2, 26, 2, 8, 1]),
    );
    const opened: string[] = [];
    const bundle = await openBundle("p", index, (path) => {
      opened.push(path);
      return Promise.resolve({ bytes: 6, read: () => Promise.resolve() });
    });
    assert.deepEqual(opened, ["p.data-00000-of-00002", "p.data-00001-of-00002"]);
    assert.deepEqual((await bundle.read("b")).data, new Float32Array(1));
  });
});

suite("an index whose checksums fit is refused", () => {
  test("(one made by hand for these tests is read)", () => {
    assert.equal(
      parseBundleIndex(indexOf({ a: entryOf({}), b: entryOf({ offset: 4 }) }), "x").entries.size,
      2,
    );
  });

  for (const [what, index, reason] of [
    ["without a header", encodeTable([]), /no header/],
    [
      "of a big-endian machine",
      indexOf({}, header([8, 1, 16, 1, 26, 2, 8, 1])),
      /big-endian.*expected endianness LITTLE/,
    ],
    ["of a newer format", indexOf({}, header([8, 1, 26, 4, 8, 9, 16, 2])), /needs version 2/],
    ["of the V1 format", indexOf({}, header([10, 2, 10, 0])), /older V1 format/],
    ["with a header cut off", indexOf({}, header([8])), /header: cannot be read, at byte 1 of it/],
    ["of no shards", indexOf({}, header([8, 0])), /number of data files.*found 0/],
    [
      "of a million shards",
      indexOf({}, header([8, 0xc0, 0x84, 0x3d])),
      /number of data files.*found 1000000/,
    ],
    [
      "with a shard out of range",
      indexOf({ a: entryOf({ shard: 1 }) }),
      /"a": .*shard.*expected 0 to 0, found 1/,
    ],
    ["with a negative shard", indexOf({ a: entryOf({ shard: -1 }) }), /"a": .*a data file of -1/],
    [
      "with overlapping tensors",
      indexOf({ a: entryOf({ offset: 2 }), b: entryOf({}) }),
      /"a": the tensor overlaps "b".*from byte 4 on, found 2/,
    ],
    [
      "with a size that is not its shape's",
      indexOf({ a: entryOf({ shape: [2] }) }),
      /"a": .*expected 8 bytes for \[2\] F32, found 4/,
    ],
    [
      "with a shape beyond 2^53",
      indexOf({ a: entryOf({ shape: [2 ** 40, 2 ** 40] }) }),
      /"a": the tensor is too large/,
    ],
    ["with a negative length", indexOf({ a: entryOf({ shape: [-1] }) }), /a length of -1/],
    [
      "with an offset beyond 2^53",
      indexOf({ a: entryOf({ offset: 2n ** 62n }) }),
      /an offset of 4611686018427387904/,
    ],
    ["with an end beyond 2^53", indexOf({ a: entryOf({ offset: 2n ** 53n - 1n }) }), /place is impossible/],
    ["with an unknown type", indexOf({ a: entryOf({ dtype: 99 }) }), /unknown type 99/],
    [
      "with 255 dimensions",
      indexOf({ a: entryOf({ shape: Array<number>(255).fill(1) }) }),
      /more than 254 dimensions/,
    ],
    ["with a field twice", indexOf({ a: entryOf({ extra: Uint8Array.of(8, 1) }) }), /field 1 twice/],
    ["with an unknown field", indexOf({ a: entryOf({ extra: Uint8Array.of(64, 1) }) }), /field 8/],
    [
      "with an entry cut off",
      indexOf({ a: entryOf({}).subarray(0, -1) }),
      /"a": cannot be read, at byte \d+ of it/,
    ],
    [
      "with a name of control characters",
      indexOf({ "a\x1b[31m": entryOf({}) }),
      /name is not allowed.*a\\u001b/,
    ],
    [
      "with a name that is a property of every object",
      indexOf({ ["__proto__"]: entryOf({}) }),
      /name is not allowed/,
    ],
    ["with a name that is not UTF-8", indexOf({ "\xff": entryOf({}) }), /not UTF-8/],
    ["with a name of 1025 bytes", indexOf({ ["n".repeat(1025)]: entryOf({}) }), /name is not allowed/],
  ] as const) {
    test(what, () => refused(index, reason));
  }

  test("a text of 2^40 bytes, as soon as the file's size is known", async () => {
    const index = indexOf({ text: entryOf({ dtype: 7, size: 2 ** 40 }) });
    const shard = { bytes: 100, read: () => assert.fail("nothing is read") };
    const opened = openBundle("p", index, () => Promise.resolve(shard));
    assert.match(await problemOf(opened), /"text" lies beyond the end.*1099511627776 bytes, found 100/);
  });
});

suite("a tensor that is not read is listed, and refused by name:", () => {
  const shard = { bytes: 2 ** 20, read: () => assert.fail("nothing is read") };

  for (const [what, fields, reason] of [
    ["texts", { dtype: 7 }, /"t": is of a type that is not read.*found DT_STRING/],
    ["resources", { dtype: 20 }, /found DT_RESOURCE/],
    ["complex numbers", { dtype: 8 }, /found DT_COMPLEX64/],
    ["partitioned variables", { slices: 3, size: 0 }, /"t": is a partitioned variable.*found 3 slices/],
  ] as const) {
    test(what, async () => {
      // A key that begins with a zero byte is a slice of a partitioned variable.
      const index = indexOf({ "\0slice": entryOf({ offset: 100 }), t: entryOf(fields) });
      const bundle = await openBundle("p", index, () => Promise.resolve(shard));
      assert.deepEqual([...bundle.entries.keys()], ["t"]);
      assert.match(await problemOf(bundle.read("t")), reason);
    });
  }

  test("one that the index does not have", async () => {
    const bundle = await openBundle("p", indexOf({}), () => Promise.resolve(shard));
    assert.match(await problemOf(bundle.read("\u001b[31m")), /no such tensor/);
  });

  test("an index alone never asks for memory that a file would have to fill", async () => {
    const index = indexOf({ t: entryOf({ shape: [2 ** 40], size: 2 ** 42 }) });
    const absent = { bytes: undefined, read: () => assert.fail("nothing is read") };
    const bundle = await openBundle("p", index, () => Promise.resolve(absent));
    assert.match(await problemOf(bundle.read("t")), /data is not there/);
  });
});

suite("every checkpoint at hand that TensorFlow wrote", needs("tf-checkpoints"), () => {
  const root = sharedPath("tf-checkpoints");
  const serving = "serving/saved_model_half_plus_two";
  const lineage = "shufflenetv2-index-only";
  /** Prefix, tensors, tensors that are not read; -1 where there is no data. */
  const files: readonly (readonly [string, number, number])[] = [
    ["gender/model.ckpt", 21, 0],
    ["mnist/model.ckpt", 8, 0],
    ["siamese/model.ckpt", 21, 0],
    [`${serving}_cpu/variables`, 5, 0],
    [`${serving}_mkl/variables`, 9, 0],
    [`${serving}_tf2_cpu/variables`, 4, 1],
    [`${lineage}/assafmus_run00_0.5x_model.ckpt-1331064`, 623, -1],
    [`${lineage}/assafmus_run01_1.0x_model.ckpt-1661328`, 623, -1],
    [`${lineage}/monkeyCv_model.ckpt`, 515, -1],
  ];

  test("is in this list", (t) => {
    if (!existsSync(root)) return t.skip(`${root} is not there`);
    const found = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((path) =>
      path.endsWith(".index"),
    );
    assert.deepEqual(found.sort(), files.map(([prefix]) => `${prefix}.index`).sort());
  });

  for (const [prefix, count, unread] of files) {
    test(`${prefix} is ${unread < 0 ? "listed, without its data" : "read, and written again"}`, async () => {
      const bundle = await readBundle(join(root, prefix));
      assert.equal(bundle.entries.size, count);
      assert.equal(bundle.missing.length, unread < 0 ? 1 : 0);
      const [first = ""] = bundle.entries.keys();
      if (unread < 0) return assert.match(await problemOf(bundle.read(first)), /data is not there/);
      const tensors = new Map<string, BundleTensor>();
      let refusals = 0;
      for (const [name, { dtype }] of bundle.entries) {
        if (!dtype.startsWith("DT_")) tensors.set(name, await bundle.read(name));
        else if (/is of a type that is not read/.test(await problemOf(bundle.read(name)))) refusals++;
      }
      assert.equal(refusals, unread);
      if (unread > 0) return undefined;
      const { index, data } = encodeBundle(tensors);
      assert.deepEqual(Buffer.concat(data), readFileSync(join(root, `${prefix}.data-00000-of-00001`)));
      // This one's index is compressed, which we never write.
      if (prefix === `${serving}_cpu/variables`) return undefined;
      assert.deepEqual(Buffer.from(index), readFileSync(join(root, `${prefix}.index`)));
      return undefined;
    });
  }

  test("siamese/v1 is refused: the older format", async () => {
    const message = await problemOf(readBundle(join(root, "siamese/v1/model.ckpt")));
    assert.match(message, /older V1 format, which is not read.*PREFIX\.index.*write_version=2/);
  });
});
