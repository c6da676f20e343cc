/**
 * The page on which pictures are dropped, chosen, pasted or taken by the camera, with what the network sees in them as bars: that of
 * `riffle serve`, and that of `riffle export --format web`.
 *
 * Texts under addresses of their own, because the page's content security policy allows no script and no style in the
 * document itself. Nothing comes from elsewhere. Texts of a network, names of classes and files, reach the document as text only.
 *
 * The script asks `classifier.js`, beside it, whoever that is: `openClassifier()` resolves to `{ classes, classify }`, where
 * `classify(blob)` resolves to guesses as `riffle predict --json` has them, and rejects with words for people.
 */

/** What differs from place to place: HTML, except for where the pictures go, which is text. */
export interface DropPageParts {
  /** Further lines of the head. */
  readonly head?: string;
  /** "They go to this server and nowhere else." */
  readonly where: string;
  /** Stands in the place of the classes until they are known, and for ever where the script does not run. */
  readonly waiting: string;
  readonly noscript: string;
}

export const dropPage = ({ head = "", where, waiting, noscript }: DropPageParts): string => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Riffle</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="page.css">
<script src="page.js" type="module"></script>
${head}</head>
<body>
<header>
  <h1>What is in the picture?</h1>
  <p id="network" class="quiet">${waiting}</p>
</header>
<main>
  <form id="form">
    <label id="drop">
      <input id="files" type="file" accept="image/*" multiple>
      <strong>Drop pictures here</strong>
      <span class="quiet">or click to choose some, or paste one. ${where}</span>
    </label>
    <div id="camera">
      <button type="button" id="start">Use the camera</button>
      <button type="button" id="take" hidden>Take a picture</button>
      <label id="live-label" hidden><input type="checkbox" id="live"> keep looking</label>
      <button type="button" id="stop" hidden>Camera off</button>
      <p id="camera-problem" class="problem" hidden></p>
      <video id="video" playsinline muted hidden></video>
      <section id="seen" hidden aria-label="What the camera sees"></section>
    </div>
  </form>
  <section id="results" aria-live="polite" aria-label="Results"></section>
</main>
<noscript><p class="problem">${noscript}</p></noscript>
</body>
</html>
`;

export const css = `:root {
  color-scheme: light dark;
  --back: #f6f7f9; --card: #fff; --text: #1b1f24; --quiet: #59636e; --line: #d5dae0;
  --bar: #2f6fdb; --other: #9db9e8; --track: #e8ecf1; --problem: #a3261b;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --back: #14171b; --card: #1e2329; --text: #e8ebee; --quiet: #9aa5b1; --line: #363e47;
    --bar: #6ea4ff; --other: #5578b5; --track: #2a3138; --problem: #ff9a8d;
  }
}
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 68rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { margin: 0; font-size: 1.6rem; line-height: 1.25; }
p { margin: .25rem 0; }
.quiet { color: var(--quiet); }
.problem { color: var(--problem); }
#drop { display: flex; flex-direction: column; align-items: center; gap: .25rem; margin: 1.25rem 0 1rem; padding: 2.25rem 1rem;
  border: 2px dashed var(--line); border-radius: 12px; background: var(--card); text-align: center; cursor: pointer; }
#drop:hover, #drop.over, #drop:focus-within { border-color: var(--bar); }
#files { position: absolute; width: 1px; height: 1px; opacity: 0; }
#camera { display: flex; flex-wrap: wrap; align-items: center; gap: .75rem; margin-bottom: 1.25rem; }
button { padding: .5rem 1rem; border: 1px solid var(--line); border-radius: 8px; background: var(--card); color: inherit;
  font: inherit; cursor: pointer; }
button:hover { border-color: var(--bar); }
button:focus-visible, input:focus-visible { outline: 2px solid var(--bar); outline-offset: 2px; }
video { width: 20rem; max-width: 100%; border-radius: 12px; background: #000; }
#camera-problem { flex-basis: 100%; }
#seen { flex: 1 1 16rem; }
#results { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); gap: 1rem; align-items: start; }
article { overflow: hidden; border: 1px solid var(--line); border-radius: 12px; background: var(--card); }
article img { display: block; width: 100%; height: 13rem; object-fit: contain; background: var(--track); }
article > div { padding: .75rem 1rem 1rem; }
.name { overflow: hidden; color: var(--quiet); font-size: .875rem; text-overflow: ellipsis; white-space: nowrap; }
ol { margin: .5rem 0 0; padding: 0; list-style: none; }
li + li { margin-top: .5rem; }
li div { display: flex; justify-content: space-between; gap: 1rem; }
li div span:first-child { overflow-wrap: anywhere; }
li div span:last-child { font-variant-numeric: tabular-nums; white-space: nowrap; }
li:first-child div { font-weight: 600; }
.track { display: block; height: 8px; margin-top: 2px; border-radius: 4px; background: var(--track); overflow: hidden; }
.track i { display: block; height: 100%; border-radius: 4px; background: var(--other); }
li:first-child .track i { background: var(--bar); }
@media print {
  :root { color-scheme: light; }
  #form { display: none; }
  #results { margin-top: 1.25rem; }
  article { break-inside: avoid; }
}
`;

export const script = `import { openClassifier } from "./classifier.js";

const element = (id) => document.getElementById(id);
const classifier = openClassifier();
const MOST_SHOWN = 60;
const AT_ONCE = 4;

function make(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function percent(probability) {
  return (100 * probability).toFixed(1) + " %";
}

function bars(top) {
  const list = make("ol");
  for (const { name, words, probability } of top) {
    const row = make("li");
    const line = make("div");
    line.append(make("span", "", words ?? name), make("span", "", percent(probability)));
    const track = make("span", "track");
    track.setAttribute("aria-hidden", "true");
    const bar = make("i");
    bar.style.width = 100 * probability + "%";
    track.append(bar);
    row.append(line, track);
    list.append(row);
  }
  return list;
}

const waiting = [];
let asking = 0;

function show(picture, name) {
  const card = make("article");
  const image = make("img");
  image.alt = "";
  image.src = URL.createObjectURL(picture);
  // What this browser cannot show, the server may still read.
  image.addEventListener("error", () => (image.hidden = true));
  const text = make("div");
  const title = make("p", "name", name);
  title.title = name;
  const state = make("p", "quiet", "Waiting");
  text.append(title, state);
  card.append(image, text);
  const results = element("results");
  results.prepend(card);
  for (const old of [...results.children].slice(MOST_SHOWN)) {
    URL.revokeObjectURL(old.querySelector("img").src);
    old.remove();
  }
  waiting.push({ picture, state });
  next();
}

function next() {
  while (asking < AT_ONCE && waiting.length > 0) {
    const { picture, state } = waiting.shift();
    asking++;
    state.textContent = "Looking";
    classifier
      .then(({ classify }) => classify(picture))
      .then((top) => state.replaceWith(bars(top)))
      .catch((error) => state.replaceWith(make("p", "problem", error.message)))
      .finally(() => {
        asking--;
        next();
      });
  }
}

function showAll(files) {
  for (const file of files) show(file, file.name);
}

const drop = element("drop");
element("files").addEventListener("change", (event) => {
  showAll(event.target.files);
  event.target.value = "";
});
for (const type of ["dragover", "drop"]) document.addEventListener(type, (event) => event.preventDefault());
document.addEventListener("dragover", () => drop.classList.add("over"));
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) drop.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  drop.classList.remove("over");
  showAll(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => showAll(event.clipboardData.files));

const video = element("video");
const camera = { shown: ["take", "live-label", "stop", "video"], hidden: ["start"] };

function cameraIsOn(on) {
  for (const id of camera.shown) element(id).hidden = !on;
  for (const id of camera.hidden) element(id).hidden = on;
  if (!on) element("seen").hidden = true;
}

element("start").addEventListener("click", async () => {
  const problem = element("camera-problem");
  problem.hidden = true;
  try {
    if (navigator.mediaDevices === undefined) {
      throw new Error("the browser gives the camera to pages from this machine or over HTTPS only");
    }
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    await video.play();
    cameraIsOn(true);
  } catch (error) {
    problem.textContent = "No camera: " + error.message;
    problem.hidden = false;
  }
});

element("stop").addEventListener("click", () => {
  element("live").checked = false;
  for (const track of video.srcObject.getTracks()) track.stop();
  video.srcObject = null;
  cameraIsOn(false);
});

function frame() {
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
}

element("take").addEventListener("click", async () => {
  show(await frame(), "camera, " + new Date().toLocaleTimeString());
});

element("live").addEventListener("change", async () => {
  const seen = element("seen");
  seen.hidden = !element("live").checked;
  while (element("live").checked) {
    try {
      const { classify } = await classifier;
      seen.replaceChildren(bars(await classify(await frame())));
    } catch (error) {
      seen.replaceChildren(make("p", "problem", error.message));
      await pause(2000);
    }
    await pause(200);
  }
});

classifier
  .then(({ classes }) => {
    const names = classes.slice(0, 8).join(", ");
    const more = classes.length > 8 ? " and " + (classes.length - 8) + " more" : "";
    element("network").textContent = "Riffle knows " + classes.length + " classes here: " + names + more + ".";
  })
  .catch((error) => {
    element("network").textContent = error.message;
    element("network").className = "problem";
  });
`;
