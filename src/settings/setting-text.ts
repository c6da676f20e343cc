/** What a text stands for that is given as a setting: on a command line, in a file. */

import { atHome } from "../core/home.js";
import type { Setting } from "./setting-kinds.js";

/** The typed value a text stands for; the text itself where it stands for none, for `accepts` to refuse. */
export function fromText(setting: Setting<unknown>, text: string): unknown {
  switch (setting.type) {
    case "integer":
    case "number":
      return decimal(text) ?? text;
    case "boolean":
      if (/^(true|yes|on|1)$/i.test(text)) return true;
      return /^(false|no|off|0)$/i.test(text) ? false : text;
    case "choice": {
      // Widths are written 1.0, 1 and 1.0x alike.
      const value = decimal(text.replace(/x$/i, ""));
      return typeof setting.choices?.[0] === "number" ? (value ?? text) : text;
    }
    case "path":
      return atHome(text);
    case "text":
      return text;
  }
}

/** Decimal notation only: Number("") is 0 and Number("0x10") is 16, which nobody means. */
function decimal(text: string): number | undefined {
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : undefined;
}
