// One TFRecord read by its place in an open file, and judged, on the calling thread.
//
//     u64 length | u32 masked CRC-32C of those 8 bytes | payload | u32 masked CRC-32C of the payload
//
// All little-endian. Only whether the record is whole is told: src/formats/tfrecord.ts, which reads a record that is
// not once more, finds and words the reason.
#pragma once

#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "crc32c.h"

namespace decode {

constexpr size_t kRecordOverhead = 16;

// Fills `framed` with the `size` bytes from `offset`: kRecordOverhead and the payload. True where they are all there,
// the length is theirs and both CRCs are right.
inline bool ReadRecord(int file, uint64_t offset, size_t size, uint8_t* framed) {
  for (size_t done = 0; done < size;) {
    const ssize_t got = pread(file, framed + done, size - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    done += static_cast<size_t>(got);
  }
  static_assert(std::endian::native == std::endian::little);
  const size_t length = size - kRecordOverhead;
  uint64_t stored_length;
  uint32_t length_crc, data_crc;
  std::memcpy(&stored_length, framed, 8);
  std::memcpy(&length_crc, framed + 8, 4);
  std::memcpy(&data_crc, framed + 12 + length, 4);
  return stored_length == length && length_crc == MaskedCrc32c(framed, 8) &&
         data_crc == MaskedCrc32c(framed + 12, length);
}

}  // namespace decode
