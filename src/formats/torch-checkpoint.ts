/**
 * Reads what `torch.save` writes, without Python and without running anything: tensors by name, so that the weights
 * of a published network can be used here.
 *
 *     zip (since 1.6)   NAME/data.pkl, one pickle; NAME/data/K, the bytes of storage K; NAME/version, NAME/byteorder
 *     legacy            five pickles (magic, protocol, system, object, storage keys), then each storage: length, bytes
 *     unzipped          the folder that unpacking a zip makes: data.pkl, data/K, version
 *     tar (before 0.2)  recognised and refused
 *
 * Here stands how each form keeps storages; torch-tensors.ts finds the tensors, which are views of them. Each storage is checked
 * against the file before anything is allocated. Names that only run something (code-names.ts) are refused, as are TorchScript
 * archives and compressed members (PyTorch stores); other unknown names stay inert.
 *
 * Offsets and lengths are in bytes.
 *
 * Source: pytorch/pytorch, torch/serialization.py and caffe2/serialize/inline_container.cc.
 */

import { FormatError } from "../core/error.js";
import { readPickle, type PickleValue } from "./pickle.js";
import { StoredZip } from "./stored-zip.js";
import {
  collect,
  dtypes,
  readTorchPickle,
  StorageReferences,
  type Storage,
  type Storages,
  type TorchCheckpoint,
} from "./torch-tensors.js";
import { latin1Of } from "./utf8.js";

const LEGACY_MAGIC = 0x1950a86a20f9469cfc6cn;
const LEGACY_TEXT = `L${LEGACY_MAGIC}L\n.`;
const LEGACY_PROTOCOL = 1001;
export const PICKLE = "data.pkl";

/** Whether a file that begins so is one of {@link parseTorchCheckpoint}'s; 265 bytes tell. */
export function isTorchCheckpoint(head: Uint8Array): boolean {
  return isZip(head) || isPickle(head) || isTar(head);
}

/** The checkpoint in `bytes`, which the tensors go on reading. @throws FormatError */
export function parseTorchCheckpoint(bytes: Uint8Array, where: string): TorchCheckpoint {
  if (isZip(bytes)) return parseZip(bytes, where);
  if (isPickle(bytes)) return parseLegacy(bytes, where);
  if (isTar(bytes)) {
    const hint = "Load it with a PyTorch of its time and save it again";
    throw new FormatError(where, 0, "the tar form of PyTorch before 0.2, which is not read", { hint });
  }
  const found = `bytes ${Array.from(bytes.subarray(0, 8), (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  throw new FormatError(where, 0, "is no PyTorch checkpoint", { expected: "a zip file or a pickle", found });
}

function isZip(head: Uint8Array): boolean {
  return head[0] === 0x50 && head[1] === 0x4b && (head[2] === 3 || head[2] === 5);
}

/** A pickle of protocol 2 or later, or the magic number as protocols 0 and 1 write it. */
function isPickle(head: Uint8Array): boolean {
  const isText = latin1Of(head.subarray(0, LEGACY_TEXT.length)) === LEGACY_TEXT;
  return isText || (head[0] === 0x80 && (head[1] as number) >= 2 && (head[1] as number) <= 5);
}

function isTar(head: Uint8Array): boolean {
  return latin1Of(head.subarray(257, 262)) === "ustar";
}

function parseZip(bytes: Uint8Array, where: string): TorchCheckpoint {
  const zip = StoredZip.open(bytes, where, (name) => refuseScript(name, where));
  const pickles = zip.names.filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  const [pickleName] = pickles;
  if (pickleName === undefined || pickles.length > 1) {
    const numbers = { expected: "one NAME/data.pkl", found: `${pickles.length}` };
    throw new FormatError(where, 0, "a zip file, but no PyTorch checkpoint", numbers);
  }
  const folder = pickleName.slice(0, -PICKLE.length);
  const members: Members = {
    name: "zip",
    content: (name) => zip.content(folder + name),
    begin: (name) => zip.begin(folder + name),
  };
  return parseMembers(members, where, { bytes: bytes.length, trailing: zip.trailing }, folder);
}

/** An archive's members by their names in it: of a zip, or of a folder. */
export interface Members {
  readonly name: "zip" | "unzipped";
  content(name: string): Uint8Array | undefined;
  /** Where a member begins in the file. */
  begin(name: string): number;
}

export function parseMembers(
  members: Members,
  where: string,
  size: { readonly bytes: number; readonly trailing: number },
  folder = "",
): TorchCheckpoint {
  const order = members.content("byteorder");
  if (order !== undefined && latin1Of(order).trim() !== "little") {
    const found = JSON.stringify(latin1Of(order.subarray(0, 16)));
    throw new FormatError(where, 0, "another byte order than is read", { expected: "little", found });
  }
  const storages: Storages = (storage, tensor) => {
    const name = `data/${storage.key}`;
    const content = members.content(name);
    const expected = bytesOf(storage);
    if (content?.length === expected) return content;
    throw new FormatError(
      `${where}, ${tensor}`,
      members.begin(name),
      `its storage ${JSON.stringify(storage.key)} is missing or of another length`,
      {
        expected: `${expected} bytes in ${JSON.stringify(folder + name)}`,
        found: content === undefined ? "no such member" : `${content.length}`,
      },
    );
  };
  const inside = `${where}/${folder}${PICKLE}`;
  const refs = new StorageReferences(inside);
  const { value } = readTorchPickle(members.content(PICKLE) as Uint8Array, inside, refs);
  return collect(value, { container: members.name, where, ...size, storages });
}

function bytesOf({ dtype, elements }: Storage): number {
  return elements * dtypes[dtype].bytes;
}

function refuseScript(name: string, where: string): void {
  if (!/^[^/]+\/(code\/|constants\.pkl$)/.test(name)) return;
  const hint = "Save the state_dict of the module instead";
  throw new FormatError(where, 0, "a TorchScript archive, which holds code and is not read", { hint });
}

function parseLegacy(bytes: Uint8Array, where: string): TorchCheckpoint {
  const plain = { allowed: new Map<string, "object">() };
  const magic = readTorchPickle(bytes, where, undefined);
  if (magic.value !== LEGACY_MAGIC) {
    const hint = "Save a state_dict with torch.save";
    throw new FormatError(where, 0, "a pickle, but not one of torch.save's", { hint });
  }
  const protocol = readPickle(bytes, where, plain, magic.end);
  if (protocol.value !== LEGACY_PROTOCOL) {
    const numbers = {
      expected: `${LEGACY_PROTOCOL}`,
      found: typeof protocol.value === "number" ? `${protocol.value}` : "no number",
    };
    throw new FormatError(where, magic.end, "an unknown protocol", numbers);
  }
  const system = readPickle(bytes, where, plain, protocol.end);
  if (!(system.value instanceof Map) || system.value.get("little_endian") !== true) {
    const numbers = { expected: "little_endian", found: "something else" };
    throw new FormatError(where, protocol.end, "another byte order than is read", numbers);
  }
  const refs = new StorageReferences(where);
  const object = readTorchPickle(bytes, where, refs, system.end);
  const keys = readPickle(bytes, where, plain, object.end);
  const { places, end } = placeStorages(bytes, keys, refs, where);
  const storages: Storages = (storage) => {
    const begin = (places.get(storage.key) as number) + storage.start * dtypes[storage.dtype].bytes;
    return bytes.subarray(begin, begin + bytesOf(storage));
  };
  const source = { where, bytes: bytes.length, trailing: bytes.length - end, storages };
  return collect(object.value, { container: "legacy", ...source });
}

/** Where each storage's bytes begin, and the last one's end; they lie one behind the other, each after its number of elements. */
function placeStorages(
  bytes: Uint8Array,
  keys: { readonly value: PickleValue; readonly end: number },
  refs: StorageReferences,
  where: string,
): { readonly places: ReadonlyMap<string, number>; readonly end: number } {
  const refuse = (what: string, at: number, expected?: string, found?: string): FormatError =>
    new FormatError(where, at, what, { expected, found });
  if (!Array.isArray(keys.value)) throw refuse("the list of storages is no list", keys.end);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const places = new Map<string, number>();
  let at = keys.end;
  for (const key of keys.value) {
    const root = typeof key === "string" ? refs.roots.get(key) : undefined;
    if (root === undefined) throw refuse("lists a storage that nothing refers to", keys.end);
    if (places.has(root.key)) throw refuse(`the storage ${JSON.stringify(root.key)} stands twice`, at);
    if (at + 8 > bytes.length)
      throw refuse("cut short before a storage", at, "8 more bytes", `${bytes.length - at}`);
    const elements = view.getBigUint64(at, true);
    if (elements !== BigInt(root.elements)) {
      throw refuse(
        `the storage ${JSON.stringify(root.key)} has another length`,
        at,
        `${root.elements}`,
        `${elements}`,
      );
    }
    places.set(root.key, at + 8);
    at += 8 + bytesOf(root);
    if (at > bytes.length)
      throw refuse("cut short in a storage", bytes.length, `${at} bytes`, `${bytes.length}`);
  }
  const missing = [...refs.roots.keys()].find((key) => !places.has(key));
  if (missing !== undefined) throw refuse(`the storage ${JSON.stringify(missing)} is not in the file`, at);
  return { places, end: at };
}
