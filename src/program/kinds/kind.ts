/**
 * What the compiler, the printer, the verifier and the encoder ask of a kind of step; kinds.ts has a row for each.
 */

import type { Role } from "../../models/layers.js";
import type { Plane, Program, Step } from "../program.js";
import type { Scope } from "./scope.js";

export type StepOf<K extends Step["kind"]> = Extract<Step, { kind: K }>;

/** What the compiler decides of a step once all steps are there. */
export const unplaced = {
  accumulates: [],
  weights: 0,
  bias: -1,
  trains: false,
  statistics: "moving",
} as const;

/** A trained tensor of a step, without those of its batch norm. */
export interface Tensor {
  readonly name: "weight" | "bias";
  readonly role: Role;
  readonly shape: readonly number[];
}

/** A step's parts as text, for the kind to put in order. */
export interface PrintedParts {
  readonly inputs: string;
  /** Planes and their size; empty where a step writes none. */
  readonly outputs: string;
  readonly weights: string;
}

export interface Kind<S extends Step> {
  /** Where steps of this kind stand in a program. */
  readonly place: "first" | "between" | "last";
  /** What native/runtime/program.cc calls it. */
  readonly code: number;
  /**
   * Takes the layers of one step from the front of those left, and gives what they define its planes. The rest of the
   * step is `unplaced` as yet.
   *
   * @returns undefined when the next layer begins no step of this kind.
   */
  bind(scope: Scope): S | undefined;
  /** In the order in which they lie and are listed. */
  tensors(step: S): readonly Tensor[];
  outputShape(step: S, planes: readonly Plane[]): readonly number[];
  /** How often a forward pass of one image uses each weight. */
  uses(step: S, planes: readonly Plane[]): number;
  /** Bytes that the step reads of each image itself, not of planes. */
  pictureBytes(step: S): number;
  print(step: S, parts: PrintedParts): string;
  /** @throws ProgramError when the step's own numbers do not fit each other; sizes are "height x width" of each plane. */
  verify(step: S, sizes: StepSizes, program: Program): void;
  /** The words that only steps of this kind have. */
  encode(step: S): readonly number[];
}

export interface StepSizes {
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** @throws ProgramError naming the first size that is not the expected one. */
  expectAll(sizes: readonly string[], expected: string, what: string): void;
}

/** [channels, height, width] of the planes a step writes. */
export function planesShape({ first, count }: Step, planes: readonly Plane[]): number[] {
  const { height, width } = planes[first] as Plane;
  return [count, height, width];
}

export function outputPixels({ first }: Step, planes: readonly Plane[]): number {
  const { height, width } = planes[first] as Plane;
  return height * width;
}
