/**
 * Runs as tests want them: on arrays of the test's own, and with a look inside.
 */

import type { Backend, BackendOptions, TrainingArrays, TrainingRun } from "../../src/backends/backend.js";
import { type Engine, engine, type Run, stateArrays } from "../../src/backends/native/engine.js";
import { NativeTraining } from "../../src/backends/native/index.js";
import type { Table } from "../../src/backends/reference/planes.js";
import { ReferenceTraining } from "../../src/backends/reference/reference.js";
import type { PlaneId, Program } from "../../src/program/program.js";

/** In the order of `enum class Table` (native/runtime/batch_norm.h). */
export const tables = [
  "mean",
  "variance",
  "scale",
  "shift",
  "gradientSum",
  "gradientDot",
] as const satisfies Table[];

/** Planes are copied in and out as [batch, height, width]; a table is one number per plane. */
export interface Inspection {
  readPlane(plane: PlaneId, what: "value" | "gradient"): Float64Array;
  writePlane(plane: PlaneId, what: "value" | "gradient", values: Float64Array): void;
  readTable(table: Table): Float64Array;
  writeTable(table: Table, values: Float64Array): void;
  /** Runs one step in one direction on what stands in planes and tables; the stem wants the batch's images. */
  runStep(index: number, direction: "forward" | "backward", images?: Uint8Array): Promise<void>;
}

/** A run that works on `state` as if it were its own: written before each call, read after it. */
export interface MirroredRun extends TrainingRun {
  readonly inspect: Inspection;
}

export function trainOn(
  backend: Backend,
  program: Program,
  state: TrainingArrays,
  options: BackendOptions,
): MirroredRun {
  const run = backend.train(program, options);
  const mirrored = async <T>(work: () => Promise<T>): Promise<T> => {
    await run.writeState(state);
    const result = await work();
    const own = await run.readState();
    for (const name of stateArrays) state[name].set(own[name]);
    return result;
  };
  return {
    readState: () => run.readState(),
    writeState: (from) => run.writeState(from),
    step: (batch, loss, update) => mirrored(() => run.step(batch, loss, update)),
    steps: (loop) => mirrored(() => run.steps(loop)),
    scaleLoss: (scale) => run.scaleLoss(scale),
    abandonStep: () => run.abandonStep(),
    requestStop: () => run.requestStop(),
    computeGradients: (batch, loss) => mirrored(() => run.computeGradients(batch, loss)),
    applyUpdate: (update) => mirrored(() => run.applyUpdate(update)),
    logits: () => run.logits(),
    walk: (batch, loss, scale, visit) => mirrored(() => run.walk(batch, loss, scale, visit)),
    planes: (planes, view) => run.planes(planes, view),
    kept: (layer) => run.kept(layer),
    stepSeconds: () => run.stepSeconds(),
    close: () => run.close(),
    // Made when it is asked for: looking needs the addon, running does not.
    get inspect(): Inspection {
      const inspect = inspectionOf(run);
      return {
        ...inspect,
        runStep: (index, direction, images) => mirrored(() => inspect.runStep(index, direction, images)),
      };
    },
  };
}

function inspectionOf(run: TrainingRun): Inspection {
  if (run instanceof NativeTraining) return ofNative(run);
  if (run instanceof ReferenceTraining) return ofReference(run);
  throw new Error("there is no way to look into this run");
}

/** What native/binding/inspect.cc adds to the engine. */
interface Looking extends Engine {
  runStep(run: Run, index: number, backward: boolean, images: Uint8Array | null): Promise<void>;
  plane(run: Run, id: number, gradient: boolean, write: boolean, values: Float64Array): void;
  table(run: Run, which: number, write: boolean, values: Float64Array): void;
}

function ofNative({ run: { handle, program } }: NativeTraining): Inspection {
  const addon = engine() as Looking;
  const elements = (plane: number): number => {
    const shape = program.planes[plane];
    return shape ? program.batch * shape.height * shape.width : 0;
  };
  return {
    readPlane(plane, what) {
      const values = new Float64Array(elements(plane));
      addon.plane(handle, plane, what === "gradient", false, values);
      return values;
    },
    writePlane: (plane, what, values) => addon.plane(handle, plane, what === "gradient", true, values),
    readTable(table) {
      const values = new Float64Array(program.planes.length);
      addon.table(handle, tables.indexOf(table), false, values);
      return values;
    },
    writeTable: (table, values) => addon.table(handle, tables.indexOf(table), true, values),
    runStep: (index, direction, images) =>
      addon.runStep(handle, index, direction === "backward", images ?? null),
  };
}

function ofReference({ execution }: ReferenceTraining): Inspection {
  const { machine } = execution;
  const find = (plane: PlaneId, what: "value" | "gradient"): Float64Array => {
    const found = { value: machine.values, gradient: machine.gradients }[what][plane];
    if (found === undefined) throw new RangeError(`plane ${plane} has no ${what} here`);
    return found;
  };
  return {
    readPlane: (plane, what) => find(plane, what).slice(),
    writePlane: (plane, what, values) => find(plane, what).set(values),
    readTable: (table) => machine.tables[table].slice(),
    writeTable: (table, values) => machine.tables[table].set(values),
    // The images are those of the last whole run.
    runStep: (index, direction) => Promise.resolve(execution.runStep(index, direction)),
  };
}
