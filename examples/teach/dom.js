/** What every part of the page makes and says. Texts of pictures, classes and runs reach the document as text only. */

/**
 * @template {keyof HTMLElementTagNameMap} [K="div"]
 * @param {string} id
 * @param {K} [_tag] what it is, for its type
 * @returns {HTMLElementTagNameMap[K]}
 */
export function element(id, _tag) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return /** @type {HTMLElementTagNameMap[K]} */ (found);
}

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {string} [className]
 * @param {string} [text]
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, className = "", text) {
  const made = document.createElement(tag);
  if (className !== "") made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/**
 * @param {string} text
 * @param {() => unknown} onClick what it does; a rejection is said in `problems`
 * @param {string} [problems] id of the paragraph for them
 * @param {string} [className]
 */
export function button(text, onClick, problems, className) {
  const made = make("button", className, text);
  made.type = "button";
  made.addEventListener("click", () => void attempt(problems, onClick));
  return made;
}

/**
 * Does it, and says in `problems` why that failed.
 *
 * @param {string | undefined} problems
 * @param {() => unknown} action
 */
export async function attempt(problems, action) {
  if (problems !== undefined) say(problems);
  try {
    await action();
  } catch (error) {
    if (problems === undefined) throw error;
    say(problems, error);
  }
}

/**
 * @param {string} id of the paragraph
 * @param {unknown} [error] absent: nothing is wrong any more
 */
export function say(id, error) {
  const place = element(id, "p");
  place.hidden = error === undefined;
  place.textContent = error === undefined ? "" : inWords(error);
}

/** What the page itself refuses, with what to do. */
export class Refusal extends Error {}

/**
 * What failed, what is safe and what to do: lines.
 *
 * @param {unknown} error
 */
export function inWords(error) {
  const { problem } = /** @type {{ problem?: import("riffle-vision/browser").Problem }} */ (error);
  if (error instanceof Refusal) return capital(error.message);
  if (problem === undefined) {
    return `The page failed: ${error instanceof Error ? error.message : error}.\nLoad it again; what was saved is there`;
  }
  const { what, where, expected, found, safe, hint } = problem;
  const parts = [
    `${where === undefined ? "" : `${where}: `}${what}`,
    expected === undefined ? "" : `expected ${expected}`,
    found === undefined ? "" : `found ${found}`,
  ];
  const lines = [parts.filter((part) => part !== "").join("; "), safe, hint];
  return lines.filter((line) => line !== undefined).join(".\n");
}

/** @param {string} text */
function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** @param {number} fraction */
export function percent(fraction) {
  return `${(100 * fraction).toFixed(1)} %`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** @param {number} bytes */
export function size(bytes) {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/**
 * @param {number} number
 * @param {string} noun
 */
export function count(number, noun) {
  const plural = /(s|sh|ch|x)$/.test(noun) ? `${noun}es` : `${noun}s`;
  return `${number.toLocaleString("en")} ${number === 1 ? noun : plural}`;
}

/**
 * Guesses as bars, the likeliest first.
 *
 * @param {readonly import("riffle-vision/browser").Guess[]} top
 */
export function bars(top) {
  const list = make("ol", "bars");
  for (const { name, probability } of top) {
    const row = make("li");
    const line = make("div");
    line.append(make("span", "", name), make("span", "", percent(probability)));
    const track = make("span", "track");
    track.setAttribute("aria-hidden", "true");
    const bar = make("i");
    bar.style.width = `${100 * probability}%`;
    track.append(bar);
    row.append(line, track);
    list.append(row);
  }
  return list;
}

/** Lets the page answer before the work goes on. */
export const breath = () => new Promise((resolve) => setTimeout(resolve));
