/** Curves of a run, or of several one over the other: which there are, and from how many points. */

import { type Chart, MOST_POINTS, type Series, thinned } from "./chart.js";
import { everyRate, type RatePoint } from "./every-rate.js";
import { percent, plain, whole } from "./figures.js";
import { meanOf } from "./growing-curve.js";
import { bestOf, type EvaluationPoint, type History, type StepPoint } from "./history.js";

/** What is drawn of a run; with its beginning the rates of all steps, not those of its log alone. */
type Course = Pick<History, "steps" | "evaluations"> & Partial<Pick<History, "start" | "end">>;

/** One of several runs. */
export interface DrawnRun extends Course {
  readonly name: string;
  /** Which colour it has. */
  readonly run: number;
}

/** What may be left out of a curve. */
export type CurveKind = "training" | "validation";

/** Of a run by itself. `stretch` is how many steps a place of the training's curves is the mean of, at most. */
export function runCharts(course: Course): { readonly charts: Chart[]; readonly stretch: number } {
  const run = drawn(course);
  const stretch = Math.ceil(course.steps.length / Math.max(1, run.training.length));
  return { charts: courseCharts([run]), stretch };
}

/** Of a run that is watched, its pace beside the rest. */
export function liveCharts(course: Course, hidden: ReadonlySet<string>): Chart[] {
  const run = drawn(course);
  return [...courseCharts([run], hidden), ...paceCharts([run])].map((chart) => ({ ...chart, hasKey: false }));
}

/** Of several that are compared: fewer points of each, and what the pointer meets is broader. */
export function comparedCharts(runs: readonly DrawnRun[], hidden: ReadonlySet<string>): Chart[] {
  const most = Math.min(MOST_POINTS, Math.max(FEWEST_POINTS, Math.floor((2 * MOST_POINTS) / runs.length)));
  const all = runs.map((run) => drawn(run, most, run));
  return [...courseCharts(all, hidden), ...paceCharts(all)].map((chart) => ({
    ...chart,
    hasKey: false,
    grain: 3,
  }));
}

/** A run of fewer epochs has so many places on its curves, where it has as many steps. */
const FEWEST_POINTS = 40;

/** A run's points, few enough to be drawn. */
interface Drawn {
  /** Mean over epochs, or as many stretches. */
  readonly training: readonly StepPoint[];
  /** Shorter stretches: of what does not jump. */
  readonly steady: readonly StepPoint[];
  readonly rates: readonly RatePoint[];
  readonly evaluations: readonly EvaluationPoint[];
  readonly of: Pick<DrawnRun, "name" | "run"> | undefined;
}

function drawn(course: Course, most = MOST_POINTS, of?: DrawnRun): Drawn {
  const { steps, start = null, end = null } = course;
  const steady = thinned(steps, most, meanOf);
  return {
    training: trainingPoints(course, most),
    steady,
    rates: everyRate({ steps, start, end }, most) ?? steady,
    evaluations: course.evaluations,
    of,
  };
}

/** An epoch's mean says more than a step's noise. */
function trainingPoints({ steps }: Course, most: number): StepPoint[] {
  const epochs = Math.ceil(steps.at(-1)?.epoch ?? 0);
  return thinned(steps, Math.min(most, Math.max(FEWEST_POINTS, epochs)), meanOf);
}

function courseCharts(runs: readonly Drawn[], hidden: ReadonlySet<string> = new Set()): Chart[] {
  const isShown = (kind: CurveKind): boolean => !hidden.has(kind);
  const scored = (value: (point: StepPoint | EvaluationPoint) => number | null, text: Text): Series[] =>
    runs.flatMap((run) => [
      ...(isShown("training") ? [seriesOf(run, "training", run.training, value, text)] : []),
      ...(isShown("validation") ? [seriesOf(run, "validation", run.evaluations, value, text)] : []),
    ]);
  return withPoints(runs, [
    {
      title: "Loss (cross-entropy)",
      cutsSpikes: true,
      series: scored(
        ({ loss }) => loss,
        (y) => `loss ${plain(y)}`,
      ),
    },
    {
      title: "Top-1",
      series: scored(
        ({ top1 }) => top1,
        (y) => `top-1 ${percent(y)}`,
      ),
      isShare: true,
      yText: (y) => percent(y, 0),
    },
    {
      title: "Learning rate",
      series: runs.map((run) =>
        seriesOf(
          run,
          "rate",
          run.rates,
          ({ rate }) => rate,
          (y) => `rate ${plain(y)}`,
        ),
      ),
    },
  ]);
}

function paceCharts(runs: readonly Drawn[]): Chart[] {
  return withPoints(runs, [
    {
      title: "Pictures a second",
      series: runs.map((run) =>
        seriesOf(
          run,
          "rate",
          run.steady,
          ({ speed }) => speed,
          (y) => `${plain(y, 3)} pictures a second`,
        ),
      ),
      yText: whole,
    },
  ]);
}

/** Those that have points, over the same epochs. */
function withPoints(runs: readonly Drawn[], charts: readonly Omit<Chart, "xLabel" | "xTo">[]): Chart[] {
  const ends = runs.flatMap(({ steady, evaluations }) => [steady.at(-1)?.epoch, evaluations.at(-1)?.epoch]);
  const xTo = ends.reduce<number>((last, epoch) => Math.max(last, epoch ?? 0), 0);
  return charts
    .filter(({ series }) => series.some(({ points }) => points.length > 0))
    .map((chart) => ({ ...chart, xLabel: "epoch", xTo }));
}

/** A value in words. */
type Text = (value: number) => string;

function seriesOf<P extends RatePoint | EvaluationPoint>(
  { of }: Drawn,
  kind: Series["kind"],
  points: readonly P[],
  value: (point: P) => number | null | undefined,
  text: Text,
): Series {
  const best = kind === "validation" ? bestOf(points as readonly EvaluationPoint[]) : undefined;
  const name = of === undefined ? kind : kind === "validation" ? `${of.name}, validation` : of.name;
  return {
    name,
    kind,
    run: of?.run,
    points: points.flatMap((point) => {
      const y = value(point);
      if (y === null || y === undefined) return [];
      const isBest = point === best;
      const where = `epoch ${plain(point.epoch)}, step ${whole(point.step)}`;
      const says = `${name}, ${where}: ${text(y)}${isBest ? ", the best so far" : ""}`;
      return [{ x: point.epoch, y, says, isBest }];
    }),
  };
}
