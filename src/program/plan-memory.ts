/**
 * Gives every buffer its place in one arena, so that memory is asked for once and never grows.
 *
 * A buffer lives from the step that first writes it to the step that last reads it, and its place is free
 * for others before and after. Time runs forward through the steps and, in training, backward again:
 * step i of S runs forward at time i and backward at time 2S - 1 - i.
 *
 *     training   value      forward of its producer      .. backward of its producer
 *                gradient   backward of its last reader  .. backward of its producer
 *     inference  value      forward of its producer      .. forward of its last reader
 *     frozen     value      the same, or                 .. backward of its first reader that trains
 *     kept       value      forward of its producer      .. the end
 *
 * So at the end of a training step's forward half every value stands, and backward the gradients of early
 * layers settle where values of late layers stood: the whole costs little more than the values alone.
 *
 * Offsets and sizes are in bytes; offsets are multiples of ALIGNMENT.
 */

import {
  outputsOf,
  planeBytes,
  type KeptMap,
  type MemoryPlan,
  type Plane,
  type PlaneId,
  type Step,
} from "./program.js";

interface MemoryRequest {
  readonly mode: "train" | "infer";
  readonly batch: number;
  readonly planes: readonly Plane[];
  readonly steps: readonly Step[];
  readonly kept?: readonly KeptMap[];
}

/** One buffer's life: times are inclusive. */
interface Lifetime {
  readonly plane: PlaneId;
  readonly what: "value" | "gradient";
  readonly from: number;
  readonly to: number;
}

export function planMemory(request: MemoryRequest): MemoryPlan {
  const { planes, batch } = request;
  const place = {
    value: new Float64Array(planes.length).fill(-1),
    gradient: new Float64Array(planes.length).fill(-1),
  };
  const arena = new FreeList();
  for (const { born, dying } of timeline(request)) {
    for (const { plane, what } of born) {
      place[what][plane] = arena.take(planeBytes(planes[plane] as Plane, batch));
    }
    for (const { plane, what } of dying) {
      arena.give(place[what][plane] as number, planeBytes(planes[plane] as Plane, batch));
    }
  }
  return { ...place, size: arena.size };
}

/** At each time: what must have a place from now on, and what is not needed after it. */
function timeline(request: MemoryRequest): { born: Lifetime[]; dying: Lifetime[] }[] {
  const times = request.steps.length * (request.mode === "train" ? 2 : 1);
  const moments = Array.from({ length: times }, () => ({ born: [] as Lifetime[], dying: [] as Lifetime[] }));
  for (const life of lifetimes(request)) {
    moments[life.from]?.born.push(life);
    moments[life.to]?.dying.push(life);
  }
  return moments;
}

function lifetimes({ mode, planes, steps, kept = [] }: MemoryRequest): Lifetime[] {
  const produced = new Int32Array(planes.length).fill(-1);
  const lastRead = new Int32Array(planes.length).fill(-1);
  const firstTrainingRead = new Map<PlaneId, number>();
  steps.forEach((step, time) => {
    for (const plane of outputsOf(step)) produced[plane] = lastRead[plane] = time;
    for (const plane of step.inputs) {
      lastRead[plane] = time;
      if (step.trains && !firstTrainingRead.has(plane)) firstTrainingRead.set(plane, time);
    }
  });
  const end = steps.length * (mode === "train" ? 2 : 1) - 1;
  const stands = new Set(kept.flatMap((map) => map.planes));
  const backward = (time: number) => 2 * steps.length - 1 - time;
  return planes.flatMap((_, plane): Lifetime[] => {
    const from = produced[plane] as number;
    const read = lastRead[plane] as number;
    const value = (to: number): Lifetime => ({
      plane,
      what: "value",
      from,
      to: stands.has(plane) ? end : to,
    });
    if (!(steps[from]?.trains ?? false)) {
      const reader = firstTrainingRead.get(plane);
      return [value(reader === undefined ? read : backward(reader))];
    }
    return [value(backward(from)), { plane, what: "gradient", from: backward(read), to: backward(from) }];
  });
}

/** Free ranges of an arena that grows at its end: lowest fitting range first, neighbours joined again. */
class FreeList {
  size = 0;
  /** Disjoint, ascending, never touching. */
  readonly #free: { start: number; end: number }[] = [];

  take(count: number): number {
    const index = this.#free.findIndex(({ start, end }) => end - start >= count);
    const range = this.#free[index];
    if (range === undefined) return this.#grow(count);
    const { start } = range;
    range.start += count;
    if (range.start === range.end) this.#free.splice(index, 1);
    return start;
  }

  give(start: number, count: number): void {
    const end = start + count;
    const index = this.#free.findIndex((range) => range.start >= end);
    const at = index < 0 ? this.#free.length : index;
    const before = this.#free[at - 1];
    const after = this.#free[at];
    const joinsBefore = before?.end === start;
    const joinsAfter = after?.start === end;
    if (joinsBefore && joinsAfter) {
      before.end = after.end;
      this.#free.splice(at, 1);
    } else if (joinsBefore) before.end = end;
    else if (joinsAfter) after.start = start;
    else this.#free.splice(at, 0, { start, end });
  }

  /** Extends the arena, beginning with a free range at its very end if there is one. */
  #grow(count: number): number {
    const last = this.#free.at(-1);
    const start = last?.end === this.size ? last.start : this.size;
    if (start !== this.size) this.#free.pop();
    this.size = start + count;
    return start;
  }
}
