/**
 * A worker of Node's that is a thread of the engine, of one run after the other.
 */

import { parentPort } from "node:worker_threads";

import { type ThreadStart, work } from "./instance.js";

parentPort?.on("message", (start: ThreadStart) => work(start));
