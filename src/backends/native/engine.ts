/**
 * The engine in the addon.
 */

import { addonError, loadAddon } from "../../core/addon.js";
import type { Engine, Run } from "../engine/engine.js";

let loaded: Engine | undefined;

/** @throws ResourceError when the addon has not been built or does not load. */
export function engine(): Engine {
  loaded ??= askingOnce(loadAddon() as Engine);
  return loaded;
}

/** The addon's own words for want of memory or threads become ours. */
export function engineError(error: unknown, bytes: number): unknown {
  return addonError(error, {
    expected: `${Math.ceil(bytes / 2 ** 20).toLocaleString("en")} MB for the engine's buffers`,
    hint: "Use a smaller --image_size, or a smaller --batch_size and in training an --lr smaller in proportion",
  });
}

/** V8 wants one owner of a piece of memory, so a run's arrays are asked for once. */
function askingOnce(addon: Engine): Engine {
  const states = new WeakMap<Run, Float32Array[]>();
  const stateOf = (run: Run): Float32Array[] => {
    const state = states.get(run) ?? addon.stateOf(run);
    states.set(run, state);
    return state;
  };
  return { ...addon, stateOf };
}
