import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";
import { deflateSync, gzipSync } from "node:zlib";

import fc from "fast-check";

import { needs, sharedPath } from "../../test/support/shared.js";
import { FormatError } from "../core/error.js";
import { crc32c, maskedCrc32c } from "./crc32c.js";
import { frameRecord, RECORD_OVERHEAD, RecordReader, unframeRecord } from "./tfrecord.js";

const folder = mkdtempSync(join(tmpdir(), "riffle-tfrecord-"));
after(() => rmSync(folder, { recursive: true }));

const payloads = [Buffer.from("one"), Buffer.alloc(0), Buffer.from("the third record")];
const threeRecords = Buffer.concat(payloads.map(frameRecord));
/** Where each begins. */
const starts = [0, 3 + RECORD_OVERHEAD, 3 + 2 * RECORD_OVERHEAD];

interface Reading {
  readonly payloads: Buffer[];
  readonly errors: FormatError[];
}

/** All that a file with these bytes gives, damage included. */
function reading(bytes: Uint8Array): Promise<Reading> {
  const file = {
    read(into: Uint8Array, offset: number, length: number, position: number) {
      into.set(bytes.subarray(position, position + length), offset);
      return Promise.resolve({ bytesRead: Math.min(length, bytes.length - position) });
    },
    close: () => Promise.resolve(),
  };
  return readAll(new RecordReader("x.tfrecords", file, bytes.length));
}

async function readAll(reader: RecordReader): Promise<Reading> {
  const found: Reading = { payloads: [], errors: [] };
  try {
    for (let next = await reader.next(); next !== undefined; next = await reader.next()) {
      if (next.error === undefined) found.payloads.push(Buffer.from(next.payload));
      else found.errors.push(next.error);
    }
    return found;
  } finally {
    await reader.close();
  }
}

suite("CRC-32C", () => {
  test("gives the values of RFC 3720, B.4, and can be continued", () => {
    assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
    assert.equal(crc32c(new Uint8Array(32).fill(255)), 0x62a8ab43);
    assert.equal(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e);
    assert.equal(crc32c(Buffer.from("456789"), crc32c(Buffer.from("123"))), 0xe3069283);
  });

  test("is masked by a rotation and a constant", () => {
    // 0xe3069283 rotated right by 15 is 0x2507c60d.
    assert.equal(maskedCrc32c(Buffer.from("123456789")), (0x2507c60d + 0xa282ead8) % 2 ** 32);
  });
});

suite("a file of TFRecords", () => {
  test("gives the payloads that were framed, empty and long ones too", async () => {
    const long = [
      Buffer.alloc(3_000_000, 1),
      Buffer.alloc(5, 2),
      Buffer.alloc(1_048_570, 3),
      Buffer.alloc(0),
    ];
    for (const wanted of [payloads, long]) {
      const { payloads: read, errors } = await reading(Buffer.concat(wanted.map(frameRecord)));
      assert.deepEqual(errors, []);
      assert.equal(read.length, wanted.length);
      read.forEach((payload, i) => assert.ok(payload.equals(wanted[i] as Buffer)));
    }
  });

  test(
    "made by TensorFlow is read whole and framed again to the same bytes",
    needs("tfrecords"),
    async () => {
      for (const [name, count] of [
        ["flow_train.tfrecords", 45],
        ["jkh_train.tfrecords", 3780],
        ["yanxp_train.tfrecords", 17],
      ] as const) {
        const path = sharedPath("tfrecords", name);
        const { payloads: read, errors } = await readAll(await RecordReader.open(path));
        assert.deepEqual([read.length, errors.length], [count, 0]);
        const crc = read.map(frameRecord).reduce((sum, framed) => crc32c(framed, sum), 0);
        assert.equal(crc, crc32c(readFileSync(path)));
      }
    },
  );

  test("with any one bit flipped names file, record, byte and the CRC that is wrong", async () => {
    for (let bit = 0; bit < threeRecords.length * 8; bit++) {
      const at = bit >> 3;
      const damaged = Buffer.from(threeRecords);
      damaged[at] = (damaged[at] as number) ^ (1 << (bit & 7));
      const record = starts.findLastIndex((start) => start <= at);
      const start = starts[record] as number;
      const inHeader = at - start < 12;
      const { errors, payloads: read } = await reading(damaged);
      const [error] = errors;
      assert.equal(errors.length, 1, `bit ${bit}`);
      assert.ok(error instanceof FormatError);
      assert.match(error.message, new RegExp(`x\\.tfrecords#${record}, byte \\d+: record ${record}: wrong`));
      assert.match(error.message, inHeader ? /wrong length CRC/ : /wrong data CRC/);
      assert.ok(error.offset >= start && error.offset < (starts[record + 1] ?? threeRecords.length));
      // Behind a damaged payload the next record still stands.
      assert.equal(read.length, inHeader ? record : 2, `bit ${bit}`);
    }
  });

  test("cut short anywhere but between records says so, with the bytes that are missing", async () => {
    for (let length = 1; length < threeRecords.length; length++) {
      const { errors, payloads: read } = await reading(threeRecords.subarray(0, length));
      const whole = starts.filter((_, i) => (starts[i + 1] ?? threeRecords.length) <= length).length;
      assert.equal(read.length, whole);
      if (starts.includes(length)) assert.deepEqual(errors, []);
      else {
        assert.match(
          errors[0]?.message ?? "",
          new RegExp(`#${whole}, byte \\d+: record ${whole}: .*the file ends inside.*expected \\d+ bytes`),
        );
      }
    }
  });

  test("that declares more bytes than follow is refused before memory is taken, up to 2^64 - 1", async () => {
    for (const length of [17n, 2n ** 31n, 2n ** 32n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]) {
      const header = Buffer.alloc(12);
      header.writeBigUInt64LE(length);
      header.writeUInt32LE(maskedCrc32c(header.subarray(0, 8)), 8);
      const before = process.memoryUsage().rss;
      const { errors } = await reading(Buffer.concat([threeRecords, header, Buffer.alloc(20)]));
      assert.match(
        errors[0]?.message ?? "",
        new RegExp(`record 3: cut short.*expected ${length + 4n} bytes more, found 20`),
      );
      assert.ok(process.memoryUsage().rss - before < 32 * 2 ** 20);
    }
  });

  test("longer than any picture is refused though the file has the bytes", async () => {
    const path = join(folder, "long.tfrecords");
    const header = Buffer.alloc(12);
    header.writeBigUInt64LE(300n * 2n ** 20n);
    header.writeUInt32LE(maskedCrc32c(header.subarray(0, 8)), 8);
    writeFileSync(path, header);
    truncateSync(path, 2 ** 29);
    assert.match(
      (await readAll(await RecordReader.open(path))).errors[0]?.message ?? "",
      /longer than any picture/,
    );
  });

  test("of 1 GiB of zeros is refused after its first bytes", async () => {
    let read = 0;
    const zeros = {
      read: (into: Uint8Array, offset: number, length: number) => {
        into.fill(0, offset, offset + length);
        read += length;
        return Promise.resolve({ bytesRead: length });
      },
      close: () => Promise.resolve(),
    };
    const { errors, payloads } = await readAll(new RecordReader("zeros.tfrecords", zeros, 2 ** 30));
    assert.match(errors[0]?.message ?? "", /zeros\.tfrecords, byte 0: begins with zeros/);
    assert.deepEqual([errors.length, payloads.length], [1, 0]);
    assert.ok(read <= 2 ** 21, `${read} bytes were read`);
  });

  const others: [name: string, bytes: Uint8Array, message: RegExp][] = [
    ["an empty file", Buffer.alloc(0), /an empty file: 0 bytes/],
    ["gzip", gzipSync(threeRecords), /compressed with gzip.*gunzip/],
    ["zlib", deflateSync(threeRecords), /compressed with zlib/],
    ["a PNG", Buffer.from("\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "latin1"), /a PNG, not a file of TFRecords/],
    ["a JPEG", Buffer.from("\xff\xd8\xff\xe0\0\x10JFIF", "latin1"), /a JPEG/],
    ["a zip archive", Buffer.from("PK\x03\x04aaaaaaaaaaaa"), /a zip archive/],
    ["a list of names", Buffer.from("path,wordnet_id,just_name\n"), /text, not a file/],
    ["noise", Buffer.from("f8e7d6c5b4a39281706f5e4d3c2b1a09", "hex"), /record 0: wrong length CRC/],
  ];
  for (const [name, bytes, message] of others) {
    test(`that is ${name} is named as such`, async () => {
      const { errors, payloads: read } = await reading(bytes);
      assert.deepEqual([errors.length, read.length], [1, 0]);
      assert.match(errors[0]?.message ?? "", message);
    });
  }

  test("whose first length looks like gzip's magic is still read", async () => {
    const payload = Buffer.alloc(0x8b1f, 7);
    assert.equal((await reading(frameRecord(payload))).payloads.length, 1);
  });

  test("throws its first damage when iterated, and refuses folders", async () => {
    const damaged = Buffer.from(threeRecords);
    damaged[12] = 0;
    const path = join(folder, "damaged.tfrecords");
    writeFileSync(path, damaged);
    const reader = await RecordReader.open(path);
    await assert.rejects(async () => {
      for await (const { payload } of reader) assert.fail(`gave ${payload.length} bytes`);
    }, FormatError);
    await reader.close();
    await assert.rejects(RecordReader.open(folder), /not a regular file/);
  });
});

suite("a record read by its place", () => {
  test("is checked as when read in order, and against the length known", () => {
    const framed = frameRecord(payloads[2] as Buffer);
    assert.deepEqual(Buffer.from(unframeRecord(framed, "s", 4, 100)), payloads[2]);
    const swapped = Buffer.concat([frameRecord(Buffer.from("a")), frameRecord(Buffer.from("b"))]);
    assert.throws(
      () => unframeRecord(swapped, "s", 4, 100),
      /s#4, byte 100: .*another than when.*expected 18, found 1/,
    );
    assert.throws(() => unframeRecord(framed.subarray(0, -1), "s", 4, 100), /cut short/);
    assert.throws(() => unframeRecord(framed.subarray(0, 7), "s", 4, 100), /ends inside its length/);
    assert.throws(() => unframeRecord(framed.fill(0, 20, 21), "s", 4, 100), /s#4, byte 128: .*data CRC/);
  });
});

test("no mutation of a file does anything but be read or be refused, CRCs put right or not", async () => {
  Object.freeze(Object.prototype);
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(
      mutations(threeRecords.length),
      fc.boolean(),
      fc.boolean(),
      async (changes, repair, cut) => {
        let mutated = Buffer.from(threeRecords);
        for (const [at, value] of changes) mutated[at] = value;
        if (cut) mutated = mutated.subarray(0, changes[0]?.[0]);
        if (repair) putCrcsRight(mutated);
        const { payloads: read, errors } = await reading(mutated);
        refused += errors.length > 0 ? 1 : 0;
        for (const error of errors) assert.ok(error instanceof FormatError && error.offset <= mutated.length);
        assert.ok(read.reduce((sum, payload) => sum + payload.length + RECORD_OVERHEAD, 0) <= mutated.length);
      },
    ),
    { numRuns: Number(process.env["RIFFLE_FUZZ"] ?? 20_000) },
  );
  assert.ok(refused > 0);
});

function mutations(length: number) {
  return fc.array(fc.tuple(fc.nat(length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
}

/** Gives the lengths and payloads that a file now has the CRCs they need, as far as they can be followed. */
function putCrcsRight(bytes: Buffer): void {
  for (let at = 0; at + 12 <= bytes.length;) {
    bytes.writeUInt32LE(maskedCrc32c(bytes.subarray(at, at + 8)), at + 8);
    const end = at + 12 + Number(bytes.readBigUInt64LE(at));
    if (end + 4 > bytes.length) return;
    bytes.writeUInt32LE(maskedCrc32c(bytes.subarray(at + 12, end)), end);
    at = end + 4;
  }
}
