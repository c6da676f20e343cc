// The numbers that a program comes in (src/backends/engine/encode.ts writes them), read one after the other, each
// with the range it must lie in. All of it refuses (fail.h) naming the field.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../kernels/kernels.h"

namespace riffle {

constexpr long kLongestSide = 1 << 14;

class Words {
 public:
  Words(const double* words, size_t count) : words_(words), count_(count) {}

  double Number(const char* field);
  int64_t Whole(const char* field, int64_t low, int64_t high);
  bool Flag(const char* field) { return Whole(field, 0, 1) != 0; }
  riffle::Window Window();
  bool AtEnd() const { return at_ == count_; }

 private:
  const double* words_;
  size_t count_;
  size_t at_ = 0;
};

void Expect(bool holds, const char* what);

}  // namespace riffle
