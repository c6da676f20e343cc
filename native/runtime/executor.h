// Runs a program: owns its arena, tables, packed weights and threads; weights stay the caller's.
//
// A step is a few parallel loops over tasks cut by shape alone, with small serial pieces between (a few numbers
// per plane). Partial sums are combined in task order in double, so results do not depend on the threads.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "../kernels/kernels.h"
#include "program.h"
#include "thread_pool.h"

namespace riffle {

// The caller's arrays (src/backends/backend.ts); null where a call does not need them.
struct Weights {
  float* parameters = nullptr;
  float* statistics = nullptr;
  float* gradients = nullptr;
  float* momentum = nullptr;
  float* averages = nullptr;
};

struct LossSettings {
  double label_smoothing = 0, weight_decay = 0;
  const float* dropout_mask = nullptr;  // [batch, features]
};

struct UpdateSettings {
  double learning_rate, momentum, weight_decay, average_decay;
  bool nesterov;
};

struct StepResult {
  double cross_entropy = 0, decay_loss = 0;
  long correct1 = 0, correct5 = 0;
  bool finite = false;
};

// Memory straight from the system: zeroed, page-aligned, in large pages where the system has them. Throws
// std::bad_alloc.
class Arena {
 public:
  explicit Arena(size_t floats);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  float* data() const { return data_; }

 private:
  float* data_;
  size_t bytes_;
};

enum class Table { kMean, kVariance, kScale, kShift, kGradientSum, kGradientDot };

class Executor {
 public:
  Executor(ProgramInfo program, const KernelTable& kernels, int threads);

  const ProgramInfo& program() const { return p_; }
  const KernelTable& kernels() const { return k_; }

  // Training.
  StepResult ComputeGradients(const uint8_t* images, const int32_t* labels, const Weights& weights,
                              const LossSettings& loss);
  void ApplyUpdate(const Weights& weights, const UpdateSettings& update);

  // Inference: copies the weights; then logits [count, classes] of `images`, which are always a whole batch.
  void Load(const Weights& weights);
  void Infer(const uint8_t* images, int count, float* logits);

  // One step on what stands in planes and tables (tests).
  void RunStep(int index, bool backward, const Weights& weights);

  const float* logits() const { return logits_.data(); }
  long features() const { return feature_count_; }
  bool loaded() const { return !loaded_.empty(); }
  float* plane(int id, bool gradient);
  void ReadTable(Table table, double* out) const;
  void WriteTable(Table table, const double* in);
  const std::vector<double>& seconds(bool backward) const { return backward ? backward_seconds_ : forward_seconds_; }

 private:
  // What a step needs beside its description: sizes of its cut and its packed weights.
  struct StepState {
    long block_columns = 0, blocks = 0;
    int groups = 0, row_parts = 1;
    float* packed = nullptr;
    float* packed_transposed = nullptr;
  };

  void PackStep(size_t index, const float* parameters, bool transposed);
  void PackAll(const float* parameters);
  void Forward(const Weights& weights);
  void ForwardStep(size_t index, const Weights& weights);
  void BackwardStep(size_t index, const Weights& weights);
  StepResult Loss(const int32_t* labels, const Weights& weights, const LossSettings& loss);

  Stem StemFor(const StepInfo& step) const;
  // The stem's filters, tap by tap, channels of the image's order.
  void TakeStemWeights(const StepInfo& step, const float* parameters);
  void ForwardStem(const StepInfo& step, const Weights& weights);
  void BackwardStem(const StepInfo& step, const Weights& weights);
  void ForwardPointwise(const StepInfo& step, const StepState& state, const Weights& weights);
  void BackwardPointwise(const StepInfo& step, const StepState& state, const Weights& weights);
  void ForwardDepthwise(const StepInfo& step, const Weights& weights);
  void BackwardDepthwise(const StepInfo& step, const Weights& weights);
  void ForwardHead(const StepInfo& step, const Weights& weights);
  void BackwardHead(const StepInfo& step, const Weights& weights);

  InputPlane Input(int plane) const;
  void Normalise(int plane, double mean, double variance, const float* parameters);
  // dgamma and dbeta of the step's outputs into the gradients, and the three numbers of each dz.
  void OutputGradients(const StepInfo& step, const Weights& weights, double count);
  void SumInputGradients(const StepInfo& step, long groups);
  float* Scratch(int thread) { return scratch_->data() + static_cast<size_t>(thread) * scratch_floats_; }

  ProgramInfo p_;
  const KernelTable& k_;
  ThreadPool pool_;
  std::vector<StepState> states_;
  std::unique_ptr<Arena> arena_, packed_, scratch_, partials_, dw_;
  size_t scratch_floats_ = 0;

  // Per plane.
  std::vector<double> mean_, variance_, gradient_sum_, gradient_dot_;
  std::vector<float> scale_, shift_;
  std::vector<long> count_;  // values that the batch statistics of the plane average over

  // Of the step at hand.
  std::vector<InputPlane> inputs_;
  std::vector<OutputGradient> output_gradients_;
  std::vector<InputGradient> input_gradients_;
  std::vector<float*> outputs_;

  // The stem.
  const uint8_t* images_ = nullptr;
  std::vector<float> stem_weights_, stem_signed_weights_;  // [27][32]
  std::vector<uint8_t> stem_winners_;
  std::vector<double> stem_gram_;  // of the batch: [27][32], column 27 the sum of the patches
  double StemSum(int tap) const { return stem_gram_[tap * kStemPatchPadded + kStemPatch]; }
  std::vector<double> stem_partials_;

  // The head.
  std::vector<float> features_, logits_, dlogits_, dfeatures_, packed_dlogits_, packed_dlogits_transposed_;
  const float* dropout_mask_ = nullptr;
  long feature_count_ = 0;

  std::vector<float> loaded_;  // the parameters that Infer uses

  std::vector<double> forward_seconds_, backward_seconds_;
};

}  // namespace riffle
