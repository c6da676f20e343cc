#include "executor.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "clock.h"
#include "fail.h"

namespace riffle {
namespace {

template <class Body>
double Seconds(const Body& body) {
  const int64_t start = SteadyNow();
  body();
  return SecondsSince(start);
}

// Pixels, and what features are multiplied by, are the caller's for the length of a call only.
class Lent {
 public:
  Lent(Workspace& ws, const uint8_t* images, const float* dropout_mask) : ws_(ws) {
    ws.images = images;
    ws.dropout_mask = dropout_mask;
  }
  ~Lent() {
    ws_.images = nullptr;
    ws_.dropout_mask = nullptr;
  }
  Lent(const Lent&) = delete;
  Lent& operator=(const Lent&) = delete;

 private:
  Workspace& ws_;
};

}  // namespace

Executor::Executor(ProgramInfo program, const KernelTable& kernels, int threads, const State& state)
    : ws_(std::move(program), kernels, threads), weights_(state.weights()) {
  Needs needs;
  for (const StepInfo& step : ws_.program.steps) layers_.push_back(RowOf(step.kind).make(ws_, step, needs));
  ws_.Allocate(needs);
  forward_seconds_.assign(layers_.size(), 0);
  backward_seconds_.assign(layers_.size(), 0);
}

StepResult Executor::ComputeGradients(const uint8_t* images, const Targets& targets, const LossSettings& loss,
                                      GradientSink* sink) {
  const Lent lent(ws_, images, loss.dropout_mask);
  ws_.pool.Enter(Doing::kPacking);
  Begin();
  Forward();
  ws_.pool.Enter(Doing::kLoss);
  const StepResult result = Loss(ws_, targets, weights_.parameters, loss);
  const std::vector<Bucket>& buckets = program().buckets;
  size_t announced = 0;
  for (int i = static_cast<int>(layers_.size()); i-- > program().first_training;) {
    ws_.pool.Enter(Doing::kBackward, i);
    backward_seconds_[i] = Seconds([&] { layers_[i]->Backward(weights_); });
    if (!sink || announced == buckets.size() || buckets[announced].after_step != i) continue;
    const Bucket& b = buckets[announced];
    ws_.pool.Enter(Doing::kSumming);
    sink->Ready(static_cast<int>(announced++), weights_.gradients + b.begin, b.end - b.begin);
  }
  if (sink) sink->Wait();
  return result;
}

void Executor::ApplyUpdate(const UpdateSettings& update, const double* statistics) {
  riffle::ApplyUpdate(ws_, weights_, update, statistics);
}

void Executor::Prepare() {
  PackAll();
  ws_.norm.NormaliseByMoving(weights_.statistics, weights_.parameters, static_cast<int>(program().planes.size()));
  ws_.ForgetInputs();
}

void Executor::Infer(const uint8_t* images, int count, float* logits) {
  const Lent lent(ws_, images, nullptr);
  Forward();
  std::copy_n(ws_.logits.data(), static_cast<size_t>(count) * program().classes, logits);
}

void Executor::ReadMap(const int32_t* planes, long count, int images, MapView view, float* out) const {
  std::vector<double> z;
  for (long c = 0; c < count; ++c) {
    const int id = planes[c];
    const PlaneInfo& plane = program().planes[id];
    const long pixels = plane.height * plane.width;
    const float scale = ws_.norm.scale(id), shift = ws_.norm.shift(id);
    z.resize(program().batch * pixels);
    ReadPlane(id, view == MapView::kGradient, z.data());
    for (long n = 0; n < images; ++n) {
      if (view != MapView::kNormalised) {
        std::copy_n(z.data() + n * pixels, pixels, out + (n * count + c) * pixels);
        continue;
      }
      for (long i = 0; i < pixels; ++i) {
        const float y = scale * static_cast<float>(z[n * pixels + i]) + shift;
        out[(n * count + c) * pixels + i] = plane.relu && !(y > 0) ? 0 : y;
      }
    }
  }
}

void Executor::ReadPlane(int id, bool gradient, double* out) const {
  const PlaneInfo& plane = program().planes[id];
  const long count = program().batch * plane.height * plane.width;
  if (program().storage == Storage::kF32) {
    std::copy_n(ws_.plane<float>(id, gradient), count, out);
  } else {
    const Bf16* from = ws_.plane<Bf16>(id, gradient);
    for (long i = 0; i < count; ++i) out[i] = std::bit_cast<float>(static_cast<uint32_t>(from[i].bits) << 16);
  }
}

void Executor::WritePlane(int id, bool gradient, const double* in) {
  const PlaneInfo& plane = program().planes[id];
  const long count = program().batch * plane.height * plane.width;
  if (program().storage == Storage::kF32) {
    float* to = ws_.plane<float>(id, gradient);
    for (long i = 0; i < count; ++i) to[i] = static_cast<float>(in[i]);
  } else {
    // What is written is a bf16 already.
    Bf16* to = ws_.plane<Bf16>(id, gradient);
    for (long i = 0; i < count; ++i)
      to[i].bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(in[i])) >> 16);
  }
}

StepResult Executor::RunTime(int time, const uint8_t* images, const Targets& targets, const LossSettings& loss) {
  const Lent lent(ws_, images, loss.dropout_mask);
  const int steps = static_cast<int>(layers_.size());
  if (time == 0) Begin();
  if (time >= steps) {
    layers_[2 * steps - 1 - time]->Backward(weights_);
  } else {
    layers_[time]->Forward(weights_);
  }
  return time + 1 == steps ? Loss(ws_, targets, weights_.parameters, loss) : StepResult{};
}

void Executor::RunStep(int index, bool backward, const uint8_t* images) {
  if (program().steps[index].kind == StepKind::kStem && !images) Refuse("the stem wants images");
  const Lent lent(ws_, images, nullptr);
  ws_.ForgetInputs();
  layers_[index]->Pack(weights_.parameters, backward);
  if (backward) {
    layers_[index]->Backward(weights_);
  } else {
    layers_[index]->Forward(weights_);
  }
}

// What a step of training needs before its first layer.
void Executor::Begin() {
  PackAll();
  const int all = static_cast<int>(program().planes.size());
  ws_.norm.NormaliseByMoving(weights_.statistics, weights_.parameters,
                             program().keeps_statistics ? all : program().frozen_planes);
}

void Executor::PackAll() {
  const long directions = program().training ? 2 : 1;
  ws_.pool.Run(static_cast<long>(layers_.size()) * directions,
               [&](long t, int) {
                 const bool backward = t % directions == 1;
                 if (!backward || program().steps[t / directions].trains)
                   layers_[t / directions]->Pack(weights_.parameters, backward);
               });
}

void Executor::Forward() {
  for (size_t i = 0; i < layers_.size(); ++i) {
    ws_.pool.Enter(Doing::kForward, static_cast<int>(i));
    forward_seconds_[i] = Seconds([&] { layers_[i]->Forward(weights_); });
  }
}

}  // namespace riffle
