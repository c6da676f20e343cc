/** Pictures that a program holds as encoded bytes, without labels; for prediction. */

import { createHash } from "node:crypto";

import { checkedSample, type Dataset } from "./dataset.js";
import type { Encoded } from "./pictures/render.js";

export interface NamedBytes {
  /** As results and errors call it. */
  readonly name: string;
  /** A whole file: JPEG, PNG, or another format that is read. Not to change before it has been read. */
  readonly bytes: Uint8Array;
}

export function openEncoded(pictures: readonly NamedBytes[]): Dataset {
  const picture = (sample: number): NamedBytes =>
    pictures[checkedSample({ size: pictures.length }, sample)] as NamedBytes;
  const hash = createHash("sha256");
  for (const { name, bytes } of pictures) hash.update(`\n${name}\t${bytes.length}`);
  return {
    classes: [],
    size: pictures.length,
    label: () => -1,
    name: (sample) => picture(sample).name,
    bytes: (sample) => picture(sample).bytes.length,
    read: (sample): Promise<Encoded> => Promise.resolve({ kind: "encoded", bytes: picture(sample).bytes }),
    fingerprint: hash.digest("hex"),
  };
}
