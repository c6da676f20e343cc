/** Processes that train together, as the rest of the system sees them: who one is, and what all of them know. */

export interface Ranks {
  /** From 0; the first writes what a run leaves behind, for all. */
  readonly rank: number;
  readonly size: number;
  /** Machines that they run on. */
  readonly machines: number;
  /** The library that moves their bytes: "Open MPI 4.1.4". */
  readonly library: string;
  /**
   * Every rank's bytes, in the order of the ranks; may differ in length. All ranks call it with the same tag. A patient
   * one waits as long as the others live, instead of as long as a rank may be silent.
   *
   * @throws DistributedError when they do not.
   */
  gather(tag: string, bytes: Uint8Array, options?: { readonly patient?: boolean }): Promise<Uint8Array[]>;
}

/** What a rank is doing, in the order of `enum Phase` (native/ranks/watch.h). */
export const phases = [
  "starting",
  "loading",
  "computing",
  "exchanging",
  "saving",
  "evaluating",
  "ending",
] as const;

export type RankPhase = (typeof phases)[number];

/** The ranks as the process that trains in them knows them. */
export interface JoinedRanks extends Ranks {
  /** Ranks of this machine. */
  readonly localSize: number;
  /** Threads that the engine is to have: the cores of this machine, shared among its ranks where none are bound; 0 for all. */
  readonly threads: number;
  /** What this rank is doing, for the others to tell when it is late. */
  place(phase: RankPhase, step: number): void;
  /** How long a silent rank is waited for, in seconds, and what is said after that: what is safe, how to go on. */
  watch(timeout: number, advice: string): void;
  /** This rank was asked to stop, so it does not wait long for others that may be gone. */
  stopping(): void;
  /** This rank is about to say what ends it; the others leave the word to it. */
  failing(): void;
  /** All ranks call it, when nothing of what they share is looked at any more. */
  close(): Promise<void>;
}
