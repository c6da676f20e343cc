// Steps of training: forward and backward of one or more shards of pictures, each with a batch norm of its own, the sum of
// their gradients over this process and all others, and the update by it.
//
// Shards are numbered over all processes, neighbours in one process. Gradients, statistics and losses are added in a binary
// tree over those numbers, so the bits do not depend on how many processes share the shards.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "arena.h"
#include "exchange.h"
#include "executor.h"
#include "loss_scale.h"

namespace riffle {

// What a shard is run on, of the caller's.
struct ShardBatch {
  const uint8_t* images;
  Targets targets;
  const float* dropout_mask;  // or null
};

class TrainingStep : private GradientSink {
 public:
  // `exchange` is null where this process trains alone.
  TrainingStep(Executor& executor, Exchange* exchange);
  ~TrainingStep() override;

  // A shard of this process, `index` of `count` from 0. Before the last the result is the shard's own, and its gradients are
  // put aside, `finite` telling of its loss. After the last the gradients are those of the whole step, the loss scale taken
  // out again, and so is the result.
  StepResult Compute(const ShardBatch& batch, const LossSettings& loss, int index, int count);
  // Steps of `count` shards each, from shard `index` of the first on: each computed, then updated where it is finite, by the
  // next of `updates`. Ends early after a step that a process abandoned or asked to stop at, and after one that is not finite
  // where no loss scale can mend that. Returns a result of each step, and the own one of a shard whose step goes on.
  std::vector<StepResult> Run(const std::vector<ShardBatch>& batches, LossSettings loss, const std::vector<UpdateSettings>& updates,
                              int index, int count);
  // Weights, momentum and averages by the gradients, moving statistics by the mean of the shards'.
  void Update(const UpdateSettings& update);

  // In place of the shards that are left of a step: takes part in its sum with nothing, so that all processes learn of a
  // failure at the same place. No update follows.
  void Abandon();

  // Asks all processes to stop after the step in progress.
  void RequestStop() { stop_requested_ = true; }

  // Whether a loop of steps ends with one that gave this result.
  bool Ends(const StepResult& result) const;

  void set_loss_scale(const LossScale& scale) { loss_scale_ = scale; }

 private:
  // What is added up beside the gradients, in f64.
  enum Tail { kCrossEntropy, kCorrect1, kCorrect5, kStops, kFailures, kStatistics };

  void Ready(int bucket, float* begin, long count) override;
  void Wait() override;
  void PutAside(int index);
  template <class T>
  void AddLevels(T* values, long begin, long end, const std::vector<T*>& levels, int index) const;
  void FillTail(const StepResult& result);
  double Finish();
  bool IsFinite(const StepResult& result);

  Executor& executor_;
  Exchange* const exchange_;
  int index_ = 0, shards_ = 1;     // of the shard at hand; of the whole step
  int next_ = 0, count_ = 1;       // the shard expected, unless a step begins; of this process
  std::vector<Arena> aside_;       // sums of the gradients of 1, 2, 4 ... shards
  std::vector<std::vector<double>> tails_aside_;
  std::vector<double> tail_;       // then means and unbiased variances [2][planes]
  LossScale loss_scale_;
  std::atomic<bool> stop_requested_{false};
};

}  // namespace riffle
