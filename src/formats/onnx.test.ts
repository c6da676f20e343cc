import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";

import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

import { needs, sharedPath } from "../../test/support/shared.js";
import { FormatError } from "../core/error.js";
import { Draws, streams } from "../core/random.js";
import {
  decodeOnnx,
  encodeOnnx,
  floatsOf,
  floatTensor,
  integersOf,
  integerTensor,
  type OnnxModel,
  readOnnx,
} from "./onnx.js";

/** One of everything: two nodes, every kind of attribute, constants of floats and whole numbers. */
const sample: OnnxModel = {
  irVersion: 8,
  opsets: new Map([["", 17]]),
  producer: { name: "riffle", version: "0.1.0" },
  metadata: new Map([["class_names", '["bee","Ameise ü\\n"]']]),
  graph: {
    name: "two nodes",
    nodes: [
      {
        name: "first",
        operator: "Mul",
        inputs: ["image", "weight", ""],
        outputs: ["middle"],
        attributes: new Map([
          ["f", { kind: "float", value: 0.5 }],
          ["i", { kind: "int", value: -3 }],
          ["s", { kind: "string", value: "SAME" }],
          ["t", { kind: "tensor", value: integerTensor([1, 2]) }],
          ["fs", { kind: "floats", value: [1, -2] }],
          ["is", { kind: "ints", value: [0, 300, -1] }],
          ["none", { kind: "ints", value: [] }],
        ]),
      },
      {
        name: "",
        operator: "Own",
        domain: "a.b",
        inputs: ["middle"],
        outputs: ["logits"],
        attributes: new Map(),
      },
    ],
    initializers: new Map([
      ["weight", floatTensor([2, 1], Float32Array.of(1.5, -2))],
      ["shape", integerTensor([0, 2, 2 ** 40])],
    ]),
    inputs: [{ name: "image", dtype: "F32", shape: ["N", 2] }],
    outputs: [{ name: "logits", dtype: "F32", shape: ["N", "?", 3] }],
  },
};
const whole = Buffer.concat(encodeOnnx(sample));

const scratch = mkdtempSync(join(tmpdir(), "riffle-onnx-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

suite("a model", () => {
  test("is read back as it was written", () => {
    const model = decodeOnnx(new Uint8Array(whole), "model");
    const plain = (of: OnnxModel): unknown =>
      JSON.parse(
        JSON.stringify(of, (_, value: unknown) =>
          value instanceof Map ? [...value] : value instanceof Uint8Array ? [...value] : value,
        ),
      );
    // An axis without a name is "?" when read; written it has that name.
    assert.deepEqual(plain(model), plain(sample));
    const { initializers } = model.graph;
    assert.deepEqual([...floatsOf(initializers.get("weight")!)], [1.5, -2]);
    assert.deepEqual(integersOf(initializers.get("shape")!), [0, 2, 2 ** 40]);
  });

  test("has the bytes that onnx.proto says", () => {
    const bytes = Buffer.concat(
      encodeOnnx({
        ...sample,
        producer: { name: "r", version: "" },
        metadata: new Map(),
        graph: { ...sample.graph, nodes: [], initializers: new Map(), inputs: [], outputs: [], name: "g" },
      }),
    );
    // ir_version 8; producer_name "r"; producer_version ""; opset_import {version 17}; graph {name "g"}
    assert.equal(bytes.toString("hex"), "0808" + "120172" + "1a00" + "42021011" + "3a03120167");
  });

  test("is refused when a tensor's bytes are not its shape's", () => {
    const wrong = { ...sample.graph, initializers: new Map([["w", floatTensor([3], Float32Array.of(1))]]) };
    assert.throws(() => encodeOnnx({ ...sample, graph: wrong }), /w: shape \[3\] F32 is not 4 bytes/);
  });

  test("gives elements that lie in lists as those that lie raw", () => {
    const model = decodeOnnx(
      modelWith(
        tensor("floats", 1, [3], (w) => w.tag(4, WireType.LengthDelimited).bytes(bytesOf(1, -1, 0.5))),
        tensor("float by float", 1, [2], (w) =>
          w.tag(4, WireType.Bit32).float(7).tag(4, WireType.Bit32).float(8),
        ),
        tensor("bytes", 3, [3], (w) =>
          w.tag(5, WireType.LengthDelimited).fork().int32(-1).int32(127).int32(0).join(),
        ),
        tensor("halves", 10, [1], (w) => w.tag(5, WireType.Varint).int32(0xbc00)),
        tensor("long", 7, [2], (w) =>
          w
            .tag(7, WireType.LengthDelimited)
            .fork()
            .int64(-(2 ** 50))
            .int64(1)
            .join(),
        ),
      ),
      "lists",
    );
    const { initializers } = model.graph;
    assert.deepEqual([...floatsOf(initializers.get("floats")!)], [1, -1, 0.5]);
    assert.deepEqual([...floatsOf(initializers.get("float by float")!)], [7, 8]);
    assert.deepEqual([...initializers.get("bytes")!.bytes], [255, 127, 0]);
    assert.deepEqual([...initializers.get("halves")!.bytes], [0, 0xbc]);
    assert.deepEqual(integersOf(initializers.get("long")!), [-(2 ** 50), 1]);
  });

  test("of the model zoo, int8 inside, gives its names and shapes", needs("onnx"), async () => {
    const path = sharedPath("onnx", "shufflenet-v2-12-int8.onnx");
    const { graph, opsets } = await readOnnx(path);
    assert.equal(opsets.get(""), 12);
    assert.equal(graph.nodes.filter(({ operator }) => operator === "QLinearConv").length, 56);
    assert.deepEqual(graph.inputs, [{ name: "input", dtype: "F32", shape: [1, 3, 224, 224] }]);
    const stem = [...graph.initializers.values()].find(({ shape }) => shape.join() === "24,3,3,3");
    assert.equal(stem?.bytes.length, 24 * 27);
    assert.ok(stem.dtype === "I8" || stem.dtype === "U8", stem.dtype);
  });
});

suite("refused is", () => {
  const refused: readonly (readonly [string, () => Uint8Array, RegExp])[] = [
    ["nothing at all", () => new Uint8Array(0), /IR version is missing/],
    ["a graph twice", () => join2(whole, field(7, new Uint8Array(0))), /field 7 twice/],
    ["a function", () => join2(whole, field(25, new Uint8Array(0))), /field 25, which is not read/],
    [
      "external data by its place",
      () => modelWith(tensor("w", 1, [1], (w) => w.tag(14, WireType.Varint).int32(1))),
      /another file/,
    ],
    [
      "external data by its path",
      () =>
        modelWith(
          tensor("w", 1, [1], (w) =>
            w.tag(13, WireType.LengthDelimited).bytes(Buffer.from("../../etc/passwd")),
          ),
        ),
      /another file; nothing outside is ever opened/,
    ],
    ["a tensor of strings", () => modelWith(tensor("w", 8, [0])), /data type 8/],
    ["a type of the future", () => modelWith(tensor("w", 99, [0])), /data type 99/],
    [
      "more elements than bytes",
      () => modelWith(raw("w", [2 ** 30, 2 ** 30], 8)),
      /is 1152921504606847000 elements of 4 bytes, and 8 bytes/,
    ],
    [
      "axes that multiply past 2^53",
      () => modelWith(tensor("w", 7, Array<number>(16).fill(2 ** 31 - 1))),
      /0 bytes of elements/,
    ],
    ["a negative axis", () => modelWith(raw("w", [-1], 4)), /an axis of length -1/],
    ["an axis beyond 2 GiB", () => modelWith(raw("w", [2 ** 40], 4)), /an axis of length/],
    ["seventeen axes", () => modelWith(raw("w", Array<number>(17).fill(1), 4)), /17 axes/],
    [
      "a number too large for its type",
      () => modelWith(tensor("w", 3, [1], (w) => w.tag(5, WireType.Varint).int32(300))),
      /the number 300 in a list of elements of 1 bytes/,
    ],
    [
      "the list of another type",
      () => modelWith(tensor("w", 7, [1], (w) => w.tag(4, WireType.Bit32).float(1))),
      /is 1 elements of 8 bytes/,
    ],
    ["a constant twice", () => modelWith(raw("w", [1], 4), raw("w", [1], 4)), /"w" comes twice/],
    ["a constant without a name", () => modelWith(raw("", [1], 4)), /without a name/],
    ["a value defined twice", () => modelWith(node(["x"], []), node(["x"], [])), /"x" is defined twice/],
    ["a value used before it is", () => modelWith(node(["y"], ["x"]), node(["x"], [])), /uses "x" before/],
    [
      "a subgraph",
      () => modelWith(nodeWith((w) => attribute(w, 5, (a) => a.tag(6, WireType.LengthDelimited).uint32(0)))),
      /field 6, which is not read/,
    ],
    [
      "an attribute that is not of its type",
      () => modelWith(nodeWith((w) => attribute(w, 1, (a) => a.tag(3, WireType.Varint).int64(1)))),
      /of type 1 holds 1 values/,
    ],
    ["a name that moves the cursor", () => modelWith(raw("\u001b[2J", [1], 4)), /control characters/],
    ["a name that is a prototype", () => modelWith(raw("__proto__", [1], 4)), /__proto__/],
    ["a name of 2,000 bytes", () => modelWith(raw("w".repeat(2000), [1], 4)), /of 2000 bytes/],
    [
      "a name that is not UTF-8",
      () => modelWith(message(1, (w) => w.tag(3, 2).bytes(Uint8Array.of(0xc3)))),
      /not UTF-8/,
    ],
    ["a length of 4 GiB and more", () => Uint8Array.of(0x3a, 0x85, 0x80, 0x80, 0x80, 0x10), /4 GiB/],
    ["a length past the end", () => Uint8Array.of(0x3a, 0x7f, 0), /127 bytes, of which 1 are there/],
    ["a group", () => Uint8Array.of(0x3b, 0x3c), /wire type 3/],
    [
      "a sequence as input",
      () => modelWith(message(11, (w) => w.tag(2, 2).fork().tag(4, 2).uint32(0).join())),
      /field 4, which is not read/,
    ],
    [
      "more than a million names and messages",
      () => modelWith(Buffer.alloc(5 * 600_000, field(1, Uint8Array.of(0x22, 1, 0x52)))),
      /more than 1048576 names/,
    ],
    [
      "a million numbers",
      () => modelWith(nodeWith((w) => attribute(w, 7, (a) => a.tag(8, 2).bytes(Buffer.alloc(1_100_000))))),
      /more than 1048576/,
    ],
  ];
  for (const [what, bytes, words] of refused) {
    test(what, () => {
      assert.throws(
        () => decodeOnnx(bytes(), "model.onnx"),
        (error: unknown) => {
          assert.ok(error instanceof FormatError, String(error));
          assert.match(error.message, words);
          assert.match(error.message, /^model\.onnx, byte \d+: /);
          return true;
        },
      );
    });
  }

  test("every model that is cut off, and none is half read", () => {
    for (let length = 0; length < whole.length; length++) {
      // Metadata stands before the graph, so no shorter piece is a model.
      assert.throws(
        () => decodeOnnx(new Uint8Array(whole.subarray(0, length)), "cut"),
        FormatError,
        `${length}`,
      );
    }
  });

  test("a folder and a device, without reading from them", async () => {
    await assert.rejects(readOnnx("/dev/zero"), /not a regular file/);
    await assert.rejects(readOnnx(scratch), /not a regular file/);
  });

  test("a file that is no protobuf, by its name", async () => {
    const path = join(scratch, "photo.onnx");
    writeFileSync(path, "not a model");
    await assert.rejects(
      readOnnx(path),
      (error: unknown) => error instanceof FormatError && error.message.startsWith(path),
    );
  });
});

suite("20,000 mutated models", () => {
  const draws = new Draws(11, streams.draw, 0, 0);
  const before = Object.getOwnPropertyNames(Object.prototype).join();

  test("are read or refused by a FormatError, in seconds", () => {
    const started = performance.now();
    const tree = parse(whole, modelTree);
    let read = 0;
    for (let i = 0; i < 20_000; i++) {
      // Half keep every length right, so that the damage gets past the outer messages.
      const bytes = i % 2 === 0 ? scramble(whole, draws) : encode(mutate(tree, draws));
      try {
        decodeOnnx(bytes, "mutated");
        read++;
      } catch (error) {
        if (!(error instanceof FormatError)) {
          assert.fail(`${String(error)} from ${Buffer.from(bytes).toString("hex")}`);
        }
      }
    }
    assert.ok(read > 500 && read < 19_500, `${read} of 20,000 were read`);
    assert.ok(performance.now() - started < 60_000);
    assert.equal(Object.getOwnPropertyNames(Object.prototype).join(), before);
  });
});

/** A field of bytes. */
function field(number: number, content: Uint8Array): Uint8Array {
  return new BinaryWriter().tag(number, WireType.LengthDelimited).bytes(content).finish();
}

function message(number: number, write: (writer: BinaryWriter) => void): Uint8Array {
  const writer = new BinaryWriter();
  write(writer);
  return field(number, writer.finish());
}

/** A model whose graph has these fields. */
function modelWith(...graph: readonly Uint8Array[]): Uint8Array {
  const head = new BinaryWriter().tag(1, WireType.Varint).int64(8).tag(8, 2).bytes(Uint8Array.of(0x10, 17));
  return head.tag(7, WireType.LengthDelimited).bytes(Buffer.concat(graph)).finish();
}

function tensor(
  name: string,
  type: number,
  shape: readonly number[],
  rest?: (w: BinaryWriter) => void,
): Uint8Array {
  return message(5, (w) => {
    for (const axis of shape) w.tag(1, WireType.Varint).int64(axis);
    w.tag(2, WireType.Varint).int32(type).tag(8, WireType.LengthDelimited).string(name);
    rest?.(w);
  });
}

/** Floats of `length` bytes. */
function raw(name: string, shape: readonly number[], length: number): Uint8Array {
  return tensor(name, 1, shape, (w) => w.tag(9, WireType.LengthDelimited).bytes(new Uint8Array(length)));
}

function nodeWith(rest: (w: BinaryWriter) => void): Uint8Array {
  return message(1, (w) => {
    w.tag(4, WireType.LengthDelimited).string("Relu");
    rest(w);
  });
}

function node(outputs: readonly string[], inputs: readonly string[]): Uint8Array {
  return nodeWith((w) => {
    for (const name of inputs) w.tag(1, WireType.LengthDelimited).string(name);
    for (const name of outputs) w.tag(2, WireType.LengthDelimited).string(name);
  });
}

function attribute(w: BinaryWriter, type: number, rest: (w: BinaryWriter) => void): void {
  w.tag(5, WireType.LengthDelimited).fork().tag(1, WireType.LengthDelimited).string("a");
  w.tag(20, WireType.Varint).int32(type);
  rest(w);
  w.join();
}

function bytesOf(...floats: number[]): Uint8Array {
  return new Uint8Array(Float32Array.from(floats).buffer);
}

function join2(a: Uint8Array, b: Uint8Array): Uint8Array {
  return new Uint8Array(Buffer.concat([a, b]));
}

/** Which fields hold messages, and which ones those. */
interface Tree {
  readonly [field: number]: Tree;
}
const tensorTree: Tree = {};
const valueTree: Tree = { 2: { 1: { 2: { 1: {} } } } };
const modelTree: Tree = {
  7: { 1: { 5: { 5: tensorTree } }, 5: tensorTree, 11: valueTree, 12: valueTree },
  8: {},
  14: {},
};

interface Field {
  readonly number: number;
  readonly wire: WireType;
  /** The bytes behind the tag (and length), or the fields of a message. */
  readonly content: Uint8Array | readonly Field[];
}

function parse(bytes: Uint8Array, tree: Tree): Field[] {
  const reader = new BinaryReader(bytes);
  const fields: Field[] = [];
  while (reader.pos < reader.len) {
    const [number, wire] = reader.tag();
    const inner = tree[number];
    if (wire !== WireType.LengthDelimited) fields.push({ number, wire, content: reader.skip(wire) });
    else if (inner === undefined) fields.push({ number, wire, content: reader.bytes() });
    else fields.push({ number, wire, content: parse(reader.bytes(), inner) });
  }
  return fields;
}

function encode(fields: readonly Field[]): Uint8Array {
  const writer = new BinaryWriter();
  for (const { number, wire, content } of fields) {
    const bytes = content instanceof Uint8Array ? content : encode(content);
    writer.tag(number, wire);
    if (wire === WireType.LengthDelimited) writer.bytes(bytes);
    else writer.raw(bytes);
  }
  return writer.finish();
}

/** The same tree but for a field dropped, doubled, renumbered, moved or scrambled, at a depth drawn. */
function mutate(fields: readonly Field[], draws: Draws): Field[] {
  const changed = [...fields];
  const place = draws.below(Math.max(1, fields.length));
  const chosen = fields[place];
  if (chosen === undefined)
    return [{ number: 1 + draws.below(20), wire: 0, content: Uint8Array.of(draws.below(128)) }];
  const { content } = chosen;
  if (!(content instanceof Uint8Array) && draws.below(4) > 0) {
    changed[place] = { ...chosen, content: mutate(content, draws) };
    return changed;
  }
  switch (draws.below(content instanceof Uint8Array ? 7 : 4)) {
    case 0:
      changed.splice(place, 1);
      break;
    case 1:
      changed.push(chosen);
      break;
    case 2:
      changed[place] = { ...chosen, number: 1 + draws.below(26) };
      break;
    case 3:
      changed.unshift(...changed.splice(place, 1));
      break;
    default:
      changed[place] = { ...chosen, content: scramble(content as Uint8Array, draws) };
  }
  return changed;
}

/** One to three bytes changed, dropped or put in. */
function scramble(bytes: Uint8Array, draws: Draws): Uint8Array {
  const result = [...bytes];
  for (let left = 1 + draws.below(3); left > 0; left--) {
    const place = draws.below(result.length + 1);
    const byte = [0, 1, 0x7f, 0x80, 0xff, draws.below(256)][draws.below(6)] as number;
    result.splice(place, draws.below(2), ...(draws.below(3) === 0 ? [] : [byte]));
  }
  return Uint8Array.from(result);
}
