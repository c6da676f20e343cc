/**
 * Reads Python pickles without Python and without running anything: what stands in one becomes inert values,
 * so a file that names `os.system` is refused where Python would call it.
 *
 * A pickle is a program for a stack machine. Two of its instructions fetch a function by name and call it; here
 * they make a {@link Global} and a {@link Call}. Whoever asked says which names it knows and decides what a Call of one
 * means (npy-object.ts makes arrays of them), and whether other names may stand beside them, inert, or end the reading.
 * Values may share parts and form loops, as in Python.
 *
 * Every instruction takes constant time, or time in proportion to its own bytes or to the values that it takes off
 * the stack, so work and memory are bounded by the length of the input. Offsets and lengths are in bytes. The machine stands in one
 * file, long as it is: its instructions only mean something beside the stack that they work on.
 *
 * Source: CPython Lib/pickletools.py (instructions of protocols 0 to 5).
 */

import { FormatError } from "../core/error.js";
import { quoted } from "./plain-name.js";
import { latin1Of, utf8Of } from "./utf8.js";

/** Strings are text; Python 2's byte strings come as text too, a character a byte (encoding="latin1"). */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleValue[]
  | PickleDict
  | Tuple
  | Global
  | Call
  | Other;

export type PickleDict = Map<PickleValue, PickleValue>;

/** What a caller's hook made of a persistent id, and sets. */
export class Other {
  constructor(readonly value: unknown) {}
}

export class Tuple {
  constructor(readonly items: readonly PickleValue[]) {}
}

/** A function or class by name, and no more than the name. */
export class Global {
  constructor(
    readonly module: string,
    readonly name: string,
  ) {}

  get fullName(): string {
    return `${this.module}.${this.name}`;
  }
}

/** What Python would have made by calling `callee` with `args` and handing it `state`. */
export class Call {
  state: PickleValue | undefined;

  constructor(
    readonly callee: Global,
    readonly args: readonly PickleValue[],
    /** The entries set on it, where the allow-list says that it is a kind of dict, or it is inert and has some. */
    public entries: PickleDict | undefined,
  ) {}

  /** What was appended to it, where it is inert: a deque, a kind of list or set. */
  items?: PickleValue[];
}

interface PickleOptions {
  /** Names that may stand in the pickle, "module.name"; "dict" for those whose instances take entries. */
  readonly allowed: ReadonlyMap<string, "object" | "dict">;
  /** Whether a name that is not known may stand there as an inert value; without this hook it is refused. */
  readonly inert?: (fullName: string) => boolean;
  /** What a persistent id stands for, a Global or anything else; without this hook such ids are refused. */
  readonly persistent?: (id: PickleValue) => unknown;
}

/**
 * The value of the pickle that begins at `bytes[start]`, and where it ends. `where` names the file in errors, whose
 * offsets count from the start of `bytes`.
 *
 * @throws FormatError when it is cut short, is no pickle, or names what is not allowed.
 */
export function readPickle(
  bytes: Uint8Array,
  where: string,
  options: PickleOptions,
  start = 0,
): { readonly value: PickleValue; readonly end: number } {
  return new Machine(bytes, where, options, start).run();
}

/** Digits of an integer in text; Python refuses above 4,300. */
const MAX_DIGITS = 4300;

const MARK = Symbol("mark");
type Slot = PickleValue | typeof MARK;

class Machine {
  #at: number;
  /** Where the instruction in progress began. */
  #instruction = 0;
  readonly #stack: Slot[] = [];
  /** Where the marks stand in the stack. */
  readonly #marks: number[] = [];
  /** A Map: a number in the file chooses the index, up to 2^32. */
  readonly #memo = new Map<number, PickleValue>();
  readonly #globals = new Map<string, Global>();
  readonly #view: DataView;

  private readonly bytes: Uint8Array;

  constructor(
    bytes: Uint8Array,
    private readonly where: string,
    private readonly options: PickleOptions,
    start: number,
  ) {
    this.#at = start;
    // A Buffer would hand out Buffers, which are larger and whose `slice` does not copy.
    this.bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  run(): { readonly value: PickleValue; readonly end: number } {
    for (;;) {
      this.#instruction = this.#at;
      if (this.#at >= this.bytes.length) throw this.#error("the pickle ends without its STOP");
      const code = this.#uint(1);
      if (code === 0x2e) {
        const value = this.#pop();
        if (this.#stack.length > 0) throw this.#error(`STOP with ${this.#stack.length} values left over`);
        return { value, end: this.#at };
      }
      this.#step(code);
    }
  }

  #step(code: number): void {
    switch (code) {
      // Constants.
      case 0x4e: // NONE
        return this.#push(null);
      case 0x88: // NEWTRUE
        return this.#push(true);
      case 0x89: // NEWFALSE
        return this.#push(false);
      case 0x49: // INT
        return this.#push(this.#textInteger(true));
      case 0x4c: // LONG
        return this.#push(this.#textInteger(false));
      case 0x4a: // BININT
        return this.#push(this.#uint(4) | 0);
      case 0x4b: // BININT1
        return this.#push(this.#uint(1));
      case 0x4d: // BININT2
        return this.#push(this.#uint(2));
      case 0x8a: // LONG1
        return this.#push(this.#longInteger(this.#uint(1)));
      case 0x8b: // LONG4
        return this.#push(this.#longInteger(this.#uint(4)));
      case 0x46: // FLOAT
        return this.#push(this.#textFloat());
      case 0x47: // BINFLOAT, the one big-endian number
        return this.#push(this.#view.getFloat64(this.#skip(8)));

      // Text and bytes.
      case 0x53: // STRING
        return this.#push(this.#quoted());
      case 0x55: // SHORT_BINSTRING
        return this.#push(this.#latin1(this.#uint(1)));
      case 0x54: // BINSTRING
        return this.#push(this.#latin1(this.#uint(4)));
      case 0x56: // UNICODE
        return this.#push(this.#rawUnicode());
      case 0x8c: // SHORT_BINUNICODE
        return this.#push(this.#utf8(this.#uint(1)));
      case 0x58: // BINUNICODE
        return this.#push(this.#utf8(this.#uint(4)));
      case 0x8d: // BINUNICODE8
        return this.#push(this.#utf8(this.#uint64()));
      case 0x43: // SHORT_BINBYTES
        return this.#push(this.#take(this.#uint(1)));
      case 0x42: // BINBYTES
        return this.#push(this.#take(this.#uint(4)));
      case 0x8e: // BINBYTES8
      case 0x96: // BYTEARRAY8
        return this.#push(this.#take(this.#uint64()));

      // Tuples, lists, dicts, sets.
      case 0x28: // MARK
        this.#marks.push(this.#stack.length);
        this.#stack.push(MARK);
        return;
      case 0x29: // EMPTY_TUPLE
        return this.#push(new Tuple([]));
      case 0x85: // TUPLE1
      case 0x86: // TUPLE2
      case 0x87: // TUPLE3
        return this.#push(new Tuple(this.#popMany(code - 0x84)));
      case 0x74: // TUPLE
        return this.#push(new Tuple(this.#popToMark()));
      case 0x5d: // EMPTY_LIST
        return this.#push([]);
      case 0x6c: // LIST
        return this.#push(this.#popToMark());
      case 0x61: // APPEND
        return this.#append(this.#popMany(1));
      case 0x65: // APPENDS
        return this.#append(this.#popToMark());
      case 0x7d: // EMPTY_DICT
        return this.#push(new Map());
      case 0x64: {
        // DICT
        const items = this.#popToMark();
        this.#push(new Map());
        return this.#setItems(items);
      }
      case 0x73: // SETITEM
        return this.#setItems(this.#popMany(2));
      case 0x75: // SETITEMS
        return this.#setItems(this.#popToMark());
      case 0x8f: // EMPTY_SET
        return this.#push(new Other(new Set<PickleValue>()));
      case 0x90: // ADDITEMS
        return this.#addItems(this.#popToMark());
      case 0x91: // FROZENSET
        return this.#push(new Other(new Set(this.#popToMark())));

      // The stack and the memo.
      case 0x30: // POP
        if (this.#marks.at(-1) === this.#stack.length - 1) this.#popToMark();
        else this.#pop();
        return;
      case 0x31: // POP_MARK
        this.#popToMark();
        return;
      case 0x32: // DUP
        return this.#push(this.#top());
      case 0x70: // PUT
        return this.#put(this.#textIndex());
      case 0x71: // BINPUT
        return this.#put(this.#uint(1));
      case 0x72: // LONG_BINPUT
        return this.#put(this.#uint(4));
      case 0x94: // MEMOIZE
        return this.#put(this.#memo.size);
      case 0x67: // GET
        return this.#get(this.#textIndex());
      case 0x68: // BINGET
        return this.#get(this.#uint(1));
      case 0x6a: // LONG_BINGET
        return this.#get(this.#uint(4));

      // What Python would fetch by name and call.
      case 0x63: // GLOBAL
        return this.#push(this.#global(this.#line("a module's name"), this.#line("a name")));
      case 0x93: {
        // STACK_GLOBAL
        const [module, name] = this.#popMany(2);
        if (typeof module !== "string" || typeof name !== "string") {
          throw this.#error("names a global by something that is no text");
        }
        return this.#push(this.#global(module, name));
      }
      case 0x52: // REDUCE
      case 0x81: {
        // NEWOBJ: the same to a reader that calls nothing
        const [callee, args] = this.#popMany(2);
        return this.#push(this.#call(callee, this.#arguments(args)));
      }
      case 0x69: {
        // INST
        const callee = this.#global(this.#line("a module's name"), this.#line("a name"));
        return this.#push(this.#call(callee, this.#popToMark()));
      }
      case 0x6f: {
        // OBJ
        const [callee, ...args] = this.#popToMark();
        return this.#push(this.#call(callee, args));
      }
      case 0x62: {
        // BUILD: Python would call __setstate__
        const [target, state] = this.#popMany(2);
        if (!(target instanceof Call)) throw this.#error(`gives a state to ${kindOf(target)}`);
        if (target.state !== undefined) throw this.#error(`gives ${target.callee.fullName} a state twice`);
        target.state = state;
        return this.#push(target);
      }
      case 0x50: // PERSID
        return this.#persistent(this.#line("a persistent id"));
      case 0x51: // BINPERSID
        return this.#persistent(this.#pop());

      // Framing.
      case 0x80: {
        // PROTO
        const protocol = this.#uint(1);
        if (protocol > 5) throw this.#error("unknown pickle protocol", "0 to 5", `${protocol}`);
        return;
      }
      case 0x95: {
        // FRAME: lets a reader fetch ahead; all is in memory here
        const length = this.#uint64();
        if (length > this.bytes.length - this.#at) throw this.#cut(length);
        return;
      }
      case 0x82: // EXT1
      case 0x83: // EXT2
      case 0x84: // EXT4
        throw this.#error("uses Python's extension registry, which is not data");
      case 0x97: // NEXT_BUFFER
      case 0x98: // READONLY_BUFFER
        throw this.#error("keeps its arrays outside the file (out-of-band buffers), which is not read");
      case 0x92: {
        // NEWOBJ_EX
        const [callee, args, named] = this.#popMany(3);
        const call = this.#call(callee, [...this.#arguments(args), named as PickleValue]);
        if (this.#isInert(call.callee)) return this.#push(call);
        throw this.#error("makes an object with keyword arguments (NEWOBJ_EX), which is not read");
      }
      default:
        throw this.#error("no instruction of a pickle", undefined, `0x${code.toString(16).padStart(2, "0")}`);
    }
  }

  #push(value: PickleValue): void {
    this.#stack.push(value);
  }

  #top(): PickleValue {
    const value = this.#stack.at(-1);
    if (value === undefined) throw this.#error("takes a value from an empty stack");
    if (value === MARK) throw this.#error("takes a value where only a mark stands");
    return value;
  }

  #pop(): PickleValue {
    const value = this.#top();
    this.#stack.pop();
    return value;
  }

  #popMany(count: number): PickleValue[] {
    const values: PickleValue[] = [];
    for (let i = 0; i < count; i++) values.push(this.#pop());
    return values.reverse();
  }

  #popToMark(): PickleValue[] {
    const mark = this.#marks.pop();
    if (mark === undefined) throw this.#error("needs a mark, and there is none");
    const values = this.#stack.splice(mark);
    return values.slice(1) as PickleValue[];
  }

  #append(values: readonly PickleValue[]): void {
    const target = this.#top();
    const list = this.#inertCall(target) ? (target.items ??= []) : target;
    if (!Array.isArray(list)) throw this.#error(`appends to ${kindOf(target)}`);
    for (const value of values) list.push(value);
  }

  #setItems(items: readonly PickleValue[]): void {
    const target = this.#top();
    if (this.#inertCall(target)) target.entries ??= new Map();
    const dict = target instanceof Call ? target.entries : target;
    if (!(dict instanceof Map)) throw this.#error(`sets an entry on ${kindOf(target)}`);
    if (items.length % 2 !== 0) throw this.#error("sets a key without a value");
    for (let i = 0; i < items.length; i += 2) {
      const key = items[i] as PickleValue;
      if (Array.isArray(key) || key instanceof Map) throw this.#error(`uses ${kindOf(key)} as a key`);
      if (dict.has(key)) throw this.#error("the same key twice", undefined, shown(key));
      dict.set(key, items[i + 1] as PickleValue);
    }
  }

  #addItems(items: readonly PickleValue[]): void {
    const target = this.#top();
    if (this.#inertCall(target)) return this.#append(items);
    if (!(target instanceof Other && target.value instanceof Set)) {
      throw this.#error(`adds a member to ${kindOf(target)}`);
    }
    for (const item of items) target.value.add(item);
  }

  #put(index: number): void {
    this.#memo.set(index, this.#top());
  }

  #get(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) throw this.#error(`fetches memo ${index}, which was never stored`);
    this.#push(value);
  }

  #global(module: string, name: string): Global {
    const full = `${module}.${name}`;
    if (!this.options.allowed.has(full) && this.options.inert?.(full) !== true) {
      throw this.#error(
        `the pickle names ${shownUnlessPlain(full)}, which is not data`,
        undefined,
        undefined,
        "Python would have called it; nothing was run",
      );
    }
    let global = this.#globals.get(full);
    if (global === undefined) this.#globals.set(full, (global = new Global(module, name)));
    return global;
  }

  #call(made: PickleValue | undefined, args: readonly PickleValue[]): Call {
    // What an inert value gives when it is called is as inert as itself, and goes by its name.
    const callee = this.#inertCall(made) ? made.callee : made;
    if (!(callee instanceof Global)) throw this.#error(`calls ${kindOf(callee)}, which is no function`);
    const isDict = this.options.allowed.get(callee.fullName) === "dict";
    return new Call(callee, args, isDict ? new Map() : undefined);
  }

  #arguments(args: PickleValue | undefined): readonly PickleValue[] {
    if (args instanceof Tuple) return args.items;
    throw this.#error(`calls with ${kindOf(args)} for its arguments`);
  }

  #isInert(global: Global): boolean {
    return !this.options.allowed.has(global.fullName);
  }

  #inertCall(value: PickleValue | undefined): value is Call {
    return value instanceof Call && this.#isInert(value.callee);
  }

  #persistent(id: PickleValue): void {
    const { persistent } = this.options;
    if (persistent === undefined) {
      throw this.#error("refers to something outside the file (a persistent id)", undefined, shown(id));
    }
    const made = persistent(id);
    this.#push(made instanceof Global ? made : new Other(made));
  }

  /** Little-endian, of 1, 2 or 4 bytes. */
  #uint(length: 1 | 2 | 4): number {
    const at = this.#skip(length);
    if (length === 1) return this.bytes[at] as number;
    return length === 2 ? this.#view.getUint16(at, true) : this.#view.getUint32(at, true);
  }

  #uint64(): number {
    const value = this.#view.getBigUint64(this.#skip(8), true);
    if (value > BigInt(this.bytes.length)) throw this.#cut(value);
    return Number(value);
  }

  /** Passes `length` bytes, which have to be there; returns where they begin. */
  #skip(length: number): number {
    const at = this.#at;
    if (length > this.bytes.length - at) throw this.#cut(length);
    this.#at = at + length;
    return at;
  }

  #take(length: number): Uint8Array {
    const at = this.#skip(length);
    return this.bytes.subarray(at, at + length);
  }

  #latin1(length: number): string {
    return latin1Of(this.#take(length));
  }

  #utf8(length: number): string {
    const text = utf8Of(this.#take(length));
    if (text === undefined) throw this.#error("holds text that is not UTF-8");
    return text;
  }

  /** The text up to a newline, without it; for the instructions of protocol 0. */
  #line(what: string): string {
    const end = this.bytes.indexOf(0x0a, this.#at);
    if (end < 0) throw this.#error(`ends inside ${what}`);
    const text = this.#latin1(end - this.#at);
    this.#at = end + 1;
    return text;
  }

  #textInteger(booleans: boolean): PickleValue {
    const text = this.#line("an integer");
    // I00 and I01 were False and True before protocol 2.
    if (booleans && (text === "00" || text === "01")) return text === "01";
    const digits = text.endsWith("L") ? text.slice(0, -1) : text;
    if (digits.length > MAX_DIGITS || !/^[+-]?[0-9]+$/.test(digits)) {
      throw this.#error("no integer", undefined, shown(text));
    }
    return narrow(BigInt(digits.replace(/^\+/, "")));
  }

  #textFloat(): number {
    const text = this.#line("a number");
    if (/^[+-]?(inf|nan)$/.test(text))
      return text.endsWith("nan") ? NaN : text[0] === "-" ? -Infinity : Infinity;
    if (!/^[+-]?[0-9.]+(e[+-]?[0-9]+)?$/i.test(text) || Number.isNaN(Number(text))) {
      throw this.#error("no number", undefined, shown(text));
    }
    return Number(text);
  }

  #textIndex(): number {
    const text = this.#line("a memo's number");
    if (!/^[0-9]{1,10}$/.test(text)) throw this.#error("no memo's number", undefined, shown(text));
    return Number(text);
  }

  /** Two's complement, little-endian. */
  #longInteger(length: number): PickleValue {
    const bytes = this.#take(length);
    if (length > MAX_DIGITS) throw this.#error(`an integer of ${length} bytes`, `at most ${MAX_DIGITS}`);
    if (length === 0) return 0;
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0"))
      .reverse()
      .join("");
    return narrow(BigInt.asIntN(8 * length, BigInt(`0x${hex}`)));
  }

  /** A byte string as Python 2's repr writes it: 'it\'s', "\x00". */
  #quoted(): string {
    const text = this.#line("a string");
    const quote = text[0];
    if (text.length < 2 || (quote !== "'" && quote !== '"') || text.at(-1) !== quote) {
      throw this.#error("no quoted string", undefined, shown(text));
    }
    return text.slice(1, -1).replace(/\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|[^])/g, (_, escape: string) => {
      if (/^x./.test(escape)) return String.fromCharCode(parseInt(escape.slice(1), 16));
      if (/^[0-7]/.test(escape)) return String.fromCharCode(parseInt(escape, 8) & 0xff);
      const plain = ESCAPES.get(escape);
      if (plain === undefined) throw this.#error("an unknown escape", undefined, shown(`\\${escape}`));
      return plain;
    });
  }

  /** Python's raw-unicode-escape: only \uXXXX and \UXXXXXXXX are escapes. */
  #rawUnicode(): string {
    return this.#line("a string").replace(/\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))/g, (_, short, long) => {
      const code = parseInt((short ?? long) as string, 16);
      if (code > 0x10ffff) throw this.#error(`${code} is no Unicode character`);
      return String.fromCodePoint(code);
    });
  }

  #cut(length: number | bigint): FormatError {
    const left = this.bytes.length - this.#at;
    return this.#error("the pickle ends inside a value", `${length} more bytes`, `${left}`);
  }

  #error(what: string, expected?: string, found?: string, safe?: string): FormatError {
    return new FormatError(this.where, this.#instruction, what, { expected, found, safe });
  }
}

const ESCAPES: ReadonlyMap<string, string> = new Map([
  ["n", "\n"],
  ["r", "\r"],
  ["t", "\t"],
  ["a", "\x07"],
  ["b", "\b"],
  ["f", "\f"],
  ["v", "\v"],
  ["\\", "\\"],
  ["'", "'"],
  ['"', '"'],
]);

/** Python has one kind of integer; ours is a number as long as that is exact. */
function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function kindOf(value: PickleValue | undefined): string {
  if (value === undefined) return "nothing";
  if (value === null) return "None";
  if (Array.isArray(value)) return "a list";
  if (value instanceof Map) return "a dict";
  if (value instanceof Tuple) return "a tuple";
  if (value instanceof Uint8Array) return "bytes";
  if (value instanceof Global) return `the name ${value.fullName}`;
  if (value instanceof Call) return `a ${value.callee.fullName} object`;
  if (value instanceof Other) return "a set or a reference";
  return typeof value === "string" ? "text" : typeof value === "boolean" ? "a boolean" : "a number";
}

function shown(value: PickleValue): string {
  if (typeof value !== "string") return typeof value === "object" ? kindOf(value) : String(value);
  return quoted(value);
}

function shownUnlessPlain(name: string): string {
  return /^[\w.]{1,200}$/.test(name) ? name : quoted(name);
}
