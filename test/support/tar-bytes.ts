/** Tar archives made by hand, for tests of the reader: every field is where POSIX puts it. */

export interface TarEntry {
  readonly name: string;
  readonly data?: Uint8Array;
  /** The type flag; "0", a file, when absent. */
  readonly type?: string;
  /** The length that the header declares; else that of `data`. */
  readonly size?: number;
  /** The header after it was filled in and before its sum is taken. */
  readonly change?: (header: Buffer) => void;
}

/** An archive of these members, with its end mark. */
export function tarBytes(entries: readonly TarEntry[]): Buffer {
  return Buffer.concat([...entries.map(tarEntry), Buffer.alloc(1024)]);
}

/** A header and its data, padded to 512 bytes. */
export function tarEntry({
  name,
  data = new Uint8Array(0),
  type = "0",
  size = data.length,
  change,
}: TarEntry): Buffer {
  const header = Buffer.alloc(512);
  header.write(name, 0, 100);
  header.write("0000644\0", 100);
  header.write(`${size.toString(8).padStart(11, "0")}\0`, 124);
  header.write(type, 156);
  header.write("ustar\x0000", 257);
  change?.(header);
  header.fill(" ", 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return Buffer.concat([header, data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
}

/** A pax header of these pairs: `LENGTH key=value\n`, whose length counts itself. */
export function paxEntry(pairs: Readonly<Record<string, string>>): Buffer {
  const lines = Object.entries(pairs).map(([key, value]) => {
    const rest = Buffer.byteLength(` ${key}=${value}\n`);
    let length = rest + 1;
    while (`${length}`.length + rest !== length) length++;
    return `${length} ${key}=${value}\n`;
  });
  return tarEntry({ name: "PaxHeader", type: "x", data: Buffer.from(lines.join("")) });
}
