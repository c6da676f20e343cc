/** A whole file in memory where there is no addon: the answers of native/decode/read_file.h. */

import { constants, open } from "node:fs/promises";

/** One longer than `limit` bytes is not read. Words say what is wrong with the file, an error what the system refused. */
export async function readWhole(path: string, limit: number): Promise<Uint8Array | string | Error> {
  try {
    // A pipe would be waited for.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const found = await file.stat();
      if (!found.isFile()) return "not a regular file";
      if (found.size > limit) return `longer than ${limit} bytes`;
      const bytes = Buffer.allocUnsafeSlow(found.size);
      for (let done = 0; done < bytes.length;) {
        const { bytesRead } = await file.read(bytes, done, bytes.length - done);
        if (bytesRead === 0) return "it was cut short while being read";
        done += bytesRead;
      }
      return bytes;
    } finally {
      await file.close();
    }
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}
