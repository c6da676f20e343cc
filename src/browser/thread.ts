/** A thread of the engine, a worker's worker: it is told once that it is there, and then works when it is asked. */

import { type ThreadStart, work } from "../backends/wasm/instance.js";
import { workerScope } from "./scope.js";

workerScope.onmessage = ({ data }: { readonly data: ThreadStart }) => work(data);
workerScope.postMessage("here");
