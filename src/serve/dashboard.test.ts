import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { join } from "node:path";
import { after, suite, test } from "node:test";
import { Script } from "node:vm";

import { SaxesParser } from "saxes";

import {
  type Answer,
  ask,
  endsTheSlow,
  raw,
  refusesTheHostile,
} from "../../test/support/hostile-requests.js";
import { evaluationLine, startLine, stepLine, textOf } from "../../test/support/log-lines.js";
import { scratch } from "../../test/support/tiny-run.js";
import { printable } from "../core/printable.js";
import { type DashboardOptions, MOST_RUNS, startDashboard } from "./dashboard.js";
import { css, script } from "./dashboard-style.js";
import type { RunningServer } from "./route-server.js";

const top = scratch();
const running: RunningServer[] = [];
after(() => Promise.all(running.map((server) => server.close())));

async function start(runs: readonly string[], more: Partial<DashboardOptions> = {}): Promise<RunningServer> {
  const server = await startDashboard({
    ...{ host: "127.0.0.1", port: 0, names: [], token: undefined, find: () => runs },
    ...more,
  });
  running.push(server);
  return server;
}

/** A run's folder, with these lines in its log. */
function runOf(name: string, ...lines: readonly object[]): string {
  const folder = join(top, name);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "events.jsonl"), textOf(...lines));
  return folder;
}

function append(run: string, ...lines: readonly object[]): void {
  appendFileSync(join(run, "events.jsonl"), textOf(...lines));
}

/** What the server shows once it holds; it looks at the logs twice a second. */
async function until(
  server: RunningServer,
  holds: (answer: Answer) => boolean,
  path = "/live",
): Promise<string> {
  for (const began = performance.now(); ; await new Promise((resolve) => setTimeout(resolve, 50))) {
    const answer = await ask(server, path);
    if (holds(answer)) return answer.text;
    assert.ok(performance.now() - began < 8000, answer.text);
  }
}

/** It is written as XML, so that a strict parser takes it apart. */
function parsed(content: string): { elements: string[]; attributes: [string, string][]; text: string } {
  const elements: string[] = [];
  const attributes: [string, string][] = [];
  let text = "";
  const parser = new SaxesParser();
  parser.on("opentag", ({ name, attributes: own }) => {
    elements.push(name);
    attributes.push(...Object.entries(own));
  });
  parser.on("text", (piece) => (text += piece));
  parser.on("error", (error) => {
    throw error;
  });
  parser.write(content).close();
  return { elements, attributes, text };
}

const begun = [startLine(), stepLine(1), stepLine(2), evaluationLine(2, 0.75, true)] as const;

suite("the dashboard of a run", () => {
  test("shows what is appended to its log, and says 304 where nothing was", async () => {
    const run = runOf("live", ...begun);
    const server = await start([run]);
    const first = await ask(server, "/live");
    assert.equal(first.status, 200);
    assert.match(first.text, /of 40 steps, epoch 1 of 20/);
    assert.match(first.text, /<b>75.0 %<\/b><span>validation top-1, the best, epoch 1</);
    assert.match(first.text, /<b>6 min 20 s<\/b><span>left/);
    const tag = first.headers.etag ?? "";
    const again = await ask(server, "/live", { headers: { "If-None-Match": tag } });
    assert.deepEqual([again.status, again.text, again.headers.etag], [304, "", tag]);
    assert.match((await ask(server, "/")).text, /of 40 steps, epoch 1 of 20/, "whole without a script");

    // Half a line waits.
    const next = textOf(stepLine(3), evaluationLine(4, 0.875, true));
    appendFileSync(join(run, "events.jsonl"), next.slice(0, 20));
    assert.equal((await ask(server, "/live")).headers.etag, tag);
    appendFileSync(join(run, "events.jsonl"), next.slice(20));
    const later = await until(server, ({ headers }) => headers.etag !== tag);
    assert.match(later, /epoch 1.5 of 20/);
    assert.match(later, /<b>87.5 %<\/b><span>validation top-1, the best, epoch 2</);
    append(run, { event: "failed", step: 3, epoch: 1.5, code: 5, what: "the <loss> is not finite" });
    const failed = await until(server, ({ text }) => text.includes("badge failed"));
    assert.match(failed, /after step 3, [-\d: ]+: the &lt;loss&gt; is not finite/);
  });

  test("writes nothing and keeps nothing open", async () => {
    const run = runOf("untouched", ...begun);
    const before = [readdirSync(run), statSync(join(run, "events.jsonl")).mtimeMs];
    const server = await start([run]);
    const open = (): string[] => readdirSync("/proc/self/fd");
    await ask(server, "/live");
    const descriptors = open().length;
    for (let i = 0; i < 5; i++) await ask(server, "/");
    assert.deepEqual([readdirSync(run), statSync(join(run, "events.jsonl")).mtimeMs], before);
    assert.ok(open().length <= descriptors + 1);
  });

  test("leaves out of the curves what the reader does not want, and refuses what it does not know", async () => {
    const server = await start([runOf("hidden", ...begun)]);
    const circles = (content: string): number => content.match(/<circle class="validation[ "]/g)?.length ?? 0;
    assert.equal(circles((await ask(server, "/live")).text), 4, "a point and a ring in two charts");
    assert.equal(circles((await ask(server, "/live?hide=validation")).text), 0);
    for (const query of [
      "?hide=x",
      "?hide=../..",
      "?hide=9",
      "?hide=0",
      "?hide=1,<",
      "?run=/etc",
      "?hide=1&hide=2",
    ]) {
      for (const path of ["/", "/live"]) assert.equal((await ask(server, path + query)).status, 400, query);
    }
  });
});

suite("the dashboard of several runs", () => {
  test("draws them over each other, and says what differs and which is best", async () => {
    const settings = { seed: 1, lr: 0.1, log_dir: "a" };
    const a = runOf("several/a", startLine({ settings }), stepLine(1), evaluationLine(2, 0.5, true));
    const b = runOf(
      "several/b",
      startLine({ settings: { ...settings, lr: 0.2, log_dir: "b", average_decay: 0.9 } }),
      ...[stepLine(1), evaluationLine(2, 0.9, true), evaluationLine(4, 0.8, false)],
      { event: "end", step: 40, epoch: 20, images_per_second: 10 },
    );
    const server = await start([a, b]);
    const { text } = await ask(server, "/live");
    assert.match(text, /<h1>2 runs<\/h1>/);
    assert.match(text, /class="line training run run-1"/);
    assert.match(text, /class="line validation run run-2"/);
    const rows = [...text.matchAll(/<tr><th scope="row" class="name">(.*?)<\/th>(.*?)<\/tr>/g)];
    assert.deepEqual(
      rows.map(([, name, cells = ""]) => [
        name,
        ...[...cells.matchAll(/<td>(.*?)<\/td>/g)].map(([, v]) => v),
      ]),
      [
        ["lr", "0.1", "0.2"],
        ["average_decay", "-", "0.9"],
      ],
    );
    const [, best = ""] = /Best results[^]*?<tbody>([^]*?)<\/tbody>/.exec(text) ?? [];
    assert.match(best, /^<tr class="chosen">.*several\/b<\/span>.*>90.0 %</);
    const without = (await ask(server, "/live?hide=1")).text;
    assert.doesNotMatch(without, /class="line [a-z]+ run run-1"/);
    assert.match(without, /aria-pressed="false" href="\/"/);
  });

  test("keeps each run's colour as runs come and go, and counts those beyond", async () => {
    const runs = Array.from({ length: MOST_RUNS + 2 }, (_, i) => runOf(`many/${i}`, ...begun));
    let found = runs.slice(0, 2);
    const server = await start([], { find: () => found });
    const colour = (content: string, i: number): string | undefined =>
      new RegExp(`toggle run run-(\\d)[^>]*>[^<]*many/${i}<`).exec(content)?.[1];
    const first = (await ask(server, "/live")).text;
    assert.deepEqual([colour(first, 0), colour(first, 1)], ["1", "2"]);
    found = runs.slice(1);
    const later = await until(server, ({ text }) => text.includes(`<h1>${MOST_RUNS} runs</h1>`));
    assert.equal(colour(later, 1), "2");
    assert.equal(colour(later, 0), undefined);
    const colours = [...later.matchAll(/toggle run run-(\d)/g)].map(([, id]) => id);
    assert.deepEqual(colours, ["1", "2", "3", "4", "5", "6", "7", "8"]);
    assert.match(later, /1 older run not shown/);
  });
});

/** What a run, a setting, a network or a failure may be called. */
const hostile = [
  `"><script>alert(1)</script>`,
  `</style></title><img src=x onerror=alert(1)>`,
  `' onmouseover='alert(1)`,
  "line\nbreak\u0007\u202e",
  "&lt;already&amp;escaped&#39;",
];

suite("names", () => {
  test("are shown as they are, and make no element or attribute", async () => {
    const named = (names: readonly string[]): string[] =>
      names.map((name, i) =>
        runOf(
          `names-${names === hostile ? "hostile" : "tame"}/${name.replaceAll("/", "∕")}`,
          startLine({ network: name, recipe: name, settings: { [name]: name, data_dir: name, lr: i } }),
          ...[stepLine(1), evaluationLine(2, 0.5, true), { event: "warning", what: name }],
          { event: "failed", step: 2, epoch: 1, code: 1, what: name },
        ),
      );
    const tameNames = hostile.map((_, i) => `tame ${i}`);
    for (const [evil, tame] of [
      [named(hostile), named(tameNames)],
      [named(hostile).slice(0, 1), named(tameNames).slice(0, 1)],
    ] as const) {
      const [shown, plain] = await Promise.all(
        [evil, tame].map(async (runs) => parsed((await ask(await start(runs), "/live")).text)),
      );
      assert.deepEqual(shown?.elements, plain?.elements);
      assert.deepEqual(
        shown?.attributes.map(([name]) => name),
        plain?.attributes.map(([name]) => name),
      );
      for (const name of hostile.slice(0, evil.length)) {
        assert.ok(shown?.text.includes(printable(name.replaceAll("/", "∕"))), name);
      }
      const page = parsed((await ask(await start(evil), "/")).text);
      assert.equal(page.elements.filter((name) => name === "script").length, 1);
      for (const [name] of page.attributes) assert.doesNotMatch(name, /^on|^style$/);
    }
  });

  test("never reach the page's script or style, which are constants that fetch nothing from elsewhere", () => {
    for (const source of [css, script]) assert.doesNotMatch(source, /https?:|@import|url\(/);
    assert.doesNotMatch(script, /innerHTML|insertAdjacentHTML|document\.write|eval\(/);
    new Script(script);
  });
});

suite("what is asked of the dashboard from elsewhere", () => {
  const attacked = {
    routes: ["/", "/live", "/page.css", "/page.js", "/none"],
    answers: "/live",
    secret: /of 40 steps|<main/,
    assets: ["/page.js", "/page.css"],
  };
  let shared: Promise<RunningServer> | undefined;
  refusesTheHostile(() => (shared ??= start([runOf("attacked", ...begun)])), attacked);
  endsTheSlow(() => start([runOf("slow", ...begun)], { timeout: 150 }), "/live");

  test("without the token, where there is one, tells nothing of a run", async () => {
    const server = await start([runOf("secret", ...begun)], { token: "0123456789abcdef" });
    const page = await ask(server, "/");
    assert.equal(page.status, 200);
    assert.doesNotMatch(page.text, /secret|of 40 steps/);
    for (const authorization of ["", "Bearer wrong", "Basic 0123456789abcdef", "Bearer 0123456789abcdef0"]) {
      const answer = await ask(server, "/live", { headers: { Authorization: authorization } });
      assert.equal(answer.status, 401, authorization);
      assert.doesNotMatch(answer.text, /secret/);
    }
    const headers = { Authorization: "Bearer 0123456789abcdef" };
    assert.match((await ask(server, "/live", { headers })).text, /secret/);
  });

  test("by more connections than it takes is turned away, and answers again when they are gone", async () => {
    const server = await start([runOf("crowded", ...begun)]);
    const sockets: Socket[] = [];
    let turnedAway = 0;
    const crowd = Array.from({ length: 80 }, () =>
      raw(server, "GET /live HTTP/1.1\r\n", (socket) => sockets.push(socket)).then(() => turnedAway++),
    );
    for (const began = performance.now(); turnedAway < 16 && performance.now() - began < 5000;) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assert.equal(turnedAway, 80 - 64);
    for (const socket of sockets) socket.destroy();
    await Promise.all(crowd);
    await until(server, ({ status }) => status === 200);
  });

  test("with another method gets 405", async () => {
    const server = await start([runOf("methods", ...begun)]);
    for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) {
      const answer = await ask(server, "/live", { method });
      assert.deepEqual([answer.status, answer.headers.allow], [405, "GET, HEAD"]);
    }
    const head = await ask(server, "/live", { method: "HEAD" });
    assert.deepEqual([head.status, head.text], [200, ""]);
  });
});
