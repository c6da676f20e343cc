#include "training_step.h"

#include <algorithm>
#include <cmath>

#include "clock.h"
#include "fail.h"

namespace riffle {
namespace {

// What a profile is told when the caller's thread is done, whichever way.
class Leaving {
 public:
  explicit Leaving(ThreadPool& pool) : pool_(pool) {}
  ~Leaving() { pool_.Leave(); }
  Leaving(const Leaving&) = delete;
  Leaving& operator=(const Leaving&) = delete;

 private:
  ThreadPool& pool_;
};

}  // namespace

TrainingStep::TrainingStep(Executor& executor, Exchange* exchange)
    : executor_(executor), exchange_(exchange), tail_(kStatistics + 2 * executor.program().planes.size()) {
  if (!exchange_) return;
  executor_.pool().set_between([](void* exchange) { static_cast<Exchange*>(exchange)->Progress(); }, exchange_);
}

TrainingStep::~TrainingStep() = default;

std::vector<StepResult> TrainingStep::Run(const std::vector<ShardBatch>& batches, LossSettings loss,
                                          const std::vector<UpdateSettings>& updates, int index, int count) {
  std::vector<StepResult> results;
  size_t applied = 0;
  for (size_t i = 0; i < batches.size(); ++i, index = (index + 1) % count) {
    StepResult result = Compute(batches[i], loss, index, count);
    const bool whole = index + 1 == count;
    if (whole && result.failures == 0) {
      if (result.finite) Update(updates.at(applied++));
      loss_scale_.Count(result.finite);
    }
    result.scale = loss_scale_;
    if (whole || i + 1 == batches.size()) results.push_back(result);
    if (whole && Ends(result)) break;
  }
  return results;
}

// Where other processes share the step, a stop is theirs as well, and known to them by its sum alone.
bool TrainingStep::Ends(const StepResult& result) const {
  if (result.failures > 0 || result.stops > 0 || (!exchange_ && stop_requested_)) return true;
  // Weights that are not finite, or too large, stay so.
  return !result.finite && (!loss_scale_.on() || loss_scale_.IsStuck() || !std::isfinite(result.decay_loss));
}

StepResult TrainingStep::Compute(const ShardBatch& batch, const LossSettings& loss, int index, int count) {
  if (index != 0 && (index != next_ || count != count_)) Refuse("shards of a step come in their order");
  const Leaving leaving(executor_.pool());
  const bool last = index + 1 == count;
  next_ = last ? 0 : index + 1;
  count_ = count;
  index_ = index;
  shards_ = count * (exchange_ ? exchange_->size() : 1);
  // Before any of the step's gradients is written: others may still read those of the step before.
  if (index == 0 && exchange_) executor_.pool().Enter(Doing::kExchanging);
  if (index == 0 && exchange_) exchange_->Begin(executor_.pool(), 1.0f / static_cast<float>(shards_));
  LossSettings own = loss;
  own.dropout_mask = batch.dropout_mask;
  own.scale = loss_scale_.scale;
  StepResult result = executor_.ComputeGradients(batch.images, batch.targets, own, last ? this : nullptr);
  executor_.pool().Enter(Doing::kSumming);
  result.scale = loss_scale_;
  FillTail(result);
  if (!last) {
    PutAside(index);
    result.finite = std::isfinite(result.cross_entropy);
    return result;
  }
  std::vector<double*> levels;
  for (std::vector<double>& level : tails_aside_) levels.push_back(level.data());
  AddLevels(tail_.data(), 0, static_cast<long>(tail_.size()), levels, index);
  if (exchange_) result.exchange_seconds = Finish();
  executor_.pool().Enter(Doing::kChecking);
  const double shards = shards_;
  result.cross_entropy = tail_[kCrossEntropy] / shards;
  result.correct1 = static_cast<long>(tail_[kCorrect1]);
  result.correct5 = static_cast<long>(tail_[kCorrect5]);
  std::for_each(tail_.begin() + kStatistics, tail_.end(), [shards](double& v) { v /= shards; });
  result.stops = static_cast<long>(tail_[kStops]);
  result.failures = static_cast<long>(tail_[kFailures]);
  result.finite = IsFinite(result);
  if (result.failures == 0 && loss_scale_.scale != 1) {
    if (exchange_) exchange_->AwaitTaken();
    executor_.DivideGradients(loss_scale_.scale);
  }
  return result;
}

// The same in all processes: they have the sums of all.
bool TrainingStep::IsFinite(const StepResult& result) {
  if (result.failures > 0 || !std::isfinite(result.cross_entropy) || !std::isfinite(result.decay_loss)) return false;
  // A step that is skipped leaves nothing behind, so what would be left in the statistics counts as well.
  const auto finite = [](double v) { return std::isfinite(static_cast<float>(v)); };  // as it is kept
  if (loss_scale_.on() && !std::all_of(tail_.begin() + kStatistics, tail_.end(), finite)) return false;
  return executor_.GradientsAreFinite();
}

void TrainingStep::Abandon() {
  std::fill(tail_.begin(), tail_.end(), 0.0);
  tail_[kFailures] = 1;
  if (!exchange_) return;
  if (next_ == 0) exchange_->Begin(executor_.pool(), 1);
  next_ = 0;
  float* gradients = executor_.weights().gradients;
  const std::vector<Bucket>& buckets = executor_.program().buckets;
  for (size_t i = 0; i < buckets.size(); ++i)
    exchange_->Ready(static_cast<int>(i), gradients + buckets[i].begin, buckets[i].end - buckets[i].begin);
  Finish();
}

// Returns the seconds that it took.
double TrainingStep::Finish() {
  executor_.pool().Enter(Doing::kExchanging);
  const int64_t start = SteadyNow();
  exchange_->Finish(tail_.data(), static_cast<long>(tail_.size()));
  return SecondsSince(start);
}

void TrainingStep::Update(const UpdateSettings& update) {
  const Leaving leaving(executor_.pool());
  executor_.pool().Enter(Doing::kUpdating);
  executor_.ApplyUpdate(update, tail_.data() + kStatistics);
}

// The last shard's gradients of a bucket, with those put aside.
void TrainingStep::Ready(int bucket, float* begin, long count) {
  if (shards_ == 1) return;
  float* gradients = executor_.weights().gradients;
  std::vector<float*> levels;
  for (Arena& level : aside_) levels.push_back(level.data());
  const long first = begin - gradients;
  const float scale = exchange_ ? 1.0f : 1.0f / static_cast<float>(shards_);
  executor_.pool().Run(Chunks(count), [&](long t, int) {
    const long from = first + t * kChunk, to = std::min(from + kChunk, first + count);
    AddLevels(gradients, from, to, levels, index_);
    if (scale != 1)
      for (long i = from; i < to; ++i) gradients[i] *= scale;
  });
  if (!exchange_) return;
  executor_.pool().Enter(Doing::kExchanging);
  exchange_->Ready(bucket, begin, count);
}

void TrainingStep::Wait() {}

// As a binary counter counts: the shard's sum takes up those of as many neighbours as it is the last of.
void TrainingStep::PutAside(int index) {
  int full = 0;
  while (index >> full & 1) ++full;
  const long count = executor_.program().trained_count;
  while (static_cast<int>(aside_.size()) <= full) {
    aside_.emplace_back(static_cast<size_t>(count));
    tails_aside_.emplace_back(tail_.size());
  }
  const float* gradients = executor_.weights().gradients;
  executor_.pool().Run(Chunks(count), [&](long t, int) {
    const long from = t * kChunk, to = std::min(from + kChunk, count);
    float* out = aside_[full].data();
    std::copy(gradients + from, gradients + to, out + from);
    for (int l = 0; l < full; ++l)
      for (long i = from; i < to; ++i) out[i] = aside_[l].data()[i] + out[i];
  });
  std::vector<double>& out = tails_aside_[full];
  out = tail_;
  for (int l = 0; l < full; ++l)
    for (size_t i = 0; i < out.size(); ++i) out[i] = tails_aside_[l][i] + out[i];
}

// Levels that are full before shard `index`: its number's bits.
template <class T>
void TrainingStep::AddLevels(T* values, long begin, long end, const std::vector<T*>& levels, int index) const {
  for (int l = 0; index >> l; ++l)
    if (index >> l & 1)
      for (long i = begin; i < end; ++i) values[i] = levels[l][i] + values[i];
}

void TrainingStep::FillTail(const StepResult& result) {
  tail_[kCrossEntropy] = result.cross_entropy;
  tail_[kCorrect1] = static_cast<double>(result.correct1);
  tail_[kCorrect5] = static_cast<double>(result.correct5);
  tail_[kFailures] = 0;
  tail_[kStops] = index_ == 0 && stop_requested_ ? 1 : 0;
  executor_.norm().ReadStatistics(tail_.data() + kStatistics);
}

}  // namespace riffle
