// The trained numbers and what training carries beside them (src/backends/backend.ts says what each holds).
#pragma once

namespace riffle {

// Null where a call does not need it.
struct Weights {
  float* parameters = nullptr;
  float* statistics = nullptr;
  float* gradients = nullptr;
  float* momentum = nullptr;
  float* averages = nullptr;
};

}  // namespace riffle
