/**
 * Reads TensorBoard's event files as far as this project writes them, so that tests can say what stands in one; and what
 * TensorFlow 1 wrote beside that, which it passes over. The numbers of the fields stand here as the .proto files have them.
 *
 * Sources: tensorflow/core/util/event.proto; tensorflow/core/framework/summary.proto.
 */

import { WireType } from "@bufbuild/protobuf/wire";

import { DataError } from "../../src/core/error.js";
import { type Fields, ProtobufWalker } from "../../src/formats/protobuf.js";
import type { EventContent, ImageSummary, SummaryValue, TfEvent } from "../../src/formats/tf-events.js";
import type { Histogram } from "../../src/formats/tf-histogram.js";
import { RecordReader } from "../../src/formats/tfrecord.js";

/** SessionLog.SessionStatus. */
export const SESSION_START = 1;

/**
 * The events of a file, in order.
 *
 * @throws DataError naming the record and byte at which it is damaged; what came before it has been given.
 */
export async function* readEvents(path: string): AsyncGenerator<TfEvent> {
  const reader = await RecordReader.open(path);
  try {
    // The record's view holds only until the next one.
    for await (const { record, payload } of reader) yield decodeEvent(payload.slice(), `${path}#${record}`);
  } finally {
    await reader.close();
  }
}

function decodeEvent(bytes: Uint8Array, where: string): TfEvent {
  const walker = new ProtobufWalker(
    bytes,
    (what, at) => new DataError({ where, what: `no event, at byte ${at} of it: ${what}` }),
  );
  let [wallTime, step] = [0, 0];
  let content: EventContent | undefined;
  const say = (what: () => EventContent) => (): void => {
    if (content !== undefined) walker.fail("the event says two things");
    content = what();
  };
  walker.whole("the event", {
    1: () => (wallTime = walker.double("a time")),
    2: () => (step = walker.count("a step")),
    3: say(() => ({ kind: "version", version: walker.text("a version") })),
    5: say(() => ({ kind: "summary", values: summary(walker) })),
    7: say(() => ({ kind: "session", status: session(walker) })),
    10: () => walker.skip("who wrote it"),
  });
  return content === undefined ? walker.fail("an event that says nothing") : { wallTime, step, content };
}

function session(walker: ProtobufWalker): number {
  let status = 0;
  walker.message("a session", { 1: () => (status = walker.count("a status")) });
  return status;
}

function summary(walker: ProtobufWalker): SummaryValue[] {
  const values: SummaryValue[] = [];
  const value = (): void => {
    let tag = "";
    let found: ((tag: string) => SummaryValue) | undefined;
    const give = (read: () => (tag: string) => SummaryValue) => (): void => {
      if (found !== undefined) walker.fail("two values under one tag");
      found = read();
    };
    walker.message("a value", {
      1: () => (tag = walker.text("a tag")),
      2: give(() => {
        const number = walker.float("a number");
        return (tag) => ({ tag, kind: "scalar", value: number });
      }),
      4: give(() => {
        const picture = image(walker);
        return (tag) => ({ tag, kind: "image", image: picture });
      }),
      5: give(() => {
        const counted = histogram(walker);
        return (tag) => ({ tag, kind: "histogram", histogram: counted });
      }),
      7: () => walker.skip("a node's name"),
      9: () => walker.skip("metadata"),
    });
    if (found === undefined) return walker.fail("a tag without a value");
    values.push(found(tag));
  };
  walker.message("a summary", { 1: value }, [1]);
  return values;
}

function image(walker: ProtobufWalker): ImageSummary {
  const sizes = { height: 0, width: 0, colorspace: 0 };
  let encoded: Uint8Array = new Uint8Array(0);
  walker.message("an image", {
    1: () => (sizes.height = walker.count("a height")),
    2: () => (sizes.width = walker.count("a width")),
    3: () => (sizes.colorspace = walker.count("channels")),
    4: () => (encoded = walker.bytesOf("a picture")),
  });
  return { ...sizes, encoded };
}

function histogram(walker: ProtobufWalker): Histogram {
  const numbers = { min: 0, max: 0, num: 0, sum: 0, sumSquares: 0 };
  const [limits, counts]: [number[], number[]] = [[], []];
  const list = (into: number[]) => (): void =>
    walker.packed("numbers", WireType.Bit64, () => into.push(walker.double("a number")));
  const fields: Fields = {
    1: () => (numbers.min = walker.double("a number")),
    2: () => (numbers.max = walker.double("a number")),
    3: () => (numbers.num = walker.double("a number")),
    4: () => (numbers.sum = walker.double("a number")),
    5: () => (numbers.sumSquares = walker.double("a number")),
    6: list(limits),
    7: list(counts),
  };
  walker.message("a histogram", fields, [6, 7]);
  if (limits.length !== counts.length) walker.fail(`${limits.length} limits and ${counts.length} counts`);
  return { ...numbers, limits: Float64Array.from(limits), counts: Float64Array.from(counts) };
}
