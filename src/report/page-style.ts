/** How the report looks, and the little that moves in it. Both are constants: nothing of a run is ever put into them. */

export const STYLE = `
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --paper: #fff; --line: #d6dbe1; --card: #f4f6f8; --training: #0b63c4; --validation: #b3470b; --right: #1a7f4b; --wrong: #b3261e; --shade: #0004; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ec; --soft: #9aa4af; --paper: #15181c; --line: #363c44; --card: #1d2127; --training: #68b0ff; --validation: #ffa468; --right: #5fd097; --wrong: #ff8a80; --shade: #fff3; }
}
* { box-sizing: border-box; }
body { margin: 2rem auto; max-width: 68rem; padding: 0 1rem; font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
h1 { font-size: 1.5rem; margin-bottom: 0.2rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2.2rem 0 0.6rem; }
p { max-width: 46rem; } .soft, figcaption small { color: var(--soft); } .remark { border-left: 3px solid var(--validation); padding-left: 0.7rem; }
code, pre { font: 13px/1.5 ui-monospace, monospace; } pre { background: var(--card); padding: 0.6rem 0.8rem; border-radius: 4px; white-space: pre-wrap; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.15rem 1.2rem; margin: 1rem 0; } dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) { dl { display: block; } dd { margin-bottom: 0.4rem; } }
.figures { display: flex; flex-wrap: wrap; gap: 0.8rem; margin: 0.8rem 0; } .figures div { max-width: 22rem; overflow-wrap: anywhere; background: var(--card); border-radius: 6px; padding: 0.6rem 1rem; }
.figures b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; } .figures span { color: var(--soft); font-size: 13px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1.2rem; }
.single { max-width: 34rem; }
figure { margin: 0; } .chart figcaption { font-weight: 600; } .key { margin: 0; font-size: 13px; } .key span { margin-right: 1rem; } .key span::before { content: ""; display: inline-block; width: 1.1rem; height: 0; border-top: 3px solid currentColor; vertical-align: middle; margin-right: 0.35rem; }
.key .training, .key .rate { color: var(--training); } .key .validation { color: var(--validation); }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
.grid { stroke: var(--line); fill: none; } .line { fill: none; stroke-width: 2; stroke-linejoin: round; } path.training, path.rate { stroke: var(--training); } path.validation { stroke: var(--validation); }
circle.training, circle.rate { fill: var(--training); } circle.validation { fill: var(--validation); }
.beyond.training { fill: var(--training); } .beyond.validation { fill: var(--validation); } svg text.beyond { fill: var(--soft); }
circle.best { fill: none; stroke: var(--validation); stroke-width: 2; } .says { position: fixed; z-index: 1; max-width: min(34rem, 92vw); padding: 0.35rem 0.6rem; border: 1px solid var(--line); border-radius: 4px; background: var(--card); font-size: 13px; white-space: pre-line; overflow-wrap: anywhere; pointer-events: none; box-shadow: 0 2px 8px #0003; }
.strip rect { fill: transparent; } .strip path { stroke: none; } .strip:hover path { stroke: var(--soft); stroke-dasharray: 3 3; }
.bar { fill: var(--training); fill-opacity: 0.75; } .ideal { stroke: var(--soft); stroke-dasharray: 4 4; fill: none; } .gap { stroke: var(--validation); stroke-width: 2; }
/* A shade at an edge beyond which there is more: what lies over it moves with the table. */
.wide { overflow-x: auto; background: linear-gradient(to right, var(--paper) 40%, transparent) 0 0 / 2.5rem 100% no-repeat local, linear-gradient(to left, var(--paper) 40%, transparent) 100% 0 / 2.5rem 100% no-repeat local, linear-gradient(to right, var(--shade), transparent) 0 0 / 0.9rem 100% no-repeat scroll, linear-gradient(to left, var(--shade), transparent) 100% 0 / 0.9rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { padding: 0.2rem 0.6rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: bottom; } th { font-weight: 600; } td { white-space: nowrap; vertical-align: top; } .word { text-align: left; white-space: normal; max-width: 18rem; overflow-wrap: anywhere; } .name { text-align: left; min-width: 7rem; max-width: 18rem; overflow-wrap: anywhere; white-space: normal; }
td.name:has(.file) { max-width: none; } .file { display: flex; max-width: 30rem; min-width: 0; white-space: pre; } .file > :first-child { overflow: hidden; text-overflow: ellipsis; } .file > :last-child { flex: none; }
th button { all: unset; cursor: pointer; font-weight: 600; } th button:focus-visible { outline: 2px solid var(--training); } th button::after { content: "\\2195"; color: var(--soft); padding-left: 0.25rem; } th[aria-sort=ascending] button::after { content: "\\2191"; } th[aria-sort=descending] button::after { content: "\\2193"; }
.matrix .name { min-width: 0; } .matrix td, .matrix th { border: 1px solid var(--line); padding: 0.2rem 0.4rem; min-width: 2.2rem; text-align: center; } .matrix th.name { text-align: right; max-width: 12rem; }
.matrix thead th { vertical-align: bottom; font-weight: 400; } .matrix thead span { writing-mode: vertical-rl; transform: rotate(180deg); padding: 0.2rem 0; max-height: 9rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.matrix tbody th { font-weight: 400; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.matrix .right { background: color-mix(in srgb, var(--right) calc(var(--s) * 70%), transparent); } .matrix .wrong { background: color-mix(in srgb, var(--wrong) calc(15% + var(--s) * 65%), transparent); } .matrix .none { color: transparent; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: 0.9rem; } .pictures figure { background: var(--card); border-radius: 6px; padding: 0.5rem; break-inside: avoid; }
.pictures .frame { height: 160px; display: flex; align-items: center; justify-content: center; color: var(--soft); font-size: 13px; } .pictures img { max-width: 100%; max-height: 160px; image-rendering: auto; border-radius: 3px; }
.pictures figcaption { font-size: 13px; line-height: 1.35; margin-top: 0.35rem; overflow-wrap: anywhere; } .pictures .right { color: var(--right); } .pictures .wrong { color: var(--wrong); } .pictures small { display: block; }
h3 { font-size: 1rem; margin: 1.4rem 0 0.4rem; } svg.base { position: absolute; }
.scale { display: inline-block; width: 4rem; height: 0.7em; border-radius: 2px; vertical-align: baseline; }
.looks { margin-top: 0.4rem; font-size: 12px; line-height: 1.3; } .row { display: flex; gap: 0.4rem; } .looks .row > * { flex: 1 1 0; min-width: 0; max-width: 5rem; } .names span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.look { border-radius: 3px; background: #000; } .look.cold use { opacity: 0.45; } .look text { fill: #fff; font-size: 13px; } .looks details { margin-top: 0.25rem; } .looks summary { cursor: pointer; color: var(--soft); } .looks details .row { margin-top: 0.3rem; } .looks small { color: var(--soft); }
.groups { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 0.9rem; } .groups > figure { background: var(--card); border-radius: 6px; padding: 0.5rem; break-inside: avoid; } .groups p { margin: 0 0 0.3rem; font-size: 13px; } .groups .wrong { color: var(--wrong); }
.groups .row > figure { flex: 0 1 10rem; min-width: 0; } .groups .frame { height: 110px; display: flex; align-items: center; justify-content: center; font-size: 13px; color: var(--soft); } .groups img { max-width: 100%; max-height: 110px; border-radius: 3px; } .groups figcaption { font-size: 13px; line-height: 1.35; overflow-wrap: anywhere; } .groups small { display: block; }
@media (max-width: 40rem) {
  th, td { padding: 0.2rem; } :not(.matrix) > * > tr > :first-child { padding-left: 0; } :not(.matrix) > * > tr > :last-child { padding-right: 0; } table { font-size: 13px; } .name { min-width: 3.5rem; }
  th button { text-decoration: underline dotted; } th:not([aria-sort]) button::after { content: ""; padding: 0; }
  .cards, .cards tbody { display: block; } .cards thead { display: none; }
  .cards tr { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 0.1rem 1rem; padding: 0.6rem 0; border-bottom: 1px solid var(--line); }
  .cards td { display: flex; justify-content: space-between; gap: 0.6rem; max-width: none; padding: 0; border: 0; text-align: right; } .cards td::before { content: attr(data-label); color: var(--soft); }
  .cards td.name { grid-column: 1 / -1; text-align: left; max-width: none; justify-content: start; align-items: center; } .cards td.name::before { content: none; }
}
footer { margin-top: 3rem; color: var(--soft); font-size: 13px; }
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #444; --paper: #fff; --line: #bbb; --card: #fff; --training: #0b63c4; --validation: #b3470b; --right: #1a7f4b; --wrong: #b3261e; }
  body { margin: 0; max-width: none; font-size: 11pt; } * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .says { display: none; } h2 { break-after: avoid; } figure, tr, .figures div { break-inside: avoid; } .wide { overflow: visible; background: none; } th button::after { content: ""; }
  .charts { grid-template-columns: 1fr 1fr; } .pictures { grid-template-columns: repeat(4, 1fr); } .figures div, .pictures figure { border: 1px solid var(--line); }
}
`;

/** Sorts a table by the column whose head is pressed: numbers by their value, what is missing last. */
export const SORTING = `
function sortBy(head, direction) {
  const column = [...head.parentNode.children].indexOf(head);
  const isText = head.classList.contains("name");
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", direction);
  const body = head.closest("table").tBodies[0];
  const value = (row) => row.children[column].dataset.value ?? "";
  const order = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === "" || y === "") return (x === "") - (y === "");
    return (direction === "ascending" ? 1 : -1) * (isText ? x.localeCompare(y) : x - y);
  };
  body.append(...[...body.rows].sort(order));
}
document.addEventListener("click", (event) => {
  const head = event.target.closest("table.sortable th:has(button)");
  if (head === null) return;
  const before = head.getAttribute("aria-sort") ?? (head.classList.contains("name") ? "descending" : "ascending");
  sortBy(head, before === "ascending" ? "descending" : "ascending");
});
`;

/** Shows what a place of a chart says at once and beside the pointer, where the browser would show its title after a while. */
export const HOVERING = `
const says = document.createElement("div");
says.className = "says";
says.hidden = true;
document.body.append(says);
function hover(target, x, y) {
  const place = target instanceof Element ? target.closest("svg g") : null;
  const title = place?.querySelector("title");
  if (title) {
    place.dataset.says = title.textContent;
    title.remove();
  }
  const text = place?.dataset.says;
  says.hidden = text === undefined;
  if (text === undefined) return;
  says.textContent = text;
  const { width, height } = says.getBoundingClientRect();
  const right = document.documentElement.clientWidth;
  says.style.left = Math.max(4, x + 14 + width > right ? x - 14 - width : x + 14) + "px";
  says.style.top = Math.max(4, y + 18 + height > innerHeight ? y - 12 - height : y + 18) + "px";
}
for (const type of ["pointermove", "pointerdown"])
  document.addEventListener(type, (event) => hover(event.target, event.clientX, event.clientY));
document.documentElement.addEventListener("pointerleave", () => (says.hidden = true));
addEventListener("scroll", () => (says.hidden = true), { passive: true });
`;

export const SCRIPT = SORTING + HOVERING;
