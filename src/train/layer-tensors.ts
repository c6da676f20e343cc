/**
 * The tensors of a step of training by layer, in the order in which they are made: each can be looked at right after its
 * layer has run in a walk (backends/backend.ts), before another takes its place in memory.
 *
 *     forward    weight, bias, gamma, beta    what the layer is given
 *                z                            what its convolution made: [batch, channels, height, width]
 *                y                            the same as its readers see it, normalised and clipped
 *                logits                       of the head: [batch, classes]
 *     backward   g                            the gradient of scale * z + shift, masked by the ReLU
 *                weight.gradient, ...         of the layer's parameters
 */

import type { TrainingRun, WalkTime } from "../backends/backend.js";
import type { Parameter, Plane, Program, Step } from "../program/program.js";
import { outputsOf } from "../program/program.js";

export interface LayerTensor extends Pick<WalkTime, "direction"> {
  readonly layer: string;
  /** "weight", "z", "weight.gradient" */
  readonly tensor: string;
  readonly shape: readonly number[];
  /** A copy, or what is right until the next step of the walk. */
  readonly read: () => Float32Array;
}

/** What the layer left that has just run; asked for at that time of the walk. */
export async function tensorsAt(
  { step: index, direction }: WalkTime,
  run: Pick<TrainingRun, "planes" | "logits" | "readState">,
  program: Program,
): Promise<LayerTensor[]> {
  const { parameters, gradients } = await run.readState();
  const step = program.steps[index] as Step;
  const layer = step.name;
  const own = parametersOf(program, step);
  const planes = outputsOf(step);
  const map = (tensor: string, view: "value" | "normalised" | "gradient"): LayerTensor[] => {
    const plane = program.planes[step.first];
    if (planes.length === 0 || plane === undefined) return [];
    const read = (): Float32Array => run.planes(planes, view);
    return [{ layer, tensor, direction, shape: mapShape(program, step, plane), read }];
  };
  if (direction === "forward") {
    return [
      ...own.map((parameter) => ({
        layer,
        tensor: shortName(parameter),
        direction,
        shape: parameter.shape,
        read: () => parameters.subarray(parameter.offset, parameter.offset + parameter.size),
      })),
      ...map("z", "value"),
      ...map("y", "normalised"),
      ...(step.kind === "head"
        ? [
            {
              layer,
              tensor: "logits",
              direction,
              shape: [program.batch, program.classes],
              read: () => run.logits(),
            },
          ]
        : []),
    ];
  }
  return [
    ...map("g", "gradient"),
    ...own.map((parameter) => ({
      layer,
      tensor: `${shortName(parameter)}.gradient`,
      direction,
      shape: parameter.shape,
      read: () => gradients.subarray(parameter.offset, parameter.offset + parameter.size),
    })),
  ];
}

/** Weight and bias, then gamma and beta of its batch norm. */
export function parametersOf({ parameters }: Pick<Program, "parameters">, step: Step): Parameter[] {
  const isOwn = ({ offset, role, plane }: Parameter): boolean =>
    role === "gamma" || role === "beta"
      ? step.count > 0 && plane === step.first
      : offset === step.weights || offset === step.bias;
  return parameters.filter(isOwn);
}

function mapShape({ batch }: Program, { count }: Step, { height, width }: Plane): number[] {
  return [batch, count, height, width];
}

/** "stage2.unit1.main.before.weight" -> "weight" */
function shortName({ name }: Parameter): string {
  return name.slice(name.lastIndexOf(".") + 1);
}
