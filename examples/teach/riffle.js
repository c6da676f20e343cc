/** Where the page has Riffle from. A bundler finds the package; `riffle serve --teach` answers with its own copy instead. */

export * from "riffle-vision/browser";
