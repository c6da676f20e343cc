#include "arena.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "fail.h"

#if !defined(__wasm__)
#include <sys/mman.h>
#endif

namespace riffle {

#if defined(__wasm__)

// The memory of an instance only grows, and goes as a whole with the run that it is of.
Arena::Arena(size_t floats) {
  constexpr size_t kPage = 1 << 16;
  const size_t page = __builtin_wasm_memory_grow(0, floats / (kPage / sizeof(float)) + 1);
  if (page == SIZE_MAX) FailForMemory();
  data_ = reinterpret_cast<float*>(page * kPage);
}

Arena::~Arena() = default;

#else

Arena::Arena(size_t floats) : bytes_((std::max<size_t>(1, floats) * sizeof(float) + 4095) / 4096 * 4096) {
  void* p = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) FailForMemory();
#ifdef MADV_HUGEPAGE
  constexpr size_t kLargePage = 2 << 20;
  if (bytes_ >= kLargePage) madvise(p, bytes_, MADV_HUGEPAGE);
#endif
  data_ = static_cast<float*>(p);
}

Arena::~Arena() {
  if (data_) munmap(data_, bytes_);
}

#endif

Arena::Arena(Arena&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Arena& Arena::operator=(Arena&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace riffle
