// Runs a program: its layers in order, forward and backward, and times them. Weights stay the caller's.
#pragma once

#include <memory>
#include <vector>

#include "layers/layer.h"
#include "loss.h"
#include "state.h"
#include "update.h"
#include "workspace.h"

namespace riffle {

class Executor {
 public:
  Executor(ProgramInfo program, const KernelTable& kernels, int threads);

  const ProgramInfo& program() const { return ws_.program; }

  // Training.
  StepResult ComputeGradients(const uint8_t* images, const int32_t* labels, const Weights& weights,
                              const LossSettings& loss);
  void ApplyUpdate(const Weights& weights, const UpdateSettings& update);

  // Inference: copies the weights; then logits [count, classes] of `images`, which are always a whole batch.
  void Load(const Weights& weights);
  void Infer(const uint8_t* images, int count, float* logits);

  // One step on what stands in planes and tables (tests).
  void RunStep(int index, bool backward, const Weights& weights);

  const float* logits() const { return ws_.logits.data(); }
  long features() const { return static_cast<long>(program().steps.back().inputs.size()); }
  bool loaded() const { return !loaded_.empty(); }
  float* plane(int id, bool gradient) { return ws_.plane(id, gradient); }
  BatchNorm& norm() { return ws_.norm; }
  const std::vector<double>& seconds(bool backward) const { return backward ? backward_seconds_ : forward_seconds_; }

 private:
  void PackAll(const float* parameters);
  void Forward(const Weights& weights);

  Workspace ws_;
  std::vector<std::unique_ptr<Layer>> layers_;
  std::vector<float> loaded_;  // the parameters that Infer uses
  std::vector<double> forward_seconds_, backward_seconds_;
};

}  // namespace riffle
