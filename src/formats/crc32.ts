/**
 * CRC-32, the checksum of zip archives.
 *
 * Source: PKWARE APPNOTE 6.3, section 4.4.7; the polynomial of ISO 3309.
 */

import { crcOf } from "./crc.js";

/** Of `bytes`; `previous` continues a sum over the bytes before them. */
export const crc32 = crcOf(0xedb88320);
