/**
 * Runs watched in a browser: a page that is read from their folders whenever somebody asks, and that touches none of them.
 *
 * A look reads what was appended to the logs since the last one; nobody asking, nothing is read. Runs are numbers here, and
 * a path never comes from a request.
 *
 * Times are in milliseconds.
 */

import { createHash } from "node:crypto";
import { sep } from "node:path";

import { shortPath } from "../core/short-path.js";
import { dashboardContent, dashboardPage, KINDS, type View } from "./dashboard-page.js";
import { css, script } from "./dashboard-style.js";
import { Refusal } from "./refusal.js";
import {
  type Exchange,
  fixed,
  inTime,
  type Listening,
  READ,
  type Reply,
  type Route,
  RouteServer,
  type RunningServer,
  text,
} from "./route-server.js";
import { WatchedRun } from "./watched-run.js";

/** So many runs have a colour. */
export const MOST_RUNS = 8;

export interface DashboardOptions extends Listening {
  /** Folders of the runs there are now, absolute, those to be shown first; asked again and again. */
  readonly find: () => readonly string[];
  /** From a request's headers to its answer: 10 s. */
  readonly timeout?: number;
  /** Hears of failures that are not the client's. */
  readonly onFailure?: (error: unknown) => void;
}

/** Answers until closed. @throws ResourceError when it cannot listen there; its cause is the system's error. */
export async function startDashboard(options: DashboardOptions): Promise<RunningServer> {
  const watch = new Watch(options.find);
  const live = async ({ query, signal, request }: Exchange): Promise<Reply> => {
    const hidden = hiddenIn(query);
    const { content, tag } = await inTime(watch.look(hidden), signal);
    const headers = { ETag: tag };
    if (request.headers["if-none-match"] === tag) return { status: 304, body: "", headers };
    return { ...text("text/html", content), headers };
  };
  const page = async ({ query, signal }: Exchange): Promise<Reply> => {
    const hidden = hiddenIn(query);
    // Without the token the page is empty; its script asks with it.
    if (options.token !== undefined) return text("text/html", dashboardPage());
    const { content } = await inTime(watch.look(hidden), signal);
    return text("text/html", dashboardPage(content));
  };
  const server = new RouteServer({
    timeout: 10_000,
    ...options,
    routes: new Map<string, Route>([
      ["/", { methods: READ, open: true, parameters: ["hide"], answer: page }],
      ["/live", { methods: READ, open: false, parameters: ["hide"], answer: live }],
      ["/page.css", fixed("text/css", css)],
      ["/page.js", fixed("text/javascript", script)],
    ]),
    headers: HEADERS,
    maxConnections: MAX_CONNECTIONS,
  });
  await server.listen();
  return server;
}

const MAX_CONNECTIONS = 64;

const HEADERS = {
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
} as const;

/** @throws Refusal */
function hiddenIn(query: URLSearchParams): ReadonlySet<string> {
  const given = query.get("hide") ?? "";
  const words = given === "" ? [] : given.split(",");
  const known = [...KINDS, ...Array.from({ length: MOST_RUNS }, (_, i) => String(i + 1))];
  if (words.length <= known.length && words.every((word) => known.includes(word))) return new Set(words);
  throw new Refusal(400, {
    what: "this cannot be left out",
    expected: `training, validation and numbers of runs from 1 to ${MOST_RUNS}, with commas between`,
  });
}

/** Whoever asks sooner sees what was seen then. */
const LOOK_EVERY = 500;
/** Folders are searched for new runs no more often. */
const SEARCH_EVERY = 5000;
/** Choices of what is left out, whose pages are kept. */
const MOST_KEPT = 8;

interface Seen {
  readonly content: string;
  readonly tag: string;
}

class Watch {
  #runs: WatchedRun[] = [];
  #others = 0;
  #searched = -Infinity;
  #looked = -Infinity;
  #looking: Promise<void> | undefined;
  /** Pages by what they were made of. */
  readonly #kept = new Map<string, Seen>();

  constructor(private readonly find: () => readonly string[]) {}

  async look(hidden: ReadonlySet<string>): Promise<Seen> {
    await this.#refresh();
    const versions = this.#runs.map(({ id, folder, version }) => [id, folder, version]);
    const key = JSON.stringify([versions, this.#others, [...hidden].sort()]);
    const kept = this.#kept.get(key);
    if (kept !== undefined) return kept;
    const view: View = { runs: this.#runs, hidden, others: this.#others };
    const content = dashboardContent(view);
    const tag = `"${createHash("sha256").update(content).digest("base64url").slice(0, 22)}"`;
    const seen = { content, tag };
    this.#kept.set(key, seen);
    const [oldest = ""] = this.#kept.keys();
    if (this.#kept.size > MOST_KEPT) this.#kept.delete(oldest);
    return seen;
  }

  /** One look at a time, which all share who ask meanwhile. */
  #refresh(): Promise<void> {
    const isBehind = this.#runs.some(({ done }) => done < 1);
    if (!isBehind && performance.now() - this.#looked < LOOK_EVERY) return Promise.resolve();
    this.#looking ??= this.#readOn().finally(() => {
      this.#looking = undefined;
      this.#looked = performance.now();
    });
    return this.#looking;
  }

  async #readOn(): Promise<void> {
    if (performance.now() - this.#searched >= SEARCH_EVERY) {
      this.#search();
      this.#searched = performance.now();
    }
    for (const run of this.#runs) await run.look();
  }

  /** A run keeps its number, and with it its place and colour, for as long as it is shown. */
  #search(): void {
    const found = this.find();
    const shown = found.slice(0, MOST_RUNS);
    this.#others = found.length - shown.length;
    const kept = this.#runs.filter(({ folder }) => shown.includes(folder));
    const free = Array.from({ length: MOST_RUNS }, (_, i) => i + 1).filter(
      (id) => !kept.some((run) => run.id === id),
    );
    const added = shown
      .filter((folder) => !kept.some((run) => run.folder === folder))
      .map((folder) => new WatchedRun(free.shift() as number, folder, nameOf(folder, shown)));
    this.#runs = [...kept, ...added].sort((a, b) => a.id - b.id);
  }
}

/** As one would type it; of a run elsewhere the end of its path, where no other has the same. */
function nameOf(folder: string, all: readonly string[]): string {
  const typed = shortPath(folder);
  if (typed !== folder) return typed;
  const end = (path: string): string => path.split(sep).slice(-2).join("/");
  return all.filter((each) => end(each) === end(folder)).length > 1 ? folder : end(folder);
}
