#!/usr/bin/env node
/**
 * The program: looks at the Node that runs it, and at whether all is installed, before anything is loaded that needs either.
 * Of its own it uses nothing that Node 12 lacks, so that an old one is told what it is and not what it stumbles over.
 */

/** `engines` of package.json. */
const OLDEST = [20, 15] as const;

const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])) {
  refuse(
    `this is Node ${process.versions.node}, and Riffle needs ${OLDEST.join(".")} or later.`,
    "Install a newer one: https://nodejs.org, or nvm install --lts",
  );
} else {
  import("./start.js").catch((error: { code?: string; message: string }) => {
    if (error.code !== "ERR_MODULE_NOT_FOUND") throw error;
    // A project need not have the lockfile that npm ci wants.
    const command = import.meta.url.indexOf("/node_modules/") < 0 ? "npm ci" : "npm install";
    refuse(`not all that it needs is installed: ${error.message}.`, `Install it: ${command}`);
  });
}

function refuse(what: string, hint: string): void {
  console.error(`riffle: ${what}\n  ${hint}`);
  // As of all that the machine lacks (docs/exit-codes.md).
  process.exitCode = 6;
}
