/**
 * Text in files: UTF-8 to the byte, since what is replaced in silence could make one name of two.
 */

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Undefined for bytes that are not UTF-8; a byte order mark stays in the text. */
export function utf8Of(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

/** A character for each byte. */
export function latin1Of(bytes: Uint8Array): string {
  let text = "";
  // A call takes so many arguments at most.
  for (let at = 0; at < bytes.length; at += 8192)
    text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return text;
}
