// new and delete, which several threads may call at the same time: the C library's own know of one thread only.
#include <atomic>
#include <cstdlib>
#include <new>

#include "../runtime/fail.h"
#include "host.h"

namespace {

std::atomic<bool> taken{false};

// Held for less than a microsecond, so who waits does not sleep.
class Lock {
 public:
  Lock() {
    while (taken.exchange(true, std::memory_order_acquire)) {
    }
  }
  ~Lock() { taken.store(false, std::memory_order_release); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
};

void* Allocate(size_t bytes, size_t alignment) {
  void* p = nullptr;
  {
    const Lock lock;
    p = alignment <= 16 ? std::malloc(bytes) : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  }
  if (!p) riffle::FailForMemory();
  return p;
}

void Free(void* p) {
  const Lock lock;
  std::free(p);
}

}  // namespace

void* operator new(size_t bytes) { return Allocate(bytes, 1); }
void* operator new[](size_t bytes) { return Allocate(bytes, 1); }
void* operator new(size_t bytes, std::align_val_t alignment) { return Allocate(bytes, static_cast<size_t>(alignment)); }
void* operator new[](size_t bytes, std::align_val_t alignment) { return Allocate(bytes, static_cast<size_t>(alignment)); }
void operator delete(void* p) noexcept { Free(p); }
void operator delete[](void* p) noexcept { Free(p); }
void operator delete(void* p, size_t) noexcept { Free(p); }
void operator delete[](void* p, size_t) noexcept { Free(p); }
void operator delete(void* p, std::align_val_t) noexcept { Free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { Free(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { Free(p); }
void operator delete[](void* p, size_t, std::align_val_t) noexcept { Free(p); }

// What the C++ library calls where it would throw; its own words would bring printf with them.
namespace std {
inline namespace __1 {
void __libcpp_verbose_abort(const char*, ...) noexcept { __builtin_trap(); }
}
}  // namespace std

// Memory for what JavaScript hands over or wants to have filled, in lines of 64 bytes; and it back.
RIFFLE_EXPORT("allocate") void* AllocateFor(size_t bytes) { return Allocate(bytes, 64); }
RIFFLE_EXPORT("release") void Release(void* p) { Free(p); }
