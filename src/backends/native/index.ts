/**
 * The native backend: programs run by the addon on all cores, off the JavaScript thread.
 */

import { environment } from "../../core/environment.js";
import type { Backend } from "../backend.js";
import type { EngineAccess } from "../engine/engine.js";
import { engineBackend } from "../engine/runs.js";
import { engine, engineError } from "./engine.js";
import { machine } from "./machine.js";

export const nativeAccess: EngineAccess = {
  name: "native",
  engine,
  machine,
  products: () => environment("RIFFLE_PRODUCTS"),
  callsAtOnce: 2,
  inWords: engineError,
};

export const nativeBackend: Backend = engineBackend(nativeAccess);
