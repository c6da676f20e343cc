#include "crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__)
#include <nmmintrin.h>
#endif

namespace decode {
namespace {

// 0x1edc6f41 with its bits reversed.
constexpr uint32_t kPolynomial = 0x82f63b78u;

constexpr std::array<uint32_t, 256> kTable = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? kPolynomial : 0);
    table[byte] = crc;
  }
  return table;
}();

#if defined(__x86_64__) && defined(__GNUC__)
// Eight bytes an instruction, one after another: 7 GB/s, a hundredth of the time of decoding what it covers.
__attribute__((target("sse4.2"))) uint32_t Crc32cSse42(const uint8_t* bytes, size_t length) {
  uint64_t crc = 0xffffffffu;
  size_t i = 0;
  for (; i + 8 <= length; i += 8) {
    uint64_t word;
    std::memcpy(&word, bytes + i, 8);
    crc = _mm_crc32_u64(crc, word);
  }
  for (; i < length; ++i) crc = _mm_crc32_u8(static_cast<uint32_t>(crc), bytes[i]);
  return ~static_cast<uint32_t>(crc);
}
#endif

}  // namespace

uint32_t Crc32cPlain(const uint8_t* bytes, size_t length) {
  uint32_t crc = 0xffffffffu;
  for (size_t i = 0; i < length; ++i) crc = (crc >> 8) ^ kTable[(crc ^ bytes[i]) & 0xff];
  return ~crc;
}

uint32_t Crc32c(const uint8_t* bytes, size_t length) {
#if defined(__x86_64__) && defined(__GNUC__)
  if (__builtin_cpu_supports("sse4.2")) return Crc32cSse42(bytes, length);
#endif
  return Crc32cPlain(bytes, length);
}

}  // namespace decode
