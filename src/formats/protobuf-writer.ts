/**
 * Writes a protobuf message, field by field. The library that reads them (protobuf.ts) is found by its package's name, which a worker of
 * a page without a bundler cannot do; and of writing no more is needed than this.
 *
 * Source: protobuf.dev/programming-guides/encoding.
 */

const VARINT = 0;
const LENGTH_DELIMITED = 2;
const BIT32 = 5;

export class ProtobufWriter {
  /** Pieces, in order. */
  readonly #pieces: Uint8Array[] = [];
  #bytes: number[] = [];

  /** A whole number, below 0 as the complement of two in 64 bits. */
  integer(field: number, value: number): this {
    this.#tag(field, VARINT);
    this.#varint(value < 0 ? BigInt.asUintN(64, BigInt(value)) : BigInt(value));
    return this;
  }

  float(field: number, value: number): this {
    this.#tag(field, BIT32);
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setFloat32(0, value, true);
    return this.#append(bytes);
  }

  text(field: number, value: string): this {
    const bytes = new TextEncoder().encode(value);
    return this.length(field, bytes.length).#append(bytes);
  }

  message(field: number, write: (into: ProtobufWriter) => void): this {
    const inner = new ProtobufWriter();
    write(inner);
    const bytes = inner.finish();
    return this.length(field, bytes.length).#append(bytes);
  }

  /** The tag and length of a value whose bytes come behind. */
  length(field: number, bytes: number): this {
    this.#tag(field, LENGTH_DELIMITED);
    this.#varint(BigInt(bytes));
    return this;
  }

  finish(): Uint8Array {
    this.#flush();
    const whole = new Uint8Array(this.#pieces.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const piece of this.#pieces) {
      whole.set(piece, at);
      at += piece.length;
    }
    return whole;
  }

  #append(bytes: Uint8Array): this {
    this.#flush();
    this.#pieces.push(bytes);
    return this;
  }

  #flush(): void {
    if (this.#bytes.length > 0) this.#pieces.push(Uint8Array.from(this.#bytes));
    this.#bytes = [];
  }

  #tag(field: number, wire: number): void {
    this.#varint(BigInt(field * 8 + wire));
  }

  #varint(value: bigint): void {
    let left = value;
    for (; left > 127n; left >>= 7n) this.#bytes.push(Number(left & 127n) | 128);
    this.#bytes.push(Number(left));
  }
}
