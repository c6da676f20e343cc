// Memory straight from the system: zeroed, page-aligned, in large pages where the system has them.
#pragma once

#include <cstddef>

namespace riffle {

class Arena {
 public:
  Arena() = default;
  // Throws std::bad_alloc.
  explicit Arena(size_t floats);
  ~Arena();
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;
  float* data() const { return data_; }

 private:
  float* data_ = nullptr;
  [[maybe_unused]] size_t bytes_ = 0;
};

}  // namespace riffle
