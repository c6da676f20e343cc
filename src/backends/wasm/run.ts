/**
 * A run: an instance that holds one program (native/wasm/run.cc has the other side), and the arrays it is handed.
 *
 * What is handed over is checked here, in the words of native/binding/engine.cc: an error inside would cost the run.
 */

import { type EngineBatch, type EngineProfile, type Run, type StepNumbers, views } from "../engine/engine.js";
import { type Exports, Instance, type WasmHost } from "./instance.js";

/** Arrays of the state: all for training, the first two for inference. */
const TRAINING_ARRAYS = 5;
const INFERENCE_ARRAYS = 2;
const ROW = 12;
const UPDATE = 5;

/** Of the program's words (engine/encode.ts) those that calls are checked against. */
class Shape {
  readonly training: boolean;
  readonly batch: number;
  readonly imageBytes: number;
  readonly classes: number;
  readonly #planes: Float64Array;

  constructor(words: Float64Array) {
    const [, training = 0, batch = 0, size = 0, classes = 0] = words;
    this.training = training === 1;
    this.batch = batch;
    this.imageBytes = size * size * 3;
    this.classes = classes;
    this.#planes = words.slice(12, 12 + 8 * (words[7] ?? 0));
  }

  /** Elements of planes of one size in `images` pictures. */
  elements(planes: Int32Array, images: number): number {
    const sizeOf = (plane: number): readonly (number | undefined)[] => [
      this.#planes[8 * plane],
      this.#planes[8 * plane + 1],
    ];
    if (planes.length === 0) throw new TypeError("a map has planes");
    const [height = 0, width = 0] = sizeOf(planes[0] as number);
    for (const plane of planes) {
      const [h, w] = sizeOf(plane);
      if (plane < 0 || h !== height || w !== width || height === 0) {
        throw new TypeError("planes of one size are expected");
      }
    }
    return planes.length * images * height * width;
  }

  hasGradient(plane: number): boolean {
    return (this.#planes[8 * plane + 5] ?? -1) >= 0;
  }
}

export class WasmRun implements Run {
  readonly brand = "run";
  readonly #shape: Shape;
  readonly #threads: number;
  /** Floats of each array of the state. */
  readonly #sizes: readonly number[];
  readonly #features: number;
  readonly #isTeam: boolean;
  #instance: Instance | undefined;
  #isBusy = false;
  #isLoaded = false;
  /** After an error inside, which closed it. */
  #isLost = false;
  /** Of a step's shards the one that comes next, and how many there are. */
  #shard = { index: 0, count: 1 };
  /** Where what is handed over again and again lies. */
  readonly #places = new Map<string, { readonly place: number; readonly bytes: number }>();

  /** @throws MemoryError; TypeError for a program that is none. */
  constructor(host: WasmHost, words: Float64Array, threads: number, isTeam: boolean) {
    this.#shape = new Shape(words);
    this.#threads = host.isShared ? threads : 1;
    this.#isTeam = isTeam;
    const instance = new Instance(host);
    const { exports } = instance;
    const place = instance.put(words);
    exports.createRun(place, words.length, this.#threads, Number(isTeam));
    exports.release(place);
    const arrays = this.#shape.training ? TRAINING_ARRAYS : INFERENCE_ARRAYS;
    this.#sizes = Array.from({ length: arrays }, (_, which) => exports.stateSize(which));
    this.#features = isTeam ? 0 : exports.features();
    instance.startThreads(this.#threads);
    this.#instance = instance;
  }

  close(): void {
    // Whoever closes what failed has that error to tell, not another.
    if (this.#isLost) return;
    this.#idle().close();
    this.#forget();
  }

  state(): Float32Array[] {
    const instance = this.#single();
    this.#expectTraining("an inference program carries no state of training");
    return this.#sizes.map((size, which) => instance.floats(instance.exports.stateArray(which), size));
  }

  async writeState(arrays: readonly (Float32Array | null)[]): Promise<void> {
    this.#idle();
    for (const [which, array] of arrays.entries()) {
      const size = this.#sizes[which];
      if (array === null) continue;
      if (size === undefined) throw new TypeError("a program that infers has parameters and statistics only");
      expectLength(array, size, "an array of the state");
    }
    await this.#turn(async (instance) => {
      for (const [which, array] of arrays.entries()) {
        if (array !== null) instance.write(instance.exports.stateArray(which), array);
      }
      if (!this.#shape.training) await instance.call("prepare");
      this.#isLoaded = true;
    });
  }

  async trainSteps(
    batches: readonly EngineBatch[],
    loss: Float64Array,
    updates: Float64Array | null,
    first: number,
    count: number,
  ): Promise<StepNumbers[]> {
    this.#single();
    this.#expectTraining("an inference program cannot train");
    if (batches.length === 0) throw new TypeError("a step has batches");
    if (updates === null && (batches.length !== 1 || count !== 1)) {
      throw new TypeError("only a step of one shard goes without its update");
    }
    if (updates !== null && updates.length !== UPDATE * Math.floor((first + batches.length) / count)) {
      throw new TypeError("an update for each whole step is expected");
    }
    for (const batch of batches) this.#check(batch);
    if (first !== 0 && (first !== this.#shard.index || count !== this.#shard.count)) {
      throw new TypeError("shards of a step come in their order");
    }
    const rows: StepNumbers[] = [];
    let applied = 0;
    for (const [i, batch] of batches.entries()) {
      const index = (first + i) % count;
      const isWhole = index + 1 === count;
      this.#shard = { index: isWhole ? 0 : index + 1, count };
      const numbers = await this.#turn(async (instance) => {
        const places = this.#batch(instance, batch);
        const lossAt = this.#keep(instance, "loss", loss);
        const update = updates?.subarray(UPDATE * applied, UPDATE * (applied + 1));
        const updateAt = update === undefined || !isWhole ? 0 : this.#keep(instance, "update", update);
        const computesOnly = Number(updates === null);
        await instance.call("trainShard", places, lossAt, updateAt, index, count, computesOnly);
        return instance.answer(ROW + 1);
      });
      const row = [...numbers.subarray(0, ROW)] as unknown as StepNumbers;
      const [, , , , finite, , failures] = row;
      if (isWhole && finite === 1 && failures === 0) applied++;
      if (isWhole || i + 1 === batches.length) rows.push(row);
      if (numbers[ROW] === 1) break;
    }
    return rows;
  }

  setLossScale([kind = 0, scale = 1, good = 0, bad = 0, consecutive = 0]: Float64Array): void {
    this.#training().setLossScale(kind, scale, good, bad, consecutive);
  }

  abandonStep(): Promise<void> {
    this.#training();
    return this.#turn((instance) => instance.call("abandonStep"));
  }

  requestStop(): void {
    // Of an atomic: in the middle of a call, too.
    this.#open().exports.requestStop();
  }

  async applyUpdate(update: Float64Array): Promise<void> {
    this.#training();
    await this.#turn((instance) => instance.call("applyUpdate", this.#keep(instance, "update", update)));
  }

  async infer(images: Uint8Array, count: number, logits: Float32Array): Promise<void> {
    this.#idle();
    const { batch, imageBytes, classes } = this.#shape;
    if (!this.#isLoaded || this.#shape.training) throw new TypeError("load weights first");
    const batches = images.length / (batch * imageBytes);
    if (!Number.isInteger(batches) || batches === 0 || (batches > 1 && !this.#isTeam)) {
      throw new TypeError("images are not whole batches of the program's size");
    }
    expectLength(logits, count * classes, "logits");
    await this.#turn(async (instance) => {
      const place = this.#keep(instance, "images", images);
      const out = this.#room(instance, "logits", logits.byteLength);
      await instance.call("infer", place, count, out);
      instance.read(out, logits);
    });
  }

  logits(out: Float32Array): void {
    const instance = this.#single();
    expectLength(out, this.#shape.batch * this.#shape.classes, "logits");
    instance.read(instance.exports.logits(), out);
  }

  map(planes: Int32Array, images: number, view: number, out: Float32Array): void {
    const instance = this.#single();
    expectLength(out, this.#shape.elements(planes, images), "map");
    if (views[view] === "gradient" && !planes.every((plane) => this.#shape.hasGradient(plane))) {
      throw new TypeError("the plane has no gradient here");
    }
    const place = instance.put(planes);
    const room = instance.exports.allocate(out.byteLength);
    instance.exports.map(place, planes.length, images, view, room);
    instance.read(room, out);
    instance.exports.release(room);
    instance.exports.release(place);
  }

  async runTime(time: number, batch: EngineBatch, loss: Float64Array): Promise<[number, number]> {
    this.#training();
    this.#check(batch);
    return this.#turn(async (instance) => {
      const places = this.#batch(instance, batch);
      await instance.call("runTime", time, places, this.#keep(instance, "loss", loss));
      const [crossEntropy = 0, decayLoss = 0] = instance.answer(2);
      return [crossEntropy, decayLoss];
    });
  }

  seconds(backward: boolean, out: Float64Array): void {
    const instance = this.#idle();
    instance.read(instance.exports.seconds(Number(backward)), out);
  }

  startProfile(room: number): void {
    this.#single().exports.startProfile(room);
  }

  takeProfile(): EngineProfile {
    const instance = this.#single();
    const { exports } = instance;
    exports.endProfile();
    const [lost = 0] = instance.answer(1);
    const threads = Array.from({ length: this.#threads }, (_, thread) => {
      const numbers = 5 * exports.profiled(thread, 0);
      const place = exports.allocate(8 * numbers);
      exports.profiled(thread, place);
      const spans = instance.doubles(place, numbers);
      exports.release(place);
      return spans;
    });
    const wall = 1000 * (performance.timeOrigin + performance.now());
    return { threads, jobs: new Float64Array(), lost, now: performance.now() * 1e6, wall };
  }

  /** Works on the instance, alone. */
  async #turn<T>(work: (instance: Instance) => Promise<T>): Promise<T> {
    const instance = this.#idle();
    this.#isBusy = true;
    try {
      return await work(instance);
    } catch (error) {
      this.#instance?.drop();
      this.#forget();
      this.#isLost = true;
      throw error;
    } finally {
      this.#isBusy = false;
    }
  }

  #forget(): void {
    this.#instance = undefined;
    this.#places.clear();
  }

  #open(): Instance {
    if (this.#instance === undefined) throw new TypeError("the run is closed");
    return this.#instance;
  }

  #idle(): Instance {
    const instance = this.#open();
    if (this.#isBusy) throw new TypeError("the run is busy with another call");
    return instance;
  }

  /** For what only a single executor can do. */
  #single(): Instance {
    const instance = this.#idle();
    if (this.#isTeam) throw new TypeError("a team of threads shares this run: it only infers");
    return instance;
  }

  #training(): Exports {
    const { exports } = this.#single();
    this.#expectTraining("an inference program has no steps of training");
    return exports;
  }

  #expectTraining(what: string): void {
    if (!this.#shape.training) throw new TypeError(what);
  }

  #check([images, labels, mask, weights, mixed, shares]: EngineBatch): void {
    const { batch, imageBytes } = this.#shape;
    expectLength(images, batch * imageBytes, "images");
    this.#checkLabels(labels, "labels");
    if (mask !== null) expectLength(mask, batch * this.#features, "dropout mask");
    if (weights !== null) expectLength(weights, batch, "weights");
    if (mixed !== null) this.#checkLabels(mixed, "mixed labels");
    if (shares !== null) expectLength(shares, batch, "shares");
    if ((mixed === null) !== (shares === null))
      throw new TypeError("mixed labels have their shares beside them");
  }

  #checkLabels(labels: Int32Array, name: string): void {
    const { batch, classes } = this.#shape;
    expectLength(labels, batch, name);
    const wrong = labels.findIndex((label) => label < 0 || label >= classes);
    if (wrong < 0) return;
    throw new TypeError(`label ${labels[wrong]} of sample ${wrong} is not one of ${classes} classes`);
  }

  /** The arrays of a batch in memory, and where they are. */
  #batch(instance: Instance, batch: EngineBatch): number {
    const names = ["images", "labels", "mask", "weights", "mixed", "shares"];
    const places = batch.map((array, i) =>
      array === null ? 0 : this.#keep(instance, names[i] as string, array),
    );
    return this.#keep(instance, "batch", Uint32Array.from(places));
  }

  #keep(instance: Instance, name: string, values: ArrayBufferView): number {
    const place = this.#room(instance, name, values.byteLength);
    instance.write(place, values);
    return place;
  }

  #room(instance: Instance, name: string, bytes: number): number {
    const had = this.#places.get(name);
    if (had !== undefined && had.bytes >= bytes) return had.place;
    if (had !== undefined) instance.exports.release(had.place);
    const place = instance.exports.allocate(bytes);
    this.#places.set(name, { place, bytes });
    return place;
  }
}

function expectLength(array: { readonly length: number }, length: number, name: string): void {
  if (array.length !== length)
    throw new TypeError(`${name} has ${array.length} elements, expected ${length}`);
}
