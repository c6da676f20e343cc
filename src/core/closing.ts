/**
 * What has to be closed when work ends, however it ends: files, locks, threads.
 *
 * A step that fails does not keep the others from running, never takes the place of the error that ended the work, and
 * never turns work that was done into a failure: it is told, and that is all.
 */

/** Notes a step for the end; they run from the last to the first. */
export type AtEnd = (step: () => unknown) => void;

/** @param warn is told of every step that failed. */
export async function closing<T>(
  work: (atEnd: AtEnd) => Promise<T>,
  warn: (what: string) => void = () => undefined,
): Promise<T> {
  const steps: (() => unknown)[] = [];
  try {
    return await work((step) => void steps.push(step));
  } finally {
    for (const step of steps.reverse()) {
      try {
        await step();
      } catch (error) {
        warn(`what was done stands, but not all could be closed: ${String(error)}`);
      }
    }
  }
}
