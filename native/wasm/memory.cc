// Memory of an instance: it is given out from its beginning on, all zero, and grows at its end. Arenas are never given back, for a
// run goes as a whole, and its memory is then used again by JavaScript, zeroed. What new gives is, to the next new of its size.
// Several threads may ask at the same time.
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <new>
#include <utility>

#include "../runtime/arena.h"
#include "../runtime/fail.h"
#include "host.h"

extern "C" unsigned char __heap_base;

namespace {

constexpr size_t kLine = 64, kPage = 1 << 16;
// Grown by so much at a time, at least.
constexpr size_t kGrowth = 1 << 20;

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

// Where what was never given out begins.
uintptr_t frontier = 0;

// Zeroed lines of memory; 0 where it cannot grow so far. With the lock held.
uintptr_t TakeLines(uint64_t bytes) {
  if (frontier == 0) frontier = (reinterpret_cast<uintptr_t>(&__heap_base) + kLine - 1) / kLine * kLine;
  const uint64_t end = (frontier + bytes + kLine - 1) / kLine * kLine;
  const uint64_t have = static_cast<uint64_t>(__builtin_wasm_memory_size(0)) * kPage;
  if (end > have) {
    const uint64_t missing = (end - have + kPage - 1) / kPage;
    const uint64_t most = kGrowth / kPage;
    if (end > UINT32_MAX) return 0;
    if ((missing >= most || __builtin_wasm_memory_grow(0, most) == SIZE_MAX) &&
        __builtin_wasm_memory_grow(0, static_cast<size_t>(missing)) == SIZE_MAX)
      return 0;
  }
  return std::exchange(frontier, static_cast<uintptr_t>(end));
}

// Before each block of new's, a line of its own.
struct Header {
  Header* next;  // of the free ones
  uint32_t size_class;
};

// Free blocks of 2^i bytes.
std::array<Header*, 32> free_blocks{};

void* Allocate(size_t bytes) {
  const uint32_t size_class = std::bit_width(std::max<size_t>(bytes, kLine) - 1);
  Header* header = nullptr;
  if (size_class < free_blocks.size()) {
    const Lock lock;
    header = free_blocks[size_class];
    if (header) free_blocks[size_class] = header->next;
    else header = reinterpret_cast<Header*>(TakeLines(kLine + (uint64_t{1} << size_class)));
  }
  if (!header) riffle::FailForMemory();
  header->size_class = size_class;
  return reinterpret_cast<char*>(header) + kLine;
}

void Free(void* p) {
  if (!p) return;
  Header* header = reinterpret_cast<Header*>(static_cast<char*>(p) - kLine);
  const Lock lock;
  header->next = std::exchange(free_blocks[header->size_class], header);
}

}  // namespace

namespace riffle {

Arena::Arena(size_t floats) {
  uintptr_t lines = 0;
  {
    const Lock lock;
    lines = TakeLines(uint64_t{sizeof(float)} * floats);
  }
  if (lines == 0) FailForMemory();
  data_ = reinterpret_cast<float*>(lines);
}

Arena::~Arena() = default;

Arena::Arena(Arena&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}

Arena& Arena::operator=(Arena&& other) noexcept {
  std::swap(data_, other.data_);
  return *this;
}

}  // namespace riffle

// Blocks begin on lines of 64 bytes, which is all that anything here asks for.
void* operator new(size_t bytes) { return Allocate(bytes); }
void* operator new[](size_t bytes) { return Allocate(bytes); }
void* operator new(size_t bytes, std::align_val_t) { return Allocate(bytes); }
void* operator new[](size_t bytes, std::align_val_t) { return Allocate(bytes); }
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
RIFFLE_EXPORT("allocate") void* AllocateFor(size_t bytes) { return Allocate(bytes); }
RIFFLE_EXPORT("release") void Release(void* p) { Free(p); }

// Bytes from the memory's beginning that may be other than zero.
RIFFLE_EXPORT("used") uintptr_t Used() { return frontier; }
