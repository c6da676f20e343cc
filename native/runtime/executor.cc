#include "executor.h"

#include <chrono>
#include <cmath>
#include <utility>

namespace riffle {
namespace {

template <class Body>
double Seconds(const Body& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Executor::Executor(ProgramInfo program, const KernelTable& kernels, int threads)
    : ws_(std::move(program), kernels, threads) {
  Needs needs;
  for (const StepInfo& step : ws_.program.steps) layers_.push_back(RowOf(step.kind).make(ws_, step, needs));
  ws_.Allocate(needs);
  forward_seconds_.assign(layers_.size(), 0);
  backward_seconds_.assign(layers_.size(), 0);
}

StepResult Executor::ComputeGradients(const uint8_t* images, const int32_t* labels, const Weights& weights,
                                      const LossSettings& loss) {
  ws_.images = images;
  ws_.dropout_mask = loss.dropout_mask;
  PackAll(weights.parameters);
  Forward(weights);
  StepResult result = Loss(ws_, labels, weights.parameters, loss);
  for (size_t i = layers_.size(); i-- > 0;)
    backward_seconds_[i] = Seconds([&] { layers_[i]->Backward(weights); });
  result.finite = std::isfinite(result.cross_entropy) && std::isfinite(result.decay_loss) &&
                  AllFinite(ws_, weights.gradients);
  return result;
}

void Executor::ApplyUpdate(const Weights& weights, const UpdateSettings& update) {
  riffle::ApplyUpdate(ws_, weights, update);
}

void Executor::Load(const Weights& weights) {
  loaded_.assign(weights.parameters, weights.parameters + program().parameter_count);
  PackAll(loaded_.data());
  ws_.norm.NormaliseByMoving(weights.statistics, loaded_.data());
}

void Executor::Infer(const uint8_t* images, int count, float* logits) {
  ws_.images = images;
  Forward({.parameters = loaded_.data()});
  std::copy_n(ws_.logits.data(), static_cast<size_t>(count) * program().classes, logits);
}

void Executor::RunStep(int index, bool backward, const Weights& weights) {
  layers_[index]->Pack(weights.parameters, backward);
  if (backward) {
    layers_[index]->Backward(weights);
  } else {
    layers_[index]->Forward(weights);
  }
}

void Executor::PackAll(const float* parameters) {
  const long directions = program().training ? 2 : 1;
  ws_.pool.Run(static_cast<long>(layers_.size()) * directions,
               [&](long t, int) { layers_[t / directions]->Pack(parameters, t % directions == 1); });
}

void Executor::Forward(const Weights& weights) {
  for (size_t i = 0; i < layers_.size(); ++i)
    forward_seconds_[i] = Seconds([&] { layers_[i]->Forward(weights); });
}

}  // namespace riffle
