/**
 * TensorBoard's event files: TFRecords of Event messages, written as a run goes.
 *
 * TensorBoard takes every file of a folder whose name holds "tfevents", in the order of the names. After a START
 * of a session at step s it forgets what earlier files say of s and later: so a run that was killed and goes on from
 * a checkpoint shows each step once.
 *
 * Wall times are in seconds since 1970. Steps count updates.
 *
 * Sources: tensorflow/core/util/event.proto; tensorflow/core/framework/summary.proto;
 * tensorboard/backend/event_processing/event_accumulator.py, `_CheckForRestartAndMaybePurge`.
 */

import { type FileHandle, open, readdir } from "node:fs/promises";
import { join } from "node:path";

import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

import { makeFolder } from "../core/durable.js";
import { errorCode } from "../core/error.js";
import type { Histogram } from "./tf-histogram.js";
import { frameRecord } from "./tfrecord.js";

export interface ImageSummary {
  /** Pixels. */
  readonly height: number;
  readonly width: number;
  /** Channels: 1 gray, 3 RGB, 4 RGBA. */
  readonly colorspace: number;
  /** A PNG file. */
  readonly encoded: Uint8Array;
}

/** One tagged value. */
export type SummaryValue =
  | { readonly tag: string; readonly kind: "scalar"; readonly value: number }
  | { readonly tag: string; readonly kind: "histogram"; readonly histogram: Histogram }
  | { readonly tag: string; readonly kind: "image"; readonly image: ImageSummary };

/** What an event says. */
export type EventContent =
  | { readonly kind: "version"; readonly version: string }
  | { readonly kind: "summary"; readonly values: readonly SummaryValue[] }
  | { readonly kind: "session"; readonly status: number };

export interface TfEvent {
  readonly wallTime: number;
  readonly step: number;
  readonly content: EventContent;
}

/** SessionLog.SessionStatus: what lies at this step or later in earlier files is no longer true. */
const SESSION_START = 1;

/** The only version that TensorBoard purges by session. */
const FILE_VERSION = "brain.Event:2";

/** Appends events to a new file of a folder; each call of `add` leaves a whole file behind. */
export class EventWriter {
  /** Bytes of whole records. */
  #end = 0;

  private constructor(
    readonly path: string,
    private readonly file: FileHandle,
  ) {}

  /**
   * Begins a file in `folder`, named to come after those already there, for the steps from `firstStep` on.
   *
   * @param now seconds since 1970
   */
  static async create(folder: string, firstStep: number, now = Date.now() / 1000): Promise<EventWriter> {
    await makeFolder(folder);
    for (let seconds = Math.max(Math.floor(now), 1 + (await lastSecond(folder))); ; seconds++) {
      // TensorFlow puts the host's name last; ours stays out of files that are handed on.
      const path = join(folder, `events.out.tfevents.${seconds}.riffle`);
      let file: FileHandle;
      try {
        file = await open(path, "wx");
      } catch (error) {
        if (errorCode(error) === "EEXIST") continue;
        throw error;
      }
      const writer = new EventWriter(path, file);
      try {
        await writer.#append([
          { wallTime: now, step: 0, content: { kind: "version", version: FILE_VERSION } },
          { wallTime: now, step: firstStep, content: { kind: "session", status: SESSION_START } },
        ]);
      } catch (error) {
        await file.close();
        throw error;
      }
      return writer;
    }
  }

  /** Writes one event; when the disk refuses, the file ends with the last whole one. Calls must not overlap. */
  add(step: number, values: readonly SummaryValue[], now = Date.now() / 1000): Promise<void> {
    return this.#append([{ wallTime: now, step, content: { kind: "summary", values } }]);
  }

  close(): Promise<void> {
    return this.file.close();
  }

  async #append(events: readonly TfEvent[]): Promise<void> {
    const bytes = Buffer.concat(events.map((event) => frameRecord(encodeEvent(event))));
    try {
      for (let done = 0; done < bytes.length;) {
        const { bytesWritten } = await this.file.write(bytes, done, bytes.length - done, this.#end + done);
        if (bytesWritten === 0) throw new Error("nothing more could be written; is the disk full?");
        done += bytesWritten;
      }
    } catch (error) {
      // Half a record would hide all that follow it.
      await this.file.truncate(this.#end).catch(() => undefined);
      throw error;
    }
    this.#end += bytes.length;
  }
}

function encodeEvent({ wallTime, step, content }: TfEvent): Uint8Array {
  const writer = new BinaryWriter();
  writer.tag(1, WireType.Bit64).double(wallTime);
  writer.tag(2, WireType.Varint).int64(step);
  switch (content.kind) {
    case "version":
      return writer.tag(3, WireType.LengthDelimited).string(content.version).finish();
    case "summary":
      writer.tag(5, WireType.LengthDelimited).fork();
      for (const value of content.values) encodeValue(writer, value);
      return writer.join().finish();
    case "session":
      writer.tag(7, WireType.LengthDelimited).fork();
      return writer.tag(1, WireType.Varint).int32(content.status).join().finish();
  }
}

function encodeValue(writer: BinaryWriter, value: SummaryValue): void {
  const open = (field: number) => writer.tag(field, WireType.LengthDelimited);
  open(1).fork();
  open(1).string(value.tag);
  switch (value.kind) {
    case "scalar":
      writer.tag(2, WireType.Bit32).float(value.value);
      break;
    case "image": {
      const { height, width, colorspace, encoded } = value.image;
      open(4).fork();
      [height, width, colorspace].forEach((size, i) => writer.tag(i + 1, WireType.Varint).int32(size));
      open(4).bytes(encoded);
      writer.join();
      break;
    }
    case "histogram": {
      const { min, max, num, sum, sumSquares, limits, counts } = value.histogram;
      open(5).fork();
      [min, max, num, sum, sumSquares].forEach((number, i) =>
        writer.tag(i + 1, WireType.Bit64).double(number),
      );
      open(6).bytes(bytesOf(limits));
      open(7).bytes(bytesOf(counts));
      writer.join();
      break;
    }
  }
  writer.join();
}

/** The largest time in the names of a folder's event files; 0 without any. */
async function lastSecond(folder: string): Promise<number> {
  let last = 0;
  for (const name of await readdir(folder)) {
    const seconds = Number(/^events\.out\.tfevents\.(\d{1,10})\./.exec(name)?.[1] ?? 0);
    last = Math.max(last, seconds);
  }
  return last;
}

function bytesOf({ buffer, byteOffset, byteLength }: Float64Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
