// The trained numbers and what training carries beside them (src/backends/backend.ts says what each holds), in memory of
// the engine's own: nothing here points at JavaScript's, though JavaScript may look at it between calls.
#pragma once

#include <array>
#include <cstddef>

#include "arena.h"
#include "program.h"

namespace riffle {

// In the order of src/backends/engine/engine.ts.
enum class StateArray { kParameters, kStatistics, kMomentum, kAverages, kGradients };
constexpr int kStateArrays = 5;

// Where layers and the update find them.
struct Weights {
  float* parameters = nullptr;
  float* statistics = nullptr;  // [2][planes]: moving means, then moving variances
  float* momentum = nullptr;
  float* averages = nullptr;
  float* gradients = nullptr;
};

// Floats of an array.
size_t StateSize(const ProgramInfo& program, StateArray array);

// All five for a training program; parameters and statistics for one that infers.
class State {
 public:
  // The gradients may lie in memory of others, which outlives the state.
  explicit State(const ProgramInfo& program, float* gradients = nullptr);
  Weights weights() const;
  float* array(StateArray which) const {
    return which == StateArray::kGradients && lent_gradients_ ? lent_gradients_ : arrays_[static_cast<int>(which)].data();
  }

 private:
  std::array<Arena, kStateArrays> arrays_;
  float* const lent_gradients_;
};

}  // namespace riffle
