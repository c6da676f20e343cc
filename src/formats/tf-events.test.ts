import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, suite, test } from "node:test";

import { readEvents, SESSION_START } from "../../test/support/events-reader.js";
import { needs, sharedPath } from "../../test/support/shared.js";
import { EventWriter, type SummaryValue, type TfEvent } from "./tf-events.js";
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
    const image = { height: 2, width: 3, colorspace: 3, encoded: png };
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

  test("keep names that JavaScript gives a meaning as tags", async () => {
    const writer = await EventWriter.create(folder, 1, 4000);
    await writer.add(1, [scalar("__proto__", 1)], 1);
    await writer.close();
    const { content } = (await eventsOf(writer.path))[2] as TfEvent;
    assert.deepEqual(content, { kind: "summary", values: [scalar("__proto__", 1)] });
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
      const sha256 = createHash("sha256").update(encoded).digest("hex");
      return { tag, kind: "image", height, width, colorspace, bytes: encoded.length, sha256 };
    }
  }
}
