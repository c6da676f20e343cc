/** The camera, one for the whole page: on, off, and the picture that it shows now. */

import { attempt, element, Refusal } from "./dom.js";

/** Pixels of the shorter side of a picture that is kept: more than any network here looks at. */
const KEPT = 256;

const video = element("video", "video");
/** @type {Set<(isOn: boolean) => void>} */
const listeners = new Set();

export const cameraIsOn = () => video.srcObject !== null;

/** @param {(isOn: boolean) => void} listener */
export function onCamera(listener) {
  listeners.add(listener);
}

/** @throws Error in words for people where there is no camera, or no leave to use it */
export async function startCamera() {
  if (cameraIsOn()) return;
  if (navigator.mediaDevices === undefined) {
    throw new Refusal("browsers give the camera to pages from this machine, and to others over HTTPS only");
  }
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "environment", width: { ideal: 640 } },
    });
  } catch (error) {
    throw new Refusal(CAMERA_REFUSALS[/** @type {Error} */ (error).name] ?? `no camera: ${error}`);
  }
  await video.play();
  tell();
}

/** @type {Readonly<Record<string, string>>} */
const CAMERA_REFUSALS = {
  NotAllowedError: "the browser may not use the camera. Allow it for this page, beside its address",
  NotFoundError: "there is no camera. Connect one, or drop pictures",
  NotReadableError: "another program has the camera. Close that, and try again",
};

export function stopCamera() {
  const stream = /** @type {MediaStream | null} */ (video.srcObject);
  for (const track of stream?.getTracks() ?? []) track.stop();
  video.srcObject = null;
  tell();
}

function tell() {
  const isOn = cameraIsOn();
  video.hidden = element("camera-stop").hidden = !isOn;
  element("camera-start").hidden = isOn;
  for (const listener of listeners) listener(isOn);
}

/** The middle square of what it shows now: what the page shows of it. @returns {HTMLCanvasElement} */
export function frame() {
  const { videoWidth: width, videoHeight: height } = video;
  const side = Math.min(width, height);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = Math.min(side, KEPT);
  const context = canvas.getContext("2d");
  context?.drawImage(
    video,
    (width - side) / 2,
    (height - side) / 2,
    side,
    side,
    0,
    0,
    canvas.width,
    canvas.width,
  );
  return canvas;
}

let taken = 0;

/** The same as a file. @returns {Promise<File>} */
export async function takePicture() {
  const canvas = frame();
  const blob = await new Promise((/** @type {(blob: Blob | null) => void} */ resolve) =>
    canvas.toBlob(resolve, "image/jpeg", 0.92),
  );
  if (blob === null) throw new Refusal("the browser made no picture of what the camera shows. Try again");
  return new File([blob], `camera ${++taken}.jpg`, { type: "image/jpeg" });
}

element("camera-start").addEventListener("click", () => void attempt("show-problem", startCamera));
element("camera-stop").addEventListener("click", stopCamera);
