/** How the program is called: the one form that is right in a clone and in a project (docs/adr/0014). */
export const RIFFLE = "npx riffle-vision";
