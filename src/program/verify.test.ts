/** Each check of verify.ts, seen failing on a program broken by hand in one place. */

import assert from "node:assert/strict";
import { suite, test } from "node:test";

import { shuffleNetV2 } from "../models/shufflenet-v2.js";
import { compile } from "./compile.js";
import type { Bucket, DepthwiseStep, MemoryPlan, PointwiseStep, Program, Step } from "./program.js";
import { ProgramError } from "./program-error.js";
import { verify } from "./verify.js";

const good = compile(shuffleNetV2({ variant: "torchvision", width: 0.5, classes: 10 }), {
  batch: 2,
  imageSize: 64,
  mode: "train",
});

suite("verify", () => {
  test("passes what the compiler made", () => verify(good));

  refuses(
    "values that overlap",
    /needs the value of plane 0, but the value of plane 1 was written over it/,
    () => {
      const value = good.memory.value.slice();
      value[1] = value[0] as number;
      return withMemory({ value });
    },
  );

  refuses(
    "a gradient on a value that is still needed",
    /needs the value of plane 0, but the gradient of plane 3975/,
    () => {
      const gradient = good.memory.gradient.slice();
      gradient[gradient.length - 1] = good.memory.value[0] as number;
      return withMemory({ gradient });
    },
  );

  refuses("a value that does not last until its backward step", /needs the value of plane 3975/, () => {
    const gradient = good.memory.gradient.slice();
    gradient[gradient.length - 1] = good.memory.value.at(-1) as number;
    return withMemory({ gradient });
  });

  refuses("a buffer that ends beyond the arena", /of plane \d+ at/, () =>
    withMemory({ size: good.memory.size - 64 }),
  );

  refuses("an unaligned buffer", /value of plane 0 at/, () => {
    const value = good.memory.value.map((offset) => offset + 32);
    return withMemory({ value, size: good.memory.size + 64 });
  });

  refuses("a plane without a place", /value of plane 5 at/, () => {
    const value = good.memory.value.slice();
    value[5] = -1;
    return withMemory({ value });
  });

  refuses("a wrong accumulation flag", /accumulates=true, expected false/, () =>
    withStep("stage2.unit1.side.depthwise", (step: DepthwiseStep) => ({
      ...step,
      accumulates: step.accumulates.map(() => true),
    })),
  );

  refuses("a plane read before it is written", /reads plane 3975 before/, () =>
    withStep("stage2.unit2.main.before", (step: PointwiseStep) => ({
      ...step,
      inputs: [3975, ...step.inputs.slice(1)],
    })),
  );

  refuses("a plane read twice by one step", /reads a plane twice/, () =>
    withStep("stage2.unit2.main.before", (step: PointwiseStep) => ({
      ...step,
      inputs: [...step.inputs.slice(1), step.inputs[1] as number],
    })),
  );

  refuses("planes of different sizes in one product", /input or output plane is/, () =>
    withStep("conv5", (step: PointwiseStep) => ({ ...step, inputs: [0, ...step.inputs.slice(1)] })),
  );

  refuses("a window that does not fit", /rows 16 -> 7/, () =>
    withStep("stage2.unit1.main.depthwise", (step: DepthwiseStep) => ({
      ...step,
      geometry: { ...step.geometry, outputHeight: 7 },
    })),
  );

  refuses("weights at another tensor's place", /"conv5.weight" is not/, () =>
    withStep("conv5", (step: PointwiseStep) => ({ ...step, weights: step.weights + 1 })),
  );

  refuses("a tensor that the table lacks", /"conv1.weight" is not 648 elements/, () => ({
    ...good,
    parameters: good.parameters.filter((p) => p.name !== "conv1.weight"),
  }));

  refuses("a tensor of no step", /the table has 352047 parameters, the steps 352042/, () => ({
    ...good,
    parameters: [...good.parameters, { ...good.parameters[0]!, name: "stray", size: 5 }],
  }));

  refuses("parameters in another order than backward's", /"conv5.gamma" begins at/, () => {
    const place = (name: string) => good.parameters.find((p) => p.name === name)!;
    const [gamma, beta] = [place("conv5.gamma"), place("conv5.beta")];
    const swapped = new Map([
      [gamma, { ...gamma, offset: beta.offset }],
      [beta, { ...beta, offset: gamma.offset }],
    ]);
    return {
      ...good,
      parameters: good.parameters.map((p) => swapped.get(p) ?? p),
      planes: good.planes.map((plane) =>
        plane.gamma >= gamma.offset && plane.gamma < gamma.offset + gamma.size
          ? { ...plane, gamma: plane.beta, beta: plane.gamma }
          : plane,
      ),
    };
  });

  refuses("a plane with another plane's gamma", /gamma of plane 3 is not at/, () => ({
    ...good,
    planes: good.planes.map((plane, id) => (id === 3 ? { ...plane, gamma: plane.gamma + 1 } : plane)),
  }));

  refuses("buckets that leave a gap", /bucket 1 is/, () =>
    withBucket(1, (bucket) => ({ ...bucket, begin: bucket.begin + 1 })),
  );

  refuses("a bucket called final before its last step", /bucket 0 is/, () =>
    withBucket(0, (bucket) => ({ ...bucket, afterStep: bucket.afterStep + 1 })),
  );

  refuses("buckets that end before the parameters", /buckets follow a step/, () => ({
    ...good,
    buckets: good.buckets.slice(0, -1),
  }));

  refuses("a program without its head", /last step is not the head/, () => ({
    ...good,
    steps: good.steps.slice(0, -1),
  }));
});

function refuses(what: string, message: RegExp, broken: () => Program): void {
  test(`refuses ${what}`, () => {
    assert.throws(
      () => verify(broken()),
      (error: unknown) => {
        assert.ok(error instanceof ProgramError);
        assert.match(error.message, message);
        return true;
      },
    );
  });
}

function withMemory(change: Partial<MemoryPlan>): Program {
  return { ...good, memory: { ...good.memory, ...change } };
}

function withBucket(index: number, change: (bucket: Bucket) => Bucket): Program {
  return { ...good, buckets: good.buckets.map((bucket, i) => (i === index ? change(bucket) : bucket)) };
}

function withStep<S extends Step>(name: string, change: (step: S) => S): Program {
  assert.ok(good.steps.some((step) => step.name === name));
  return { ...good, steps: good.steps.map((step) => (step.name === name ? change(step as S) : step)) };
}
