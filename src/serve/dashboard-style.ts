/** How the dashboard looks, and what moves in it: the report's style and scripts, and its own. Constants, as the policy wants. */

import { HOVERING, SORTING, STYLE } from "../report/page-style.js";

export const css = `${STYLE}
:root { --run-1: #0b63c4; --run-2: #b3470b; --run-3: #1a7f4b; --run-4: #8a3fb5; --run-5: #b3261e; --run-6: #0a7683; --run-7: #7d6600; --run-8: #b92f82; }
@media (prefers-color-scheme: dark) {
  :root { --run-1: #68b0ff; --run-2: #ffa468; --run-3: #5fd097; --run-4: #cb9dff; --run-5: #ff8a80; --run-6: #58cfdc; --run-7: #dcc04e; --run-8: #ff93cf; }
}
body { max-width: 84rem; }
section:empty { display: none; }
#contact { margin: 0; } #contact.lost { max-width: none; padding: 0.5rem 0.8rem; border-radius: 4px; background: var(--card); color: var(--wrong); font-weight: 600; }
h1 { margin-top: 0.4rem; } h3 { margin: 1rem 0 0.2rem; font-size: 1rem; overflow-wrap: anywhere; }
.badge { display: inline-block; padding: 0 0.6rem; border: 1px solid currentColor; border-radius: 1rem; color: var(--soft); font-size: 13px; font-weight: 600; white-space: nowrap; }
.badge.running { color: var(--training); } .badge.ended { color: var(--right); } .badge.failed, .badge.gone, .badge.unreadable { color: var(--wrong); } .badge.silent, .badge.stopped { color: var(--validation); }
progress { display: block; width: 100%; height: 0.6rem; margin: 0.6rem 0; accent-color: var(--training); } td progress { width: 7rem; height: 0.5rem; margin: 0.2rem 0 0; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); } .figures b { white-space: nowrap; font-size: 1.25rem; } .figures span { display: block; line-height: 1.3; }
.cards td { vertical-align: middle; }
.charts { grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); margin-top: 0.6rem; }
.toggle { display: inline-block; padding: 0.1rem 0; color: var(--ink); text-decoration: none; overflow-wrap: anywhere; } .key .toggle { margin-right: 1rem; padding: 0.2rem 0.6rem; border: 1px solid var(--line); border-radius: 1rem; }
.toggle:hover { text-decoration: underline; } .toggle:focus-visible { outline: 2px solid var(--training); outline-offset: 2px; }
.toggle::before, span.run::before { content: ""; display: inline-block; width: 0.8rem; height: 0.8rem; margin-right: 0.4rem; border-radius: 2px; background: var(--run); vertical-align: -0.05rem; }
.toggle.training { --run: var(--training); } .toggle.validation { --run: var(--validation); } .toggle.kind { --run: var(--soft); } .toggle.kind.validation::before { border-radius: 50%; } .toggle.kind.training::before { height: 3px; vertical-align: 0.2rem; }
.toggle[aria-pressed=false] { color: var(--soft); text-decoration: line-through; } .toggle[aria-pressed=false]::before { background: none; box-shadow: inset 0 0 0 2px var(--run); }
${[1, 2, 3, 4, 5, 6, 7, 8].map((id) => `.run-${id} { --run: var(--run-${id}); }`).join(" ")}
path.run, circle.best.run { stroke: var(--run); } .beyond.run { fill: var(--run); } circle.run:not(.best) { fill: var(--run); } path.run.training { stroke-width: 1.3; stroke-opacity: 0.6; }
tr.chosen td { font-weight: 600; background: var(--card); }
th[scope=row] { max-width: none; font-weight: 400; white-space: nowrap; } td.name { min-width: 9.5rem; }
@media (max-width: 40rem) {
  body { margin: 1rem auto; padding: 0 0.7rem; }
  .cards td progress { flex: 1; margin: 0; }
}
@media print {
  :root { --run-1: #0b63c4; --run-2: #b3470b; --run-3: #1a7f4b; --run-4: #8a3fb5; --run-5: #b3261e; --run-6: #0a7683; --run-7: #7d6600; --run-8: #b92f82; }
  .charts { grid-template-columns: 1fr 1fr; } #contact, td progress { display: none; } table { font-size: 12px; } th, td { padding: 0.15rem 0.35rem; } td, th[scope=row] { white-space: normal; } td.name { min-width: 6rem; }
}
`;

export const script = `"use strict";
${SORTING}
${HOVERING}
const POLL = 2000;
const POLL_HIDDEN = 15000;
const contact = document.getElementById("contact");
const token = new URLSearchParams(location.hash.slice(1)).get("token");
/** What each section was made of when it was put in. */
const shown = new Map();
let tag = null;
let seen = null;
let timer;

/** Puts what changed in its place; what the reader did to it, sorting and scrolling, is done again. */
function show(page) {
  const fresh = new DOMParser().parseFromString(page, "text/html").getElementById("live");
  const live = document.getElementById("live");
  document.title = fresh.dataset.title;
  for (const section of [...live.children]) {
    if (fresh.querySelector("#" + section.id) !== null) continue;
    section.remove();
    shown.delete(section.id);
  }
  let before = null;
  for (const section of [...fresh.children]) {
    const source = section.outerHTML;
    let there = document.getElementById(section.id);
    if (shown.get(section.id) !== source) {
      shown.set(section.id, source);
      const made = document.importNode(section, true);
      if (there === null) {
        if (before === null) live.prepend(made);
        else before.after(made);
      } else replace(there, made);
      there = made;
    }
    before = there;
  }
  return fresh.dataset.more !== undefined;
}

function replace(old, made) {
  const sorted = [...old.querySelectorAll("table")].map((table) => {
    const heads = [...(table.tHead?.rows[0]?.cells ?? [])];
    const column = heads.findIndex((head) => head.hasAttribute("aria-sort"));
    return { column, direction: heads[column]?.getAttribute("aria-sort") };
  });
  const scrolled = [...old.querySelectorAll(".wide")].map((each) => each.scrollLeft);
  const focused = old.contains(document.activeElement) ? focusable(old).indexOf(document.activeElement) : -1;
  old.replaceWith(made);
  [...made.querySelectorAll("table")].forEach((table, i) => {
    const head = table.tHead?.rows[0]?.cells[sorted[i]?.column ?? -1];
    if (head !== undefined) sortBy(head, sorted[i].direction);
  });
  [...made.querySelectorAll(".wide")].forEach((each, i) => (each.scrollLeft = scrolled[i] ?? 0));
  if (focused >= 0) focusable(made)[focused]?.focus({ preventScroll: true });
}

const focusable = (element) => [...element.querySelectorAll("a, button")];

function lost(why) {
  contact.className = "lost";
  contact.textContent = why + (seen === null ? "" : " What stands here is of " + seen.toLocaleTimeString() + ".");
}

async function poll() {
  clearTimeout(timer);
  let next = document.hidden ? POLL_HIDDEN : POLL;
  const asked = location.search;
  try {
    const headers = {};
    if (token !== null) headers.Authorization = "Bearer " + token;
    if (tag !== null) headers["If-None-Match"] = tag;
    const response = await fetch("/live" + asked, { headers, cache: "no-store" });
    if (response.ok) {
      const page = await response.text();
      // Of another choice than now: asked for again.
      if (asked !== location.search) return poll();
      tag = response.headers.get("ETag");
      if (show(page)) next = 50;
    } else if (response.status !== 304) {
      const { error } = await response.json();
      throw new Error([error.what, error.expected && "expected: " + error.expected].filter(Boolean).join("; "));
    }
    seen = new Date();
    contact.className = contact.textContent = "";
  } catch (error) {
    lost(error instanceof TypeError ? "The dashboard does not answer; was it stopped?" : "The dashboard refuses: " + error.message + ".");
  }
  clearTimeout(timer);
  timer = setTimeout(poll, next);
}

document.addEventListener("click", (event) => {
  const toggle = event.target.closest("a.toggle");
  if (toggle === null || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  history.replaceState(null, "", toggle.getAttribute("href") + location.hash);
  tag = null;
  poll();
});
document.addEventListener("visibilitychange", () => document.hidden || poll());
for (const section of document.querySelectorAll("#live > section")) shown.set(section.id, section.outerHTML);
poll();
`;
