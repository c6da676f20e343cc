/** What a lister has to say of a set beside its pictures; whoever opens the set hands it in, and says it. */

export interface Remarks {
  /** Files and folders that systems and editors left, passed over by name. */
  system: number;
  /** Files passed over because they are plainly no pictures, such as notes; each by its path. */
  readonly others: string[];
  /** Whatever else is not as one would think, a sentence each. */
  readonly notices: string[];
}

export function noRemarks(): Remarks {
  return { system: 0, others: [], notices: [] };
}
