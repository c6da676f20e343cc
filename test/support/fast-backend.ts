/** The engine that users get on this machine: native where it is built, else WebAssembly. */

import { chooseBackend } from "../../src/backends/registry.js";

export const fastBackend = await chooseBackend();
