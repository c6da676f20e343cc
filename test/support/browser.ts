/**
 * Pages in a real browser, headless: what they ask for, what goes wrong in them, what they look like.
 *
 * Chromium is what RIFFLE_CHROMIUM names, else Debian's package or another in a usual place. Tests that need it are skipped
 * where there is none, and say so. In it no name of another machine resolves: what a page wants from elsewhere is
 * written down and does not come. With RIFFLE_SCREENSHOTS=FOLDER the tests leave pictures of what they saw there.
 *
 *     const browser = useBrowser();
 *     test("a page", browser.needed, async () => {
 *       const { page, foreign, problems } = await browser.open(url, { scheme: "dark", width: 400 });
 *       assert.equal(await page.textContent("h1"), "What is in the picture?");
 *       assert.deepEqual([foreign, problems], [[], []]);
 *     });
 */

import { accessSync, constants, mkdirSync } from "node:fs";
import { delimiter, join } from "node:path";
import { after } from "node:test";

import { type Browser, chromium, type Page } from "playwright-core";

/** How the person who looks has set up the machine. */
export interface Look {
  readonly scheme?: "light" | "dark";
  readonly media?: "screen" | "print";
  /** Of the window, in pixels: 1000 x 800. */
  readonly width?: number;
  readonly height?: number;
}

export interface Visit {
  readonly page: Page;
  /** Addresses that were asked for and lie neither in the page itself, nor with the file or origin that it came from. */
  readonly foreign: readonly string[];
  /** Errors and warnings of the console, and exceptions that nobody caught. */
  readonly problems: readonly string[];
  /** Looks at the page in another way from now on. */
  readonly look: (look: Pick<Look, "scheme" | "media">) => Promise<void>;
  /** Leaves a picture of the whole page as `name`.png, where pictures are wanted. */
  readonly screenshot: (name: string) => Promise<void>;
}

export interface TestBrowser {
  /** Options for node:test: `skip` holds the reason where there is no browser. */
  readonly needed: { readonly skip: false | string };
  /** Opens an address (http: or file:) in a window of its own, and waits until it is loaded. */
  readonly open: (address: string, look?: Look) => Promise<Visit>;
}

/** Chromium for the tests of a file, started by the first page. Call it outside of tests: it ends when they have. */
export function useBrowser(): TestBrowser {
  const path = chromiumPath();
  let starting: Promise<Browser> | undefined;
  after(async () => (await starting)?.close());
  return {
    needed: {
      skip: path === undefined ? "no Chromium (apt-get install chromium, or set RIFFLE_CHROMIUM)" : false,
    },
    open: async (address, look = {}) => {
      starting ??= chromium.launch({
        ...(path === undefined ? {} : { executablePath: path }),
        args: ARGUMENTS,
      });
      return visit(await starting, address, look);
    },
  };
}

const ARGUMENTS = [
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE [::1], EXCLUDE localhost",
  // A camera that shows a moving pattern, and leave to use it.
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
];

async function visit(
  browser: Browser,
  address: string,
  { scheme = "light", media = "screen", width = 1000, height = 800 }: Look,
): Promise<Visit> {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme });
  const page = await context.newPage();
  await page.emulateMedia({ media, colorScheme: scheme });
  const foreign: string[] = [];
  const problems: string[] = [];
  const note = (url: string): void => {
    if (!isOwn(url, address)) foreign.push(url);
  };
  context.on("request", (request) => note(request.url()));
  page.on("websocket", (socket) => note(socket.url()));
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) problems.push(`${message.type()}: ${message.text()}`);
  });
  await page.goto(address, { waitUntil: "load" });
  return {
    page,
    foreign,
    problems,
    look: ({ scheme: colorScheme, media }) =>
      page.emulateMedia({
        ...(media === undefined ? {} : { media }),
        ...(colorScheme === undefined ? {} : { colorScheme }),
      }),
    screenshot: async (name) => {
      const folder = process.env["RIFFLE_SCREENSHOTS"];
      if (folder === undefined) return;
      mkdirSync(folder, { recursive: true });
      await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
    },
  };
}

function isOwn(url: string, address: string): boolean {
  const [asked, own] = [new URL(url), new URL(address)];
  if (["data:", "blob:", "about:"].includes(asked.protocol)) return true;
  if (own.protocol === "file:") return asked.protocol === "file:";
  return asked.host === own.host && asked.protocol.replace("ws", "http") === own.protocol;
}

function chromiumPath(): string | undefined {
  const named = process.env["RIFFLE_CHROMIUM"];
  if (named !== undefined) return named;
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  const names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
  const places = [
    "/usr/bin/chromium",
    ...names.flatMap((name) => folders.map((folder) => join(folder, name))),
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  ];
  return places.find(isProgram);
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
