import assert from "node:assert/strict";
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, before, suite, test } from "node:test";

import sharp from "sharp";

import { tryLock } from "../core/lock.js";
import { DataError, ResourceError, UsageError } from "../core/error.js";
import {
  cachedFingerprint,
  cacheFolder,
  type CacheProgress,
  cacheSide,
  decodedCache,
  resizedCache,
} from "./cache.js";
import type { Dataset } from "./dataset.js";
import { imageInfo } from "./pictures/image-info.js";
import type { ObjectBox } from "./pictures/augment.js";
import type { Encoded, Pixels } from "./pictures/render.js";

const folder = mkdtempSync(join(tmpdir(), "riffle-cache-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const BOX: ObjectBox = { xmin: 0.125, ymin: 0.25, xmax: 0.5, ymax: 0.75 };
/** Sizes on both sides of the shorter side 40 that the tests ask for; the fourth does not decode, the fifth is gone. */
const SIZES = [
  [90, 60],
  [40, 70],
  [30, 20],
  [80, 80],
  [0, 0],
  [60, 121],
] as const;
const pictures: Buffer[] = [];

before(async () => {
  for (const [i, [width, height]] of SIZES.entries()) {
    if (width === 0) pictures.push(Buffer.alloc(0));
    else {
      const gradient = Buffer.from(
        Uint8Array.from({ length: width * height * 3 }, (_, at) => ((at / 3) % width) * 2 + 20 * i),
      );
      pictures.push(
        await sharp(gradient, { raw: { width, height, channels: 3 } })
          .jpeg()
          .toBuffer(),
      );
    }
  }
  pictures[3] = Buffer.from(pictures[3]!.subarray(0, 400));
});

/** Pictures 0 .. 5, `copies` times over. */
function setOf(copies = 1, fingerprint = "f".repeat(64)): Dataset & { reads: number } {
  const set = {
    reads: 0,
    classes: ["a", "b"],
    size: SIZES.length * copies,
    label: (sample: number) => sample % 2,
    name: (sample: number) => `picture-${sample}`,
    fingerprint,
    read(sample: number): Promise<Encoded> {
      set.reads++;
      const at = sample % SIZES.length;
      if (at === 4) return Promise.reject(new DataError({ where: "picture-4", what: "is gone" }));
      return Promise.resolve({ kind: "encoded", bytes: pictures[at]!, boxes: at === 0 ? [BOX] : [] });
    },
  };
  return set;
}

async function encodedOf(set: Dataset, sample: number): Promise<Encoded> {
  const source = await set.read(sample);
  assert.equal(source.kind, "encoded");
  return source;
}

function filesIn(path: string): string[] {
  return readdirSync(path)
    .filter((name) => !name.endsWith("index"))
    .sort();
}

suite("the shorter side of a cache", () => {
  test("is 256 up to 224 px, then the evaluation's", () => {
    assert.deepEqual([32, 96, 224, 225, 299].map(cacheSide), [256, 256, 256, 257, 342]);
  });
});

suite("--cache resized", () => {
  const cache = join(folder, "resized");
  let cached: Dataset;
  before(async () => {
    cached = await resizedCache(setOf(), cache, { shorterSide: 40 });
  });
  after(() => cached.close?.());

  test("scales larger pictures down to the shorter side and leaves others as they are, byte for byte", async () => {
    for (const [sample, size] of [
      [0, [60, 40]],
      [5, [40, 81]],
    ] as const) {
      const { bytes } = await encodedOf(cached, sample);
      const { width, height, format } = imageInfo(bytes, "cached");
      assert.deepEqual([[width, height], format], [size, "jpeg"]);
    }
    for (const sample of [1, 2]) {
      assert.deepEqual(Buffer.from((await encodedOf(cached, sample)).bytes), pictures[sample]);
    }
  });

  test("holds pictures close to the originals", async () => {
    const { bytes } = await encodedOf(cached, 0);
    const small = await sharp(bytes).raw().toBuffer();
    const expected = await sharp(pictures[0]).resize(60, 40, { kernel: "cubic" }).raw().toBuffer();
    const worst = small.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i]!)), 0);
    assert.ok(worst <= 12, `${worst} levels`);
  });

  test("keeps labels, names and boxes", async () => {
    assert.deepEqual((await encodedOf(cached, 0)).boxes, [BOX]);
    assert.deepEqual((await encodedOf(cached, 1)).boxes, []);
    for (let sample = 0; sample < cached.size; sample++) {
      assert.deepEqual([cached.label(sample), cached.name(sample)], [sample % 2, `picture-${sample}`]);
    }
  });

  test("passes on what cannot be decoded, and says of what cannot be read what the data says", async () => {
    assert.deepEqual(Buffer.from((await encodedOf(cached, 3)).bytes), pictures[3]);
    await assert.rejects(cached.read(4), (error: DataError) => error.problem.what === "is gone");
  });

  test("is another set than its source, and the same each time", () => {
    const source = setOf();
    assert.equal(cached.fingerprint, cachedFingerprint(source, "resized", 40));
    const others = [
      source.fingerprint,
      cachedFingerprint(source, "resized", 41),
      cachedFingerprint(source, "decoded", 40),
      cachedFingerprint(setOf(1, "e".repeat(64)), "resized", 40),
    ];
    assert.ok(!others.includes(cached.fingerprint));
    assert.equal(new Set(others).size, 4);
  });

  test("is opened without reading the data again", async () => {
    const source = setOf();
    const again = await resizedCache(source, cache, { shorterSide: 40 });
    await again.read(0);
    assert.equal(source.reads, 0);
    await again.close?.();
  });

  test("refuses a folder made for other data, another size, or with other files", async () => {
    for (const [set, shorterSide, where] of [
      [setOf(1, "e".repeat(64)), 40, cache],
      [setOf(), 41, cache],
    ] as const) {
      await assert.rejects(resizedCache(set, where, { shorterSide }), DataError);
    }
    const foreign = join(folder, "foreign");
    mkdirSync(foreign);
    writeFileSync(join(foreign, "thesis.txt"), "mine");
    await assert.rejects(resizedCache(setOf(), foreign, { shorterSide: 40 }), DataError);
    assert.deepEqual(filesIn(foreign), ["thesis.txt"]);
  });

  test("refuses pixels, which are in memory already", async () => {
    const pixels: Pixels = { kind: "pixels", data: new Uint8Array(3), width: 1, height: 1, channels: 3 };
    const set = { ...setOf(), read: () => Promise.resolve(pixels) };
    await assert.rejects(resizedCache(set, join(folder, "pixels"), { shorterSide: 40 }), UsageError);
  });
});

test("a picture that breaks off at its end is not made whole by a cache", async () => {
  const noise = Buffer.from(Uint8Array.from({ length: 320 * 320 * 3 }, (_, at) => (at * at * 7) >>> 3));
  const whole = await sharp(noise, { raw: { width: 320, height: 320, channels: 3 } })
    .jpeg()
    .toBuffer();
  const broken = Buffer.concat([whole.subarray(0, -200), Buffer.of(0xff, 0xd9)]);
  const set: Dataset = {
    ...setOf(1, "b".repeat(64)),
    size: 2,
    read: (sample) => Promise.resolve({ kind: "encoded", bytes: sample === 0 ? whole : broken }),
  };
  const resized = await resizedCache(set, join(folder, "broken"), { shorterSide: 40 });
  assert.ok((await encodedOf(resized, 0)).bytes.length < whole.length);
  assert.ok(broken.equals((await encodedOf(resized, 1)).bytes), "kept as it is, for training to refuse");
  await resized.close?.();
  const decoded = await decodedCache(set, { shorterSide: 40, memory: 2 ** 30 });
  assert.equal((await decoded.read(0)).kind, "pixels");
  await assert.rejects(decoded.read(1), /does not decode/);
});

suite("a cache that was stopped while it was made", () => {
  const copies = 400; // 2,400 pictures: three shards
  const whole = join(folder, "whole");
  before(async () => {
    await (await resizedCache(setOf(copies), whole, { shorterSide: 40 })).close?.();
  });

  test("goes on behind the shards that are there, to the same bytes", async () => {
    const stopped = join(folder, "stopped");
    const stop = new AbortController();
    const progress = ({ done }: CacheProgress): void => {
      if (done >= 1200) stop.abort();
    };
    const options = { shorterSide: 40, progress, signal: stop.signal };
    await assert.rejects(
      resizedCache(setOf(copies), stopped, options),
      (error) => error === stop.signal.reason,
    );
    const left = filesIn(stopped);
    assert.ok(left.includes("shard-00000.tfrecords") && !left.includes("manifest.json"), left.join(" "));
    assert.ok(!left.some((name) => name.startsWith(".saving")), left.join(" "));
    const totals: number[] = [];
    const again = await resizedCache(setOf(copies), stopped, {
      shorterSide: 40,
      progress: ({ total }) => totals.push(total),
    });
    await again.close?.();
    assert.ok(totals.every((total) => total <= 1376) && totals.length > 0, String(totals[0]));
    assert.deepEqual(filesIn(stopped), filesIn(whole));
    for (const name of filesIn(whole)) {
      assert.ok(readFileSync(join(stopped, name)).equals(readFileSync(join(whole, name))), name);
    }
  });

  test("makes a damaged shard again, and removes what a kill left", async () => {
    const damaged = join(folder, "damaged");
    cpSync(whole, damaged, { recursive: true });
    rmSync(join(damaged, "manifest.json"));
    truncateSync(
      join(damaged, "shard-00001.tfrecords"),
      statSync(join(whole, "shard-00001.tfrecords")).size - 1,
    );
    writeFileSync(join(damaged, ".saving-999999999-shard-00002.tfrecords"), "half");
    await (await resizedCache(setOf(copies), damaged, { shorterSide: 40 })).close?.();
    assert.deepEqual(filesIn(damaged), filesIn(whole));
    for (const name of filesIn(whole)) {
      assert.ok(readFileSync(join(damaged, name)).equals(readFileSync(join(whole, name))), name);
    }
  });
});

suite("a cache that two ask for at once", () => {
  test("is made once; the second waits for it, and says so", async () => {
    const [first, second] = [setOf(200), setOf(200)];
    const notices: string[] = [];
    const path = join(folder, "shared");
    const options = { shorterSide: 40, onNotice: (text: string) => notices.push(text) };
    const caches = await Promise.all([
      resizedCache(first, path, options),
      resizedCache(second, path, options),
    ]);
    assert.ok(Math.min(first.reads, second.reads) === 0, `${first.reads} and ${second.reads} pictures read`);
    assert.equal(notices.length, 1);
    assert.match(notices[0] ?? "", /process \d+ on .*, making a cache since .*waiting for it/);
    for (const cached of caches) {
      assert.ok((await encodedOf(cached, 1)).bytes.length > 0);
      await cached.close?.();
    }
    assert.ok(!readdirSync(path).some((name) => name.startsWith(".lock")));
  });

  test("H3: does not wait without an end for a process that writes nothing, and says for whom it waited", async () => {
    const path = join(folder, "stuck");
    mkdirSync(path);
    const lock = await tryLock(path, "a test");
    const notices: string[] = [];
    const onNotice = (text: string): void => void notices.push(text);
    await assert.rejects(
      resizedCache(setOf(), path, { shorterSide: 40, patience: 1000, onNotice }),
      (error: unknown) =>
        error instanceof ResourceError && /process \d+ on .*, a test since/.test(error.message),
    );
    assert.match(notices.join(), new RegExp(`process ${process.pid} on .*${path}; waiting for it`));
    assert.ok("release" in lock);
    await lock.release();
    const cached = await resizedCache(setOf(), path, { shorterSide: 40 });
    await cached.close?.();
  });

  test("stops waiting when it is stopped", async () => {
    const path = join(folder, "waited-for");
    mkdirSync(path);
    const lock = await tryLock(path, "a test");
    const stop = new AbortController();
    const onNotice = (): void => stop.abort();
    const waiting = resizedCache(setOf(), path, { shorterSide: 40, signal: stop.signal, onNotice });
    await assert.rejects(waiting, (error) => error === stop.signal.reason);
    assert.ok("release" in lock);
    await lock.release();
  });
});

suite("the folder of a cache", () => {
  test("lies beside the data, or where it is asked for", async () => {
    const data = join(folder, "data");
    mkdirSync(data);
    const path = await cacheFolder(data, undefined, setOf(), 256);
    const name = basename(path);
    assert.match(name, /^resized-256-v2-f{16}-[0-9a-f]{8}$/);
    assert.equal(path, join(data, ".riffle-cache", name));
    assert.equal(await cacheFolder(data, join(folder, "asked"), setOf(), 256), join(folder, "asked", name));
  });

  test("is another once a picture was written anew, and the old one is named", async () => {
    const data = join(folder, "rewritten");
    mkdirSync(data);
    const notices: string[] = [];
    const made = async (modified: number): Promise<string> => {
      const set = { ...setOf(), modified: (sample: number) => (sample === 2 ? modified : 7) };
      const path = await cacheFolder(data, undefined, set, 40);
      const cache = await resizedCache(set, path, {
        shorterSide: 40,
        onNotice: (text) => notices.push(text),
      });
      await cache.close?.();
      return path;
    };
    const first = await made(1.5);
    assert.equal(await made(1.5), first);
    assert.deepEqual(notices, []);
    assert.notEqual(await made(1.75), first);
    assert.match(
      notices.join(),
      new RegExp(`written anew since the cache ${first} was made.*can be removed`),
    );
  });

  test("is the user's where the data cannot be written", async (context) => {
    const data = join(folder, "read-only");
    mkdirSync(data);
    chmodSync(data, 0o555);
    try {
      writeFileSync(join(data, "probe"), "");
      context.skip("this user may write everywhere");
      return;
    } catch {
      // As it should be.
    }
    process.env["XDG_CACHE_HOME"] = join(folder, "user");
    assert.match(await cacheFolder(data, undefined, setOf(), 256), /user\/riffle\/resized-256-v2-f{16}-/);
    delete process.env["XDG_CACHE_HOME"];
  });
});

suite("--cache decoded", () => {
  test("holds the pixels in memory, with their boxes", async () => {
    const cached = await decodedCache(setOf(), { shorterSide: 40, memory: 1e6 });
    const picture = (await cached.read(0)) as Pixels;
    assert.deepEqual([picture.width, picture.height, picture.channels], [60, 40, 3]);
    assert.deepEqual(picture.boxes, [BOX]);
    const small = (await cached.read(2)) as Pixels;
    assert.deepEqual(Buffer.from(small.data), await sharp(pictures[2]).raw().toBuffer());
    await assert.rejects(cached.read(3), DataError);
    await assert.rejects(cached.read(4), (error: DataError) => error.problem.what === "is gone");
    assert.equal(cached.fingerprint, cachedFingerprint(setOf(), "decoded", 40));
  });

  test("refuses what does not fit, with the numbers, before decoding all of it", async () => {
    const source = setOf(1000);
    await assert.rejects(decodedCache(source, { shorterSide: 40, memory: 1e6 }), (error: ResourceError) => {
      assert.ok(error instanceof ResourceError);
      assert.match(error.problem.expected ?? "", /about \d+ MB for 6000 pictures/);
      assert.equal(error.problem.found, "1 MB");
      return true;
    });
    assert.ok(source.reads <= 32, `${source.reads} pictures were read`);
  });
});

test("what lies under alpha keeps its colours in both caches, as Pillow has them", async () => {
  const [width, height] = [90, 70];
  const at = (i: number): number[] => [(i * 7) % 256, (i * 3) % 256, (i >> 5) % 256];
  const opaque = Buffer.from(Array.from({ length: width * height }, (_, i) => at(i)).flat());
  const cut = Buffer.from(
    Array.from({ length: width * height }, (_, i) => [...at(i), i % 3 === 0 ? 0 : 255]).flat(),
  );
  const png = (data: Buffer, channels: 3 | 4): Promise<Buffer> =>
    sharp(data, { raw: { width, height, channels } }).png().toBuffer();
  const [plain, cutOut] = [await png(opaque, 3), await png(cut, 4)];
  const of = (bytes: Buffer, fingerprint: string): Dataset => ({
    ...{ classes: ["a"], size: 1, label: () => 0, name: () => "picture", fingerprint },
    read: () => Promise.resolve<Encoded>({ kind: "encoded", bytes }),
  });
  const options = { shorterSide: 40 };
  const resizedPicture = async (bytes: Buffer, name: string): Promise<Uint8Array> => {
    const set = await resizedCache(of(bytes, name.repeat(64)), join(folder, `alpha-${name}`), options);
    const { bytes: small } = await encodedOf(set, 0);
    await set.close?.();
    return small;
  };
  assert.deepEqual(await resizedPicture(cutOut, "a"), await resizedPicture(plain, "b"));
  const decodedPicture = async (bytes: Buffer): Promise<Encoded | Pixels> =>
    (await decodedCache(of(bytes, "c".repeat(64)), { ...options, memory: 1e9 })).read(0);
  assert.deepEqual(await decodedPicture(cutOut), await decodedPicture(plain));
});
