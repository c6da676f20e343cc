// Runs a program: its layers in order, forward and backward, and times them.
#pragma once

#include <memory>
#include <vector>

#include "gradient_sink.h"
#include "layers/layer.h"
#include "loss.h"
#include "state.h"
#include "update.h"
#include "workspace.h"

namespace riffle {

// In the order of `views` (src/backends/engine/engine.ts).
enum class MapView { kNormalised, kValue, kGradient };

class Executor {
 public:
  // Works on `state`, which outlives it and may be shared by executors that only infer.
  Executor(ProgramInfo program, const KernelTable& kernels, int threads, const State& state);

  const ProgramInfo& program() const { return ws_.program; }

  // Training: fills the gradients, telling `sink` of each bucket as it is final; `finite` of the result is the caller's to
  // fill. Then weights, momentum and averages by them, and moving statistics by `statistics` (BatchNorm::ReadStatistics).
  StepResult ComputeGradients(const uint8_t* images, const Targets& targets, const LossSettings& loss,
                              GradientSink* sink = nullptr);
  bool GradientsAreFinite() { return AllFinite(ws_, weights_.gradients); }
  void DivideGradients(float divisor) { Divide(ws_, weights_.gradients, divisor); }
  void ApplyUpdate(const UpdateSettings& update, const double* statistics);

  // Inference: makes the state as it is now the one used, then logits [count, classes] of `images`, which are always a
  // whole batch.
  void Prepare();
  void Infer(const uint8_t* images, int count, float* logits);

  // One step on what stands in planes and tables; only the stem wants `images` (tests).
  void RunStep(int index, bool backward, const uint8_t* images);
  // ComputeGradients piece by piece, for who looks at planes before their places are used again: times 0 .. 2 S - 1 in
  // their order, step i forward at time i, the last with the loss, and backward at time 2 S - 1 - i.
  StepResult RunTime(int time, const uint8_t* images, const Targets& targets, const LossSettings& loss);

  const float* logits() const { return ws_.logits.data(); }
  long features() const { return static_cast<long>(program().steps.back().inputs.size()); }
  // Planes of one size, as their readers see them, or z or g as it is: out [images, planes, height, width].
  void ReadMap(const int32_t* planes, long count, int images, MapView view, float* out) const;
  bool HasPlane(int id, bool gradient) const { return !gradient || ws_.HasGradient(id); }
  // The numbers of a plane as they are stored (tests): [batch, height, width].
  void ReadPlane(int id, bool gradient, double* out) const;
  void WritePlane(int id, bool gradient, const double* in);
  BatchNorm& norm() { return ws_.norm; }
  ThreadPool& pool() { return ws_.pool; }
  const Weights& weights() const { return weights_; }
  const std::vector<double>& seconds(bool backward) const { return backward ? backward_seconds_ : forward_seconds_; }

 private:
  void PackAll();
  void Begin();
  void Forward();

  Workspace ws_;
  const Weights weights_;
  std::vector<std::unique_ptr<Layer>> layers_;
  std::vector<double> forward_seconds_, backward_seconds_;
};

}  // namespace riffle
