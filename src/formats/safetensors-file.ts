/** `.safetensors` on a disk: the header is read at once, tensors when they are asked for. */

import { openRegular, readFully } from "./read-file.js";
import { floatEntry, headerLength, parseSafetensorsHeader, type SafetensorsFile } from "./safetensors.js";

/**
 * Opens a file and reads its header.
 *
 * @throws FormatError with the offset of the first byte that is wrong.
 */
export async function openSafetensors(path: string): Promise<SafetensorsFile> {
  const { file, size } = await openRegular(path);
  const read = async (length: number, place: number): Promise<Uint8Array<ArrayBuffer>> => {
    const bytes = new Uint8Array(length);
    await readFully(file, bytes, place, path);
    return bytes;
  };
  try {
    const length = headerLength(await read(Math.min(8, size), 0), size, path);
    const header = parseSafetensorsHeader(await read(length, 8), size, path);
    return {
      ...header,
      readFloat32: async (name) => {
        const { entry, widen } = floatEntry(header, name, path);
        return widen((await read(entry.end - entry.begin, entry.begin)).buffer);
      },
      close: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}
