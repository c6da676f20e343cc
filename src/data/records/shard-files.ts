/**
 * Descriptors of shards: opened when a record is read, closed again once many others were read from since, so that a
 * set may have more shards than a process may have files open.
 */

import { close, open } from "node:fs";
import { promisify } from "node:util";

import { errorCode } from "../../core/error.js";
import { unreadable } from "../unreadable.js";

/** Shards left open while nobody reads from them; a process may often open only 256 files. */
const MOST_IDLE = 64;

interface OpenShard {
  readonly file: Promise<number>;
  /** Reads under way. */
  users: number;
}

export class ShardFiles {
  /** By path, the one that was not read from for longest first. */
  readonly #shards = new Map<string, OpenShard>();

  /** `check` throws for a file that is not the one that is meant. */
  constructor(private readonly check: (path: string, file: number) => Promise<void>) {}

  /** Reads with the descriptors of these shards, which stay open meanwhile. */
  async use<T>(paths: readonly string[], read: (files: readonly number[]) => Promise<T>): Promise<T> {
    const shards = paths.map((path) => this.#take(path));
    try {
      return await read(await Promise.all(shards.map(({ file }) => file)));
    } finally {
      for (const shard of shards) shard.users--;
      if (this.#shards.size > MOST_IDLE) await this.#closeIdle(this.#shards.size - MOST_IDLE);
    }
  }

  /** Closes them all; a later read opens them again. */
  async close(): Promise<void> {
    const all = [...this.#shards.values()];
    this.#shards.clear();
    for (const { file } of all) await file.then(closeFile, () => undefined);
  }

  #take(path: string): OpenShard {
    const shard = this.#shards.get(path) ?? { file: this.#open(path), users: 0 };
    this.#shards.delete(path);
    this.#shards.set(path, shard);
    shard.users++;
    return shard;
  }

  async #open(path: string): Promise<number> {
    try {
      const file = await openFile(path, "r").catch(async (error: unknown) => {
        if (errorCode(error) !== "EMFILE" || (await this.#closeIdle(MOST_IDLE)) === 0) throw error;
        return openFile(path, "r");
      });
      try {
        await this.check(path, file);
      } catch (error) {
        await closeFile(file);
        throw error;
      }
      return file;
    } catch (error) {
      this.#shards.delete(path);
      throw unreadable(path, error);
    }
  }

  /** Closes up to `most`, those first that were not read from for longest; says how many. */
  async #closeIdle(most: number): Promise<number> {
    const idle = [...this.#shards].filter(([, { users }]) => users === 0).slice(0, most);
    for (const [path] of idle) this.#shards.delete(path);
    for (const [, { file }] of idle) await file.then(closeFile, () => undefined);
    return idle.length;
  }
}

// Plain descriptors and callbacks: a FileHandle's read costs the main thread several times as much.
const openFile = promisify(open);
const closeFile = promisify(close);
