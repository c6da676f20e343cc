import assert from "node:assert/strict";
import { suite, test } from "node:test";

import fc from "fast-check";

import { FormatError } from "../core/error.js";
import { Call, Global, Other, type PickleValue, readPickle, Tuple } from "./pickle.js";
import { EntryStream, writePickle } from "./pickle-writer.js";

const allowed = new Map([
  ["demo.make", "object"],
  ["collections.OrderedDict", "dict"],
] as const);

/** Text is Latin-1: "\x80" is one byte. */
function read(text: string, options: Partial<Parameters<typeof readPickle>[2]> = {}): PickleValue {
  const bytes = Buffer.from(text, "latin1");
  return readPickle(bytes, "test.pkl", { allowed, ...options }).value;
}

function refuses(text: string, words: RegExp): void {
  assert.throws(
    () => read(text),
    (error: unknown) => {
      assert.ok(error instanceof FormatError, String(error));
      assert.match(error.message, words);
      return true;
    },
  );
}

suite("readPickle", () => {
  // Assembled by hand from the instructions of pickletools.
  const value = [1, -2, 300, 70000, 1.5, "a", true, null];
  const written: readonly (readonly [string, string, PickleValue])[] = [
    ["protocol 0", "(lp0\nI1\naI-2\naI300\naI70000\naF1.5\naVa\np1\naI01\naNa.", value],
    ["a Python 2 string", "S'it\\'s \\x00\\n'\np0\n.", "it's \0\n"],
    [
      "protocol 1",
      "](K\x01J\xfe\xff\xff\xffM\x2c\x01Jp\x11\x01\0G?\xf8\0\0\0\0\0\0X\x01\0\0\0aI01\nNe.",
      value,
    ],
    [
      "protocol 2",
      "\x80\x02](K\x01J\xfe\xff\xff\xffM\x2c\x01Jp\x11\x01\0G?\xf8\0\0\0\0\0\0X\x01\0\0\0a\x88Ne.",
      value,
    ],
    [
      "protocol 4",
      "\x80\x04\x95\x1f\0\0\0\0\0\0\0](K\x01J\xfe\xff\xff\xffM\x2c\x01Jp\x11\x01\0G?\xf8\0\0\0\0\0\0\x8c\x01a\x88Ne.",
      value,
    ],
    ["an integer beyond 2^53", "\x80\x02\x8a\x09\0\0\0\0\0\0\0\0\x01.", 2n ** 64n],
    ["a negative long", "\x80\x02\x8a\x02\0\x80.", -32768],
    ["a long in text", "L-12345678901234567890L\n.", -12345678901234567890n],
    ["bytes", "\x80\x03C\x02\xff\0.", Uint8Array.of(255, 0)],
    ["a bytearray", "\x80\x05\x96\x02\0\0\0\0\0\0\0\xff\0.", Uint8Array.of(255, 0)],
    ["unicode escapes", "V\\u20ac\\U0001f40d\n.", "\u20ac\u{1f40d}"],
    ["a dict", "\x80\x02}(U\x01aK\x01U\x01bK\x02u.", new Map([["a", 1], ["b", 2]])], // prettier-ignore
    ["tuples", "\x80\x02)K\x01\x85\x86.", new Tuple([new Tuple([]), new Tuple([1])])],
    ["a set", "\x80\x04\x8f(K\x01K\x02\x90.", new Other(new Set([1, 2]))],
    ["something named twice", "\x80\x02]q\0h\0\x86.", new Tuple([[], []])],
  ];
  for (const [name, text, expected] of written) {
    test(name, () => assert.deepEqual(read(text), expected));
  }

  test("a list that holds itself stays one, without end", () => {
    const list = read("\x80\x02]q\0h\0a.");
    assert.ok(Array.isArray(list) && list[0] === list);
  });

  test("a call of an allowed name becomes a Call and nothing more", () => {
    const call = read("\x80\x02cdemo\nmake\nK\x01\x85R}U\x01xK\x02sb.");
    assert.ok(call instanceof Call);
    assert.equal(call.callee.fullName, "demo.make");
    assert.deepEqual([call.args, call.state], [[1], new Map([["x", 2]])]);
  });

  test("entries are set on what the caller says is a dict", () => {
    const call = read("\x80\x02ccollections\nOrderedDict\n)RU\x01aK\x01s.");
    assert.ok(call instanceof Call);
    assert.deepEqual(call.entries, new Map([["a", 1]]));
  });

  test("an unknown name is inert where the caller lets it: called, filled, given a state, and called again", () => {
    const known = "\x80\x04cdemo\nmake\n";
    const inert = { inert: (name: string) => name.startsWith("other.") };
    const call = (text: string): Call => {
      const value = read(`\x80\x04cother\nThing\n${text}.`, inert);
      assert.ok(value instanceof Call);
      assert.equal(value.callee.fullName, "other.Thing");
      return value;
    };
    assert.deepEqual(call(")R(K\x01K\x02e").items, [1, 2]);
    assert.deepEqual(call(")R(K\x01K\x02\x90").items, [1, 2]);
    assert.deepEqual(call(")R\x8c\x01aK\x01s").entries, new Map([["a", 1]]));
    assert.deepEqual(call(")R}b").state, new Map());
    assert.deepEqual(call(")R)R").args, []);
    assert.deepEqual(call("K\x01\x85}\x92").args, [1, new Map()]);
    assert.throws(() => read(`${known})R(K\x01e.`, inert), /appends to a demo\.make object/);
    assert.throws(() => read("\x80\x04cnew\nThing\n)R.", inert), /names new\.Thing, which is not data/);
  });

  test("a persistent id is what the caller's hook makes of it", () => {
    const value = read("\x80\x02U\x03keyQ.", { persistent: (id) => [id] });
    assert.deepEqual(value, new Other(["key"]));
  });
});

suite("readPickle refuses what is not data, by name", () => {
  const hostile: readonly (readonly [string, string, RegExp])[] = [
    ["os.system", "cos\nsystem\n(S'echo harm'\ntR.", /the pickle names os\.system, which is not data/],
    [
      "builtins.eval",
      "\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
      /names builtins\.eval, which is not data/,
    ],
    ["Python 2's __builtin__", "c__builtin__\neval\n(S'1'\ntR.", /names __builtin__\.eval/],
    [
      "torch's gadget",
      "\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
      /names torch\._utils\._rebuild_tensor_v2/,
    ],
    ["a function never called", "\x80\x02cos\nsystem\n0N.", /names os\.system/],
    ["INST", "(ios\nsystem\n.", /names os\.system/],
    ["a name that would rewrite the screen", "\x80\x02c\x1b[2J\nx\n)R.", /names "\\u001b\[2J\.x"/],
    [
      "nested REDUCE: calling what a call returned",
      "\x80\x02cdemo\nmake\n)R)R.",
      /calls a demo\.make object, which is no function/,
    ],
    ["OBJ on text", "\x80\x02(U\x01xo.", /calls text/],
    ["arguments that are no tuple", "\x80\x02cdemo\nmake\n]R.", /calls with a list/],
    [
      "BUILD on a dict, which would be its __setstate__",
      "\x80\x02}}U\x0c__setstate__cos\nsystem\nsb.",
      /names os\.system/,
    ],
    ["BUILD on plain data", "\x80\x02}}U\x0c__setstate__Nsb.", /gives a state to a dict/],
    ["a second BUILD", "\x80\x02cdemo\nmake\n)R}b}b.", /gives demo\.make a state twice/],
    ["entries on an object", "\x80\x02cdemo\nmake\n)RU\x01aK\x01s.", /sets an entry on a demo\.make object/],
    ["entries on a list", "\x80\x02]U\x01aK\x01s.", /sets an entry on a list/],
    ["append to a dict", "\x80\x02}K\x01a.", /appends to a dict/],
    ["a key twice", "\x80\x02}(U\x01aK\x01U\x01aK\x02u.", /the same key twice.*"a"/],
    ["a list for a key", "\x80\x02}]K\x01s.", /uses a list as a key/],
    ["a persistent id without a hook", "\x80\x02U\x01xQ.", /refers to something outside the file/],
    ["the extension registry", "\x80\x02\x82\x01.", /extension registry/],
    ["out-of-band buffers", "\x80\x05\x97.", /out-of-band/],
    ["keyword arguments", "\x80\x04cdemo\nmake\n)}\x92.", /NEWOBJ_EX/],
  ];
  for (const [name, text, words] of hostile) {
    test(name, () => refuses(text, words));
  }

  test("an entry named __setstate__ or __proto__ is an entry", () => {
    const dict = read("\x80\x02}(U\x0c__setstate__K\x01U\x09__proto__K\x02u.");
    assert.ok(dict instanceof Map);
    assert.deepEqual([...dict.keys()], ["__setstate__", "__proto__"]);
    assert.equal(Object.getPrototypeOf({}), Object.prototype);
  });
});

suite("readPickle refuses what is damaged", () => {
  const damaged: readonly (readonly [string, string, RegExp])[] = [
    ["nothing", "", /byte 0: the pickle ends without its STOP/],
    ["no STOP", "\x80\x02N", /ends without its STOP/],
    ["values left over", "NN.", /1 values left over/],
    ["an empty stack", ".", /empty stack/],
    ["a mark for a value", "(.", /only a mark/],
    ["TUPLE without a mark", "Nt.", /needs a mark/],
    ["bytes of 4 GB", "\x80\x03B\xff\xff\xff\xffx.", /ends inside a value.*4294967295 more bytes.*found 2/],
    ["bytes of 2^63", "\x80\x04\x8e\0\0\0\0\0\0\0\x80x.", /ends inside a value.*9223372036854775808/],
    ["a frame past the end", "\x80\x04\x95\xff\0\0\0\0\0\0\0N.", /ends inside a value.*255/],
    ["memo 2^32 - 1, never stored", "\x80\x02j\xff\xff\xff\xff.", /memo 4294967295, which was never stored/],
    ["a memo's number in text", "g99999999999\n.", /no memo's number/],
    ["protocol 9", "\x80\x09N.", /unknown pickle protocol.*expected 0 to 5, found 9/],
    ["an unknown instruction", "\xff.", /no instruction of a pickle.*0xff/],
    ["no integer", "Ix\n.", /no integer/],
    ["an integer of 5,000 digits", `L${"9".repeat(5000)}\n.`, /no integer/],
    ["no number", "F1.2.3\n.", /no number/],
    ["no quotes", "Sx\n.", /no quoted string/],
    ["text that is not UTF-8", "\x80\x04\x8c\x01\xff.", /not UTF-8/],
    ["a value for a name", "\x80\x04K\x01K\x02\x93.", /names a global by something that is no text/],
    ["a key without a value", "\x80\x02}(U\x01au.", /key without a value/],
  ];
  for (const [name, text, words] of damaged) {
    test(name, () => refuses(text, words));
  }

  test("storing memo 2^32 - 1 takes no memory for those before it", () => {
    assert.deepEqual(read("\x80\x02]r\xff\xff\xff\xffj\xff\xff\xff\xff\x86."), new Tuple([[], []]));
  });

  test("a million tuples in tuples are read, and do not exhaust the stack", () => {
    assert.ok(read(`${")"}${"\x85".repeat(1_000_000)}.`) instanceof Tuple);
  });

  test("every shorter piece of a pickle is refused", () => {
    const [whole = new Uint8Array()] = writePickle([
      new Map<PickleValue, PickleValue>([["a", 1.5]]),
      new Tuple(["b", 7]),
    ]);
    for (let length = 0; length < whole.length; length++) {
      assert.throws(() => readPickle(whole.subarray(0, length), "cut", { allowed }), FormatError);
    }
  });
});

suite("writePickle", () => {
  const leaf = fc.oneof(
    fc.constant(null),
    fc.boolean(),
    fc.integer(),
    fc.maxSafeInteger(),
    fc.double({ noNaN: true }),
    fc.bigInt({ min: 2n ** 53n, max: 2n ** 300n }),
    fc.string({ unit: "grapheme" }),
    fc.uint8Array({ maxLength: 300 }),
  );
  const { value: arbitrary } = fc.letrec<{ value: PickleValue }>((tie) => ({
    value: fc.oneof(
      { depthSize: "small" },
      leaf,
      fc.array(tie("value"), { maxLength: 4 }),
      fc.array(tie("value"), { maxLength: 4 }).map((items) => new Tuple(items)),
      fc
        .uniqueArray(fc.tuple(fc.string(), tie("value")), { maxLength: 4, selector: ([key]) => key })
        .map((e) => new Map(e)),
    ),
  }));

  test("what is written is read as it was", () => {
    fc.assert(
      fc.property(arbitrary, (value) => {
        const bytes = Buffer.concat(writePickle(value));
        const { value: back, end } = readPickle(bytes, "own", { allowed });
        assert.deepEqual(back, value);
        assert.equal(end, bytes.length);
      }),
    );
  });

  test("a shared object is written once and comes back as one", () => {
    const name = new Global("demo", "make");
    const call = new Call(name, ["x"], undefined);
    call.state = 5;
    const items = [call, call, call];
    const bytes = Buffer.concat(writePickle(items, new Set<object>([name, call])));
    const back = readPickle(bytes, "own", { allowed }).value as PickleValue[];
    assert.deepEqual(back, items);
    assert.equal(back[0], back[2]);
    assert.equal(bytes.toString("latin1").split("demo").length - 1, 1);
  });

  test("entries made one by one fill pieces of a megabyte", () => {
    function* entries(): Iterable<readonly [string, Uint8Array]> {
      for (let i = 0; i < 300; i++) yield [`name ${i}`, new Uint8Array(10_000).fill(i)];
    }
    const pieces = writePickle(new EntryStream(entries()));
    assert.ok(pieces.length >= 3);
    const dict = readPickle(Buffer.concat(pieces), "own", { allowed }).value;
    assert.ok(dict instanceof Map);
    assert.equal(dict.size, 300);
    assert.deepEqual(dict.get("name 299"), new Uint8Array(10_000).fill(299));
  });
});
