// CRC-32C (Castagnoli), the checksum of TFRecord files and TensorFlow's checkpoints, and TensorFlow's mask of it.
//
// Source: RFC 3720 section 12.1; tsl/lib/hash/crc32c.h for the mask.
#pragma once

#include <cstddef>
#include <cstdint>

namespace decode {

// With the processor's instruction where it has one; `previous` continues a CRC over the bytes before these.
uint32_t Crc32c(const uint8_t* bytes, size_t length, uint32_t previous = 0);

// The definition, a byte at a time by a table.
uint32_t Crc32cPlain(const uint8_t* bytes, size_t length, uint32_t previous = 0);

// As a file stores it: rotated right by 15 bits, plus a constant.
inline uint32_t MaskedCrc32c(const uint8_t* bytes, size_t length) {
  const uint32_t crc = Crc32c(bytes, length);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

}  // namespace decode
