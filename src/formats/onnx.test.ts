import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";

import { decodeOnnx, floatsOf, integersOf } from "../../test/support/onnx-reader.js";
import { FormatError } from "../core/error.js";
import { encodeOnnx, floatTensor, integerTensor, type OnnxModel } from "./onnx.js";
import { readInitializers } from "./onnx-constants.js";

/** One of everything: two nodes, every kind of attribute, constants of floats and whole numbers. */
const sample: OnnxModel = {
  irVersion: 8,
  opset: 17,
  producer: { name: "riffle", version: "0.1.0" },
  metadata: new Map([["class_names", '["bee","Ameise ü\\n"]']]),
  graph: {
    name: "two nodes",
    nodes: [
      {
        name: "first",
        operator: "Mul",
        inputs: ["image", "weight"],
        outputs: ["middle"],
        attributes: new Map([
          ["f", { kind: "float", value: 0.5 }],
          ["i", { kind: "int", value: -3 }],
          ["is", { kind: "ints", value: [0, 300, -1] }],
          ["none", { kind: "ints", value: [] }],
        ]),
      },
      { name: "", operator: "Relu", inputs: ["middle"], outputs: ["logits"], attributes: new Map() },
    ],
    initializers: new Map([
      ["weight", floatTensor([2, 1], Float32Array.of(1.5, -2))],
      ["shape", integerTensor([0, 2, 2 ** 40])],
    ]),
    inputs: [{ name: "image", shape: ["N", 2] }],
    outputs: [{ name: "logits", shape: ["N", 3] }],
  },
};
const whole = new Uint8Array(Buffer.concat(encodeOnnx(sample)));

suite("a model", () => {
  test("is read back as it was written", () => {
    const model = decodeOnnx(whole, "model");
    const plain = (of: OnnxModel): unknown =>
      JSON.parse(
        JSON.stringify(of, (_, value: unknown) =>
          value instanceof Map ? [...value] : value instanceof Uint8Array ? [...value] : value,
        ),
      );
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
});

suite("the constants of a written model", () => {
  test("are those that went into it", () => {
    assert.deepEqual(readInitializers(whole, "model"), new Map(sample.graph.initializers));
  });

  test("show every change of a name, a shape or an element in the file", () => {
    // What no change shows: nodes, values, metadata, and how the producer calls itself.
    const constants = Buffer.from(whole).indexOf("weight", Buffer.from(whole).indexOf("two nodes"));
    const end = Buffer.from(whole).indexOf("image", constants);
    assert.ok(constants > 0 && end > constants);
    for (let at = constants; at < end - 8; at++) {
      const changed = whole.slice();
      changed[at] = (changed[at] as number) ^ 1;
      let found: unknown;
      try {
        found = readInitializers(changed, "model");
      } catch (error) {
        assert.ok(error instanceof FormatError, String(error));
        continue;
      }
      assert.notDeepEqual(found, new Map(sample.graph.initializers), `byte ${at}`);
    }
  });

  test("are not half read from a file that is cut off, which is refused with the byte", () => {
    for (let length = 1; length < whole.length; length++) {
      let found: ReturnType<typeof readInitializers>;
      try {
        found = readInitializers(whole.subarray(0, length), "cut.onnx");
      } catch (error) {
        assert.ok(error instanceof FormatError, String(error));
        assert.match(error.message, /^cut\.onnx, byte \d+: no ONNX model of ours: /);
        continue;
      }
      // Between two fields in front of the graph a file may end.
      assert.equal(found.size, 0);
    }
  });

  test("may not stand twice", () => {
    const tensor = new BinaryWriter()
      .tag(8, WireType.LengthDelimited)
      .string("w")
      .tag(2, WireType.Varint)
      .int32(1)
      .finish();
    const graph = new BinaryWriter();
    for (let i = 0; i < 2; i++) graph.tag(5, WireType.LengthDelimited).bytes(tensor);
    const model = new BinaryWriter().tag(7, WireType.LengthDelimited).bytes(graph.finish()).finish();
    assert.throws(() => readInitializers(model, "m"), /the constant "w" comes twice/);
  });
});
