/** Which Riffle this is, where no file can be asked: in a page. A test holds it to package.json. */

export function riffleVersion(): string {
  return "0.1.0";
}
