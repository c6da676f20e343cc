/** The classes and their pictures: named, added, taken away. */

import { cameraIsOn, onCamera, takePicture } from "./camera.js";
import { attempt, button, count, element, inWords, make, Refusal, say } from "./dom.js";
import { drawShape, shapes } from "./drawn.js";
import { chosen, filesIn } from "./dropped.js";
import { checkPicture } from "./riffle.js";

/**
 * @typedef {object} Picture
 * @property {string} name no other picture has it
 * @property {File | Blob} file
 * @property {ImageBitmap} thumb a small square
 *
 * @typedef {object} ClassCard
 * @property {HTMLElement} card
 * @property {HTMLInputElement} input its name
 * @property {Picture[]} pictures
 * @property {HTMLUListElement} list of the newest pictures
 * @property {() => void} show shows how many there are, and the newest
 */

/** @type {ClassCard[]} */
const cards = [];
/** Names of pictures, each with what it is; those removed, too, so that names stay theirs. @type {Map<string, Picture>} */
const byName = new Map();

/** Of pictures that are or were shown. @type {WeakMap<Picture, HTMLLIElement>} */
const thumbs = new WeakMap();

const MOST_THUMBS = 40;
const THUMB = 104;
const DRAWN = 100;
/** Pictures a second while a button is held. */
const HELD_PACE = 8;

/** Whether there are pictures that no run keeps. */
let isUnsaved = false;

/** @typedef {{ picture: File | Blob, label: string, name: string }} Labelled */

/**
 * All pictures with the names of their classes.
 *
 * @returns {Labelled[]}
 * @throws Error in words for people where a network cannot be taught with them
 */
export function labelledPictures() {
  const filled = cards.filter(({ pictures, input }) => pictures.length > 0 || input.value.trim() !== "");
  const names = filled.map(({ input }) => input.value.trim());
  const double = names.find((name, i) => names.indexOf(name) !== i);
  const empty = filled.find(({ pictures }) => pictures.length === 0);
  const nameless = filled.find(({ input }) => input.value.trim() === "");
  if (nameless !== undefined) {
    nameless.input.focus();
    throw new Refusal("a class has pictures and no name. Name it");
  }
  if (double !== undefined) throw new Refusal(`two classes are called ${double}. Rename one`);
  if (filled.length < 2)
    throw new Refusal("there is nothing to tell apart yet. Give pictures to two classes or more");
  if (empty !== undefined) {
    throw new Refusal(`the class ${empty.input.value} has no pictures. Give it some, or remove it`);
  }
  return filled.flatMap(({ pictures, input }) =>
    pictures.map(({ file, name }) => ({ picture: file, label: input.value.trim(), name })),
  );
}

/** A square of the picture of this name, where it is one of the page's. @param {string} name */
export function thumbOf(name) {
  return byName.get(name)?.thumb;
}

/** The picture of this name, where it is one of the page's. @param {string} name */
export function fileOf(name) {
  return byName.get(name)?.file;
}

export const hasPictures = () => cards.some(({ pictures }) => pictures.length > 0);
export const hasUnsaved = () => isUnsaved && hasPictures();

/** A run keeps them now. */
export function picturesAreKept() {
  isUnsaved = false;
}

/**
 * Shows a run's pictures in the place of what there is.
 *
 * @param {readonly string[]} names of its classes
 * @param {readonly import("riffle-vision/browser").KeptPicture[]} pictures
 */
export async function showPictures(names, pictures) {
  clear();
  const made = new Map(names.map((name) => [name, addClass(name)]));
  for (const { name, label, file } of pictures) {
    const card = made.get(label);
    if (card !== undefined) await addPicture(card, file, name);
  }
  for (const card of cards) card.show();
  isUnsaved = false;
}

/** @param {string} [name] */
function addClass(name = "") {
  const input = make("input");
  input.value = name;
  input.maxLength = 80;
  input.placeholder = `Class ${cards.length + 1}`;
  input.setAttribute("aria-label", "Name of the class");
  const card = make("div", "class");
  const head = make("div", "head");
  const total = make("span", "count quiet");
  const list = make("ul", "thumbs");
  const problem = make("p", "problem");
  problem.setAttribute("role", "alert");
  problem.hidden = true;
  /** @type {ClassCard} */
  const made = {
    card,
    input,
    list,
    pictures: [],
    show() {
      total.textContent = count(made.pictures.length, "picture");
      // What is shown already stays, so that adding many costs little.
      const newest = made.pictures.slice(-MOST_THUMBS).reverse();
      for (const [i, picture] of newest.entries()) {
        const there = thumbs.get(picture) ?? thumb(made, picture);
        if (list.children[i] !== there) list.insertBefore(there, list.children[i] ?? null);
      }
      while (list.children.length > newest.length) list.lastElementChild?.remove();
      // One stop of the Tab key for all; arrows lead from one to the next.
      for (const [i, press] of list.querySelectorAll("button").entries()) press.tabIndex = i === 0 ? 0 : -1;
    },
  };
  list.addEventListener("keydown", (event) => {
    const item = /** @type {Element} */ (event.target).closest("li");
    const to = { ArrowRight: item?.nextElementSibling, ArrowLeft: item?.previousElementSibling }[event.key];
    const press = to?.querySelector("button");
    if (press === undefined || press === null) return;
    event.preventDefault();
    press.focus();
  });
  const remove = button("Remove", () => removeClass(made));
  remove.setAttribute("aria-label", "Remove this class and its pictures");
  head.append(input, remove);

  const row = make("div", "row");
  row.append(chooser(made, "Pictures…", false), chooser(made, "Folder…", true), holder(made), total);
  card.append(head, row, problem, list);
  card.setAttribute("role", "group");
  const rename = () => card.setAttribute("aria-label", input.value || input.placeholder);
  input.addEventListener("input", rename);
  rename();
  takesDrops(card, async (transfer) => {
    const dropped = await filesIn(transfer);
    // One folder gives a class without a name its own.
    if (input.value === "") input.value = dropped[0]?.folder ?? "";
    rename();
    await addFiles(made, dropped.map(({ file }) => file)); // prettier-ignore
  });
  cards.push(made);
  element("classes").append(card);
  element("clear").hidden = false;
  made.show();
  return made;
}

/** @param {ClassCard} made */
function removeClass(made) {
  cards.splice(cards.indexOf(made), 1);
  made.card.remove();
  element("clear").hidden = cards.length === 0;
  element("add-class").focus();
}

function clear() {
  for (const { card } of cards.splice(0)) card.remove();
  byName.clear();
  element("clear").hidden = true;
}

/**
 * @param {ClassCard} made
 * @param {Picture} picture
 */
function thumb(made, picture) {
  const item = make("li");
  const canvas = make("canvas");
  canvas.width = canvas.height = THUMB;
  canvas.getContext("2d")?.drawImage(picture.thumb, 0, 0);
  const remove = button("×", () => {
    const at = made.pictures.indexOf(picture);
    made.pictures.splice(at, 1);
    made.show();
    const next = made.card.querySelectorAll(".thumbs button");
    /** @type {HTMLElement} */ (
      next[Math.min(made.pictures.length - at, next.length - 1)] ?? made.input
    ).focus();
  });
  remove.setAttribute("aria-label", `Remove ${picture.name}`);
  remove.title = `Remove ${picture.name}`;
  item.append(canvas, remove);
  thumbs.set(picture, item);
  return item;
}

/**
 * A button that opens the system's dialogue.
 *
 * @param {ClassCard} made
 * @param {string} text
 * @param {boolean} isFolder
 */
function chooser(made, text, isFolder) {
  const label = make("label", "button", text);
  const input = make("input", "away");
  input.type = "file";
  input.multiple = true;
  if (isFolder) input.webkitdirectory = true;
  else input.accept = "image/*";
  input.addEventListener("change", () => {
    const files = chosen(input.files ?? []).map(({ file }) => file);
    input.value = "";
    void attempt("show-problem", () => addFiles(made, files));
  });
  label.append(input);
  return label;
}

/**
 * A button that takes pictures for as long as it is held, by pointer or key.
 *
 * @param {ClassCard} made
 */
function holder(made) {
  const hold = make("button", "hold", "Hold to take");
  hold.type = "button";
  hold.hidden = !cameraIsOn();
  onCamera((isOn) => (hold.hidden = !isOn));
  let isHeld = false;
  const start = async () => {
    if (isHeld) return;
    isHeld = true;
    hold.classList.add("taking");
    do {
      await addFiles(made, [await takePicture()]);
      await new Promise((resolve) => setTimeout(resolve, 1000 / HELD_PACE));
    } while (isHeld && cameraIsOn());
    stop();
  };
  const stop = () => {
    isHeld = false;
    hold.classList.remove("taking");
  };
  const isKey = (/** @type {KeyboardEvent} */ { key }) => key === " " || key === "Enter";
  hold.addEventListener("pointerdown", () => void attempt("show-problem", start));
  hold.addEventListener("keydown", (event) => {
    if (!isKey(event)) return;
    event.preventDefault();
    void attempt("show-problem", start);
  });
  for (const type of ["pointerup", "pointercancel", "pointerleave", "blur", "keyup"]) {
    hold.addEventListener(type, stop);
  }
  // Whoever cannot hold it, such as a screen reader, takes one.
  hold.addEventListener("click", ({ detail }) => {
    if (detail === 0) void attempt("show-problem", start);
    stop();
  });
  hold.addEventListener("contextmenu", (event) => event.preventDefault());
  return hold;
}

/**
 * Adds what can be read, and says what cannot.
 *
 * @param {ClassCard} made
 * @param {readonly File[]} files
 */
async function addFiles(made, files) {
  /** @type {string[]} */
  const refused = [];
  for (const [i, file] of files.entries()) {
    try {
      await addPicture(made, file, file.name);
    } catch (error) {
      refused.push(inWords(error));
    }
    if (i % 8 === 7) made.show();
  }
  made.show();
  isUnsaved = true;
  const problem = /** @type {HTMLElement} */ (made.card.querySelector(".problem"));
  const more = refused.length > MOST_REFUSED ? `\nand ${refused.length - MOST_REFUSED} more` : "";
  problem.textContent = `Left out:\n${refused.slice(0, MOST_REFUSED).join("\n")}${more}`;
  problem.hidden = refused.length === 0;
}

/** Reasons that are shown. */
const MOST_REFUSED = 5;

/**
 * @param {ClassCard} made
 * @param {File | Blob} file
 * @param {string} wanted
 */
async function addPicture(made, file, wanted) {
  await checkPicture(file, wanted);
  const thumb = await thumbnail(file).catch(() => {
    throw new Refusal(`${wanted} cannot be decoded by this browser. Save it as JPEG or PNG, or leave it out`);
  });
  let name = wanted;
  for (let i = 2; byName.has(name); i++) name = `${wanted} (${i})`;
  const picture = { name, file, thumb };
  byName.set(name, picture);
  made.pictures.push(picture);
}

/** Its middle square. @param {Blob} file */
async function thumbnail(file) {
  const whole = await createImageBitmap(file);
  const side = Math.min(whole.width, whole.height);
  const [x, y] = [(whole.width - side) / 2, (whole.height - side) / 2].map(Math.floor);
  const options = /** @type {const} */ ({
    resizeWidth: THUMB,
    resizeHeight: THUMB,
    resizeQuality: "medium",
  });
  try {
    return await createImageBitmap(whole, x ?? 0, y ?? 0, side, side, options);
  } finally {
    whole.close();
  }
}

/**
 * @param {HTMLElement} place
 * @param {(transfer: DataTransfer) => Promise<void>} take
 */
export function takesDrops(place, take) {
  place.addEventListener("dragover", (event) => {
    event.preventDefault();
    place.classList.add("over");
  });
  place.addEventListener("dragleave", (event) => {
    if (!place.contains(/** @type {Node | null} */ (event.relatedTarget))) place.classList.remove("over");
  });
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    place.classList.remove("over");
    const { dataTransfer } = event;
    if (dataTransfer !== null) void attempt("show-problem", () => take(dataTransfer));
  });
}

/** Folders that lie on no class become classes: the innermost ones that hold pictures. */
async function takeFolders(/** @type {DataTransfer} */ transfer) {
  const dropped = await filesIn(transfer);
  const loose = dropped.filter(({ parent }) => parent === "");
  for (const { parent, file } of dropped) {
    if (parent === "" || !/^image\//.test(file.type)) continue;
    const card = cards.find(({ input }) => input.value.trim() === parent) ?? named(parent);
    await addFiles(card, [file]);
  }
  if (loose.length > 0) throw new Refusal("these pictures have no class yet. Drop them on one");
}

/** A class of this name, one that is empty where there is any. @param {string} name */
function named(name) {
  const empty = cards.find(({ pictures, input }) => pictures.length === 0 && input.value === "");
  if (empty === undefined) return addClass(name);
  empty.input.value = name;
  empty.input.dispatchEvent(new Event("input"));
  return empty;
}

async function draw() {
  const made = shapes.map((shape) => cards.find(({ input }) => input.value === shape) ?? named(shape));
  const first = Math.max(...made.map(({ pictures }) => pictures.length));
  for (let i = first; i < first + DRAWN; i++) {
    // At once, for the browser encodes pictures when it has nothing else to do.
    await Promise.all(
      shapes.map(async (shape, j) => {
        const file = await drawShape(shape, i);
        await addPicture(/** @type {ClassCard} */ (made[j]), file, file.name);
      }),
    );
    for (const card of made) card.show();
  }
}

export function startClasses() {
  for (let i = 0; i < 2; i++) addClass();
  element("add-class").addEventListener("click", () => addClass().input.focus());
  const drawing = element("draw", "button");
  drawing.addEventListener("click", async () => {
    drawing.disabled = true;
    await attempt("show-problem", draw);
    drawing.disabled = false;
  });
  element("clear").addEventListener("click", () => {
    clear();
    say("show-problem");
    for (let i = 0; i < 2; i++) addClass();
  });
  takesDrops(document.body, takeFolders);
}
