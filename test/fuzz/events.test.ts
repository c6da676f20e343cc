/**
 * The reader of TensorBoard's event files on 20,000 damaged ones. Half are damaged inside their records and have the
 * checksums put right, or nearly every one would end at the first check.
 *
 * Whatever stands in a file, the reader gives events or throws a DataError: no other error, no change to Object's
 * prototype (frozen here, so that an attempt throws), no hang, and nothing much larger than the file.
 *
 * Draws are counter-based: a failure names its seed and repeats.
 */

import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

import { DataError } from "../../src/core/error.js";
import { Draws, streams } from "../../src/core/random.js";
import { encodeEvent, eventsOf, SESSION_START, type TfEvent } from "../../src/formats/tf-events.js";
import { histogramOf } from "../../src/formats/tf-histogram.js";
import { frameRecord, RecordReader } from "../../src/formats/tfrecord.js";
import { mutate } from "../support/mutate.js";

Object.freeze(Object.prototype);

const MUTATIONS = 20_000;
/** RIFFLE_FUZZ_SEED meets other files than the last time. */
const SEED = Number(process.env["RIFFLE_FUZZ_SEED"] ?? 1);
/** Resident memory in MB at the worst; the test runner and 20,000 garbage files are most of it. */
const MOST_MEMORY = 600;
/** Far above what any of these small files takes; a reader that hangs would take for ever. */
const SLOWEST_MS = 2_000;

suite(`${MUTATIONS} damaged event files each give events or a DataError`, () => {
  test("and are read without harm", async () => {
    const payloads = messages();
    const counts = { read: 0, refusedRecord: 0, refusedMessage: 0 };
    let slowest = 0;
    for (let i = 0; i < MUTATIONS; i++) {
      const draws = new Draws(SEED, streams.draw, 0, i);
      const repaired = i % 2 === 0;
      const place = draws.below(payloads.length);
      const file = repaired
        ? Buffer.concat(
            payloads.map((payload, at) => frameRecord(at === place ? mutate(payload, draws) : payload)),
          )
        : mutate(Buffer.concat(payloads.map(frameRecord)), draws);
      const started = performance.now();
      try {
        let events = 0;
        for await (const event of eventsOf(memoryReader(file), "fuzz"))
          events += isWithin(event, file.length) ? 1 : 0;
        if (repaired) assert.equal(events, payloads.length);
        counts.read++;
      } catch (error) {
        if (!(error instanceof DataError)) {
          throw new Error(`mutation ${i} of seed ${SEED}: ${String(error)}\n${file.toString("hex")}`, {
            cause: error,
          });
        }
        if (error.message.includes("no TensorBoard event")) counts.refusedMessage++;
        else counts.refusedRecord++;
      }
      slowest = Math.max(slowest, performance.now() - started);
    }
    // All ends are met, or the mutations test nothing.
    for (const [end, count] of Object.entries(counts)) assert.ok(count > MUTATIONS / 20, `${count} ${end}`);
    assert.ok(slowest < SLOWEST_MS, `${slowest} ms for one file`);
  });

  test(`within ${MOST_MEMORY} MB`, () => {
    const megabytes = process.resourceUsage().maxRSS / 1024;
    assert.ok(megabytes < MOST_MEMORY, `${megabytes} MB`);
  });

  test("and nothing was added to Object's prototype, which was frozen all the while", () => {
    assert.ok(Object.isFrozen(Object.prototype));
    assert.deepEqual(Object.keys(Object.prototype), []);
  });
});

/** Records with everything that is read: what we write, and tensors of the three plugins. */
function messages(): Uint8Array[] {
  const histogram = histogramOf(Float32Array.of(-1, 0, 2, 2));
  assert.ok(histogram);
  const image = { height: 2, width: 2, colorspace: 3, encoded: [Buffer.from("\x89PNG picture", "latin1")] };
  const ours: TfEvent["content"][] = [
    { kind: "version", version: "brain.Event:2" },
    { kind: "session", status: SESSION_START },
    {
      kind: "summary",
      values: [
        { tag: "__proto__", kind: "scalar", value: 0.5 },
        { tag: "conv1/weights_hist", kind: "histogram", histogram },
        { tag: "input/image/0", kind: "image", image },
      ],
    },
  ];
  const part = (field: number, value: string | Uint8Array) =>
    new BinaryWriter().tag(field, WireType.LengthDelimited).bytes(Buffer.from(value)).finish();
  const integer = (field: number, value: number) =>
    new BinaryWriter().tag(field, WireType.Varint).int64(value).finish();
  const join = (...parts: Uint8Array[]) => Buffer.concat(parts);
  const tensor = (plugin: string, dtype: number, sizes: number[], ...values: Uint8Array[]) => {
    const shape = part(2, join(...sizes.map((size) => part(2, integer(1, size)))));
    const metadata = part(9, part(1, part(1, plugin)));
    return part(
      5,
      part(1, join(part(1, plugin), metadata, part(8, join(integer(1, dtype), shape, ...values)))),
    );
  };
  const doubles = new Uint8Array(Float64Array.of(-1, 0, 3, 0, 1, 4).buffer);
  return [
    ...ours.map((content, step) => encodeEvent({ wallTime: 1.5e9 + step, step, content })),
    tensor("scalars", 1, [], part(5, Uint8Array.of(0, 0, 0, 63))),
    tensor("images", 7, [3], part(8, "2"), part(8, "2"), part(8, "PNG")),
    tensor("histograms", 2, [2, 3], part(4, doubles)),
  ];
}

/** Fails where a value takes more room than the whole file could hold. */
function isWithin({ content }: TfEvent, bytes: number): boolean {
  for (const value of content.kind === "summary" ? content.values : []) {
    const sizes =
      value.kind === "image"
        ? value.image.encoded.map(({ length }) => length)
        : value.kind === "histogram"
          ? [4 * value.histogram.limits.length]
          : [];
    assert.ok(sizes.reduce((sum, size) => sum + size, value.tag.length) <= bytes, "larger than its file");
  }
  return true;
}

function memoryReader(bytes: Buffer): RecordReader {
  const read = (into: Uint8Array, offset: number, length: number, position: number) => {
    const part = bytes.subarray(position, position + length);
    into.set(part, offset);
    return Promise.resolve({ bytesRead: part.length });
  };
  return new RecordReader("fuzz", { read, close: () => Promise.resolve() }, bytes.length);
}
