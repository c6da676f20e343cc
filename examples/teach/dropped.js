/** Files out of what is dropped: folders are walked. */

/**
 * @typedef {object} Dropped
 * @property {string} folder its name, of the topmost folder that was dropped; "" for a file that lay in none
 * @property {string} parent the name of the folder it lies in; "" for none
 * @property {File} file
 */

/**
 * Call it while the event is handled: what was dropped is gone afterwards.
 *
 * @param {DataTransfer} transfer
 * @returns {Promise<Dropped[]>}
 */
export async function filesIn(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry());
  const files = [...transfer.files];
  if (entries.every((entry) => entry === null))
    return files.map((file) => ({ folder: "", parent: "", file }));
  /** @type {Dropped[]} */
  const found = [];
  for (const entry of entries) if (entry !== null) await walk(entry, "", "", found);
  return found;
}

/**
 * Of an input that chooses folders.
 *
 * @param {Iterable<File>} files
 * @returns {Dropped[]}
 */
export function chosen(files) {
  const visible = [...files].filter(({ name }) => !name.startsWith("."));
  return visible.map((file) => {
    const folders = file.webkitRelativePath.split("/").slice(0, -1);
    return { folder: folders[0] ?? "", parent: folders.at(-1) ?? "", file };
  });
}

/**
 * @param {FileSystemEntry} entry
 * @param {string} folder
 * @param {string} parent
 * @param {Dropped[]} found
 */
async function walk(entry, folder, parent, found) {
  if (entry.name.startsWith(".")) return;
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) =>
      /** @type {FileSystemFileEntry} */ (entry).file(resolve, reject),
    );
    found.push({ folder, parent, file });
    return;
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  for (;;) {
    // A hundred at a time, in Chromium.
    /** @type {FileSystemEntry[]} */
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return;
    for (const inner of some) await walk(inner, folder || entry.name, entry.name, found);
  }
}
