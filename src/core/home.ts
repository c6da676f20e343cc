/**
 * `~` at the beginning of a path. A shell puts the home folder in its place only where the word begins with it, not in
 * `--data_dir=~/photos`, in quotes, in a list or in a variable; a folder called `~` would be made instead.
 *
 * Every path that comes from outside passes here: options and arguments (cli/command.ts), settings
 * (settings/read-settings.ts), lists, variables of the environment.
 */

import { homedir } from "node:os";
import { join } from "node:path";

/** The path with the home folder in the place of `~`; a folder of that name is `./~`. */
export function atHome(path: string): string {
  if (path !== "~" && !path.startsWith("~/")) return path;
  try {
    return join(homedir(), path.slice(1));
  } catch {
    // A user without a home, as in many containers.
    return path;
  }
}
