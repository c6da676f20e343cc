/**
 * The thread that reads pictures and builds their records, so that all cores work; record-builders.ts directs it.
 *
 * Files are read synchronously: a thread of its own may wait, and a promise per picture would cost as much as the
 * reading. The records of a portion come back as one block of memory, handed over, not copied.
 */

import { parentPort, workerData } from "node:worker_threads";

import { asRiffleError, type Problem, RiffleError } from "../../core/error.js";
import { frameRecordInto, RECORD_OVERHEAD } from "../../formats/tfrecord.js";
import { PictureReader } from "../imagenet/archives.js";
import {
  type BuildSettings,
  type Built,
  buildPlainRecord,
  buildRecord,
  type PictureRow,
} from "./build-record.js";

export type WorkerSettings = BuildSettings;

export type WorkerRequest =
  | { readonly id: number; readonly build: readonly PictureRow[] }
  | { readonly id: number; readonly measure: readonly string[] };

export type WorkerReply =
  | { readonly id: number; readonly built: BuiltPortion }
  | { readonly id: number; readonly bytes: number }
  | { readonly id: number; readonly problem: Problem; readonly exitCode: number }
  | { readonly id: number; readonly bug: string };

/** Rows in their order. */
export interface BuiltPortion {
  /** The records one behind another. */
  readonly records: Uint8Array;
  /** Bytes of each row's record; 0 for a row that was skipped. */
  readonly lengths: Uint32Array;
  /** Place in the portion and reason. */
  readonly skipped: readonly (readonly [place: number, reason: string])[];
  /** Places of grayscale pictures made colour. */
  readonly reencoded: readonly number[];
}

const settings = workerData as WorkerSettings;
const pictures = new PictureReader();
const port = parentPort;
if (port === null) throw new Error("record-worker.ts runs in a worker thread only");

port.on("message", (request: WorkerRequest) => {
  answer(request).then(
    (reply) => {
      if ("built" in reply) port.postMessage(reply, [reply.built.records.buffer as ArrayBuffer]);
      else port.postMessage(reply);
    },
    (error: unknown) => {
      const { id } = request;
      const failure = asRiffleError(error);
      if (failure instanceof RiffleError)
        port.postMessage({ id, problem: failure.problem, exitCode: failure.exitCode });
      else
        port.postMessage({
          id,
          bug: error instanceof Error ? (error.stack ?? error.message) : String(error),
        });
    },
  );
});

async function answer(request: WorkerRequest): Promise<WorkerReply> {
  return "build" in request
    ? { id: request.id, built: await buildPortion(request.build) }
    : { id: request.id, bytes: measure(request.measure) };
}

async function buildPortion(rows: readonly PictureRow[]): Promise<BuiltPortion> {
  const built: Built[] = [];
  const later: Promise<void>[] = [];
  rows.forEach((row, place) => {
    const bytes = pictures.read(row.path);
    const plain = settings.verify ? undefined : buildPlainRecord(bytes, row, settings.formats);
    if (plain !== undefined) built[place] = plain;
    else later.push(buildRecord(bytes, row, settings).then((one) => void (built[place] = one)));
  });
  await Promise.all(later);

  const lengths = Uint32Array.from(built, (one) => ("example" in one ? recordLength(one.example) : 0));
  const records = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0));
  const skipped: [number, string][] = [];
  const reencoded: number[] = [];
  let at = 0;
  built.forEach((one, place) => {
    if ("skip" in one) {
      skipped.push([place, one.skip]);
      return;
    }
    at = frameRecordInto(records, at, one.example);
    if (one.reencoded) reencoded.push(place);
  });
  return { records, lengths, skipped, reencoded };
}

function recordLength(example: readonly Uint8Array[]): number {
  return example.reduce((sum, piece) => sum + piece.length, RECORD_OVERHEAD);
}

/** Bytes of the pictures. One that is not there is better named now than after hours. */
function measure(paths: readonly string[]): number {
  return paths.reduce((bytes, path) => bytes + pictures.size(path), 0);
}
