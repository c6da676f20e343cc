#include "check.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(begin, bytes) static_cast<void>(begin)
#define ASAN_UNPOISON_MEMORY_REGION(begin, bytes) static_cast<void>(begin)
#endif

namespace riffle::test {
namespace {

constexpr size_t kGuard = 1024 * sizeof(float);
constexpr std::byte kGuardByte{0xa5};
constexpr long kShownFailures = 5;

}  // namespace

int Test::every = 1;
int Test::passed = 0;
int Test::failed = 0;
int Test::skipped = 0;

Test::~Test() {
  if (checks_ == 0) Fail("nothing was compared");
  ++(failures_ == 0 ? passed : failed);
  std::printf("%s %s: %ld cases, %ld comparisons", failures_ == 0 ? "ok  " : "FAIL", name_.c_str(), cases_, checks_);
  if (worst_ > 0) std::printf(", at most %.2g of what rounding allows (%s)", worst_, worst_at_.c_str());
  if (failures_ > 0) std::printf(", %ld wrong", failures_);
  std::printf("\n");
  std::fflush(stdout);
}

void Test::Near(const char* what, long index, double actual, double expected, double allowed) {
  ++checks_;
  const double difference = std::fabs(actual - expected);
  if (!(difference <= allowed)) {
    char message[256];
    std::snprintf(message, sizeof message, "%s[%ld] is %.9g, expected %.9g: off by %.3g, allowed %.3g", what, index,
                  actual, expected, difference, allowed);
    Fail(message);
  } else if (difference > worst_ * allowed) {
    worst_ = difference / allowed;
    worst_at_ = std::string(what) + "[" + std::to_string(index) + "], " + case_;
  }
}

void Test::Same(const char* what, long index, long actual, long expected) {
  ++checks_;
  if (actual == expected) return;
  char message[256];
  std::snprintf(message, sizeof message, "%s[%ld] is %ld, expected %ld", what, index, actual, expected);
  Fail(message);
}

void Test::True(bool holds, const char* what) {
  ++checks_;
  if (!holds) Fail(what);
}

void Test::Fail(const char* message) {
  if (++failures_ <= kShownFailures) std::printf("     %s (%s): %s\n", name_.c_str(), case_, message);
}

std::byte* Memory::Allocate(size_t bytes) {
  const size_t rounded = (bytes + 63) / 64 * 64;  // the back guard begins right behind the data, unrounded
  auto* begin = static_cast<std::byte*>(std::aligned_alloc(64, rounded + 2 * kGuard));
  if (begin == nullptr) std::abort();
  std::fill_n(begin, rounded + 2 * kGuard, kGuardByte);
  std::fill_n(begin + kGuard, bytes, std::byte{0xff});
  ASAN_POISON_MEMORY_REGION(begin, kGuard);
  ASAN_POISON_MEMORY_REGION(begin + kGuard + bytes, kGuard);
  blocks_.push_back({begin, bytes, {}});
  return begin + kGuard;
}

void Memory::Freeze() {
  Block& block = blocks_.back();
  block.frozen.assign(block.begin + kGuard, block.begin + kGuard + block.bytes);
}

Memory::~Memory() {
  for (const Block& block : blocks_) {
    ASAN_UNPOISON_MEMORY_REGION(block.begin, block.bytes + 2 * kGuard);
    std::free(block.begin);
  }
}

void Memory::Verify(Test& test) {
  const auto intact = [](const std::byte* guard) {
    for (size_t i = 0; i < kGuard; ++i)
      if (guard[i] != kGuardByte) return false;
    return true;
  };
  for (const Block& block : blocks_) {
    const std::byte* data = block.begin + kGuard;
    ASAN_UNPOISON_MEMORY_REGION(block.begin, block.bytes + 2 * kGuard);
    test.True(intact(block.begin), "the kernel wrote before a buffer");
    test.True(intact(data + block.bytes), "the kernel wrote behind a buffer");
    if (!block.frozen.empty())
      test.True(std::memcmp(data, block.frozen.data(), block.bytes) == 0, "the kernel changed an input");
  }
}

}  // namespace riffle::test
