#include "arena.h"

// WebAssembly's is in native/wasm/memory.cc.
#if !defined(__wasm__)

#include <sys/mman.h>

#include <algorithm>
#include <utility>

#include "fail.h"

namespace riffle {

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

Arena::Arena(Arena&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Arena& Arena::operator=(Arena&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace riffle

#endif
