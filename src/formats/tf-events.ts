/**
 * TensorBoard's event files: TFRecords of Event messages, written as a run goes and read back.
 *
 * TensorBoard takes every file of a folder whose name holds "tfevents", in the order of the names. After a START
 * of a session at step s it forgets what earlier files say of s and later: so a run that was killed and goes on from
 * a checkpoint shows each step once.
 *
 * Read strictly: a field that no version of TensorFlow has, one that comes twice or with another wire type is
 * refused. Lengths are checked against the message, so what is read is never larger than the file.
 *
 * Wall times are in seconds since 1970. Steps count updates.
 *
 * Sources: tensorflow/core/util/event.proto; tensorflow/core/framework/{summary,tensor}.proto;
 * tensorboard/backend/event_processing/event_accumulator.py, `_CheckForRestartAndMaybePurge`.
 */

import { type FileHandle, open, readdir } from "node:fs/promises";
import { join } from "node:path";

import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

import { errorCode, makeFolder } from "../core/durable.js";
import { DataError } from "../core/error.js";
import type { Histogram } from "./tf-histogram.js";
import { frameRecord, RecordReader } from "./tfrecord.js";

/** A picture, or several under one tag. */
export interface ImageSummary {
  /** Pixels. */
  readonly height: number;
  readonly width: number;
  /** Channels: 1 gray, 3 RGB, 4 RGBA; null where the file does not tell. */
  readonly colorspace: number | null;
  /** PNG files as a rule. */
  readonly encoded: readonly Uint8Array[];
}

/** One tagged value. */
export type SummaryValue =
  | { readonly tag: string; readonly kind: "scalar"; readonly value: number }
  | { readonly tag: string; readonly kind: "histogram"; readonly histogram: Histogram }
  | { readonly tag: string; readonly kind: "image"; readonly image: ImageSummary }
  /** Audio, text, and tensors of other plugins; never written. */
  | { readonly tag: string; readonly kind: "other"; readonly what: string };

/** What an event says. */
export type EventContent =
  | { readonly kind: "version"; readonly version: string }
  | { readonly kind: "summary"; readonly values: readonly SummaryValue[] }
  | { readonly kind: "session"; readonly status: number }
  /** Graphs, log messages, metadata; never written. */
  | { readonly kind: "other"; readonly what: string };

export interface TfEvent {
  readonly wallTime: number;
  readonly step: number;
  readonly content: EventContent;
}

/** SessionLog.SessionStatus: what lies at this step or later in earlier files is no longer true. */
export const SESSION_START = 1;

/** The only version that TensorBoard purges by session. */
const FILE_VERSION = "brain.Event:2";

/** Appends events to a new file of a folder; each call of `add` leaves a whole file behind. */
export class EventWriter {
  readonly path: string;
  readonly #file: FileHandle;
  /** Bytes of whole records. */
  #end = 0;

  private constructor(path: string, file: FileHandle) {
    this.path = path;
    this.#file = file;
  }

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
    return this.#file.close();
  }

  async #append(events: readonly TfEvent[]): Promise<void> {
    const bytes = Buffer.concat(events.map((event) => frameRecord(encodeEvent(event))));
    try {
      for (let done = 0; done < bytes.length;) {
        const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, this.#end + done);
        if (bytesWritten === 0) throw new Error("nothing more could be written; is the disk full?");
        done += bytesWritten;
      }
    } catch (error) {
      // Half a record would hide all that follow it.
      await this.#file.truncate(this.#end).catch(() => undefined);
      throw error;
    }
    this.#end += bytes.length;
  }
}

/**
 * The events of a file, in order.
 *
 * @throws DataError naming the record and byte at which it is damaged; what came before it has been given.
 */
export async function* readEvents(path: string): AsyncGenerator<TfEvent> {
  const reader = await RecordReader.open(path);
  try {
    yield* eventsOf(reader, path);
  } finally {
    await reader.close();
  }
}

/** The same of records from anywhere. Pictures are copies. */
export async function* eventsOf(records: RecordReader, path: string): AsyncGenerator<TfEvent> {
  const plugins = new Map<string, string>();
  for await (const { record, payload } of records) {
    // The record's view holds only until the next one.
    yield decodeEvent(payload.slice(), `${path}#${record}`, plugins);
  }
}

/**
 * One event.
 *
 * @param plugins which plugin a tag's tensors are for; files tell it at a tag's first value only, so it is kept here.
 * @throws DataError
 */
export function decodeEvent(bytes: Uint8Array, where: string, plugins = new Map<string, string>()): TfEvent {
  return new EventReader(bytes, where, plugins).read();
}

export function encodeEvent({ wallTime, step, content }: TfEvent): Uint8Array {
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
    case "other":
      throw new TypeError(`${content.what} is not written`);
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
      const [only] = encoded;
      if (colorspace === null || only === undefined || encoded.length > 1) {
        throw new TypeError(
          `${value.tag}: one picture with its colorspace is written, not ${encoded.length}`,
        );
      }
      open(4).fork();
      [height, width, colorspace].forEach((size, i) => writer.tag(i + 1, WireType.Varint).int32(size));
      open(4).bytes(only);
      writer.join();
      break;
    }
    case "histogram": {
      const { min, max, num, sum, sumSquares, limits, counts } = value.histogram;
      open(5).fork();
      [min, max, num, sum ?? 0, sumSquares ?? 0].forEach((number, i) =>
        writer.tag(i + 1, WireType.Bit64).double(number),
      );
      open(6).bytes(bytesOf(limits));
      open(7).bytes(bytesOf(counts));
      writer.join();
      break;
    }
    case "other":
      throw new TypeError(`${value.tag}: ${value.what} is not written`);
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

/** A field: its name in the .proto file, how it lies, whether it may come again. */
type Field = readonly [name: string, wire: WireType, times?: "repeated"];
type Fields = ReadonlyMap<number, Field>;

const { Varint, Bit64, LengthDelimited, Bit32 } = WireType;

const EVENT: Fields = new Map<number, Field>([
  [1, ["wall_time", Bit64]],
  [2, ["step", Varint]],
  [3, ["file_version", LengthDelimited]],
  [4, ["graph_def", LengthDelimited]],
  [5, ["summary", LengthDelimited]],
  [6, ["log_message", LengthDelimited]],
  [7, ["session_log", LengthDelimited]],
  [8, ["tagged_run_metadata", LengthDelimited]],
  [9, ["meta_graph_def", LengthDelimited]],
  [10, ["source_metadata", LengthDelimited]],
]);
const SESSION: Fields = new Map<number, Field>([
  [1, ["status", Varint]],
  [2, ["checkpoint_path", LengthDelimited]],
  [3, ["msg", LengthDelimited]],
]);
const SUMMARY: Fields = new Map<number, Field>([[1, ["value", LengthDelimited, "repeated"]]]);
const VALUE: Fields = new Map<number, Field>([
  [1, ["tag", LengthDelimited]],
  [2, ["simple_value", Bit32]],
  [3, ["obsolete_old_style_histogram", LengthDelimited]],
  [4, ["image", LengthDelimited]],
  [5, ["histo", LengthDelimited]],
  [6, ["audio", LengthDelimited]],
  [7, ["node_name", LengthDelimited]],
  [8, ["tensor", LengthDelimited]],
  [9, ["metadata", LengthDelimited]],
]);
const IMAGE: Fields = new Map<number, Field>([
  [1, ["height", Varint]],
  [2, ["width", Varint]],
  [3, ["colorspace", Varint]],
  [4, ["encoded_image_string", LengthDelimited]],
]);
const HISTOGRAM: Fields = new Map<number, Field>([
  [1, ["min", Bit64]],
  [2, ["max", Bit64]],
  [3, ["num", Bit64]],
  [4, ["sum", Bit64]],
  [5, ["sum_squares", Bit64]],
  [6, ["bucket_limit", Bit64, "repeated"]],
  [7, ["bucket", Bit64, "repeated"]],
]);
const METADATA: Fields = new Map<number, Field>([
  [1, ["plugin_data", LengthDelimited]],
  [2, ["display_name", LengthDelimited]],
  [3, ["summary_description", LengthDelimited]],
  [4, ["data_class", Varint]],
]);
const PLUGIN: Fields = new Map<number, Field>([
  [1, ["plugin_name", LengthDelimited]],
  [2, ["content", LengthDelimited]],
]);
const TENSOR: Fields = new Map<number, Field>([
  [1, ["dtype", Varint]],
  [2, ["tensor_shape", LengthDelimited]],
  [3, ["version_number", Varint]],
  [4, ["tensor_content", LengthDelimited]],
  [5, ["float_val", Bit32, "repeated"]],
  [6, ["double_val", Bit64, "repeated"]],
  [7, ["int_val", Varint, "repeated"]],
  [8, ["string_val", LengthDelimited, "repeated"]],
  [9, ["scomplex_val", Bit32, "repeated"]],
  [10, ["int64_val", Varint, "repeated"]],
  [11, ["bool_val", Varint, "repeated"]],
  [12, ["dcomplex_val", Bit64, "repeated"]],
  [13, ["half_val", Varint, "repeated"]],
  [14, ["resource_handle_val", LengthDelimited, "repeated"]],
  [15, ["variant_val", LengthDelimited, "repeated"]],
  [16, ["uint32_val", Varint, "repeated"]],
  [17, ["uint64_val", Varint, "repeated"]],
  [18, ["float8_val", LengthDelimited]],
]);
const SHAPE: Fields = new Map<number, Field>([
  [2, ["dim", LengthDelimited, "repeated"]],
  [3, ["unknown_rank", Varint]],
]);
const DIM: Fields = new Map<number, Field>([
  [1, ["size", Varint]],
  [2, ["name", LengthDelimited]],
]);

/** tensorflow/core/framework/types.proto */
const DT_FLOAT = 1;
const DT_DOUBLE = 2;
const DT_STRING = 7;

/** A summary of the largest network here holds some 350 values. */
const MAX_ITEMS = 2 ** 16;

/** Longer tags and plugin names only come from damage. */
const MAX_NAME_BYTES = 4096;

interface Tensor {
  dtype: number;
  shape: number[];
  /** Of floats and doubles; undefined for other types. */
  numbers: number[] | undefined;
  strings: Uint8Array[];
}

/** One walk over a message, from outside in; nested messages are ranges of the same bytes. */
class EventReader {
  readonly #reader: BinaryReader;
  readonly #view: DataView;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly where: string,
    private readonly plugins: Map<string, string>,
  ) {
    this.#reader = new BinaryReader(bytes);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  read(): TfEvent {
    try {
      return this.#event();
    } catch (error) {
      // BinaryReader throws plain errors for bytes that are no protobuf; anything else is a mistake of ours.
      if (error instanceof RangeError || (error instanceof Error && error.constructor === Error)) {
        throw this.#error(`no whole protobuf message: ${error.message}`);
      }
      throw error;
    }
  }

  #event(): TfEvent {
    let wallTime = 0;
    let step = 0;
    let content: EventContent | undefined;
    this.#fields(this.bytes.length, "Event", EVENT, (name, end) => {
      if (name === "wall_time") wallTime = this.#reader.double();
      else if (name === "step") step = this.#integer("step");
      else if (name === "source_metadata") this.#reader.pos = end;
      else if (content !== undefined) throw this.#error(`the event says two things, the second ${name}`);
      else content = this.#content(name, end);
    });
    return { wallTime, step, content: content ?? { kind: "other", what: "nothing" } };
  }

  #content(name: string, end: number): EventContent {
    switch (name) {
      case "file_version":
        return { kind: "version", version: this.#text(end, name) };
      case "summary": {
        const values: SummaryValue[] = [];
        this.#fields(end, "Summary", SUMMARY, (name, valueEnd) =>
          this.#push(values, this.#value(valueEnd), name),
        );
        return { kind: "summary", values };
      }
      case "session_log": {
        let status = 0;
        this.#fields(end, "SessionLog", SESSION, (field, fieldEnd) => {
          if (field === "status") status = this.#integer(field);
          else this.#reader.pos = fieldEnd;
        });
        return { kind: "session", status };
      }
      default:
        this.#reader.pos = end;
        return { kind: "other", what: name };
    }
  }

  #value(end: number): SummaryValue {
    let tag = "";
    let plugin: string | undefined;
    let found: ((tag: string) => SummaryValue) | undefined;
    let tensor: Tensor | undefined;
    this.#fields(end, "Summary.Value", VALUE, (name, fieldEnd) => {
      if (name === "tag") tag = this.#text(fieldEnd, name);
      else if (name === "node_name") this.#reader.pos = fieldEnd;
      else if (name === "metadata") plugin = this.#plugin(fieldEnd);
      else if (found !== undefined || tensor !== undefined)
        throw this.#error(`two values, the second ${name}`);
      else if (name === "tensor") tensor = this.#tensor(fieldEnd);
      else found = this.#plain(name, fieldEnd);
    });
    if (plugin !== undefined) this.plugins.set(tag, plugin);
    if (tensor !== undefined) return this.#fromTensor(tag, this.plugins.get(tag) ?? "", tensor);
    return found?.(tag) ?? { tag, kind: "other", what: "nothing" };
  }

  /** A value that is no tensor; its tag may still come. */
  #plain(name: string, end: number): (tag: string) => SummaryValue {
    switch (name) {
      case "simple_value": {
        const value = this.#reader.float();
        return (tag) => ({ tag, kind: "scalar", value });
      }
      case "image": {
        const image = this.#image(end);
        return (tag) => ({ tag, kind: "image", image });
      }
      case "histo": {
        const histogram = this.#histogram(end);
        return (tag) => ({ tag, kind: "histogram", histogram });
      }
      default:
        this.#reader.pos = end;
        return (tag) => ({ tag, kind: "other", what: name });
    }
  }

  #image(end: number): ImageSummary {
    const sizes = { height: 0, width: 0, colorspace: 0 };
    let encoded = this.bytes.subarray(0, 0);
    this.#fields(end, "Summary.Image", IMAGE, (name, fieldEnd) => {
      if (name === "encoded_image_string") encoded = this.#raw(fieldEnd);
      else sizes[name as keyof typeof sizes] = this.#size(name);
    });
    return { ...sizes, encoded: [encoded] };
  }

  #histogram(end: number): Histogram {
    const numbers = { min: 0, max: 0, num: 0, sum: 0, sum_squares: 0 };
    const limits: number[] = [];
    const counts: number[] = [];
    this.#fields(end, "HistogramProto", HISTOGRAM, (name, fieldEnd) => {
      if (name === "bucket_limit") this.#numbers(this.#raw(fieldEnd), 8, limits);
      else if (name === "bucket") this.#numbers(this.#raw(fieldEnd), 8, counts);
      else numbers[name as keyof typeof numbers] = this.#reader.double();
    });
    const { sum_squares: sumSquares, ...rest } = numbers;
    return this.#checked({
      ...rest,
      sumSquares,
      limits: Float64Array.from(limits),
      counts: Float64Array.from(counts),
    });
  }

  #checked(histogram: Histogram): Histogram {
    const { limits, counts } = histogram;
    if (limits.length !== counts.length) {
      throw this.#error(`a histogram of ${limits.length} limits and ${counts.length} counts`);
    }
    // NaN is neither at least nor at most anything.
    if (!limits.every((limit, i) => i === 0 || limit >= (limits[i - 1] as number))) {
      throw this.#error("a histogram whose limits do not ascend");
    }
    if (!counts.every((count) => count >= 0 && count < Infinity)) {
      throw this.#error("a histogram with a count below 0 or not finite");
    }
    return histogram;
  }

  #plugin(end: number): string | undefined {
    let plugin: string | undefined;
    this.#fields(end, "SummaryMetadata", METADATA, (name, fieldEnd) => {
      if (name === "data_class") this.#integer(name);
      else if (name !== "plugin_data") this.#reader.pos = fieldEnd;
      else {
        this.#fields(fieldEnd, "PluginData", PLUGIN, (field, pluginEnd) => {
          if (field === "plugin_name") plugin = this.#text(pluginEnd, field);
          else this.#reader.pos = pluginEnd;
        });
      }
    });
    return plugin;
  }

  #tensor(end: number): Tensor {
    const tensor: Tensor = { dtype: 0, shape: [], numbers: undefined, strings: [] };
    let content: Uint8Array | undefined;
    const numbers: number[] = [];
    this.#fields(end, "TensorProto", TENSOR, (name, fieldEnd, wire) => {
      if (name === "dtype") tensor.dtype = this.#integer(name);
      else if (name === "tensor_shape") tensor.shape = this.#shape(fieldEnd);
      else if (name === "tensor_content") content = this.#raw(fieldEnd);
      else if (name === "float_val") this.#numbers(this.#raw(fieldEnd), 4, numbers);
      else if (name === "double_val") this.#numbers(this.#raw(fieldEnd), 8, numbers);
      else if (name === "string_val") this.#push(tensor.strings, this.#raw(fieldEnd), name);
      else if (wire === Varint) this.#reader.int64();
      else this.#reader.pos = fieldEnd;
    });
    if (tensor.dtype === DT_FLOAT || tensor.dtype === DT_DOUBLE) {
      if (content !== undefined) this.#numbers(content, tensor.dtype === DT_FLOAT ? 4 : 8, numbers);
      tensor.numbers = numbers;
    }
    return tensor;
  }

  #shape(end: number): number[] {
    const shape: number[] = [];
    this.#fields(end, "TensorShapeProto", SHAPE, (name, fieldEnd) => {
      if (name === "unknown_rank") this.#integer(name);
      else {
        let size = 0;
        this.#fields(fieldEnd, "Dim", DIM, (field, dimEnd) => {
          if (field === "size") size = this.#integer(field);
          else this.#reader.pos = dimEnd;
        });
        shape.push(size);
      }
    });
    return shape;
  }

  /** As the plugins of TensorBoard 1.12 and later lay their values out. */
  #fromTensor(tag: string, plugin: string, { dtype, shape, numbers, strings }: Tensor): SummaryValue {
    const lies = () => `a tensor of type ${dtype} and shape [${shape.join(", ")}]`;
    if (plugin === "scalars") {
      const [value] = numbers ?? [];
      if (value === undefined || shape.length > 0 || numbers?.length !== 1)
        throw this.#error(`a scalar in ${lies()} of ${numbers?.length ?? 0} numbers`);
      return { tag, kind: "scalar", value };
    }
    if (plugin === "images") {
      const [width, height, ...encoded] = strings;
      if (dtype !== DT_STRING || shape.length !== 1 || shape[0] !== strings.length)
        throw this.#error(`images in ${lies()} of ${strings.length} strings`);
      const image = { height: this.#decimal(height), width: this.#decimal(width), colorspace: null, encoded };
      return { tag, kind: "image", image };
    }
    if (plugin === "histograms") {
      const [rows = 0, columns = 0] = shape;
      if (numbers === undefined || shape.length !== 2 || columns !== 3 || numbers.length !== rows * columns)
        throw this.#error(`a histogram in ${lies()} of ${numbers?.length ?? 0} numbers`);
      const column = (j: number) =>
        Float64Array.from({ length: rows }, (_, i) => numbers[3 * i + j] as number);
      const [limits, counts] = [column(1), column(2)];
      const num = counts.reduce((sum, count) => sum + count, 0);
      const histogram = { min: numbers[0] ?? 0, max: limits.at(-1) ?? 0, num, sum: null, sumSquares: null };
      return { tag, kind: "histogram", histogram: this.#checked({ ...histogram, limits, counts }) };
    }
    return { tag, kind: "other", what: `${lies()} of the plugin ${JSON.stringify(plugin)}` };
  }

  /** Calls `field` behind each tag up to `end`, with the byte where the field's value ends if it has a length. */
  #fields(
    end: number,
    message: string,
    known: Fields,
    field: (name: string, end: number, wire: WireType) => void,
  ): void {
    const seen = new Set<number>();
    while (this.#reader.pos < end) {
      const [number, wire] = this.#reader.tag();
      const [name, expected, times] = known.get(number) ?? [];
      if (name === undefined) throw this.#error(`${message} has an unknown field ${number}`);
      // Numbers may come one by one or packed.
      const packed = times === "repeated" && wire === LengthDelimited;
      if (wire !== expected && !packed) throw this.#error(`${message}.${name} of wire type ${wire}`);
      if (times === undefined && seen.has(number)) throw this.#error(`${message}.${name} comes twice`);
      seen.add(number);
      const fieldEnd = this.#end(wire, end, `${message}.${name}`);
      field(name, fieldEnd, wire);
      if (this.#reader.pos > end || (wire !== Varint && this.#reader.pos !== fieldEnd)) {
        throw this.#error(`${message}.${name} is longer than its place, which ends at byte ${fieldEnd}`);
      }
    }
  }

  /** Where a value ends, which lies in its message; a varint's is found by reading it. */
  #end(wire: WireType, limit: number, name: string): number {
    const start = this.#reader.pos;
    let length = { [Varint]: 0, [Bit64]: 8, [Bit32]: 4 }[wire as number];
    if (length === undefined) {
      length = this.#reader.uint32();
      // BinaryReader drops bits beyond 32, so 2^32 + 5 would read as 5.
      const size = this.#reader.pos - start;
      if (size > 5 || (size === 5 && (this.bytes[start + 4] as number) > 0x0f)) {
        throw this.#error(`${name} of 4 GiB or more`);
      }
    }
    const end = this.#reader.pos + length;
    if (end > limit) {
      throw this.#error(
        `${name} of ${length} bytes, of which ${Math.max(0, limit - this.#reader.pos)} are there`,
      );
    }
    return end;
  }

  #raw(end: number): Uint8Array {
    const raw = this.bytes.subarray(this.#reader.pos, end);
    this.#reader.pos = end;
    return raw;
  }

  #text(end: number, name: string): string {
    const raw = this.#raw(end);
    if (raw.length > MAX_NAME_BYTES) throw this.#error(`${name} of ${raw.length} bytes`);
    let text: string;
    try {
      text = utf8.decode(raw);
    } catch {
      throw this.#error(`${name} is not UTF-8`);
    }
    // Such a name would otherwise be printed in lists of the tags found.
    if (/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(text)) throw this.#error(`${name} holds control characters`);
    return text;
  }

  #integer(name: string): number {
    const value = Number(this.#reader.int64());
    if (!Number.isSafeInteger(value)) throw this.#error(`${name} of ${value}`);
    return value;
  }

  /** Of a picture, in pixels or channels. */
  #size(name: string): number {
    const value = this.#integer(name);
    if (value < 0 || value >= 2 ** 31) throw this.#error(`an image's ${name} of ${value}`);
    return value;
  }

  #decimal(digits: Uint8Array | undefined): number {
    const text = Buffer.from(digits?.subarray(0, 10) ?? []).toString("latin1");
    if (!/^\d{1,9}$/.test(text)) throw this.#error("an image whose width or height is no number");
    return Number(text);
  }

  /** Adds the floats or doubles of a range of the message. */
  #numbers(raw: Uint8Array, size: 4 | 8, to: number[]): void {
    if (raw.length % size !== 0) throw this.#error(`numbers of ${size} bytes in ${raw.length} bytes`);
    const start = raw.byteOffset - this.bytes.byteOffset;
    for (let at = start; at < start + raw.length; at += size) {
      to.push(size === 4 ? this.#view.getFloat32(at, true) : this.#view.getFloat64(at, true));
    }
  }

  /** Objects take far more than the two bytes that an empty one has in the file, so their number has a limit. */
  #push<T>(list: T[], item: T, name: string): void {
    if (list.length === MAX_ITEMS) throw this.#error(`more than ${MAX_ITEMS} times ${name}`);
    list.push(item);
  }

  #error(what: string): DataError {
    const at = Math.min(this.#reader.pos, this.bytes.length);
    return new DataError({ where: this.where, what: `no TensorBoard event, at byte ${at} of it: ${what}` });
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
