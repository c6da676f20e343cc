// A layer: one step of a program, ready to run. Every kind of step is a row of the table in layer.cc; a kind without
// a row does not compile. What a kind needs to know is in its own file here, and nowhere else in runtime/.
//
// A step is a few parallel loops over tasks cut by shape alone, with small serial pieces between (a few numbers
// per plane). Partial sums are combined in task order in double, so results do not depend on the threads.
#pragma once

#include <memory>

#include "../program.h"
#include "../state.h"
#include "../words.h"
#include "../workspace.h"

namespace riffle {

class Layer {
 public:
  Layer(Workspace& workspace, const StepInfo& step) : ws_(workspace), s_(step) {}
  virtual ~Layer() = default;
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;

  // The weights as the kernels of one direction read them; one task, so layers pack at the same time.
  virtual void Pack(const float* /*parameters*/, bool /*backward*/) {}

  // Reads the inputs, writes z of the outputs; in training also their batch statistics.
  virtual void Forward(const Weights& weights) = 0;

  // Reads g of the outputs, writes g of the inputs and the gradients of the step's own parameters.
  virtual void Backward(const Weights& weights) = 0;

 protected:
  Workspace& ws_;
  const StepInfo& s_;
};

struct LayerRow {
  // What the kind has beyond what every step has, and what must hold for it. Throws std::invalid_argument.
  void (*read)(Words& words, const ProgramInfo& program, StepInfo& step);
  // Says what it needs; memory is there when it runs.
  std::unique_ptr<Layer> (*make)(Workspace& workspace, const StepInfo& step, Needs& needs);
};

// A layer over planes as the program stores them.
template <template <class> class L>
std::unique_ptr<Layer> Stored(Workspace& workspace, const StepInfo& step, Needs& needs) {
#if !defined(RIFFLE_F32_ONLY)
  if (workspace.program.storage == Storage::kBf16) return std::make_unique<L<Bf16>>(workspace, step, needs);
#endif
  return std::make_unique<L<float>>(workspace, step, needs);
}

const LayerRow& RowOf(StepKind kind);

}  // namespace riffle
