/** Runs the command line that the process was started with and sets the exit code. Importing it does so. */

import { runCommandLine } from "./command-line.js";
import { ignoresHangUp } from "./stop.js";

if (ignoresHangUp()) process.on("SIGHUP", () => {});
process.exitCode = await runCommandLine(process.argv.slice(2));
// Whatever still waits (a timer, a thread) has nothing to add; let what was written reach its reader.
process.stdout.write("", () => process.exit());
