/**
 * What systems, servers, cameras and editors leave among people's pictures: no lister takes it for a picture or a
 * class, and every one counts it.
 *
 * A name alone decides, since what is behind it is nobody's picture. Names that a picture may well have are not here, so
 * a file that this list does not know is looked at, and named where it is none.
 */

/** Whether a file or folder of this name is passed over wherever it lies. */
export function isSystemFile(name: string): boolean {
  return name.startsWith(".") || NAMES.has(name.toLowerCase()) || name === "RECYCLER";
}

/** Whether a file of this name is; a class may be called `tmp` or `a~`. */
export function isCompanion(name: string): boolean {
  return COMPANIONS.test(name) || /^~\$/.test(name);
}

/** Whether a file of this name is a film: cameras put some beside a photograph, and people think that they are trained on. */
export function isFilm(name: string): boolean {
  return /\.(mov|mp4|m4v|avi|3gp|mts|lrv|mkv|webm|wmv)$/i.test(name);
}

/** In lower case. */
const NAMES: ReadonlySet<string> = new Set([
  // Windows
  "thumbs.db",
  "thumbs.db:encryptable",
  "ehthumbs.db",
  "ehthumbs_vista.db",
  "desktop.ini",
  "$recycle.bin",
  "system volume information",
  // macOS, and its servers; a custom icon's name ends in a carriage return
  "icon\r",
  "__macosx",
  "network trash folder",
  "temporary items",
  // Linux, after fsck
  "lost+found",
  // Synology, QNAP
  "@eadir",
  "@tmp",
  "#recycle",
  "#snapshot",
  "@recycle",
  "@recently-snapshot",
  // Picture managers, Python
  "picasa.ini",
  "zbthumbnail.info",
  "__pycache__",
]);

/**
 * Edits and previews that cameras put beside a photograph, what editors and downloads leave of a file, links of Windows.
 */
const COMPANIONS = /(~|\.(aae|xmp|thm|tmp|temp|part|crdownload|bak|swp|swo|lnk|url))$/i;
