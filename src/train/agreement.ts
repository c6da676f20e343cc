/** What the ranks of a run have to agree on before its first step (distributed/handshake.ts). */

import { createHash } from "node:crypto";

import type { Backend, TrainingState } from "../backends/backend.js";
import { type Agreed, agree } from "../distributed/handshake.js";
import type { Ranks } from "../distributed/ranks.js";
import type { Program } from "../program/program.js";
import { riffleVersion } from "../core/version.js";
import type { CheckpointState } from "../run/checkpoint-state.js";
import { valuesOf } from "../settings/read-settings.js";
import { type SettingName, settings as table } from "../settings/settings.js";
import type { Plan } from "./plan.js";

/** Changes with what ranks say to each other. */
const PROTOCOL = "1";

/** Of each machine or rank its own; where files lie is told by what is in them. */
const OWN: ReadonlySet<SettingName> = new Set(["threads", "rank_size", "log_name"]);

/** Before anything is allocated. @throws DistributedError */
export async function agreeOnPlan(ranks: Ranks, plan: Plan, backend: Backend): Promise<void> {
  const { settings, model, data, content, length, shards, checkpoint } = plan;
  const named = Object.entries(valuesOf(settings))
    .filter(([name]) => !OWN.has(name as SettingName) && table[name as SettingName].type !== "path")
    .map(([name, value]) => [`--${name}`, String(value)] as const);
  const said: Agreed = {
    protocol: PROTOCOL,
    version: riffleVersion(),
    "instruction set": `${backend.name} ${backend.machine().isa}`,
    network: `${model.variant} ${model.width}x, ${model.classes} classes, ${model.image_size} px`,
    classes: short(JSON.stringify(model.class_names)),
    "training pictures": `${data.train.size}, ${data.train.fingerprint.slice(0, 16)}`,
    "their content": content === undefined ? "not looked at" : short(JSON.stringify(content)),
    "validation pictures":
      data.validation === undefined
        ? "none"
        : `${data.validation.size}, ${data.validation.fingerprint.slice(0, 16)}`,
    steps: `${length.steps} of ${length.scheduled}`,
    shards: String(shards.of),
    "goes on from": checkpoint === undefined ? "the start" : placeOf(checkpoint.state),
    ...Object.fromEntries(named),
  };
  await agree(ranks, said);
}

function placeOf({ step, skipped = 0, loss_scale: scale }: CheckpointState): string {
  const scaled = scale === undefined ? "" : `, loss scale ${Object.values(scale).join(" ")}`;
  return `step ${step}${skipped === 0 ? "" : `, ${skipped} skipped`}${scaled}`;
}

/** What is loaded: the table of parameters and the numbers that training begins with. @throws DistributedError */
export async function agreeOnWeights(ranks: Ranks, program: Program, state: TrainingState): Promise<void> {
  if (ranks.size === 1) return;
  const { parameters, statistics, momentum, averages } = state;
  const hash = (values: Float32Array): string => {
    const { buffer, byteOffset, byteLength } = values;
    return short(new Uint8Array(buffer, byteOffset, byteLength));
  };
  await agree(ranks, {
    "parameter table": short(
      JSON.stringify(program.parameters.map(({ name, shape, offset }) => [name, shape, offset])),
    ),
    parameters: hash(parameters),
    statistics: hash(statistics),
    momentum: hash(momentum),
    averages: hash(averages),
  });
}

function short(bytes: string | Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex").slice(0, 16);
}
