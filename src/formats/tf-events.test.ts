import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, suite, test } from "node:test";

import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

import { needs, sharedPath } from "../../test/support/shared.js";
import { DataError } from "../core/error.js";
import {
  decodeEvent,
  encodeEvent,
  EventWriter,
  readEvents,
  SESSION_START,
  type SummaryValue,
  type TfEvent,
} from "./tf-events.js";
import { defaultLimits, histogramOf } from "./tf-histogram.js";

const folder = mkdtempSync(join(tmpdir(), "riffle-events-"));
after(() => rmSync(folder, { recursive: true }));

async function eventsOf(path: string): Promise<TfEvent[]> {
  const events: TfEvent[] = [];
  for await (const event of readEvents(path)) events.push(event);
  return events;
}

const scalar = (tag: string, value: number): SummaryValue => ({ tag, kind: "scalar", value });
const png = Uint8Array.of(0x89, 0x50, 0x4e, 0x47);

/** A message of length-delimited fields, texts and messages; numbers are doubles. */
function message(...fields: [field: number, value: string | Uint8Array | number][]): Uint8Array {
  const writer = new BinaryWriter();
  for (const [field, value] of fields) {
    if (typeof value === "number") writer.tag(field, WireType.Bit64).double(value);
    else writer.tag(field, WireType.LengthDelimited).bytes(Buffer.from(value));
  }
  return writer.finish();
}
const integers = (...fields: [field: number, value: number][]) => {
  const writer = new BinaryWriter();
  for (const [field, value] of fields) writer.tag(field, WireType.Varint).int64(value);
  return writer.finish();
};
/** An event whose summary has one value of these parts, and that value read. */
const eventWith = (...parts: Uint8Array[]) => message([5, message([1, Buffer.concat(parts)])]);
function valueIn(bytes: Uint8Array, plugins?: Map<string, string>): SummaryValue | undefined {
  const { content } = decodeEvent(bytes, "test", plugins);
  assert.equal(content.kind, "summary");
  return content.values[0];
}

interface Expected {
  readonly step: number;
  readonly version: string;
  readonly values: readonly Record<string, unknown>[];
}

suite("TensorBoard's event files", () => {
  test("of TensorFlow give what TensorFlow reads in them", needs("tf-reference", "events"), async () => {
    const reference = (name: string) => sharedPath("tf-reference", "events", name);
    const expected = JSON.parse(readFileSync(reference("expected.json"), "utf8")) as Expected[];
    const found = (await eventsOf(reference("events.out.tfevents.1795386327.vm"))).map(
      ({ step, content }) => ({
        step,
        version: content.kind === "version" ? content.version : "",
        values: content.kind === "summary" ? content.values.map(asExpected) : [],
      }),
    );
    assert.deepEqual(found, expected);
    assert.equal(found.filter(({ values }) => values.length === 5).length, 4);
  });

  test("of TensorFlow have the buckets that ours have", needs("tf-reference", "events"), async () => {
    const known = new Set(defaultLimits);
    let histograms = 0;
    for (const { content } of await eventsOf(
      sharedPath("tf-reference", "events", "events.out.tfevents.1795386327.vm"),
    )) {
      for (const value of content.kind === "summary" ? content.values : []) {
        if (value.kind !== "histogram") continue;
        histograms++;
        assert.deepEqual(
          value.histogram.limits.filter((limit) => !known.has(limit)),
          new Float64Array(0),
        );
      }
    }
    assert.equal(histograms, 4);
  });

  test("are read back as they were written", async () => {
    const writer = await EventWriter.create(folder, 8, 1000.5);
    assert.equal(basename(writer.path), "events.out.tfevents.1000.riffle");
    const histogram = histogramOf(Float32Array.of(-3, 0, 1e-20, 0.5, 0.5));
    assert.ok(histogram);
    const image = { height: 2, width: 3, colorspace: 3, encoded: [png] };
    const values: SummaryValue[] = [
      scalar("loss", 0.25),
      { tag: "conv1/weights_hist", kind: "histogram", histogram },
      { tag: "input/image/0", kind: "image", image },
    ];
    await writer.add(10, values, 1001.25);
    await writer.add(2 ** 40, [], 1002);
    await writer.close();
    assert.deepEqual(plain(await eventsOf(writer.path)), plain([
      { wallTime: 1000.5, step: 0, content: { kind: "version", version: "brain.Event:2" } },
      { wallTime: 1000.5, step: 8, content: { kind: "session", status: SESSION_START } },
      { wallTime: 1001.25, step: 10, content: { kind: "summary", values } },
      { wallTime: 1002, step: 2 ** 40, content: { kind: "summary", values: [] } },
    ])); // prettier-ignore
  });

  test("are named to come one after the other, even in one second and when the clock was set back", async () => {
    const names: string[] = [];
    for (const now of [2000, 2000, 1500]) {
      const writer = await EventWriter.create(folder, 1, now);
      names.push(basename(writer.path));
      await writer.close();
    }
    assert.deepEqual(names, [...names].sort());
    assert.equal(new Set(names).size, 3);
  });

  test("cut short or damaged give what is whole before it, then the record and the byte", async () => {
    const path = join(folder, "cut");
    const writer = await EventWriter.create(folder, 1, 3000);
    await writer.add(1, [scalar("a", 1)], 1);
    await writer.close();
    const whole = readFileSync(writer.path);
    writeFileSync(path, whole);
    truncateSync(path, whole.length - 1);
    const found: TfEvent[] = [];
    await assert.rejects(async () => {
      for await (const event of readEvents(path)) found.push(event);
    }, /cut#2.*record 2: cut short/);
    assert.equal(found.length, 2);
    writeFileSync(path, whole);
    appendFileSync(path, "x");
    await assert.rejects(eventsOf(path), /record 3: the file ends inside its length/);
  });

  test("may hold their values as tensors of the plugins, whose name comes with a tag's first value", () => {
    const plugins = new Map<string, string>();
    const plugin = (name: string) => message([9, message([1, message([1, name])])]);
    const shape = (...sizes: number[]) =>
      message(...sizes.map((size): [number, Uint8Array] => [2, integers([1, size])]));
    const tensor = (dtype: number, dims: Uint8Array, ...rest: [number, string | Uint8Array][]) =>
      message([8, Buffer.concat([integers([1, dtype]), message([2, dims], ...rest)])]);
    const floats = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer);
    const doubles = (...values: number[]) => new Uint8Array(Float64Array.from(values).buffer);

    const first = eventWith(message([1, "a"]), plugin("scalars"), tensor(1, shape(), [5, floats(0.5)]));
    assert.deepEqual(valueIn(first, plugins), scalar("a", 0.5));
    const later = eventWith(message([1, "a"]), tensor(2, shape(), [4, doubles(0.1)]));
    assert.deepEqual(valueIn(later, plugins), scalar("a", 0.1));
    const image = tensor(7, shape(3), [8, "32"], [8, "16"], [8, png]);
    assert.deepEqual(valueIn(eventWith(message([1, "i"]), plugin("images"), image)), {
      tag: "i",
      kind: "image",
      image: { width: 32, height: 16, colorspace: null, encoded: [png] },
    });
    const histogram = tensor(2, shape(2, 3), [4, doubles(-1, 0, 3, 0, 1, 4)]);
    assert.deepEqual(plain(valueIn(eventWith(message([1, "h"]), plugin("histograms"), histogram))), plain({
      tag: "h",
      kind: "histogram",
      histogram: { min: -1, max: 1, num: 7, sum: null, sumSquares: null, limits: Float64Array.of(0, 1), counts: Float64Array.of(3, 4) },
    })); // prettier-ignore
    assert.throws(
      () => valueIn(eventWith(message([1, "i"]), plugin("images"), tensor(7, shape(4), [8, "32"]))),
      /images in a tensor of type 7 and shape \[4\] of 1 strings/,
    );
    assert.throws(
      () => valueIn(eventWith(plugin("scalars"), tensor(1, shape(10 ** 9), [5, floats(0)]))),
      /a scalar in a tensor of type 1 and shape \[1000000000\]/,
    );
  });

  const histogram = (limits: number[], counts: number[]) =>
    eventWith(
      message([
        5,
        message(
          ...limits.map((limit): [number, number] => [6, limit]),
          ...counts.map((count): [number, number] => [7, count]),
        ),
      ]),
    );
  const refusals: [name: string, bytes: Uint8Array, message: RegExp][] = [
    ["an unknown field", message([12, "x"]), /Event has an unknown field 12/],
    ["a field twice", message([1, 1], [1, 2]), /Event.wall_time comes twice/],
    ["another wire type", integers([1, 1]), /Event.wall_time of wire type 0/],
    ["two contents", message([3, "brain.Event:2"], [4, ""]), /says two things, the second graph_def/],
    ["a length beyond its message", Uint8Array.of(0x2a, 0x7f), /Event.summary of 127 bytes, of which 0/],
    ["a field that leaves its message", Uint8Array.of(0x2a, 0x02, 0x0a, 0x05, 0, 0, 0, 0, 0), /of 5 bytes, of which 0/],
    ["two values", eventWith(message([4, ""], [5, ""])), /two values, the second histo/],
    ["a tag with a line break", eventWith(message([1, "a\nb"])), /tag holds control characters/],
    ["a tag that is not UTF-8", eventWith(message([1, Uint8Array.of(0xff)])), /tag is not UTF-8/],
    ["a negative width", eventWith(message([4, integers([2, -1])])), /an image's width of -1/],
    ["limits without counts", histogram([1, 2], [1]), /2 limits and 1 counts/],
    ["limits that fall", histogram([2, 1], [1, 1]), /limits do not ascend/],
    ["a count that is no number", histogram([1], [NaN]), /a count below 0 or not finite/],
    ["half a packed double", eventWith(message([5, message([6, "1234"])])), /numbers of 8 bytes in 4 bytes/],
    ["a step beyond what is exact", integers([2, 2 ** 60]), /step of 11529215046068/],
    ["a summary of millions of nothings", message([5, Buffer.alloc(2 * 70_000, "\x0a\0", "latin1")]), /more than 65536 times value/],
  ]; // prettier-ignore
  for (const [name, bytes, message] of refusals) {
    test(`with ${name} are refused`, () => {
      assert.throws(
        () => decodeEvent(bytes, "file#3"),
        (error) =>
          error instanceof DataError && message.test(error.message) && error.message.startsWith("file#3"),
      );
    });
  }

  test("of other things are passed over by name", () => {
    assert.deepEqual(decodeEvent(message([4, "graph"], [10, "x"]), "test").content, {
      kind: "other",
      what: "graph_def",
    });
    const audio = eventWith(message([1, "sound"], [6, "x"]));
    assert.deepEqual(valueIn(audio), { tag: "sound", kind: "other", what: "audio" });
  });

  test("keep names that JavaScript gives a meaning as tags", () => {
    const event = {
      wallTime: 0,
      step: 1,
      content: { kind: "summary", values: [scalar("__proto__", 1)] },
    } as const;
    assert.deepEqual(decodeEvent(encodeEvent(event), "test"), event);
  });
});

/** Typed arrays and Buffers as arrays, since only their numbers count here. */
function plain(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_, part: unknown) =>
      ArrayBuffer.isView(part) ? Array.from(part as Uint8Array) : part,
    ),
  );
}

/** As expected.json has it. */
function asExpected(value: SummaryValue): Record<string, unknown> {
  const { tag } = value;
  switch (value.kind) {
    case "scalar":
      return { tag, kind: "simple_value", value: value.value };
    case "histogram": {
      const { min, max, num, sum, sumSquares, limits, counts } = value.histogram;
      const numbers = { min, max, num, sum, sum_squares: sumSquares };
      return { tag, kind: "histo", ...numbers, bucket_limit: Array.from(limits), bucket: Array.from(counts) };
    }
    case "image": {
      const { height, width, colorspace, encoded } = value.image;
      const [bytes = new Uint8Array(0)] = encoded;
      const sha256 = createHash("sha256").update(bytes).digest("hex");
      return { tag, kind: "image", height, width, colorspace, bytes: bytes.length, sha256 };
    }
    case "other":
      return { tag, kind: value.what };
  }
}
