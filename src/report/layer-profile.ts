/** Where a step's time goes, of a run that was profiled (run/profile/): read back from its `layers.json`. */

import { join } from "node:path";

import { z } from "zod";

import { exists } from "../core/durable.js";
import { readWhole } from "../formats/read-file.js";

export type LayerProfile = z.infer<typeof schema>;

const MOST_BYTES = 16 * 2 ** 20;

const schema = z.object({
  first_step: z.number(),
  last_step: z.number(),
  seconds: z.number().positive(),
  layers: z.array(
    z.object({
      layer: z.string(),
      direction: z.enum(["forward", "backward"]),
      seconds: z.number(),
      share: z.number(),
    }),
  ),
});

/** @returns null where the run was not profiled. @throws what is wrong with a file that cannot be used. */
export async function readLayerProfile(runDir: string): Promise<LayerProfile | null> {
  const path = join(runDir, "profile", "layers.json");
  if (!(await exists(path))) return null;
  return schema.parse(
    JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(await readWhole(path, MOST_BYTES))),
  );
}
