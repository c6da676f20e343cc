/** A mistake in the compiler or in a hand-made program, never in a user's input. */
export class ProgramError extends Error {
  override readonly name = "ProgramError";
}

export function check(holds: boolean, problem: string): asserts holds {
  if (!holds) throw new ProgramError(`the program is wrong: ${problem}`);
}
