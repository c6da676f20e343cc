import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { suite, test } from "node:test";

import { zipSync } from "fflate";

import { storedPath } from "../../test/support/shared.js";
import { FormatError } from "../core/error.js";
import { Call, Global, type PickleValue, Tuple } from "./pickle.js";
import { writePickle } from "./pickle-writer.js";
import { isUnzippedCheckpoint, openUnzippedCheckpoint } from "./torch-checkpoint-file.js";
import { parseTorchCheckpoint } from "./torch-checkpoint.js";
import type { TorchCheckpoint } from "./torch-tensors.js";

function stored(name: string): Uint8Array {
  return readFileSync(storedPath("golden", "torch-checkpoints", name));
}

function refuses(bytes: Uint8Array, words: RegExp): void {
  assert.throws(
    () => parseTorchCheckpoint(bytes, "test.pth"),
    (error: unknown) => {
      assert.ok(error instanceof FormatError, String(error));
      assert.match(error.message, words);
      return true;
    },
  );
}

function valuesOf({ tensors }: TorchCheckpoint, name: string): unknown {
  const tensor = tensors.get(name);
  assert.ok(tensor, name);
  return [tensor.dtype, tensor.shape, Array.from(tensor.read() as ArrayLike<number | bigint>)];
}

suite("what torch.save writes", () => {
  for (const file of ["everything.pth", "everything-legacy.pth"]) {
    test(`${file}: every type, and views of shared storages`, () => {
      const checkpoint = parseTorchCheckpoint(stored(file), file);
      assert.equal(checkpoint.container, file.includes("legacy") ? "legacy" : "zip");
      for (const type of ["float64", "float32", "float16", "bfloat16", "int32", "int16", "int8", "uint8"]) {
        assert.deepEqual(valuesOf(checkpoint, type), [type, [5], [0, 1, 2, 3, 4]]);
      }
      assert.deepEqual(valuesOf(checkpoint, "int64"), ["int64", [5], [0n, 1n, 2n, 3n, 4n]]);
      assert.deepEqual(valuesOf(checkpoint, "bool"), ["bool", [3], [1, 0, 1]]);
      // The smallest half is 2^-24, and 6e-8 is nearest to it.
      const halves = [1.5, -2, 65504, 2 ** -24, Infinity, NaN];
      assert.deepEqual(valuesOf(checkpoint, "halves"), ["float16", [6], halves]);
      assert.deepEqual(valuesOf(checkpoint, "scalar"), ["float32", [], [7]]);
      assert.deepEqual(valuesOf(checkpoint, "empty"), ["float32", [0, 3], []]);
      const base = Array.from({ length: 24 }, (_, i) => i);
      assert.deepEqual(valuesOf(checkpoint, "base"), ["float32", [2, 3, 4], base]);
      const transposed = base.map((_, i) => Math.floor(i / 6) + 4 * (i % 3) + 12 * (Math.floor(i / 3) % 2));
      assert.deepEqual(valuesOf(checkpoint, "transposed"), ["float32", [4, 2, 3], transposed]);
      assert.deepEqual(valuesOf(checkpoint, "part"), ["float32", [2, 2], [16, 18, 20, 22]]);
      assert.deepEqual(valuesOf(checkpoint, "repeated"), ["float32", [3], [0, 0, 0]]);
      assert.deepEqual(valuesOf(checkpoint, "parameter"), ["float32", [2], [1, 1]]);
      assert.equal(checkpoint.tensors.size, 18);
    });
  }

  test("tensors in nested dicts are named through them, and what else stands there is passed over", () => {
    const checkpoint = parseTorchCheckpoint(stored("training.pth"), "training.pth");
    assert.deepEqual([...checkpoint.tensors.keys()], ["model.module.w", "optimizer.state.0.momentum_buffer"]);
  });

  test("script.pt, which holds code, is refused by name", () =>
    refuses(stored("script.pt"), /TorchScript archive, which holds code/));

  for (const [file, place, made] of [
    ["module.pth", "", "torch.nn.modules.linear.Linear"],
    ["quantised.pth", "q", "torch._utils._rebuild_qtensor"],
  ] as const) {
    test(`${file} holds no tensor, but an object that is listed by its name`, () => {
      const checkpoint = parseTorchCheckpoint(stored(file), file);
      assert.deepEqual([...checkpoint.tensors.keys()], []);
      assert.deepEqual([...checkpoint.objects], [[place, made]]);
    });
  }

  test("a tensor of a type that is not read is listed, and refused when it is asked for", () => {
    const { tensors } = parseTorchCheckpoint(stored("float8.pth"), "float8.pth");
    const tensor = tensors.get("w");
    assert.deepEqual([tensor?.dtype, tensor?.shape], ["float8_e5m2", [2]]);
    assert.throws(() => tensor?.read(), /tensor "w".*type that is not read.*found float8_e5m2/);
  });

  test("cut short at any length it is refused", () => {
    for (const file of ["training.pth", "everything-legacy.pth"]) {
      const bytes = stored(file);
      for (let length = 0; length < bytes.length; length += 7) refuses(bytes.subarray(0, length), /./);
    }
  });
});

// What a file might do to its reader; each is a zip or a pickle put together here.

const float = new Global("torch", "FloatStorage");
const storage = (elements: number, key = "0", type = float): PickleValue =>
  new Tuple(["storage", type, key, "cpu", elements]);

function pickleOf(value: PickleValue): Buffer {
  return Buffer.concat(writePickle(value));
}

suite("as PyTorch reads them", () => {
  const golden = JSON.parse(Buffer.from(stored("values.json")).toString()) as Record<
    string,
    Record<string, { shape: number[]; values: number[] }>
  >;
  const agrees = ({ tensors }: TorchCheckpoint, name: string): void => {
    const expected = Object.entries(golden[name] as (typeof golden)[string]);
    assert.ok(expected.length > 0, name);
    for (const [key, { shape, values }] of expected) {
      const tensor = tensors.get(key);
      assert.deepEqual(
        [tensor?.shape, Array.from(tensor?.read() as Float32Array)],
        [shape, values],
        `${name}, ${key}`,
      );
    }
  };
  const read = (name: string): TorchCheckpoint => {
    const checkpoint = parseTorchCheckpoint(stored(name), name);
    agrees(checkpoint, name);
    return checkpoint;
  };

  for (const name of ["beside.pth", "beside-legacy.pth"]) {
    test(`${name}: tensors beside objects of every kind, which are listed and never made`, () => {
      const { objects, tensors } = read(name);
      for (const [place, made] of [
        ["counter", "collections.Counter"],
        ["set", "__builtin__.set"],
        ["frozenset", "__builtin__.frozenset"],
        ["array", "numpy._core.multiarray._reconstruct"],
        ["path", "pathlib.PurePosixPath"],
        ["date", "datetime.datetime"],
        ["queue", "collections.deque"],
        ["version", "torch.torch_version.TorchVersion"],
        ["subclass", "__main__.Named"],
        ["partial", "functools.partial"],
        ["settings", "__main__.Settings"],
        ["class", "torch.nn.modules.activation.ReLU"],
        ["quantised", "torch._utils._rebuild_qtensor"],
        ["sparse", "torch._utils._rebuild_sparse_tensor"],
      ] as const) {
        assert.equal(objects.get(place), made, place);
      }
      // What was put into a kind of dict or list is data; an attribute of an object is the object's own affair.
      assert.deepEqual(Array.from(tensors.get("subclass.inner")?.read() as Float32Array), [2, -1, 4, 1.5]);
      assert.deepEqual(Array.from(tensors.get("queue.1")?.read() as Float32Array), [1, -2, 3, 0.5]);
      assert.equal(tensors.get("settings.weight"), undefined);
      assert.throws(() => tensors.get("complex64")?.read(), /type that is not read.*found complex64/);
    });
  }

  test("views.pth: the negation bit, and tensors and parameters with attributes", () => {
    const { tensors } = read("views.pth");
    assert.deepEqual(Array.from(tensors.get("negated")?.read() as Float32Array), [-11, -8, -13, -10.5]);
  });

  for (const protocol of [1, 3, 4, 5]) {
    test(`pickle protocol ${protocol}, zip and legacy`, () => {
      assert.equal(read(`protocol-${protocol}.pth`).container, "zip");
      assert.equal(read(`protocol-${protocol}-legacy.pth`).container, "legacy");
    });
  }

  test("pickle protocol 0, which PyTorch writes and cannot load, is refused for that reason", () =>
    refuses(stored("protocol-0-legacy.pth"), /storages by text.*PyTorch cannot load it either/));

  test("a colon in the name that the file had", () => {
    read("colon.pth");
  });

  for (const [name, bytes] of [
    ["trailing.pth", 300],
    ["trailing-legacy.pth", 6],
  ] as const) {
    test(`${name}: bytes behind the end are counted and passed over`, () => {
      assert.equal(read(name).trailing, bytes);
    });
  }

  test("an archive that was unzipped", async () => {
    const folder = storedPath("golden", "torch-checkpoints", "unzipped");
    assert.equal(await isUnzippedCheckpoint(folder), true);
    agrees(await openUnzippedCheckpoint(folder), "unzipped");
  });
});

/** The call that rebuilds a tensor; its storage is written by hand, since only torch.save writes persistent ids. */
function tensorPickle({
  elements = 4,
  offset = 0,
  shape = [4],
  stride = [1],
  builder = "_rebuild_tensor_v2",
  id = pickleOf(storage(elements)),
}: {
  elements?: number;
  offset?: number;
  shape?: readonly number[];
  stride?: readonly number[];
  builder?: string;
  id?: Buffer;
} = {}): Buffer {
  // {"w": builder(<id>, offset, shape, stride, False, None)}
  const body = (value: PickleValue): Buffer => pickleOf(value).subarray(2, -1);
  return Buffer.concat([
    Buffer.from(`\x80\x02}X\x01\0\0\0wctorch._utils\n${builder}\n(`, "latin1"),
    id.subarray(2, -1),
    Buffer.from("Q"),
    body(offset),
    body(new Tuple(shape)),
    body(new Tuple(stride)),
    Buffer.from("\x89NtRs.", "latin1"),
  ]);
}

const four = new Uint8Array(Float32Array.of(1, 2, 3, 4).buffer);

function archive(
  pickle: Uint8Array,
  more: Readonly<Record<string, Uint8Array>> = { "data/0": four },
): Buffer {
  const members = Object.entries({ "data.pkl": pickle, ...more }).map(
    ([name, data]) => [`a/${name}`, data] as const,
  );
  return Buffer.from(zipSync(Object.fromEntries(members), { level: 0 }));
}

test("an archive made here is read, so that what follows is refused for its own reason", () => {
  const checkpoint = parseTorchCheckpoint(archive(tensorPickle()), "test.pth");
  assert.deepEqual(valuesOf(checkpoint, "w"), ["float32", [4], [1, 2, 3, 4]]);
});

suite("pickles that would do something", () => {
  for (const [module, name] of [
    ["os", "system"],
    ["posix", "system"],
    ["builtins", "eval"],
    ["builtins", "__import__"],
    ["torch", "load"],
    ["torch._utils", "_import_dotted_name"],
    ["torch.serialization", "load"],
    ["torch.storage", "_load_from_bytes"],
    ["runpy", "_run_code"],
    ["collections", "OrderedDict.__class__"],
  ] as const) {
    test(`${module}.${name}`, () => {
      const call = new Call(new Global(module, name), ["echo pwned"], undefined);
      const words = new RegExp(
        `names ${`${module}.${name}`.replaceAll(".", "\\.")}, which is not data.*nothing was run`,
      );
      refuses(archive(pickleOf(call)), words);
      refuses(archive(pickleOf(new Map<PickleValue, PickleValue>([["w", [call]]]))), words);
    });
  }

  test("a tensor's class of somebody's own is not its elements", () => {
    // _rebuild_from_type_v2(builder, class, arguments, attributes)
    const global = (module: string, name: string): Global => new Global(module, name);
    const call = new Call(
      global("torch._tensor", "_rebuild_from_type_v2"),
      [global("torch._utils", "_rebuild_tensor_v2"), global("mine", "Tensor"), new Tuple([]), new Map()],
      undefined,
    );
    const { tensors, objects } = parseTorchCheckpoint(archive(pickleOf(new Map([["w", call]]))), "test.pth");
    assert.deepEqual([[...tensors], [...objects]], [[], [["w", "mine.Tensor"]]]);
  });

  test("by STACK_GLOBAL, whose name is put together while reading", () =>
    refuses(
      archive(Buffer.from("\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.", "latin1")),
      /names os\.system/,
    ));

  test("the result of a call called again", () =>
    refuses(
      archive(Buffer.from("\x80\x02ccollections\nOrderedDict\n)R)R.", "latin1")),
      /calls a collections\.OrderedDict object, which is no function/,
    ));

  test("a tensor that is given a state, which Python would hand to __setstate__", () => {
    const pickle = Buffer.concat([tensorPickle().subarray(0, -2), Buffer.from("}bs.", "latin1")]);
    return refuses(archive(pickle), /changes it after making it/);
  });

  test("an entry set on a tensor", () => {
    const pickle = Buffer.concat([tensorPickle().subarray(0, -2), Buffer.from("K\x01K\x02ss.", "latin1")]);
    return refuses(archive(pickle), /sets an entry on a torch\._utils\._rebuild_tensor_v2 object/);
  });

  test("a dict that holds itself, and one that holds another twice over, 20 times, are walked once", () => {
    parseTorchCheckpoint(archive(Buffer.from("\x80\x02}q\0X\x01\0\0\0ah\0s.", "latin1")), "test.pth");
    // d1 = {a: d0, b: d0}, d2 = {a: d1, b: d1}, ... : 2^20 paths to the innermost.
    let text = "\x80\x02}q\0";
    for (let i = 1; i <= 20; i++)
      text += `0}q${String.fromCharCode(i)}(K\x01h${String.fromCharCode(i - 1)}K\x02h${String.fromCharCode(i - 1)}u`;
    parseTorchCheckpoint(archive(Buffer.from(`${text}.`, "latin1")), "test.pth");
  });

  test("dicts a hundred thousand deep", () =>
    refuses(
      archive(Buffer.from(`\x80\x02${"}K\x01".repeat(1e5)}N${"s".repeat(1e5)}.`, "latin1")),
      /nested more than 32/,
    ));

  test("a memo of 2^32 - 1 costs nothing", () => {
    parseTorchCheckpoint(archive(Buffer.from("\x80\x02}r\xff\xff\xff\xff.", "latin1")), "test.pth");
  });

  test("names that are keys of every object, or would disturb a terminal", () => {
    const named = (name: string): Buffer => {
      const pickle = tensorPickle();
      const text = Buffer.from(name);
      return Buffer.concat([
        pickle.subarray(0, 4),
        Buffer.from([text.length, 0, 0, 0]),
        text,
        pickle.subarray(9),
      ]);
    };
    const checkpoint = parseTorchCheckpoint(archive(named("__proto__")), "test.pth");
    assert.deepEqual([...checkpoint.tensors.keys()], ["__proto__"]);
    assert.equal(({} as Record<string, unknown>)["w"], undefined);
    refuses(archive(named("\x1b[31mred")), /name is empty, too long or not printable: "\\u001b/);
    refuses(archive(named("")), /name is empty/);
  });
});

suite("views that their storage does not hold", () => {
  const cases: readonly (readonly [string, Parameters<typeof tensorPickle>[0], RegExp])[] = [
    ["longer than the storage", { shape: [5] }, /reaches past the end.*at most 4 elements, found 5/],
    ["offset past the end", { offset: 1 }, /reaches past the end/],
    ["strides past the end", { shape: [2, 2], stride: [3, 1] }, /reaches past the end/],
    ["2^53 elements", { shape: [2 ** 53 - 1] }, /reaches past the end/],
    ["a product above every number", { shape: Array.from({ length: 16 }, () => 2 ** 53 - 1), stride: Array.from({ length: 16 }, () => 0) }, /longer than the file/], // prettier-ignore
    ["a bomb of stride 0", { shape: [1e9], stride: [0] }, /longer than the file, by strides that repeat/],
    ["a negative offset", { offset: -1 }, /no whole numbers from 0/],
    ["a negative length", { shape: [-1] }, /no whole numbers from 0/],
    ["more lengths than strides", { shape: [2, 2] }, /not as many of one/],
    ["seventeen dimensions", { shape: Array.from({ length: 17 }, () => 1), stride: Array.from({ length: 17 }, () => 1) }, /no whole numbers/], // prettier-ignore
    [
      "a storage shorter than it is said to be",
      { elements: 1e6 },
      /another length.*expected 4000000 bytes.*found 16/,
    ],
    [
      "a storage longer than it is said to be",
      { elements: 2, shape: [2] },
      /another length.*expected 8 bytes.*found 16/,
    ],
    ["a storage that is not there", { id: pickleOf(storage(4, "1")) }, /is missing.*no such member/],
    ["a storage named as a path", { id: pickleOf(storage(4, "../0")) }, /something else than a storage/],
    ["a storage of a type that is none", { id: pickleOf(storage(4, "0", new Global("collections", "OrderedDict"))) }, /something else than a storage/], // prettier-ignore
    ["a reference to a module's source", { id: pickleOf(new Tuple(["module", float, "x", "y"])) }, /something else than a storage/], // prettier-ignore
  ];
  for (const [what, view, words] of cases) test(what, () => refuses(archive(tensorPickle(view)), words));

  test("many whole views of one storage, together longer than the file can mean", () => {
    const one = tensorPickle({ elements: 4096, shape: [4096] });
    const body = one.subarray(3, -2);
    const pieces = Array.from({ length: 40 }, (_, i) =>
      Buffer.concat([
        Buffer.from(`X\x02\0\0\0${String(i).padStart(2, "0")}`, "latin1"),
        body.subarray(6),
        Buffer.from("s"),
      ]),
    );
    const pickle = Buffer.concat([Buffer.from("\x80\x02}", "latin1"), ...pieces, Buffer.from(".")]);
    return refuses(
      archive(pickle, { "data/0": new Uint8Array(4 * 4096) }),
      /longer than the file can mean.*4 times/,
    );
  });
});

suite("zip files that lie", () => {
  const good = archive(tensorPickle());
  const directory = good.readUInt32LE(good.length - 6);
  const patched = (change: (bytes: Buffer) => void): Buffer => {
    const bytes = Buffer.from(good);
    change(bytes);
    return bytes;
  };
  const cases: readonly (readonly [string, Uint8Array, RegExp])[] = [
    [
      "a name that leaves the folder",
      Buffer.from(zipSync({ "../data.pkl": tensorPickle() }, { level: 0 })),
      /invalid relative path/,
    ],
    [
      "an absolute name",
      Buffer.from(zipSync({ "/data.pkl": tensorPickle() }, { level: 0 })),
      /absolute path/,
    ],
    [
      "H10: a bomb, before any of it is unpacked",
      Buffer.from(zipSync({ "a/data.pkl": new Uint8Array(1e6) })),
      /compressed by method 8; PyTorch stores/,
    ],
    [
      "an encrypted member",
      patched(
        (b) => (
          b.writeUInt16LE(1, directory + 8),
          b.writeUInt32LE(b.readUInt32LE(directory + 20) + 12, directory + 20)
        ),
      ),
      /encrypted/,
    ],
    ["another name in the local header", patched((b) => b.write("b", 30)), /contradict each other/],
    ["another length in the local header", patched((b) => b.writeUInt32LE(1, 18)), /contradict each other/],
    ["another method in the local header", patched((b) => b.writeUInt16LE(8, 8)), /contradict each other/],
    [
      "a local header elsewhere",
      patched((b) => b.writeUInt32LE(5, directory + 42)),
      /points to no local header/,
    ],
    [
      "a local header past the end",
      patched((b) => b.writeUInt32LE(0xfffffff0, directory + 42)),
      /points to no local header/,
    ],
    ["a member past the end", patched((b) => (b.writeUInt32LE(1e9, directory + 20), b.writeUInt32LE(1e9, directory + 24))), /past the end|contradict/], // prettier-ignore
    ["stored in two lengths", patched((b) => b.writeUInt32LE(9, directory + 24)), /stored, yet \d+ bytes are said to be 9/], // prettier-ignore
    ["damaged data", patched((b) => (b[good.indexOf(Buffer.from(four))] = 9)), /damaged: wrong CRC-32/],
    [
      "another byte order",
      archive(tensorPickle(), { "data/0": four, byteorder: Buffer.from("big") }),
      /expected little, found "big"/,
    ],
    ["no pickle", Buffer.from(zipSync({ "a/x": four }, { level: 0 })), /no PyTorch checkpoint.*found 0/],
    [
      "two pickles",
      Buffer.from(zipSync({ "a/data.pkl": four, "b/data.pkl": four }, { level: 0 })),
      /no PyTorch checkpoint.*found 2/,
    ],
    ["a directory that is not there", good.subarray(0, good.length - 30), /not readable as a zip file/],
  ];
  for (const [what, bytes, words] of cases) test(what, () => refuses(bytes, words));

  test("a name that stands twice", () => {
    const twice = archive(tensorPickle(), { "data/0": four, "data/1": four });
    for (let at = twice.indexOf("a/data/1"); at >= 0; at = twice.indexOf("a/data/1"))
      twice.write("a/data/0", at);
    return refuses(twice, /stands twice/);
  });

  test("two members in the same place", () => {
    const both = archive(tensorPickle(), { "data/0": four, "data/1": four });
    const first = both.indexOf("a/data/0") - 30;
    const entry = both.lastIndexOf("a/data/1") - 46;
    // The second entry of the directory is made the first's name and place; only the names then differ from the file.
    both.writeUInt32LE(first, entry + 42);
    return refuses(both, /contradict each other|overlaps/);
  });
});

suite("legacy files that lie", () => {
  const good = Buffer.from(stored("everything-legacy.pth"));
  test("a storage of another length", () => {
    const changed = Buffer.from(good);
    // The last storage has five elements of a byte.
    changed.writeBigUInt64LE(2n ** 60n, changed.length - 13);
    return refuses(changed, /another length.*expected 5, found 1152921504606846976/);
  });

  test("another pickle than torch.save's", () =>
    refuses(pickleOf(new Map([["w", 1]])), /a pickle, but not one of torch\.save's/));

  test("big-endian", () => {
    const changed = Buffer.from(
      good.toString("latin1").replace("little_endianq\x02\x88", "little_endianq\x02\x89"),
      "latin1",
    );
    assert.notDeepEqual(changed, good);
    return refuses(changed, /another byte order/);
  });

  test("the tar form of 2016", () => {
    const tar = Buffer.alloc(1024);
    tar.write("sys_info", 0);
    tar.write("ustar", 257);
    return refuses(tar, /tar form of PyTorch before 0\.2, which is not read/);
  });
});
