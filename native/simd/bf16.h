// The number format that planes may be stored in: the upper half of a float.
#pragma once

#include <cstdint>

namespace riffle {

struct Bf16 {
  uint16_t bits;
};

}  // namespace riffle
