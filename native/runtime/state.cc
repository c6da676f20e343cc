#include "state.h"

namespace riffle {

size_t StateSize(const ProgramInfo& program, StateArray array) {
  return array == StateArray::kStatistics ? 2 * program.planes.size() : static_cast<size_t>(program.parameter_count);
}

State::State(const ProgramInfo& program, float* gradients) : lent_gradients_(gradients) {
  const int all = gradients ? kStateArrays - 1 : kStateArrays;
  const int arrays = program.training ? all : static_cast<int>(StateArray::kStatistics) + 1;
  for (int i = 0; i < arrays; ++i) arrays_[i] = Arena(StateSize(program, static_cast<StateArray>(i)));
}

Weights State::weights() const {
  return {.parameters = array(StateArray::kParameters),
          .statistics = array(StateArray::kStatistics),
          .momentum = array(StateArray::kMomentum),
          .averages = array(StateArray::kAverages),
          .gradients = array(StateArray::kGradients)};
}

}  // namespace riffle
