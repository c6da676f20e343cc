/**
 * Trains in a process of its own, for tests that kill it: prints the name of each event, a line each.
 *
 *     node train-child.js '{"resume": "runs/a"}'
 */

import { readSettings } from "../../src/settings/read-settings.js";
import { train } from "../../src/train/trainer.js";

const given = JSON.parse(process.argv[2] ?? "{}") as Record<string, unknown>;
await train(readSettings(given), (event) => process.stdout.write(`${event.event}\n`));
